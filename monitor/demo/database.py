"""One SQLite connection, its schema and its transactions. Knows tables, no rules.

Operations run inline on the caller's thread, one at a time; each takes well under a millisecond,
so handing them to a thread pool would cost more than it frees.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Value, ...]

FILE_NAME = "harbour-and-pine.sqlite"
"""The database in the service's data directory."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS document_index
    USING fts5(title, text, tokenize = 'porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE IF NOT EXISTS sentence_index
    USING fts5(
        text, document UNINDEXED, position UNINDEXED,
        tokenize = 'porter unicode61 remove_diacritics 2'
    );
CREATE TABLE IF NOT EXISTS embeddings (document INTEGER PRIMARY KEY, vector TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (id TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kv (id TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tickets (id TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS intents (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    payload TEXT NOT NULL,
    queued_at REAL NOT NULL,
    applied INTEGER NOT NULL DEFAULT 0
);
-- One row for each time an intent took effect. No unique key: it would hide a second time.
CREATE TABLE IF NOT EXISTS effects (intent TEXT NOT NULL, payload TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS effects_by_intent ON effects (intent);
CREATE INDEX IF NOT EXISTS intents_queued ON intents (number) WHERE applied = 0;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, content TEXT NOT NULL
);
"""


class Database:
    """A connection shared behind a lock, in write-ahead logging, durable at every commit."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a transaction inside another joins it."""
        with self._lock:
            outermost = self._depth == 0
            if outermost:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if outermost:
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def run(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Execute one statement and return the number of rows it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Value] = ()) -> Row | None:
        """The first row of a query, or None."""
        found = self.rows(sql, values)
        return found[0] if found else None

    def close(self) -> None:
        """Close the connection; the write-ahead log is folded in."""
        with self._lock:
            self._connection.close()
