"""The transport against servers that behave, misbehave and attack."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from probes.http import Answer, ExchangeError, OwnFault, Transport, Unreachable, follow
from probes.refusal import parsed

from .harness import Asked, Close, Pause, Reset, Server, Step, free_port, http

Serve = Callable[..., Server]


def get(url: str, **headers: str) -> httpx.Request:
    return httpx.Request("GET", url, headers={"Accept-Encoding": "identity", **headers})


async def failure_of(transport: Transport, request: httpx.Request, **settings: object) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        await transport.exchange(request, **{"timeout": 2.0, **settings})  # type: ignore[arg-type]
    return caught.value


async def test_an_answer_is_given_as_it_came(serve: Serve, transport: Transport) -> None:
    """Status, order and repetition of headers, body, and who answered."""
    server = serve(
        lambda asked: http(418, b"tea", ("X-One", "1"), ("x-one", "2"), ("Content-Type", "Text/Plain; a=b"))
    )

    answer = await transport.exchange(get(server.url), timeout=2)

    assert (answer.status, answer.body, answer.truncated) == (418, b"tea", False)
    assert answer.header("X-ONE") == ["1", "2"]
    assert answer.media_type == "text/plain"
    assert answer.peer == "127.0.0.1"


async def test_the_peer_of_a_kept_connection_is_known_too(serve: Serve, transport: Transport) -> None:
    """The second answer over one connection names its peer as the first does."""
    server = serve(lambda asked: http(200, b"x"))
    await transport.exchange(get(server.url), timeout=2)

    answer = await transport.exchange(get(server.url), timeout=2)

    assert (answer.peer, server.connections) == ("127.0.0.1", 1)


async def test_httpx_interface_gives_an_httpx_response(serve: Serve, transport: Transport) -> None:
    """An httpx client can be built on the transport."""
    server = serve(lambda asked: http(200, json_={"a": 1}))

    async with httpx.AsyncClient(transport=transport) as client:
        response = await client.get(server.url)

    assert response.json() == {"a": 1}
    assert "first_byte" in response.extensions["phases"]


# -- hostile answers ------------------------------------------------------------------------------

NO_ANSWERS: dict[str, tuple[Step | list[Step], str]] = {
    "closes at once": (Close(), "closed the connection without an answer"),
    "resets": (Reset(), "reset"),
    "is no HTTP": ([b"\x00\xff garbage\r\n\r\n", Close()], "no HTTP"),
    "has a status that is no number": ([b"HTTP/1.1 2OO Fine\r\n\r\n", Close()], "no HTTP"),
    "has a status of one digit": ([b"HTTP/1.1 2 Fine\r\nContent-Length: 0\r\n\r\n", Close()], "no HTTP"),
    "has a header line that is too long": (
        [b"HTTP/1.1 200 Fine\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", Close()],
        "",
    ),
    "has endless headers": ([b"HTTP/1.1 200 Fine\r\n" + b"X: a\r\n" * 100_000, Close()], ""),
    "has a NUL in a header": ([b"HTTP/1.1 200 Fine\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", Close()], ""),
    "has two lengths": (
        [b"HTTP/1.1 200 Fine\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Close()],
        "",
    ),
    "has a negative length": ([b"HTTP/1.1 200 Fine\r\nContent-Length: -1\r\n\r\nab", Close()], ""),
    "promises more than it sends": (
        [b"HTTP/1.1 200 Fine\r\nContent-Length: 10\r\n\r\nabc", Close()],
        "not completed",
    ),
    "resets in the body": ([b"HTTP/1.1 200 Fine\r\nContent-Length: 10\r\n\r\nabc", Pause(0.05), Reset()], ""),
    "breaks its chunks off": (
        [b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Close()],
        "",
    ),
    "says a chunk size that is none": (
        [b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n", Close()],
        "",
    ),
    "says gzip and sends none": (http(200, b"not gzip at all", ("Content-Encoding", "gzip")), "no gzip"),
    "cuts its gzip off": (
        http(200, gzip.compress(os.urandom(500))[:-20], ("Content-Encoding", "gzip")),
        "cut off",
    ),
}


@pytest.mark.parametrize(("steps", "reason"), NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_what_is_no_answer_is_unreachable(
    steps: Step | list[Step], reason: str, method: str, serve: Serve, transport: Transport
) -> None:
    """A broken answer is the target's failure, asked for once, in time, and named in one short line."""
    server = serve(lambda asked: steps)

    error = await failure_of(transport, httpx.Request(method, server.url + "/?api_key=hidden-key"))

    assert type(error) is Unreachable
    assert reason in error.reason
    assert "hidden-key" not in error.reason
    assert len(error.reason) < 400
    assert len(server.asked) == 1


