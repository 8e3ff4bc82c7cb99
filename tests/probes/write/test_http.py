"""The write probe: the whole table of store × answer → outcome, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import LEAKS, Outcome, Run, Why
from probes.http import Transport
from probes.write.attempt import WriteAttempts
from probes.write.http import WriteSpec, http_write

from ..harness import (
    AGENT,
    OPENS,
    Asked,
    Close,
    Pause,
    Reset,
    Script,
    Server,
    Step,
    Store,
    free_port,
    frozen,
    http,
    opened,
    refusal,
)

Serve = Callable[..., Server]
HTML = ("Content-Type", "text/html")
WAIVED = {"waived": "nothing can be read there"}


def probe(transport: Transport, url: str, *, timeout: float = 1.0, **spec: Any) -> WriteAttempts:
    """A probe of the store at `url`; with `None` a part of its specification is left out."""
    item = {"url": f"{url}/items/${{canary}}"}
    parts = {
        "http": {**item, "method": "PUT", "json": {"id": "${canary}"}},
        "read_back": {"http": item},
        "undo": {"http": item},
    }
    stated = {name: value for name, value in (parts | spec).items() if value is not None}
    return http_write(
        name="vectors",
        window="w",
        spec=WriteSpec.model_validate(stated),
        timeout=timeout,
        transport=transport,
        agent=AGENT,
        closes=OPENS + 3600,
    )


def always(steps: Step | Sequence[Step]) -> Script:
    return lambda asked: steps


REFUSED, ACCEPTED = refusal(), http(201)
ROWS: dict[str, tuple[Store, dict[str, Any], Run, Outcome, str]] = {
    # what the guard promises
    "a refusal without effect": (
        Store(always(REFUSED), applies=False),
        {},
        frozen(),
        Outcome.REFUSED,
        "503 read_only",
    ),
    "a 423 without effect": (
        Store(always(refusal(423)), applies=False),
        {},
        frozen(),
        Outcome.REFUSED,
        "423",
    ),
    "a refusal, its read-back waived": (
        Store(always(REFUSED), applies=False),
        {"read_back": WAIVED},
        frozen(),
        Outcome.REFUSED,
        "503",
    ),
    "a refusal while open": (Store(always(REFUSED), applies=False), {}, opened(), Outcome.REFUSED, "503"),
    # a refusal that nobody verified
    "a refusal without read-back": (
        Store(always(REFUSED), applies=False),
        {"read_back": None},
        frozen(),
        Outcome.UNREACHABLE,
        "no read_back is configured",
    ),
    "a refusal whose read-back is cut off": (
        Store(always(REFUSED), applies=False, look=always(Close())),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "the read-back failed",
    ),
    "a refusal whose read-back is down": (
        Store(always(REFUSED), applies=False, look=always(http(503))),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "the read-back answered 503",
    ),
    "a refusal whose read-back needs a login": (
        Store(always(REFUSED), applies=False, look=always(http(401))),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "the read-back answered 401",
    ),
    "a refusal whose read-back is redirected": (
        Store(always(REFUSED), applies=False, look=always(http(302, b"", ("Location", "/login")))),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "the read-back answered 302",
    ),
    # a refusal that breaks its contract
    "no Retry-After": (
        Store(always(refusal(retry_after=None)), applies=False),
        {},
        frozen(),
        Outcome.REFUSED_BADLY,
        "no Retry-After",
    ),
    "a bad Retry-After": (
        Store(always(refusal(retry_after="soon")), applies=False),
        {},
        frozen(),
        Outcome.REFUSED_BADLY,
        "'soon'",
    ),
    "two Retry-After": (
        Store(
            always(http(503, None, ("Retry-After", "1"), ("Retry-After", "1"), json_={"code": "x"})),
            applies=False,
        ),
        {},
        frozen(),
        Outcome.REFUSED_BADLY,
        "2 Retry-After",
    ),
    "no code": (
        Store(always(http(503, b"closed", ("Retry-After", "1"))), applies=False),
        {},
        frozen(),
        Outcome.REFUSED_BADLY,
        "no stable code",
    ),
    "another code": (
        Store(always(REFUSED), applies=False),
        {"refusal": {"equals": "frozen"}},
        frozen(),
        Outcome.REFUSED_BADLY,
        "not 'frozen'",
    ),
    "another status": (
        Store(always(http(403, json_={"error": "read-only mode"})), applies=False),
        {},
        frozen(),
        Outcome.REFUSED_BADLY,
        "answered 403, not 423 or 503",
    ),
    "a broken refusal that cannot be verified": (
        Store(always(refusal(retry_after=None)), applies=False, look=always(Close())),
        {},
        frozen(),
        Outcome.REFUSED_BADLY,
        "no Retry-After",
    ),
    # refused, yet there
    "a refusal that applied": (
        Store(always(REFUSED)),
        {},
        frozen(),
        Outcome.LEAKED_BEHIND_REFUSAL,
        "yet applied",
    ),
    "a broken refusal that applied": (
        Store(always(refusal(retry_after=None))),
        {},
        frozen(),
        Outcome.LEAKED_BEHIND_REFUSAL,
        "yet applied",
    ),
    "a refusal that applied a little later": (
        Store(always(REFUSED), late=2),
        {"read_back": {"http": {"url": "URL"}, "within": "3s"}},
        frozen(),
        Outcome.LEAKED_BEHIND_REFUSAL,
        "yet applied",
    ),
    "an error that applied": (
        Store(always(http(500))),
        {},
        frozen(),
        Outcome.LEAKED_BEHIND_REFUSAL,
        "answered 500",
    ),
    "a refusal that applied while open": (
        Store(always(REFUSED)),
        {},
        opened(),
        Outcome.LEAKED_BEHIND_REFUSAL,
        "yet applied",
    ),
    "an error that applied while open": (
        Store(always(http(500))),
        {},
        opened(),
        Outcome.ACCEPTED,
        "yet applied",
    ),
    # accepted
    "accepted while frozen": (
        Store(always(ACCEPTED)),
        {},
        frozen(),
        Outcome.LEAKED,
        "answered 201 while frozen",
    ),
    "accepted while freezing": (
        Store(always(ACCEPTED)),
        {},
        frozen(freezing=True),
        Outcome.LEAKED,
        "while frozen",
    ),
    "accepted, not read back": (
        Store(always(ACCEPTED)),
        {"read_back": None},
        frozen(),
        Outcome.LEAKED,
        "no read_back",
    ),
    "accepted, read-back waived": (
        Store(always(ACCEPTED)),
        {"read_back": WAIVED},
        frozen(),
        Outcome.LEAKED,
        "while frozen",
    ),
    "accepted, read-back broken": (
        Store(always(ACCEPTED), look=always(Reset())),
        {},
        frozen(),
        Outcome.LEAKED,
        "the read-back failed",
    ),
    "accepted while open": (Store(always(ACCEPTED)), {}, opened(), Outcome.ACCEPTED, "answered 201"),
    "accepted while open, seen later": (
        Store(always(ACCEPTED), late=2),
        {"read_back": {"http": {"url": "URL"}, "within": "3s"}},
        opened(),
        Outcome.ACCEPTED,
        "answered 201",
    ),
    "accepted while open, waived": (
        Store(always(ACCEPTED)),
        {"read_back": WAIVED},
        opened(),
        Outcome.ACCEPTED,
        "answered 201",
    ),
    "accepted while open, not read back": (
        Store(always(ACCEPTED)),
        {"read_back": None},
        opened(),
        Outcome.UNREACHABLE,
        "not verified",
    ),
    "accepted while open, read-back broken": (
        Store(always(ACCEPTED), look=always(Close())),
        {},
        opened(),
        Outcome.UNREACHABLE,
        "not verified",
    ),
    # accepted, yet absent
    "dropped while open": (
        Store(always(ACCEPTED), applies=False),
        {},
        opened(),
        Outcome.DROPPED,
        "does not show it",
    ),
    "dropped while frozen": (
        Store(always(ACCEPTED), applies=False),
        {},
        frozen(),
        Outcome.DROPPED,
        "does not show it",
    ),
    "dropped by an HTML 200": (
        Store(always(http(200, "<html>maintenance", HTML)), applies=False),
        {},
        frozen(),
        Outcome.DROPPED,
        "does not show it",
    ),
    # accepted as an intent
    "queued": (
        Store(always(http(202)), applies=False),
        {"queued": 202},
        frozen(),
        Outcome.QUEUED,
        "as an intent",
    ),
    "queued, not verified": (
        Store(always(http(202)), applies=False),
        {"queued": 202, "read_back": None},
        frozen(),
        Outcome.QUEUED,
        "no read_back",
    ),
    "queued, yet applied": (
        Store(always(http(202))),
        {"queued": 202},
        frozen(),
        Outcome.LEAKED,
        "yet applied while frozen",
    ),
    "202 where nothing is queued": (Store(always(http(202))), {}, frozen(), Outcome.LEAKED, "answered 202"),
    "201 where 202 is queued": (
        Store(always(ACCEPTED)),
        {"queued": 202},
        frozen(),
        Outcome.LEAKED,
        "answered 201",
    ),
    "queued while open, applied": (
        Store(always(http(202))),
        {"queued": 202},
        opened(),
        Outcome.ACCEPTED,
        "202",
    ),
    # no answer
    "a timeout": (
        Store(always(Pause(30)), applies=False),
        {"timeout": 0.3},
        frozen(),
        Outcome.UNREACHABLE,
        "no answer within",
    ),
    "a timeout that applied": (
        Store(always(Pause(30))),
        {"timeout": 0.3},
        frozen(),
        Outcome.LEAKED,
        "yet applied",
    ),
    "a timeout that applied while open": (
        Store(always(Pause(30))),
        {"timeout": 0.3},
        opened(),
        Outcome.ACCEPTED,
        "yet applied",
    ),
    "a reset": (Store(always(Reset()), applies=False), {}, frozen(), Outcome.UNREACHABLE, "reset"),
    "a reset that applied": (Store(always(Reset())), {}, frozen(), Outcome.LEAKED, "yet applied"),
    "a close": (
        Store(always(Close()), applies=False),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "without an answer",
    ),
    "a refusal that is cut off": (
        Store(always([REFUSED[:-5], Close()]), applies=False),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "not completed",
    ),
    # an answer that proves nothing
    "502": (
        Store(always(http(502, "<html>", HTML)), applies=False),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "answered 502",
    ),
    "503 page": (
        Store(always(http(503, "<html>", HTML)), applies=False),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "HTML page",
    ),
    "401": (Store(always(http(401)), applies=False), {}, frozen(), Outcome.UNREACHABLE, "answered 401"),
    "404": (Store(always(http(404)), applies=False), {}, frozen(), Outcome.UNREACHABLE, "answered 404"),
    "a redirect": (
        Store(always(http(301, b"", ("Location", "/x"))), applies=False),
        {},
        frozen(),
        Outcome.UNREACHABLE,
        "not followed",
    ),
}


@pytest.mark.parametrize(("store", "spec", "run", "outcome", "reason"), ROWS.values(), ids=ROWS)
async def test_store_and_answer_make_the_outcome(
    store: Store,
    spec: dict[str, Any],
    run: Run,
    outcome: Outcome,
    reason: str,
    serve: Serve,
    transport: Transport,
) -> None:
    """One attempt, one outcome, with the reason in words; never more than one request that writes."""
    server = serve(store)
    spec = json.loads(json.dumps(spec).replace('"URL"', f'"{server.url}/items/${{canary}}"'))

    result = await probe(transport, server.url, **spec).run(run)

    assert (result.outcome, reason in result.reason) == (outcome, True), result
    assert server.count("PUT") == 1
    assert result.duration_s >= 0


async def test_every_outcome_of_a_write_stands_in_the_table() -> None:
    """Nothing that a write can be is left untried."""
    tried = {row[3] for row in ROWS.values()}

    assert tried == set(Outcome) - {
        Outcome.OK,
        Outcome.FAILED,
        Outcome.SKIPPED,
        Outcome.ON,
        Outcome.OFF,
        Outcome.UNKNOWN,
        Outcome.CHANGED,
    }


async def test_a_refused_connection_is_unreachable(transport: Transport) -> None:
    """Nobody listens: that blocks a write too, and is no refusal."""
    result = await probe(transport, f"http://127.0.0.1:{free_port()}").run(frozen())

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "connection refused")


async def test_our_own_missing_network_is_skipped(transport: Transport) -> None:
    """What the watchdog could not ask says nothing about the target."""
    result = await probe(transport, "http://255.255.255.255:9").run(frozen())

    assert (result.outcome, result.figures["why"]) == (Outcome.SKIPPED, Why.OWN_FAULT)


# -- the code -------------------------------------------------------------------------------------


async def test_a_code_that_changes_is_not_stable(serve: Serve, transport: Transport) -> None:
    """The first verified refusal sets the code; another one later is a broken contract."""
    codes = iter(["read_only", "read_only", "frozen", "read_only"])
    asking = probe(transport, serve(Store(lambda asked: refusal(code=next(codes)), applies=False)).url)

    outcomes = [(await asking.run(frozen(OPENS + slot))).outcome for slot in range(4)]

    assert outcomes == [Outcome.REFUSED, Outcome.REFUSED, Outcome.REFUSED_BADLY, Outcome.REFUSED]


async def test_what_a_refusal_carried_is_in_the_figures(serve: Serve, transport: Transport) -> None:
    """Status, code, seconds, warnings, and whether it was verified."""
    store = Store(always(refusal(retry_after="0")), applies=False)

    result = await probe(transport, serve(store).url).run(frozen())

    assert result.figures == {
        "canary": result.figures["canary"],
        "owed": 0,
        "expected": 0,
        "trace": "none",
        "verified": True,
        "status": 503,
        "code": "read_only",
        "retry_after_s": 0.0,
        "warnings": ["Retry-After 0 s: clients come back at once"],
    }


# -- doing no harm --------------------------------------------------------------------------------


@pytest.mark.parametrize("put", [ACCEPTED, REFUSED, Reset()], ids=["leak", "behind a refusal", "unanswered"])
async def test_a_confirmed_leak_stops_the_probe_and_is_undone(
    put: Step, serve: Serve, transport: Transport
) -> None:
    """One canary, taken away again, and no further attempt while frozen."""
    server = serve(store := Store(always(put)))
    asking = probe(transport, server.url)

    first = await asking.run(frozen())
    later = [await asking.run(frozen(OPENS + slot)) for slot in range(1, 4)]

    assert first.outcome in LEAKS
    assert (first.figures["undone"], first.figures["owed"], store.items) == (True, 0, set())
    assert {(each.outcome, each.figures["why"]) for each in later} == {(Outcome.SKIPPED, Why.STOPPED)}
    assert later[0].reason.startswith("stopped after a confirmed leak")
    assert (server.count("PUT"), server.count("DELETE")) == (1, 1)


async def test_a_leak_while_the_freeze_takes_hold_does_not_stop_the_probe(
    serve: Serve, transport: Transport
) -> None:
    """Until it is settled the probe goes on, so that it sees the freeze begin."""
    server = serve(store := Store(always(ACCEPTED)))
    asking = probe(transport, server.url)
    await asking.run(frozen(freezing=True))
    store.put, store.applies = always(REFUSED), False

    result = await asking.run(frozen(OPENS + 1))

    assert (result.outcome, server.count("PUT"), store.items) == (Outcome.REFUSED, 2, set())


async def test_a_stopped_probe_attempts_again_once_writes_are_open(
    serve: Serve, transport: Transport
) -> None:
    """The stop is for the freeze."""
    server = serve(Store(always(ACCEPTED)))
    asking = probe(transport, server.url)
    asking.stop("stopped after a confirmed leak: recalled from the ledger")

    outcomes = [(await asking.run(run)).outcome for run in (frozen(), opened(OPENS + 1), frozen(OPENS + 2))]

    assert outcomes == [Outcome.SKIPPED, Outcome.ACCEPTED, Outcome.LEAKED]


async def test_without_undo_nothing_is_written_while_writes_are_open(
    serve: Serve, transport: Transport
) -> None:
    """Neither the control before the window nor the attempts after it."""
    server = serve(Store(always(ACCEPTED)))

    result = await probe(transport, server.url, undo=None, control=True).run(opened())

    assert (result.outcome, result.figures["why"], server.asked) == (Outcome.SKIPPED, Why.HARMFUL, [])


async def test_a_leak_without_undo_says_that_it_stays(serve: Serve, transport: Transport) -> None:
    """The operator must know what to clean up."""
    result = await probe(transport, serve(Store(always(ACCEPTED))).url, undo=None).run(frozen())

    assert result.reason == "answered 201 while frozen; not undone: no undo is configured"
    assert result.figures["undone"] is False


async def test_a_waived_undo_asks_for_nothing(serve: Serve, transport: Transport) -> None:
    """Where it need not be undone, no DELETE is sent."""
    server = serve(Store(always(ACCEPTED)))

    result = await probe(transport, server.url, undo={"waived": "expires by itself"}).run(opened())

    assert (result.outcome, server.count("DELETE")) == (Outcome.ACCEPTED, 0)


@pytest.mark.parametrize("refused", [refusal(), Close(), http(500)], ids=["refused", "cut off", "broken"])
async def test_an_undo_that_fails_while_frozen_is_owed_and_paid_when_writes_are_open(
    refused: Step, serve: Serve, transport: Transport
) -> None:
    """The debt is in the figures until it is paid, before anything new is written."""
    server = serve(store := Store(always(ACCEPTED), delete=always(refused)))
    asking = probe(transport, server.url)
    leaked = await asking.run(frozen())
    store.delete = None

    after = await asking.run(opened(OPENS + 1))

    assert (leaked.figures["undone"], leaked.figures["owed"]) == (False, 1)
    assert "; not undone: " in leaked.reason
    assert (after.outcome, after.figures["owed"], store.items) == (Outcome.ACCEPTED, 0, set())
    assert [asked.method for asked in server.asked] == [
        "PUT",
        "GET",
        "DELETE",
        "DELETE",
        "PUT",
        "GET",
        "DELETE",
    ]


async def test_what_was_queued_is_owed_until_it_can_be_taken_away(serve: Serve, transport: Transport) -> None:
    """Every intent of a frozen hour is taken away afterwards."""
    server = serve(store := Store(always(http(202)), applies=False, delete=always(refusal())))
    asking = probe(transport, server.url, queued=202)
    for slot in range(5):
        queued = await asking.run(frozen(OPENS + slot))
    store.delete, store.applies = None, True
    store.items |= {asked.target for asked in server.asked if asked.method == "PUT"}

    await asking.run(opened(OPENS + 9))

    assert (queued.figures["owed"], store.items) == (5, set())


async def test_a_debt_that_cannot_be_paid_does_not_hold_up_the_attempts(
    serve: Serve, transport: Transport
) -> None:
    """A hanging undo costs one timeout a run, whatever is owed, and the other debts are paid."""
    server = serve(store := Store(always(http(202)), applies=False, delete=always(refusal())))
    asking = probe(transport, server.url, queued=202, timeout=0.3)
    for slot in range(4):
        await asking.run(frozen(OPENS + slot))
    stuck = next(asked.target for asked in server.asked)
    store.delete = lambda asked: Pause(30) if asked.target == stuck else http(204)
    store.applies = True

    first = await asking.run(opened(OPENS + 8))
    hung = server.count("DELETE")
    second = await asking.run(opened(OPENS + 9))

    assert (first.outcome, hung) == (Outcome.ACCEPTED, 4 + 1 + 1)
    assert second.figures["owed"] == 1


async def test_what_may_have_been_applied_unseen_is_owed_too(serve: Serve, transport: Transport) -> None:
    """A timeout whose read-back fails as well: the canary may stand there, and is taken away later."""
    server = serve(store := Store(always(Reset()), look=always(Close())))
    asking = probe(transport, server.url)
    lost = await asking.run(frozen())
    store.put, store.look = always(ACCEPTED), None

    await asking.run(opened(OPENS + 1))

    assert (lost.outcome, lost.figures["owed"], store.items) == (Outcome.UNREACHABLE, 1, set())


@pytest.mark.parametrize("run", [frozen(), opened()], ids=["frozen", "open"])
async def test_what_was_dropped_is_undone_in_case_it_lands_late(
    run: Run, serve: Serve, transport: Transport
) -> None:
    """An accepted write may show up after we looked."""
    server = serve(Store(always(ACCEPTED), applies=False))

    result = await probe(transport, server.url).run(run)

    assert (result.outcome, server.count("DELETE")) == (Outcome.DROPPED, 1)


async def test_looking_for_a_late_write_is_not_a_storm(serve: Serve, transport: Transport) -> None:
    """Read-backs within two seconds come ever more slowly."""
    server = serve(Store(always(REFUSED), applies=False))
    item = {"url": f"{server.url}/items/${{canary}}"}

    await probe(transport, server.url, read_back={"http": item, "within": "2s"}).run(frozen())

    assert 4 <= server.count("GET") <= 7


# -- on the wire ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("put", [Close(), Reset()], ids=["close", "reset"])
async def test_one_run_is_one_attempt_on_the_wire(
    method: str, put: Step, serve: Serve, transport: Transport
) -> None:
    """However the server breaks off, and however idempotent the method is said to be."""
    server = serve(lambda asked: put if asked.target == "/write" else http(404))
    asking = probe(transport, server.url, http={"url": f"{server.url}/write", "method": method})

    await asking.run(frozen())

    assert [asked.target for asked in server.asked].count("/write") == 1


async def test_an_attempt_carries_its_identity_in_all_forms(serve: Serve, transport: Transport) -> None:
    """URL, query, header, key and body name one canary; a lone number stays a number in JSON."""
    server = serve(Store(always(REFUSED), applies=False))
    request = {
        "url": f"{server.url}/items/${{canary}}?a=1",
        "params": {"u": "${canary_uuid}", "n": 5},
        "headers": {"X-Number": "${canary_int}", "X-Canary": "<${canary}>"},
        "json": {"id": "${canary_int}", "t": "no ${canary_int}", "l": ["${canary_uuid}"], "${canary}": None},
    }

    result = await probe(transport, server.url, http=request).run(frozen())

    asked, text = server.asked[0], str(result.figures["canary"])
    body = json.loads(asked.body)
    unique = asked.header("idempotency-key")[0].strip('"')
    assert asked.method == "POST"
    assert asked.target == f"/items/{text}?a=1&u={unique}&n=5"
    assert asked.header("x-number") == [str(body["id"])]
    assert body == {"id": body["id"], "t": f"no {body['id']}", "l": [unique], text: None}
    assert isinstance(body["id"], int)
    assert asked.header("x-canary") == [f"<{text}>"]
    assert asked.header("user-agent") == [AGENT]
    assert asked.header("x-freezewatch") == ["canary"]
    assert asked.header("content-type") == ["application/json"]


async def test_the_same_slot_is_the_same_attempt_and_another_slot_another(
    serve: Serve, transport: Transport
) -> None:
    """What is asked again for one slot has the same key; the next slot a new one."""
    server = serve(Store(always(REFUSED), applies=False))
    asking = probe(transport, server.url)

    for slot in (OPENS, OPENS, OPENS + 5):
        await asking.run(frozen(slot))

    keys = [asked.header("idempotency-key")[0] for asked in server.asked if asked.method == "PUT"]
    assert keys[0] == keys[1] != keys[2]


async def test_the_users_own_headers_win(serve: Serve, transport: Transport) -> None:
    """In any case of letters, and once."""
    server = serve(Store(always(REFUSED), applies=False))
    headers = {"idempotency-KEY": "mine", "user-agent": "me", "CONTENT-type": "application/vnd.api+json"}
    request = {"url": f"{server.url}/items/${{canary}}", "json": {}, "headers": headers}

    await probe(transport, server.url, http=request).run(frozen())

    asked = server.asked[0]
    assert asked.header("idempotency-key") == ["mine"]
    assert asked.header("user-agent") == ["me"]
    assert asked.header("content-type") == ["application/vnd.api+json"]


async def test_runs_in_sequence_do_not_overlap_at_the_server(serve: Serve, transport: Transport) -> None:
    """Attempt, read-back and undo come one after the other."""
    server = serve(Store(always([Pause(0.03), ACCEPTED])))
    asking = probe(transport, server.url)

    for slot in range(4):
        await asking.run(opened(OPENS + slot))

    assert server.most_at_once == 1


async def test_a_run_that_is_cancelled_ends(serve: Serve, transport: Transport) -> None:
    """Cancelling is not swallowed and taken for an outcome."""
    server = serve(Store(always(Pause(30))))
    running = asyncio.create_task(probe(transport, server.url, timeout=20).run(frozen()))
    while not server.asked:
        await asyncio.sleep(0.005)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


# -- read-backs -----------------------------------------------------------------------------------

SEEN: dict[str, tuple[bytes, Outcome]] = {
    "nothing at the path": (http(200, json_={"other": 1}), Outcome.REFUSED),
    "an empty list": (http(200, json_={"hits": []}), Outcome.REFUSED),
    "null": (http(200, json_={"hits": None}), Outcome.REFUSED),
    "zero": (http(200, json_={"hits": 0}), Outcome.REFUSED),
    "the absent status": (http(404), Outcome.REFUSED),
    "something": (http(200, json_={"hits": [{"id": 1}]}), Outcome.LEAKED_BEHIND_REFUSAL),
    "a number": (http(200, json_={"hits": 1}), Outcome.LEAKED_BEHIND_REFUSAL),
    "no JSON": (http(200, "<html>", HTML), Outcome.UNREACHABLE),
    "broken JSON": (http(200, b'{"hits": ['), Outcome.UNREACHABLE),
    "an error": (http(500), Outcome.UNREACHABLE),
}


@pytest.mark.parametrize(("look", "outcome"), SEEN.values(), ids=SEEN)
async def test_a_read_back_can_look_into_the_body(
    look: bytes, outcome: Outcome, serve: Serve, transport: Transport
) -> None:
    """Absent when nothing stands at the path; what cannot be read tells neither."""
    server = serve(Store(always(REFUSED), applies=False, look=always(look)))
    spec = {"http": {"url": f"{server.url}/search"}, "absent": {"at": "$.hits"}}

    result = await probe(transport, server.url, read_back=spec).run(frozen())

    assert result.outcome is outcome


async def test_a_read_back_follows_redirects_only_when_asked(serve: Serve, transport: Transport) -> None:
    """A store that keeps its items elsewhere."""

    def look(asked: Asked) -> Step:
        return http(302, b"", ("Location", "/moved")) if asked.target != "/moved" else http(404)

    server = serve(Store(always(REFUSED), applies=False, look=look))
    item = {"url": f"{server.url}/items/${{canary}}", "follow_redirects": True}

    result = await probe(transport, server.url, read_back={"http": item}).run(frozen())

    assert result.outcome is Outcome.REFUSED


MISTAKES: dict[str, dict[str, Any]] = {
    "redirects of a write": {"http": {"url": "http://a/", "follow_redirects": True}},
    "neither http nor waived": {"read_back": {}},
    "http and waived": {"read_back": {"http": {"url": "http://a/"}, "waived": "because"}},
    "waived without a reason": {"undo": {"waived": ""}},
    "no status of an undo": {"undo": {"http": {"url": "http://a/"}, "status": []}},
    "two bodies": {"http": {"url": "http://a/", "json": {}, "body": ""}},
    "no URL": {"http": {"url": "a/b"}},
    "another scheme": {"http": {"url": "file:///etc/passwd"}},
    "a port that is none": {"http": {"url": "http://a:70000/"}},
    "a header with a line break": {"http": {"url": "http://a/", "headers": {"X": "a\r\nHost: b"}}},
    "a header with a space in its name": {"http": {"url": "http://a/", "headers": {"X Y": "a"}}},
    "a header that is not ASCII": {"http": {"url": "http://a/", "headers": {"X": "ü"}}},
    "two credentials": {"http": {"url": "http://u:p@a/", "headers": {"authorization": "Bearer t"}}},
}


@pytest.mark.parametrize("spec", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_before_the_window(spec: dict[str, Any]) -> None:
    """What cannot work is no specification."""
    with pytest.raises(ValidationError):
        WriteSpec.model_validate({"http": {"url": "http://a/"}} | spec)
