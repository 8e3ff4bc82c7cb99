"""An MCP server as a program of ours: started for one session, and ended with everything it started.

The SDK's own way to do so prints the server's standard error, and takes seconds after the time is over to end
one that hangs. Imported where it is used alone: it needs the SDK (`freezewatch[mcp]`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from probes.answer import Unreachable
from probes.write.command.process import LAST_WORDS, Child, Invocation, start
from probes.write.mcp.wire import Course

POLITE = 0.5
"""Seconds that a server program is given to end by itself, and again once it was asked to."""


class _Server(Child):
    """A server program: each line that it prints is a message."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.fell_silent = False
        """It closed its output, which only its end should do."""
        self._rest = bytearray()

    def heard(self, fd: int, data: bytes) -> None:
        """Split into lines, and leave out what is no message: many servers print other things besides."""
        self._rest += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            if line.lstrip().startswith(b"{"):
                self.lines.put_nowait(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """No more lines."""
        super().pipe_connection_lost(fd, exc)
        if fd == 1:
            self.fell_silent = True
            self.lines.put_nowait(None)


@contextlib.asynccontextmanager
async def over_pipes(program: Invocation, course: Course) -> AsyncIterator[Any]:
    """Start the server; its standard error is thrown away, for it may hold anything."""
    server = _Server()
    try:
        await start(program, server, stdin=True, stderr=False)
        try:
            async with _streams(server) as streams:
                yield streams
        finally:
            if server.fell_silent or server.flooded:
                with anyio.CancelScope(shield=True):
                    course.fault = await _last_words(server)
        server.hang_up()
        if not await server.ends(min(POLITE, course.left)):
            server.terminate()
            await server.ends(min(POLITE, course.left))
    finally:
        server.kill()
        with anyio.CancelScope(shield=True):
            await server.release()


async def _last_words(server: _Server) -> Unreachable:
    """Why a server says no more."""
    if server.flooded:
        return Unreachable("the server program printed without end, and was ended")
    if not await server.ends(LAST_WORDS) or server.status is None:
        return Unreachable("the server program closed its output")
    how = f"with {server.status}" if server.status >= 0 else f"by signal {-server.status}"
    return Unreachable(f"the server program ended {how}")


@contextlib.asynccontextmanager
async def _streams(server: _Server) -> AsyncIterator[Any]:
    heard, reader = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writer, told = anyio.create_memory_object_stream[SessionMessage](0)

    async def hear() -> None:
        async with heard:
            while (line := await server.lines.get()) is not None:
                await asyncio.sleep(0)  # however many wait: the loop has others to serve
                with contextlib.suppress(ValueError):  # it looked like a message
                    message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    await heard.send(SessionMessage(message))

    async def tell() -> None:
        async for message in told:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            server.write(text.encode() + b"\n")

    async with heard, reader, writer, told, anyio.create_task_group() as group:
        group.start_soon(hear)
        group.start_soon(tell)
        try:
            yield reader, writer
        finally:
            group.cancel_scope.cancel()
