"""Writes to a real NATS JetStream: what is a refusal, what is left behind, and what lands late."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext, api
from pydantic import ValidationError

from probes.base import Outcome
from probes.own import OwnWrites
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.nats import NatsTarget, NatsWrite, judged
from tests.probes.harness import OPENS, free_port, frozen, opened
from tests.servers.nats import Nats

pytestmark = pytest.mark.xdist_group("nats")

MAY = {"app": {"publish": ">", "subscribe": ">"}, "admin": {"publish": ">", "subscribe": ">"}}
Make = Callable[..., WriteAttempts]


def may_not(*subjects: str) -> dict[str, Any]:
    return {**MAY, "app": {"publish": {"deny": list(subjects)}, "subscribe": ">"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Nats]:
    with Nats(users=MAY) as started:
        yield started


@pytest.fixture
async def js(server: Nats) -> AsyncIterator[JetStreamContext]:
    """An administrator's JetStream, in which every stream is removed afterwards."""
    client = await nats.connect(server.url("admin"))
    stream = client.jetstream(timeout=5)
    await stream.add_stream(name="orders", subjects=["orders.>"])
    yield stream
    for each in await stream.streams_info():
        await stream.delete_stream(each.config.name)
    await client.close()
    server.set_users(MAY)


@pytest.fixture
def make() -> Make:
    def attempts(
        url: str, *, timeout: float = 3.0, own: OwnWrites | None = None, **entry: Any
    ) -> WriteAttempts:
        refusal = {"refusal": entry.pop("refusal")} if "refusal" in entry else {}
        place = {"url": url, "stream": "orders", "subject": "orders.new", **entry}
        spec = NatsWrite.model_validate({"nats": place, **refusal})
        target = NatsTarget(spec, timeout=timeout, own=own or OwnWrites())
        return WriteAttempts(name="orders", surface="orders", window="w", target=target, timeout=timeout)

    return attempts


async def state(js: JetStreamContext, stream: str = "orders") -> str:
    """Everything that the server says of a stream, and all its messages."""
    info = await js._nc.request(f"$JS.API.STREAM.INFO.{stream}", b'{"deleted_details":true}', timeout=5)
    found = json.loads(info.data)
    messages = []
    for seq in range(max(1, found["state"]["first_seq"]), found["state"]["last_seq"] + 1):
        try:
            messages.append((await js.get_msg(stream, seq)).data)
        except nats.js.errors.NotFoundError:
            messages.append(None)
    found.pop("ts", None)
    return json.dumps([found, [str(one) for one in messages]], sort_keys=True)


# -- the default: a sequence that never comes -----------------------------------------------------


