"""What the binary log of MySQL or MariaDB says was written after a position, read as a replica would.

The server is asked for what it has and not to wait for more, under a server id that no replica bears; the
dump ends by itself. Tables, operations, numbers of rows and keys leave this room; no other value of a row
and no text of a statement does, since both may hold secrets. Decides nothing.
"""

import contextlib
import logging
import random
import re
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from probes.answer import OwnFault
from probes.audit.mysql.statement import controls, statement
from probes.audit.reading import Change
from probes.shown import shown
from probes.stores.mysql import NO_DRIVER, Cord, Session, connect
from probes.write.canary import PREFIX

ROWS = 100_000
"""Rows that are read in one reading; decoding them takes about a second."""
NAMED_KEYS = 3
SERVER_IDS = range(240 << 24, 255 << 24)
"""Server ids of ours. The number of a replica is often its IPv4 address, and none begins with 240 to 254;
two clients with one id would throw each other out.
"""
ROW_EVENTS = {
    23: "insert",
    24: "update",
    25: "delete",
    30: "insert",
    31: "update",
    32: "delete",
    39: "update",
}
COMPRESSED = {166: "insert", 167: "update", 168: "delete", 169: "insert", 170: "update", 171: "delete"}
"""MariaDB's compressed rows (log_bin_compress): the table is known, the rows are not."""
SEALED = {40: "compressed transaction", 165: "compressed statement"}
"""MySQL's binlog_transaction_compression, MariaDB's compressed statements: nothing in them is known."""
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_OURS = re.compile(re.escape(PREFIX) + "[0-9a-f]{20}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A place in the log."""

    file: str
    at: int

    @property
    def number(self) -> int:
        """The files are numbered in order."""
        digits = self.file.rpartition(".")[2]
        return int(digits) if digits.isdigit() else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The primary key of a table: place, name and, where it is unsigned, bits of each column."""

    columns: int
    parts: tuple[tuple[int, str, int], ...]


@dataclass(slots=True)
class Log:
    """What was found."""

    end: Position
    born: int = 0
    """When the file of `end` was begun (epoch seconds)."""
    first_born: int = 0
    """When the file was begun in which the reading started."""
    rows: int = 0
    wanted_rows: int = 0
    """Those of audited tables."""
    statements: int = 0
    """Statements, which may have changed rows that the log does not list."""
    foreign: bool = False
    """Some rows were first written on another server."""
    whole: bool = True
    """It was read to its end."""
    undecoded: set[str] = field(default_factory=set)
    found: dict[tuple[str, str, str, bool], list[Any]] = field(default_factory=dict)

    def add(self, what: str, operation: str, event: Any, *, count: int = 1, own: bool = False) -> list[str]:
        """Count it; returns the keys named so far, to which more may be added."""
        role = f"server {event.packet.server_id}"
        entry = self.found.setdefault((what, operation, role, own), [0, [], event.timestamp])
        entry[0] += count
        keys: list[str] = entry[1]
        return keys

    @property
    def changes(self) -> Iterator[Change]:
        """What was written, by table, operation and server."""
        for (what, operation, role, own), (count, keys, moment) in self.found.items():
            when = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            yield Change(
                what=what,
                operation=operation,
                count=count,
                keys=tuple(keys),
                role=role,
                when=when,
                own=own,
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """How a log is read. `until` is a moment of time.monotonic()."""

    session: Session
    cord: Cord
    timeout: float
    until: float
    wanted: Callable[[str], bool]
    """Is this `database.table` audited?"""
    ours: Callable[[str], bool]
    """Is this GTID, or this value of a row, ours?"""
    server: str
    server_id: int
    keys: dict[str, Key]
    """Known keys of tables; filled on the way."""

    def read(self, start: Position) -> Log:
        """Everything from `start` on. Raises Answered (1227 not allowed, 1236 not there), Unreachable."""
        log = Log(end=start)
        with self.session.named():
            stream = self._stream(start)
            try:
                self._follow(stream, log)
            finally:
                with contextlib.suppress(Exception):  # a lost connection is closed all the same
                    stream.close()
            log.end = Position(file=str(stream.log_file), at=int(stream.log_pos))
        return log

    def _stream(self, start: Position) -> Any:
        try:
            from pymysqlreplication import BinLogStreamReader, event, row_event
        except ImportError:
            raise OwnFault(NO_DRIVER) from None
        # It advises on every reading to log more metadata: that is for the operator to choose.
        logging.getLogger("pymysqlreplication").setLevel(logging.ERROR)
        dialled = iter(range(2))

        def dial(**options: Any) -> Any:
            # One for the log, one for questions: it would open the lost one again and again.
            if next(dialled, None) is None:
                raise ConnectionResetError("the connection was lost while the binlog was read")
            wanted = {name: options[name] for name in ("cursorclass",) if name in options}
            return connect(self.session.server, timeout=self.timeout, cord=self.cord, **wanted)

        names = "QueryEvent RotateEvent FormatDescriptionEvent GtidEvent MariadbGtidEvent NotImplementedEvent"
        rows = "WriteRowsEvent UpdateRowsEvent DeleteRowsEvent PartialUpdateRowsEvent TableMapEvent"
        return BinLogStreamReader(
            {},
            random.choice(SERVER_IDS),  # noqa: S311 - to be alone, not to be secret
            resume_stream=True,
            blocking=False,
            log_file=start.file,
            log_pos=start.at,
            only_events=[
                *(getattr(event, name) for name in names.split()),
                *(getattr(row_event, name) for name in rows.split()),
            ],
            filter_non_implemented_events=False,
            ignore_decode_errors=True,
            enable_logging=False,
            pymysql_wrapper=dial,
        )

    def _follow(self, stream: Any, log: Log) -> None:
        own = False
        table = ""
        for event in stream:
            kind = type(event).__name__
            if kind in ("GtidEvent", "MariadbGtidEvent"):
                own = self.ours(f"{self.server}/{event.gtid}")
            elif kind == "FormatDescriptionEvent":
                log.born = int(event.timestamp)
                log.first_born = log.first_born or log.born
            elif kind == "TableMapEvent":
                table = f"{event.schema}.{event.table}"
            elif kind == "QueryEvent":
                self._statement(event, log, own)
            elif event.event_type in ROW_EVENTS:
                self._rows(event, log, own)
            elif event.event_type in COMPRESSED and self.wanted(table):
                log.statements += 1
                log.add(table, f"{COMPRESSED[event.event_type]} (compressed)", event, own=own)
            elif event.event_type in SEALED:
                log.statements += 1
                log.add(SEALED[event.event_type], "write", event, own=own)
            if log.rows >= ROWS or time.monotonic() > self.until:
                log.whole = False
                return

    def _statement(self, event: Any, log: Log, own: bool) -> None:
        schema = event.schema.decode("utf-8", "replace") if isinstance(event.schema, bytes) else event.schema
        text = str(event.query)
        found = statement(text, schema)
        log.statements += not controls(text)
        if found is None:
            return
        if found.table is None or self.wanted(found.table):
            own = own or _OURS.search(text) is not None
            log.add(found.what, found.operation, event, own=own)

    def _rows(self, event: Any, log: Log, own: bool) -> None:
        table = f"{event.schema}.{event.table}"
        wanted = self.wanted(table)
        operation = ROW_EVENTS[event.event_type]
        try:
            rows = [[*_values(row)] for row in event.rows]
        except (LookupError, ValueError, TypeError, NotImplementedError, struct.error) as error:
            log.undecoded.add(f"rows of {table} could not be decoded ({type(error).__name__})")
            rows = []
            log.rows += 1
            if wanted:
                log.add(table, operation, event, own=own)
        log.rows += len(rows)
        log.foreign |= event.packet.server_id != self.server_id
        if not wanted:
            return
        log.wanted_rows += len(rows)
        key = self._key(event.schema, event.table, len(event.columns))
        for row in rows:
            mine = own or any(self._is_ours(value) for value in row)
            named = log.add(table, operation, event, own=mine)
            if key is not None and len(named) < NAMED_KEYS:
                named.append(_named(key, row))

    def _is_ours(self, value: Any) -> bool:
        if isinstance(value, str) and _OURS.fullmatch(value):
            return True
        return isinstance(value, str | int) and self.ours(str(value))

    def _key(self, schema: str, table: str, columns: int) -> Key | None:
        """The primary key, where the table still has as many columns as the event."""
        name = f"{schema}.{table}"
        if name not in self.keys or self.keys[name].columns != columns:
            rows = self.session.run(
                "SELECT COLUMN_NAME, COLUMN_KEY, COLUMN_TYPE FROM information_schema.COLUMNS"
                " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
                (schema, table),
            )
            parts = [(at, str(row[0]), _bits(str(row[2]))) for at, row in enumerate(rows) if row[1] == "PRI"]
            self.keys[name] = Key(columns=len(rows), parts=tuple(parts))
        key = self.keys[name]
        return key if key.columns == columns and key.parts else None


def _values(row: dict[str, Any]) -> Iterator[Any]:
    """The values of a row in order: as it was, or for an insert as it is; then what an update made of it."""
    for image in ("values", "before_values", "after_values"):
        yield from row.get(image, {}).values()


def _named(key: Key, row: list[Any]) -> str:
    shown_parts = []
    for at, name, bits in key.parts:
        value = row[at]
        if bits and isinstance(value, int) and value < 0:
            value += 1 << bits
        shown_parts.append(f"{name}={shown(value)}")
    return ", ".join(shown_parts)


def _bits(column: str) -> int:
    """How wide an unsigned whole number is; 0 for everything else."""
    return _BITS.get(re.split(r"[( ]", column)[0], 0) if "unsigned" in column else 0
