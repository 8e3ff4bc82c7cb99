"""The main job: observe -> ledger -> judge -> decide -> notify, through one window.

Everything that is judged, shown, exported or told has been durable before. Started again on the same
`window.yaml`, it takes up the window where the ledger left it, with the gap on record.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import httpx
from prometheus_client import CollectorRegistry

from monitor import __version__
from monitor.clock import Clock
from monitor.drift.delta_s import Vector
from monitor.drift.embedder import Embedder
from monitor.drift.meter import Meter
from monitor.errors import UsageError
from monitor.events import Acted, Decided, Event, Judged, Observed, PhaseBegan, SelfNoted
from monitor.judge import Judge, grids
from monitor.ledger import Ledger, LedgerFile, answer_id
from monitor.metrics import Metrics
from monitor.model import Action, Decision, Phase, Verdict, iso
from monitor.notify.base import Notifier
from monitor.notify.center import AlertCenter
from monitor.plan import Plan, Planned
from monitor.policy import decide
from monitor.schedule import Schedule
from monitor.snapshot import Snapshot, without_evidence
from probes.base import Kind, Observation, Outcome, Probe, Result, Run, Why, skipped
from probes.http import Transport
from probes.kinds import Tools

TICK = 0.25
"""Seconds between looks at the clock, the phase and the acts of others."""
JUDGE_EVERY = 1.0
"""Seconds between judgements while nothing new happens."""
EDGE = 0.25
"""Seconds before the end in which no write is attempted: it might be answered after the end."""
STEP = 0.5
"""Seconds by which the wall clock must jump to be put on record."""


class Sink(Protocol):
    """Somebody who looks on."""

    def event(self, event: Event) -> None:
        """A durable event."""
        ...

    def snapshot(self, snapshot: Snapshot) -> None:
        """A newer judgement."""
        ...

    def trouble(self, reason: str | None) -> None:
        """The ledger takes nothing (a reason), or does again (None)."""
        ...


def open_ledger(plan: Plan) -> LedgerFile:
    """The ledger of the plan's window, begun where there is none. Raises UsageError for another window's."""
    file = LedgerFile(plan.ledger, create=True)
    mine = f"{plan.window.id} {iso(plan.window.opens)}"
    known = file.about("window")
    if known is None:
        file.note("window", mine)
    elif known != mine:
        file.close()
        raise UsageError(
            f"{plan.ledger}: this ledger belongs to the window {known}, not to {mine}; "
            "give the window an id of its own, or move the old ledger away"
        )
    return file


class Watch:
    """One run of the watchdog over one window."""

    def __init__(
        self,
        plan: Plan,
        sinks: list[Sink],
        *,
        registry: CollectorRegistry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.plan = plan
        self.clock = clock or Clock()
        self.registry = registry or CollectorRegistry()
        self.metrics = Metrics(plan, self.registry)
        self.judge = Judge(plan)
        self._sinks = sinks
        self._decision = Decision(action=Action.HOLD, causes=(), reason="nothing was judged yet")
        self._said: dict[str, str] = {}
        self._phase: Phase | None = None
        self._newest: dict[str, Outcome] = {}
        self._texts: dict[str, str] = {}
        self._in_flight: set[str] = set()
        self._control_done: set[str] = set()
        self._step = 0.0
        self._stopping = asyncio.Event()
        self._interrupted = False
        self.snapshot = self._judged()

    # -- one run ------------------------------------------------------------------------------

    async def run(self) -> Snapshot:
        """Watch until the window is over or `interrupt` is called; returns the last judgement."""
        self._loop = asyncio.get_running_loop()
        self._meter = Meter(self.plan, self._append_observation)
        self._client = httpx.AsyncClient()
        notifiers = _notifiers(self.plan, self._client)
        self._alerts = AlertCenter(self.plan, notifiers, self._append, self.clock.now)
        last = self._recall()
        self.ledger = Ledger(
            self.plan.ledger, self._on_committed, self._on_trouble, after=last, now=self.clock.now
        )
        self._transport = Transport()
        self._schedule = Schedule(self.clock, lambda: self.judge.timeline.ends)
        self._plan_probes()
        try:
            self.ledger.start()
            self._append(SelfNoted(at=self.clock.now(), what="started", detail=self._about_start(last)))
            self._embed()
            self._alerts.resume()
            self._schedule.start()
            await self._tick_until_over()
        finally:
            await self._finish()
        return self.snapshot

    def interrupt(self) -> None:
        """End cleanly: what is in flight is recorded."""
        self._interrupted = True
        self._stopping.set()

    def _about_start(self, last: int) -> dict[str, Any]:
        about = {"version": __version__, "config": self.plan.digest, "records": last}
        return about | {"resumed": last > 0}

    def _recall(self) -> int:
        """Take in what was recorded before; returns the number of the last record."""
        file = open_ledger(self.plan)
        last, reads, measured = 0, [], set()
        for number, event in file.events():
            last = number
            self.judge.feed(event)
            self._alerts.recall(event)
            if isinstance(event, Observed):
                observation = event.observation
                self._newest[observation.probe] = observation.outcome
                if observation.kind is Kind.MEANING:
                    measured.add((observation.probe, observation.slot))
                elif observation.kind is Kind.READ and observation.outcome is Outcome.OK:
                    reads.append(observation)
                elif observation.kind is Kind.WRITE and observation.phase == Phase.BASELINE:
                    self._control_done.add(observation.probe)
            elif isinstance(event, PhaseBegan):
                self._phase = event.phase
            elif isinstance(event, Judged):
                self._said[event.criterion] = event.verdict
            elif isinstance(event, Decided):
                self._decision = Decision(action=event.action, causes=event.causes, reason=event.reason)
        self._to_measure = [
            (read, file.answer(str(read.figures.get("answer"))), key in measured)
            for read in reads
            for key in [(read.probe, read.slot)]
            if read.slot < self.plan.window.opens or key not in measured
        ]
        file.close()
        return last

    def _embed(self) -> None:
        if self._meter.needs_embedder:
            model = self.plan.embedder.model
            self._meter.embedder = Embedder(model, self._on_vector, self._note)
            self._meter.embedder.start()
        for read, text, known in self._to_measure:
            self._meter.take(read, text, quiet=known)
        self._to_measure = []

    def _plan_probes(self) -> None:
        tools = Tools(
            window=self.plan.window.id,
            closes=self.plan.window.closes,
            agent=f"freezewatch/{__version__} ({self.plan.window.id})",
            transport=self._transport,
        )
        slots = grids(self.plan)
        for planned in self.plan.probes:
            probe = planned.maker.make(planned.name, planned.surface, planned.spec, planned.timeout, tools)
            why = self.judge.leaked.get(planned.name)
            if why is not None and hasattr(probe, "stop"):
                probe.stop(f"stopped after a confirmed leak: {why}")
            self._schedule.add(
                planned.name,
                slots[planned.name],
                self._work(planned, probe),
                self._missed(planned),
            )

    # -- observing ----------------------------------------------------------------------------

    def _work(self, planned: Planned, probe: Probe) -> Callable[[float], Any]:
        async def work(slot: float) -> None:
            started = self.clock.now()
            phase = self.judge.timeline.phase_at(started)
            if not self._wanted(planned, phase):
                return
            if planned.kind is Kind.WRITE:
                if 0 < self.judge.timeline.closes - started < EDGE:
                    return
                if phase is Phase.BASELINE:
                    self._control_done.add(planned.name)
            if planned.surface in self._in_flight:
                result = skipped(Why.OVERLAP, "another attempt on this surface is in flight")
            else:
                result = await self._ask(planned, probe, slot, started, phase)
            self._record(planned, result, slot, started, phase)

        return work

    async def _ask(self, planned: Planned, probe: Probe, slot: float, started: float, phase: Phase) -> Result:
        run = Run(
            slot=slot,
            phase=phase.value,
            frozen=phase.frozen,
            freezing=phase.frozen and self.judge.settling(planned.name, started),
        )
        self._in_flight.add(planned.surface)
        try:
            return await probe.run(run)
        except Exception as error:
            return skipped(Why.ERROR, f"the probe itself failed: {type(error).__name__}: {error}")
        finally:
            self._in_flight.discard(planned.surface)

    def _wanted(self, planned: Planned, phase: Phase) -> bool:
        """Does the plan want this probe to ask in this phase?"""
        if phase is Phase.PLANNED or phase.over:
            return False
        if planned.kind is not Kind.WRITE or phase.frozen:
            return True
        if phase is Phase.SOAK:
            return planned.spec.undo is not None
        control = planned.spec.control and planned.spec.undo is not None
        return control and planned.name not in self._control_done

    def _missed(self, planned: Planned) -> Callable[[list[float], Why], None]:
        reasons = {
            Why.OVERLAP: "the run before is still in flight",
            Why.LATE: "the watchdog did not come round to it in time",
        }

        def missed(slots: list[float], why: Why) -> None:
            wanted = [s for s in slots if self._wanted(planned, self.judge.timeline.phase_at(s))]
            if wanted:
                result = skipped(why, reasons.get(why, why.value), slots=len(wanted))
                now = self.clock.now()
                self._record(planned, result, wanted[0], now, self.judge.timeline.phase_at(now))

        return missed

    def _record(self, planned: Planned, result: Result, slot: float, started: float, phase: Phase) -> None:
        redactor = self.plan.redactor
        figures: dict[str, Any] = redactor.value(result.figures)  # type: ignore[assignment]
        answer = None if result.answer is None else redactor.text(result.answer)
        if answer is not None and planned.measured:
            name = answer_id(answer)
            figures = {**figures, "answer": name}
            self._texts[name] = answer
        self._append_observation(
            Observation(
                probe=planned.name,
                kind=planned.kind,
                surface=planned.surface,
                outcome=result.outcome,
                reason=redactor.text(result.reason)[:500],
                slot=slot,
                started=started,
                phase=phase.value,
                lateness_s=max(0.0, started - slot),
                duration_s=result.duration_s,
                phases=result.phases,
                figures=figures,
                answer=answer if planned.measured else None,
            )
        )

    def _append_observation(self, observation: Observation) -> None:
        self._append(Observed(at=self.clock.now(), observation=observation))

    def _append(self, event: Event) -> None:
        self.ledger.append(event)

    def _note(self, what: str, detail: dict[str, str]) -> None:
        clean = {key: self.plan.redactor.text(value)[:500] for key, value in detail.items()}
        self._append(SelfNoted(at=self.clock.now(), what=what, detail=clean))

    # -- judging ------------------------------------------------------------------------------

    def _on_committed(self, batch: list[tuple[int, Event]]) -> None:
        self._loop.call_soon_threadsafe(self._take, batch)

    def _on_trouble(self, reason: str | None) -> None:
        self._loop.call_soon_threadsafe(self._troubled, reason)

    def _on_vector(self, name: str, vector: Vector) -> None:
        self._loop.call_soon_threadsafe(self._meter.received, name, vector)

    def _troubled(self, reason: str | None) -> None:
        if reason is None:
            self._note("ledger recovered", {})
        for sink in self._sinks:
            sink.trouble(reason)
        self._judge()

    def _take(self, batch: list[tuple[int, Event]]) -> None:
        news = False
        for _, event in batch:
            self.judge.feed(event)
            self.metrics.event(event)
            self._alerts.committed(event)
            if isinstance(event, Observed):
                observation = event.observation
                news |= self._newest.get(observation.probe) is not observation.outcome
                self._newest[observation.probe] = observation.outcome
                name = str(observation.figures.get("answer"))
                self._meter.take(observation, self._texts.pop(name, None))
            elif isinstance(event, Acted):
                news = True
                self._schedule.revive()
            for sink in self._sinks:
                sink.event(event)
        if news:
            self._judge()

    def _judged(self) -> Snapshot:
        now = self.clock.now()
        verdicts = self.judge.verdicts(now)
        failing = getattr(self, "ledger", None) and self.ledger.failing
        if failing:
            verdicts = without_evidence(verdicts, f"the ledger takes no evidence: {failing}")
        decision = decide(now, self.judge.timeline, verdicts, self._decision)
        return Snapshot(
            now=now,
            timeline=self.judge.timeline,
            verdicts=verdicts,
            decision=decision,
            ledger_failing=failing or None,
        )

    def _judge(self) -> None:
        snapshot = self.snapshot = self._judged()
        now, verdicts, decision = snapshot.now, snapshot.verdicts, snapshot.decision
        self._say_phase(snapshot)
        for name, verdict in verdicts.items():
            self._say_verdict(now, name, verdict)
        whole = snapshot.colour.value
        if self._said.get("window") != whole:
            self._said["window"] = whole
            self._append(Judged(at=now, criterion="window", verdict=whole, reason=decision.reason))
        changed = (decision.action, decision.causes) != (
            self._decision.action,
            self._decision.causes,
        )
        self._decision = decision
        if changed:
            self._append(
                Decided(at=now, action=decision.action, causes=decision.causes, reason=decision.reason)
            )
            self._alerts.decided(decision, verdicts)
        self._measure_self(snapshot)
        for sink in self._sinks:
            sink.snapshot(snapshot)

    def _say_phase(self, snapshot: Snapshot) -> None:
        if snapshot.phase is not self._phase:
            self._phase = snapshot.phase
            timeline = snapshot.timeline
            self._append(
                PhaseBegan(
                    at=snapshot.now,
                    phase=snapshot.phase,
                    closes=timeline.closes,
                    ends=timeline.ends,
                )
            )

    def _say_verdict(self, now: float, name: str, verdict: Verdict) -> None:
        shown = "WAIVED" if verdict.waived is not None else verdict.status.value
        if self._said.get(name) != shown:
            self._said[name] = shown
            reason = verdict.waived or verdict.reason
            self._append(Judged(at=now, criterion=name, verdict=shown, reason=reason))

    def _measure_self(self, snapshot: Snapshot) -> None:
        metrics = self.metrics
        metrics.judged(snapshot.now, self.judge, snapshot.verdicts, snapshot.decision)
        for at in ("close", "end"):
            metrics.gate.labels(at).set(snapshot.gate(at, snapshot.now).open)
        ledger = getattr(self, "ledger", None)
        if ledger is not None:
            metrics.ledger_failing.set(ledger.failing is not None)
            metrics.ledger_backlog.set(ledger.backlog)
            metrics.embedder_queue.set(self._meter.waiting)
            embedder = self._meter.embedder
            metrics.embedder_up.set(embedder is not None and embedder.up)

    # -- the passing of time ------------------------------------------------------------------

    async def _tick_until_over(self) -> None:
        judged = 0.0
        while not self._stopping.is_set():
            now = self.clock.now()
            self._watch_clock()
            if now - judged >= JUDGE_EVERY or self.judge.timeline.phase_at(now) is not self._phase:
                judged = now
                self._judge()
            if now >= self.judge.timeline.ends:
                return
            try:
                await asyncio.wait_for(self._stopping.wait(), TICK)
            except TimeoutError:
                continue

    def _watch_clock(self) -> None:
        step = self.clock.step()
        if abs(step - self._step) > STEP:
            self._note("wall clock stepped", {"by_s": f"{step - self._step:+.3f}"})
            self._step = step

    async def _finish(self) -> None:
        """Let what is in flight end, measure what waits, judge once more, write it all down."""
        patience = max((p.timeout for p in self.plan.probes), default=1.0) + 1.0
        await self._schedule.stop(patience)
        await self._settle(patience)
        if self._interrupted:
            self._note("stopped", {"why": "asked to"})
        await self._settle(patience)
        self._judge()
        await self._settle(patience)
        await self._alerts.stop(patience)
        if self._meter.embedder is not None:
            await asyncio.to_thread(self._meter.embedder.stop)
        await self._transport.aclose()
        await self._client.aclose()
        await asyncio.to_thread(self.ledger.stop)
        await asyncio.sleep(0)

    async def _settle(self, patience: float) -> None:
        """Wait until everything appended is durable and taken in, and answers are measured."""
        deadline = self.clock.now() + patience
        while self.clock.now() < deadline:
            if self.ledger.failing:
                return
            if self.ledger.idle and not (self._meter.waiting and self._measuring):
                await asyncio.sleep(0)
                if self.ledger.idle:
                    return
            await asyncio.sleep(0.02)

    @property
    def _measuring(self) -> bool:
        return self._meter.embedder is not None and self._meter.embedder.up


def _notifiers(plan: Plan, client: httpx.AsyncClient) -> list[Notifier]:
    """The configured notifiers, each with a name of its own."""
    made: list[Notifier] = []
    for spec in plan.notify:
        notifier = spec.notifier(client)
        same = sum(known.name.split(" #")[0] == notifier.name for known in made)
        if same:
            notifier.name = f"{notifier.name} #{same + 1}"  # type: ignore[misc]
        made.append(notifier)
    return made