async def test_an_open_stream_is_a_leak_and_nothing_is_stored(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    before = await state(js)

    result = await make(server.url("app")).run(frozen())

    assert result.outcome is Outcome.LEAKED
    assert result.figures["refused_by"] == "10071"
    assert result.figures["trace"] == "none"
    assert await state(js) == before


async def test_while_writes_are_open_the_same_attempt_is_accepted(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    assert (await make(server.url("app")).run(opened())).outcome is Outcome.ACCEPTED


async def test_a_permissions_violation_is_a_refusal_and_is_heard_at_once(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    server.set_users(may_not("orders.>"))
    began = time.monotonic()

    result = await make(server.url("app"), timeout=5.0).run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["refused_by"] == "permissions violation"
    assert time.monotonic() - began < 2


async def test_permissions_given_back_are_found_by_the_next_attempt(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    server.set_users(may_not("orders.>"))
    probe = make(server.url("app"))
    assert (await probe.run(frozen())).outcome is Outcome.REFUSED

    server.set_users(MAY)

    assert (await probe.run(frozen(OPENS + 5))).outcome is Outcome.LEAKED


async def test_a_user_that_may_not_hear_the_answer_proves_nothing(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    server.set_users({**MAY, "app": {"publish": ">", "subscribe": "mine.>"}})

    result = await make(server.url("app")).run(frozen())
    heard = await make(server.url("app"), inbox="mine").run(opened())

    assert result.outcome is Outcome.UNREACHABLE
    assert "name an `inbox`" in result.reason
    assert heard.outcome is Outcome.ACCEPTED


async def test_a_violation_that_is_not_listed_as_a_refusal_proves_nothing(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    server.set_users(may_not("orders.>"))

    result = await make(server.url("app"), refusal={"permissions": False}).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE


async def test_a_sealed_stream_refuses(server: Nats, js: JetStreamContext, make: Make) -> None:
    info = await js.stream_info("orders")
    info.config.sealed, info.config.deny_delete, info.config.deny_purge = True, True, True
    info.config.discard = api.DiscardPolicy.NEW
    await js.update_stream(info.config)

    result = await make(server.url("app")).run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["refused_by"] == "10109"


async def test_a_subject_that_no_stream_takes_proves_nothing(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    result = await make(server.url("app"), subject="elsewhere").run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "nobody takes elsewhere" in result.reason


async def test_a_subject_of_another_stream_proves_nothing(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    await js.add_stream(name="stock", subjects=["stock.>"])

    result = await make(server.url("app"), subject="stock.new").run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "10060" in result.reason


async def test_somebody_who_is_no_jetstream_and_answers_proves_nothing(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    async def answer(message: Any) -> None:
        await message.respond(b"thank you")

    await js._nc.subscribe("service", cb=answer)
    await js._nc.flush()

    result = await make(server.url("app"), subject="service").run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "no JetStream" in result.reason


async def test_a_server_without_jetstream_proves_nothing(make: Make) -> None:
    with Nats(settings={"jetstream": False}) as plain:
        result = await make(plain.url()).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "JetStream is off" in result.reason


async def test_a_login_that_fails_is_no_refusal(server: Nats, js: JetStreamContext, make: Make) -> None:
    url = f"nats://app:n0t-the-one@127.0.0.1:{server.port}"

    result = await make(url).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "login was refused" in result.reason
    assert "n0t-the-one" not in result.reason


async def test_a_server_that_is_not_there_is_unreachable_at_once(make: Make) -> None:
    began = time.monotonic()

    result = await make(f"nats://app:s3cr3t@127.0.0.1:{free_port()}").run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "connection refused" in result.reason
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("more", [{}, {"canary": True}])
async def test_a_server_that_hangs_is_unreachable_within_the_timeout(
    make: Make, more: dict[str, Any]
) -> None:
    with Nats() as hanging:
        probe = make(hanging.url(), timeout=0.7, **more)
        hanging.pause()
        began = time.monotonic()

        result = await probe.run(frozen())

        took = time.monotonic() - began
        hanging.resume()
    assert result.outcome is Outcome.UNREACHABLE
    assert "no answer within" in result.reason
    assert took < (1.2 if not more else 3.0)


async def test_what_speaks_no_nats_is_unreachable(make: Make, serve: Any) -> None:
    other = serve(lambda asked: b"HTTP/1.1 400 Bad\r\n\r\n")

    result = await make(f"nats://127.0.0.1:{other.port}", timeout=0.7).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE


async def test_a_server_killed_on_the_way_is_unreachable_and_found_again(make: Make) -> None:
    with Nats() as mortal:
        client = await nats.connect(mortal.url(), allow_reconnect=False, error_cb=_quiet)
        await client.jetstream().add_stream(name="orders", subjects=["orders.>"])
        await client.close()
        probe = make(mortal.url())
        assert (await probe.run(opened())).outcome is Outcome.ACCEPTED

        mortal.pause()
        task = asyncio.ensure_future(probe.run(frozen()))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        mortal.kill()
        killed = await task
        took = time.monotonic() - began
        mortal.start()

        assert killed.outcome is Outcome.UNREACHABLE
        assert took < 1.5
        assert (await probe.run(frozen(OPENS + 5))).outcome is Outcome.LEAKED


async def test_a_connection_that_is_lost_while_the_answer_is_awaited_is_told_at_once(make: Make) -> None:
    with Nats() as mortal:
        probe = make(mortal.url(), timeout=5.0)
        target = probe.target
        assert isinstance(target, NatsTarget)
        publish, asking = target._publish, asyncio.Event()

        async def hang_then_publish(*args: Any, **more: Any) -> bytes:
            mortal.pause()
            asking.set()
            return await publish(*args, **more)

        target._publish = hang_then_publish  # type: ignore[method-assign]
        task = asyncio.ensure_future(probe.run(frozen()))
        await asking.wait()
        await asyncio.sleep(0.2)
        began = time.monotonic()
        mortal.kill()
        result = await task
        took = time.monotonic() - began

    assert result.outcome is Outcome.UNREACHABLE
    assert "connection was lost" in result.reason
    assert took < 2


async def test_200_attempts_on_an_open_stream_leave_it_byte_for_byte_as_it_was(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    for body in (b"one", b"two", b"three"):
        await js.publish("orders.new", body)
    await js.delete_msg("orders", 2)
    before = await state(js)
    target = make(server.url("app")).target

    for slot in range(200):
        assert (await target.attempt(canary("w", "orders", slot))).traceless

    assert await state(js) == before


async def test_an_attempt_that_is_cancelled_leaves_no_connection_and_no_task(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    target = make(server.url("app"), canary=True).target
    before = len(asyncio.all_tasks())
    ended = []
    for wait in (0.0, 0.0005, 0.001, 0.002, 0.003, 0.004):
        task = asyncio.ensure_future(target.attempt(canary("w", "orders", wait)))
        await asyncio.sleep(wait)
        task.cancel()
        ended += await asyncio.gather(task, return_exceptions=True)

    assert sum(isinstance(each, asyncio.CancelledError) for each in ended) >= 3
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.02)


async def test_two_watchdogs_at_once_do_not_disturb_each_other(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    probes = [make(server.url("app"), canary=True) for _ in range(6)]

    results = await asyncio.gather(*(probe.run(opened(OPENS + n)) for n, probe in enumerate(probes)))

    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    assert (await js.stream_info("orders")).state.messages == 0


@pytest.mark.parametrize(
    "subject", ["orders.\"quoted'", "orders.naïve.日本", "orders.${canary}.x", "orders.%s{0}"]
)
@pytest.mark.parametrize("more", [{}, {"canary": True}])
async def test_any_subject_is_taken(
    server: Nats, js: JetStreamContext, make: Make, subject: str, more: dict[str, Any]
) -> None:
    assert (await make(server.url("app"), subject=subject, **more).run(opened())).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("subject", ['orders."Quoted"', "orders.Naïve", "orders.${canary}.X"])
async def test_any_subject_is_refused_by_name(
    server: Nats, js: JetStreamContext, make: Make, subject: str
) -> None:
    server.set_users(may_not("orders.>"))

    result = await make(server.url("app"), subject=subject).run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason


# -- a canary that is really published ------------------------------------------------------------


async def test_a_canary_that_leaked_is_found_and_deleted(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    await js.publish("orders.new", b"one")

    result = await make(server.url("app"), canary=True).run(frozen())

    assert result.outcome is Outcome.LEAKED
    assert result.figures["undone"] is True
    after = (await js.stream_info("orders")).state
    assert (after.messages, after.last_seq) == (1, 2)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_msgs": 1},
        {"max_bytes": 60},
        {"max_msgs_per_subject": 1, "discard_new_per_subject": True},
    ],
)
async def test_a_full_stream_that_discards_the_new_refuses_a_canary_and_not_the_default_attempt(
    server: Nats, js: JetStreamContext, make: Make, limits: dict[str, Any]
) -> None:
    await js.add_stream(name="full", subjects=["full"], discard=api.DiscardPolicy.NEW, **limits)
    if "max_bytes" not in limits:
        await js.publish("full", b"1")
    place = {"stream": "full", "subject": "full"}

    result = await make(server.url("app"), canary=True, **place).run(frozen())
    default = await make(server.url("app"), **place).run(frozen())

    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["refused_by"] == "10077"
    assert default.outcome is Outcome.LEAKED


@pytest.mark.parametrize("limits", [{"max_msgs": 1}, {"max_bytes": 300}, {"max_msgs_per_subject": 1}])
async def test_a_canary_is_not_published_where_it_would_push_out_a_message(
    server: Nats, js: JetStreamContext, make: Make, limits: dict[str, Any]
) -> None:
    await js.add_stream(name="ring", subjects=["ring"], **limits)
    await js.publish("ring", b"precious")
    before = await state(js, "ring")

    result = await make(server.url("app"), canary=True, stream="ring", subject="ring").run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "push out" in result.reason
    assert await state(js, "ring") == before


async def test_a_canary_is_not_published_where_the_stream_may_not_be_asked_yet_a_violation_is_seen(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    server.set_users(may_not("$JS.API.>"))
    blind = await make(server.url("app"), canary=True).run(frozen())
    server.set_users(may_not(">"))
    refused = await make(server.url("app"), canary=True).run(frozen())

    assert blind.outcome is Outcome.UNREACHABLE
    assert "not published for real" in blind.reason
    assert (await js.stream_info("orders")).state.last_seq == 0
    assert refused.outcome is Outcome.REFUSED, refused.reason
    assert refused.figures["trace"] == "none"


async def test_a_confirmed_canary_that_is_gone_at_once_is_dropped(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    """Interest retention without a consumer acknowledges and keeps nothing."""
    await js.add_stream(name="air", subjects=["air"], retention=api.RetentionPolicy.INTEREST)

    result = await make(server.url("app"), canary=True, stream="air", subject="air").run(frozen())

    assert result.outcome is Outcome.DROPPED, result.reason


async def test_a_canary_without_an_acknowledgement_that_was_stored_is_found(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    await js.add_stream(name="mute", subjects=["mute"], no_ack=True)
    await js.publish_async("mute", b"another")

    result = await make(server.url("app"), canary=True, timeout=0.7, stream="mute", subject="mute").run(
        frozen()
    )

    assert result.outcome is Outcome.LEAKED, result.reason
    assert "yet applied" in result.reason
    assert result.figures["undone"] is True


async def test_a_canary_that_lands_late_is_found_by_a_later_attempt(make: Make) -> None:
    with Nats() as hanging:
        client = await nats.connect(hanging.url())
        await client.jetstream().add_stream(name="orders", subjects=["orders.>"])
        probe = make(hanging.url(), timeout=1.0, canary=True)
        target = probe.target
        assert isinstance(target, NatsTarget)
        publish = target._publish

        async def hang_then_publish(*args: Any, **more: Any) -> bytes:
            hanging.pause()
            return await publish(*args, **more)

        target._publish = hang_then_publish  # type: ignore[method-assign]
        lost = await probe.run(frozen())
        target._publish = publish  # type: ignore[method-assign]
        hanging.resume()
        async with asyncio.timeout(10):
            while not (await client.jetstream().stream_info("orders")).state.messages:
                await asyncio.sleep(0.02)
        landed = await probe.run(frozen(OPENS + 5))
        left = (await client.jetstream().stream_info("orders")).state.messages
        await client.close()

    assert lost.outcome is Outcome.UNREACHABLE
    assert landed.outcome is Outcome.LEAKED
    assert "has been applied since" in landed.reason
    assert left == 0


async def test_a_canary_of_before_a_restart_of_the_watchdog_is_found_among_others(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    await make(server.url("app"), canary=True).target.attempt(canary("w", "orders", OPENS))
    for _ in range(50):
        await js.publish("orders.new", b"another")
    probe = make(server.url("app"), canary=True)
    probe.expect(OPENS)

    result = await probe.run(frozen(OPENS + 5))

    assert result.outcome is Outcome.LEAKED
    assert "has been applied since" in result.reason
    assert result.figures["undone"] is True
    assert (await js.stream_info("orders")).state.messages == 50


async def test_a_stream_that_lets_nothing_be_deleted_says_that_the_canary_stays(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    await js.add_stream(name="kept", subjects=["kept"], deny_delete=True)

    result = await make(server.url("app"), canary=True, stream="kept", subject="kept").run(frozen())

    assert result.outcome is Outcome.LEAKED
    assert "could not be deleted" in result.reason
    assert result.figures["trace"] == "left"


async def test_what_a_canary_wrote_is_known_as_our_own(
    server: Nats, js: JetStreamContext, make: Make
) -> None:
    own = OwnWrites()
    found = await js._nc.request("$JS.API.STREAM.INFO.orders", b"", timeout=5)
    created = json.loads(found.data)["created"]

    await make(server.url("app"), canary=True, own=own).run(frozen())

    assert (f"nats orders {created}", "1") in own
    assert (f"nats orders {created}", "undone 1") in own


# -- judging --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (10077, "maximum messages exceeded", "proper"),
        (10077, "maximum bytes exceeded", "proper"),
        (10077, "maximum messages per subject exceeded", "proper"),
        (10077, "no space left on device", "other"),
        (10109, "invalid operation on sealed stream", "proper"),
        (10076, "JetStream not enabled", "other"),
        (10023, "insufficient resources", "other"),
        (10054, "message size exceeds maximum allowed", "other"),
        (10071, "wrong last sequence: 3", "accepted"),
    ],
)
def test_an_error_is_a_refusal_only_when_it_is_the_freezes(code: int, text: str, kind: str) -> None:
    error = {"error": {"code": 503, "err_code": code, "description": text}, "stream": "orders", "seq": 0}

    judgement, seq = judged(json.dumps(error).encode(), NatsWrite.model_validate(ENTRY).refusal)

    assert (judgement.kind, seq) == (kind, None)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"seq": "x"}', b'{"error": 5}', b"\xff"])
def test_what_is_no_acknowledgement_is_neither(data: bytes) -> None:
    judgement, seq = judged(data, NatsWrite.model_validate(ENTRY).refusal)

    assert (judgement.kind, seq) == ("other", None)


async def test_without_the_driver_nothing_is_asked_and_the_way_out_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)

    result = await make("nats://127.0.0.1").run(frozen())

    assert result.outcome is Outcome.SKIPPED
    assert result.figures["why"] == "own_fault"
    assert "pip install 'freezewatch[nats]'" in result.reason


def test_the_module_can_be_imported_without_the_driver() -> None:
    blocked = "import sys; sys.modules['nats'] = None; import probes.write.nats, probes.audit.nats.source"

    subprocess.run([sys.executable, "-c", blocked], check=True, timeout=60)


# -- configuration --------------------------------------------------------------------------------

URL = "nats://u:s3cr3t-word@h"
ENTRY = {"nats": {"url": URL, "stream": "orders", "subject": "orders.new"}}


@pytest.mark.parametrize(
    "change",
    [
        {"url": 7},
        {"url": "http://h"},
        {"url": "nats://"},
        {"url": "nats://u:s3cr3t-word@h:99999999"},
        {"url": "nats://u:s3cr3t word@h"},
        {"stream": "a.b"},
        {"stream": ""},
        {"stream": 5},
        {"subject": ""},
        {"subject": "orders.*"},
        {"subject": "orders.>"},
        {"subject": "orders new"},
        {"subject": ".orders"},
        {"subject": "orders..new"},
        {"canary": "perhaps"},
        {"inbox": "in box"},
        {"inbox": "_INBOX.>"},
        {"subjct": "x"},
    ],
)
def test_a_mistake_in_the_configuration_is_named_without_the_secret(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        NatsWrite.model_validate({"nats": {**ENTRY["nats"], **change}})

    assert "s3cr3t" not in "; ".join(detail["msg"] for detail in error.value.errors())


@pytest.mark.parametrize("codes", [[True], ["x"], [0], 10077, [10077.5]])
def test_codes_are_numbers(codes: object) -> None:
    with pytest.raises(ValidationError):
        NatsWrite.model_validate({**ENTRY, "refusal": {"codes": codes}})


def test_no_repr_shows_the_password() -> None:
    assert "s3cr3t-word" not in repr(NatsWrite.model_validate(ENTRY))


async def _quiet(error: Exception) -> None:
    """The driver's complaints when its server is killed."""