SILENCES: dict[str, tuple[list[Step], str]] = {
    "nothing": ([Pause(30)], "the first byte"),
    "half a header": ([b"HTTP/1.1 200 Fi", Pause(30)], "the first byte"),
    "a dripping header": (
        [b"HTTP/1.1 200 Fine\r\nX: ", *[part for _ in range(99) for part in (b"x", Pause(0.05))]],
        "the first byte",
    ),
    "half a body": (
        [b"HTTP/1.1 200 Fine\r\nContent-Length: 9\r\n\r\nabc", Pause(30)],
        "the rest of the body",
    ),
    "a dripping body": (
        [
            b"HTTP/1.1 200 Fine\r\nContent-Length: 99\r\n\r\n",
            *[p for _ in range(90) for p in (b"x", Pause(0.05))],
        ],
        "the rest of the body",
    ),
}


@pytest.mark.parametrize(("steps", "waiting"), SILENCES.values(), ids=SILENCES)
async def test_a_slow_answer_ends_at_its_timeout(
    steps: list[Step], waiting: str, serve: Serve, transport: Transport
) -> None:
    """However it drips, an answer is not waited for beyond the timeout, and the reason says what lacked."""
    server = serve(lambda asked: steps)

    error = await failure_of(transport, get(server.url), timeout=0.3)

    assert error.reason == f"no answer within 0.3 s (waiting for {waiting})"
    assert type(error) is Unreachable


async def test_waiting_for_a_connection_is_named_so(serve: Serve, transport: Transport) -> None:
    """A full backlog drops what knocks: the timeout says that there was no connection."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    full = [socket.socket() for _ in range(4)]
    for each in full:
        each.setblocking(False)
        each.connect_ex(listener.getsockname())

    error = await failure_of(transport, get(f"http://127.0.0.1:{listener.getsockname()[1]}"), timeout=0.3)

    for each in [*full, listener]:
        each.close()
    assert error.reason == "no answer within 0.3 s (waiting for the connection)"


async def test_waiting_for_tls_is_named_so(serve: Serve, transport: Transport) -> None:
    """A server that accepts and never shakes hands is seen as that."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = await failure_of(
            transport, get(f"https://127.0.0.1:{listener.getsockname()[1]}"), timeout=0.3
        )

    assert error.reason == "no answer within 0.3 s (waiting for the TLS handshake)"


async def test_an_endless_body_is_cut_at_the_cap(serve: Serve) -> None:
    """What is longer than the cap is marked as cut, and the rest is not read."""
    transport = Transport(body_cap=10_000)
    server = serve(lambda asked: [http(200, length=False), *[b"x" * 5_000] * 10_000])

    answer = await transport.exchange(get(server.url), timeout=5)

    await transport.aclose()
    assert (len(answer.body), answer.truncated) == (10_000, True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
async def test_a_compressed_bomb_is_unpacked_to_the_cap_only(
    encoding: str, serve: Serve, transport: Transport
) -> None:
    """A hundred megabytes in a hundred kilobytes do not cost memory or time."""
    packer = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding])
    bomb = packer.compress(bytes(100 << 20)) + packer.flush()
    server = serve(lambda asked: http(200, bomb, ("Content-Encoding", encoding.split()[-1])))

    answer = await transport.exchange(get(server.url), timeout=5)

    assert (len(answer.body), answer.truncated) == (1 << 20, True)


