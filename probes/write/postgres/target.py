"""A write to PostgreSQL: try it over a fresh session, or one from before the window, and name the answer.

Refuses to take for a refusal what a session's own options, a lock, a missing table or a lost session did.
What is written stands in `sql.py`, how it is configured in `spec.py`.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from probes.answer import ExchangeError, Unreachable
from probes.base import Figure
from probes.refusal import Class, Judgement
from probes.stores.postgres import Budget, Server, ServerError, Session, sets_read_only
from probes.tools import Tools
from probes.write.canary import Canary
from probes.write.postgres.spec import ENDED, NO_PRIVILEGE, READ_ONLY, TIMED_OUT, HeldPostgres, PostgresWrite
from probes.write.postgres.sql import way
from probes.write.session import HeldSession
from probes.write.target import Target, Tried

__all__ = ["HeldPostgresTarget", "PostgresTarget", "PostgresWrite", "postgres_write"]

TABLE_CHANGED = frozenset({"42703", "42P01"})
WHAT_REFUSES = """
SELECT pg_is_in_recovery(), source FROM pg_settings WHERE name = 'default_transaction_read_only'"""
SET_FOR = {
    "configuration file": "set for the server",
    "database": "set for the database",
    "user": "set for this role",
    "database user": "set for this role in this database",
    "client": "set by this session itself",
}
"""PostgreSQL's names for the sources of a setting, in words."""
ONE_ROLE = frozenset({"user", "database user"})
"""Sources of a setting that holds for one role."""


class PostgresTarget:
    """One table, or one statement, asked over a fresh session each time."""

    one_code = False
    within = 0.0
    unread: str | None = None
    believed = False
    undoable = True

    def __init__(self, spec: PostgresWrite, *, timeout: float, tools: Tools) -> None:
        self._refusal = spec.refusal
        self._timeout = timeout
        self._server = Server(spec.postgres.dsn, timeout)
        self._way = way(spec.postgres, tools.own)
        self._asks_read_only = sets_read_only(spec.postgres.dsn)
        self._accepted = False

    @property
    def tries(self) -> str:
        """What is tried, for people."""
        return self._way.tries

    @property
    def _over(self) -> str:
        """What is special about the session, where something is."""
        return ""

    async def attempt(self, canary: Canary) -> Tried:
        """One write, no other."""
        budget, phases = Budget(self._timeout), dict[str, float]()
        began = time.perf_counter()
        try:
            session = await self._open(budget)
        except Unreachable as error:
            phases["connect"] = time.perf_counter() - began
            return self._tried(None, error.reason, phases, may_land=False)
        phases["connect"] = time.perf_counter() - began
        try:
            return await self._asked(session, canary, budget, phases)
        finally:
            await self._release(session)

    async def _open(self, budget: Budget) -> Session:
        return await self._server.connect(budget.left)

    async def _release(self, session: Session) -> None:
        await session.close()

    async def _asked(
        self, session: Session, canary: Canary, budget: Budget, phases: dict[str, float]
    ) -> Tried:
        """Write, and name what came of it."""
        try:
            unable = await self._way.ready(session, budget)
        except Unreachable as error:
            # The write was not asked yet, so even a refusal here is none of it.
            return self._lost(error, phases) or self._tried(None, error.reason, phases, may_land=False)
        if unable is not None:
            return self._tried(Judgement(kind=Class.OTHER, reason=unable), "", phases)
        began = time.perf_counter()
        try:
            await self._way.write(session, canary, budget)
        except Unreachable as error:
            phases["statement"] = time.perf_counter() - began
            if isinstance(error, ServerError):
                return self._lost(error, phases) or await self._refused(session, error, budget, phases)
            return self._tried(None, error.reason, phases)
        phases["statement"] = time.perf_counter() - began
        self._accepted = True
        effect = self._way.side_effect
        judgement = Judgement(kind=Class.ACCEPTED, reason=f"{self._way.tries} was accepted{self._over}")
        return self._tried(judgement, "", phases, {"trace": f"unknown: {effect}"} if effect else None)

    def _lost(self, error: Unreachable, phases: Mapping[str, float]) -> Tried | None:
        """What the loss of the session itself says; None when nothing."""
        return None

    async def _refused(
        self, session: Session, error: ServerError, budget: Budget, phases: Mapping[str, float]
    ) -> Tried:
        """An error for an answer: the guard's, or another one's."""
        code = error.code
        if code in TIMED_OUT:
            return self._tried(None, f"{TIMED_OUT[code]}: {error.message}", phases, may_land=False)
        if code in TABLE_CHANGED:
            self._way.forget()
        by = await self._by(session, budget) if code == READ_ONLY else None
        kind = Class.PROPER if code in self._refusal.sqlstate else Class.OTHER
        reason = f"{error.reason} ({SET_FOR.get(by, by)})" if by else error.reason
        if kind is Class.PROPER and code == READ_ONLY and (by == "client" or self._asks_read_only):
            kind, reason = Class.OTHER, f"{error.reason}: by the session's own options, not by the server"
        judgement = Judgement(kind=kind, reason=reason, code=code, warnings=self._warnings(code, by))
        return self._tried(judgement, "", phases, {"by": by} if by else None)

    def _warnings(self, code: str, by: str | None) -> tuple[str, ...]:
        if code == NO_PRIVILEGE and not self._accepted:
            return ("this account was not seen to write here: it may never have had the privilege",)
        if by in ONE_ROLE:
            return ("read-only is set for this role alone: another role may still write",)
        return ()

    @staticmethod
    async def _by(session: Session, budget: Budget) -> str | None:
        """What makes transactions read-only: `hot standby`, `configuration file`, `database`, `user`."""
        try:
            [(standby, source)] = await session.run(WHAT_REFUSES, within=budget.left)
        except (ExchangeError, ValueError):
            return None
        return "hot standby" if standby else str(source)

    def _tried(
        self,
        judgement: Judgement | None,
        unanswered: str,
        phases: Mapping[str, float],
        figures: Mapping[str, Figure] | None = None,
        *,
        may_land: bool = True,
    ) -> Tried:
        return Tried(
            judgement=judgement,
            unanswered=unanswered or "no answer",
            duration_s=sum(phases.values()),
            phases=phases,
            figures=figures or {},
            traceless=self._way.traceless,
            may_land=may_land and not self._way.traceless,
        )

    async def look(self, canary: Canary) -> bool | str:
        """Is the canary there, for a session of its own?"""
        budget = Budget(self._timeout)
        try:
            session = await self._server.connect(budget.left)
            try:
                return await self._way.look(session, canary, budget)
            finally:
                await session.close()
        except ExchangeError as error:
            return f"the read-back failed: {error.reason}"

    async def undo(self, canary: Canary) -> str | None:
        """None when the canary is gone; otherwise why it is not."""
        if self._way.traceless:
            return None
        budget = Budget(self._timeout)
        try:
            session = await self._server.connect(budget.left)
            try:
                return await self._undone(session, canary, budget)
            finally:
                await session.close()
        except ExchangeError as error:
            return error.reason

    async def _undone(self, session: Session, canary: Canary, budget: Budget) -> str | None:
        """Undo, and see that it is gone: a trigger may keep a row that was deleted."""
        await self._way.ready(session, budget)
        await self._way.undo(session, canary, budget)
        still_there = await self._way.look(session, canary, budget)
        return "the undo was accepted, yet the canary is still there" if still_there else None

    async def aclose(self) -> None:
        """Nothing is held between attempts."""


