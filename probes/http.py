"""One HTTP exchange: phases timed in the transport, body capped, failures named. Judges nothing.

The interface is httpx's (Request, Response, `AsyncBaseTransport`); the wire is aiohttp's, because
httpx's own pool books its queue as the server's latency (figures: docs/explanation/transport.md).
Redirects are followed only when asked; cookies are never kept; proxies of the environment are not used.

Errors::

    ExchangeError            no usable answer
    ├── Unreachable          the target, or the way to it: refused, reset, timed out, TLS, DNS
    └── OwnFault             the watchdog itself: no network, no file descriptors, no memory
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.helpers import sentinel
from yarl import URL

from probes.clockwork import TIMELINE, Timeline, mark

BODY_CAP = 1 << 20
"""Bytes of an answer that are read; what is longer is cut and marked `truncated`."""
HEADER_CAP = 64 << 10
REDIRECTS = 5

OWN_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "ENETUNREACH",
        "ENETDOWN",
        "EADDRNOTAVAIL",
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOMEM",
    )
    if hasattr(errno, name)
)


class ExchangeError(Exception):
    """No usable answer. `phases` holds the seconds spent until then."""

    def __init__(self, reason: str, phases: dict[str, float] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.phases = phases or {}


class Unreachable(ExchangeError):
    """The target, or the way to it, gave no answer."""


class OwnFault(ExchangeError):
    """The watchdog could not ask: this says nothing about the target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back. `headers` keeps order and repetition; `phases` are seconds."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    truncated: bool = False
    peer: str = ""
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Seconds that the target took, our own delay taken out."""
        return sum(self.phases.values()) - self.phases.get("own", 0.0)

    def header(self, name: str) -> list[str]:
        """All values of a header, in order."""
        wanted = name.lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    @property
    def media_type(self) -> str:
        """The media type without parameters, in lower case; empty when none is stated."""
        stated = self.header("content-type")
        return stated[0].split(";")[0].strip().lower() if stated else ""

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")


class _TimedResolver(AbstractResolver):
    """The system's resolver in threads of its own, so that a hung look-up delays no other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM),
        )
        mark("dns")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


Recorder = Callable[[httpx.Request, "Answer | ExchangeError"], None]
"""Hears of every exchange in full, for whoever wants to show it."""


