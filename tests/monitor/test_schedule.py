"""Every slot is run once or reported as missed, whatever the loop, the work and the wall clock do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import Clock, SteadyZone, as_datetime
from monitor.grid import Grid, staggered
from monitor.judge import grids
from monitor.schedule import Schedule
from probes.base import Why

from .builders import plan_in

WHOLE_MS = 0.0006
"""Seconds by which a slot may lie beside the grid: it is rounded to whole milliseconds."""
ROOT = Path(__file__).parents[2]
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class SteppedClock(Clock):
    """A clock beside a system whose wall clock was stepped by so many seconds."""

    def __init__(self, by: float = 0.0) -> None:
        super().__init__()
        self.by = by

    def step(self) -> float:
        return super().step() + self.by


@dataclass
class Log:
    """What one probe was told."""

    began: float
    runs: list[float] = field(default_factory=list)
    missed: list[tuple[float, Why]] = field(default_factory=list)
    ended: int = 0
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, slots: list[float], why: Why) -> None:
        self.missed += [(slot, why) for slot in slots]
        self.grew.set()

    @property
    def told(self) -> list[float]:
        return sorted([*self.runs, *(slot for slot, _ in self.missed)])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.grew.clear()
                await self.grew.wait()


def each_once(log: Log, grid: Grid, first: float, last: float) -> bool:
    """Are the slots in [first, last] each told exactly once?"""
    expected = [grid.anchor + n * grid.every for n in range(round((last - grid.anchor) / grid.every) + 1)]
    expected = [slot for slot in expected if slot >= first - WHOLE_MS]
    return log.told == pytest.approx(expected, abs=WHOLE_MS)


def scheduled(
    log: Log, clock: Clock, every: float, *, ends: float = 60.0, took: Callable[[int], float] = lambda n: 0.0
) -> tuple[Schedule, Grid]:
    grid = Grid(anchor=log.began + every, every=every)

    async def work(slot: float) -> None:
        log.runs.append(slot)
        log.grew.set()
        await asyncio.sleep(took(len(log.runs)))
        log.ended += 1
        log.grew.set()

    schedule = Schedule(clock, lambda: log.began + ends)
    schedule.add("probe", grid, work, log.hear)
    return schedule, grid


# -- the grid -------------------------------------------------------------------------------------


@given(
    anchor=st.floats(1e9, 3e9),
    every=st.floats(0.2, 3600),
    moment=st.floats(1e9, 3e9),
)
def test_the_next_slot_is_on_the_grid_and_at_most_one_interval_away(
    anchor: float, every: float, moment: float
) -> None:
    """Whenever it is asked, before or after the anchor."""
    slot = Grid(anchor=anchor, every=every).after(moment)

    steps = (slot - anchor) / every
    assert moment < slot <= moment + every + 2 * WHOLE_MS
    assert abs(steps - round(steps)) * every < WHOLE_MS


@given(every=st.integers(200, 60_000), offset=st.integers(0, 60_000), count=st.integers(0, 500))
def test_slots_are_counted_as_they_are_met(every: int, offset: int, count: int) -> None:
    """As many intervals, as many slots: at today's seconds too, where a float has seven decimals left."""
    anchor = 1_795_471_200 + offset / 1000
    grid = Grid(anchor=anchor, every=every / 1000)

    assert grid.between(anchor, anchor + count * every / 1000) == count
    assert grid.between(anchor - 5 * every / 1000, anchor) == 5
    assert grid.between(anchor, anchor - 1) == 0


def test_probes_do_not_start_together() -> None:
    """Fifty probes of one interval are spread evenly over it."""
    slots = sorted(grid.anchor for grid in staggered(100.0, [5.0] * 50))

    assert slots[0] == 100.0
    assert [round(after - before, 6) for before, after in pairwise(slots)] == [0.1] * 49


def test_a_restart_finds_the_same_grid(tmp_path: Path) -> None:
    """The slots come from the plan alone."""
    plan = plan_in(tmp_path)

    assert grids(plan) == grids(plan_in(tmp_path))


# -- running --------------------------------------------------------------------------------------


