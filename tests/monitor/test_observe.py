"""What is asked when, what is recorded of it, and what a restart remembers of writes."""

import asyncio
from dataclasses import replace
from pathlib import Path

from monitor.clock import Clock
from monitor.judge import Judge
from monitor.observe import Observer, well_formed
from probes.base import Kind, Observation, Outcome, Result, Run, Why

from .builders import LENGTH, OPENS, healthy, plan_in


class StoppedClock(Clock):
    """A clock that stands where it is put."""

    def __init__(self, moment: float) -> None:
        super().__init__()
        self.moment = moment

    def now(self) -> float:
        return self.moment


class Scripted:
    """A probe of our own that does as it is told."""

    def __init__(self, name: str, kind: Kind, result: Result | Exception) -> None:
        self.name = self.surface = name
        self.kind = kind
        self.runs: list[Run] = []
        self.owed: list[float] = []
        self.expected: list[float] = []
        self._result = result

    async def run(self, run: Run) -> Result:
        self.runs.append(run)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def stop(self, reason: str) -> None:
        raise AssertionError(f"nobody stops a probe here: {reason}")

    def owe(self, slot: float) -> None:
        self.owed.append(slot)

    def expect(self, slot: float) -> None:
        self.expected.append(slot)


class Following(Scripted):
    """A probe that goes on from a mark."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Kind.AUDIT, Result(outcome=Outcome.OK, reason="quiet"))
        self.resumed: tuple[str, float] | None = None

    def resume(self, mark: str, moment: float) -> None:
        self.resumed = (mark, moment)


def observer(directory: Path, moment: float) -> tuple[Observer, list[Observation]]:
    """An observer at `moment`, and what it appends."""
    plan = plan_in(directory)
    appended: list[Observation] = []
    judge = Judge(plan)
    return Observer(plan, StoppedClock(moment), judge, appended.append), appended


async def test_a_probe_that_fails_itself_is_recorded_as_skipped(tmp_path: Path) -> None:
    """A mistake of ours is missing evidence: neither a crash nor the target's fault."""
    watching, appended = observer(tmp_path, OPENS + 10)
    planned = plan_in(tmp_path).probes[0]

    await watching.work(planned, Scripted(planned.name, planned.kind, TypeError("none of this")))(OPENS + 10)

    assert appended[0].outcome is Outcome.SKIPPED
    assert appended[0].figures["why"] == Why.ERROR
    assert "TypeError: none of this" in appended[0].reason


async def test_no_write_is_attempted_in_the_last_moment_or_before_the_window(tmp_path: Path) -> None:
    """It might be answered after the end, when writes are open; and before, nothing is frozen."""
    for moment in (OPENS - 10, OPENS + LENGTH - 0.1):
        watching, appended = observer(tmp_path, moment)
        planned = plan_in(tmp_path).of(Kind.WRITE)[0]
        probe = Scripted(planned.name, Kind.WRITE, Result(outcome=Outcome.REFUSED, reason="503"))

        await watching.work(planned, probe)(moment)

        assert (probe.runs, appended) == ([], [])


def test_a_restart_remembers_which_canaries_were_left_behind(tmp_path: Path) -> None:
    """Owed when the figure grows, paid from the oldest when it shrinks."""
    watching, _ = observer(tmp_path, OPENS)
    write = next(
        e.observation  # type: ignore[union-attr]
        for e in healthy(plan_in(tmp_path))
        if e.observation.kind is Kind.WRITE  # type: ignore[union-attr]
    )
    history = [(10.0, 0, 1), (15.0, 1, 1), (20.0, 2, 0), (25.0, 2, 0), (30.0, 1, 1)]

    for slot, owed, expected in history:
        figures = {"owed": owed, "expected": expected}
        watching.recall(replace(write, slot=OPENS + slot, figures=figures))

    started_again = Scripted(write.probe, Kind.WRITE, Result(outcome=Outcome.REFUSED, reason="503"))
    watching.brief(started_again)
    assert started_again.owed == [OPENS + 20.0]
    assert started_again.expected == [OPENS + 30.0]


