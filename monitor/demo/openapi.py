"""The OpenAPI 3.1 document of every public operation, built from the declared table.

The operator's switch is not part of it. Building fails when a public operation has no contract.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from monitor.demo.bodies import JSON
from monitor.demo.guard import CODE
from monitor.demo.limits import QUESTION_LIMIT
from monitor.demo.operations import OPERATIONS, Effect, Operation
from monitor.demo.schemas import ANYTHING, NAME, SCHEMAS, ref, text, wanted

_PROBLEM = "application/problem+json"
_HTML = "text/html"
_TEXT = "text/plain"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What one operation takes and gives; `answers` maps a status to (description, schema)."""

    summary: str
    answers: Mapping[int, tuple[str, dict[str, JSON] | None]]
    body: dict[str, JSON] | None = None
    query: Mapping[str, tuple[dict[str, JSON], bool]] = field(default_factory=dict)
    media: str = "application/json"


def _gives(summary: str, schema: str | dict[str, JSON], *, media: str = "application/json") -> Contract:
    answer = ref(schema) if isinstance(schema, str) else schema
    return Contract(summary=summary, answers={200: ("OK", answer)}, media=media)


def _takes(
    summary: str, body: dict[str, JSON], answers: Mapping[int, tuple[str, dict[str, JSON] | None]]
) -> Contract:
    return Contract(summary=summary, body=body, answers=answers)


def _removes(what: str) -> Contract:
    return Contract(summary=f"Delete {what}", answers={204: ("Deleted", None)})


CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        "home": Contract(
            summary="The help centre's front page",
            answers={200: ("The page", text())},
            query={"q": (text(QUESTION_LIMIT), False)},
            media=_HTML,
        ),
        "ask": _takes(
            "Answer a question; a read, also while frozen",
            ref("Question"),
            {200: ("OK", ref("Answer"))},
        ),
        "search": Contract(
            summary="Find documents",
            answers={200: ("OK", ref("SearchResults"))},
            query={"q": (wanted(QUESTION_LIMIT), True)},
        ),
        "post_document": _takes("Ingest a document", ref("Document"), {201: ("Stored", ref("Created"))}),
        "get_document": _gives("One document", "Document"),
        "delete_document": _removes("a document"),
        "put_vector": _takes("Store a vector", ref("VectorValues"), {200: ("Stored", ref("Vector"))}),
        "get_vector": _gives("One vector", "Vector"),
        "delete_vector": _removes("a vector"),
        "put_value": _takes("Store a value", ANYTHING, {200: ("Stored", ref("Value"))}),
        "get_value": _gives("One value", "Value"),
        "delete_value": _removes("a value"),
        "create_ticket": _takes("Create a ticket", ref("NewTicket"), {201: ("Created", ref("Created"))}),
        "get_ticket": _gives("One ticket", "Ticket"),
        "delete_ticket": _removes("a ticket"),
        "post_intent": _takes(
            "Apply a write now, or queue it while frozen",
            ref("NewIntent"),
            {
                200: ("Applied", ref("IntentReceipt")),
                202: ("Queued until writes open", ref("IntentReceipt")),
            },
        ),
        "get_intent": _gives("One intent, and how often it took effect", "Intent"),
        "delete_intent": _removes("an intent"),
        "queue": _gives("The intents that wait", "Queue"),
        "jobs": _gives("The background jobs", "Jobs"),
        "flag_a": _gives("The read-only flag, first replica", "Flag"),
        "flag_b": _gives("The read-only flag, second replica", "Flag"),
        "status_summary": _gives("Status page, summary", "StatusSummary"),
        "status_active": _gives("Status page, maintenance in progress", "Maintenances"),
        "status_upcoming": _gives("Status page, maintenance to come", "Maintenances"),
        "banner": _gives("The maintenance notice", text(), media=_HTML),
        "openapi": _gives("This document", {"type": "object"}),
        "metrics": _gives("Prometheus metrics", text(), media=_TEXT),
        "healthz": _gives("Whether the service works", "Health"),
    }
)


def document() -> dict[str, JSON]:
    """The whole document."""
    paths: dict[str, JSON] = {}
    for operation in OPERATIONS:
        if operation.effect is Effect.ADMIN:
            continue
        path = paths.setdefault(operation.path, {})
        if isinstance(path, dict):
            path[operation.method.lower()] = _operation(operation, CONTRACTS[operation.name])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Harbour & Pine help centre",
            "version": "1.0.0",
            "description": "A demo service for a read-only maintenance window.",
        },
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS},
            "responses": {
                "ReadOnly": _read_only(),
                "Problem": _answer("The request failed", ref("Problem"), _PROBLEM),
            },
        },
    }


def _operation(operation: Operation, contract: Contract) -> JSON:
    responses: dict[str, JSON] = {
        str(status): _answer(description, schema, contract.media)
        for status, (description, schema) in contract.answers.items()
    }
    responses |= {status: _response_ref("Problem") for status in _failures(operation, contract)}
    if operation.effect is Effect.WRITE:
        responses["503"] = _response_ref("ReadOnly")
    described: dict[str, JSON] = {
        "operationId": operation.name,
        "summary": contract.summary,
        "parameters": _parameters(operation, contract),
        "responses": responses,
    }
    if contract.body is not None:
        content: JSON = {"application/json": {"schema": contract.body}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _failures(operation: Operation, contract: Contract) -> list[str]:
    takes_input = contract.body is not None or contract.query or "{" in operation.path
    failures = ["400"] if takes_input else []
    if "{" in operation.path and operation.method != "PUT":
        failures.append("404")
    if contract.body is not None:
        failures.append("413")
    if operation.surface is not None:
        failures.append("422")
    return failures


def _parameters(operation: Operation, contract: Contract) -> JSON:
    parameters: list[JSON] = [
        _parameter(name, "path", NAME, required=True) for name in re.findall(r"{(\w+)}", operation.path)
    ]
    for name, (schema, required) in contract.query.items():
        parameters.append(_parameter(name, "query", schema, required=required))
    if operation.surface is not None and operation.method != "GET":
        parameters.append(_parameter("Idempotency-Key", "header", text(255), required=False))
    return parameters


def _parameter(name: str, place: str, schema: dict[str, JSON], *, required: bool) -> JSON:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _answer(description: str, schema: dict[str, JSON] | None, media: str) -> dict[str, JSON]:
    if schema is None:
        return {"description": description}
    return {"description": description, "content": {media: {"schema": schema}}}


def _response_ref(name: str) -> JSON:
    return {"$ref": f"#/components/responses/{name}"}


def _read_only() -> JSON:
    seconds: JSON = {"type": "integer", "minimum": 1}
    described = _answer(f"Writes are paused: code {CODE}", ref("Problem"), _PROBLEM)
    header: JSON = {"required": True, "description": "Whole seconds.", "schema": seconds}
    return {**described, "headers": {"Retry-After": header}}