async def test_work_runs_on_its_slots_and_on_time() -> None:
    """Each slot once, in order, within a fraction of the interval."""
    clock = Clock()
    log = Log(began=clock.now())
    schedule, grid = scheduled(log, clock, 0.1)
    schedule.start()

    await log.until(lambda: len(log.told) >= 8)
    await schedule.stop(1.0)

    assert each_once(log, grid, log.runs[0], log.told[-1])
    assert len(log.runs) >= 6


async def test_a_loop_that_was_blocked_reports_what_it_missed() -> None:
    """Only the newest slot is made up for; each earlier one is told as late, none twice."""
    clock = Clock()
    log = Log(began=clock.now())
    schedule, grid = scheduled(log, clock, 0.1)
    schedule.start()
    await log.until(lambda: len(log.runs) >= 2)

    time.sleep(0.75)  # the loop itself hangs
    before = len(log.runs)
    await log.until(lambda: len(log.runs) >= before + 3)
    await schedule.stop(1.0)

    late = [slot for slot, why in log.missed if why is Why.LATE]
    assert len(late) >= 5
    assert each_once(log, grid, log.runs[0], log.told[-1])


async def test_a_run_longer_than_its_interval_costs_the_slots_it_covers() -> None:
    """They are told as overlapping; there is never a second run beside the first."""
    clock = Clock()
    log = Log(began=clock.now())
    most = [0]

    def took(number: int) -> float:
        most[0] = max(most[0], number - log.ended)
        return 0.45 if number == 2 else 0.0

    schedule, grid = scheduled(log, clock, 0.1, took=took)
    schedule.start()

    await log.until(lambda: len(log.runs) >= 5)
    await schedule.stop(1.0)

    overlapped = [slot for slot, why in log.missed if why is Why.OVERLAP]
    assert 3 <= len(overlapped) <= 5
    assert most == [1]
    assert each_once(log, grid, log.runs[0], log.told[-1])


async def test_late_and_overlapping_together_still_tell_each_slot_once() -> None:
    """A loop that hangs while a run is in flight."""
    clock = Clock()
    log = Log(began=clock.now())
    schedule, grid = scheduled(log, clock, 0.1, took=lambda n: 0.25 if n % 3 == 0 else 0.0)
    schedule.start()

    for _ in range(3):
        await log.until(lambda: len(log.runs) % 3 == 0 and len(log.runs) > 0)
        time.sleep(0.35)
        seen = len(log.runs)
        await log.until(lambda: len(log.runs) > seen)  # noqa: B023
    await schedule.stop(1.0)

    assert Why.OVERLAP in {why for _, why in log.missed}
    assert each_once(log, grid, log.runs[0], log.told[-1])


async def test_work_that_raises_is_run_again_on_the_next_slot() -> None:
    """One bad run ends neither the schedule nor the others."""
    clock = Clock()
    began = clock.now()
    runs: list[float] = []
    enough = asyncio.Event()

    async def work(slot: float) -> None:
        runs.append(slot)
        if len(runs) >= 3:
            enough.set()
        raise RuntimeError("a mistake of ours")

    schedule = Schedule(clock, lambda: began + 60)
    schedule.add("probe", Grid(anchor=began, every=0.1), work, lambda slots, why: None)
    schedule.start()

    await asyncio.wait_for(enough.wait(), 20)
    await schedule.stop(1.0)

    assert len(runs) >= 3


async def test_stop_waits_for_what_is_in_flight_and_starts_nothing_new() -> None:
    """The answer that was on its way is recorded."""
    clock = Clock()
    log = Log(began=clock.now())
    schedule, _ = scheduled(log, clock, 0.1, took=lambda n: 0.3)
    schedule.start()
    await log.until(lambda: len(log.runs) == 1)

    await schedule.stop(10.0)
    ended = log.ended
    await asyncio.sleep(0.25)  # two slots go by

    assert (ended, log.ended, len(log.runs)) == (1, 1, 1)


