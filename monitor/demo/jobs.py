"""Runs the service's background jobs, each on its own beat, for as long as the service lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping

INTERVAL_S = 0.5

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def at_work(jobs: Mapping[str, Callable[[], None]]) -> AsyncIterator[None]:
    """Every job runs each half second until the end of the block; what the database fails is tried again."""
    tasks = [asyncio.create_task(_repeat(name, work)) for name, work in jobs.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _repeat(name: str, work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except sqlite3.Error:
            _log.exception("job_failed: %s", name)
        await asyncio.sleep(INTERVAL_S)
