"""The read probe: was the question answered, with what text and which documents?"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Outcome, Result, Why
from probes.http import Transport
from probes.read import HttpRead, ReadSpec

from .harness import AGENT, Close, Pause, Reset, Server, Step, free_port, frozen, http, refusal

Serve = Callable[..., Server]
ANSWERED = http(200, json_={"answer": "Within 30 Days.", "sources": [{"id": "a"}, {"id": 7}]})


async def asked(
    transport: Transport, url: str, *, timeout: float = 1.0, request: Any = None, **spec: Any
) -> Result:
    stated = ReadSpec.model_validate({"http": {"url": url} | (request or {})} | spec)
    probe = HttpRead(name="returns", spec=stated, timeout=timeout, transport=transport, agent=AGENT)
    return await probe.run(frozen())


ROWS: dict[str, tuple[Step | list[Step], dict[str, Any], Outcome, str]] = {
    "200": (http(200, b"hello"), {}, Outcome.OK, "answered"),
    "204": (http(204), {}, Outcome.OK, "answered"),
    "200 with an answer": (ANSWERED, {"answer": "$.answer"}, Outcome.OK, "answered"),
    "a status that is listed": (http(404), {"status": [200, 404]}, Outcome.OK, "answered"),
    "a status that is not listed": (http(200), {"status": [404]}, Outcome.FAILED, "answered 200"),
    "450 is not between 423 and 503": (http(450), {"status": [423, 503]}, Outcome.FAILED, "answered 450"),
    "404": (http(404), {}, Outcome.FAILED, "answered 404"),
    "500": (http(500), {}, Outcome.FAILED, "answered 500"),
    "503 page": (http(503, "<html>", ("Content-Type", "text/html")), {}, Outcome.FAILED, "answered 503"),
    "redirect": (http(302, b"", ("Location", "/")), {}, Outcome.FAILED, "answered 302"),
    "no JSON": (
        http(200, "<html>fine", ("Content-Type", "text/html")),
        {"answer": "$.answer"},
        Outcome.FAILED,
        "not with JSON",
    ),
    "too deep": (http(200, b"[" * 100_000), {"answer": "$..answer"}, Outcome.FAILED, "not with JSON"),
    "broken UTF-8": (
        http(200, b'{"answer": "\xff"}'),
        {"answer": "$.answer"},
        Outcome.FAILED,
        "not with JSON",
    ),
    "no documents in no JSON": (http(200, b""), {"documents": "$.sources"}, Outcome.FAILED, "not with JSON"),
    "no answer": (http(200, json_={}), {"answer": "$.answer"}, Outcome.FAILED, "no answer at $.answer"),
    "an answer that is null": (
        http(200, json_={"answer": None}),
        {"answer": "$.answer"},
        Outcome.FAILED,
        "no answer",
    ),
    "an empty answer": (http(200, json_={"answer": ""}), {"answer": "$.answer"}, Outcome.FAILED, "no answer"),
    "a blank answer": (
        http(200, json_={"answer": " \n"}),
        {"answer": "$.answer"},
        Outcome.FAILED,
        "no answer",
    ),
    "an answer that is an object": (
        http(200, json_={"answer": {"a": "b"}}),
        {"answer": "$.answer"},
        Outcome.FAILED,
        "no answer",
    ),
    "refused by the guard": (refusal(), {}, Outcome.REFUSED, "the write guard refused a read: 503"),
    "refused badly": (refusal(retry_after=None), {}, Outcome.REFUSED, "the write guard refused a read"),
    "refused with 403": (http(403, json_={"error": "read-only"}), {}, Outcome.REFUSED, "refused a read: 403"),
    "nothing": ([Pause(30)], {"timeout": 0.2}, Outcome.UNREACHABLE, "no answer within 0.2 s"),
    "a close": (Close(), {}, Outcome.UNREACHABLE, "without an answer"),
    "a reset": (Reset(), {}, Outcome.UNREACHABLE, "reset"),
    "a body cut off": (
        [ANSWERED[:-9], Close()],
        {"answer": "$.answer"},
        Outcome.UNREACHABLE,
        "not completed",
    ),
    "too long": (http(200, b"[" + b" " * (1 << 20) + b"]"), {}, Outcome.FAILED, "longer than 1048576 bytes"),
}


@pytest.mark.parametrize(("steps", "spec", "outcome", "reason"), ROWS.values(), ids=ROWS)
async def test_an_answer_makes_the_outcome(
    steps: Step | list[Step],
    spec: dict[str, Any],
    outcome: Outcome,
    reason: str,
    serve: Serve,
    transport: Transport,
) -> None:
    """Each way in which a question can be answered, or not."""
    result = await asked(transport, serve(lambda asked: steps).url, **spec)

    assert (result.outcome, reason in result.reason) == (outcome, True), result
    assert result.duration_s >= 0


async def test_a_refused_connection_is_unreachable(transport: Transport) -> None:
    """Nobody there."""
    result = await asked(transport, f"http://127.0.0.1:{free_port()}")

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "connection refused")


async def test_our_own_missing_network_is_skipped(transport: Transport) -> None:
    """It says nothing about the target."""
    result = await asked(transport, "http://255.255.255.255:9")

    assert (result.outcome, result.figures["why"]) == (Outcome.SKIPPED, Why.OWN_FAULT)


async def test_answer_documents_and_facts_are_taken_out(serve: Serve, transport: Transport) -> None:
    """Text at the path, ids as text in order, facts in any case of letters."""
    result = await asked(
        transport,
        serve(lambda asked: ANSWERED).url,
        answer="$.answer",
        documents="$.sources[*].id",
        must_contain=["30 days", "free of charge"],
    )

    assert result.answer == "Within 30 Days."
    assert result.figures == {"status": 200, "documents": ["a", "7"], "facts_missing": ["free of charge"]}


async def test_facts_can_be_looked_for_in_any_body(serve: Serve, transport: Transport) -> None:
    """Without a path the whole body is the answer."""
    server = serve(lambda asked: http(200, "<p>THIRTY days</p>", ("Content-Type", "text/html")))

    result = await asked(transport, server.url, must_contain=["thirty days", "fee"])

    assert (result.answer, result.figures["facts_missing"]) == ("<p>THIRTY days</p>", ["fee"])


async def test_several_texts_at_a_path_are_one_answer(serve: Serve, transport: Transport) -> None:
    """Line by line, what is no text left out."""
    server = serve(lambda asked: http(200, json_={"parts": ["one", 2, None, "three"]}))

    result = await asked(transport, server.url, answer="$.parts[*]")

    assert result.answer == "one\nthree"


async def test_half_a_character_can_be_written_down(serve: Serve, transport: Transport) -> None:
    """JSON can hold a lone surrogate, UTF-8 and disks cannot."""
    body = b'{"answer": "thirty \\ud800 days", "ids": ["\\udfff", {"a": "\\ud800"}]}'
    server = serve(lambda asked: http(200, body))

    result = await asked(transport, server.url, answer="$.answer", documents="$.ids[*]")

    assert (result.answer or "").encode() == b"thirty ? days"
    json.dumps(result.figures["documents"], ensure_ascii=False).encode()


async def test_nul_bytes_in_an_answer_are_text(serve: Serve, transport: Transport) -> None:
    """They break nothing."""
    server = serve(lambda asked: http(200, json_={"answer": "a\x00b"}))

    assert (await asked(transport, server.url, answer="$.answer")).answer == "a\x00b"


async def test_documents_are_capped_and_long_ids_stay_apart(serve: Serve, transport: Transport) -> None:
    """Fifty at most; ids that share a long beginning are still two, and none is cut in the middle."""
    ids = ["x" * 300 + str(number) for number in range(80)]
    server = serve(lambda asked: http(200, json_={"ids": ids}))

    documents = (await asked(transport, server.url, documents="$.ids[*]")).figures["documents"]

    assert isinstance(documents, list)
    assert (len(documents), len(set(documents))) == (50, 50)
    assert all(each.startswith("sha256:") for each in documents)


async def test_no_documents_are_an_empty_list(serve: Serve, transport: Transport) -> None:
    """An answer without sources is an answer."""
    result = await asked(transport, serve(lambda asked: http(200, json_={"a": 1})).url, documents="$.ids[*]")

    assert (result.outcome, result.figures["documents"]) == (Outcome.OK, [])


async def test_redirects_are_followed_only_when_asked_and_tell_no_secrets(
    serve: Serve, transport: Transport
) -> None:
    """Another origin does not learn the credentials."""
    there = serve(lambda asked: http(200, b"there"))
    here = serve(lambda asked: http(302, b"", ("Location", there.url)))
    request = {"headers": {"Authorization": "Bearer token", "X-Api-Key": "key"}}

    left = await asked(transport, here.url, request=request)
    followed = await asked(transport, here.url, request=request | {"follow_redirects": True})

    assert (left.outcome, followed.outcome) == (Outcome.FAILED, Outcome.OK)
    assert len(there.asked) == 1
    assert there.asked[0].header("authorization") == there.asked[0].header("x-api-key") == []


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(("fresh", "connections"), [(False, 1), (True, 3)])
async def test_fresh_opens_a_connection_for_every_question(
    follow: bool, fresh: bool, connections: int, serve: Serve, transport: Transport
) -> None:
    """Otherwise one is kept."""
    server = serve(lambda asked: http(200, b"x"))

    for _ in range(3):
        await asked(transport, server.url, request={"fresh": fresh, "follow_redirects": follow})

    assert server.connections == connections


async def test_the_request_is_sent_as_stated(serve: Serve, transport: Transport) -> None:
    """Method, body, query beside that of the URL, agent; a body makes it a POST."""
    server = serve(lambda asked: http(200))

    await asked(
        transport, server.url + "/ask?a=b%20c", request={"json": {"q": "ü"}, "params": {"n": 1, "q": "ä&"}}
    )
    await asked(transport, server.url, request={"body": "plain"})
    await asked(transport, server.url, request={"method": "HEAD"})

    first, second, third = server.asked
    assert (first.method, first.target, json.loads(first.body)) == (
        "POST",
        "/ask?a=b%20c&n=1&q=%C3%A4%26",
        {"q": "ü"},
    )
    assert (second.method, second.body, third.method) == ("POST", b"plain", "HEAD")
    assert first.header("user-agent") == [AGENT]


async def test_credentials_in_the_url_are_sent_as_basic(serve: Serve, transport: Transport) -> None:
    """`https://user:password@host`, percent-decoded."""
    server = serve(lambda asked: http(200))

    await asked(transport, server.url.replace("://", "://user:p%40ss@"))

    assert server.asked[0].header("authorization") == ["Basic dXNlcjpwQHNz"]


@pytest.mark.parametrize(
    "spec",
    [{"answer": "answer"}, {"documents": "$["}, {"status": []}, {"anser": "$.a"}, {"must_contain": "x"}],
)
def test_a_mistake_is_found_before_the_window(spec: dict[str, Any]) -> None:
    """A path that is none, no status, an unknown key, a text for a list."""
    with pytest.raises(ValidationError):
        ReadSpec.model_validate({"http": {"url": "http://a/"}} | spec)
