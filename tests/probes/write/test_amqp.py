"""Writes to a real RabbitMQ: what is a refusal, what is left behind, and what lands late."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiormq
import pytest
from pydantic import ValidationError

from probes.base import Outcome
from probes.tools import Tools
from probes.write.amqp.spec import AmqpWrite
from probes.write.amqp.target import AmqpBusyTarget, AmqpTarget, amqp_write
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from tests.probes.harness import OPENS, free_port, frozen, opened
from tests.probes.write.amqp_broker import Shop, shop
from tests.servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq-write")

Make = Callable[..., WriteAttempts]


@pytest.fixture
def broker(rabbitmq_server: RabbitMQ) -> Iterator[Shop]:
    with shop(rabbitmq_server) as made:
        made.queue("orders")
        made.exchange("sales", "fanout")
        made.bind("sales", "orders")
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[RabbitMQ]:
    """A node that may hang, crash and run out of memory."""
    with RabbitMQ() as server:
        yield server


def spec(**entry: Any) -> AmqpWrite:
    return AmqpWrite.model_validate(entry)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[WriteAttempts] = []

    def attempts(written: AmqpWrite, *, timeout: float = 5.0, opens: float = OPENS) -> WriteAttempts:
        tools = Tools(window="w", opens=opens, closes=opens + 3600, agent="test", transport=None)  # type: ignore[arg-type]
        target = amqp_write(written, timeout, tools)
        made.append(WriteAttempts(name="sales", surface="sales", window="w", target=target, timeout=timeout))
        return made[-1]

    yield attempts
    for each in made:
        await each.aclose()


def held(written: AmqpWrite) -> AmqpWrite:
    """The specification of the channel that is kept busy."""
    (_, busy, _) = written.beside[0]
    assert isinstance(busy, AmqpWrite)
    return busy


# -- the default: a transaction that is rolled back -----------------------------------------------


async def test_an_open_broker_is_a_leak_and_nothing_is_left_in_any_queue(broker: Shop, make: Make) -> None:
    probe = make(spec(amqp={"url": broker.url, "exchange": "sales"}))

    result = await probe.run(frozen())

    assert result.outcome is Outcome.LEAKED
    assert result.figures["trace"] == "none"
    assert await broker.depth("orders") == 0


async def test_while_writes_are_open_the_same_attempt_is_accepted(broker: Shop, make: Make) -> None:
    probe = make(spec(amqp={"url": broker.url, "exchange": "sales"}))

    assert (await probe.run(opened())).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("exchange", ["sales", ""])
async def test_taking_away_the_permission_to_write_is_a_refusal(
    broker: Shop, make: Make, exchange: str
) -> None:
    broker.freeze()

    result = await make(spec(amqp={"url": broker.url, "exchange": exchange})).run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason
    assert "ACCESS_REFUSED" in result.reason
    assert result.figures["refused_by"] == "403"
    assert result.figures["verified"] is True


async def test_permissions_given_back_are_found_by_the_next_attempt(broker: Shop, make: Make) -> None:
    broker.freeze()
    probe = make(spec(amqp={"url": broker.url, "exchange": "sales"}))
    assert (await probe.run(frozen())).outcome is Outcome.REFUSED

    broker.permit()

    assert (await probe.run(frozen(OPENS + 5))).outcome is Outcome.LEAKED


async def test_an_exchange_that_is_not_there_is_no_refusal(broker: Shop, make: Make) -> None:
    result = await make(spec(amqp={"url": broker.url, "exchange": "nowhere"})).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "NOT_FOUND" in result.reason


async def test_an_internal_exchange_refuses_everybody_so_that_proves_nothing(
    broker: Shop, make: Make
) -> None:
    broker.exchange("inner", internal=True)

    result = await make(spec(amqp={"url": broker.url, "exchange": "inner"})).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "nobody may publish to it" in result.reason


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://{app}:n0t-the-one@127.0.0.1:{port}/{vhost}", "ACCESS_REFUSED - Login was refused"),
        ("amqp://{app}:s3cr3t-word@127.0.0.1:{port}/elsewhere", "NOT_ALLOWED"),
        ("amqps://{app}:s3cr3t-word@127.0.0.1:{port}/{vhost}", "TLS failed"),
    ],
)
async def test_a_login_that_fails_is_no_refusal_even_with_403(
    broker: Shop, make: Make, url: str, said: str
) -> None:
    written = url.format(app=broker.app, port=broker.server.port, vhost=broker.vhost)

    result = await make(spec(amqp={"url": written}, refusal={"reply_codes": [403, 530]})).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert said in result.reason
    assert "s3cr3t-word" not in result.reason
    assert "n0t-the-one" not in result.reason


async def test_a_topic_permission_that_refuses_a_key_of_ours_proves_nothing(broker: Shop, make: Make) -> None:
    broker.exchange("events", "topic")
    topic = {"exchange": "events", "write": r"^orders\.", "read": ".*"}
    broker.server.api("PUT", broker.path("topic-permissions", broker.app), json=topic)

    ours = await make(spec(amqp={"url": broker.url, "exchange": "events"})).run(frozen())
    theirs = await make(
        spec(amqp={"url": broker.url, "exchange": "events", "routing_key": "stock.changed"})
    ).run(frozen())

    assert ours.outcome is Outcome.UNREACHABLE
    assert "name the application's routing_key" in ours.reason
    assert theirs.outcome is Outcome.REFUSED


async def test_a_broker_that_is_not_there_is_unreachable(make: Make) -> None:
    result = await make(spec(amqp={"url": f"amqp://app:s3cr3t-word@127.0.0.1:{free_port()}/v"})).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "connection refused" in result.reason


async def test_a_broker_that_hangs_is_unreachable_within_the_timeout(
    own_server: RabbitMQ, make: Make
) -> None:
    probe = make(spec(amqp={"url": own_server.url()}), timeout=0.7)
    own_server.pause()
    try:
        began = time.monotonic()
        result = await probe.run(frozen())
        took = time.monotonic() - began
    finally:
        own_server.resume()

    assert result.outcome is Outcome.UNREACHABLE
    assert "no answer within" in result.reason
    assert took < 1.5


async def test_what_speaks_no_amqp_is_unreachable(make: Make, serve: Any) -> None:
    server = serve(lambda asked: b"HTTP/1.1 400 Bad\r\n\r\n")

    result = await make(spec(amqp={"url": f"amqp://127.0.0.1:{server.port}/"}), timeout=0.7).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE


async def test_200_attempts_on_an_open_broker_leave_it_byte_for_byte_as_it_was(
    broker: Shop, make: Make
) -> None:
    await broker.publish("orders", b"one", b"two")
    before = (json.dumps(broker.definitions(), sort_keys=True), await broker.depth("orders"))
    target = make(spec(amqp={"url": broker.url, "exchange": "sales"})).target

    for slot in range(200):
        tried = await target.attempt(canary("w", "sales", slot))
        assert tried.traceless

    assert (json.dumps(broker.definitions(), sort_keys=True), await broker.depth("orders")) == before
    sales = broker.server.api("GET", broker.path("exchanges", "sales"))
    assert "message_stats" not in sales or not sales["message_stats"].get("publish_in")
    assert await broker.drain("orders") == ["one", "two"]


async def test_an_attempt_that_is_cancelled_leaves_no_connection(broker: Shop, make: Make) -> None:
    target = make(spec(amqp={"url": broker.url, "exchange": "sales"})).target
    ended = []
    for wait in (0.0, 0.0005, 0.001, 0.002, 0.003, 0.004):
        task = asyncio.ensure_future(target.attempt(canary("w", "sales", wait)))
        await asyncio.sleep(wait)
        task.cancel()
        ended += await asyncio.gather(task, return_exceptions=True)

    assert sum(isinstance(each, asyncio.CancelledError) for each in ended) >= 3
    await _until(lambda: _sockets(broker.server.port) == 0)


async def test_two_watchdogs_at_once_do_not_disturb_each_other(broker: Shop, make: Make) -> None:
    probes = [make(spec(amqp={"url": broker.url, "exchange": "sales"})) for _ in range(8)]

    results = await asyncio.gather(*(probe.run(opened()) for probe in probes))

    assert {result.outcome for result in results} == {Outcome.ACCEPTED}


@pytest.mark.parametrize("name", ["with blanks, #1/2+3@home:x", "a" * 127])
@pytest.mark.parametrize("vhost", ["naïve \"quoted\" 'shop' ${x}", "日本語/50%"])
async def test_any_name_of_a_vhost_is_taken_and_every_name_of_an_exchange_that_the_driver_takes(
    rabbitmq_server: RabbitMQ,
    make: Make,
    name: str,
    vhost: str,
) -> None:
    with shop(rabbitmq_server, vhost=vhost) as made:
        made.exchange(name)
        made.freeze()

        result = await make(spec(amqp={"url": made.url, "exchange": name})).run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason


# -- a channel from before the window -------------------------------------------------------------


async def test_a_busy_channel_goes_on_writing_after_its_permission_was_taken_away(
    broker: Shop, make: Make
) -> None:
    """RabbitMQ remembers a channel's permission while it is busy; a fresh one is refused at once."""
    written = spec(amqp={"url": broker.url, "exchange": "sales"})
    fresh, busy = make(written), make(held(written), opens=time.time() + 1.0)
    await busy.hold()
    assert isinstance(busy.target, AmqpBusyTarget)
    await _until(lambda: busy.target._session.since > 0)  # type: ignore[attr-defined]
    await asyncio.sleep(1.0)

    broker.freeze()
    await asyncio.sleep(1.5)  # longer than an idle channel would remember

    assert (await fresh.run(frozen())).outcome is Outcome.REFUSED
    result = await busy.run(frozen())
    assert result.outcome is Outcome.LEAKED
    assert result.figures["from_before"] is True
    assert await broker.depth("orders") == 0


