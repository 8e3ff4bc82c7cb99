"""The audit of a real NATS JetStream finds what was stored, deleted and purged, and nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext, api
from pydantic import ValidationError

from probes.answer import Unreachable
from probes.audit.audit import Audit
from probes.audit.deliveries import KEPT, Deliveries
from probes.audit.nats.source import NatsAudit, NatsSource
from probes.audit.reading import Reading
from probes.base import Outcome, Run
from probes.own import OwnWrites
from probes.write.attempt import WriteAttempts
from probes.write.nats import NatsTarget, NatsWrite
from tests.probes.harness import free_port, frozen
from tests.servers.nats import Nats

pytestmark = pytest.mark.xdist_group("nats")

MAY = {"app": {"publish": ">", "subscribe": ">"}, "admin": {"publish": ">", "subscribe": ">"}}
Make = Callable[..., NatsSource]


@pytest.fixture(scope="module")
def server() -> Iterator[Nats]:
    with Nats(users=MAY) as started:
        yield started


@pytest.fixture
async def js(server: Nats) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server.url("admin"))
    stream = client.jetstream(timeout=5)
    await stream.add_stream(name="orders", subjects=["orders.>"])
    for number in range(5):
        await stream.publish(f"orders.{number}", b"x")
    yield stream
    for each in await stream.streams_info():
        await stream.delete_stream(each.config.name)
    await client.close()
    server.set_users(MAY)


@pytest.fixture
def make(server: Nats) -> Make:
    def source(
        own: OwnWrites | None = None, now: Callable[[], float] = time.time, **place: Any
    ) -> NatsSource:
        spec = NatsAudit.model_validate({"nats": {"url": server.url("app"), **place}})
        return NatsSource(spec, timeout=5.0, own=own or OwnWrites(), now=now)

    return source


def said(reading: Reading) -> list[str]:
    return [change.said.split(" at ")[0] for change in reading.changes if not change.own]


async def test_nothing_done_is_nothing_found_over_many_readings(js: JetStreamContext, make: Make) -> None:
    source = make()
    first = await source.read(None)
    mark = first.mark

    for _ in range(5):
        reading = await source.read(mark)
        assert (reading.changes, reading.unknown, reading.mark) == ((), None, mark)
    assert first.grade == "stream sequences"


async def test_a_reading_leaves_no_trace_in_the_stream(js: JetStreamContext, make: Make) -> None:
    await js.add_consumer("orders", durable_name="worker", ack_policy=api.AckPolicy.EXPLICIT)
    before = await _description(js)
    source = make()
    mark = (await source.read(None)).mark
    for _ in range(50):
        mark = (await source.read(mark)).mark

    assert await _description(js) == before


async def test_a_stored_message_is_found_with_its_subject(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    await js.publish("orders.seven", b"secret body")

    reading = await source.read(mark)

    assert said(reading) == ["orders: 1 × message (orders.seven)"]
    assert reading.changes[0].when is not None
    assert "secret body" not in repr(reading)
    assert (await source.read(reading.mark)).changes == ()


async def test_many_messages_are_counted_and_some_named(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    for number in range(999):
        await js._nc.publish(f"orders.n{number}", b"x")
    await js.publish("orders.last", b"x")  # is stored after the others

    reading = await source.read(mark)

    assert reading.changes[0].count == 1000
    assert len(reading.changes[0].keys) == 5


async def test_a_message_that_was_stored_and_deleted_in_between_is_found(
    js: JetStreamContext, make: Make
) -> None:
    source = make()
    mark = (await source.read(None)).mark
    ack = await js.publish("orders.new", b"x")
    await js.delete_msg("orders", ack.seq)

    assert said(await source.read(mark)) == ["orders: 1 × message", "orders: 1 × purge or delete"]


async def test_a_purge_is_found(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    await js.purge_stream("orders")

    assert said(await source.read(mark)) == ["orders: 5 × purge or delete"]


@pytest.mark.parametrize("how", [{"seq": 3}, {"keep": 1}, {"subject": "orders.2"}])
async def test_a_purge_of_a_part_is_found(js: JetStreamContext, make: Make, how: dict[str, Any]) -> None:
    source = make()
    mark = (await source.read(None)).mark
    await js.purge_stream("orders", **how)

    assert "purge or delete" in said(await source.read(mark))[0]


async def test_one_deleted_message_is_found(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    await js.delete_msg("orders", 2)

    assert said(await source.read(mark)) == ["orders: 1 × purge or delete"]


async def test_a_stream_that_was_deleted_and_created_again_is_found(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    await js.delete_stream("orders")
    await js.add_stream(name="orders", subjects=["orders.>"])
    for number in range(5):
        await js.publish(f"orders.{number}", b"x")

    assert said(await source.read(mark)) == ["orders: 1 × delete and create the stream"]


async def test_a_stream_that_comes_or_goes_is_found(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    await js.add_stream(name="stock", subjects=["stock.>"])
    came = await source.read(mark)
    await js.delete_stream("stock")
    went = await source.read(came.mark)

    assert said(came) == ["stock: 1 × create the stream"]
    assert said(went) == ["stock: 1 × delete the stream"]


async def test_a_changed_configuration_is_found(js: JetStreamContext, make: Make) -> None:
    source = make()
    mark = (await source.read(None)).mark
    config = (await js.stream_info("orders")).config
    config.max_msgs = 1000
    await js.update_stream(config)

    assert said(await source.read(mark)) == ["orders: 1 × change the configuration"]


async def test_messages_that_expire_by_age_are_a_note_and_no_write(js: JetStreamContext, make: Make) -> None:
    await js.add_stream(name="short", subjects=["short"], max_age=0.5)
    await js.publish("short", b"x")
    source = make(streams=["short"])
    mark = (await source.read(None)).mark
    async with asyncio.timeout(10):
        while (await js.stream_info("short")).state.messages:
            await asyncio.sleep(0.05)

    reading = await source.read(mark)

    assert reading.changes == ()
    assert "expired by their age, or were purged" in reading.notes[0]


@pytest.mark.parametrize(("how", "count"), [({}, 2), ({"keep": 1}, 1)])
async def test_a_purge_of_messages_too_young_to_expire_is_found(
    js: JetStreamContext, make: Make, how: dict[str, Any], count: int
) -> None:
    await js.add_stream(name="day", subjects=["day"], max_age=86400)
    await js.publish("day", b"1")
    await js.publish("day", b"2")
    source = make(streams=["day"])
    mark = (await source.read(None)).mark
    await js.purge_stream("day", **how)

    assert said(await source.read(mark)) == [f"day: {count} × purge or delete"]


async def test_a_stream_emptied_although_its_youngest_message_was_young_was_purged(
    js: JetStreamContext, make: Make
) -> None:
    await js.add_stream(name="day", subjects=["day"], max_age=3600)
    await js.publish("day", b"x")
    soon = time.time()
    source = make(streams=["day"], now=lambda: soon)
    mark = (await source.read(None)).mark
    older = json.loads(mark)
    older[0]["day"][3] = soon - 7200  # as if its oldest message had been there for two hours
    await js.purge_stream("day")

    assert said(await source.read(json.dumps(older))) == ["day: 1 × purge or delete"]


async def test_old_messages_that_new_ones_push_out_are_told_by_the_new_ones(
    js: JetStreamContext, make: Make
) -> None:
    await js.add_stream(name="ring", subjects=["ring"], max_msgs=2)
    await js.publish("ring", b"1")
    await js.publish("ring", b"2")
    source = make(streams=["ring"])
    mark = (await source.read(None)).mark
    await js.publish("ring", b"3")

    assert said(await source.read(mark)) == ["ring: 1 × message (ring)"]


async def test_a_purge_is_found_beside_a_canary_of_ours_in_a_full_stream(
    js: JetStreamContext, make: Make
) -> None:
    """A stream that discards the new pushes nothing out: what is gone was taken away."""
    full = api.StreamConfig(name="full", subjects=["full"], max_msgs=3, discard=api.DiscardPolicy.NEW)
    await js.add_stream(full)
    for _ in range(3):
        await js.publish("full", b"x")
    source = make(streams=["full"])
    mark = (await source.read(None)).mark
    await js.purge_stream("full")
    ours = {"X-Freezewatch": "canary", "Nats-Msg-Id": "freezewatch-0123456789abcdef0123"}
    await js.publish("full", b"canary", headers=ours)

    assert "full: 3 × purge or delete" in said(await source.read(mark))


async def test_no_more_than_one_is_pushed_out_by_each_write(js: JetStreamContext, make: Make) -> None:
    await js.add_stream(name="ring", subjects=["ring"], max_msgs=5)
    for _ in range(5):
        await js.publish("ring", b"x")
    source = make(streams=["ring"])
    mark = (await source.read(None)).mark
    await js.purge_stream("ring")
    await js.publish("ring", b"new")

    assert "ring: 5 × purge or delete" in said(await source.read(mark))


async def test_a_work_queue_that_is_consumed_is_a_note_and_a_purge_of_it_a_change(
    js: JetStreamContext, make: Make
) -> None:
    await js.add_stream(name="jobs", subjects=["jobs"], retention=api.RetentionPolicy.WORK_QUEUE)
    for _ in range(5):
        await js.publish("jobs", b"x")
    worker = await js.pull_subscribe("jobs", durable="worker")
    source = make(streams=["jobs"])
    mark = (await source.read(None)).mark
    for message in await worker.fetch(2):
        await message.ack_sync()
    consumed = await source.read(mark)
    await js.purge_stream("jobs")
    purged = await source.read(consumed.mark)

    assert consumed.changes == ()
    assert "2 messages were acknowledged" in consumed.notes[0]
    assert said(purged) == ["jobs: 3 × purge or delete"]


async def test_a_bucket_is_audited_by_its_own_name_and_its_keys_are_named(
    js: JetStreamContext, make: Make
) -> None:
    bucket = await js.create_key_value(bucket="flags")
    await bucket.put("read.only", b"false")
    source = make(kv=["flags"])
    mark = (await source.read(None)).mark
    await bucket.put("read.only", b"true")
    await bucket.delete("read.only")

    reading = await source.read(mark)

    assert said(reading) == ["KV_flags: 2 × message ($KV.flags.read.only)"]


async def test_streams_that_are_not_named_are_not_read(js: JetStreamContext, make: Make) -> None:
    await js.add_stream(name="logs_a", subjects=["logs"])
    source = make(streams=["ord*"])
    mark = (await source.read(None)).mark
    await js.publish("logs", b"x")

    assert (await source.read(mark)).changes == ()


async def test_no_stream_of_the_name_is_no_green(js: JetStreamContext, make: Make) -> None:
    with pytest.raises(Unreachable, match="there is no stream called nowhere"):
        await make(streams=["nowhere"]).read(None)


# -- ours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_watchdog", [True, False])
@pytest.mark.parametrize("between", [True, False])
async def test_a_canary_of_ours_and_its_undo_are_told_from_production(
    js: JetStreamContext, make: Make, server: Nats, same_watchdog: bool, between: bool
) -> None:
    """Another watchdog's canary is known while it stands there; once deleted, only its own attempts know."""
    own = OwnWrites()
    spec = NatsWrite.model_validate(
        {"nats": {"url": server.url("app"), "stream": "orders", "subject": "orders.c", "canary": True}}
    )
    target = NatsTarget(spec, timeout=5.0, own=own if same_watchdog else OwnWrites())
    attempts = WriteAttempts(name="o", surface="o", window="w", target=target, timeout=5.0)
    source = make(own=own)
    mark = (await source.read(None)).mark
    from probes.write.canary import canary

    one = canary("w", "o", 1.0)
    await target.attempt(one)
    await js.publish("orders.production", b"x")
    changes = []
    if between:
        reading = await source.read(mark)
        changes, mark = list(reading.changes), reading.mark
    assert await target.undo(one) is None
    changes += (await source.read(mark)).changes

    production = [change.said.split(" at ")[0] for change in changes if not change.own]
    if same_watchdog or between:
        assert production == ["orders: 1 × message (orders.production)"]
        assert sum(change.count for change in changes if change.own) == 2
    else:
        assert production[0].startswith("orders: 2 × message")
    assert attempts.target is target


