"""What is asked when, what is recorded of it, and what a restart remembers of writes."""

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
        self._result = result

    async def run(self, run: Run) -> Result:
        self.runs.append(run)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


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
    history = [(10.0, 0), (15.0, 1), (20.0, 2), (25.0, 2), (30.0, 1)]

    for slot, owed in history:
        watching.recall(replace(write, slot=OPENS + slot, figures={"owed": owed}))

    assert watching.left_behind(write.probe) == [OPENS + 20.0]


def test_half_a_character_of_a_target_becomes_a_whole_one() -> None:
    """JSON can spell a lone surrogate; no file and no hash can hold it."""
    assert well_formed("a\ud800b") == "a?b"
    assert well_formed("ΔS → 0") == "ΔS → 0"