async def test_a_body_that_came_compressed_unasked_is_unpacked(serve: Serve, transport: Transport) -> None:
    """Some servers compress whatever one asks for; their JSON is still JSON."""
    body = gzip.compress(json.dumps({"answer": "thirty days"}).encode())
    server = serve(
        lambda asked: http(200, body, ("Content-Encoding", "gzip"), ("Content-Type", "application/json"))
    )

    answer = await transport.exchange(get(server.url), timeout=2)

    assert parsed(answer) == {"answer": "thirty days"}
    assert server.asked[0].header("accept-encoding") == ["identity"]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b'"\xff\xfe"',
        b"\x00\x00\x00",
        b"1" * 10_000,
        b"{",
        b'{"a": 1}x',
        b"\xef\xbb\xbf",
    ],
)
async def test_a_body_that_is_no_json_is_none_and_never_raises(
    body: bytes, serve: Serve, transport: Transport
) -> None:
    """Depth, NUL, broken UTF-8 and numbers of ten thousand digits."""
    server = serve(lambda asked: http(200, body, ("Content-Type", "application/json")))

    answer = await transport.exchange(get(server.url), timeout=2)

    assert parsed(answer) is None
    assert isinstance(answer.text, str)


def test_json_of_any_depth_is_judged_without_raising() -> None:
    """At no depth does a nested document break the probe, just below the limit of recursion either."""
    from probes.refusal import Refusal, judge

    for depth in [*range(300, 1100, 7), 5_000]:
        body = b'{"a":' * depth + b"1" + b"}" * depth

        judgement = judge(Answer(status=400, headers=[], body=body), Refusal())

        assert judgement.kind == "other"


# -- connections ----------------------------------------------------------------------------------


async def test_reads_keep_their_connection_and_writes_open_their_own(
    serve: Serve, transport: Transport
) -> None:
    """GET shares one connection; every PUT has a new one and says that it closes."""
    server = serve(lambda asked: http(200, b"x"))

    for _ in range(3):
        await transport.exchange(get(server.url), timeout=2)
    for _ in range(3):
        await transport.exchange(httpx.Request("PUT", server.url), timeout=2)

    assert len({asked.connection for asked in server.asked if asked.method == "GET"}) == 1
    assert len({asked.connection for asked in server.asked if asked.method == "PUT"}) == 3


async def test_a_kept_connection_that_was_closed_while_idle_is_asked_again_once(
    serve: Serve, transport: Transport
) -> None:
    """The server closes instead of answering the second GET of a connection: one more try, on a new one."""

    def script(asked: Asked) -> Step:
        first = sum(other.connection == asked.connection for other in server.asked) == 1
        return http(200, b"x") if first else Close()

    server = serve(script)
    await transport.exchange(get(server.url), timeout=2)

    answer = await transport.exchange(get(server.url), timeout=2)

    assert answer.status == 200
    assert [asked.connection for asked in server.asked] == [1, 1, 2]


async def test_a_second_broken_connection_is_a_failure(serve: Serve, transport: Transport) -> None:
    """The retry is not retried."""
    server = serve(lambda asked: http(200, b"x") if len(server.asked) == 1 else Close())
    await transport.exchange(get(server.url), timeout=2)

    error = await failure_of(transport, get(server.url))

    assert type(error) is Unreachable
    assert len(server.asked) == 3


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
async def test_a_new_connection_that_breaks_is_asked_once(
    method: str, end: Step, serve: Serve, transport: Transport
) -> None:
    """Nothing is asked twice because the server went away: the count at the server says so."""
    server = serve(lambda asked: end)

    await failure_of(transport, httpx.Request(method, server.url))

    assert len(server.asked) == server.connections == 1


async def test_a_write_on_a_kept_connection_is_never_asked_again(serve: Serve, transport: Transport) -> None:
    """Even where a caller keeps connections for it."""
    server = serve(lambda asked: http(200, b"x") if len(server.asked) == 1 else Close())
    await transport.exchange(httpx.Request("PUT", server.url), timeout=2, fresh=False)

    await failure_of(transport, httpx.Request("PUT", server.url), fresh=False)

    assert server.count("PUT") == 2


@pytest.mark.parametrize("late", [False, True], ids=["with the answer", "while idle"])
async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(
    late: bool, serve: Serve, transport: Transport
) -> None:
    """A stale answer on a kept connection would be false evidence."""
    stale = http(200, b"stale")
    server = serve(lambda asked: http(200, b"true") + (b"" if late else stale))
    await transport.exchange(get(server.url), timeout=2)
    if late:
        server.say_unasked(stale)
        await transport.exchange(get(serve(lambda asked: http()).url), timeout=2)

    answer = await transport.exchange(get(server.url), timeout=2)

    assert answer.body == b"true"


