"""Write attempts on real Redis servers: masters, a replica, accounts that may not write, a lying proxy."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.answer import OwnFault
from probes.base import Outcome, Result, Run, Why
from probes.stores.redis import failed
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.redis import RedisTarget, RedisWrite
from tests.probes.harness import certificate
from tests.servers.machine import free_port
from tests.servers.redis import Redis

pytestmark = pytest.mark.xdist_group("redis")

USERS = {
    "app": "on >secret-word ~* &* +@all -@write",
    "reader": "on >secret-word ~* &* +@read",
    "keys-read-only": "on >secret-word resetkeys %R~* +@all",
    "elsewhere": "on >secret-word ~app:* +@all",
    "no-multi": "on >secret-word ~* &* +@all -multi",
    "no-discard": "on >secret-word ~* &* +@all -discard",
    "no-get": "on >secret-word ~* &* +@all -get",
}
WORD = "secret-word"


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis(users=USERS) as started:
        yield started


@pytest.fixture
def redis(server: Redis) -> Iterator[Redis]:
    """The server without keys, taking writes; left so."""
    server.run("FLUSHALL")
    yield server
    for words in (
        ("CLIENT", "UNPAUSE"),
        ("REPLICAOF", "NO", "ONE"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
        ("CONFIG", "SET", "maxmemory", "0"),
        ("FLUSHALL",),
    ):
        server.run(*words)
    for user, rules in USERS.items():
        server.run("ACL", "SETUSER", user, "reset", *rules.split())


def attempts(
    url: str, timeout: float = 2, refusal: dict[str, Any] | None = None, **options: Any
) -> WriteAttempts:
    spec = RedisWrite.model_validate({"redis": {"url": url, **options}, "refusal": refusal or {}})
    target = RedisTarget(spec, timeout)
    return WriteAttempts(name="cache", surface="cache", window="w", target=target, timeout=timeout)


async def once(probe: WriteAttempts, slot: float = 1.0, frozen: bool = True) -> Result:
    return await probe.run(Run(slot=slot, phase="frozen" if frozen else "baseline", frozen=frozen))


@pytest.fixture(params=[False, True], ids=["queued", "canary"])
def really(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# -- the matrix: what the server does -> outcome -------------------------------------------------------


async def test_an_open_server_leaks_and_nothing_is_left(redis: Redis, really: bool) -> None:
    probe = attempts(redis.url(), canary=really)

    result = await once(probe)

    assert result.outcome is Outcome.LEAKED
    assert redis.dump() == ""
    assert (await once(probe, 2.0)).outcome is Outcome.SKIPPED


async def test_while_writes_are_open_the_same_attempt_is_accepted(redis: Redis, really: bool) -> None:
    result = await once(attempts(redis.url(), canary=really), frozen=False)

    assert result.outcome is Outcome.ACCEPTED
    assert redis.dump() == ""


@pytest.mark.parametrize("user", ["app", "reader", "keys-read-only"])
async def test_an_account_that_may_only_read_is_refused(redis: Redis, really: bool, user: str) -> None:
    result = await once(attempts(redis.url(user, WORD), canary=really))

    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["refused_by"] == "NOPERM"
    assert result.figures["verified"] is True


async def test_a_replica_refuses(redis: Redis, really: bool) -> None:
    with Redis(replica_of=redis) as replica:
        result = await once(attempts(replica.url(), canary=really))

    assert (result.outcome, result.figures["refused_by"]) == (Outcome.REFUSED, "READONLY")


async def test_a_master_without_its_replicas_refuses(redis: Redis, really: bool) -> None:
    redis.run("CONFIG", "SET", "min-replicas-to-write", "1")

    result = await once(attempts(redis.url(), canary=really))

    assert (result.outcome, result.figures["refused_by"]) == (Outcome.REFUSED, "NOREPLICAS")


async def test_want_of_memory_is_no_freeze_unless_the_file_says_so(redis: Redis, really: bool) -> None:
    redis.run("CONFIG", "SET", "maxmemory", "1")

    by_default = await once(attempts(redis.url(), canary=really))
    configured = await once(attempts(redis.url(), canary=really, refusal={"errors": ["OOM"]}))

    assert by_default.outcome is Outcome.UNREACHABLE
    assert by_default.reason.startswith("the server is out of memory: OOM ")
    assert configured.outcome is Outcome.REFUSED


async def test_a_refusal_must_match_its_message_as_well(redis: Redis) -> None:
    url = redis.url("app", WORD)

    other = await once(attempts(url, refusal={"errors": ["NOPERM"], "message": "maintenance"}))
    same = await once(attempts(url, refusal={"errors": ["NOPERM"], "message": "no permissions"}))

    assert other.outcome is Outcome.UNREACHABLE
    assert same.outcome is Outcome.REFUSED


async def test_an_account_that_may_not_touch_such_a_key_at_all_proves_nothing(
    redis: Redis, really: bool
) -> None:
    outside = await once(attempts(redis.url("elsewhere", WORD), canary=really))
    inside = await once(attempts(redis.url("elsewhere", WORD), canary=really, key="app:${canary}"))

    assert outside.outcome is Outcome.UNREACHABLE
    assert "nor may it read them" in outside.reason
    assert inside.outcome is Outcome.LEAKED


@pytest.mark.parametrize("user", ["no-multi", "no-discard"])
async def test_an_account_without_transactions_is_not_taken_for_a_frozen_one(redis: Redis, user: str) -> None:
    result = await once(attempts(redis.url(user, WORD)))

    assert result.outcome is Outcome.LEAKED
    assert redis.dump() == ""


async def test_a_wrong_password_a_wrong_database_and_a_dead_server_are_unreachable(redis: Redis) -> None:
    for url, reason in (
        (redis.url("app", "another-word"), "the account is not let in"),
        (redis.url(db=99), "out of range"),
        ("redis://127.0.0.1:1/0", "connection refused"),
        ("redis://no-such-host.invalid:6379/0", "name"),
    ):
        result = await once(attempts(url))
        assert result.outcome in (Outcome.UNREACHABLE, Outcome.SKIPPED), url
        assert reason in result.reason
        assert "word" not in result.reason.replace("password", "")


async def test_a_server_that_hangs_is_unreachable_within_the_timeout(really: bool) -> None:
    with Redis() as own:
        own.pause()
        began = time.monotonic()
        result = await once(attempts(own.url(), timeout=1, canary=really))
        took = time.monotonic() - began
        own.resume()

        assert result.outcome is Outcome.UNREACHABLE
        assert "no answer within" in result.reason
        assert took < (2.5 if really else 1.2)


async def test_a_server_that_is_killed_is_unreachable(really: bool) -> None:
    with Redis() as own:
        own.kill()

        assert (await once(attempts(own.url(), canary=really))).outcome is Outcome.UNREACHABLE


async def test_something_that_is_no_redis_is_unreachable() -> None:
    async with proxied(None, lambda words, reply: b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        result = await once(attempts(url))

    assert result.outcome is Outcome.UNREACHABLE
    assert "no Redis" in result.reason


async def test_writes_that_are_held_back_are_told_from_a_server_that_hangs(redis: Redis) -> None:
    redis.run("CLIENT", "PAUSE", "60000", "WRITE")

    result = await once(attempts(redis.url(), timeout=1))

    assert result.outcome is Outcome.UNREACHABLE
    assert "CLIENT PAUSE holds writes back and applies them later" in result.reason
    redis.run("CLIENT", "UNPAUSE")
    assert redis.dump() == ""


async def test_a_canary_that_was_held_back_does_not_land_once_we_have_left(redis: Redis) -> None:
    redis.run("CLIENT", "PAUSE", "60000", "WRITE")
    await once(attempts(redis.url(), timeout=1, canary=True))

    redis.run("CLIENT", "UNPAUSE")

    assert redis.dump() == ""


async def test_a_canary_that_lands_late_is_found_and_undone(redis: Redis) -> None:
    redis.run("CLIENT", "PAUSE", "60000", "WRITE")
    probe = attempts(redis.url(), timeout=1, canary=True)
    held = await once(probe, 1.0)

    redis.run("CLIENT", "UNPAUSE")
    redis.run("SET", canary("w", "cache", 1.0).text, canary("w", "cache", 1.0).text)  # as a proxy may
    late = await once(probe, 2.0)

    assert (held.outcome, held.figures["expected"]) == (Outcome.UNREACHABLE, 1)
    assert late.outcome is Outcome.LEAKED
    assert redis.dump() == ""


async def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    port = free_port()
    tls = {
        "tls-port": str(port),
        "tls-cert-file": str(cert),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(cert),
        "tls-auth-clients": "no",
    }
    with Redis(settings=tls) as own:
        unknown = await once(attempts(f"rediss://127.0.0.1:{port}/0"))
        known = await once(attempts(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}"))
        another = await once(attempts(f"rediss://localhost:{port}/0?ssl_ca_certs={cert}"))
        plain = await once(attempts(own.url().replace("redis:", "rediss:"), timeout=1))

    assert known.outcome is Outcome.LEAKED
    for result in (unknown, another):
        assert result.outcome is Outcome.UNREACHABLE
        assert "the certificate is not trusted" in result.reason
    assert plain.outcome is Outcome.UNREACHABLE


# -- holes that open during the window -----------------------------------------------------------------


async def test_a_replica_that_is_promoted_in_the_window_leaks(redis: Redis, really: bool) -> None:
    with Redis(replica_of=redis) as replica:
        probe = attempts(replica.url(), canary=really)
        before = await once(probe, 1.0)

        replica.run("REPLICAOF", "NO", "ONE")
        after = await once(probe, 2.0)

        assert (before.outcome, after.outcome) == (Outcome.REFUSED, Outcome.LEAKED)
        assert replica.dump() == redis.dump()


async def test_replicas_that_are_no_longer_asked_for_leak(redis: Redis) -> None:
    redis.run("CONFIG", "SET", "min-replicas-to-write", "1")
    probe = attempts(redis.url())
    before = await once(probe, 1.0)

    redis.run("CONFIG", "SET", "min-replicas-to-write", "0")
    after = await once(probe, 2.0)

    assert (before.outcome, after.outcome) == (Outcome.REFUSED, Outcome.LEAKED)


async def test_an_account_that_is_given_its_rights_back_leaks(redis: Redis) -> None:
    probe = attempts(redis.url("app", WORD))
    before = await once(probe, 1.0)

    redis.run("ACL", "SETUSER", "app", "+@write")
    after = await once(probe, 2.0)

    assert (before.outcome, after.outcome) == (Outcome.REFUSED, Outcome.LEAKED)


# -- a proxy between: answers that lie -----------------------------------------------------------------


Rewrite = Callable[[list[str], bytes], bytes | None]


@asynccontextmanager
async def proxied(
    behind: Redis | None, rewrite: Rewrite, forward: Callable[[list[str]], bool] | None = None
) -> AsyncIterator[str]:
    """A proxy that rewrites answers (None closes the connection), and forwards what it is told to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up = await asyncio.open_connection("127.0.0.1", behind.port) if behind else None
        try:
            while words := await command(reader):
                reply = b"+OK\r\n"
                if up is not None and (forward is None or forward(words)):
                    up[1].write(encoded(words))
                    reply = await up[0].read(4096)
                answer = rewrite(words, reply)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()
            if up is not None:
                up[1].close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
    finally:
        listening.close()


