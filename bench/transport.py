"""What one request costs with each client that could carry the probes, in one run on one machine.

Keep-alive GET of 1 KiB, `--at-once` requests in flight. `queue` is what the client adds to the time that
the server says it took: the part that a watchdog must not book on its target.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import httpx

from bench.watchdog import share
from probes.clockwork import ProbeLoop
from probes.http import Transport

Ask = Callable[[], Awaitable[tuple[float, float]]]
"""One exchange: (seconds as the client sees them, seconds as the server says)."""


async def load(ask: Ask, at_once: int, count: int) -> dict[str, float]:
    """`count` exchanges, `at_once` in flight."""
    left = count
    queue: list[float] = []

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            seen, took = await ask()
            queue.append(seen - took)

    await asyncio.gather(*(ask() for _ in range(at_once)))
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "cpu_ms": 1000 * cpu / count,
        "per_s": count / took,
        "queue_p50_ms": 1000 * share(queue, 0.5),
        "queue_p99_ms": 1000 * share(queue, 0.99),
    }


async def httpx_own(url: str, at_once: int, count: int) -> dict[str, float]:
    """httpx with its own pool."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(limits=limits) as client:

        async def ask() -> tuple[float, float]:
            began = time.perf_counter()
            answer = await client.get(url)
            return time.perf_counter() - began, float(answer.headers["took"])

        return await load(ask, at_once, count)


async def ours(url: str, at_once: int, count: int) -> dict[str, float]:
    """httpx's Request over our transport, as the probes use it: the time is the target's share."""
    transport = Transport()
    request = httpx.Request("GET", url)
    request.read()

    async def ask() -> tuple[float, float]:
        answer = await transport.exchange(request, timeout=30)
        return answer.duration_s, float(answer.header("took")[0])

    try:
        return await load(ask, at_once, count)
    finally:
        await transport.aclose()


async def plain_aiohttp(url: str, at_once: int, count: int) -> dict[str, float]:
    """aiohttp's own client."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> tuple[float, float]:
            began = time.perf_counter()
            async with session.get(url) as answer:
                await answer.read()
                return time.perf_counter() - began, float(answer.headers["took"])

        return await load(ask, at_once, count)


CLIENTS = {"httpx, own transport": httpx_own, "httpx over ours": ours, "aiohttp": plain_aiohttp}


def table(url: str, at_once: int, count: int) -> list[tuple[str, dict[str, float]]]:
    """Every client in turn."""
    rows = []
    for name, client in CLIENTS.items():
        with asyncio.Runner(loop_factory=ProbeLoop) as runner:
            rows.append((name, runner.run(client(url, at_once, count))))
    return rows
