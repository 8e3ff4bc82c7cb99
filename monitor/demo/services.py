"""Puts the parts of the demo service together. The only place that knows all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.requests import Request

from monitor.demo.backfill import Backfill
from monitor.demo.corpus import bundled_documents
from monitor.demo.database import FILE_NAME, Database
from monitor.demo.faults import Faults
from monitor.demo.guard import ALWAYS_OPEN, Guard
from monitor.demo.metrics import Metrics
from monitor.demo.mode import Clock, Plan, ReadOnlyMode, SystemClock
from monitor.demo.operations import Door, Operation
from monitor.demo.retrieval import Retriever
from monitor.demo.stock import StockSync
from monitor.demo.store import Store


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything a handler may use."""

    clock: Clock
    mode: ReadOnlyMode
    faults: Faults
    metrics: Metrics
    guard: Guard
    side_guard: Guard
    """At the vector store's direct port."""
    database: Database
    store: Store
    retriever: Retriever
    backfill: Backfill
    stock_sync: StockSync

    def at(self, door: Door) -> Services:
        """The same services, behind the guard of this door."""
        return replace(self, guard=self.side_guard) if door is Door.SIDE else self


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request on its way through a handler."""

    request: Request
    operation: Operation
    services: Services


def build_services(
    *, data: Path, fault: str | None = None, plan: Plan | None = None, clock: Clock | None = None
) -> Services:
    """The parts over a database in the directory `data`, the bundled documents indexed."""
    clock = clock or SystemClock()
    mode = ReadOnlyMode(plan=plan or Plan(), clock=clock)
    faults = Faults(chosen=fault, mode=mode)
    metrics = Metrics(registry=CollectorRegistry())
    guard = Guard(mode=mode, faults=faults, metrics=metrics)
    path = data / FILE_NAME
    database = Database(path)
    store = Store(database)
    _load_corpus(database, store)
    return Services(
        clock=clock,
        mode=mode,
        faults=faults,
        metrics=metrics,
        guard=guard,
        side_guard=Guard(mode=mode, faults=faults, metrics=metrics, door=Door.SIDE),
        database=database,
        store=store,
        retriever=Retriever(database, misindexed=faults.misindexes),
        backfill=Backfill(store=store, writes=guard.jobs_gate, metrics=metrics, clock=clock),
        stock_sync=StockSync(database=path, at_work=faults.syncs_stock),
    )


def _load_corpus(database: Database, store: Store) -> None:
    with database.transaction():
        for document in bundled_documents():
            if store.document(document.id) != document:
                store.put_document(document, writes=ALWAYS_OPEN)
