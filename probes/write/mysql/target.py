"""The target that writes to MySQL or MariaDB.

By default `UPDATE t SET c = c WHERE false` on a fresh connection: the server refuses it where it refuses any
write, and where it does not, no row is touched. With `canary` a real row is written, read back and deleted.
A statement that hangs is looked at, then killed, so that it does not land when the lock is released.
Which error is the freeze stands in the specification; this room decides nothing.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from probes.answer import ExchangeError, OwnFault, Unreachable
from probes.base import Figure
from probes.refusal import Class, Judgement
from probes.stores.mysql import (
    LOCK_ERRORS,
    Answered,
    Session,
    bound,
    identity,
    in_thread,
    quoted,
)
from probes.tools import Tools
from probes.write.canary import Canary
from probes.write.mysql.spec import MysqlWrite, Scalar
from probes.write.target import Tried

T = TypeVar("T")

PATIENCE, LAST_WORD = 0.7, 0.95
"""Shares of the timeout: a statement is waited for so long, and what it waits for is found out by then."""
GLOBAL_LOCKS = ("backup lock", "global read lock", "commit lock")
PASSES = "although read_only is on: this account passes it (READ ONLY ADMIN or SUPER)"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """What is known of the table: the column to set to itself, and its primary key."""

    column: str
    key: tuple[str, ...]


class _Waited(Answered):
    """The statement was killed; the text says what it waited for."""


class MysqlTarget:
    """One table to write to, each attempt on a fresh connection."""

    within = 0.0
    unread: str | None = None
    believed = False
    undoable = True
    one_code = False

    def __init__(self, spec: MysqlWrite, *, timeout: float, tools: Tools) -> None:
        self._place = spec.mysql
        self._rule = spec.refusal
        self._timeout = timeout
        self._own = tools.own
        self._ours: deque[str] = deque()
        """What a thread learnt of our own writes, until the loop tells the audit."""
        self._shape: _Shape | None = None

    @property
    def tries(self) -> str:
        """The statement, for people."""
        place = self._place
        if place.canary is not None:
            return f"INSERT INTO {place.table}: {', '.join(place.canary)}"
        return f"UPDATE {place.table} … WHERE false"

    def _session(self) -> Session:
        return Session(self._place.server, timeout=self._timeout, patience=LAST_WORD * self._timeout)

    async def attempt(self, canary: Canary) -> Tried:
        """One write on a session of its own."""
        session = self._session()

        def work() -> str:
            try:
                return self._write(session.open(), canary)
            finally:
                session.close()

        return await self._tried(session, canary, work, began=time.perf_counter())

    async def _tried(
        self,
        session: Session,
        canary: Canary,
        work: Callable[[], str],
        *,
        began: float,
        figures: Mapping[str, Figure] | None = None,
    ) -> Tried:
        """Wait for `work`, or give it up when the timeout since `began` is over; what came of it."""
        judgement, unanswered = None, "no answer"
        row = self._place.row(canary)
        self._ours.extend(str(row[name]) for name in self._place.marked)
        self._tell()
        try:
            said = await self._patiently(session, canary, work, began)
            judgement = Judgement(kind=Class.ACCEPTED, reason=said)
        except _Waited as waited:
            judgement = Judgement(kind=Class.OTHER, reason=waited.said, code=str(waited.code))
        except Answered as answer:
            judgement = self._rule.judge(answer)
        except OwnFault:
            raise
        except ExchangeError as error:
            unanswered = error.reason
        finally:
            self._tell()
        traceless = self._place.canary is None
        return Tried(
            judgement=judgement,
            unanswered=unanswered,
            duration_s=time.perf_counter() - began,
            figures=figures or {},
            traceless=traceless,
            may_land=not traceless,
        )

    async def _patiently(
        self, session: Session, canary: Canary, work: Callable[[], str], began: float
    ) -> str:
        """What `work` gives; a statement that hangs is looked at and killed in the rest of the time."""

        def left(share: float) -> float:
            return max(0.0, began + share * self._timeout - time.perf_counter())

        running = asyncio.ensure_future(in_thread(work, session.cord))
        waits = None
        try:
            await asyncio.wait({running}, timeout=left(PATIENCE))
            if not running.done():
                waits = await self._killed(session, canary, left(LAST_WORD))
                await asyncio.wait({running}, timeout=left(1.0))
            if not running.done():
                raise Unreachable(waits or f"no answer within {self._timeout:.3g} s")
            try:
                return running.result()
            except Answered as answer:
                if waits is not None and answer.code in LOCK_ERRORS:
                    raise _Waited(answer.code, waits) from None
                raise
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def _killed(self, session: Session, canary: Canary, within: float) -> str | None:
        """What the statement of `session` waits for, once it is killed; None where that cannot be told."""
        aside = Session(self._place.server, timeout=within)

        def kill() -> str | None:
            with aside:
                for row in aside.dicts("SHOW FULL PROCESSLIST"):
                    # Behind a proxy the number may be another one's: only a statement of ours is killed.
                    if row["id"] == session.id and canary.text in str(row["info"]):
                        aside.run(f"KILL QUERY {session.id:d}")
                        return _waiting(str(row["state"] or ""))
                return None

        try:
            async with asyncio.timeout(within):
                return await in_thread(kill, aside.cord)
        except (Answered, ExchangeError, TimeoutError):
            return None

    def _write(self, session: Session, canary: Canary) -> str:
        """The write itself; returns what was accepted, raises what was answered."""
        shape, place = self._known(session), self._place
        if place.canary is None:
            table, column = quoted(*place.names), quoted(shape.column)
            session.run(f"UPDATE /* {canary.text} */ {table} SET {column} = {column} WHERE false")  # noqa: S608
            said = f"UPDATE of {place.table} was accepted"
        else:
            row = place.row(canary)
            into, values = ", ".join(map(bound, row)), ", ".join(["%s"] * len(row))
            insert = f"INSERT /* {canary.text} */ INTO {bound(*place.names)} ({into}) VALUES ({values})"  # noqa: S608
            session.run(insert, tuple(row.values()))
            said = f"INSERT into {place.table} was accepted"
        # What follows is only about the write: its failure does not undo that it was accepted.
        with contextlib.suppress(Answered, ExchangeError):
            self._note(session)
            if session.one("SELECT @@global.read_only")[0] not in (0, "0", "OFF"):
                return f"{said}, {PASSES}"
        return said

    def _note(self, session: Session) -> None:
        """Learn which transaction was ours; under MIXED even a write of no row is one."""
        if session.mariadb:
            for gtid in filter(None, session.one("SELECT @@last_gtid")):
                self._ours.append(f"{identity(session)}/{gtid}")

    def _tell(self) -> None:
        while self._ours:
            self._own.note("mysql", self._ours.popleft())

    def _known(self, session: Session) -> _Shape:
        """Column and primary key, asked once. Raises Unreachable when the table cannot be seen."""
        if self._shape is None:
            rows = session.run(
                "SELECT COLUMN_NAME, COLUMN_KEY FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND"
                " TABLE_NAME = %s AND COALESCE(GENERATION_EXPRESSION, '') = '' ORDER BY ORDINAL_POSITION",
                self._place.names,
            )
            if not rows:
                raise Unreachable(f"{self._place.table} is not there, or the account cannot see its columns")
            key = tuple(str(name) for name, which in rows if which == "PRI")
            self._shape = _Shape(column=self._place.column or str(rows[0][0]), key=key)
        return self._shape

    def _where(self, canary: Canary) -> tuple[str, list[Scalar]]:
        """The canary's row and no other: compared as text too, since as a number most texts are 0."""
        row, marked = self._place.row(canary), self._place.marked
        each = [f"{bound(name)} = %s AND CAST({bound(name)} AS CHAR) = %s" for name in marked]
        return " AND ".join(each), [value for name in marked for value in (row[name], str(row[name]))]

    async def look(self, canary: Canary) -> bool | str:
        """Is the canary's row there? Asked on a fresh connection."""
        where, values = self._where(canary)
        select = f"SELECT 1 FROM {bound(*self._place.names)} WHERE {where} LIMIT 1"  # noqa: S608 - all quoted
        found = await self._aside(lambda session: bool(session.run(select, values)))
        return f"the read-back failed: {found}" if isinstance(found, str) else found

    async def undo(self, canary: Canary) -> str | None:
        """Delete the canary's row; None when it is gone, else why it is not."""
        if self._place.canary is None:
            return None
        try:
            return await self._aside(lambda session: self._delete(session, canary))
        finally:
            self._tell()

    async def _aside(self, work: Callable[[Session], T]) -> T | str:
        """What `work` gives on a session of its own, or why it gave nothing."""
        session = self._session()

        def run() -> T:
            with session:
                return work(session)

        try:
            async with asyncio.timeout(self._timeout):
                return await in_thread(run, session.cord)
        except ExchangeError as error:
            return error.reason
        except Answered as answer:
            return str(answer)
        except TimeoutError:
            return f"no answer within {self._timeout:.3g} s"

    def _delete(self, session: Session, canary: Canary) -> None:
        """By primary key, so that no other row is locked on the way to it."""
        where, values = self._where(canary)
        key, table = self._known(session).key, bound(*self._place.names)
        chosen = ", ".join(map(bound, key)) or "1"
        for row in session.run(f"SELECT {chosen} FROM {table} WHERE {where} LIMIT 9", values):  # noqa: S608
            exact = "".join(f" AND {bound(name)} = %s" for name in key)
            more = list(row) if key else []
            delete = f"DELETE /* {canary.text} */ FROM {table} WHERE {where}{exact}"
            session.run(delete, values + more)
            with contextlib.suppress(Answered, ExchangeError):
                self._note(session)

    async def aclose(self) -> None:
        """Nothing is held."""


def _waiting(state: str) -> str:
    everywhere = any(lock in state.lower() for lock in GLOBAL_LOCKS)
    return f"waits for a {'global ' if everywhere else ''}lock: {state or 'the server does not say which'}"