async def test_the_default_attempt_is_nothing_to_the_audit(
    js: JetStreamContext, make: Make, server: Nats
) -> None:
    source = make()
    mark = (await source.read(None)).mark
    spec = NatsWrite.model_validate(
        {"nats": {"url": server.url("app"), "stream": "orders", "subject": "orders.c"}}
    )
    probe = WriteAttempts(
        name="o",
        surface="o",
        window="w",
        target=NatsTarget(spec, timeout=5.0, own=OwnWrites()),
        timeout=5.0,
    )
    await probe.run(frozen())

    assert (await source.read(mark)).changes == ()


async def test_without_the_right_to_read_messages_ours_cannot_be_told(
    js: JetStreamContext, make: Make, server: Nats
) -> None:
    server.set_users({**MAY, "app": {"publish": {"deny": ["$JS.API.STREAM.MSG.GET.>"]}, "subscribe": ">"}})
    source = make()
    mark = (await source.read(None)).mark
    await js.publish("orders.new", b"x")

    reading = await source.read(mark)

    assert said(reading) == ["orders: 1 × message"]
    assert reading.tells_own is False
    assert "may not be read" in reading.notes[0]


# -- the fence ------------------------------------------------------------------------------------


async def test_an_unacknowledged_delivery_is_as_old_as_the_reading_that_first_saw_it(
    js: JetStreamContext, make: Make
) -> None:
    worker = await js.pull_subscribe("orders.>", durable="worker")
    clock = [1000.0]
    source = make(now=lambda: clock[0])
    mark = (await source.read(None)).mark
    (old,) = await worker.fetch(1)
    clock[0] = 1010.0
    mark = (await source.read(mark)).mark
    (young,) = await worker.fetch(1)
    clock[0] = 1050.0
    both = await source.read(mark)
    await old.ack_sync()
    clock[0] = 1060.0
    one = await source.read(both.mark)
    await young.ack_sync()
    none = await source.read(one.mark)

    assert [(w.who, w.age_s) for w in both.open or ()] == [
        ("consumer worker of orders: 2 unacknowledged", 40.0)
    ]
    assert [w.age_s for w in one.open or ()] == [10.0]
    assert none.open == ()


