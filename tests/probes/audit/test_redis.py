"""The audit of a Redis server, on real masters and replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from probes.audit.audit import Audit
from probes.audit.redis.source import RedisAudit, RedisSource
from probes.base import Outcome, Result, Run
from probes.write.canary import canary
from probes.write.redis import RedisTarget, RedisWrite
from tests.servers.machine import until
from tests.servers.redis import Redis

pytestmark = pytest.mark.xdist_group("redis")

USERS = {"auditor": "on >secret-word +info +command", "blind": "on >secret-word +command"}


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis(users=USERS) as started:
        yield started


@pytest.fixture
def redis(server: Redis) -> Redis:
    server.run("FLUSHALL")
    return server


class Auditor:
    """Drives the real audit as the watchdog does; `restart` forgets all but what was recorded."""

    def __init__(self, url: str, timeout: float = 5, exempt: list[dict[str, str]] | None = None) -> None:
        self.spec = RedisAudit.model_validate({"redis": {"url": url}, "exempt": exempt or []})
        self.timeout = timeout
        self.mark: str | None = None
        self.restart()

    def restart(self) -> None:
        source = RedisSource(self.spec, self.timeout)
        self.audit = Audit(name="db", source=source, exempt=self.spec.exempt, timeout=self.timeout, opens=0.0)
        if self.mark is not None:
            self.audit.resume(self.mark, 1.0)

    async def read(self) -> Result:
        result = await self.audit.run(Run(slot=1.0, phase="frozen", frozen=True, started=time.time()))
        mark = result.figures.get("mark")
        self.mark = str(mark) if mark is not None else self.mark
        return result


def what(result: Result) -> list[str]:
    said = result.figures["what"]
    assert isinstance(said, list)
    return said


def saved(server: Redis) -> None:
    """A save that ended in another second than the one before."""
    info = server.run("INFO", "persistence")
    until(lambda: int(server.run("TIME")[0]) > info["rdb_last_save_time"], "a second is over")
    server.run("BGSAVE", "SCHEDULE")
    until(
        lambda: server.run("INFO", "persistence")["rdb_last_save_time"] > info["rdb_last_save_time"],
        "it is saved",
    )


async def test_each_write_command_is_named_with_its_number(redis: Redis) -> None:
    auditor = Auditor(redis.url())
    first = await auditor.read()

    for number in range(3):
        redis.run("SET", f"k{number}", "1")
    redis.run("HSET", "h", "f", "v")
    redis.run("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    result = await auditor.read()

    assert first.reason == "first reading (command counters)"
    assert what(result) == ["hset: 1 × write", "set: 3 × write", "xgroup|create: 1 × write"]
    assert (await auditor.read()).outcome is Outcome.OK


async def test_what_a_script_a_function_or_a_transaction_writes_is_counted_once(redis: Redis) -> None:
    redis.run(
        "FUNCTION", "LOAD", "REPLACE",
        "#!lua name=l\nredis.register_function('f', function() return redis.call('SET', 'f', '1') end)",
    )  # fmt: skip
    auditor = Auditor(redis.url())
    await auditor.read()

    redis.run("EVAL", "redis.call('SET', 'e', '1') redis.call('GET', 'e')", 0)
    redis.run("FCALL", "f", 0)
    with redis.client() as client, client.pipeline() as transaction:
        transaction.set("t", 1).incr("t").execute()

    assert what(await auditor.read()) == ["incrby: 1 × write", "set: 3 × write"]


@pytest.mark.parametrize(
    "harmless",
    [
        [("GET", "stock")],
        [("PUBLISH", "news", "hello")],
        [("DEL", "absent")],
        [("SET", "stock", "9", "NX")],
        [("SORT", "list")],
        [("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">")] * 2,
        [("CONFIG", "RESETSTAT")],
        [("BGREWRITEAOF",)],
    ],
    ids=str,
)
async def test_what_changes_no_key_is_no_write(redis: Redis, harmless: list[tuple[str, ...]]) -> None:
    redis.run("SET", "stock", "5")
    redis.run("XGROUP", "CREATE", "stream", "g", "$", "MKSTREAM")
    redis.run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">")
    auditor = Auditor(redis.url())
    await auditor.read()

    for words in harmless:
        redis.run(*words)
    result = await auditor.read()

    assert result.outcome is Outcome.OK, result.reason


async def test_a_failed_write_is_no_write(redis: Redis) -> None:
    redis.run("SET", "stock", "5")
    auditor = Auditor(redis.url())
    await auditor.read()

    with redis.client() as client, pytest.raises(Exception, match="WRONGTYPE"):
        client.lpush("stock", "x")
    saved(redis)

    assert (await auditor.read()).outcome is Outcome.OK


async def test_keys_that_expire_or_are_evicted_are_noted_and_no_write(redis: Redis) -> None:
    redis.run("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    for number in range(100):
        redis.run("SET", f"k{number}", "v" * 5000)
    redis.run("SET", "brief", "1", "PX", "50")
    auditor = Auditor(redis.url())
    await auditor.read()

    until(lambda: redis.run("GET", "brief") is None, "it has expired")
    redis.run("CONFIG", "SET", "maxmemory", str(redis.run("INFO", "memory")["used_memory"] - 100_000))
    until(lambda: redis.run("INFO", "stats")["evicted_keys"] > 0, "keys are evicted")
    result = await auditor.read()
    redis.run("CONFIG", "SET", "maxmemory", "0")

    assert result.outcome is Outcome.OK, result.reason
    assert result.figures["notes"] == [
        "keys expired, which no request asked for",
        "keys were evicted for want of memory, which no request asked for",
    ]


async def test_our_own_attempts_that_are_discarded_do_not_count(redis: Redis) -> None:
    auditor = Auditor(redis.url())
    target = RedisTarget(RedisWrite.model_validate({"redis": {"url": redis.url()}}), 2)
    await auditor.read()

    for number in range(20):
        await target.attempt(canary("w", "cache", float(number)))
    result = await auditor.read()

    assert (result.outcome, result.figures["changes"]) == (Outcome.OK, 0)


async def test_a_canary_that_leaked_counts_as_two_writes_which_cannot_be_told_from_others(
    redis: Redis,
) -> None:
    auditor = Auditor(redis.url())
    target = RedisTarget(RedisWrite.model_validate({"redis": {"url": redis.url(), "canary": True}}), 2)
    await auditor.read()

    await target.attempt(canary("w", "cache", 1.0))
    await target.undo(canary("w", "cache", 1.0))
    result = await auditor.read()

    assert what(result) == ["del: 1 × write", "set: 1 × write"]
    assert result.figures["tells_own"] is False


async def test_a_command_may_be_exempt(redis: Redis) -> None:
    auditor = Auditor(redis.url(), exempt=[{"key": "x*", "reason": "consumers go on"}])
    await auditor.read()

    redis.run("XADD", "s", "*", "f", "v")
    result = await auditor.read()

    assert (result.outcome, result.figures["exempt"]) == (Outcome.OK, 1)


async def test_over_a_restart_of_the_watchdog_nothing_is_lost(redis: Redis) -> None:
    auditor = Auditor(redis.url())
    await auditor.read()

    auditor.restart()
    redis.run("SET", "k", "1")
    result = await auditor.read()

    assert what(result) == ["set: 1 × write"]


async def test_the_reset_of_statistics_hides_no_write(redis: Redis) -> None:
    for number in range(50):
        redis.run("SET", "k", number)
    auditor = Auditor(redis.url())
    await auditor.read()

    redis.run("SET", "k", "x")
    redis.run("CONFIG", "RESETSTAT")
    result = await auditor.read()

    assert what(result) == ["keyspace: 1 × write"]


async def test_a_save_hides_no_write(redis: Redis) -> None:
    auditor = Auditor(redis.url())
    await auditor.read()

    redis.run("SET", "k", "x")
    saved(redis)
    written = await auditor.read()
    saved(redis)
    quiet = await auditor.read()

    assert what(written) == ["set: 1 × write"]
    assert quiet.outcome is Outcome.OK


async def test_a_save_and_a_reset_together_leave_it_unknown(redis: Redis) -> None:
    redis.run("SET", "k", "x")
    auditor = Auditor(redis.url())
    await auditor.read()

    redis.run("SET", "k", "y")
    saved(redis)
    redis.run("CONFIG", "RESETSTAT")
    result = await auditor.read()

    assert result.outcome is Outcome.UNKNOWN
    assert "RESETSTAT" in result.reason


async def test_a_save_that_left_the_dirty_counter_as_it_was_is_told_by_its_time(redis: Redis) -> None:
    saved(redis)
    auditor = Auditor(redis.url())
    await auditor.read()

    redis.run("SET", "k", "y")
    saved(redis)
    redis.run("CONFIG", "RESETSTAT")

    assert (await auditor.read()).outcome is Outcome.UNKNOWN


async def test_a_command_that_may_only_have_read_is_unknown_after_a_save(redis: Redis) -> None:
    auditor = Auditor(redis.url())
    await auditor.read()

    redis.run("SORT", "list")
    saved(redis)
    result = await auditor.read()

    assert result.outcome is Outcome.UNKNOWN
    assert "sort may or may not" in result.reason


# -- another process, another role ---------------------------------------------------------------------


@pytest.mark.parametrize("crash", [False, True])
async def test_a_server_that_was_started_again_is_unknown_once(crash: bool) -> None:
    with Redis() as own:
        own.run("SET", "k", "1")
        auditor = Auditor(own.url())
        await auditor.read()

        own.restart(crash=crash)
        result = await auditor.read()

        assert result.outcome is Outcome.UNKNOWN
        assert "started again" in result.reason
        assert (await auditor.read()).outcome is Outcome.OK


async def test_what_a_replica_takes_from_its_master_is_a_write_by_replication(redis: Redis) -> None:
    with Redis(replica_of=redis) as replica:
        auditor = Auditor(replica.url())
        exempting = Auditor(
            replica.url(), exempt=[{"role": "replication", "reason": "the master is not frozen"}]
        )
        await auditor.read()
        await exempting.read()

        redis.run("SET", "k", "1")
        replica.caught_up()

        assert what(await auditor.read()) == ["set: 1 × write by replication"]
        assert (await exempting.read()).outcome is Outcome.OK


async def test_a_key_that_expires_on_the_master_is_not_taken_for_a_write_nor_for_silence(
    redis: Redis,
) -> None:
    with Redis(replica_of=redis) as replica:
        redis.run("SET", "brief", "1", "PX", "1500")
        replica.caught_up()
        auditor = Auditor(replica.url())
        await auditor.read()

        until(lambda: redis.run("DBSIZE") == 0, "it has expired")
        replica.caught_up()
        result = await auditor.read()

        assert result.outcome is Outcome.UNKNOWN
        assert "expired there" in result.reason


async def test_a_quiet_replica_is_quiet_though_its_master_pings_it_and_links_again(redis: Redis) -> None:
    redis.run("CONFIG", "SET", "repl-ping-replica-period", "1")
    with Redis(replica_of=redis) as replica:
        auditor = Auditor(replica.url())
        await auditor.read()

        before = replica.run("INFO", "replication")["slave_repl_offset"]
        replica.run("CLIENT", "KILL", "TYPE", "master")
        until(lambda: replica.run("INFO", "replication")["slave_repl_offset"] > before, "a ping has come")
        result = await auditor.read()

        assert result.outcome is Outcome.OK, result.reason


async def test_a_master_with_a_replica_is_quiet_though_its_offset_moves(redis: Redis) -> None:
    redis.run("CONFIG", "SET", "repl-ping-replica-period", "1")
    with Redis(replica_of=redis):
        auditor = Auditor(redis.url())
        await auditor.read()

        before = redis.run("INFO", "replication")["master_repl_offset"]
        redis.run("PUBLISH", "news", "hello")
        until(lambda: redis.run("INFO", "replication")["master_repl_offset"] > before, "it has moved")
        result = await auditor.read()

        assert result.outcome is Outcome.OK, result.reason


async def test_a_replica_that_was_promoted_is_unknown_and_its_writes_are_found(redis: Redis) -> None:
    with Redis(replica_of=redis) as replica:
        auditor = Auditor(replica.url())
        await auditor.read()

        replica.run("REPLICAOF", "NO", "ONE")
        promoted = await auditor.read()
        replica.run("SET", "k", "1")
        written = await auditor.read()

        assert promoted.outcome is Outcome.UNKNOWN
        assert "the replica was promoted" in promoted.reason
        assert what(written) == ["set: 1 × write"]


async def test_a_promotion_and_a_write_between_two_readings_are_both_said(redis: Redis) -> None:
    with Redis(replica_of=redis) as replica:
        auditor = Auditor(replica.url())
        await auditor.read()

        replica.run("REPLICAOF", "NO", "ONE")
        replica.run("SET", "k", "1")
        result = await auditor.read()

        assert what(result) == ["set: 1 × write"]
        assert "promoted" in str(result.figures["unknown"])


async def test_a_data_set_that_was_loaded_as_a_whole_is_unknown(redis: Redis) -> None:
    redis.run("CONFIG", "SET", "repl-backlog-size", "16384")
    with Redis(replica_of=redis) as replica:
        redis.run("SET", "k0", "1")
        replica.caught_up()
        auditor = Auditor(replica.url())
        await auditor.read()

        replica.pause()
        redis.run("CLIENT", "KILL", "TYPE", "replica")
        for number in range(100):
            redis.run("SET", "k0", str(number) * 500)
        replica.resume()
        replica.caught_up()
        result = await auditor.read()

        assert result.outcome is Outcome.UNKNOWN
        assert "loaded its master's data as a whole" in result.reason


async def test_a_server_that_is_made_a_replica_is_unknown(redis: Redis) -> None:
    with Redis() as own:
        auditor = Auditor(own.url())
        await auditor.read()

        own.run("REPLICAOF", "127.0.0.1", str(redis.port))
        until(lambda: own.run("INFO", "replication")["master_link_status"] == "up", "it has the data")
        result = await auditor.read()

        assert result.outcome is Outcome.UNKNOWN
        assert "was made a replica" in result.reason


async def test_a_replica_that_takes_writes_of_its_own_says_so(redis: Redis) -> None:
    with Redis(replica_of=redis, settings={"replica-read-only": "no"}) as replica:
        auditor = Auditor(replica.url())
        first = await auditor.read()

        replica.run("SET", "local", "1")
        result = await auditor.read()

        assert first.figures["notes"] == ["the replica takes writes of its own (replica-read-only no)"]
        assert what(result) == ["set: 1 × write"]


# -- no answer -----------------------------------------------------------------------------------------


async def test_an_account_needs_two_commands_and_no_key(redis: Redis) -> None:
    redis.run("SET", "k", "1")

    result = await Auditor(redis.url("auditor", "secret-word")).read()

    assert result.outcome is Outcome.OK


async def test_without_the_right_to_ask_the_reading_is_unreachable_and_shows_no_secret(redis: Redis) -> None:
    blind = await Auditor(redis.url("blind", "secret-word")).read()
    stranger = await Auditor(redis.url("blind", "another-word")).read()

    assert blind.outcome is stranger.outcome is Outcome.UNREACHABLE
    assert "an audit asks INFO and COMMAND" in blind.reason
    assert "another-word" not in stranger.reason


async def test_a_hung_server_is_unreachable_in_time_and_read_over_once_it_goes_on() -> None:
    with Redis() as own:
        auditor = Auditor(own.url(), timeout=1)
        await auditor.read()
        own.run("SET", "k", "1")

        own.pause()
        began = time.monotonic()
        hung = await auditor.read()
        took = time.monotonic() - began
        own.resume()
        back = await auditor.read()
        own.kill()
        dead = await auditor.read()

        assert (hung.outcome, dead.outcome) == (Outcome.UNREACHABLE, Outcome.UNREACHABLE)
        assert took < 1.2
        assert what(back) == ["set: 1 × write"]


async def test_readings_that_are_cancelled_leave_no_connection() -> None:
    with Redis() as own:
        own.run("CLIENT", "PAUSE", "1500", "ALL")
        source = RedisSource(RedisAudit.model_validate({"redis": {"url": own.url()}}), 30)
        tasks = [asyncio.create_task(source.read(None)) for _ in range(20)]
        await asyncio.sleep(0.2)

        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)

        assert all(isinstance(each, asyncio.CancelledError) for each in ended)
        until(lambda: own.run("INFO", "clients")["connected_clients"] == 1, "all connections are gone")


@pytest.mark.parametrize("mark", ["", "{}", "[]", "null", '{"v":1}', '{"v":1,"saves":1,"grown":2}'])
async def test_a_mark_that_is_none_of_ours_leaves_the_time_before_unknown(redis: Redis, mark: str) -> None:
    reading = await RedisSource(RedisAudit.model_validate({"redis": {"url": redis.url()}}), 5).read(mark)

    assert reading.unknown is not None


@pytest.mark.parametrize("options", [{}, {"url": "x"}, {"url": "redis://h/0", "keys": ["*"]}, {"url": None}])
def test_a_wrong_configuration_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RedisAudit.model_validate({"redis": options})
