"""Where the time of an exchange is booked: on the target's phases, or on our own loop."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import httpx
import pytest

from probes.clockwork import ProbeLoop, Timeline
from probes.http import Answer, Transport

from .harness import Pause, Server, http, nginx

Serve = Callable[..., Server]
HEAD = b"HTTP/1.1 200 Fine\r\nContent-Length: 4\r\n\r\n"


def get(url: str) -> httpx.Request:
    return httpx.Request("GET", url)


async def test_tests_run_on_the_loop_of_the_probes() -> None:
    """What follows is measured where probes are."""
    assert isinstance(asyncio.get_running_loop(), ProbeLoop)


async def test_each_phase_has_the_time_that_the_server_took_for_it(
    serve: Serve, transport: Transport, certified: tuple[Path, ssl.SSLContext]
) -> None:
    """Handshake, first byte and body are delayed by known times and found where they belong."""
    steps = [Pause(0.3), HEAD, Pause(0.2), b"done"]
    server = serve(lambda asked: steps, tls=certified[1], tls_pause=0.25)

    answer = await transport.exchange(get(server.url), timeout=5, verify="no")

    phases = answer.phases
    assert 0.24 < phases["tls"] < 0.6
    assert 0.29 < phases["first_byte"] < 0.6
    assert 0.19 < phases["body"] < 0.5
    assert phases["connect"] < 0.1
    assert phases.get("own", 0.0) < 0.1
    assert answer.duration_s == pytest.approx(sum(phases.values()) - phases.get("own", 0.0))


async def test_a_name_is_looked_up_in_a_phase_of_its_own(serve: Serve, transport: Transport) -> None:
    """`localhost` has a dns phase, an address has none, a kept connection has neither."""
    server = serve(lambda asked: http(200, b"x"))
    named = get(f"http://localhost:{server.port}")

    first, second = [await transport.exchange(named, timeout=5) for _ in range(2)]
    address = await transport.exchange(get(server.url), timeout=5)

    assert set(first.phases) - {"own"} == {"dns", "connect", "first_byte", "body"}
    assert set(second.phases) - {"own"} == {"first_byte", "body"}
    assert set(address.phases) - {"own"} == {"connect", "first_byte", "body"}


async def test_a_slow_connect_is_the_connects_time(transport: Transport) -> None:
    """A full backlog drops the first knock; the kernel knocks again after a second."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    full = socket.create_connection(listener.getsockname())

    def open_up() -> None:
        time.sleep(0.3)
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(accepted,), daemon=True).start()

    threading.Thread(target=open_up, daemon=True).start()

    answer = await transport.exchange(get(f"http://127.0.0.1:{listener.getsockname()[1]}"), timeout=10)

    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    full.close()
    assert answer.phases["connect"] > 0.9
    assert answer.phases["first_byte"] < 0.5


def _answer(connection: object) -> None:
    connection.recv(65536)  # type: ignore[attr-defined]
    connection.sendall(HEAD + b"done")  # type: ignore[attr-defined]
    connection.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "TLS"])
async def test_a_busy_loop_is_booked_as_our_own(
    secured: bool, serve: Serve, transport: Transport, certified: tuple[Path, ssl.SSLContext]
) -> None:
    """The answer lies in the kernel while a callback blocks the loop for 200 ms: not the target's time."""
    server = serve(lambda asked: [Pause(0.05), http(200, b"x")], tls=certified[1] if secured else None)
    await transport.exchange(get(server.url), timeout=5, verify="no")
    asking = asyncio.create_task(transport.exchange(get(server.url), timeout=5, verify="no"))
    while len(server.asked) < 2:
        await asyncio.sleep(0)

    time.sleep(0.25)
    answer = await asking

    assert answer.phases["own"] > 0.18
    assert answer.duration_s < 0.1


async def test_a_busy_loop_while_a_body_comes_is_booked_as_our_own(
    serve: Serve, transport: Transport
) -> None:
    """The head came, the loop blocks, the body came meanwhile."""
    server = serve(lambda asked: [HEAD, Pause(0.05), b"done"])
    await transport.exchange(get(server.url), timeout=5)
    asking = asyncio.create_task(transport.exchange(get(server.url), timeout=5))
    while len(server.asked) < 2:
        await asyncio.sleep(0)

    time.sleep(0.25)
    answer = await asking

    assert answer.phases["own"] > 0.18
    assert answer.duration_s < 0.12


async def test_a_target_that_is_slow_on_a_busy_loop_is_still_slow(serve: Serve, transport: Transport) -> None:
    """What the target took beyond our own block stays the target's."""
    server = serve(lambda asked: [Pause(0.5), http(200, b"x")])
    asking = asyncio.create_task(transport.exchange(get(server.url), timeout=5))
    while not server.asked:
        await asyncio.sleep(0)

    time.sleep(0.2)
    answer = await asking

    assert answer.duration_s > 0.45


async def test_two_hundred_exchanges_at_once_are_not_queueing_of_the_target(
    transport: Transport, tmp_path: Path
) -> None:
    """All are sent at once to a fast server; the wait for our own loop is not the server's latency."""
    with nginx(tmp_path, 'location / { return 200 "answered"; }') as url:
        alone = [(await transport.exchange(get(url), timeout=10)).duration_s for _ in range(50)]
        answers: list[Answer] = await asyncio.gather(
            *(transport.exchange(get(url), timeout=30) for _ in range(200))
        )

    together = [answer.duration_s for answer in answers]
    waited = [answer.duration_s + answer.phases.get("own", 0.0) for answer in answers]
    assert all(answer.status == 200 for answer in answers)
    assert median(together) < max(0.3 * median(waited), 5 * median(alone)), (median(alone), median(together))


async def test_two_hundred_slow_answers_take_as_long_as_one(serve: Serve, transport: Transport) -> None:
    """Nothing is queued: all wait side by side."""
    server = serve(lambda asked: [Pause(0.5), http(200, b"x")])

    answers = await asyncio.gather(*(transport.exchange(get(server.url), timeout=30) for _ in range(200)))

    assert server.most_at_once > 150
    assert median(answer.duration_s for answer in answers) < 1.5


def test_a_timeline_books_what_lay_waiting_as_our_own() -> None:
    """The stamp of the selector splits a phase; a stamp before its beginning gives it no time at all."""
    timeline = Timeline()
    began = time.perf_counter()

    timeline.mark("first_byte", began - 10)
    timeline.mark("body", None)

    assert timeline.phases["first_byte"] == 0
    assert timeline.phases["own"] > 0
    assert timeline.target_s == pytest.approx(timeline.phases["body"])
