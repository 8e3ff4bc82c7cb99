"""The audit of real RabbitMQ queues, by their depth and by the counters of the management API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiormq
import pytest
from pydantic import ValidationError

from probes.answer import Unreachable
from probes.audit.amqp.counts import Books, by_counters, by_depth
from probes.audit.amqp.source import AmqpAudit, CounterSource, DepthSource, amqp_audit
from probes.audit.audit import Audit
from probes.audit.reading import Reading
from probes.base import Outcome
from probes.http import Transport
from probes.stores.amqp import Depth
from probes.tools import Tools
from tests.probes.harness import free_port, frozen
from tests.probes.write.amqp_broker import Shop, shop
from tests.servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq-audit")

LAG = 6.0
"""Seconds: the test's broker counts every second, and shows it every five."""
Make = Callable[..., Any]


@pytest.fixture
def broker(rabbitmq_server: RabbitMQ) -> Iterator[Shop]:
    with shop(rabbitmq_server) as made:
        made.queue("orders")
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[RabbitMQ]:
    """A node that may run out of memory, and be started again."""
    with RabbitMQ() as server:
        yield server


@pytest.fixture
async def tools(transport: Transport) -> AsyncIterator[Tools]:
    yield Tools(window="w", opens=0.0, closes=1e10, agent="test", transport=transport)


@pytest.fixture
def depth(tools: Tools) -> Make:
    def source(broker: Shop, *, timeout: float = 5.0, **place: Any) -> DepthSource:
        entry = {"url": broker.url, "queues": ["orders"], **place}
        made = amqp_audit(AmqpAudit.model_validate({"amqp": entry}), timeout, tools)
        assert isinstance(made, DepthSource)
        return made

    return source


@pytest.fixture
def counters(tools: Tools) -> Make:
    def source(broker: Shop, *, timeout: float = 5.0, **place: Any) -> CounterSource:
        management = f"http://127.0.0.1:{broker.server.management_port}"
        entry = {"url": broker.admin, "queues": ["orders"], "management": management, "lag": "6s", **place}
        made = amqp_audit(AmqpAudit.model_validate({"amqp": entry}), timeout, tools)
        assert isinstance(made, CounterSource)
        return made

    return source


def said(*readings: Reading) -> list[str]:
    return [change.said for reading in readings for change in reading.changes]