async def test_a_delivery_from_before_the_window_keeps_the_fence_open(
    js: JetStreamContext, make: Make
) -> None:
    worker = await js.pull_subscribe("orders.>", durable="worker")
    clock = [1000.0]
    audit = Audit(name="a", source=make(now=lambda: clock[0]), exempt=[], timeout=5.0, opens=1020.0)
    (message,) = await worker.fetch(1)
    await audit.run(Run(slot=1000.0, phase="baseline", frozen=False, started=1000.0))
    clock[0] = 1030.0
    waiting = await audit.run(Run(slot=1030.0, phase="frozen", frozen=True, started=1030.0))
    await message.ack_sync()
    clock[0] = 1035.0
    done = await audit.run(Run(slot=1035.0, phase="frozen", frozen=True, started=1035.0))

    assert waiting.figures["open"] == 1
    assert done.figures["open"] == 0


async def test_without_the_right_to_list_consumers_the_fence_is_not_seen(
    js: JetStreamContext, make: Make, server: Nats
) -> None:
    server.set_users({**MAY, "app": {"publish": {"deny": ["$JS.API.CONSUMER.>"]}, "subscribe": ">"}})

    reading = await make().read(None)

    assert reading.open is None


def test_deliveries_in_order_are_as_old_as_their_reading() -> None:
    seen = Deliveries()
    assert seen.seen(now=0, delivered=10, settled=0, waiting=10) == 0
    assert seen.seen(now=10, delivered=20, settled=5, waiting=15) == 10
    assert seen.seen(now=20, delivered=20, settled=10, waiting=10) == 10
    assert seen.seen(now=30, delivered=30, settled=30, waiting=0) is None
    assert seen.seen(now=40, delivered=5, settled=0, waiting=5) == 0


