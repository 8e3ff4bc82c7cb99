"""Counters of changed rows in MySQL and MariaDB, and who may still write from before. Reads only.

The counters see what the binary log does not (sql_log_bin=0), but also what was rolled back, and those of
the whole server see temporary tables too. They start at zero with the server.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from probes.audit.reading import Change, OpenWriter
from probes.stores.mysql import Answered, Session, plain, status

INNODB = ("Innodb_rows_inserted", "Innodb_rows_updated", "Innodb_rows_deleted")
HANDLER = ("Handler_write", "Handler_update", "Handler_delete")
"""MariaDB counts its own temporary tables apart; MySQL does not, and has the three of InnoDB instead."""
WHOLE = (
    "Com_truncate",
    "Com_drop_table",
    "Com_alter_table",
    "Com_rename_table",
    "Com_drop_db",
    "Com_create_table",
)
"""What changes tables as a whole, and is counted in no row."""
OPERATIONS = ("insert", "update", "delete")
SERVER_WIDE = ("innodb", "handler")
OPEN_ROWS = "SELECT COALESCE(SUM(trx_rows_modified), 0) FROM information_schema.INNODB_TRX"
STALE = 0.12
"""Seconds after which INNODB_TRX shows what is open now, if nobody reads it meanwhile."""
STATEMENTS = (
    "SELECT ID AS id, USER AS user, HOST AS host, TIME + 1 AS age, STATE AS state"
    " FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute') AND TIME >= 1 AND INFO REGEXP"
    " '^[[:space:]]*(INSERT|UPDATE|DELETE|REPLACE|LOAD|ALTER|CREATE|DROP|TRUNCATE|CALL|RENAME)[[:space:]]'"
    " AND INFO NOT LIKE '%freezewatch-%'"
)

PER_TABLE = (
    "SELECT OBJECT_SCHEMA, OBJECT_NAME, COUNT_INSERT, COUNT_UPDATE, COUNT_DELETE"
    " FROM performance_schema.table_io_waits_summary_by_table WHERE OBJECT_TYPE = 'TABLE' AND COUNT_WRITE > 0"
)
INSTRUMENTED = (
    "SELECT COUNT(*) FROM performance_schema.setup_instruments"
    " WHERE NAME = 'wait/io/table/sql/handler' AND ENABLED = 'YES'"
)
CONSUMED = (
    "SELECT COUNT(*) FROM performance_schema.setup_consumers"
    " WHERE NAME = 'global_instrumentation' AND ENABLED = 'YES'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Rows changed since the server was started, by table where it counts so."""

    source: str
    total: int
    whole: int = 0
    """Statements that change tables as a whole."""
    tables: dict[str, tuple[int, ...]] | None = None

    @property
    def grade(self) -> str:
        """How good they are."""
        return "row counters of the server" if self.tables is None else f"row counters ({self.source})"

    def since(self, before: "Counters") -> list[Change]:
        """What was written between two states of one run of one server."""
        if self.tables is None or before.tables is None:
            rows = self.total - before.total
            what = "a table that the counters do not name"
            return [Change(what=what, operation="write", count=rows)] if rows > 0 else []
        changes = []
        for table, counts in sorted(self.tables.items()):
            old = before.tables.get(table, (0,) * len(counts))
            for at, (count, was) in enumerate(zip(counts, old, strict=False)):
                operation = OPERATIONS[at] if len(counts) == len(OPERATIONS) else "write"
                if count > was:
                    changes.append(Change(what=table, operation=operation, count=count - was))
        return changes

    def set_back(self, before: "Counters") -> bool:
        """Were they set to zero, all or for some tables?"""
        if self.tables is None or before.tables is None:
            return self.total < before.total
        return any(sum(self.tables.get(table, ())) < sum(old) for table, old in before.tables.items())


def counters(session: Session, wanted: Callable[[str], bool]) -> Counters:
    """The best counters that the account may read."""
    whole = sum(status(session, *WHOLE).values())
    found = _performance_schema(session, wanted) or _user_statistics(session, wanted)
    if found is not None:
        return replace(found, whole=whole)
    rows = status(session, *INNODB)
    if len(rows) == len(INNODB):
        return Counters(source="innodb", total=sum(rows.values()), whole=whole)
    return Counters(source="handler", total=sum(status(session, *HANDLER).values()), whole=whole)


def _performance_schema(session: Session, wanted: Callable[[str], bool]) -> Counters | None:
    """Without temporary tables. None when it is off, or not for this account."""
    try:
        if not (session.one("SELECT @@performance_schema")[0] in (1, "ON") and session.one(INSTRUMENTED)[0]):
            return None
        if not session.one(CONSUMED)[0]:
            return None
        rows = session.run(PER_TABLE)
    except Answered:
        return None
    tables = {f"{schema}.{name}": tuple(map(int, counts)) for schema, name, *counts in rows}
    return _of_tables("performance_schema", tables, wanted)


