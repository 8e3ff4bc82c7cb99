"""What a reply over MCP is taken for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from probes.answer import Answer
from probes.refusal import Class, Judgement
from probes.write.mcp.reply import McpRefusal, Reply, RpcError, Said, document_in, judged, words_in

FROZEN = {"code": "writes_frozen", "message": "Writes are frozen"}
FORBIDDEN = {"code": "forbidden", "message": "You may not"}


def tool_error(document: Any, text: str | None = None) -> Reply:
    shown = json.dumps(document) if text is None else text
    return Reply(said=Said(text=shown, document=document, is_error=True))


def done(document: Any = None, text: str = "done") -> Reply:
    return Reply(said=Said(text=text, document=document))


def error(code: int, message: str = "Writes are frozen", data: Any = None) -> Reply:
    return Reply(said=RpcError(code=code, message=message, data=data))


def http(status: int, body: Any = None, *headers: tuple[str, str]) -> Reply:
    said = RpcError(code=-32603, message="Server returned an error response")
    answer = Answer(status=status, headers=list(headers), body=json.dumps(body).encode())
    return Reply(said=said, http=answer)


def taken(reply: Reply, *own_words: str, **rule: Any) -> Judgement:
    return judged(reply, McpRefusal.model_validate(rule), own_words)


@pytest.mark.parametrize(
    ("reply", "rule", "kind", "code"),
    [
        (tool_error(FROZEN), {}, Class.PROPER, "writes_frozen"),
        (tool_error({"error": FROZEN}), {}, Class.PROPER, "writes_frozen"),
        (tool_error({"a": {"b": "x_1"}, "message": "frozen"}), {"code": "$.a.b"}, Class.PROPER, "x_1"),
        (tool_error({"code": "E7"}), {"equals": "E7"}, Class.PROPER, "E7"),
        (tool_error({"code": "E7"}, "Lock 12 held"), {"body": r"Lock \d+"}, Class.PROPER, "E7"),
        (tool_error(None, "Lock 12 held"), {"body": r"Lock \d+", "code": "none"}, Class.PROPER, None),
        (tool_error(None, "Lock 12 held"), {"body": r"Lock \d+"}, Class.BROKEN, None),
        (tool_error(None, "the catalogue is read-only"), {}, Class.BROKEN, None),
        (tool_error({"code": "a sentence, not a code: frozen"}), {}, Class.BROKEN, None),
        (tool_error({"code": "E8", "message": "frozen"}), {"equals": "E7"}, Class.BROKEN, "E8"),
        (tool_error({"code": "E8"}), {"equals": "E7"}, Class.OTHER, "E8"),
        (tool_error(FROZEN), {"body": "Lock"}, Class.OTHER, "writes_frozen"),
        (tool_error(FORBIDDEN), {}, Class.OTHER, "forbidden"),
        (tool_error(None, "Unknown tool: create"), {}, Class.OTHER, None),
        (tool_error(None, ""), {}, Class.OTHER, None),
        (tool_error(FROZEN), {"tool_error": False}, Class.BROKEN, "writes_frozen"),
        (done(), {}, Class.ACCEPTED, None),
        (done({"code": "writes_frozen"}), {}, Class.ACCEPTED, None),
        (done({"code": "writes_frozen"}), {"equals": "writes_frozen"}, Class.BROKEN, "writes_frozen"),
        (done({"error": FROZEN}), {"failed": "$.error"}, Class.OTHER, "writes_frozen"),
        (done({"error": None}), {"failed": "$.error"}, Class.ACCEPTED, None),
    ],
)
def test_result_of_a_tool_is_taken_for(
    reply: Reply, rule: dict[str, Any], kind: Class, code: str | None
) -> None:
    found = taken(reply, **rule)

    assert (found.kind, found.code) == (kind, code), found.reason


def test_failure_without_is_error_is_known_by_its_structured_content_too() -> None:
    said = Said(text="no\n" + json.dumps({"error": FROZEN}), document={"error": FROZEN})

    found = taken(Reply(said=said), failed="$.error")

    assert (found.kind, found.code) == (Class.PROPER, "writes_frozen")


@pytest.mark.parametrize(
    ("reply", "rule", "kind", "code"),
    [
        (error(-32050), {}, Class.PROPER, "-32050"),
        (error(-32050, data=FROZEN), {}, Class.PROPER, "writes_frozen"),
        (error(-32050, data="writes_frozen"), {}, Class.PROPER, "writes_frozen"),
        (error(-32050, "no", FORBIDDEN), {}, Class.OTHER, "forbidden"),
        (error(-32050, "no"), {"json_rpc": -32050}, Class.PROPER, "-32050"),
        (error(-32050, "no"), {"json_rpc": [-32050], "equals": "E7"}, Class.OTHER, "-32050"),
        (error(-32051), {"json_rpc": [-32050]}, Class.BROKEN, "-32051"),
        (error(-32051), {"json_rpc": [-32050], "equals": "-32051"}, Class.BROKEN, "-32051"),
        (error(-32050), {"code": "$.reason"}, Class.BROKEN, None),
        (error(-32603), {}, Class.BROKEN, None),
        (error(-32603, data=FROZEN), {}, Class.PROPER, "writes_frozen"),
        (error(-32603, "no"), {"json_rpc": [-32603]}, Class.PROPER, "-32603"),
        (error(-32602, data=FROZEN), {}, Class.OTHER, None),
        (error(-32602, data=FROZEN), {"json_rpc": [-32602]}, Class.PROPER, "writes_frozen"),
        (error(-32601), {}, Class.OTHER, None),
        (error(-32000), {}, Class.OTHER, None),
        (error(0), {}, Class.BROKEN, None),
    ],
)
def test_json_rpc_error_is_taken_for(
    reply: Reply, rule: dict[str, Any], kind: Class, code: str | None
) -> None:
    found = taken(reply, **rule)

    assert (found.kind, found.code) == (kind, code), found.reason


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (http(503, FROZEN, ("Retry-After", "60")), Class.PROPER),
        (http(423, FROZEN, ("Retry-After", "60")), Class.PROPER),
        (http(503, FROZEN), Class.BROKEN),
        (http(503, {}, ("Retry-After", "60")), Class.BROKEN),
        (http(503, {}), Class.OTHER),
        (http(429, {}, ("Retry-After", "60")), Class.OTHER),
        (http(401, {}), Class.OTHER),
        (http(404, {}), Class.OTHER),
        (http(500, FROZEN), Class.BROKEN),
    ],
)
def test_answer_of_the_endpoint_is_taken_for(reply: Reply, kind: Class) -> None:
    found = taken(reply)

    assert found.kind is kind, found.reason


def test_json_rpc_error_under_another_status_is_the_servers_own_word() -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32050, "message": "frozen"}}
    answer = Answer(status=400, headers=[], body=json.dumps(body).encode())

    found = taken(Reply(said=RpcError(code=-32050, message="frozen"), http=answer))

    assert (found.kind, found.code) == (Class.PROPER, "-32050")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Unknown tool: set_maintenance", ["set_maintenance"]),
        ("read_only: must be true or false", ["read_only"]),
        ("no user 'frozen food'", ["frozen food"]),
        ("freezewatch-0123 is no number", []),
    ],
)
def test_words_of_the_call_itself_do_not_speak_of_a_freeze(text: str, words: list[str]) -> None:
    assert taken(tool_error({"code": "bad"}, text), *words).kind is Class.OTHER


def test_words_of_a_call_are_its_names_and_its_texts() -> None:
    call = {"title": "${canary}", "on": [{"read_only": "yes please"}], "n": 7, "no": None}

    assert set(words_in(call)) == {"title", "${canary}", "read_only", "yes please"}


@pytest.mark.parametrize(
    ("texts", "document"),
    [
        (['{"a": 1}'], {"a": 1}),
        (['Error executing tool t: {"a": 1}\n'], {"a": 1}),
        (["no", '[{"a": 1}]'], [{"a": 1}]),
        (["7", "true", '"text"'], None),
        (["{", "}{", ""], None),
        (["[" * 100_000], None),
        ([], None),
    ],
)
def test_document_is_the_first_text_that_has_one(texts: list[str], document: Any) -> None:
    assert document_in(texts) == document


def test_long_words_of_a_server_are_not_repeated() -> None:
    secret = "token=s3cret " * 10

    assert "s3cret" not in taken(tool_error(None, secret)).reason
    assert "s3cret" not in taken(error(-32602, secret)).reason