async def command(reader: asyncio.StreamReader) -> list[str]:
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2].decode())
    return words


def encoded(words: list[str]) -> bytes:
    parts = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


def on(name: str, said: bytes | None) -> Rewrite:
    return lambda words, reply: said if words[0] == name else reply


async def test_a_refusal_behind_which_the_write_was_applied_is_found(redis: Redis) -> None:
    async with proxied(redis, on("SET", b"-READONLY maintenance\r\n")) as url:
        result = await once(attempts(url, canary=True))

    assert result.outcome is Outcome.LEAKED_BEHIND_REFUSAL
    assert result.figures["undone"] is True
    assert redis.dump() == ""


async def test_a_write_that_is_taken_and_not_there_is_dropped(redis: Redis) -> None:
    async with proxied(redis, on("SET", b"+OK\r\n"), forward=lambda words: words[0] != "SET") as url:
        result = await once(attempts(url, canary=True))

    assert result.outcome is Outcome.DROPPED


async def test_a_proxy_without_transactions_leaks_and_leaves_nothing(redis: Redis) -> None:
    async with proxied(redis, on("MULTI", b"+OK\r\n"), forward=lambda words: words[0] != "MULTI") as lying:
        lied = await once(attempts(lying))
    async with proxied(
        redis, on("MULTI", b"-ERR unknown command 'MULTI'\r\n"), forward=lambda words: words[0] != "MULTI"
    ) as honest:
        told = await once(attempts(honest))

    assert (lied.outcome, told.outcome) == (Outcome.LEAKED, Outcome.LEAKED)
    assert told.figures["asked"] == "SET XX"
    assert redis.dump() == ""


