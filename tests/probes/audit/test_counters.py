"""Counters as JSON: what rose, fell, is missing or is no number, and what a restart of either side does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from probes.audit.audit import LONGEST_MARK
from probes.base import Outcome, Result, Run
from probes.http import Transport
from probes.kinds import KINDS, Each
from probes.tools import Tools

from ..harness import AGENT, OPENS, Asked, Close, Pause, Reset, Server, Step, free_port, http

Serve = Callable[..., Server]
AT = {"inserts": "$.n.ins", "deletes": "$.n.del"}


class Counting:
    """A service that answers its counters."""

    def __init__(self, **counters: Any) -> None:
        self.counters = counters
        self.started: Any = "2026-11-01"
        self.says: Step | list[Step] | None = None
        self.headers: tuple[tuple[str, str], ...] = ()

    def __call__(self, asked: Asked) -> Step | list[Step]:
        if self.says is not None:
            return self.says
        return http(200, None, *self.headers, json_={"n": self.counters, "started": self.started})


def audit(transport: Transport, url: str, *, timeout: float = 1.0, **spec: Any) -> Any:
    kind = KINDS["audits"]["http"]
    made = kind.spec.model_validate({"http": {"url": f"{url}/stats"}, "at": AT} | spec)
    tools = Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=transport)
    return kind.make(Each(name="a", surface="a", spec=made), timeout, tools)


def run(slot: int) -> Run:
    return Run(slot=OPENS + slot, phase="frozen", frozen=True, started=OPENS + slot)


async def read(made: Any, *, times: int = 1) -> Result:
    for slot in range(times):
        result: Result = await made.run(run(slot))
    return result


async def test_counters_that_stand_still_say_that_nothing_was_written(
    serve: Serve, transport: Transport
) -> None:
    made = audit(transport, serve(Counting(ins=7, **{"del": 0})).url)

    result = await read(made, times=3)

    assert (result.outcome, result.figures["grade"]) == (Outcome.OK, "counters over HTTP")
    assert (result.figures["tells_own"], result.figures["counters"]) == (False, 2)


async def test_counter_that_rose_is_a_write_that_is_named_and_counted(
    serve: Serve, transport: Transport
) -> None:
    store = Counting(ins=2**60, **{"del": "41"})
    made = audit(transport, serve(store).url)
    await read(made)
    store.counters |= {"ins": 2**60 + 3, "del": "42"}

    result = await read(made)
    after = await read(made)

    assert result.outcome is Outcome.CHANGED
    assert result.figures["what"] == ["inserts: 3 × write", "deletes: 1 × write"]
    assert after.outcome is Outcome.OK


async def test_counter_that_fell_cannot_be_told(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=7, **{"del": 5})
    made = audit(transport, serve(store).url)
    await read(made)
    store.counters |= {"ins": 2}

    result = await read(made)

    assert result.outcome is Outcome.UNKNOWN
    assert "inserts was set back from 7 to 2" in result.reason


async def test_counter_that_rises_after_it_fell_is_a_write_until_it_may_be_back(
    serve: Serve, transport: Transport
) -> None:
    store = Counting(ins=100, **{"del": 5})
    made = audit(transport, serve(store).url)
    outcomes = []

    for value in (100, 50, 53, 103, 104):
        store.counters |= {"ins": value}
        outcomes.append((await read(made)).outcome)

    assert outcomes == [Outcome.OK, Outcome.UNKNOWN, Outcome.CHANGED, Outcome.UNKNOWN, Outcome.CHANGED]


async def test_write_is_told_although_another_counter_fell(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=7, **{"del": 5})
    made = audit(transport, serve(store).url)
    await read(made)
    store.counters |= {"ins": 2, "del": 6}

    result = await read(made)

    assert (result.outcome, result.figures["changes"]) == (Outcome.CHANGED, 1)
    assert "set back" in str(result.figures["unknown"])


async def test_restart_is_unknown_even_if_every_counter_rose_past_its_old_value(
    serve: Serve, transport: Transport
) -> None:
    store = Counting(ins=7, **{"del": 5})
    made = audit(transport, serve(store).url, restart="$.started")
    await read(made)
    store.counters, store.started = {"ins": 9, "del": 9}, "2026-11-02"

    result = await read(made)
    after = await read(made)

    assert (result.outcome, after.outcome) == (Outcome.UNKNOWN, Outcome.OK)
    assert "started again" in result.reason


async def test_gauge_that_moves_either_way_is_a_write(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=100, **{"del": 5})
    made = audit(transport, serve(store).url, kind="gauge")
    await read(made)
    store.counters |= {"ins": 98, "del": 6}

    result = await read(made)

    assert (result.outcome, result.figures["changes"]) == (Outcome.CHANGED, 3)


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"counters": {"ins": 1}}, "0 values at $.n.del"),
    "null": ({"counters": {"ins": 1, "del": None}}, "NoneType at $.n.del is no number"),
    "true": ({"counters": {"ins": 1, "del": True}}, "a bool at $.n.del is no number"),
    "a text": ({"counters": {"ins": 1, "del": "many"}}, "'many' at $.n.del is no number"),
    "an exponent in a text": ({"counters": {"ins": 1, "del": "1e3"}}, "is no number"),
    "a list": ({"counters": {"ins": 1, "del": [1]}}, "a list at $.n.del is no number"),
    "NaN": (
        {"says": http(200, '{"n": {"ins": 1, "del": NaN}}', ("Content-Type", "application/json"))},
        "no number",
    ),
    "infinity": ({"says": http(200, '{"n": {"ins": 1, "del": Infinity}}')}, "no number"),
    "half a character": ({"counters": {"ins": 1, "del": "\ud800"}}, "no number"),
    "not JSON": ({"says": http(200, "ins 1")}, "not with JSON"),
    "HTML": ({"says": http(200, "<html>1", ("Content-Type", "text/html"))}, "not with JSON"),
    "too long": ({"says": http(200, b" " * (1 << 20) + b"{}")}, "longer than"),
    "an error": ({"says": http(500, json_={"n": {"ins": 1, "del": 1}})}, "answered 500"),
    "a login": ({"says": http(401, b"")}, "answered 401"),
    "a redirect": ({"says": http(302, b"", ("Location", "/login"))}, "answered 302"),
    "an old answer of a cache": ({"headers": (("Age", "61"),)}, "is 61 s old"),
    "a close": ({"says": Close()}, "without an answer"),
    "a reset": ({"says": Reset()}, "reset"),
    "a hang": ({"says": [Pause(30)]}, "no answer within"),
}


@pytest.mark.parametrize(("changes", "reason"), UNUSABLE.values(), ids=UNUSABLE)
async def test_what_cannot_be_read_is_never_nothing_written(
    serve: Serve, transport: Transport, changes: dict[str, Any], reason: str
) -> None:
    store = Counting(ins=1, **{"del": 1})
    made = audit(transport, serve(store).url, timeout=0.5)
    await read(made)
    for name, value in changes.items():
        setattr(store, name, value)

    result = await read(made)

    assert (result.outcome, reason in result.reason) == (Outcome.UNREACHABLE, True), result.reason


async def test_reading_after_one_that_failed_reaches_back_over_it(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=1, **{"del": 1})
    made = audit(transport, serve(store).url)
    await read(made)
    store.says = http(503, b"")
    await read(made)
    store.says, store.counters = None, {"ins": 2, "del": 1}

    result = await read(made)

    assert (result.outcome, result.figures["since"]) == (Outcome.CHANGED, OPENS)


async def test_nobody_listens(transport: Transport) -> None:
    result = await read(audit(transport, f"http://127.0.0.1:{free_port()}"))

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "connection refused")


async def test_reading_goes_on_after_a_restart_of_the_watchdog(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=1, **{"del": 1})
    url = serve(store).url
    first = await read(audit(transport, url))
    store.counters["ins"] = 2
    again = audit(transport, url)
    again.resume(first.figures["mark"], OPENS)

    result = await read(again)

    assert result.figures["what"] == ["inserts: 1 × write"]


@pytest.mark.parametrize("mark", ["", "{}", "[]", "7", '{"asked": 1, "values": {"inserts": "x"}}', "\x00"])
async def test_mark_that_is_none_of_ours_cannot_be_compared_with(
    serve: Serve, transport: Transport, mark: str
) -> None:
    made = audit(transport, serve(Counting(ins=1, **{"del": 1})).url)
    made.resume(mark, OPENS)

    result = await read(made)
    after = await read(made)

    assert (result.outcome, after.outcome) == (Outcome.UNKNOWN, Outcome.OK)


async def test_other_configuration_cannot_be_compared_with(serve: Serve, transport: Transport) -> None:
    url = serve(Counting(ins=1, **{"del": 1})).url
    first = await read(audit(transport, url))
    other = audit(transport, url, at={"inserts": "$.n.del", "deletes": "$.n.del"})
    other.resume(first.figures["mark"], OPENS)

    result = await read(other)

    assert (result.outcome, "another configuration" in result.reason) == (Outcome.UNKNOWN, True)


async def test_missing_time_of_start_is_not_taken_for_no_restart(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=1, **{"del": 1})
    store.started = None
    made = audit(transport, serve(store).url, restart="$.started")

    result = await read(made)

    assert (result.outcome, "when the store was started" in result.reason) == (Outcome.UNREACHABLE, True)


async def test_exempt_counter_is_told_apart(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=1, **{"del": 1})
    exempt = [{"key": "del*", "reason": "sessions expire"}]
    made = audit(transport, serve(store).url, exempt=exempt)
    await read(made)
    store.counters["del"] = 9

    result = await read(made)

    assert (result.outcome, result.figures["exempt"]) == (Outcome.OK, 8)


async def test_one_path_is_one_counter_with_the_path_as_its_name(serve: Serve, transport: Transport) -> None:
    store = Counting(ins=1.5, **{"del": 1})
    made = audit(transport, serve(store).url, at="$.n.ins")
    await read(made)
    store.counters["ins"] = 1.75

    result = await read(made)

    assert result.figures["what"] == ["$.n.ins: 1 × write"]


async def test_mark_of_many_counters_survives_a_restart(serve: Serve, transport: Transport) -> None:
    names = {f"table_{number}": f"$.n.t{number}" for number in range(400)}
    store = Counting(**{f"t{number}": 2**53 + number for number in range(400)})

    result = await read(audit(transport, serve(store).url, at=names))

    assert 0 < len(str(result.figures["mark"])) <= LONGEST_MARK


@pytest.mark.parametrize(
    "spec",
    [
        {"at": "n.ins"},
        {"at": {}},
        {"at": {"": "$.a"}},
        {"at": 7},
        {"at": None},
        {"kind": "histogram"},
        {"restart": "started"},
        {"lag": 15},
        {"lag": "-1s"},
        {"resets": "$.x"},
        {"http": "http://127.0.0.1"},
        {"http": {"url": "http://127.0.0.1", "method": "BREW"}},
        {"exempt": [{"key": "x"}]},
    ],
    ids=str,
)
def test_wrong_key_is_a_mistake(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KINDS["audits"]["http"].spec.model_validate({"http": {"url": "http://127.0.0.1"}, "at": AT} | spec)


def test_no_secret_stands_in_a_mark_or_a_repr() -> None:
    spec = {"http": {"url": "http://user:hush@h/?token=quiet", "headers": {"X": "silence"}}, "at": "$.n"}
    made = KINDS["audits"]["http"].spec.model_validate(spec)

    assert [word for word in ("hush", "quiet", "silence") if word in repr(made)] == []
