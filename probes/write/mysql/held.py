"""A write over a session from before the window, as a connection pool keeps one.

`SET GLOBAL tx_read_only` and the like reach new sessions only: what this session may still do, every pooled
one may. Where the operator ended the old sessions with KILL, there is nothing left to write with, and that
is as good as a refusal; a session that was lost in another way proves nothing and is opened again.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace

from probes.answer import ExchangeError, OwnFault
from probes.base import Figure
from probes.refusal import Class, Judgement
from probes.stores.mysql import (
    STARTED_WITHIN,
    Answered,
    Session,
    identity,
    in_thread,
    started,
    status,
)
from probes.tools import Tools
from probes.write.canary import Canary
from probes.write.mysql.spec import HeldMysql
from probes.write.mysql.target import MysqlTarget
from probes.write.session import HeldSession
from probes.write.target import Tried

KILLED_MARIADB, KILLED_MYSQL = 1927, 3169
KILLED = frozenset({KILLED_MARIADB, KILLED_MYSQL})
"""The server's own word that it ended a session."""
SHUTDOWN = 1053
ENDED = "the server ended the session from before the window"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Contact:
    """What was true of the server when the session was last known to live."""

    server: str
    started: int
    kills: int


class HeldMysqlTarget(MysqlTarget):
    """One table to write to, each attempt on the one session that is held."""

    def __init__(self, spec: HeldMysql, *, timeout: float, tools: Tools) -> None:
        super().__init__(spec, timeout=timeout, tools=tools)
        self._held = HeldSession(connect=self._connect, close=self._let_go, opens=tools.opens, now=tools.now)
        self._contact: _Contact | None = None
        self._busy = asyncio.Lock()

    async def _connect(self) -> Session:
        session = self._session()

        def work() -> Session:
            try:
                session.open()
                self._contact = _contact(session)
            except BaseException:
                session.close()
                raise
            return session

        return await in_thread(work, session.cord)

    @staticmethod
    async def _let_go(session: Session) -> None:
        session.cord.cut()
        session.close()

    async def hold(self) -> None:
        """Open the session where there is none, and keep it alive. Raises nothing."""
        if self._busy.locked():
            return
        async with self._busy:
            try:
                async with asyncio.timeout(self._timeout):
                    session = await self._held.get()
                    await in_thread(lambda: self._touch(session), session.cord)
            except (Answered, ExchangeError, TimeoutError):
                await self._held.drop()
            except asyncio.CancelledError:
                await self._held.drop()
                raise

    def _touch(self, session: Session) -> None:
        self._contact = _contact(session)

    async def attempt(self, canary: Canary) -> Tried:
        """One write on the session that is held."""
        async with self._busy:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout):
                    session = await self._held.get()
            except OwnFault:
                raise
            except (Answered, ExchangeError, TimeoutError) as error:
                why = str(error) or f"no answer within {self._timeout:.3g} s"
                return Tried(
                    judgement=None,
                    unanswered=f"no session could be opened: {why}",
                    duration_s=time.perf_counter() - began,
                    figures={"from_before": False},
                    traceless=True,
                    may_land=False,
                )
            try:
                return await self._over(session, canary, began)
            except BaseException:
                await self._held.drop()
                raise

    async def _over(self, session: Session, canary: Canary, began: float) -> Tried:
        """One write over `session`; what is lost is let go of, and opened again when it is needed."""
        from_before = self._held.from_before
        figures: dict[str, Figure] = {"from_before": from_before, "session_since": self._held.since}

        def work() -> str:
            try:
                return self._write(session, canary)
            finally:
                with contextlib.suppress(Answered, ExchangeError):
                    self._touch(session)

        tried = await self._tried(session, canary, work, began=began, figures=figures)
        code = int(tried.judgement.code or 0) if tried.judgement else None
        if code is not None and code not in KILLED | {SHUTDOWN}:
            return tried
        left = self._timeout - (time.perf_counter() - began)
        ended = from_before and (code in KILLED or await self._was_killed(session, left))
        await self._held.drop()
        if not ended:
            return tried
        killed = Judgement(kind=Class.PROPER, reason=ENDED, code=str(code or KILLED_MARIADB))
        return replace(tried, judgement=killed)

    async def _was_killed(self, session: Session, within: float) -> bool:
        """A session that just closes says not why. It was killed when the server, still in the same run,
        knows it no more and has carried out a KILL since.
        """
        before = self._contact
        if before is None or within <= 0:
            return False
        aside = Session(self._place.server, timeout=within)

        def ask() -> bool:
            with aside:
                now = _contact(aside)
                same = now.server == before.server and abs(now.started - before.started) <= STARTED_WITHIN
                known = {row["id"] for row in aside.dicts("SHOW FULL PROCESSLIST")}
                return same and now.kills > before.kills and session.id not in known

        try:
            async with asyncio.timeout(within):
                return await in_thread(ask, aside.cord)
        except (Answered, ExchangeError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Close the session. Raises nothing."""
        await self._held.drop()


def _contact(session: Session) -> _Contact:
    kills = status(session, "Com_kill").get("com_kill", 0)
    return _Contact(server=identity(session), started=started(session), kills=kills)
