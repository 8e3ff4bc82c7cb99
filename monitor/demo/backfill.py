"""The background writer: applies queued intents and computes missing document vectors.

Stops while the service is read-only; the gate it carries would refuse it in any case.
"""

from __future__ import annotations

from datetime import datetime

from monitor.demo.guard import WriteGate
from monitor.demo.metrics import Metrics
from monitor.demo.mode import Clock
from monitor.demo.operations import Surface
from monitor.demo.store import Store

BATCH = 200


class Backfill:
    """One job that works while writes are open."""

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