async def test_stop_gives_up_on_what_does_not_end() -> None:
    """After its patience the run is cancelled."""
    clock = Clock()
    log = Log(began=clock.now())
    schedule, _ = scheduled(log, clock, 0.1, took=lambda n: 3600.0)
    schedule.start()
    await log.until(lambda: len(log.runs) == 1)

    began = time.monotonic()
    await schedule.stop(0.2)

    assert time.monotonic() - began < 5
    assert log.ended == 0


async def test_nothing_runs_past_the_end_and_an_extension_takes_it_up_again() -> None:
    """The end may move; the grid does not."""
    clock = Clock()
    log = Log(began=clock.now())
    ends = [log.began + 0.55]
    grid = Grid(anchor=log.began + 0.1, every=0.1)

    async def work(slot: float) -> None:
        log.runs.append(slot)
        log.grew.set()

    schedule = Schedule(clock, lambda: ends[0])
    schedule.add("probe", grid, work, log.hear)
    schedule.start()
    await log.until(lambda: len(log.told) == 5)
    await asyncio.sleep(0.25)  # two slots past the end go by
    at_the_end = len(log.told)

    ends[0] = clock.now() + 60
    schedule.revive()
    await log.until(lambda: len(log.told) >= 8)
    await schedule.stop(1.0)

    assert at_the_end == 5
    steps = [(slot - grid.anchor) / 0.1 for slot in log.runs]
    assert steps == pytest.approx([round(step) for step in steps], abs=0.01)


# -- the wall clock -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [3600.0, -3600.0, 0.3])
def test_the_steady_zone_takes_a_step_back(by: float) -> None:
    """Read in this zone, the system's clock says what it would have said without its step."""
    steady, stepped = SteadyZone(Clock()), SteadyZone(SteppedClock(by))

    apart = datetime.now(steady) - datetime.now(stepped)

    assert apart.total_seconds() == pytest.approx(by, abs=0.2)
    assert (stepped.utcoffset(None), stepped.dst(None), stepped.tzname(None)) == (
        timedelta(0),
        timedelta(0),
        "UTC",
    )


def test_a_moment_is_the_same_moment_as_a_datetime() -> None:
    """Epoch seconds in UTC, whatever the zone of the machine."""
    assert as_datetime(0.0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert as_datetime(1_795_471_200.5).timestamp() == 1_795_471_200.5


@pytest.mark.parametrize("by", [3600.0, -3600.0, 0.35, -0.35])
async def test_a_system_that_is_an_hour_off_runs_every_slot_once(by: float) -> None:
    """Slots are those of the steady clock: a step neither shifts nor repeats them."""

    class OffClock(Clock):
        """Steady time lies `by` behind what the system says."""

        def now(self) -> float:
            return super().now() - by

    clock = OffClock()
    log = Log(began=clock.now())
    schedule, grid = scheduled(log, clock, 0.1)
    schedule.start()

    await log.until(lambda: len(log.told) >= 6)
    lateness = clock.now() - log.told[-1]
    await schedule.stop(1.0)

    assert each_once(log, grid, log.runs[0], log.told[-1])
    assert 0 <= lateness < 0.5


@pytest.mark.parametrize("hours", ["+1", "-1"])
def test_a_jump_of_the_wall_clock_neither_shifts_nor_repeats_runs(hours: str, tmp_path: Path) -> None:
    """The clock of a whole process is stepped by an hour while it runs (libfaketime)."""
    if FAKETIME is None:
        why = "libfaketime is not installed: apt-get install libfaketime"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    file = tmp_path / "offset"
    file.write_text("+0\n")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    done = subprocess.run(
        [sys.executable, "-m", "tests.monitor.jump", str(file), hours],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    said = json.loads(done.stdout)
    seconds = 3600 * int(hours)
    assert (said["jumped_by"], said["step"]) == (seconds, seconds)
    assert len(said["slots"]) + said["missed"] >= 12
    numbers = [round(slot) for slot in said["slots"]]
    assert said["slots"] == pytest.approx(numbers, abs=0.01)
    assert len(set(numbers)) == len(numbers)
    assert said["cpu_s"] < 1.0
    assert said["slots"][-1] < 25
    assert said["worst_lateness"] < 0.5
