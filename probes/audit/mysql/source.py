"""The audit of MySQL and MariaDB: what do binary log and counters say was written since the reading before?

The best record that the account may read is taken: the rows of the binary log (table, operation, keys), else
how far the log has moved, else counters of changed rows. A server that was started again, a log that was
begun anew or no longer goes back far enough: then the time in between cannot be told, and that is said.
Writes nothing, and leaves no session and no dump behind.
"""

import time
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from pydantic import Field

from probes.answer import Unreachable
from probes.audit.mysql.binlog import Key, Log, Position, Reader
from probes.audit.mysql.counters import Counters, Fence, counters, fence, open_rows, scheduled
from probes.audit.mysql.mark import Mark, mariadb_between, mysql_count, parsed
from probes.audit.reading import AuditBase, Change, Pattern, Reading
from probes.stores.mysql import (
    STARTED_WITHIN,
    SYSTEM,
    Answered,
    Session,
    identity,
    in_thread,
    started,
)
from probes.stores.mysql_dsn import Connected
from probes.tools import Tools

READ_FOR, ANSWER_WITHIN = 0.5, 0.9
"""Shares of the timeout: for reading the log, and for each answer."""
DENIED = frozenset({1044, 1045, 1142, 1227})
NOT_THERE, SYNTAX = 1236, 1064
UNLOGGED = "written with sql_log_bin=0, rolled back, or not committed yet"


class MysqlStore(Connected):
    """The server, and what of it is audited."""

    tables: list[Pattern] = Field(default=[], max_length=1000)
    """Patterns of `database.table`; without any, all but the server's own."""
    binlog: bool = True
    """Read the rows of the binary log, where the account may."""

    def wants(self, table: str) -> bool:
        """Is this `database.table` audited?"""
        if not self.tables:
            return table.partition(".")[0].lower() not in SYSTEM
        return any(fnmatchcase(table, pattern) for pattern in self.tables)


class MysqlAudit(AuditBase):
    """One audit of MySQL or MariaDB."""

    mysql: MysqlStore


@dataclass(slots=True)
class _Found:
    """What one reading gathers on its way."""

    now: Mark
    before: Mark | None
    logs: bool = False
    """The server writes a binary log."""
    by_row: bool = False
    """Every changed row is in that log, but for statements about tables as a whole."""
    server_id: int = 0
    changes: list[Change] = field(default_factory=list)
    unknown: str | None = None
    grade: str = ""
    tells_own: bool = True
    notes: list[str] = field(default_factory=list)
    log: Log | None = None
    counters: Counters | None = None
    fence: Fence = field(default_factory=Fence)