def _user_statistics(session: Session, wanted: Callable[[str], bool]) -> Counters | None:
    """MariaDB's userstat, without temporary tables. None when it is off."""
    try:
        if session.one("SELECT @@global.userstat")[0] not in (1, "ON"):
            return None
        rows = session.run(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ROWS_CHANGED FROM information_schema.TABLE_STATISTICS"
        )
    except Answered:
        return None
    tables: dict[str, tuple[int, ...]] = {
        f"{schema}.{name}": (int(count),) for schema, name, count in rows if count
    }
    return _of_tables("userstat", tables, wanted)


def _of_tables(source: str, tables: dict[str, tuple[int, ...]], wanted: Callable[[str], bool]) -> Counters:
    chosen = {name: counts for name, counts in tables.items() if wanted(name)}
    return Counters(source=source, total=sum(map(sum, chosen.values())), tables=chosen)


# -- who may still write --------------------------------------------------------------------------


@dataclass(slots=True)
class Fence:
    """Transactions and statements that are under way."""

    open: tuple[OpenWriter, ...] | None = None
    """None where the account may not see them."""
    rows: int = 0
    """Rows that they have changed so far."""
    prepared: dict[str, float] = field(default_factory=dict)
    """Prepared XA transactions, each with the moment it was first seen (the server's clock)."""
    notes: list[str] = field(default_factory=list)


def fence(session: Session, known: dict[str, float] | None) -> Fence:
    """Who has changed rows and may still commit. `known`: the prepared transactions of the reading before,
    None where there was none: then one that is there is taken to be as old as the server.
    """
    found = Fence()
    writers: list[OpenWriter] = []
    now = float(session.one("SELECT UNIX_TIMESTAMP()")[0])
    try:
        sessions = _transactions(session, found, writers)
        _statements(session, sessions, writers)
        found.open = tuple(writers)
    except Answered as answer:
        found.notes.append(f"open transactions are not seen, which takes the privilege PROCESS ({answer})")
    try:
        listed = session.dicts("XA RECOVER")
    except Answered as answer:
        found.notes.append(f"prepared XA transactions are not seen ({answer})")
        return found
    uptime = float(status(session, "Uptime").get("uptime", 0))
    for row in listed:
        xid = _xid(row["data"])
        since = now - uptime - 1 if known is None else known.get(xid, now)
        found.prepared[xid] = since
        writers.append(OpenWriter(who=f"prepared XA transaction {xid}", age_s=max(0.0, now - since)))
    if found.open is not None or writers:
        found.open = tuple(writers)
    return found


def open_rows(session: Session, seen: int, wanted: int) -> int:
    """Rows changed by open transactions, asked again while there are fewer than `wanted`.

    INNODB_TRX shows an old state until nobody has read it for 0.1 s, so it is left alone for so long.
    """
    for _ in range(2):
        if seen >= wanted:
            break
        time.sleep(STALE)
        try:
            seen = max(seen, int(session.one(OPEN_ROWS)[0]))
        except Answered:
            break
    return seen


def _transactions(session: Session, found: Fence, writers: list[OpenWriter]) -> set[int]:
    """Sessions with a transaction that has changed rows. A prepared one has no session any more."""
    rows = session.dicts(
        "SELECT t.trx_mysql_thread_id AS id, t.trx_rows_modified AS modified,"
        # Whole seconds: rounded up, so that what began just before the window is not taken for younger.
        " TIMESTAMPDIFF(SECOND, t.trx_started, NOW()) + 1 AS age, p.USER AS user, p.HOST AS host"
        " FROM information_schema.INNODB_TRX t"
        " LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id"
        " WHERE t.trx_rows_modified > 0"
    )
    for row in rows:
        found.rows += int(row["modified"])
        if row["id"]:
            who = f"session {row['id']} of {row['user'] or '?'} from {_host(row['host'])}"
            writers.append(OpenWriter(who=who, age_s=float(row["age"] or 0), role=row["user"]))
    return {int(row["id"]) for row in rows}


def _statements(session: Session, besides: set[int], writers: list[OpenWriter]) -> None:
    """Statements that write and take long: on tables without transactions, in a queue for a lock, or DDL."""
    rows = session.dicts(STATEMENTS)
    for row in rows:
        if int(row["id"]) not in besides:
            state = f" ({plain(str(row['state']))})" if row["state"] else ""
            who = f"statement of session {row['id']} of {row['user']} from {_host(row['host'])}{state}"
            writers.append(OpenWriter(who=who, age_s=float(row["age"] or 0), role=row["user"]))


def _host(host: object) -> str:
    """Without the port, which differs from session to session."""
    return str(host or "?").rpartition(":")[0] or str(host or "?")


def _xid(data: object) -> str:
    raw = data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")
    return f"X'{raw.hex()}'" if not raw.isascii() or b"'" in raw else f"'{raw.decode()}'"


def scheduled(session: Session) -> str | None:
    """The event scheduler, which writes with the rights of those who defined its events."""
    if session.one("SELECT @@global.event_scheduler")[0] not in ("ON", 1):
        return None
    rows = session.run(
        "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' LIMIT 6"
    )
    names = ", ".join(f"{schema}.{name}" for schema, name in rows[:5]) + (", …" if len(rows) > 5 else "")
    if not rows:
        return "the event scheduler is on; this account sees no enabled event (it takes the privilege EVENT)"
    return f"the event scheduler is on, with enabled events: {names}"