async def test_a_channel_from_before_that_the_operator_closed_counts_as_refused(
    broker: Shop, make: Make
) -> None:
    busy = make(held(spec(amqp={"url": broker.url, "exchange": "sales"})), opens=time.time() + 1.0)
    await busy.hold()
    await asyncio.sleep(1.2)

    broker.freeze()
    await asyncio.to_thread(_close_connections, broker)

    result = await busy.run(frozen())
    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["from_before"] is True
    assert "CONNECTION_FORCED" in result.reason
    again = await busy.run(frozen(OPENS + 5))
    assert again.outcome is Outcome.REFUSED
    assert again.figures["from_before"] is False


async def test_a_channel_opened_after_the_window_opened_is_not_from_before(broker: Shop, make: Make) -> None:
    broker.freeze()
    busy = make(held(spec(amqp={"url": broker.url, "exchange": "sales"})), opens=time.time() - 60)

    result = await busy.run(frozen())

    assert result.outcome is Outcome.REFUSED
    assert result.figures["from_before"] is False


# -- a canary that is really published ------------------------------------------------------------


def with_own_queue(broker: Shop, **more: Any) -> AmqpWrite:
    broker.exchange("events", "topic")
    broker.queue("freezewatch")
    broker.bind("events", "freezewatch", "freezewatch.#")
    return spec(
        amqp={"url": broker.url, "exchange": "events", "form": "canary", **more.pop("amqp", {})},
        read_back={"queue": "freezewatch", "within": "500ms"},
        **more,
    )


