"""Asks when the plan wants it, and makes an observation of whatever comes of it. Judges nothing.

The one place where a probe's own mistake is caught, where secrets are taken out, and where no two attempts
on one surface meet.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from monitor.clock import Clock
from monitor.ledger import answer_id
from monitor.model import Phase, Timeline
from monitor.plan import EDGE, Plan, Planned
from probes.base import (
    AUDITED,
    LEAKS,
    Follows,
    HoldsSession,
    Kind,
    Observation,
    Probe,
    Result,
    Run,
    Why,
    WriteProbe,
    skipped,
)

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
        self._turns: dict[str, asyncio.Lock] = {}
        """By surface: one attempt at a time. Waited for, in turn: a probe whose slots always fall into the
        attempts of another on its surface would never be asked otherwise."""
        self._leaked: dict[str, str] = {}
        """Surfaces that are left alone while frozen, and why."""
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._left: dict[str, list[float]] = {}
        self._unanswered: dict[str, list[float]] = {}
        self._marks: dict[str, tuple[str, float]] = {}
        self.control_done: set[str] = set()
        """Write probes that have shown, or tried to show, that they succeed while writes are open."""

    def recall(self, observation: Observation) -> None:
        """Take in a run of before a restart: was it the control, what did it leave, where did it stop?"""
        if observation.kind is Kind.AUDIT and observation.outcome in AUDITED:
            known = self._marks.get(observation.probe, ("", 0.0))[0]
            mark = observation.figures.get("mark", known)
            self._marks[observation.probe] = (str(mark), observation.started)
        if observation.kind is not Kind.WRITE:
            return
        if observation.phase == Phase.BASELINE:
            self.control_done.add(observation.probe)
        _follow(self._left, observation, "owed")
        _follow(self._unanswered, observation, "expected")

    def brief(self, probe: Probe) -> None:
        """Tell a probe what was recorded of it before a restart."""
        if isinstance(probe, WriteProbe):
            for slot in self._left.get(probe.name, []):
                probe.owe(slot)
            for slot in self._unanswered.get(probe.name, []):
                probe.expect(slot)
        if isinstance(probe, Follows) and probe.name in self._marks:
            mark, moment = self._marks[probe.name]
            if mark:
                probe.resume(mark, moment)

    def text(self, answer: str) -> str | None:
        """The text of a recent answer by its id."""
        return self._texts.get(answer)

    def work(self, planned: Planned, probe: Probe) -> Callable[[float], Awaitable[None]]:
        """What the schedule runs at every slot of `planned`."""

        async def work(slot: float) -> None:
            started = self._clock.now()
            phase = self._plans.timeline.phase_at(started)
            if phase is Phase.BASELINE and isinstance(probe, HoldsSession):
                await self._hold(planned, probe, slot, started)
            if not self._wanted(planned, phase) or self._at_the_edge(planned, started):
                return
            if planned.kind is Kind.WRITE:
                await self._in_turn(planned, probe, slot, started)
                return
            result = await self._ask(planned, probe, slot, started, phase)
            self._record(planned, result, slot, started, phase)

        return work

    async def _in_turn(self, planned: Planned, probe: Probe, slot: float, due: float) -> None:
        """One write attempt as soon as no other is in flight on its surface, within one interval."""
        turn = self._turns.setdefault(planned.surface, asyncio.Lock())
        try:
            async with asyncio.timeout(planned.every):
                await turn.acquire()
        except TimeoutError:
            result = skipped(Why.OVERLAP, "another attempt on this surface is in flight")
            self._record(planned, result, slot, due, self._plans.timeline.phase_at(due))
            return
        try:
            started = self._clock.now()
            phase = self._plans.timeline.phase_at(started)
            if not self._wanted(planned, phase) or self._at_the_edge(planned, started):
                return
            result = await self._attempt(planned, probe, slot, started, phase)
        finally:
            turn.release()
        self._record(planned, result, slot, started, phase, waited=started - due)

    async def _hold(self, planned: Planned, probe: HoldsSession, slot: float, started: float) -> None:
        try:
            await probe.hold()
        except Exception as error:
            self._record(planned, _failed(error), slot, started, Phase.BASELINE)

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
        if not planned.asked_when_open:
            return False
        return phase is Phase.SOAK or (planned.spec.control and planned.name not in self.control_done)

    def _at_the_edge(self, planned: Planned, now: float) -> bool:
        return planned.kind is Kind.WRITE and 0 < self._plans.timeline.closes - now < EDGE

    async def _attempt(
        self, planned: Planned, probe: Probe, slot: float, started: float, phase: Phase
    ) -> Result:
        """One write attempt, alone on its surface."""
        if phase is Phase.BASELINE:
            self.control_done.add(planned.name)
        if not phase.frozen:
            self._leaked.pop(planned.surface, None)
        elif planned.surface in self._leaked:
            return skipped(Why.STOPPED, f"stopped after a confirmed leak: {self._leaked[planned.surface]}")
        result = await self._ask(planned, probe, slot, started, phase)
        if result.outcome in LEAKS and phase.frozen and not self._plans.settling(planned.name, started):
            self._leaked[planned.surface] = result.reason
        return result

    async def _ask(self, planned: Planned, probe: Probe, slot: float, started: float, phase: Phase) -> Result:
        run = Run(
            slot=slot,
            phase=phase.value,
            frozen=phase.frozen,
            started=started,
            freezing=phase.frozen and self._plans.settling(planned.name, started),
        )
        try:
            return await probe.run(run)
        except Exception as error:
            return _failed(error)

    def _record(
        self,
        planned: Planned,
        result: Result,
        slot: float,
        started: float,
        phase: Phase,
        *,
        waited: float = 0.0,
    ) -> None:
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
                lateness_s=max(0.0, started - waited - slot),
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


def _failed(error: Exception) -> Result:
    return skipped(Why.ERROR, f"the probe itself failed: {type(error).__name__}: {error}")


def _follow(slots: dict[str, list[float]], observation: Observation, figure: str) -> None:
    """Keep the slots that a figure counts: one more is this run's, fewer are the oldest that are gone."""
    known = slots.setdefault(observation.probe, [])
    number = observation.figures.get(figure)
    if isinstance(number, int) and number > len(known):
        known.append(observation.slot)
    elif isinstance(number, int):
        del known[: len(known) - number]


def well_formed(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can spell and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
