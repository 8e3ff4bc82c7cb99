"""Handlers of the write surfaces, and the reads that show what a write left.

Each write runs through `_write`: it carries the guard's gate to the store, so a handler cannot
write past it, and a repeated Idempotency-Key gets the first answer again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable

from starlette.responses import JSONResponse, Response

from monitor.demo.bodies import (
    JSON,
    idempotency_key_of,
    json_body,
    json_object,
    name_of,
    text_of,
    vector_of,
)
from monitor.demo.corpus import Document
from monitor.demo.guard import WriteGate
from monitor.demo.limits import TEXT_LIMIT, TITLE_LIMIT
from monitor.demo.problems import bad_request, not_found
from monitor.demo.services import Call
from monitor.demo.store import Applied, Shelf


async def put_vector(call: Call) -> Response:
    """`{"values"}` to `{"id", "values"}`."""
    id_ = _path_name(call, "id")
    body = await json_object(call.request)
    values: list[JSON] = list(vector_of(body))

    def write(gate: WriteGate) -> Applied:
        call.services.store.put(Shelf.VECTORS, id_, values, writes=gate)
        return Applied(status=200, body={"id": id_, "values": values})

    return _write(call, body, write)


async def get_vector(call: Call) -> Response:
    """`{"id", "values"}`."""
    id_ = _path_name(call, "id")
    return JSONResponse({"id": id_, "values": _content(call, Shelf.VECTORS, id_)})


async def delete_vector(call: Call) -> Response:
    """204, or 404 when there was none."""
    return _delete_content(call, Shelf.VECTORS, _path_name(call, "id"))


async def put_value(call: Call) -> Response:
    """Any JSON to `{"key", "value"}`."""
    key = _path_name(call, "key")
    value = await json_body(call.request)

    def write(gate: WriteGate) -> Applied:
        call.services.store.put(Shelf.KV, key, value, writes=gate)
        return Applied(status=200, body={"key": key, "value": value})

    return _write(call, value, write)


async def get_value(call: Call) -> Response:
    """`{"key", "value"}`."""
    key = _path_name(call, "key")
    return JSONResponse({"key": key, "value": _content(call, Shelf.KV, key)})


async def delete_value(call: Call) -> Response:
    """204, or 404 when there was none."""
    return _delete_content(call, Shelf.KV, _path_name(call, "key"))


async def post_document(call: Call) -> Response:
    """`{"id", "title", "text"}` to `{"id"}`; an id that exists is replaced."""
    body = await json_object(call.request)
    document = Document(
        id=name_of(body.get("id"), "'id'"),
        title=text_of(body, "title", limit=TITLE_LIMIT),
        text=text_of(body, "text", limit=TEXT_LIMIT),
    )

    def write(gate: WriteGate) -> Applied:
        call.services.store.put_document(document, writes=gate)
        return Applied(status=201, body={"id": document.id})

    return _write(call, body, write)


async def delete_document(call: Call) -> Response:
    """204, or 404 when there was none."""
    id_ = _path_name(call, "id")
    return _delete(call, lambda gate: call.services.store.delete_document(id_, writes=gate))


async def create_ticket(call: Call) -> Response:
    """`{"title", "id"?}` to `{"id"}`; an id that exists is replaced."""
    body = await json_object(call.request)
    title = text_of(body, "title", limit=TITLE_LIMIT)
    id_ = name_of(body.get("id", f"ticket-{uuid.uuid4().hex}"), "'id'")

    def write(gate: WriteGate) -> Applied:
        call.services.store.put(Shelf.TICKETS, id_, {"title": title}, writes=gate)
        return Applied(status=201, body={"id": id_})

    return _write(call, body, write)


async def get_ticket(call: Call) -> Response:
    """`{"id", "title"}`."""
    id_ = _path_name(call, "id")
    content = _content(call, Shelf.TICKETS, id_)
    title = content["title"] if isinstance(content, dict) else None
    return JSONResponse({"id": id_, "title": title})


async def delete_ticket(call: Call) -> Response:
    """204, or 404 when there was none."""
    return _delete_content(call, Shelf.TICKETS, _path_name(call, "id"))


async def post_intent(call: Call) -> Response:
    """`{"id", "payload"}` to `{"id", "status"}`: 202 while frozen, 200 while open."""
    body = await json_object(call.request)
    id_ = name_of(body.get("id"), "'id'")
    if "payload" not in body:
        raise bad_request("'payload' is missing")
    services = call.services

    def write(gate: WriteGate) -> Applied:
        services.store.queue_intent(id_, body["payload"], at=services.clock.now().timestamp())
        if not gate.closed() and services.store.apply_intent(id_, writes=gate):
            _count(call)
        intent = services.store.intent(id_)
        queued = intent is None or intent.queued
        status = "queued" if queued else "applied"
        return Applied(status=202 if queued else 200, body={"id": id_, "status": status})

    return _once(call, body, write)


async def get_intent(call: Call) -> Response:
    """`{"id", "status": queued|applied, "applied": how often}`."""
    id_ = _path_name(call, "id")
    intent = call.services.store.intent(id_)
    if intent is None:
        raise not_found(f"intent {id_!r}")
    status = "queued" if intent.queued else "applied"
    return JSONResponse({"id": id_, "status": status, "applied": intent.applied})


async def delete_intent(call: Call) -> Response:
    """204, or 404 when there was none."""
    id_ = _path_name(call, "id")
    return _delete(call, lambda gate: call.services.store.delete_intent(id_, writes=gate))


def _path_name(call: Call, parameter: str) -> str:
    return name_of(call.request.path_params[parameter], f"the {parameter} in the path")


def _content(call: Call, shelf: Shelf, id_: str) -> JSON:
    found = call.services.store.get(shelf, id_)
    if found is None:
        raise not_found(f"{id_!r} in {shelf}")
    return found[0]


def _delete_content(call: Call, shelf: Shelf, id_: str) -> Response:
    return _delete(call, lambda gate: call.services.store.delete(shelf, id_, writes=gate))


def _delete(call: Call, remove: Callable[[WriteGate], bool]) -> Response:
    def write(gate: WriteGate) -> Applied:
        if not remove(gate):
            raise not_found(call.request.scope["path"])
        return Applied(status=204)

    return _write(call, None, write)


def _write(call: Call, body: JSON, write: Callable[[WriteGate], Applied]) -> Response:
    def counted(gate: WriteGate) -> Applied:
        applied = write(gate)
        _count(call)
        return applied

    return _once(call, body, counted)


def _once(call: Call, body: JSON, write: Callable[[WriteGate], Applied]) -> Response:
    gate = call.services.guard.gate_for(call.operation)
    key = idempotency_key_of(call.request)
    path = call.request.scope["path"]
    scoped = None if key is None else f"{call.operation.method} {path} {key}"
    applied = call.services.store.once(scoped, _fingerprint(body), lambda: write(gate))
    if applied.status == 204:
        return Response(status_code=204)
    return JSONResponse(applied.body, applied.status)


def _count(call: Call) -> None:
    if call.operation.surface is not None:
        call.services.metrics.applied(call.operation.surface)


def _fingerprint(body: JSON) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