async def test_a_canary_that_leaked_is_found_in_our_queue_and_taken_away(broker: Shop, make: Make) -> None:
    probe = make(with_own_queue(broker))

    result = await probe.run(frozen())

    assert result.outcome is Outcome.LEAKED
    assert result.figures["undone"] is True
    assert await broker.depth("freezewatch") == 0


async def test_a_canary_is_refused_where_the_permission_is_gone(broker: Shop, make: Make) -> None:
    probe = make(with_own_queue(broker))
    broker.freeze()

    result = await probe.run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["verified"] is True


async def test_a_full_queue_that_rejects_refuses_with_a_nack(broker: Shop, make: Make) -> None:
    """A rolled back publish meets no queue: this freeze is seen by a canary only."""
    probe = make(with_own_queue(broker))
    broker.policy("frozen", ".*", **{"max-length": 0, "overflow": "reject-publish"})
    await _until_refused(broker, "freezewatch")

    assert (await probe.run(frozen())).outcome is Outcome.REFUSED
    assert (await make(spec(amqp={"url": broker.url, "exchange": "sales"})).run(frozen())).outcome is (
        Outcome.LEAKED
    )
    broker.no_policy("frozen")


async def test_a_nack_of_one_queue_while_another_took_it_is_a_leak_behind_a_refusal(
    broker: Shop, make: Make
) -> None:
    probe = make(with_own_queue(broker))
    broker.queue("full", **{"x-max-length": 0, "x-overflow": "reject-publish"})
    broker.bind("events", "full", "#")

    result = await probe.run(frozen())

    assert result.outcome is Outcome.LEAKED_BEHIND_REFUSAL, result.reason
    assert await broker.depth("freezewatch") == 0


