"""The HTTP under an MCP session: every exchange ends in time, and what the SDK hides is kept.

The SDK puts one error of its own in the place of every answer that is no 2xx, and groups of exceptions in the
place of a connection that failed. Imported where it is used alone: it needs the SDK (`freezewatch[mcp]`).
"""

import functools
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import anyio
import httpx2

from probes.answer import Answer, ExchangeError, OwnFault, Unreachable, failure
from probes.http import BODY_CAP
from probes.wire import tls
from probes.write.mcp.reply import RpcError, Said


@dataclass(slots=True)
class Course:
    """How far a session has come."""

    deadline: float
    stage: str = "in the connection"
    asked: bool = False
    said: Said | RpcError | None = None
    replied: float = 0.0
    http: Answer | None = None
    fault: ExchangeError | None = None
    error: Exception | None = None

    @property
    def left(self) -> float:
        """Seconds until its time is over."""
        return max(0.0, self.deadline - time.perf_counter())

    def hear(self, said: Said | RpcError) -> None:
        """This is the reply."""
        self.said, self.replied = said, time.perf_counter()


@functools.lru_cache(maxsize=16)
def _context(verify: str) -> ssl.SSLContext | bool:
    return tls(verify)


def trusted(verify: str) -> ssl.SSLContext | bool:
    """As httpx2 takes `yes`, `no` or the path of a file with authorities. Raises OwnFault."""
    try:
        return _context(verify)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror or error
        raise OwnFault(f"the certificates to trust in {verify} cannot be read: {said}") from None


class _Body(httpx2.AsyncByteStream):
    """The body of a reply. It breaks off where it is longer than anything we would read."""

    def __init__(self, stream: httpx2.AsyncByteStream, course: Course) -> None:
        self._stream = stream
        self._course = course

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._stream:
                size += len(chunk)
                if size > BODY_CAP:
                    self._course.fault = Unreachable("the reply is too long")
                    raise httpx2.ReadError("the reply is too long")
                yield chunk
        except httpx2.TransportError as error:
            self._course.fault = self._course.fault or _named(error)
            raise

    async def aclose(self) -> None:
        """Read no more of it."""
        await self._stream.aclose()


class Wire(httpx2.AsyncBaseTransport):
    """Ends every exchange in time, and keeps what the SDK hides: answers that are no 2xx, and failures."""

    def __init__(self, inner: httpx2.AsyncHTTPTransport, course: Course) -> None:
        self._inner = inner
        self._course = course

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange."""
        is_question = _wants_a_reply(request)
        try:
            with anyio.fail_after(self._course.left):
                response = await self._inner.handle_async_request(request)
                if is_question and not response.is_success:
                    return await self._kept(response)
        except TimeoutError:
            raise httpx2.ReadTimeout("time is over", request=request) from None
        except httpx2.TransportError as error:
            if is_question:
                self._course.fault = _named(error)
                self._course.asked &= not isinstance(error, httpx2.ConnectError)
            raise
        if is_question:
            self._course.http = None
            response.stream = _Body(cast(httpx2.AsyncByteStream, response.stream), self._course)
        return response

    async def _kept(self, response: httpx2.Response) -> httpx2.Response:
        """The same answer with its body read, which is kept."""
        body = b""
        try:
            async for chunk in cast(httpx2.AsyncByteStream, response.stream):
                body += chunk
                if len(body) > BODY_CAP:
                    break
        finally:
            await response.aclose()
        self._course.http = Answer(
            status=response.status_code,
            headers=list(response.headers.multi_items()),
            body=body[:BODY_CAP],
            truncated=len(body) > BODY_CAP,
        )
        return httpx2.Response(response.status_code, headers=response.headers, content=body[:BODY_CAP])

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()


def _wants_a_reply(request: httpx2.Request) -> bool:
    """A question; not a notification, the stream of the server's own messages or the end of the session."""
    return request.method == "POST" and "id" in json.loads(request.content)


def _named(error: BaseException) -> ExchangeError:
    """Whose failure it is: the system's own error is deep in what the libraries made of it."""
    todo: list[BaseException] = [error]
    seen: list[BaseException] = []
    while todo:
        each = todo.pop(0)
        if each in seen:
            continue
        seen.append(each)
        if isinstance(each, BaseExceptionGroup):
            todo.extend(each.exceptions)
        todo.extend(cause for cause in (each.__cause__, each.__context__) if cause is not None)
    for each in seen:
        if isinstance(each, socket.gaierror | ssl.SSLError) or (isinstance(each, OSError) and each.errno):
            return failure(each, {})
    if isinstance(error, httpx2.RemoteProtocolError):
        return Unreachable("the server closed the connection without an answer, or spoke no HTTP")
    if isinstance(error, httpx2.TimeoutException):
        return Unreachable("no connection or no answer in time")
    return Unreachable(f"the connection broke: {type(error).__name__}")
