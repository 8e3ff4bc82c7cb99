"""A session that is kept from before the window, as a connection pool keeps one.

Pooled sessions are the classic hole of a freeze: a setting that reaches new sessions may never reach theirs.
When the session is lost it is opened again, as a pool would; what that one shows says nothing of those from
before.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

C = TypeVar("C")


class HeldSession(Generic[C]):
    """At most one open session. `opens` and `now()` are epoch seconds."""

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[C]],
        close: Callable[[C], Awaitable[None]],
        opens: float,
        now: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._close = close
        self._opens = opens
        self._now = now
        self._session: C | None = None
        self._since = 0.0

    async def get(self) -> C:
        """The session, opened where there is none. Raises what `connect` raises."""
        if self._session is None:
            began = self._now()
            self._session = await self._connect()
            self._since = began
        return self._session

    @property
    def from_before(self) -> bool:
        """The session that is open now was opened before the window."""
        return self._session is not None and self._since < self._opens

    @property
    def since(self) -> float:
        """When the session was opened (epoch seconds)."""
        return self._since

    async def drop(self) -> None:
        """Let go of the session, whatever state it is in."""
        session, self._session = self._session, None
        if session is not None:
            await self._close(session)