@pytest.mark.parametrize("at", ["MULTI", "SET"])
async def test_a_connection_that_breaks_midway_is_unreachable_and_no_second_one_is_tried(
    redis: Redis, at: str
) -> None:
    asked: list[str] = []

    def breaks(words: list[str], reply: bytes) -> bytes | None:
        asked.append(words[0])
        return None if words[0] == at else reply

    async with proxied(redis, breaks) as url:
        result = await once(attempts(url))

    assert result.outcome is Outcome.UNREACHABLE
    assert asked.count("SET") == (at == "SET")
    assert redis.dump() == ""


async def test_what_was_queued_is_a_leak_even_if_the_connection_breaks_then(redis: Redis) -> None:
    async with proxied(redis, on("DISCARD", None)) as url:
        result = await once(attempts(url))

    assert result.outcome is Outcome.LEAKED
    assert redis.dump() == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("LOADING Redis is loading the dataset in memory", "the server is loading its data"),
        ("MASTERDOWN Link with MASTER is down", "a replica without its master"),
        ("CLUSTERDOWN The cluster is down", "the cluster is down"),
        ("MISCONF Errors writing to the AOF file", "the server cannot save to its disk"),
        ("MOVED 3999 127.0.0.1:6381", "the key belongs to another node"),
        ("ASK 3999 127.0.0.1:6381", "the key is moving to another node"),
        ("ERR unknown command 'SET'", "ERR unknown command"),
        ("WRONGTYPE Operation against a key", "WRONGTYPE"),
        ("readonly in small letters", "ERR readonly"),
    ],
)
async def test_each_error_that_is_not_the_freezes_is_called_by_its_name(
    redis: Redis, error: str, said: str
) -> None:
    async with proxied(redis, on("SET", f"-{error}\r\n".encode())) as url:
        result = await once(attempts(url))

    assert result.outcome is Outcome.UNREACHABLE
    assert result.reason.startswith(said)