async def test_a_refused_connection_is_named(transport: Transport) -> None:
    """Nobody listens: that is the target's, by address and by name."""
    port = free_port()

    for host in ("127.0.0.1", "localhost"):
        error = await failure_of(transport, get(f"http://{host}:{port}"))

        assert (type(error), error.reason) == (Unreachable, "connection refused")


async def test_an_unreachable_network_is_our_own_fault(transport: Transport) -> None:
    """The kernel knows no way to the address: nothing is said about the target."""
    error = await failure_of(transport, get("http://255.255.255.255:9"))

    assert type(error) is OwnFault
    assert error.reason == "the watchdog could not ask: Network is unreachable"


EXHAUSTED = """
import asyncio, os, resource
import httpx
from probes.clockwork import ProbeLoop
from probes.http import ExchangeError, Transport

async def main():
    transport = Transport()
    for warm in ("http://127.0.0.1:9", "http://localhost:9"):
        try:
            await transport.exchange(httpx.Request("GET", warm), timeout=2)
        except ExchangeError:
            pass
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    while True:
        try:
            held.append(os.dup(0))
        except OSError:
            break
    for url in ("http://127.0.0.1:9", "http://another.localhost:9"):
        try:
            await transport.exchange(httpx.Request("GET", url), timeout=2)
        except ExchangeError as error:
            print(type(error).__name__, error.reason)
    for each in held:
        os.close(each)
    await transport.aclose()

asyncio.Runner(loop_factory=ProbeLoop).run(main())
"""


def test_no_file_descriptors_left_is_our_own_fault() -> None:
    """EMFILE, at the socket and at the look-up of a name, says nothing about the target."""
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )

    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["OwnFault", "OwnFault"], (lines, done.stderr[-800:])


# -- TLS ------------------------------------------------------------------------------------------

Certified = tuple[Path, ssl.SSLContext]


async def test_a_certificate_of_nobody_known_is_refused_by_name(
    serve: Serve, transport: Transport, certified: Certified
) -> None:
    """Certificates are verified; the failure says TLS and why."""
    server = serve(lambda asked: http(), tls=certified[1])

    error = await failure_of(transport, get(server.url))

    assert type(error) is Unreachable
    assert error.reason == "TLS failed: the certificate is not trusted: self-signed certificate"
    assert server.asked == []


async def test_a_certificate_can_be_trusted_by_file_or_not_verified(
    serve: Serve, transport: Transport, certified: Certified
) -> None:
    """`verify: path` trusts that file, `verify: false` trusts anyone."""
    server = serve(lambda asked: http(200, b"secret"), tls=certified[1])

    for verify in (str(certified[0]), "no"):
        answer = await transport.exchange(get(server.url), timeout=2, verify=verify)

        assert answer.body == b"secret"
        assert {"connect", "tls", "first_byte", "body"} <= set(answer.phases)


async def test_a_certificate_for_another_name_is_refused(
    serve: Serve, transport: Transport, certified_for_another: Certified
) -> None:
    """A trusted certificate must be for this host."""
    server = serve(lambda asked: http(), tls=certified_for_another[1])

    error = await failure_of(transport, get(server.url), verify=str(certified_for_another[0]))

    assert error.reason.startswith("TLS failed: the certificate is not trusted: IP address mismatch")


async def test_plain_http_where_tls_is_expected_is_a_tls_failure(serve: Serve, transport: Transport) -> None:
    """A server that speaks no TLS is named as such."""
    server = serve(lambda asked: http())

    error = await failure_of(transport, get(server.url.replace("http:", "https:")))

    assert type(error) is Unreachable


async def test_a_missing_authority_file_is_our_own_fault(serve: Serve, transport: Transport) -> None:
    """A wrong path in the configuration says nothing about the target."""
    error = await failure_of(transport, get("https://127.0.0.1:9"), verify="/nowhere/ca.pem")

    assert type(error) is OwnFault
    assert "/nowhere/ca.pem cannot be read" in error.reason


# -- what the environment and earlier answers must not change --------------------------------------


