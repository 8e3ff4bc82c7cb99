"""Asks when the plan wants it, and makes an observation of whatever comes of it. Judges nothing.

The one place where a probe's own mistake is caught, where secrets are taken out, and where no two attempts
on one surface meet.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from monitor.clock import Clock
from monitor.ledger import answer_id
from monitor.model import Phase, Timeline
from monitor.plan import Plan, Planned
from probes.base import Kind, Observation, Probe, Result, Run, Why, skipped

EDGE = 0.25
"""Seconds before the end in which no write is attempted: it might be answered after the end."""
TEXTS = 5000
"""Answers whose text is kept until they are measured."""
LONGEST = 500
"""Characters of a reason."""

REASONS = {
    Why.OVERLAP: "the run before is still in flight",
    Why.LATE: "the watchdog did not come round to it in time",
}


class Plans(Protocol):
    """What the observer must know of the judging: where the window stands."""

    @property
    def timeline(self) -> Timeline:
        """The window as it goes."""
        ...

    def settling(self, probe: str, moment: float) -> bool:
        """May `probe`'s surface still be open, because its freeze is only taking hold?"""
        ...


class Observer:
    """Runs probes and appends observations."""

    def __init__(self, plan: Plan, clock: Clock, plans: Plans, append: Callable[[Observation], None]) -> None:
        self._plan = plan
        self._clock = clock
        self._plans = plans
        self._append = append
        self._in_flight: set[str] = set()
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._left: dict[str, list[float]] = {}
        self.control_done: set[str] = set()
        """Write probes that have shown, or tried to show, that they succeed while writes are open."""

    def recall(self, observation: Observation) -> None:
        """Take in a write of before a restart: was it the control, did it leave a canary behind?"""
        if observation.kind is not Kind.WRITE:
            return
        if observation.phase == Phase.BASELINE:
            self.control_done.add(observation.probe)
        left = self._left.setdefault(observation.probe, [])
        owed = observation.figures.get("owed")
        if isinstance(owed, int) and owed > len(left):
            left.append(observation.slot)
        elif isinstance(owed, int):
            del left[: len(left) - owed]

    def left_behind(self, probe: str) -> list[float]:
        """Slots of `probe` whose canaries were not undone before a restart."""
        return self._left.get(probe, [])

    def text(self, answer: str) -> str | None:
        """The text of a recent answer by its id."""
        return self._texts.get(answer)

    def work(self, planned: Planned, probe: Probe) -> Callable[[float], Awaitable[None]]:
        """What the schedule runs at every slot of `planned`."""

        async def work(slot: float) -> None:
            started = self._clock.now()
            phase = self._plans.timeline.phase_at(started)
            if not self._wanted(planned, phase) or self._at_the_edge(planned, started):
                return
            if planned.kind is not Kind.WRITE:
                result = await self._ask(planned, probe, slot, started, phase)
            elif planned.surface in self._in_flight:
                result = skipped(Why.OVERLAP, "another attempt on this surface is in flight")
            else:
                result = await self._attempt(planned, probe, slot, started, phase)
            self._record(planned, result, slot, started, phase)

        return work

    def missed(self, planned: Planned) -> Callable[[list[float], Why], None]:
        """What the schedule tells when slots of `planned` were not run."""

        def missed(slots: list[float], why: Why) -> None:
            wanted = [s for s in slots if self._wanted(planned, self._plans.timeline.phase_at(s))]
            if wanted:
                result = skipped(why, REASONS[why], slots=len(wanted))
                now = self._clock.now()
                self._record(planned, result, wanted[0], now, self._plans.timeline.phase_at(now))

        return missed

    def _wanted(self, planned: Planned, phase: Phase) -> bool:
        """Does the plan want this probe to ask in this phase?"""
        if phase is Phase.PLANNED or phase.over:
            return False
        if planned.kind is not Kind.WRITE or phase.frozen:
            return True
        if phase is Phase.SOAK:
            return planned.spec.undo is not None
        control = planned.spec.control and planned.spec.undo is not None
        return control and planned.name not in self.control_done

    def _at_the_edge(self, planned: Planned, now: float) -> bool:
        return planned.kind is Kind.WRITE and 0 < self._plans.timeline.closes - now < EDGE

    async def _attempt(
        self, planned: Planned, probe: Probe, slot: float, started: float, phase: Phase
    ) -> Result:
        """One write attempt, alone on its surface."""
        if phase is Phase.BASELINE:
            self.control_done.add(planned.name)
        self._in_flight.add(planned.surface)
        try:
            return await self._ask(planned, probe, slot, started, phase)
        finally:
            self._in_flight.discard(planned.surface)

    async def _ask(self, planned: Planned, probe: Probe, slot: float, started: float, phase: Phase) -> Result:
        run = Run(
            slot=slot,
            phase=phase.value,
            frozen=phase.frozen,
            freezing=phase.frozen and self._plans.settling(planned.name, started),
        )
        try:
            return await probe.run(run)
        except Exception as error:
            return skipped(Why.ERROR, f"the probe itself failed: {type(error).__name__}: {error}")

    def _record(self, planned: Planned, result: Result, slot: float, started: float, phase: Phase) -> None:
        redactor = self._plan.redactor
        figures: dict[str, Any] = redactor.value(result.figures)  # type: ignore[assignment]
        answer = None
        if result.answer is not None and planned.measured:
            answer = well_formed(redactor.text(result.answer))
            name = answer_id(answer)
            figures = {**figures, "answer": name}
            self._remember(name, answer)
        self._append(
            Observation(
                probe=planned.name,
                kind=planned.kind,
                surface=planned.surface,
                outcome=result.outcome,
                reason=redactor.text(result.reason)[:LONGEST],
                slot=slot,
                started=started,
                phase=phase.value,
                lateness_s=max(0.0, started - slot),
                duration_s=result.duration_s,
                phases=result.phases,
                figures=figures,
                answer=answer,
            )
        )

    def _remember(self, name: str, text: str) -> None:
        self._texts[name] = text
        self._texts.move_to_end(name)
        if len(self._texts) > TEXTS:
            self._texts.popitem(last=False)


def well_formed(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can spell and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