async def test_a_hostile_answer_does_no_harm(redis: Redis) -> None:
    for answer in (
        b"+" + b"x" * 100_000 + b"\r\n",
        b"*-1\r\n",
        b":5\r\n",
        b"$-1\r\n",
        b"-\r\n",
        b"\xff\xfe\r\n",
        b"*1\r\n$3\r\nabc\r\n",
    ):
        async with proxied(redis, on("SET", answer)) as url:
            result = await once(attempts(url, timeout=1))
        assert result.outcome in (Outcome.LEAKED, Outcome.UNREACHABLE)
        assert len(result.reason) < 400


# -- no harm -------------------------------------------------------------------------------------------


async def test_two_hundred_leaks_leave_an_open_server_as_it_was(redis: Redis) -> None:
    redis.run("SET", "stock", "5")
    redis.run("RPUSH", "queue", "a", "b")
    before, dirty = redis.dump(), redis.run("INFO", "persistence")["rdb_changes_since_last_save"]
    target = attempts(redis.url()).target

    for number in range(200):
        tried = await target.attempt(canary("w", "cache", float(number)))
        assert tried.judgement is not None
        assert tried.judgement.kind == "accepted"

    assert redis.dump() == before
    assert redis.run("INFO", "persistence")["rdb_changes_since_last_save"] == dirty


async def test_two_hundred_canaries_are_all_undone(redis: Redis) -> None:
    redis.run("SET", "stock", "5")
    before = redis.dump()
    probe = attempts(redis.url(), canary=True)

    for number in range(200):
        probe.stopped = None
        assert (await once(probe, float(number))).outcome is Outcome.LEAKED

    assert redis.dump() == before


async def test_a_key_that_is_there_is_never_written_over_nor_deleted(redis: Redis) -> None:
    key = canary("w", "cache", 1.0).text
    redis.run("SET", key, "somebody's")
    probe = attempts(redis.url(), canary=True)

    result = await once(probe)

    assert result.outcome is Outcome.UNREACHABLE
    assert redis.run("GET", key) == b"somebody's"
    assert await probe.target.undo(canary("w", "cache", 1.0)) is None
    assert redis.run("GET", key) == b"somebody's"


async def test_a_canary_that_cannot_be_read_back_is_said_to_be_unverified(redis: Redis) -> None:
    result = await once(attempts(redis.url("no-get", WORD), canary=True))

    assert result.outcome is Outcome.LEAKED
    assert "read-back was refused" in result.reason
    assert "not undone" in result.reason
    assert 0 < redis.run("TTL", canary("w", "cache", 1.0).text) <= 3600


async def test_attempts_that_are_cancelled_leave_no_connection(redis: Redis) -> None:
    redis.run("CLIENT", "PAUSE", "60000", "WRITE")
    target = attempts(redis.url()).target
    tasks = [asyncio.create_task(target.attempt(canary("w", "c", float(n)))) for n in range(50)]
    await asyncio.sleep(0.3)

    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    deadline = time.monotonic() + 3
    while redis.run("INFO", "clients")["connected_clients"] > 1 and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert redis.run("INFO", "clients")["connected_clients"] == 1