async def counted(source: CounterSource, *, published: int = 0) -> Reading:
    """A first reading, as soon as the broker has counted so many messages in the first queue."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Unreachable):
                reading = await source.read(None)
                ((messages, publishes, *_), _) = next(iter(json.loads(reading.mark).values()))
                if messages == publishes == published:
                    return reading
            await asyncio.sleep(0.2)


async def follow(
    source: CounterSource, mark: str, enough: Callable[[Reading], object] | None = None
) -> list[Reading]:
    """Readings, each from the one before, until one is enough; or for longer than any counter is late."""
    found: list[Reading] = []
    ends = time.monotonic() + (20.0 if enough else LAG + 4.0)
    while time.monotonic() < ends:
        try:
            found.append(await source.read(mark))
        except Unreachable as error:
            assert "not counted" in error.reason
        else:
            mark = found[-1].mark
            if enough and enough(found[-1]):
                return found
        await asyncio.sleep(0.3)
    assert enough is None, f"not within 20 s: {found[-1]}"
    return found


def changed(reading: Reading) -> bool:
    return bool(reading.changes)


# -- by depth -------------------------------------------------------------------------------------


async def test_a_queue_at_rest_is_found_at_rest(broker: Shop, depth: Make) -> None:
    await broker.publish("orders", b"1", b"2")
    source = depth(broker)
    mark = (await source.read(None)).mark

    for _ in range(5):
        reading = await source.read(mark)
        assert (reading.changes, reading.unknown, reading.mark) == ((), None, mark)
    assert reading.grade == "queue depth"
    assert await broker.drain("orders") == ["1", "2"]


async def test_a_message_is_found_at_once(broker: Shop, depth: Make) -> None:
    source = depth(broker)
    mark = (await source.read(None)).mark
    await broker.publish("orders", b"1", b"2")

    assert said(await source.read(mark)) == ["orders: 2 × message"]


async def test_a_fall_hides_what_was_written_and_so_is_unknown(broker: Shop, depth: Make) -> None:
    await broker.publish("orders", b"1", b"2")
    source = depth(broker)
    mark = (await source.read(None)).mark
    await broker.drain("orders")
    await broker.publish("orders", b"3")

    reading = await source.read(mark)

    assert reading.changes == ()
    assert "1 fewer messages" in str(reading.unknown)


async def test_consumers_hide_what_was_written_and_so_are_unknown(broker: Shop, depth: Make) -> None:
    connection = await aiormq.connect(broker.admin)
    channel = await connection.channel()
    await channel.basic_consume("orders", lambda message: None, no_ack=True)
    source = depth(broker)
    mark = (await source.read(None)).mark
    await broker.publish("orders", b"1")

    reading = await source.read(mark)
    await connection.close()

    assert "has consumers (1)" in str(reading.unknown)


async def test_a_queue_that_goes_or_comes_is_found(broker: Shop, depth: Make) -> None:
    broker.queue("stock")
    source = depth(broker, queues=["orders", "stock", "later"])
    mark = (await source.read(None)).mark
    broker.server.api("DELETE", broker.path("queues", "stock"))
    broker.queue("later")

    assert sorted(said(await source.read(mark))) == [
        "later: 1 × create the queue",
        "stock: 1 × delete the queue",
    ]


async def test_no_queue_of_the_name_is_no_green(broker: Shop, depth: Make) -> None:
    with pytest.raises(Unreachable, match="no queue is called nowhere"):
        await depth(broker, queues=["nowhere"]).read(None)


async def test_a_user_who_may_nothing_but_connect_can_read_the_depth(broker: Shop, depth: Make) -> None:
    broker.permit("^$", "^$", "^$")

    assert (await depth(broker).read(None)).figures == {"queues": 1, "messages": 0}


async def test_a_message_that_lands_after_an_alarm_is_found(own_server: RabbitMQ, depth: Make) -> None:
    """The publisher gave up long ago."""
    with shop(own_server) as made:
        made.queue("orders")
        source = depth(made)
        await asyncio.to_thread(own_server.memory_alarm, True)
        try:
            publisher = await aiormq.connect(made.admin)
            channel = await publisher.channel()
            with pytest.raises(TimeoutError):
                await channel.basic_publish(b"late", routing_key="orders", timeout=0.5)
            blocked = await source.read((await source.read(None)).mark)
        finally:
            await asyncio.to_thread(own_server.memory_alarm, False)
        async with asyncio.timeout(10):
            while not await made.depth("orders"):
                await asyncio.sleep(0.05)
        landed = await source.read(blocked.mark)
        await publisher.close()

    assert (blocked.changes, blocked.unknown) == ((), None)
    assert said(landed) == ["orders: 1 × message"]


@pytest.mark.parametrize("confirms", [True, False])
async def test_without_confirms_a_queue_that_rejects_loses_silently_and_the_audit_shows_no_write(
    broker: Shop, depth: Make, confirms: bool
) -> None:
    broker.queue("full", **{"x-max-length": 0, "x-overflow": "reject-publish"})
    source = depth(broker, queues=["full"])
    mark = (await source.read(None)).mark
    publisher = await aiormq.connect(broker.admin)
    channel = await publisher.channel(publisher_confirms=confirms)
    if confirms:
        with pytest.raises(aiormq.exceptions.DeliveryError):
            await channel.basic_publish(b"x", routing_key="full")
    else:
        assert await channel.basic_publish(b"x", routing_key="full") is None
    await publisher.close()

    assert (await source.read(mark)).changes == ()


# -- by counters ----------------------------------------------------------------------------------


async def test_counters_of_a_queue_at_rest_do_not_move(broker: Shop, counters: Make) -> None:
    await broker.publish("orders", b"1")
    source = counters(broker)
    first = await counted(source, published=1)

    readings = await follow(source, first.mark)

    assert said(*readings) == []
    assert {reading.unknown for reading in readings} == {None}
    assert readings[-1].grade == "publish counters"
    assert readings[-1].lag_s == LAG


async def test_a_message_that_was_consumed_at_once_is_counted(broker: Shop, counters: Make) -> None:
    source = counters(broker)
    first = await counted(source)
    await broker.publish("orders", b"1", b"2")
    await broker.drain("orders")

    readings = await follow(source, first.mark, changed)
    readings += await follow(source, readings[-1].mark)

    assert said(*readings) == ["orders: 2 × publish"]


async def test_consumption_alone_is_no_change(broker: Shop, counters: Make) -> None:
    await broker.publish("orders", *[b"x%d" % number for number in range(20)])
    source = counters(broker)
    mark = (await counted(source, published=20)).mark
    connection = await aiormq.connect(broker.admin)
    channel = await connection.channel()
    for _ in range(10):
        message = await channel.basic_get("orders")
        await channel.basic_ack(message.delivery_tag or 0)
        await channel.basic_get("orders", no_ack=True)
    await connection.close()

    assert said(*await follow(source, mark)) == []


async def test_a_purge_is_told_from_consumption(broker: Shop, counters: Make) -> None:
    await broker.publish("orders", b"1", b"2", b"3")
    source = counters(broker)
    mark = (await counted(source, published=3)).mark
    broker.server.api("DELETE", broker.path("queues", "orders", "contents"))

    assert said(*await follow(source, mark, changed)) == ["orders: 3 × purge (or expiry of single messages)"]


async def test_a_dead_lettered_message_is_found_without_a_publish(broker: Shop, counters: Make) -> None:
    broker.queue("first", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "orders"})
    await broker.publish("first", b"1")
    source = counters(broker)
    mark = (await counted(source)).mark
    connection = await aiormq.connect(broker.admin)
    channel = await connection.channel()
    message = await channel.basic_get("first")
    await channel.basic_reject(message.delivery_tag or 0, requeue=False)
    await connection.close()

    found = said(*await follow(source, mark, changed))

    assert len(found) == 1
    assert "without a publish" in found[0]


async def test_a_queue_that_was_deleted_and_created_again_is_found(broker: Shop, counters: Make) -> None:
    await broker.publish("orders", b"1")
    source = counters(broker)
    mark = (await counted(source, published=1)).mark
    broker.server.api("DELETE", broker.path("queues", "orders"))
    broker.queue("orders")

    assert said(*await follow(source, mark, changed)) == ["orders: 1 × delete and create the queue"]


async def test_a_restart_of_the_node_is_unknown(own_server: RabbitMQ, counters: Make) -> None:
    with shop(own_server) as made:
        made.queue("orders")
        await made.publish("orders", b"1")
        source = counters(made)
        first = await counted(source, published=1)
        await asyncio.to_thread(own_server.restart)
        async with asyncio.timeout(30):
            while True:
                try:
                    reading = await source.read(first.mark)
                    break
                except Unreachable:
                    await asyncio.sleep(0.3)

    assert "was started again" in str(reading.unknown)
    assert reading.changes == ()


async def test_patterns_name_queues_and_new_ones_are_found(broker: Shop, counters: Make) -> None:
    broker.queue("orders.eu")
    broker.queue("stock")
    source = counters(broker, queues=["orders*"])
    first = await counted(source)
    broker.queue("orders.us")
    found = await follow(source, first.mark, changed)

    assert first.figures == {"queues": 2, "messages": 0}
    assert said(*found) == ["orders.us: 1 × create the queue"]


async def test_an_unacknowledged_delivery_keeps_the_fence_open(broker: Shop, counters: Make) -> None:
    await broker.publish("orders", b"1")
    source = counters(broker)
    mark = (await counted(source, published=1)).mark
    connection = await aiormq.connect(broker.admin)
    channel = await connection.channel()
    message = await channel.basic_get("orders")
    waiting = (await follow(source, mark, lambda reading: reading.open))[-1]
    older = await source.read(waiting.mark)
    await channel.basic_ack(message.delivery_tag or 0)
    done = (await follow(source, older.mark, lambda reading: not reading.open))[-1]
    await connection.close()

    (writer,), (later,) = waiting.open or (), older.open or ()
    assert writer.who == "queue orders: 1 unacknowledged"
    assert later.age_s > writer.age_s
    assert done.open == ()


async def test_a_user_without_the_tag_monitoring_is_told_what_is_not_seen(
    broker: Shop, counters: Make
) -> None:
    reading = await counted(counters(broker, url=broker.url))

    assert "nodes may not be read" in reading.notes[0]


async def test_a_login_that_fails_is_unreachable_and_names_no_secret(broker: Shop, counters: Make) -> None:
    url = f"amqp://{broker.app}:n0t-the-one@127.0.0.1:{broker.server.port}/{broker.vhost}"

    with pytest.raises(Unreachable, match="login was refused") as error:
        await counters(broker, url=url).read(None)

    assert "n0t-the-one" not in str(error.value)


async def test_what_is_no_management_api_is_unreachable(broker: Shop, counters: Make, serve: Any) -> None:
    other = serve(lambda asked: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

    with pytest.raises(Unreachable):
        await counters(broker, management=other.url).read(None)


async def test_any_name_of_a_queue_is_taken_by_the_management_api(broker: Shop, counters: Make) -> None:
    names = ["naïve \"quoted\" 'queue'", "日本語/50%", "a" * 200]
    for name in names:
        broker.queue(name)

    assert (await counted(counters(broker, queues=names))).figures == {"queues": 3, "messages": 0}


@pytest.mark.parametrize("kind", ["depth", "counters"])
async def test_a_broker_that_hangs_is_unreachable_in_time(
    own_server: RabbitMQ, depth: Make, counters: Make, kind: str
) -> None:
    with shop(own_server) as made:
        made.queue("orders")
        source = (depth if kind == "depth" else counters)(made, timeout=1.0)
        audit = Audit(name="a", source=source, exempt=[], timeout=1.0, opens=0.0)
        own_server.pause()
        began = time.monotonic()
        result = await audit.run(frozen())
        took = time.monotonic() - began
        own_server.resume()

    assert result.outcome is Outcome.UNREACHABLE
    assert took < 2.0


async def test_a_broker_that_is_not_there_is_unreachable(broker: Shop, depth: Make) -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        await depth(broker, url=f"amqp://u:s3cr3t@127.0.0.1:{free_port()}/").read(None)


NO_MARKS = ("", "null", "[]", '{"orders": 5}', '{"orders": [1]}', '{"orders": ["a", 1]}')


@pytest.mark.parametrize("kind", ["depth", "counters"])
async def test_a_mark_that_cannot_be_read_is_unknown(
    broker: Shop, depth: Make, counters: Make, kind: str
) -> None:
    source = (depth if kind == "depth" else counters)(broker)
    if kind == "counters":
        await counted(source)

    for mark in NO_MARKS:
        reading = await source.read(mark)

        assert reading.unknown is not None
        assert reading.changes == ()


# -- pure -----------------------------------------------------------------------------------------


def books(**counts: Any) -> Books:
    made = Books(**{"messages": 0, "published": 0, "settled": 0, "delivered": 0, **counts})
    made.balance = made.counted
    return made


def test_counters_that_come_late_are_no_change() -> None:
    """The depth has fallen, and its acknowledgements are counted a second later."""
    first, early = books(messages=10), books(messages=7)
    assert by_counters("q", first, early, at=100.0, lag=10.0).changes == []
    late = books(messages=7, settled=3, delivered=3)

    found = by_counters("q", early, late, at=101.0, lag=10.0)

    assert (found.changes, found.notes, late.off) == ([], [], None)


def test_a_difference_that_stays_is_a_change_once() -> None:
    first, second, third, fourth = (books(messages=n) for n in (10, 7, 7, 7))
    by_counters("q", first, second, at=100.0, lag=10.0)
    found = by_counters("q", second, third, at=110.0, lag=10.0)
    again = by_counters("q", third, fourth, at=120.0, lag=10.0)

    assert [change.count for change in found.changes] == [3]
    assert again.changes == []


@pytest.mark.parametrize(("drops", "delivered"), [(True, 0), (False, 5)])
def test_what_may_be_expiry_or_rejection_is_a_note(drops: bool, delivered: int) -> None:
    first, second = books(messages=10), books(messages=7)
    third = books(messages=7, drops=drops, delivered=delivered)
    by_counters("q", first, second, at=100.0, lag=1.0)

    found = by_counters("q", second, third, at=110.0, lag=1.0)

    assert found.changes == []
    assert "3 messages" in found.notes[0]


def test_counters_that_went_back_without_a_known_node_are_unknown() -> None:
    found = by_counters("q", books(published=5, messages=5), books(), at=1.0, lag=1.0)

    assert "went back" in str(found.unknown)


def test_a_mark_holds_the_books() -> None:
    before = books(messages=3, published=5, settled=2, delivered=2, node="n", started=7.5)
    by_counters("q", books(messages=9), before, at=50.0, lag=10.0)

    after = Books.unpacked(before.packed())

    assert (after.balance, after.off, after.off_since) == (before.balance, before.off, before.off_since)


def test_depth_tells_growth_from_the_rest() -> None:
    rest = Depth(ready=5, consumers=0)
    assert by_depth("q", rest, Depth(ready=7, consumers=3)).changes[0].count == 2
    assert by_depth("q", rest, Depth(ready=4, consumers=0)).unknown
    assert by_depth("q", Depth(ready=5, consumers=1), rest).unknown
    assert by_depth("q", rest, rest).unknown is None


# -- configuration --------------------------------------------------------------------------------

URL = "amqp://u:s3cr3t-word@h/v"


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"url": URL},
        {"url": URL, "queues": []},
        {"url": URL, "queues": "orders"},
        {"url": URL, "queues": [""]},
        {"url": URL, "queues": [5]},
        {"url": URL, "queues": ["orders*"]},
        {"url": URL, "queues": ["naïve"]},
        {"url": "http://h", "queues": ["orders"]},
        {"url": URL, "queues": ["orders"], "management": "amqp://h"},
        {"url": URL, "queues": ["orders"], "lag": 5},
        {"url": URL, "queues": ["orders"], "queue": "x"},
    ],
)
def test_a_mistake_in_the_configuration_is_named_without_the_secret(place: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        AmqpAudit.model_validate({"amqp": place})

    assert "s3cr3t-word" not in "; ".join(detail["msg"] for detail in error.value.errors())


def test_no_repr_shows_the_password() -> None:
    spec = AmqpAudit.model_validate(
        {"amqp": {"url": URL, "queues": ["a"], "management": "http://u:s3cr3t-word@h"}}
    )

    assert "s3cr3t-word" not in repr(spec)


def test_without_management_it_says_what_cannot_be_audited() -> None:
    assert AmqpAudit.model_validate({"amqp": {"url": URL, "queues": ["a"]}}).doubts
