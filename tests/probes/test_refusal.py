"""What is a proper refusal, what is a broken one, what is an acceptance, and what proves nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from probes.answer import Answer
from probes.refusal import Class, Refusal, judge, parsed

from .harness import said

RETRY = ("Retry-After", "600")
HTML = ("Content-Type", "text/html; charset=utf-8")
READ_ONLY = {"error": {"code": "read_only"}}


def code_of(answer: Answer, **rule: Any) -> str | None:
    return judge(answer, Refusal(**rule)).code


# -- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [423, 503])
def test_a_listed_status_with_retry_after_and_code_is_proper(status: int) -> None:
    """The refusal as promised."""
    judgement = judge(said(status, b"", RETRY, json_=READ_ONLY), Refusal())

    assert (judgement.kind, judgement.code, judgement.retry_after_s) == (Class.PROPER, "read_only", 600)


@pytest.mark.parametrize("status", [*range(400, 423), *range(424, 503), 504, 599])
def test_two_listed_statuses_are_a_set_and_no_range(status: int) -> None:
    """`[423, 503]`: 450 is not in it."""
    judgement = judge(said(status, b"", RETRY, json_={"code": "no"}), Refusal(status=[423, 503]))

    assert judgement.kind is Class.OTHER


ANSWERS: dict[str, tuple[Answer, Class]] = {
    "202": (said(202, json_=READ_ONLY), Class.ACCEPTED),
    "204": (said(204), Class.ACCEPTED),
    "206": (said(206), Class.ACCEPTED),
    "301 HTML": (said(301, "<html>maintenance", HTML, ("Location", "/maintenance")), Class.OTHER),
    "302": (said(302, b"", ("Location", "/login")), Class.OTHER),
    "304": (said(304), Class.OTHER),
    "400 bad payload": (said(400, json_={"error": "values: must have 384 numbers"}), Class.OTHER),
    "401": (said(401, json_={"code": "unauthenticated"}), Class.OTHER),
    "401 HTML of the guard": (said(401, "<html>maintenance", HTML), Class.OTHER),
    "403 of the guard": (said(403, json_={"message": "GitLab: in maintenance mode"}), Class.BROKEN),
    "403 of the login": (said(403, json_={"code": "forbidden"}), Class.OTHER),
    "404": (said(404, json_={"code": "not_found"}), Class.OTHER),
    "404 that repeats our canary": (
        said(404, json_={"error": "no vector freezewatch-0123456789abcdef0123"}),
        Class.OTHER,
    ),
    "400 that repeats our agent": (said(400, "bad client FreezeWatch/1.0 (window)"), Class.OTHER),
    "405": (said(405, b"", ("Allow", "GET")), Class.OTHER),
    "405 of the guard": (said(405, "writes are disabled"), Class.BROKEN),
    "423 HTML": (said(423, "<html>locked", HTML, RETRY), Class.BROKEN),
    "429": (said(429, b"", RETRY, json_={"code": "too_many_requests"}), Class.OTHER),
    "429 of the guard": (
        said(429, json_={"type": "cluster_block_exception", "reason": "read-only"}),
        Class.BROKEN,
    ),
    "500": (said(500, "Internal Server Error"), Class.OTHER),
    "500 of the guard": (said(500, json_={"error": "store is read-only"}), Class.BROKEN),
    "502": (said(502, "<html>Bad Gateway", HTML), Class.OTHER),
    "503 HTML": (said(503, "<html>down for maintenance", HTML), Class.OTHER),
    "503 HTML with Retry-After": (said(503, "<html>down for maintenance", HTML, RETRY), Class.OTHER),
    "503 HTML that says it is JSON": (
        said(503, " <!DOCTYPE html><html>", ("Content-Type", "application/json"), RETRY),
        Class.OTHER,
    ),
    "503 HTML that says nothing": (said(503, b"\xef\xbb\xbf<HTML>", RETRY), Class.OTHER),
    "503 empty": (said(503), Class.OTHER),
    "503 of a proxy": (said(503, "no healthy upstream", ("Content-Type", "text/plain")), Class.OTHER),
    "503 of a framework": (said(503, json_={"status": 503, "error": "Service Unavailable"}), Class.OTHER),
    "503 of Kubernetes": (said(503, json_={"code": 503, "reason": "ServiceUnavailable"}), Class.OTHER),
    "503 without code": (said(503, "read only", RETRY), Class.BROKEN),
    "503 without Retry-After": (said(503, json_=READ_ONLY), Class.BROKEN),
    "503 with two Retry-After": (said(503, b"", RETRY, RETRY, json_=READ_ONLY), Class.BROKEN),
    "503 with a bad Retry-After": (said(503, b"", ("Retry-After", "10m"), json_=READ_ONLY), Class.BROKEN),
}


@pytest.mark.parametrize(("answer", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_classified(answer: Answer, kind: Class) -> None:
    """Only what the rule names is a refusal; what speaks of the guard with another status is a broken one."""
    judgement = judge(answer, Refusal())

    assert judgement.kind is kind, judgement.reason


@pytest.mark.parametrize("body", ["<html><body>503</body></html>", "<!doctype html>x"])
@pytest.mark.parametrize("rule", [{}, {"code": "none"}, {"retry_after": "optional"}, {"code": "$.code"}])
def test_an_html_503_is_never_a_refusal_by_itself(body: str, rule: dict[str, Any]) -> None:
    """A plain page may be an outage: without a marker it proves nothing, Retry-After or not."""
    assert judge(said(503, body, HTML, RETRY), Refusal(**rule)).kind is Class.OTHER
    assert judge(said(503, body, HTML), Refusal(**rule)).kind is Class.OTHER


def test_an_html_503_with_the_configured_marker_is_a_refusal() -> None:
    """A body, a header or a code in a header tells the guard from an outage."""
    page = said(503, "<html>read-only since ten</html>", HTML, RETRY, ("X-Mode", "read-only"))

    for rule in (
        Refusal(code="none", body="read-only since"),
        Refusal(code="none", headers={"x-mode": "^read-only$"}),
        Refusal(code_header="X-Mode"),
        Refusal(code_header="X-Mode", equals="read-only"),
    ):
        assert judge(page, rule).kind is Class.PROPER


# -- markers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_listed_status_without_the_configured_marker_proves_nothing(status: int) -> None:
    """A 403 of the login is not the 403 of the guard."""
    answer = said(status, b"", RETRY, json_={"code": "forbidden"})

    assert judge(answer, Refusal(status=status, body="read.only")).kind is Class.OTHER
    assert judge(answer, Refusal(status=status, headers={"x-guard": "."})).kind is Class.OTHER


def test_every_line_of_a_marking_header_must_match() -> None:
    """One that matches among several is what blackbox_exporter takes."""
    rule = Refusal(headers={"X-Mode": "^read-only$"})
    both = said(503, b"", RETRY, ("X-Mode", "read-only"), ("X-Mode", "open"), json_=READ_ONLY)

    assert judge(both, rule).kind is Class.OTHER


def test_a_2xx_can_be_a_refusal_only_by_its_marker() -> None:
    """Some guards refuse with 200; what lacks the marker was accepted."""
    rule = Refusal(status=200, retry_after="optional", code="$.errors[0].code", equals="read_only")

    assert judge(said(200, json_={"errors": [{"code": "read_only"}]}), rule).kind is Class.PROPER
    assert judge(said(200, json_={"errors": [{"code": "other"}]}), rule).kind is Class.ACCEPTED
    assert judge(said(200, json_={"data": 1}), rule).kind is Class.ACCEPTED
    marked = Refusal(status=200, retry_after="optional", code="none", body="read-only")
    assert judge(said(200, "read-only"), marked).kind is Class.PROPER
    assert judge(said(200, "stored"), marked).kind is Class.ACCEPTED


MISTAKES: dict[str, dict[str, Any]] = {
    "no status": {"status": []},
    "a status that is none": {"status": 42},
    "true": {"status": True},
    "a code that is no path": {"code": "$.["},
    "a body that is no pattern": {"body": "("},
    "a header that is no pattern": {"headers": {"X": "*"}},
    "a known code that stands nowhere": {"code": "none", "equals": "x"},
    "a 2xx without a marker": {"status": [200, 503]},
    "an unknown key": {"statuses": [503]},
}


@pytest.mark.parametrize("rule", MISTAKES.values(), ids=MISTAKES)
def test_a_rule_that_cannot_tell_is_a_mistake_of_the_configuration(rule: dict[str, Any]) -> None:
    """It is named before the window and not found out in it."""
    with pytest.raises(ValidationError):
        Refusal(**rule)


def test_a_bare_503_is_no_proof_and_the_rule_knows_it() -> None:
    """A rule that an outage meets as well is allowed; what it finds counts only with a Retry-After."""
    rule = Refusal(status=[503], code="none", retry_after="optional")

    assert rule.outage_looks_the_same
    assert judge(said(503, "gone"), rule).kind is Class.OTHER
    assert not Refusal(
        status=[503], code="none", retry_after="optional", body="read-only"
    ).outage_looks_the_same


# -- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"code": "read_only"}, "read_only"),
        ({"error": {"code": "READ_ONLY"}}, "READ_ONLY"),
        ({"errors": [{"code": 1290}]}, "1290"),
        ({"errors": [{"extensions": {"code": "FROZEN"}}]}, "FROZEN"),
        ({"error": "read-only"}, "read-only"),
        ({"type": "read_only"}, "read_only"),
        ({"type": "https://errors.example/read-only"}, "https://errors.example/read-only"),
        ({"type": "about:blank", "code": "x"}, "x"),
        ({"type": "about:blank"}, None),
        ({"type": 5}, None),
        ({"code": None, "error": {"code": "x"}}, "x"),
        ({"code": True}, None),
        ({"code": 1.5}, None),
        ({"code": ""}, None),
        ({"code": ["x"]}, None),
        ({"code": "x" * 257}, None),
        ({"code": "x\ny"}, None),
        ({"code": "\ud800"}, None),
        ({"code": "\u202ex"}, None),
        ({"code": "the store is closed until ten"}, None),
        ({"code": 503}, None),
        ({"code": "503"}, None),
        ({"error": "Service Unavailable"}, None),
        ({}, None),
        ([{"code": "x"}], None),
        ("read_only", None),
        (None, None),
    ],
)
def test_auto_finds_a_code_in_the_usual_places(document: object, code: str | None) -> None:
    """A code is one word for machines: no sentence, no repetition of the status, nothing unprintable."""
    assert code_of(said(503, b"", RETRY, json_=document)) == code


def test_a_path_finds_a_code_where_it_is_stated() -> None:
    """There, and not in the usual places; whatever form it has."""
    answer = said(503, b"", RETRY, json_={"code": "usual", "detail": [{"why": "the store is closed"}]})

    assert code_of(answer, code="$.detail[0].why") == "the store is closed"
    assert code_of(answer, code="$.absent") is None
    assert judge(answer, Refusal(code="$.absent")).reason == "503, but there is no stable code in $.absent"


def test_a_header_carries_a_code_once() -> None:
    """Two lines of it are no stable code."""
    one = said(503, b"", RETRY, ("X-Code", "frozen"))
    two = said(503, b"", RETRY, ("X-Code", "frozen"), ("X-Code", "frozen"))

    assert judge(one, Refusal(code_header="x-code")).kind is Class.PROPER
    assert judge(two, Refusal(code_header="x-code")).kind is Class.BROKEN


def test_a_known_code_must_be_that_code() -> None:
    """Another one with everything else in place is a broken refusal."""
    answer = said(503, b"", RETRY, json_=READ_ONLY)

    assert judge(answer, Refusal(equals="read_only")).kind is Class.PROPER
    assert judge(answer, Refusal(equals="frozen")).reason == "503, but the code is 'read_only', not 'frozen'"
    assert (
        judge(said(503, b"", RETRY), Refusal(code="none", code_header="X", equals="a")).kind is Class.BROKEN
    )


def test_where_no_code_is_promised_none_is_needed() -> None:
    """`code: none` with Retry-After."""
    assert judge(said(503, "closed", RETRY), Refusal(code="none")).kind is Class.PROPER


def test_an_optional_retry_after_may_lack_and_must_not_be_broken() -> None:
    """What is not required must still be right when it is there."""
    rule = Refusal(retry_after="optional")

    assert judge(said(503, json_=READ_ONLY), rule).kind is Class.PROPER
    assert judge(said(503, b"", ("Retry-After", "soon"), json_=READ_ONLY), rule).kind is Class.BROKEN


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        (503, Class.PROPER),
        (None, Class.BROKEN),
        (500, Class.BROKEN),
        ("503", Class.BROKEN),
        (True, Class.BROKEN),
    ],
)
def test_a_problem_document_states_the_real_status(stated: object, kind: Class) -> None:
    """RFC 9457 §3.1.2; a document without a status states none."""
    body = json.dumps({"type": "https://errors.example/read-only", "status": stated})
    answer = said(503, body, RETRY, ("Content-Type", "application/problem+json; charset=utf-8"))

    assert judge(answer, Refusal()).kind is kind


def test_a_problem_document_need_not_state_a_status() -> None:
    """And its type is its code."""
    answer = said(503, '{"type": "/p/ro"}', RETRY, ("Content-Type", "application/problem+json"))

    assert (judge(answer, Refusal()).kind, code_of(answer)) == (Class.PROPER, "/p/ro")


def test_a_refusal_that_was_cut_has_no_code() -> None:
    """What is longer than the cap is not read as JSON."""
    answer = Answer(status=503, headers=[RETRY], body=b'{"code": "x"}', truncated=True)

    assert parsed(answer) is None
    assert judge(answer, Refusal()).kind is Class.BROKEN


# -- anything -------------------------------------------------------------------------------------

HEADERS = some.lists(
    some.tuples(some.sampled_from(["Retry-After", "Date", "Content-Type", "X-Code"]), some.text(max_size=30)),
    max_size=4,
)
BODIES = some.binary(max_size=80) | some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(
            some.sampled_from(["code", "error", "errors", "type", "status"]), inner, max_size=3
        )
    ),
    max_leaves=8,
).map(lambda document: json.dumps(document).encode())
RULES = [
    Refusal(),
    Refusal(code="$..code", status=[403, 503]),
    Refusal(code_header="X-Code", equals="a"),
    Refusal(code="none", body="a"),
]


@settings(deadline=None)
@given(some.integers(min_value=100, max_value=999), HEADERS, BODIES, some.sampled_from(RULES))
def test_no_answer_raises_and_only_a_listed_status_is_proper(
    status: int, headers: list[tuple[str, str]], body: bytes, rule: Refusal
) -> None:
    """Whatever comes, it is judged, in a reason that can be written down."""
    judgement = judge(Answer(status=status, headers=headers, body=body), rule)

    judgement.reason.encode()
    assert judgement.kind is not Class.PROPER or status in rule.status
    assert judgement.kind is not Class.ACCEPTED or 200 <= status < 300
    assert judgement.code is None or judgement.code.isprintable() or rule.code_header


@settings(deadline=None)
@given(some.binary(max_size=60) | some.text().map(str.encode))
def test_no_503_without_json_or_marker_is_proper(body: bytes) -> None:
    """Text for people, in whatever bytes, is never the stable code that is asked for."""
    answer = Answer(status=503, headers=[RETRY], body=b"#" + body)

    assert judge(answer, Refusal()).kind in (Class.BROKEN, Class.OTHER)
