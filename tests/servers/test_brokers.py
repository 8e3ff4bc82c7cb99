"""RabbitMQ, NATS and S3 refuse in their own ways, and keep what they acknowledged."""

from __future__ import annotations

import asyncio

import aio_pika
import nats
import nats.errors
import nats.js.errors
import pytest
from aiormq.exceptions import ChannelAccessRefused
from botocore.exceptions import ClientError

from tests.servers.nats import Nats
from tests.servers.object_store import ObjectStore
from tests.servers.rabbitmq import RabbitMQ

rabbitmq_group = pytest.mark.xdist_group("rabbitmq")

# -- RabbitMQ -------------------------------------------------------------------------------------


@rabbitmq_group
async def test_rabbitmq_refuses_with_403_and_waits_under_an_alarm(rabbitmq_server: RabbitMQ) -> None:
    node = rabbitmq_server
    assert node.listens_on() == {"127.0.0.1"}
    node.add_user("app", "secret")
    async with await aio_pika.connect(node.url("app", "secret")) as connection:
        channel = await connection.channel()
        await channel.declare_queue("depth")
        await channel.default_exchange.publish(aio_pika.Message(b"1"), "depth")
        assert node.depths()["depth"] == 1

        node.read_only(True, "app")
        with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
            await (await connection.channel()).default_exchange.publish(aio_pika.Message(b"2"), "depth")
        node.read_only(False, "app")

        node.memory_alarm(True)
        publishing = channel.default_exchange.publish(aio_pika.Message(b"3"), "depth")
        waiting = asyncio.ensure_future(publishing)
        assert not (await asyncio.wait([waiting], timeout=0.5))[0]
        node.memory_alarm(False)
        await asyncio.wait_for(waiting, 10)
        assert node.depths()["depth"] == 2, "the message that waited was not refused"


@rabbitmq_group
async def test_rabbitmq_keeps_a_persistent_message_when_it_crashes(rabbitmq_server: RabbitMQ) -> None:
    async with await aio_pika.connect(rabbitmq_server.url()) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True)
        message = aio_pika.Message(b"1", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "kept")
    rabbitmq_server.sync()
    rabbitmq_server.restart(crash=True)
    async with await aio_pika.connect(rabbitmq_server.url()) as connection:
        queue = await (await connection.channel()).declare_queue("kept", passive=True)
        assert queue.declaration_result.message_count == 1
        await queue.delete(if_empty=False, if_unused=False)


# -- NATS -----------------------------------------------------------------------------------------


async def test_a_user_of_nats_without_the_right_to_publish_hears_of_it_in_the_error_callback_only() -> None:
    with Nats(users={"root": {}, "app": {}}) as server:
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        client = await nats.connect(server.url("root"))
        await client.jetstream().add_stream(name="orders", subjects=["orders.>"])
        await client.close()
        server.set_users({"root": {}, "app": {"publish": {"deny": ["orders.>"]}}})
        client = await nats.connect(server.url("app"), error_cb=note)
        with pytest.raises(nats.errors.TimeoutError):
            await client.jetstream().publish("orders.new", b"1", timeout=0.5)
        await client.close()
        assert "permissions violation" in str(errors[0]).lower()


async def test_a_full_stream_of_nats_refuses_and_keeps_its_messages_when_the_server_crashes() -> None:
    with Nats() as server:
        client = await nats.connect(server.url())
        await client.jetstream().add_stream(name="orders", subjects=["orders.>"], max_msgs=1, discard="new")
        assert (await client.jetstream().publish("orders.new", b"1")).seq == 1
        with pytest.raises(nats.js.errors.ServiceUnavailableError) as refused:
            await client.jetstream().publish("orders.new", b"2")
        assert refused.value.err_code == 10077
        await client.close()
        server.restart(crash=True)
        client = await nats.connect(server.url())
        assert (await client.jetstream().stream_info("orders")).state.last_seq == 1
        await client.close()


def test_nats_tells_of_a_configuration_that_it_turns_down() -> None:
    with Nats() as server:
        (server.folder / "nats.conf").write_text("{ what")
        with pytest.raises(AssertionError, match="Failed to reload"):
            server.reload()


# -- S3 -------------------------------------------------------------------------------------------


def test_s3_refuses_with_403_while_its_bucket_is_read_only(s3_server: ObjectStore) -> None:
    client, bucket = s3_server.client(), s3_server.bucket
    client.put_object(Bucket=bucket, Key="a", Body=b"1")
    before = s3_server.dump()
    s3_server.read_only(True)
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="a", Body=b"2")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert s3_server.dump() == before
    s3_server.read_only(False)
    client.put_object(Bucket=bucket, Key="a", Body=b"2")
    assert s3_server.dump() != before