def test_a_restart_remembers_where_an_audit_left_off(tmp_path: Path) -> None:
    """The newest mark, from the newest reading; one that failed read nothing."""
    watching, _ = observer(tmp_path, OPENS)
    audit = next(
        e.observation  # type: ignore[union-attr]
        for e in healthy(plan_in(tmp_path))
        if e.observation.kind is Kind.AUDIT  # type: ignore[union-attr]
    )
    told = [(10.0, Outcome.OK, "a"), (15.0, Outcome.CHANGED, "b"), (20.0, Outcome.OK, None)]
    told.append((25.0, Outcome.UNREACHABLE, None))

    for slot, outcome, mark in told:
        figures = {"mark": mark} if mark else {}
        watching.recall(replace(audit, started=OPENS + slot, outcome=outcome, figures=figures))

    started_again = Following(audit.probe)
    watching.brief(started_again)
    assert started_again.resumed == ("b", OPENS + 20.0)


async def test_a_surface_that_leaked_is_left_alone_by_every_probe_of_it(tmp_path: Path) -> None:
    """Not only by the one that saw it, and only until writes are open again."""
    watching, appended = observer(tmp_path, OPENS + 60)
    one, other = plan_in(tmp_path).of(Kind.WRITE)
    beside = replace(other, each=replace(other.each, surface=one.surface))
    leaking = Scripted(one.name, Kind.WRITE, Result(outcome=Outcome.LEAKED, reason="answered 200"))
    asking = Scripted(beside.name, Kind.WRITE, Result(outcome=Outcome.REFUSED, reason="503"))

    await watching.work(one, leaking)(OPENS + 60)
    await watching.work(beside, asking)(OPENS + 61)

    assert asking.runs == []
    assert appended[-1].figures["why"] == Why.STOPPED
    assert "answered 200" in appended[-1].reason


class Slow(Scripted):
    """A probe whose runs end when they are let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Kind.WRITE, Result(outcome=Outcome.REFUSED, reason="503"))
        self.may_end = asyncio.Event()

    async def run(self, run: Run) -> Result:
        result = await super().run(run)
        await self.may_end.wait()
        return result


async def test_an_attempt_that_comes_while_another_is_in_flight_has_its_turn_after_it(tmp_path: Path) -> None:
    """Else a probe whose slots always fall into another's attempts would never be asked."""
    watching, appended = observer(tmp_path, OPENS + 60)
    one, other = plan_in(tmp_path).of(Kind.WRITE)
    beside = replace(other, each=replace(other.each, surface=one.surface))
    slow = Slow(one.name)
    asking = Scripted(beside.name, Kind.WRITE, Result(outcome=Outcome.REFUSED, reason="503"))

    first = asyncio.create_task(watching.work(one, slow)(OPENS + 60))
    await asyncio.sleep(0)
    second = asyncio.create_task(watching.work(beside, asking)(OPENS + 60))
    await asyncio.sleep(0.01)
    asked_meanwhile = list(asking.runs)
    slow.may_end.set()
    await asyncio.gather(first, second)

    assert asked_meanwhile == []
    assert [o.probe for o in appended] == [one.name, beside.name]
    assert len(asking.runs) == 1


async def test_an_attempt_waits_no_longer_than_its_interval(tmp_path: Path) -> None:
    """What then hangs is said, and nobody queues behind it."""
    watching, appended = observer(tmp_path, OPENS + 60)
    one, other = plan_in(tmp_path).of(Kind.WRITE)
    beside = replace(other, every=0.01, each=replace(other.each, surface=one.surface))
    slow = Slow(one.name)
    asking = Scripted(beside.name, Kind.WRITE, Result(outcome=Outcome.REFUSED, reason="503"))

    first = asyncio.create_task(watching.work(one, slow)(OPENS + 60))
    await asyncio.sleep(0)
    await watching.work(beside, asking)(OPENS + 60)
    slow.may_end.set()
    await first

    assert (asking.runs, appended[0].figures["why"]) == ([], Why.OVERLAP)


def test_half_a_character_of_a_target_becomes_a_whole_one() -> None:
    """JSON can spell a lone surrogate; no file and no hash can hold it."""
    assert well_formed("a\ud800b") == "a?b"
    assert well_formed("ΔS → 0") == "ΔS → 0"
