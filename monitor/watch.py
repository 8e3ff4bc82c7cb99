"""The main job: observe -> ledger -> judge -> decide -> notify, through one window.

Everything that is judged, shown, exported or told has been durable before. Started again on the same
`window.yaml`, it takes up the window where the ledger left it, with the gap on record.
"""

import asyncio
import gc

import httpx
from prometheus_client import CollectorRegistry

from monitor import __version__
from monitor.clock import Clock
from monitor.drift.delta_s import Vector
from monitor.drift.embedder import Embedder
from monitor.drift.meter import Meter
from monitor.errors import FreezewatchError, UsageError
from monitor.events import Acted, Alerted, Event, Observed, SelfNoted
from monitor.judge import grids
from monitor.judging import Batch, Judging, Sink
from monitor.ledger import Ledger, LedgerFile
from monitor.metrics import Metrics
from monitor.model import Decision, Verdict
from monitor.notify.base import Notifier
from monitor.notify.center import AlertCenter
from monitor.observe import Observer
from monitor.plan import Plan
from monitor.schedule import Schedule
from monitor.snapshot import Snapshot
from probes.base import Closing, Kind, Observation, Outcome, Probe, WriteProbe
from probes.http import Recorder, Transport
from probes.kinds import Tools

TICK = 0.25
"""Seconds between looks at the clock and at ourselves."""
STEP = 0.5
"""Seconds by which the wall clock must jump to be put on record."""