async def test_a_confirmed_canary_that_never_arrives_is_dropped(broker: Shop, make: Make) -> None:
    """A queue of length 0 that drops its head confirms and keeps nothing."""
    broker.exchange("events", "topic")
    broker.queue("freezewatch", **{"x-max-length": 0, "x-overflow": "drop-head"})
    probe = make(with_own_queue_declared(broker))

    result = await probe.run(frozen())

    assert result.outcome is Outcome.DROPPED, result.reason


def with_own_queue_declared(broker: Shop) -> AmqpWrite:
    broker.bind("events", "freezewatch", "freezewatch.#")
    return spec(
        amqp={"url": broker.url, "exchange": "events", "form": "canary"},
        read_back={"queue": "freezewatch", "within": "300ms"},
    )


async def test_a_canary_for_which_no_queue_is_bound_proves_nothing(broker: Shop, make: Make) -> None:
    probe = make(
        spec(
            amqp={"url": broker.url, "routing_key": "nowhere", "form": "canary"},
            read_back={"waived": "the confirm is believed"},
        )
    )

    result = await probe.run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "no queue is bound" in result.reason


async def test_a_canary_of_another_watchdog_stays_in_the_queue(broker: Shop, make: Make) -> None:
    target = make(with_own_queue(broker)).target
    first, second = canary("one", "sales", 1.0), canary("two", "sales", 1.0)
    await target.attempt(first)
    await target.attempt(second)

    assert await target.undo(first) is None

    assert await target.look(first) is False
    assert await target.look(second) is True
    assert await target.undo(second) is None
    assert await broker.depth("freezewatch") == 0


async def test_200_canaries_and_their_undo_leave_nothing(broker: Shop, make: Make) -> None:
    target = make(with_own_queue(broker)).target

    for slot in range(200):
        one = canary("w", "sales", slot)
        await target.attempt(one)
        assert await target.undo(one) is None

    assert await broker.depth("freezewatch") == 0
    assert await broker.depth("orders") == 0


async def test_a_canary_that_nobody_takes_expires_by_itself(broker: Shop, make: Make) -> None:
    target = make(with_own_queue(broker, amqp={"expires": "50ms"})).target

    await target.attempt(canary("w", "sales", 1.0))

    assert await target.look(canary("w", "sales", 1.0)) is True or await broker.depth("freezewatch") == 0
    await asyncio.sleep(0.3)
    assert await broker.depth("freezewatch") == 0


# -- a key that no queue is bound to --------------------------------------------------------------


async def test_an_unroutable_message_is_taken_and_leaves_nothing(broker: Shop, make: Make) -> None:
    probe = make(spec(amqp={"url": broker.url, "form": "unroutable"}))

    result = await probe.run(frozen())

    assert result.outcome is Outcome.LEAKED
    assert result.figures["routed"] is False
    assert result.figures["trace"] == "none"


async def test_an_unroutable_message_that_was_routed_says_so_and_is_never_sent_again_while_open(
    broker: Shop, make: Make
) -> None:
    probe = make(spec(amqp={"url": broker.url, "exchange": "sales", "form": "unroutable"}))

    leaked = await probe.run(frozen())
    after = await probe.run(opened(OPENS + 60))

    assert leaked.outcome is Outcome.LEAKED
    assert "ROUTED" in leaked.reason
    assert leaked.figures["trace"] == "left"
    assert after.outcome is Outcome.SKIPPED
    assert await broker.depth("orders") == 1


# -- alarms ---------------------------------------------------------------------------------------