def test_deliveries_of_many_readings_keep_the_oldest() -> None:
    seen = Deliveries()
    for number in range(1000):
        seen.seen(now=number, delivered=number + 1, settled=0, waiting=number + 1)

    assert len(seen.samples) <= KEPT
    assert seen.seen(now=1000, delivered=1001, settled=0, waiting=1001) == 1000
    assert Deliveries.unpacked(seen.packed()).samples == seen.samples


# -- what is not there, or went back --------------------------------------------------------------


async def test_memory_that_was_lost_in_a_restart_is_unknown_and_files_are_not(make: Make) -> None:
    with Nats() as mortal:
        client = await nats.connect(mortal.url(), error_cb=_quiet)
        js = client.jetstream()
        await js.add_stream(name="file", subjects=["file"])
        await js.add_stream(name="memory", subjects=["memory"], storage=api.StorageType.MEMORY)
        await js.publish("file", b"x")
        await js.publish("memory", b"x")
        source = make(url=mortal.url())
        mark = (await source.read(None)).mark
        await client.close()
        mortal.restart()

        reading = await source.read(mark)

    assert reading.changes == ()
    assert reading.unknown is not None
    assert reading.unknown.startswith("memory: gone with the memory of a server")


async def test_a_server_that_was_killed_loses_nothing_that_was_stored(make: Make) -> None:
    with Nats() as mortal:
        client = await nats.connect(mortal.url(), error_cb=_quiet, allow_reconnect=False)
        await client.jetstream().add_stream(name="file", subjects=["file"])
        source = make(url=mortal.url())
        mark = (await source.read(None)).mark
        await client.jetstream().publish("file", b"x")
        mortal.restart(crash=True)

        reading = await source.read(mark)

    assert said(reading) == ["file: 1 × message (file)"]