class HeldPostgresTarget(PostgresTarget):
    """The same, asked over one session that is kept from before the window, as a pool keeps it."""

    def __init__(self, spec: PostgresWrite, *, timeout: float, tools: Tools) -> None:
        super().__init__(spec, timeout=timeout, tools=tools)
        self._held = HeldSession[Session](
            connect=self._connect, close=Session.close, opens=tools.opens, now=tools.now
        )

    @property
    def _over(self) -> str:
        return " over a session from before the window" if self._held.from_before else ""

    async def _connect(self) -> Session:
        return await self._server.connect(self._timeout)

    async def hold(self) -> None:
        """Open the session where there is none, and keep it alive; no transaction is left open."""
        budget = Budget(self._timeout)
        for _ in range(2):  # a session that was lost is opened again at once, as a pool would
            try:
                session = await self._held.get()
                await session.run("SELECT 1", within=budget.left)
            except ExchangeError:
                await self._held.drop()
            else:
                return

    async def attempt(self, canary: Canary) -> Tried:
        """One write over the session, which is opened where there is none."""
        tried = await super().attempt(canary)
        return replace(tried, figures={**self._figures, **tried.figures})

    async def _open(self, budget: Budget) -> Session:
        self._figures: dict[str, Figure] = {"from_before": False}
        session = await self._held.get()
        since = datetime.fromtimestamp(self._held.since, UTC).isoformat(timespec="seconds")
        self._figures = {"from_before": self._held.from_before, "session_since": since.replace("+00:00", "Z")}
        return session

    async def _release(self, session: Session) -> None:
        if session.lost:
            await self._held.drop()

    def _lost(self, error: Unreachable, phases: Mapping[str, float]) -> Tried | None:
        """A session that the server ended can write no more: that one is properly shut out."""
        if not isinstance(error, ServerError) or error.code != ENDED or not self._held.from_before:
            return None
        reason = f"the server ended the session from before the window ({error.reason})"
        return self._tried(Judgement(kind=Class.PROPER, reason=reason, code=ENDED), "", phases)

    async def undo(self, canary: Canary) -> str | None:
        """Over the session that let the write in, for a fresh one may be read-only; else over a fresh one."""
        if self._way.traceless:
            return None
        budget = Budget(self._timeout)
        try:
            session = await self._held.get()
            if await self._undone(session, canary, budget) is None:
                return None
        except ExchangeError:
            await self._held.drop()
        return await super().undo(canary)

    async def aclose(self) -> None:
        """End the session."""
        await self._held.drop()


def postgres_write(spec: PostgresWrite, timeout: float, tools: Tools) -> Target:
    """The target of a write surface, or of what is asked beside it."""
    kind = HeldPostgresTarget if isinstance(spec, HeldPostgres) else PostgresTarget
    return kind(spec, timeout=timeout, tools=tools)