async def test_a_message_blocked_by_an_alarm_is_no_refusal_and_is_found_when_it_lands(
    own_server: RabbitMQ, make: Make
) -> None:
    with shop(own_server) as made:
        probe = make(with_own_queue(made), timeout=1.0)
        await asyncio.to_thread(own_server.memory_alarm, True)
        try:
            blocked = await probe.run(frozen())
            again = await probe.run(frozen(OPENS + 5))
        finally:
            await asyncio.to_thread(own_server.memory_alarm, False)
        await _until_depth(made, "freezewatch", 2)
        landed = await probe.run(frozen(OPENS + 10))

        assert (blocked.outcome, blocked.reason) == (Outcome.UNREACHABLE, "blocked: low on memory")
        assert again.outcome is Outcome.UNREACHABLE
        assert landed.outcome is Outcome.LEAKED
        assert "has been applied since" in landed.reason


async def test_without_a_queue_of_our_own_the_late_confirm_tells_that_it_landed(
    own_server: RabbitMQ, make: Make
) -> None:
    with shop(own_server) as made:
        made.queue("orders")
        written = spec(
            amqp={"url": made.url, "routing_key": "orders", "form": "canary"},
            read_back={"waived": "the application's queue is not read"},
        )
        probe = make(written, timeout=1.0)
        await asyncio.to_thread(own_server.memory_alarm, True)
        try:
            blocked = await probe.run(frozen())
        finally:
            await asyncio.to_thread(own_server.memory_alarm, False)
        await _until_depth(made, "orders", 1)
        landed = await probe.run(frozen(OPENS + 10))

    assert blocked.reason == "blocked: low on memory"
    assert landed.outcome is Outcome.LEAKED
    assert "has been applied since" in landed.reason


async def test_a_blocked_publish_that_is_rolled_back_never_lands(own_server: RabbitMQ, make: Make) -> None:
    with shop(own_server) as made:
        made.queue("orders")
        probe = make(spec(amqp={"url": made.url, "routing_key": "orders"}), timeout=1.0)
        await asyncio.to_thread(own_server.memory_alarm, True)
        try:
            blocked = await probe.run(frozen())
        finally:
            await asyncio.to_thread(own_server.memory_alarm, False)
        await asyncio.sleep(0.5)

        assert (blocked.outcome, blocked.reason) == (Outcome.UNREACHABLE, "blocked: low on memory")
        assert await made.depth("orders") == 0


async def test_a_blocked_canary_that_is_given_up_lands_no_more(own_server: RabbitMQ, make: Make) -> None:
    with shop(own_server) as made:
        probe = make(with_own_queue(made), timeout=0.4)
        await asyncio.to_thread(own_server.memory_alarm, True)
        try:
            for slot in range(10):
                await probe.target.attempt(canary("w", "sales", slot))
            assert isinstance(probe.target, AmqpTarget)
            assert len(probe.target._waiting) == 8
            await probe.aclose()
            await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(own_server.memory_alarm, False)
        await asyncio.sleep(0.5)

        assert await made.depth("freezewatch") == 0


async def test_a_blocked_canary_that_is_cancelled_lands_no_more_and_leaves_no_connection(
    own_server: RabbitMQ, make: Make
) -> None:
    with shop(own_server) as made:
        target = make(with_own_queue(made), timeout=5.0).target
        await asyncio.to_thread(own_server.memory_alarm, True)
        try:
            task = asyncio.ensure_future(target.attempt(canary("w", "sales", 1.0)))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await _until(lambda: _sockets(own_server.port) == 0)
        finally:
            await asyncio.to_thread(own_server.memory_alarm, False)
        await asyncio.sleep(0.5)

        assert await made.depth("freezewatch") == 0


async def test_a_broker_killed_on_the_way_is_unreachable_and_found_again_afterwards(
    own_server: RabbitMQ, make: Make
) -> None:
    probe = make(spec(amqp={"url": own_server.url()}), timeout=3.0)
    busy = make(held(spec(amqp={"url": own_server.url()})), opens=time.time() + 60)
    await busy.hold()
    assert (await probe.run(opened())).outcome is Outcome.ACCEPTED

    await asyncio.to_thread(own_server.kill)
    down = await probe.run(frozen())
    busy_down = await busy.run(frozen())
    await asyncio.to_thread(own_server.start)
    up = await probe.run(opened(OPENS + 60))

    assert down.outcome is Outcome.UNREACHABLE
    assert busy_down.outcome is Outcome.UNREACHABLE
    assert up.outcome is Outcome.ACCEPTED


