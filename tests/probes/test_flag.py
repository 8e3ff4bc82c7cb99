"""The flag probe: on or off for exactly one JSON boolean, unknown for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from probes.base import Outcome, Result, Why
from probes.flag import FlagSpec, HttpFlag
from probes.http import Transport

from .harness import AGENT, Close, Pause, Reset, Server, Step, free_port, frozen, http

Serve = Callable[..., Server]


async def asked(
    transport: Transport, url: str, at: str = "$.read_only", *, timeout: float = 1.0, **request: Any
) -> Result:
    spec = FlagSpec.model_validate({"http": {"url": url} | request, "at": at})
    flag = HttpFlag(name="ro/1", surface="ro", spec=spec, timeout=timeout, transport=transport, agent=AGENT)
    return await flag.run(frozen())


ROWS: dict[str, tuple[Step | list[Step], Outcome, str]] = {
    "true": (http(200, json_={"read_only": True}), Outcome.ON, "reads true"),
    "false": (http(200, json_={"read_only": False}), Outcome.OFF, "reads false"),
    "the text true": (
        http(200, json_={"read_only": "true"}),
        Outcome.UNKNOWN,
        "'true' at $.read_only is neither",
    ),
    "a long text": (http(200, json_={"read_only": "x" * 99}), Outcome.UNKNOWN, "a text of 99 characters at"),
    "one": (http(200, json_={"read_only": 1}), Outcome.UNKNOWN, "1 at $.read_only is neither"),
    "zero": (http(200, json_={"read_only": 0}), Outcome.UNKNOWN, "0 at $.read_only is neither"),
    "null": (http(200, json_={"read_only": None}), Outcome.UNKNOWN, "null at $.read_only is neither"),
    "a list": (http(200, json_={"read_only": [True]}), Outcome.UNKNOWN, "a list at"),
    "an object": (http(200, json_={"read_only": {"value": True}}), Outcome.UNKNOWN, "an object at"),
    "missing": (http(200, json_={"readonly": True}), Outcome.UNKNOWN, "0 values at $.read_only"),
    "not JSON": (http(200, "read_only: true"), Outcome.UNKNOWN, "0 values"),
    "HTML": (http(200, "<html>true", ("Content-Type", "text/html")), Outcome.UNKNOWN, "0 values"),
    "an empty body": (http(204), Outcome.UNKNOWN, "0 values"),
    "cut at the cap": (http(200, b'{"read_only": true}' + b" " * (1 << 20)), Outcome.UNKNOWN, "0 values"),
    "true with an error": (http(500, json_={"read_only": True}), Outcome.UNKNOWN, "answered 500"),
    "a redirect": (
        http(302, None, ("Location", "/"), json_={"read_only": True}),
        Outcome.UNKNOWN,
        "answered 302",
    ),
    "half a character": (http(200, b'{"read_only": "\\ud800"}'), Outcome.UNKNOWN, "\\ud800"),
    "a close": (Close(), Outcome.UNREACHABLE, "without an answer"),
    "a reset": (Reset(), Outcome.UNREACHABLE, "reset"),
    "nothing": ([Pause(30)], Outcome.UNREACHABLE, "no answer within"),
}


@pytest.mark.parametrize(("steps", "outcome", "reason"), ROWS.values(), ids=ROWS)
async def test_only_one_boolean_is_on_or_off(
    steps: Step | list[Step], outcome: Outcome, reason: str, serve: Serve, transport: Transport
) -> None:
    """Nothing is guessed."""
    result = await asked(transport, serve(lambda asked: steps).url, timeout=0.5)

    assert (result.outcome, reason in result.reason) == (outcome, True), result
    result.reason.encode()


async def test_two_booleans_are_unknown(serve: Serve, transport: Transport) -> None:
    """A path that finds two says nothing of either, even where they agree."""
    server = serve(lambda asked: http(200, json_={"a": {"ro": True}, "b": {"ro": True}}))

    result = await asked(transport, server.url, at="$.*.ro")

    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, "2 values at $.*.ro")


async def test_a_bare_boolean_is_a_document(serve: Serve, transport: Transport) -> None:
    """The whole answer may be the flag."""
    assert (await asked(transport, serve(lambda asked: http(200, b"true")).url, at="$")).outcome is Outcome.ON


async def test_nobody_there_is_unreachable_and_no_network_is_skipped(transport: Transport) -> None:
    """The target's fault and our own are kept apart."""
    gone = await asked(transport, f"http://127.0.0.1:{free_port()}")
    own = await asked(transport, "http://255.255.255.255:9")

    assert (gone.outcome, gone.reason) == (Outcome.UNREACHABLE, "connection refused")
    assert (own.outcome, own.figures["why"]) == (Outcome.SKIPPED, Why.OWN_FAULT)


async def test_redirects_are_followed_when_asked(serve: Serve, transport: Transport) -> None:
    """What the configuration says is done, not ignored."""
    server = serve(
        lambda asked: (
            http(200, json_={"read_only": True})
            if asked.target == "/there"
            else http(307, b"", ("Location", "/there"))
        )
    )

    assert (await asked(transport, server.url, follow_redirects=True)).outcome is Outcome.ON


def test_every_replica_is_a_probe_of_its_own() -> None:
    """Numbered in the order of the configuration; one alone keeps its name."""
    spec = FlagSpec.model_validate(
        {"http": {"url": "http://a/"}, "at": "$.ro", "replicas": ["http://b/", "http://c/"]}
    )
    alone = FlagSpec.model_validate({"http": {"url": "http://a/"}, "at": "$.ro"})

    assert [(name, each.http.url) for name, each in spec.each_replica("ro")] == [
        ("ro/1", "http://a/"),
        ("ro/2", "http://b/"),
        ("ro/3", "http://c/"),
    ]
    assert [name for name, _ in alone.each_replica("ro")] == ["ro"]
