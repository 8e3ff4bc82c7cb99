"""Judges what is durable, on a thread of its own, and says what changed.

Evidence comes in batches from the ledger; verdicts, advice and phases go out as events, and the newest
judgement as one frozen snapshot. It runs apart from the loop that takes times, because judging thousands
of probes takes tens of milliseconds. It decides nothing itself: `judge` and `policy` do.
"""

import queue
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from monitor.clock import Clock
from monitor.events import Decided, Event, Judged, Observed, PhaseBegan, SelfNoted
from monitor.judge import Judge
from monitor.metrics import Metrics
from monitor.model import Action, Decision, Phase, Timeline, Verdict
from monitor.plan import Plan
from monitor.policy import decide
from monitor.snapshot import Snapshot, without_evidence
from probes.base import Outcome

JUDGE_EVERY = 1.0
"""Seconds between judgements while nothing new happens."""
TICK = 0.2
"""Seconds after which the phase is looked at, whatever comes in."""

Batch = list[tuple[int, Event]]


class Ask(Enum):
    """What the judging thread can be told beside evidence."""

    JUDGE = "judge"
    END = "end"


class Sink(Protocol):
    """Somebody who looks on. Called on the judging thread."""

    def event(self, event: Event) -> None:
        """A durable event."""
        ...

    def snapshot(self, snapshot: Snapshot) -> None:
        """A newer judgement."""
        ...

    def trouble(self, reason: str | None) -> None:
        """The ledger takes nothing (a reason), or does again (None)."""
        ...


class Judging:
    """The judge at work. `append` takes events that follow; `react` hears of every durable event."""

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        metrics: Metrics,
        sinks: list[Sink],
        *,
        append: Callable[[Event], None],
        react: Callable[[Event], None],
        decided: Callable[[Decision, dict[str, Verdict]], None],
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._sinks = sinks
        self._append = append
        self._react = react
        self._decided = decided
        self._judge = Judge(plan)
        self._decision = Decision(action=Action.HOLD, causes=(), reason="nothing was judged yet")
        self._said: dict[str, str] = {}
        self._phase: Phase | None = None
        self._newest: dict[str, Outcome] = {}
        self._failing: str | None = None
        self._inbox: queue.SimpleQueue[Batch | Ask] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
        self._last = 0.0
        self._taken = 0
        self._given = 0
        self.failed: Exception | None = None
        """Why the judging ended before it was told to: a mistake of ours."""
        self.snapshot = self._judged()

    @property
    def timeline(self) -> Timeline:
        """The window as it goes."""
        return self._judge.timeline

    def settling(self, probe: str, moment: float) -> bool:
        """May `probe`'s surface still be open, because its freeze is only taking hold?"""
        return self._judge.settling(probe, moment)

    @property
    def leaked(self) -> dict[str, str]:
        """Surfaces with a confirmed leak, and why."""
        return self._judge.leaked

    @property
    def idle(self) -> bool:
        """Everything given was taken in."""
        return self._taken == self._given

    def recall(self, event: Event) -> None:
        """Take in an event of before a restart, before `start`."""
        self._judge.feed(event)
        self._metrics.event(event)
        if isinstance(event, Observed):
            self._newest[event.observation.probe] = event.observation.outcome
        elif isinstance(event, PhaseBegan):
            self._phase = event.phase
        elif isinstance(event, Judged):
            self._said[event.criterion] = event.verdict
        elif isinstance(event, Decided):
            self._decision = Decision(action=event.action, causes=event.causes, reason=event.reason)

    def start(self) -> None:
        """Start judging."""
        self._thread.start()

    def give(self, batch: Batch) -> None:
        """Hand over what is durable. Returns at once."""
        self._given += 1
        self._inbox.put(batch)

    def trouble(self, reason: str | None) -> None:
        """The ledger takes nothing, or does again."""
        self._failing = reason
        self._metrics.ledger_failing.set(reason is not None)
        if reason is None:
            self._append(SelfNoted(at=self._clock.now(), what="ledger recovered"))
        for sink in self._sinks:
            sink.trouble(reason)

    def judge_now(self) -> None:
        """Judge when everything given before is taken in. Returns at once; `idle` says when it is done."""
        self._given += 1
        self._inbox.put(Ask.JUDGE)

    def stop(self) -> None:
        """End, once everything given before is taken in."""
        self._inbox.put(Ask.END)
        self._thread.join(30)

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:
            self.failed = error

    def _turn(self) -> bool:
        """Take in what came, judge when there is reason to; False at the end."""
        try:
            got = self._inbox.get(timeout=TICK)
        except queue.Empty:
            got = None
        if got is Ask.END:
            return False
        news = self._take(got) if isinstance(got, list) else got is Ask.JUDGE
        phase = self._judge.timeline.phase_at(self._clock.now())
        failing = self._failing != self.snapshot.ledger_failing
        due = time.monotonic() - self._last >= JUDGE_EVERY
        if news or failing or due or phase is not self._phase:
            self._say()
            self._last = time.monotonic()
        self._taken += got is not None
        return True

    def _take(self, batch: Batch) -> bool:
        """Learn from a batch; true when something is new in it."""
        news = False
        for _, event in batch:
            self._judge.feed(event)
            self._metrics.event(event)
            if isinstance(event, Observed):
                observation = event.observation
                news |= self._newest.get(observation.probe) is not observation.outcome
                self._newest[observation.probe] = observation.outcome
            self._react(event)
            for sink in self._sinks:
                sink.event(event)
        return news

    def _judged(self) -> Snapshot:
        now = self._clock.now()
        verdicts = self._judge.verdicts(now)
        if self._failing is not None:
            verdicts = without_evidence(verdicts, f"the ledger takes no evidence: {self._failing}")
        decision = decide(now, self._judge.timeline, verdicts, self._decision)
        return Snapshot(
            now=now,
            timeline=self._judge.timeline,
            verdicts=verdicts,
            decision=decision,
            ledger_failing=self._failing,
        )

    def _say(self) -> None:
        """Judge, and append what changed."""
        snapshot = self._judged()
        now, verdicts, decision = snapshot.now, dict(snapshot.verdicts), snapshot.decision
        self._metrics.judged(now, self._judge, verdicts, decision)
        self._metrics.gates(snapshot)
        self.snapshot = snapshot
        self._say_phase(snapshot)
        for name, verdict in verdicts.items():
            self._say_verdict(now, name, verdict)
        whole = snapshot.colour.value
        if self._said.get("window") != whole:
            self._said["window"] = whole
            self._append(Judged(at=now, criterion="window", verdict=whole, reason=decision.reason))
        before, self._decision = self._decision, decision
        if (decision.action, decision.causes) != (before.action, before.causes):
            self._append(
                Decided(at=now, action=decision.action, causes=decision.causes, reason=decision.reason)
            )
            self._decided(decision, verdicts)
        for sink in self._sinks:
            sink.snapshot(snapshot)

    def _say_phase(self, snapshot: Snapshot) -> None:
        if snapshot.phase is self._phase:
            return
        self._phase = snapshot.phase
        timeline = snapshot.timeline
        self._append(
            PhaseBegan(at=snapshot.now, phase=snapshot.phase, closes=timeline.closes, ends=timeline.ends)
        )

    def _say_verdict(self, now: float, name: str, verdict: Verdict) -> None:
        shown = "WAIVED" if verdict.waived is not None else verdict.status.value
        if self._said.get(name) != shown:
            self._said[name] = shown
            reason = verdict.waived or verdict.reason
            self._append(Judged(at=now, criterion=name, verdict=shown, reason=reason))