class MysqlSource:
    """One server's records."""

    def __init__(self, spec: MysqlAudit, *, timeout: float, tools: Tools) -> None:
        self._store = spec.mysql
        self._timeout = timeout
        self._own = tools.own
        self._keys: dict[str, Key] = {}
        self._counters: Counters | None = None
        """By table; in memory only, since they may be many. The mark has their sum."""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        session = Session(self._store.server, timeout=ANSWER_WITHIN * self._timeout)
        until = time.monotonic() + READ_FOR * self._timeout
        known = self._counters

        def work() -> _Found:
            with session:
                return self._read(session, mark, until, known)

        try:
            found = await in_thread(work, session.cord)
        except Answered as answer:
            raise Unreachable(f"{self._store.server.place} answered {answer}") from None
        self._counters = found.counters
        return Reading(
            mark=str(found.now),
            changes=tuple(found.changes),
            unknown=found.unknown,
            open=found.fence.open,
            grade=found.grade,
            tells_own=found.tells_own,
            notes=tuple(found.notes),
        )

    async def aclose(self) -> None:
        """Nothing is held."""

    def _read(self, session: Session, mark: str | None, until: float, known: Counters | None) -> _Found:
        found = self._state(session, mark)
        before = found.before
        found.counters = counters(session, self._store.wants)
        if found.now.file and self._store.binlog:
            self._by_rows(session, found, until)
        if found.log is None and found.logs:
            self._by_position(session, found)
        elif found.log is None:
            self._by_counters(found, known)
        found.fence = fence(session, before.prepared if before else None)
        found.notes += found.fence.notes
        if found.logs:
            self._unlogged(session, found, known)
        events = scheduled(session)
        found.notes += [events] if events else []
        found.now = replace(
            found.now,
            counter=found.counters.source,
            total=found.counters.total,
            whole=found.counters.whole,
            open_rows=found.fence.rows,
            prepared=found.fence.prepared,
        )
        return found

    def _state(self, session: Session, mark: str | None) -> _Found:
        """Which server answers, where its log stands, and whether it is still the one of the mark."""
        now = Mark(server=identity(session), started=started(session))
        logs, form, number = session.one("SELECT @@log_bin, @@global.binlog_format, @@server_id")
        found = _Found(
            now=now,
            before=parsed(mark) if mark else None,
            logs=logs in (1, "ON"),
            by_row=str(form).upper() == "ROW",
            server_id=int(number),
        )
        if mark and found.before is None:
            found.unknown = "the mark of the reading before cannot be read"
        before = found.before
        if before is not None and before.server != now.server:
            found.unknown, found.before = "another server answers than at the reading before", None
        elif before is not None and abs(before.started - now.started) > STARTED_WITHIN:
            found.unknown = "the server was started again since the reading before"
        if found.logs:
            gtid = session.one(
                "SELECT @@gtid_binlog_pos" if session.mariadb else "SELECT @@global.gtid_executed"
            )
            at = self._position(session, found)
            found.now = replace(
                now,
                gtid=str(gtid[0] or "").replace("\n", ""),
                file=at.file if at else "",
                at=at.at if at else 0,
            )
        return found

    @staticmethod
    def _position(session: Session, found: _Found) -> Position | None:
        """The end of the log; None when the account may not ask."""
        try:
            try:
                status = session.dicts("SHOW MASTER STATUS" if session.mariadb else "SHOW BINARY LOG STATUS")
            except Answered as answer:
                if answer.code != SYNTAX:
                    raise
                status = session.dicts("SHOW MASTER STATUS")
        except Answered as answer:
            found.notes.append(f"the place in the binlog is not seen ({answer})")
            return None
        for row in status:
            left_out = [name for name in ("binlog_do_db", "binlog_ignore_db") if row.get(name)]
            if left_out:
                found.notes.append(f"the binlog leaves databases out ({', '.join(left_out)})")
            return Position(file=str(row["file"]), at=int(row["position"]))
        return None

    # -- the rows of the log ----------------------------------------------------------------------

    def _by_rows(self, session: Session, found: _Found, until: float) -> None:
        """Read the log from where the reading before left off. Sets `log` when that could be done."""
        now, before = found.now, found.before
        end = Position(file=now.file, at=now.at)
        start = Position(file=before.file, at=before.at) if before and before.file else end
        anew = before is not None and before.file and self._begun_anew(session, before, now)
        reader = Reader(
            session=session,
            cord=session.cord,
            timeout=ANSWER_WITHIN * self._timeout,
            until=until,
            wanted=self._store.wants,
            ours=lambda token: ("mysql", token) in self._own,
            server=now.server,
            server_id=found.server_id,
            keys=self._keys,
        )
        try:
            log = reader.read(end if anew else start)
            if before and before.born and log.first_born != before.born and not anew:
                anew, log = True, reader.read(end)
        except Answered as answer:
            if answer.code in DENIED:
                found.notes.append(f"the binlog cannot be read, which takes REPLICATION SLAVE ({answer})")
                return
            if answer.code != NOT_THERE or start == end:
                raise
            found.unknown = found.unknown or "the binlog of the reading before is gone: purged, or begun anew"
            log = reader.read(end)
        if anew:
            found.unknown = (
                found.unknown or "the binlog was begun anew since the reading before (RESET MASTER)"
            )
        self._take(found, log)

    def _take(self, found: _Found, log: Log) -> None:
        found.log, found.grade = log, "binlog rows" if found.by_row else "binlog statements"
        found.changes += log.changes
        found.notes += sorted(log.undecoded)
        if log.whole:
            found.now = replace(found.now, file=log.end.file, at=log.end.at, born=log.born)
        else:
            found.unknown = (
                found.unknown or f"more was written than can be read: stopped after {log.rows} rows"
            )
            found.now = replace(found.now, born=log.born if log.end.file == found.now.file else 0)

    @staticmethod
    def _begun_anew(session: Session, before: Mark, now: Mark) -> bool:
        """Was the log thrown away and begun again, under names that look like the old ones?"""
        old, new = Position(file=before.file, at=before.at), Position(file=now.file, at=now.at)
        if (new.number, new.at) < (old.number, old.at):
            return True
        if session.mariadb:
            return mariadb_between(before.gtid, now.gtid) is None
        return bool(before.gtid and session.one("SELECT GTID_SUBTRACT(%s, %s)", (before.gtid, now.gtid))[0])

    # -- less ------------------------------------------------------------------------------------

    def _by_position(self, session: Session, found: _Found) -> None:
        """How many transactions the log has grown by, not where."""
        found.grade = "binlog position"
        now, before = found.now, found.before
        found.tells_own = session.mariadb
        if before is None:
            return
        number, own = 0, 0
        if session.mariadb:
            between = mariadb_between(before.gtid, now.gtid)
            if between is None:
                found.unknown = found.unknown or "the binlog was begun anew since the reading before"
                return
            number = between[0]
            own = sum(("mysql", f"{now.server}/{gtid}") in self._own for gtid in between[1])
        elif now.gtid or before.gtid:
            if session.one("SELECT GTID_SUBTRACT(%s, %s)", (before.gtid, now.gtid))[0]:
                found.unknown = found.unknown or "the binlog was begun anew since the reading before"
                return
            number = mysql_count(str(session.one("SELECT GTID_SUBTRACT(%s, %s)", (now.gtid, before.gtid))[0]))
        elif (now.file, now.at) != (before.file, before.at):
            number = 1
        elif not now.file:
            found.unknown = found.unknown or "neither GTIDs nor the place in the binlog can be read"
        for count, ours in ((number - own, False), (own, True)):
            if count:
                found.changes.append(
                    Change(what="the binlog", operation="transaction", count=count, own=ours)
                )

    def _by_counters(self, found: _Found, known: Counters | None) -> None:
        """Rows that the server, or a table, counts as changed."""
        now, before = found.counters, self._counted(found, known)
        if now is None:
            return
        found.grade, found.tells_own = now.grade, False
        if before is None:
            if found.before is not None and found.unknown is None:
                found.unknown = "other counters are read than at the reading before"
            return
        found.changes += now.since(before)
        if now.set_back(before):
            found.unknown = found.unknown or "the counters were set back since the reading before"
        elif now.whole != before.whole:
            asked = now.whole - before.whole
            found.unknown = (
                found.unknown or f"{asked} × TRUNCATE, DROP, ALTER or the like, which no row counts"
            )

    @staticmethod
    def _counted(found: _Found, known: Counters | None) -> Counters | None:
        """The counters of the reading before; after a restart of the watchdog or the server not by table."""
        now, before = found.counters, found.before
        if now is None or before is None or before.counter != now.source:
            return None
        if abs(before.started - found.now.started) > STARTED_WITHIN:
            # A server writes to its own tables when it starts; to those of its users it does not.
            return Counters(source=before.counter, total=0, tables={}) if now.tables is not None else None
        if known is not None and (known.source, known.total) == (before.counter, before.total):
            return known
        return Counters(source=before.counter, total=before.total, whole=before.whole)

    def _unlogged(self, session: Session, found: _Found, known: Counters | None) -> None:
        """Rows that were changed and that the log does not show."""
        now, before, counted = found.counters, found.before, self._counted(found, known)
        if now is None or before is None or counted is None:
            return
        log = found.log or Log(end=Position(file="", at=0))
        silent = not (log.rows or log.statements or found.changes)
        if not silent and (found.log is None or not found.by_row):
            return
        if now.tables is None and (log.statements or log.foreign or not log.whole):
            return  # what accounts, events and replication change in the server's own tables counts as well
        changed = now.total - counted.total
        logged = log.rows if now.tables is None else log.wanted_rows
        found.now = replace(found.now, ahead=min(0, changed - logged))
        hidden = changed + before.ahead - logged
        if hidden > 0:
            found.fence.rows = open_rows(session, found.fence.rows, hidden + before.open_rows)
            hidden -= max(0, found.fence.rows - before.open_rows)
        if hidden > 0 and found.unknown is None:
            found.unknown = _hidden(hidden, now, counted)


def _hidden(rows: int, now: Counters, counted: Counters) -> str:
    said = f"{rows} × changed row that the binlog does not show: {UNLOGGED}"
    if now.tables is None:
        return f"{said}, or in a temporary table; SET GLOBAL userstat = 1 (MariaDB) tells them apart"
    named = dict.fromkeys(change.what for change in now.since(counted))
    return f"{said}; in {', '.join(list(named)[:3]) or 'a table that is not known'}"


def mysql_audit(spec: MysqlAudit, timeout: float, tools: Tools) -> MysqlSource:
    """What `spec` reads."""
    return MysqlSource(spec, timeout=timeout, tools=tools)
