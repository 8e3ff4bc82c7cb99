"""What aiohttp is given to work with: name look-ups, connections that tell who they are, TLS, bodies.

Judges nothing and names no failure; `probes.http` does.
"""

import asyncio
import socket
import ssl
import zlib
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from probes.clockwork import TIMELINE, Timeline

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace


class TimedResolver(AbstractResolver):
    """The system's resolver in threads of its own, so that a hung look-up delays no other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of `host`; the time it took ends when the thread had them."""

        def look_up() -> tuple[list[Any], float]:
            found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            return found, perf_counter()

        timeline = TIMELINE.get()
        if timeline is not None:
            timeline.waiting = "the address of its name"
        found, finished = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        if timeline is not None:
            timeline.mark("dns", finished)
            timeline.waiting = "the connection"
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
        """Let go of the threads; a look-up that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Connector(aiohttp.TCPConnector):
    """Tells the timeline of an exchange which connection it got, and whether that was used before."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._used: WeakSet[asyncio.BaseTransport] = WeakSet()

    async def connect(
        self, req: "ClientRequest", traces: "list[Trace]", timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """As aiohttp's. A kept connection on which something came unasked is closed, not used."""
        while True:
            connection = await super().connect(req, traces, timeout)
            transport, protocol = connection.transport, connection.protocol
            reused = transport is not None and transport in self._used
            if not (reused and protocol is not None and protocol.should_close):
                break
            connection.close()
        timeline = TIMELINE.get()
        if transport is not None:
            self._used.add(transport)
            if timeline is not None:
                _describe(timeline, transport, reused=reused)
        return connection


def _describe(timeline: Timeline, transport: asyncio.BaseTransport, *, reused: bool) -> None:
    address = transport.get_extra_info("peername")
    timeline.peer = str(address[0]) if isinstance(address, tuple) else ""
    timeline.descriptor = transport.get_extra_info("socket").fileno()
    timeline.reused = reused
    timeline.waiting = "the first byte"
    timeline.restart()


def tls(verify: str) -> ssl.SSLContext | bool:
    """`yes`, `no` or the path of a file with authorities, as aiohttp takes it.

    Raises OSError or ssl.SSLError where that file cannot be read.
    """
    if verify == "no":
        return False
    return ssl.create_default_context(cafile=None if verify == "yes" else verify)


async def read_body(response: aiohttp.ClientResponse, cap: int) -> tuple[bytes, bool]:
    """The body up to `cap` bytes, and whether there was more. Raises ClientPayloadError."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > cap:
            response.close()
            break
    return decoded(b"".join(chunks)[:cap], response.headers.get("Content-Encoding", ""), cap, cut=size > cap)


def decoded(body: bytes, encoding: str, cap: int, *, cut: bool) -> tuple[bytes, bool]:
    """`body` without gzip or deflate, up to `cap` bytes however much it would unpack to.

    We ask for `identity`; some servers compress nevertheless. Raises ClientPayloadError.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate") or not body:
        return body, cut
    zlib_header = body[0] & 0x0F == 8 or body[:2] == b"\x1f\x8b"
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(body, cap + 1)
    except zlib.error as error:
        raise aiohttp.ClientPayloadError(f"the body is no {encoding}: {error}") from None
    if len(plain) > cap:
        return plain[:cap], True
    if not (cut or unpacker.eof):
        raise aiohttp.ClientPayloadError(f"the {encoding} body is cut off")
    return plain, cut