async def test_proxies_of_the_environment_are_ignored(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe measures the target, not somebody's proxy."""
    server, proxy = serve(lambda asked: http(200, b"direct")), serve(lambda asked: http(200, b"proxied"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)

    answer = await transport.exchange(get(server.url), timeout=2)

    assert (answer.body, proxy.asked) == (b"direct", [])


async def test_credentials_in_netrc_are_not_sent(
    serve: Serve, transport: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only what window.yaml states is sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(lambda asked: http())

    await transport.exchange(get(server.url), timeout=2)

    assert server.asked[0].header("authorization") == []


async def test_cookies_are_not_kept(serve: Serve, transport: Transport) -> None:
    """Every question is a stranger's."""
    server = serve(lambda asked: http(200, b"", ("Set-Cookie", "session=1; Path=/")))

    for _ in range(2):
        await transport.exchange(get(server.url), timeout=2)

    assert [asked.header("cookie") for asked in server.asked] == [[], []]


async def test_the_recorder_hears_of_answers_and_failures(serve: Serve) -> None:
    """`check --ask` shows exchanges in full."""
    heard: list[Answer | ExchangeError] = []
    transport = Transport(record=lambda request, what: heard.append(what))
    server = serve(lambda asked: http(201))

    await transport.exchange(get(server.url), timeout=2)
    await failure_of(transport, get(f"http://127.0.0.1:{free_port()}"))

    await transport.aclose()
    assert isinstance(heard[0], Answer)
    assert isinstance(heard[1], Unreachable)


# -- redirects ------------------------------------------------------------------------------------


def redirect(location: str, status: int = 302) -> bytes:
    return http(status, b"", ("Location", location))


async def test_redirects_are_not_followed_by_an_exchange(serve: Serve, transport: Transport) -> None:
    """A redirect is an answer."""
    server = serve(lambda asked: redirect("/there"))

    answer = await transport.exchange(get(server.url), timeout=2)

    assert (answer.status, len(server.asked)) == (302, 1)


async def test_a_followed_redirect_keeps_headers_for_its_own_origin(
    serve: Serve, transport: Transport
) -> None:
    """The same scheme, host and port may know what the user said to it."""
    server = serve(lambda asked: redirect("/there") if asked.target == "/" else http(200, b"here"))

    answer = await follow(transport, get(server.url, Authorization="Bearer t"), timeout=2, verify="yes")

    assert answer.body == b"here"
    assert [asked.header("authorization") for asked in server.asked] == [["Bearer t"]] * 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_credentials_are_not_sent_to_another_host_or_port(
    host: str, serve: Serve, transport: Transport
) -> None:
    """Another port of the same host is another party."""
    other = serve(lambda asked: http(200, b"here"))
    server = serve(lambda asked: redirect(f"http://{host}:{other.port}/"))
    request = get(
        server.url, Authorization="Bearer t", Cookie="a=b", **{"X-Api-Key": "k", "User-Agent": "me"}
    )

    answer = await follow(transport, request, timeout=2, verify="yes")

    assert answer.body == b"here"
    assert {name.lower() for name, _ in other.asked[0].headers} == {
        "host",
        "accept-encoding",
        "user-agent",
        "accept",
    }
    assert other.asked[0].header("host") == [f"{host}:{other.port}"]
    assert other.asked[0].header("accept-encoding") == ["identity"]


@pytest.mark.parametrize(
    "location", ["ftp://a/", "javascript:alert(1)", "http://", "http://[::1", "http://a:99999/", "//"]
)
async def test_a_redirect_to_nowhere_is_an_answer(location: str, serve: Serve, transport: Transport) -> None:
    """A hostile Location raises nothing but what a probe expects."""
    server = serve(lambda asked: redirect(location))

    answer = await follow(transport, get(server.url), timeout=2, verify="yes")

    assert answer.status == 302


async def test_a_loop_of_redirects_ends(serve: Serve, transport: Transport) -> None:
    """Five redirects, then what came is the answer."""
    server = serve(lambda asked: redirect("/again"))

    answer = await follow(transport, get(server.url), timeout=2, verify="yes")

    assert (answer.status, len(server.asked)) == (302, 6)


async def test_the_timeout_is_for_the_whole_way(serve: Serve, transport: Transport) -> None:
    """Slow redirects do not multiply the time a probe may take; the phases are of the whole way."""
    server = serve(lambda asked: [Pause(0.1), redirect("/again")] if len(server.asked) < 3 else Pause(30))

    with pytest.raises(Unreachable) as caught:
        await follow(transport, get(server.url), timeout=1.0, verify="yes")

    assert len(server.asked) == 3
    assert 0 < float(caught.value.reason.split()[3]) <= 0.8
    assert caught.value.phases["first_byte"] >= 0.19