def open_ledger(plan: Plan) -> LedgerFile:
    """The ledger of the plan's window, begun where there is none. Raises UsageError for another's."""
    file = LedgerFile(plan.ledger, create=True)
    mine = plan.window.identity
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
        record: Recorder | None = None,
    ) -> None:
        self.plan = plan
        self.clock = clock or Clock()
        self.registry = registry or CollectorRegistry()
        self.metrics = Metrics(plan, self.registry)
        self.metrics.tick.set(self.clock.now())
        self._record_exchange = record
        self._judging = Judging(
            plan,
            self.clock,
            self.metrics,
            sinks,
            append=self._append,
            react=self._react,
            decided=self._on_decision,
        )
        self._observer = Observer(plan, self.clock, self._judging, self._append_observation)
        self._probes: list[Probe] = []
        self._step = 0.0
        self._stopping = asyncio.Event()
        self._interrupted = False

    @property
    def snapshot(self) -> Snapshot:
        """The newest judgement."""
        return self._judging.snapshot

    async def run(self) -> Snapshot:
        """Watch until the window is over or `interrupt` is called; returns the last judgement."""
        self._loop = asyncio.get_running_loop()
        self._meter = Meter(self.plan, self._append_observation)
        self._client = httpx.AsyncClient()
        self._alerts = AlertCenter(
            self.plan, _notifiers(self.plan, self._client), self._append, self.clock.now
        )
        last, unmeasured = self._recall()
        self._ledger = Ledger(
            self.plan.ledger, self._on_committed, self._judging.trouble, after=last, now=self.clock.now
        )
        self._transport = Transport(record=self._record_exchange)
        self._schedule = Schedule(self.clock, lambda: self._judging.timeline.ends)
        self._plan_probes()
        try:
            self._begin(last, unmeasured)
            await self._tick_until_over()
        finally:
            await self._finish()
        return self.snapshot

    def interrupt(self) -> None:
        """End cleanly: what is in flight is recorded."""
        self._interrupted = True
        self._stopping.set()

    # -- beginning ----------------------------------------------------------------------------

    def _recall(self) -> tuple[int, list[tuple[Observation, str | None, bool]]]:
        """Take in what was recorded before: the last record's number, and reads to measure again.

        A read of the baseline that was measured already is learnt from once more, quietly.
        """
        file = open_ledger(self.plan)
        last, reads, measured = 0, [], set()
        for number, event in file.events():
            last = number
            self._judging.recall(event)
            self._alerts.recall(event)
            if isinstance(event, Observed):
                o = event.observation
                if o.kind is Kind.MEANING:
                    measured.add((o.probe, o.slot))
                elif o.kind is Kind.READ and o.outcome is Outcome.OK:
                    reads.append(o)
                self._observer.recall(o)
        unmeasured = [
            (read, file.answer(str(read.figures.get("answer"))), (read.probe, read.slot) in measured)
            for read in reads
            if read.slot < self.plan.window.opens or (read.probe, read.slot) not in measured
        ]
        file.close()
        return last, unmeasured

    def _plan_probes(self) -> None:
        tools = Tools(
            window=self.plan.window.id,
            opens=self.plan.window.opens,
            closes=self.plan.window.latest_closes,
            agent=f"freezewatch/{__version__} ({self.plan.window.id})",
            transport=self._transport,
            now=self.clock.now,
            folder=self.plan.file.resolve().parent,
        )
        slots = grids(self.plan)
        for planned in self.plan.probes:
            probe = planned.make(tools)
            self._probes.append(probe)
            why = self._judging.leaked.get(planned.surface)
            if isinstance(probe, WriteProbe) and why is not None:
                probe.stop(f"stopped after a confirmed leak: {why}")
            self._observer.brief(probe)
            work, missed = self._observer.work(planned, probe), self._observer.missed(planned)
            self._schedule.add(planned.name, slots[planned.name], work, missed)

    def _begin(self, last: int, unmeasured: list[tuple[Observation, str | None, bool]]) -> None:
        self._ledger.start()
        self._judging.start()
        about = {"version": __version__, "config": self.plan.digest, "records": last}
        self._append(SelfNoted(at=self.clock.now(), what="started", detail={**about, "resumed": last > 0}))
        if self._meter.needs_embedder:
            self._meter.embedder = Embedder(self.plan.embedder.model, self._on_vector, self._note)
            self._meter.embedder.start()
        for read, text, known in unmeasured:
            self._meter.take(read, text, quiet=known)
        self._alerts.resume()
        self._schedule.start()
        gc.freeze()  # what is there now stays; whole collections need not look at it

    # -- what comes in: on the ledger's, the judge's or the embedder's thread -------------------

    def _append(self, event: Event) -> None:
        self._ledger.append(event)

    def _append_observation(self, observation: Observation) -> None:
        self._append(Observed(at=self.clock.now(), observation=observation))

    def _note(self, what: str, detail: dict[str, str]) -> None:
        clean = {key: self.plan.redactor.text(value)[:500] for key, value in detail.items()}
        self._append(SelfNoted(at=self.clock.now(), what=what, detail=clean))

    def _on_committed(self, batch: Batch) -> None:
        self._judging.give(batch)

    def _on_vector(self, name: str, vector: Vector) -> None:
        self._loop.call_soon_threadsafe(self._meter.received, name, vector)

    def _on_decision(self, decision: Decision, verdicts: dict[str, Verdict]) -> None:
        self._loop.call_soon_threadsafe(self._alerts.decided, decision, verdicts)

    def _react(self, event: Event) -> None:
        """A durable event has consequences on the loop."""
        if isinstance(event, Observed):
            o = event.observation
            if (o.kind is Kind.READ and "answer" in o.figures) or "documents" in o.figures:
                text = self._observer.text(str(o.figures.get("answer")))
                self._loop.call_soon_threadsafe(self._meter.take, o, text)
        elif isinstance(event, Acted):
            self._loop.call_soon_threadsafe(self._schedule.revive)
        elif isinstance(event, Alerted):
            self._loop.call_soon_threadsafe(self._alerts.committed, event)

    # -- the passing of time ------------------------------------------------------------------

    async def _tick_until_over(self) -> None:
        while not self._stopping.is_set() and self.clock.now() < self._judging.timeline.ends:
            if self._judging.failed is not None:
                raise FreezewatchError(f"judging failed: {self._judging.failed}") from self._judging.failed
            step = self.clock.step()
            if abs(step - self._step) > STEP:
                self._note("wall clock stepped", {"by_s": f"{step - self._step:+.3f}"})
                self._step = step
            embedder = self._meter.embedder
            self.metrics.itself(
                backlog=self._ledger.backlog,
                waiting=self._meter.waiting,
                embedder_up=None if embedder is None else embedder.up,
            )
            try:
                await asyncio.wait_for(self._stopping.wait(), TICK)
            except TimeoutError:
                continue

    async def _finish(self) -> None:
        """Let what is in flight end, measure what waits, judge once more, write it all down."""
        patience = max((p.timeout for p in self.plan.probes), default=1.0) + 1.0
        await self._schedule.stop(patience)
        if self._interrupted:
            self._note("stopped", {"why": "asked to"})
        await self._settle(patience)
        self._judging.judge_now()
        await self._settle(patience)  # what follows from it is said, too
        await asyncio.to_thread(self._judging.stop)
        await self._alerts.stop(patience)
        if self._meter.embedder is not None:
            await asyncio.to_thread(self._meter.embedder.stop)
        await asyncio.gather(*(probe.aclose() for probe in self._probes if isinstance(probe, Closing)))
        await self._transport.aclose()
        await self._client.aclose()
        await asyncio.to_thread(self._ledger.stop)

    async def _settle(self, patience: float) -> None:
        """Wait until what was appended is durable and judged, and answers are measured."""
        deadline = self.clock.now() + patience
        while self.clock.now() < deadline and not self._ledger.failing:
            embedder = self._meter.embedder
            measuring = self._meter.waiting and embedder is not None and embedder.up
            if self._ledger.idle and self._judging.idle and not measuring:
                return
            await asyncio.sleep(0.02)


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
