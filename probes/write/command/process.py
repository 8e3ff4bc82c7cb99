"""A program of the operator's, started so that nothing of it stays: no process, no pipe, no descriptor.

Each program leads a process group of its own, gets no environment but what is stated, and is ended with
everything it started. What it prints is kept up to a limit; one that prints without end is ended. A program
that leaves its process group (`setsid`) gets away: that is its declared wish. No shell is ever in between.
"""

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, cast

from pydantic import AfterValidator, Field

from probes.answer import OWN_ERRNOS, OwnFault

GIVEN = ("PATH", "HOME", "LANG")
"""Variables that a program gets from the watchdog's own environment; no other, for they may be secrets."""
FLOOD = 1 << 22
"""Bytes of output after which a program is ended."""
LAST_WORDS = 0.2
"""Seconds for which output is read on after a program has ended: a descendant may hold the pipe open."""
REAPING = 0.5
"""Seconds that the end of a killed process may take; one that the kernel holds longer is left to it."""
_OWN = OWN_ERRNOS | {errno.EAGAIN}


def _argument(text: str) -> str:
    if "\0" in text:
        raise ValueError("a program takes no text with a NUL in it")
    return text


def _program(run: list[str]) -> list[str]:
    if not run[0].strip():
        raise ValueError("the first item names the program, and is empty")
    return run


def _variables(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name for a variable")
    return env


Argument = Annotated[str, AfterValidator(_argument)]
Argv = Annotated[list[Argument], Field(min_length=1), AfterValidator(_program)]
"""A program and its arguments: never a line for a shell."""
Variables = Annotated[dict[str, Argument], AfterValidator(_variables)]


class NotStarted(Exception):
    """The program cannot be run; nothing of it has run."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """One run of a program. `stdin` is closed after it was written; None is none at all."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    stdin: bytes | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """All that the program gets."""
        return {name: os.environ[name] for name in GIVEN if name in os.environ} | dict(self.env)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a program ended. `status` is negative when a signal ended it; None when we did."""

    status: int | None
    stdout: bytes = b""
    stderr: bytes = b""
    flooded: bool = False
    """It printed without end and was ended for that."""


class Child(asyncio.SubprocessProtocol):
    """A program that runs. `heard` is called with what it prints; nothing here waits without an end."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        """It has ended, or there is nothing more to wait for."""
        self.silent = asyncio.Event()
        """Nothing more will come out of it."""
        self.flooded = False
        self._transport: asyncio.SubprocessTransport | None = None
        self._heard = 0
        self._open: set[int] = set()
        self._unwanted = False

    def heard(self, fd: int, data: bytes) -> None:
        """It printed `data` on standard output (1) or error (2)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._open = {fd for fd in (1, 2) if self._pipe(fd) is not None}
        if not self._open:
            self.silent.set()
        if self._unwanted:
            self._let_go()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """asyncio: it printed."""
        self._heard += len(data)
        if self._heard > FLOOD:
            self.flood()
        if not self.flooded:
            self.heard(fd, data)

    def flood(self) -> None:
        """It prints what nobody will read: end it."""
        self.flooded = True
        self.kill()
        self.over.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """asyncio: a pipe was closed; a program need not read what it is given."""
        self._open.discard(fd)
        if not self._open:
            self.silent.set()

    def process_exited(self) -> None:
        """asyncio: it ended."""
        self.over.set()

    @property
    def status(self) -> int | None:
        """How it ended; negative for a signal; None while it runs."""
        return self._transport.get_returncode() if self._transport else None

    def write(self, data: bytes) -> None:
        """Give it `data` on its standard input."""
        if isinstance(pipe := self._pipe(0), asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(data)

    def hang_up(self) -> None:
        """Close its standard input, once all of it is written."""
        if pipe := self._pipe(0):
            pipe.close()

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return self._transport.get_pipe_transport(fd) if self._transport else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to everything it started.

        Its process group outlives it while a member lives, so this holds after its own end as well.
        """
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), number)

    def terminate(self) -> None:
        """Ask it and everything it started to end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it started, at once."""
        self.signal(signal.SIGKILL)

    async def ends(self, seconds: float) -> bool:
        """Does it end within `seconds`?"""
        return await _within(self.over, seconds)

    async def release(self) -> None:
        """End what is left of it, and let go of its pipes. Takes `REAPING` at most."""
        self._unwanted = True  # it may be about to start
        if self._transport is None:
            return
        self.kill()
        try:
            await _within(self.over, REAPING)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self.kill()
        if self._transport is not None:
            with contextlib.suppress(PermissionError):  # a program that runs as somebody else
                self._transport.close()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    return event.is_set()


async def start(invocation: Invocation, child: Child, *, stdin: bool, stderr: bool = True) -> None:
    """Run it, with `child` as its ear, which must be released in any case. Raises NotStarted or OwnFault."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: child,
            *invocation.argv,
            stdin=pipe if stdin else nothing,
            stdout=pipe,
            stderr=pipe if stderr else nothing,
            env=invocation.environment,
            cwd=invocation.cwd,
            start_new_session=True,
        )
    )
    try:
        # Cancelled over this, asyncio ends the program but nothing that it started, and waits for that.
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    except OSError as error:
        if error.errno in _OWN:
            raise OwnFault(f"no program can be started: {error.strerror}") from None
        what = "the folder" if invocation.cwd and error.filename == invocation.cwd else "the program"
        raise NotStarted(f"{what} cannot be used: {error.strerror or type(error).__name__}") from None


class _Kept(Child):
    """Keeps the first `limit` bytes of each stream."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self.said = {1: bytearray(), 2: bytearray()}

    def heard(self, fd: int, data: bytes) -> None:
        kept = self.said[fd]
        kept += data[: self._limit - len(kept)]


async def run(invocation: Invocation, *, seconds: float, limit: int) -> Ended:
    """Run a program to its end, or end it: it is asked to stop a little before `seconds` are over.

    `limit` is the number of bytes that are kept of each stream. Raises NotStarted or OwnFault.
    """
    deadline = time.perf_counter() + seconds
    grace = min(0.5, seconds / 10)
    child = _Kept(limit)
    ended = False
    try:
        await start(invocation, child, stdin=invocation.stdin is not None)
        if invocation.stdin is not None:
            child.write(invocation.stdin)
            child.hang_up()
        ended = await child.ends(deadline - grace - time.perf_counter())
        if not ended:
            child.terminate()
            await child.ends(deadline - time.perf_counter())
        elif not child.flooded:
            await _within(child.silent, LAST_WORDS)
    finally:
        await child.release()
    return Ended(
        status=child.status if ended and not child.flooded else None,
        stdout=bytes(child.said[1]),
        stderr=bytes(child.said[2]),
        flooded=child.flooded,
    )