class Transport(httpx.AsyncBaseTransport):
    """httpx's transport interface over aiohttp. One for a process; close it with `aclose`.

    Connections are kept alive for `GET` and `HEAD` unless `fresh`; a write always has its own.
    There is no limit on connections and so no queue: the schedule bounds what is in flight.
    """

    def __init__(self, *, body_cap: int = BODY_CAP, record: Recorder | None = None) -> None:
        self._body_cap = body_cap
        self._record = record
        self._sessions: dict[tuple[bool, str], aiohttp.ClientSession] = {}
        self._resolver = _TimedResolver()

    def _session(self, *, keep: bool, verify: str) -> aiohttp.ClientSession:
        session = self._sessions.get((keep, verify))
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                force_close=not keep,
                resolver=self._resolver,
                ssl=_tls(verify),
                ttl_dns_cache=10,
                keepalive_timeout=15 if keep else sentinel,
            )
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                skip_auto_headers=("User-Agent",),
                trust_env=False,
                requote_redirect_url=False,
                max_line_size=HEADER_CAP,
                max_field_size=HEADER_CAP,
            )
            # aiohttp asks PUT, DELETE and GET again on its own when a connection breaks: a second
            # attempt that nobody counts. It has no public switch; its own test client uses this one.
            session._retry_connection = False
            self._sessions[keep, verify] = session
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange, no redirect followed. `extensions['timeout']` may hold seconds under `total`."""
        timeout = float(request.extensions.get("timeout", {}).get("total", 5.0))
        answer = await self.exchange(
            request, timeout=timeout, verify=str(request.extensions.get("verify", "yes"))
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Bytes(answer.body),
            extensions={"phases": answer.phases, "truncated": answer.truncated},
        )

    async def exchange(
        self,
        request: httpx.Request,
        *,
        timeout: float,
        fresh: bool | None = None,
        verify: str = "yes",
    ) -> Answer:
        """Send `request` and read the answer within `timeout` seconds.

        Raises Unreachable or OwnFault; both carry the phases up to the failure.
        """
        if self._record is None:
            return await self._timed(request, timeout, fresh=fresh, verify=verify)
        try:
            answer = await self._timed(request, timeout, fresh=fresh, verify=verify)
        except ExchangeError as error:
            self._record(request, error)
            raise
        self._record(request, answer)
        return answer

    async def _timed(
        self, request: httpx.Request, seconds: float, *, fresh: bool | None, verify: str
    ) -> Answer:
        keep = request.method in ("GET", "HEAD") if fresh is None else not fresh
        timeline = Timeline()
        token = TIMELINE.set(timeline)
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._once(request, timeline, keep=keep, verify=verify)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not keep or "connect" in timeline.phases:
                        raise
                # A kept connection that the server closed while it was idle is no failure (RFC 9112
                # §9.3.1): ask once more, on a connection of its own.
                timeline.restart()
                return await self._once(request, timeline, keep=False, verify=verify)
        except TimeoutError:
            waiting = _next_phase(timeline.phases)
            reason = f"no answer within {seconds:g} s (waiting for {waiting})"
            raise Unreachable(reason, timeline.phases) from None
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise _failure(error, timeline.phases) from None
        finally:
            TIMELINE.reset(token)

    async def _once(self, request: httpx.Request, timeline: Timeline, *, keep: bool, verify: str) -> Answer:
        session = self._session(keep=keep, verify=verify)
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.headers.raw
            if name.lower() not in (b"content-length", b"transfer-encoding")
        ]
        async with session.request(
            request.method,
            URL(str(request.url), encoded=True),
            headers=headers,
            data=request.content or None,
            allow_redirects=False,
        ) as response:
            mark("first_byte")
            body, truncated = await _read(response, self._body_cap)
            mark("body")
            return Answer(
                status=response.status,
                headers=[(k.decode("latin-1"), v.decode("latin-1")) for k, v in response.raw_headers],
                body=body,
                truncated=truncated,
                peer=_peer(response),
                phases=timeline.phases,
            )

    async def aclose(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        await self._resolver.close()


async def follow(
    transport: Transport,
    request: httpx.Request,
    *,
    timeout: float,
    verify: str,
) -> Answer:
    """As `exchange`, following up to five redirects with GET; for reads that ask for it."""
    answer = await transport.exchange(request, timeout=timeout, verify=verify)
    for _ in range(REDIRECTS):
        location = answer.header("location")
        if answer.status not in (301, 302, 303, 307, 308) or not location:
            return answer
        target = request.url.join(location[0])
        headers = request.headers if target.host == request.url.host else {}
        request = httpx.Request("GET", target, headers=headers)
        answer = await transport.exchange(request, timeout=timeout, verify=verify)
    return answer


class _Bytes(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def _tls(verify: str) -> ssl.SSLContext | bool:
    if verify == "no":
        return False
    return ssl.create_default_context(cafile=None if verify == "yes" else verify)


async def _read(response: aiohttp.ClientResponse, cap: int) -> tuple[bytes, bool]:
    """The body up to `cap` bytes, and whether there was more."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > cap:
            response.close()
            return b"".join(chunks)[:cap], True
    return b"".join(chunks), False


def _peer(response: aiohttp.ClientResponse) -> str:
    connection = response.connection
    transport = connection.transport if connection else None
    address: Any = transport.get_extra_info("peername") if transport else None
    return str(address[0]) if isinstance(address, tuple) else ""


def _next_phase(phases: dict[str, float]) -> str:
    if "first_byte" in phases:
        return "the rest of the body"
    return "the first byte" if "connect" in phases or not phases else "the connection"


def _failure(error: Exception, phases: dict[str, float]) -> ExchangeError:
    """Name a failure of the transport, and say whose it is."""
    cause: BaseException = error
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_AGAIN:
            return OwnFault(f"the name could not be looked up just now: {cause.strerror}", phases)
        return Unreachable(f"the name is not known: {cause.strerror}", phases)
    if isinstance(cause, ssl.SSLError):
        return Unreachable(f"TLS failed: {cause.reason or cause}", phases)
    if isinstance(cause, OSError) and cause.errno in OWN_ERRNOS:
        return OwnFault(f"the watchdog could not ask: {cause.strerror or cause}", phases)
    if isinstance(cause, ConnectionRefusedError):
        return Unreachable("connection refused", phases)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Unreachable("the server closed the connection without an answer", phases)
    return Unreachable(f"{type(cause).__name__}: {cause}", phases)