async def test_a_server_that_hangs_is_unreachable_in_time(make: Make) -> None:
    with Nats() as hanging:
        spec = NatsAudit.model_validate({"nats": {"url": hanging.url()}})
        audit = Audit(
            name="a",
            source=NatsSource(spec, timeout=1.0, own=OwnWrites(), now=time.time),
            exempt=[],
            timeout=1.0,
            opens=0.0,
        )
        hanging.pause()
        began = time.monotonic()
        result = await audit.run(frozen())
        took = time.monotonic() - began
        hanging.resume()

    assert result.outcome is Outcome.UNREACHABLE
    assert took < 1.5


async def test_a_server_that_is_not_there_is_unreachable(make: Make) -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        await make(url=f"nats://u:s3cr3t@127.0.0.1:{free_port()}").read(None)


@pytest.mark.parametrize(
    "mark", ["", "null", "[]", "[{}]", '[{"orders":[]},{}]', "[[],[]]", '[{},{"a":[[1]]}]']
)
async def test_a_mark_that_cannot_be_read_is_unknown(js: JetStreamContext, make: Make, mark: str) -> None:
    reading = await make().read(mark)

    assert reading.unknown is not None
    assert reading.changes == ()


async def test_a_mark_goes_on_in_another_process(js: JetStreamContext, make: Make) -> None:
    mark = (await make().read(None)).mark
    await js.publish("orders.new", b"x")

    assert said(await make().read(mark)) == ["orders: 1 × message (orders.new)"]


async def test_hundreds_of_streams_are_read_in_pages(js: JetStreamContext, make: Make) -> None:
    for number in range(300):
        await js.add_stream(name=f"s{number}", subjects=[f"s{number}"], storage=api.StorageType.MEMORY)
    source = make()
    first = await source.read(None)
    await js.publish("s299", b"x")

    reading = await source.read(first.mark)

    assert first.figures is not None
    assert first.figures["streams"] == 301
    assert said(reading) == ["s299: 1 × message (s299)"]


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"url": "http://h"},
        {"url": "nats://h", "streams": []},
        {"url": "nats://h", "streams": [""]},
        {"url": "nats://h", "streams": "orders"},
        {"url": "nats://h", "kv": [5]},
        {"url": "nats://h", "kvs": []},
    ],
)
def test_a_mistake_in_the_configuration_is_named(place: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NatsAudit.model_validate({"nats": place})


async def _description(js: JetStreamContext) -> str:
    answer = await js._nc.request("$JS.API.STREAM.INFO.orders", b"", timeout=5)
    consumers = await js._nc.request("$JS.API.CONSUMER.LIST.orders", b"", timeout=5)
    found = [json.loads(answer.data), json.loads(consumers.data)]
    for each in [found[0], found[1], *found[1]["consumers"]]:
        each.pop("ts", None)
    return json.dumps(found, sort_keys=True)


async def _quiet(error: Exception) -> None:
    """The driver's complaints when its server goes."""
