"""A session from before the window: what it shows counts only while it is really that session."""

from __future__ import annotations

import pytest

from probes.write.session import HeldSession

OPENS = 1000.0


class Clock:
    def __init__(self, moment: float) -> None:
        self.moment = moment

    def __call__(self) -> float:
        return self.moment


class Server:
    """Gives out numbered sessions, and remembers which were closed."""

    def __init__(self) -> None:
        self.given = 0
        self.closed: list[int] = []
        self.down = False

    async def connect(self) -> int:
        if self.down:
            raise ConnectionRefusedError
        self.given += 1
        return self.given

    async def close(self, session: int) -> None:
        self.closed.append(session)


def held(server: Server, clock: Clock) -> HeldSession[int]:
    return HeldSession(connect=server.connect, close=server.close, opens=OPENS, now=clock)


async def test_one_session_is_kept() -> None:
    server, clock = Server(), Clock(OPENS - 60)
    session = held(server, clock)

    assert [await session.get(), await session.get()] == [1, 1]
    clock.moment = OPENS + 60
    assert session.from_before


async def test_a_session_opened_in_the_window_is_not_from_before() -> None:
    session = held(Server(), Clock(OPENS))

    await session.get()

    assert not session.from_before


async def test_a_session_that_was_lost_is_not_from_before_when_it_comes_back() -> None:
    server, clock = Server(), Clock(OPENS - 60)
    session = held(server, clock)
    await session.get()
    clock.moment = OPENS + 60

    await session.drop()
    assert not session.from_before
    assert await session.get() == 2

    assert not session.from_before
    assert server.closed == [1]


async def test_no_session_is_from_before_while_there_is_none() -> None:
    server = Server()
    server.down = True
    session = held(server, Clock(OPENS - 60))

    with pytest.raises(ConnectionRefusedError):
        await session.get()

    assert not session.from_before
    await session.drop()
    assert server.closed == []