async def test_many_attempts_at_once_all_have_their_answer(redis: Redis) -> None:
    target = attempts(redis.url("app", WORD), timeout=10).target

    tried = await asyncio.gather(*(target.attempt(canary("w", "c", float(n))) for n in range(300)))

    assert {each.judgement.code for each in tried if each.judgement} == {"NOPERM"}
    assert all(each.judgement for each in tried)


# -- faults of our own, secrets, configuration ---------------------------------------------------------


async def test_without_file_descriptors_the_attempt_is_skipped_as_our_own_fault(redis: Redis) -> None:
    program = (
        "import asyncio, os, resource, sys\n"
        "from tests.probes.write.test_redis import attempts, once\n"
        "async def main():\n"
        "    await once(attempts('redis://127.0.0.1:1/0'))\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, 4096))\n"
        "    result = await once(attempts(sys.argv[1]), 2.0)\n"
        "    print(result.outcome, result.figures['why'], result.reason)\n"
        "asyncio.run(main())\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program, redis.url()], capture_output=True, text=True, check=False
    )

    assert said.stdout.startswith(f"skipped {Why.OWN_FAULT} the watchdog could not ask"), (
        said.stdout + said.stderr
    )


def test_the_module_can_be_imported_without_the_driver(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['redis'] = None; sys.modules['redis.asyncio'] = None\n"
        "import asyncio\n"
        "from tests.probes.write.test_redis import OwnFault\n"
        "from probes.write.redis import RedisTarget, RedisWrite\n"
        "from probes.write.canary import canary\n"
        "spec = RedisWrite.model_validate({'redis': {'url': 'redis://127.0.0.1:1/0'}})\n"
        "try:\n"
        "    asyncio.run(RedisTarget(spec, 1).attempt(canary('w', 'p', 1.0)))\n"
        "except OwnFault as error:\n"
        "    print(error.reason)\n"
    ).replace("from tests.probes.write.test_redis import OwnFault", "from probes.answer import OwnFault")

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert said.stdout == "the driver is not installed: pip install 'freezewatch[redis]'\n", said.stderr


def test_no_secret_stands_in_any_repr_or_mistake() -> None:
    url = "redis://someone:top-secret-word@cache.example:6380/3"
    spec = RedisWrite.model_validate({"redis": {"url": url}})

    shown = repr(spec) + str(spec) + repr(spec.redis.url) + RedisTarget(spec, 1).tries

    assert "top-secret-word" not in shown
    assert "cache.example:6380/3" in RedisTarget(spec, 1).tries
    with pytest.raises(ValidationError) as mistake:
        RedisWrite.model_validate({"redis": {"url": url + "/x?nonsense=1", "key": "plain"}})
    assert "top-secret-word" not in str(mistake.value)


def test_an_error_that_the_driver_does_not_know_keeps_its_first_word() -> None:
    from redis.exceptions import ReadOnlyError, ResponseError

    known = failed(ReadOnlyError("You can't write"))
    unknown = failed(ResponseError("NOREPLICAS Not enough"))

    assert isinstance(known, Exception)
    assert (str(known), str(unknown)) == ("READONLY You can't write", "NOREPLICAS Not enough")
    assert isinstance(failed(OSError(24, "Too many open files")), OwnFault)


@pytest.mark.parametrize(
    "options",
    [
        {"url": ""},
        {"url": "http://h/0"},
        {"url": "redis://"},
        {"url": "redis://h:0/0"},
        {"url": "redis://h:99999/0"},
        {"url": "redis://h/nine"},
        {"url": "redis://h/0?socket_timeout=0"},
        {"url": "redis://h/0?ssl_cert_reqs=none"},
        {"url": "redis://h/0#x"},
        {"url": "unix:///run/redis.sock"},
        {"url": 5},
        {"url": "redis://h/0", "key": "production:stock"},
        {"url": "redis://h/0", "key": ""},
        {"url": "redis://h/0", "canary": "perhaps"},
        {"url": "redis://h/0", "db": 3},
        {},
    ],
)
def test_a_wrong_configuration_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RedisWrite.model_validate({"redis": options})


@pytest.mark.parametrize(
    "refusal",
    [
        {"errors": []},
        {"errors": ["readonly"]},
        {"errors": ["ERR"]},
        {"errors": "READONLY"},
        {"message": "("},
        {"code": "x"},
    ],
)
def test_a_wrong_refusal_is_refused(refusal: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RedisWrite.model_validate({"redis": {"url": "redis://h/0"}, "refusal": refusal})
