"""Runs every probe on its own grid of slots. The only importer of apscheduler.

Three of its defaults would let evidence go unseen, and each is turned into a record here: a late run that
is dropped, an overlapping run that is dropped, and a shutdown that cancels what is in flight. Slots lie on
a fixed grid, so a restart or a step of the wall clock neither shifts nor repeats them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.executors.base import BaseExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from monitor.clock import Clock, SteadyZone, as_datetime
from monitor.grid import Grid
from probes.base import Why

for quiet in ("apscheduler.scheduler", "apscheduler.executors.default"):
    logging.getLogger(quiet).setLevel(logging.CRITICAL)


LONGEST_PAUSE = 3600.0
Work = Callable[[float], Awaitable[None]]
"""Runs one slot."""
Missed = Callable[[list[float], Why], None]
"""Told the slots that were not run, and why."""


class _Slots(BaseTrigger):  # type: ignore[misc]
    """APScheduler's view of a grid. Pure in (previous, now)."""

    def __init__(self, grid: Grid, ends: Callable[[], float]) -> None:
        self._grid = grid
        self._ends = ends

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """The slot after `previous`, or after `now`; None past the end."""
        moment = (previous or now).timestamp()
        slot = self._grid.after(moment)
        return as_datetime(slot) if slot < self._ends() else None


class _ProbeExecutor(BaseExecutor):  # type: ignore[misc]
    """Runs the newest due slot as a task on the loop and reports the others as missed."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[asyncio.Task[None]] = set()

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        work, missed = job.args
        *late, due = [moment.timestamp() for moment in run_times]
        if late:
            missed(late, Why.LATE)
        task = asyncio.get_running_loop().create_task(work(due))
        self.running.add(task)
        task.add_done_callback(lambda done: self._finished(job.id, done))

    def _finished(self, job_id: str, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._run_job_error(job_id, error, error.__traceback__)
        else:
            self._run_job_success(job_id, [])


class _SteadyScheduler(AsyncIOScheduler):  # type: ignore[misc]
    """Works out its pause by the steady clock.

    APScheduler's own converts the next slot into the zone and so takes a step of the wall clock back twice.
    """

    def __init__(self, clock: Clock, executor: BaseExecutor) -> None:
        super().__init__(timezone=SteadyZone(clock), executors={"default": executor})
        self._clock = clock

    def wakeup(self) -> None:
        """Look for due slots now. Always on the loop here, so there is no need to wake it for that."""
        self._stop_timer()
        self._start_timer(self._process_jobs())

    def _process_jobs(self) -> float | None:
        if super()._process_jobs() is None:
            return None
        due = self._lookup_jobstore("default").get_next_run_time()
        return None if due is None else min(LONGEST_PAUSE, max(0.0, due.timestamp() - self._clock.now()))


class Schedule:
    """Drives work on grids until `ends()`, which may move while it runs."""

    def __init__(self, clock: Clock, ends: Callable[[], float]) -> None:
        self._ends = ends
        self._executor = _ProbeExecutor()
        self._scheduler = _SteadyScheduler(clock, self._executor)
        self._scheduler.add_listener(self._overlapped, EVENT_JOB_MAX_INSTANCES)
        self._missed: dict[str, Missed] = {}
        self._works: dict[str, tuple[Grid, Work, Missed]] = {}

    def add(self, name: str, grid: Grid, work: Work, missed: Missed) -> None:
        """Run `work(slot)` on every slot of `grid`; `missed(slots, why)` hears of the others."""
        self._works[name] = (grid, work, missed)
        self._missed[name] = missed
        self._scheduler.add_job(
            _never,
            _Slots(grid, self._ends),
            args=(work, missed),
            id=name,
            coalesce=False,
            misfire_grace_time=None,
            max_instances=1,
        )

    def start(self) -> None:
        """Start, on the running loop."""
        self._scheduler.start()

    def revive(self) -> None:
        """Take up again what had run out, because the end has moved."""
        for name, (grid, work, missed) in self._works.items():
            if self._scheduler.get_job(name) is None:
                self.add(name, grid, work, missed)

    async def stop(self, patience: float) -> None:
        """Start nothing new, and let what is in flight end for up to `patience` seconds."""
        if self._scheduler.running:
            self._scheduler.pause()
        if self._executor.running:
            await asyncio.wait(self._executor.running, timeout=patience)
        for task in list(self._executor.running):
            task.cancel()
        await asyncio.gather(*self._executor.running, return_exceptions=True)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _overlapped(self, event: JobSubmissionEvent) -> None:
        missed = self._missed.get(event.job_id)
        if missed is not None:
            slots = [moment.timestamp() for moment in event.scheduled_run_times]
            missed(slots, Why.OVERLAP)


def _never(work: Work, missed: Missed) -> None:
    """Stands in the scheduler's table; the executor runs the work itself."""
    raise AssertionError("the executor runs the work")
