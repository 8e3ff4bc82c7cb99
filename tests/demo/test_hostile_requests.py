"""Whatever is sent, the demo service answers with a client error and keeps working."""

from __future__ import annotations

import pytest

from .harness import Demo, named

HOSTILE_BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{nope",
    "no UTF-8": b'{"q": "\xff"}',
    "raw NUL": b'{"q": "\x00"}',
    "escaped NUL": b'{"q":"a\\u0000","values":["\\u0000"],"title":"\\u0000","id":"\\u0000"}',
    "half a surrogate": b'["\\ud800"]',
    "NaN": b"[NaN]",
    "too large a number": b"[1e999]",
    "too many digits": b"1" * 10_000,
    "deep": b"[" * 60_000 + b"]" * 60_000,
    "10 MB": b'{"q": "' + b"a" * 10_000_000 + b'"}',
}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
@pytest.mark.parametrize(
    "name",
    [
        "ask",
        "put_vector",
        "put_value",
        "post_document",
        "create_ticket",
        "post_intent",
        "read_only",
    ],
)
def test_hostile_body_is_a_bad_request_and_never_a_crash(open_demo: Demo, name: str, body: bytes) -> None:
    """The answer is a problem that says whose fault it was."""
    operation = named(name)
    path = operation.path.replace("{id}", "x").replace("{key}", "x")

    response = open_demo.http.request(operation.method, path, content=body)

    assert response.status_code == (413 if len(body) > 1_000_000 else 400)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/ask", {"q": 7}),
        ("POST", "/ask", {"q": " "}),
        ("POST", "/ask", {"q": "a" * 3000}),
        ("POST", "/ask", ["q"]),
        ("PUT", "/v1/vectors/x", {"values": "1"}),
        ("PUT", "/v1/vectors/x", {"values": []}),
        ("PUT", "/v1/vectors/x", {"values": [True]}),
        ("PUT", "/v1/vectors/x", {"values": [10**400]}),
        ("PUT", "/v1/vectors/x%00y", {"values": [1]}),
        ("PUT", "/kv/%ff%fe", 1),
        ("POST", "/documents", {"id": "../x", "title": "t", "text": "t"}),
        ("POST", "/documents", {"id": "x", "title": "t"}),
        ("POST", "/tools/create_ticket", {"title": "t", "id": 5}),
        ("POST", "/intents", {"id": "x"}),
        ("POST", "/admin/read-only", {"on": 1}),
        ("POST", "/admin/read-only", {"on": True, "closes": "23:00"}),
        ("POST", "/admin/read-only", {"on": True, "closes": "0001-01-01T00:00:00+14:00"}),
        ("GET", "/search", None),
    ],
)
def test_wrong_types_are_bad_requests(open_demo: Demo, method: str, path: str, body: object) -> None:
    """A field of the wrong type or size is named, not stored."""
    response = open_demo.http.request(method, path, json=body)

    assert response.status_code == 400
    assert response.json()["code"] == "BAD_REQUEST"
    assert not open_demo.http.get("/flags/a").json()["read_only"]


def test_unknown_paths_methods_and_headers_are_client_errors(open_demo: Demo) -> None:
    """Look-alikes of an operation do not exist, and a hostile header cannot break an answer."""
    http = open_demo.http

    assert http.put("/kv/x/", json=1).status_code == 404
    assert http.post("/kv/x", json=1).status_code == 405
    assert set(http.post("/kv/x").headers["allow"].split(", ")) == {"PUT", "GET", "DELETE"}
    assert http.put("/kv/x", json=1, headers={"Idempotency-Key": "a" * 300}).status_code == 400
    assert http.get("/status/api/v2/summary.json", headers={"Host": "["}).status_code == 200
    assert http.delete("/kv/none", headers={"Host": "["}).status_code == 404
