"""One HTTP exchange: phases timed in the transport, body capped, failures named. Judges nothing.

The interface is httpx's (Request, Response, `AsyncBaseTransport`); the wire is aiohttp's, because
httpx's own pool books its queue as the server's latency (figures: docs/explanation/transport.md).
Redirects are followed only when asked; cookies are never kept; proxies of the environment are not used.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from time import perf_counter

import aiohttp
import httpx
from aiohttp.helpers import sentinel
from multidict import CIMultiDict
from yarl import URL

from probes.answer import OWN_ERRNOS, Answer, ExchangeError, OwnFault, Unreachable, failure
from probes.clockwork import TIMELINE, Timeline, mark
from probes.wire import Connector, TimedResolver, read_body, tls

__all__ = [
    "BODY_CAP",
    "HEADER_CAP",
    "OWN_ERRNOS",
    "REDIRECTS",
    "Answer",
    "ExchangeError",
    "OwnFault",
    "Recorder",
    "Transport",
    "Unreachable",
    "follow",
]

BODY_CAP = 1 << 20
"""Bytes of an answer that are read; what is longer is cut and marked `truncated`."""
HEADER_CAP = 64 << 10
REDIRECTS = 5
LAST_PORT = 65535

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
        self._resolver = TimedResolver()

    def _session(self, *, keep: bool, verify: str) -> aiohttp.ClientSession:
        session = self._sessions.get((keep, verify))
        if session is None:
            connector = Connector(
                limit=0,
                force_close=not keep,
                resolver=self._resolver,
                ssl=_trusted(verify),
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
                auto_decompress=False,
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
            async with asyncio.timeout(seconds) as limit:
                return await self._once_or_again(request, timeline, keep=keep, verify=verify)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if limit.expired():
                reason = f"no answer within {seconds:g} s (waiting for {timeline.waiting})"
                raise Unreachable(reason, dict(timeline.phases)) from None
            raise failure(error, dict(timeline.phases)) from None
        finally:
            TIMELINE.reset(token)

    async def _once_or_again(
        self, request: httpx.Request, timeline: Timeline, *, keep: bool, verify: str
    ) -> Answer:
        try:
            return await self._once(request, timeline, keep=keep, verify=verify)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not timeline.reused or request.method not in ("GET", "HEAD"):
                raise
        # A kept connection that the server closed while it was idle is no failure (RFC 9112
        # §9.3.1): ask once more, on a connection of its own.
        return await self._once(request, timeline, keep=False, verify=verify)

    async def _once(self, request: httpx.Request, timeline: Timeline, *, keep: bool, verify: str) -> Answer:
        session = self._session(keep=keep, verify=verify)
        url, headers = _for_the_wire(request)
        timeline.restart()
        async with session.request(
            request.method,
            url,
            headers=headers,
            data=request.content or None,
            allow_redirects=False,
        ) as response:
            mark("first_byte")
            timeline.waiting = "the rest of the body"
            body, truncated = await read_body(response, self._body_cap)
            mark("body")
            return Answer(
                status=response.status,
                headers=[(k.decode("latin-1"), v.decode("latin-1")) for k, v in response.raw_headers],
                body=body,
                truncated=truncated,
                peer=timeline.peer,
                phases=timeline.phases,
            )

    async def aclose(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        await self._resolver.close()


def _for_the_wire(request: httpx.Request) -> tuple[URL, CIMultiDict[str]]:
    """What aiohttp takes; worked out once for a request that is sent again and again."""
    known: tuple[URL, CIMultiDict[str]] | None = request.extensions.get("wire")
    if known is None:
        headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.headers.raw
            if name.lower() not in (b"content-length", b"transfer-encoding")
        )
        known = request.extensions["wire"] = (URL(str(request.url), encoded=True), headers)
    return known


async def follow(
    transport: Transport,
    request: httpx.Request,
    *,
    timeout: float,
    verify: str,
    fresh: bool | None = None,
) -> Answer:
    """As `exchange`, following up to five redirects with GET; for those who ask for it.

    `timeout` seconds are for the whole way, whose phases are added up. What the user's own headers
    say is told to the same origin only (scheme, host and port).
    """
    ends = perf_counter() + timeout
    answer = await transport.exchange(request, timeout=timeout, verify=verify, fresh=fresh)
    phases = dict(answer.phases)
    for _ in range(REDIRECTS):
        target = _redirected(request, answer)
        if target is None:
            break
        request = target
        left = max(0.001, ends - perf_counter())
        try:
            answer = await transport.exchange(request, timeout=left, verify=verify, fresh=fresh)
        except ExchangeError as error:
            error.phases = _added(phases, error.phases)
            raise
        phases = _added(phases, answer.phases)
    return replace(answer, phases=phases)


def _redirected(request: httpx.Request, answer: Answer) -> httpx.Request | None:
    """The request that a redirect asks for; None when there is no redirect, or none over HTTP."""
    location = answer.header("location")
    if answer.status not in (301, 302, 303, 307, 308) or not location:
        return None
    try:
        target = request.url.join(location[0])
    except (httpx.InvalidURL, ValueError):
        return None
    if target.scheme not in ("http", "https") or not target.host or (target.port or 80) > LAST_PORT:
        return None
    same = _origin(target) == _origin(request.url)
    told = [
        (name, value)
        for name, value in request.headers.items()
        if name not in ("host", "content-type", "content-length")
        and (same or name in ("accept", "accept-encoding", "user-agent"))
    ]
    return httpx.Request("GET", target, headers=told)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _added(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: before.get(name, 0.0) + after.get(name, 0.0) for name in [*before, *after]}


class _Bytes(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def _trusted(verify: str) -> ssl.SSLContext | bool:
    try:
        return tls(verify)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror or error
        raise OwnFault(f"the certificates to trust in {verify} cannot be read: {said}") from None