async def test_without_the_driver_nothing_is_asked_and_the_way_out_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiormq", None)

    result = await make(spec(amqp={"url": "amqp://127.0.0.1/"})).run(frozen())

    assert result.outcome is Outcome.SKIPPED
    assert result.figures["why"] == "own_fault"
    assert "pip install 'freezewatch[amqp]'" in result.reason


def test_the_module_can_be_imported_without_the_driver() -> None:
    blocked = (
        "import sys; sys.modules['aiormq'] = None; import probes.write.amqp.target, probes.audit.amqp.source"
    )

    subprocess.run([sys.executable, "-c", blocked], check=True, timeout=60)


# -- configuration --------------------------------------------------------------------------------

URL = "amqp://u:s3cr3t-word@h/v"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"amqp": None},
        {"amqp": {}},
        {"amqp": {"url": 7}},
        {"amqp": {"url": "http://h/"}},
        {"amqp": {"url": "amqp://"}},
        {"amqp": {"url": "amqp://h:99999999/"}},
        {"amqp": {"url": URL, "exchange": 5}},
        {"amqp": {"url": URL, "exchange": "é"}},
        {"amqp": {"url": URL, "exchange": "e" * 128}},
        {"amqp": {"url": URL, "routing_key": "é" * 128}},
        {"amqp": {"url": URL, "form": "publish"}},
        {"amqp": {"url": URL, "form": "canary"}},
        {"amqp": {"url": URL, "form": "unroutable", "routing_key": "orders"}},
        {"amqp": {"url": URL, "expires": 5}},
        {"amqp": {"url": URL, "expires": "0s"}},
        {"amqp": {"url": URL, "quue": "x"}},
        {"amqp": {"url": URL}, "refusal": {"reply_codes": []}},
        {"amqp": {"url": URL}, "refusal": {"reply_codes": [True]}},
        {"amqp": {"url": URL}, "refusal": {"reply_codes": ["403x"]}},
        {"amqp": {"url": URL}, "read_back": {"queue": "q"}},
        {"amqp": {"url": URL, "exchange": "e", "form": "canary"}, "read_back": {}},
        {
            "amqp": {"url": URL, "exchange": "e", "form": "canary"},
            "read_back": {"queue": "q", "waived": "abc"},
        },
        {"amqp": {"url": URL}, "undo": {"waived": ""}},
    ],
)
def test_a_mistake_in_the_configuration_is_named_without_the_secret(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        AmqpWrite.model_validate(entry)

    said = "; ".join(detail["msg"] for detail in error.value.errors())
    assert "s3cr3t-word" not in said


def test_no_repr_shows_the_password() -> None:
    written = spec(amqp={"url": URL, "exchange": "e", "form": "canary"}, read_back={"queue": "q", "url": URL})

    assert "s3cr3t-word" not in repr(written)


def test_a_canary_without_read_back_or_undo_says_what_will_not_turn_out() -> None:
    written = spec(amqp={"url": URL, "exchange": "e", "form": "canary"})

    assert not written.verified
    assert not written.undoable
    assert len(written.doubts) == 2


# -- helpers --------------------------------------------------------------------------------------


async def _until(what: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not what():
            await asyncio.sleep(0.05)


async def _until_depth(broker: Shop, queue: str, depth: int) -> None:
    async with asyncio.timeout(10):
        while await broker.depth(queue) != depth:
            await asyncio.sleep(0.05)


async def _until_refused(broker: Shop, queue: str) -> None:
    """A policy is in force a moment after it was set."""
    connection = await aiormq.connect(broker.admin)
    async with asyncio.timeout(10):
        while True:
            channel = await connection.channel()
            try:
                await channel.basic_publish(b"x", routing_key=queue)
            except aiormq.exceptions.DeliveryError:
                break
            await broker.drain(queue)
    await connection.close()


def _close_connections(broker: Shop) -> None:
    for one in broker.server.ctl("list_connections", "--no-table-headers", "pid", "user").splitlines():
        pid, user = one.split("\t")
        if user == broker.app:
            broker.server.ctl("close_connection", pid, "frozen")


def _sockets(port: int) -> int:
    """Connections of this process to a port that are not closed."""
    ours = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ours.add(str(descriptor.readlink()))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(one[2].split(":")[1], 16) == port and f"socket:[{one[9]}]" in ours for one in lines)
