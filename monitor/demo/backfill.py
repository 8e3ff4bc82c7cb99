"""The background writer: applies queued intents and computes missing document vectors.

Stops while the service is read-only; the gate it carries would refuse it in any case.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from datetime import datetime

from monitor.demo.guard import WriteGate
from monitor.demo.metrics import Metrics
from monitor.demo.mode import Clock
from monitor.demo.operations import Surface
from monitor.demo.store import Store

INTERVAL_S = 0.5
BATCH = 200

_log = logging.getLogger(__name__)


class Backfill:
    """One job that runs every half second while writes are open."""

    def __init__(self, *, store: Store, writes: WriteGate, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._writes = writes
        self._metrics = metrics
        self._clock = clock
        self.last_run: datetime | None = None

    @property
    def running(self) -> bool:
        """True while the job may write."""
        return not self._writes.closed()

    def work(self) -> None:
        """One run, or nothing while writes are frozen."""
        if not self.running:
            return
        applied = self._store.apply_intents(limit=BATCH, writes=self._writes)
        self._metrics.applied(Surface.INTENTS, count=applied)
        self._store.embed_documents(limit=BATCH, writes=self._writes)
        self.last_run = self._clock.now()

    async def run(self) -> None:
        """Work until cancelled; a run that the database fails is tried again."""
        while True:
            try:
                self.work()
            except sqlite3.Error:
                _log.exception("backfill_failed")
            await asyncio.sleep(INTERVAL_S)
