"""Every operation of the demo service, declared once: routes, guard, metrics and OpenAPI read this.

An operation that is not in the table does not exist. Holds no behaviour beyond matching a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Effect(StrEnum):
    """What an operation may do to stored data."""

    READ = "read"
    WRITE = "write"
    QUEUE = "queue"
    ADMIN = "admin"


class Door(StrEnum):
    """The port that a request comes in by."""

    FRONT = "front"
    """The gateway's: every operation."""
    SIDE = "side"
    """The vector store's own."""


class Surface(StrEnum):
    """A place where a write can enter."""

    VECTORS = "vectors"
    KV = "kv"
    DOCUMENTS = "documents"
    TICKETS = "tickets"
    INTENTS = "intents"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method on one path template, the data it may change and the surface it enters by."""

    name: str
    method: str
    path: str
    effect: Effect = Effect.READ
    surface: Surface | None = None
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        template = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(self.path))
        object.__setattr__(self, "pattern", re.compile(template))


def _read(name: str, path: str, *, method: str = "GET") -> Operation:
    return Operation(name=name, method=method, path=path)


def _write(name: str, method: str, path: str, surface: Surface) -> Operation:
    return Operation(name=name, method=method, path=path, effect=Effect.WRITE, surface=surface)


OPERATIONS: tuple[Operation, ...] = (
    _read("home", "/"),
    _read("ask", "/ask", method="POST"),
    _read("search", "/search"),
    _write("post_document", "POST", "/documents", Surface.DOCUMENTS),
    _read("get_document", "/documents/{id}"),
    _write("delete_document", "DELETE", "/documents/{id}", Surface.DOCUMENTS),
    _write("put_vector", "PUT", "/v1/vectors/{id}", Surface.VECTORS),
    _read("get_vector", "/v1/vectors/{id}"),
    _write("delete_vector", "DELETE", "/v1/vectors/{id}", Surface.VECTORS),
    _write("put_value", "PUT", "/kv/{key}", Surface.KV),
    _read("get_value", "/kv/{key}"),
    _write("delete_value", "DELETE", "/kv/{key}", Surface.KV),
    _write("create_ticket", "POST", "/tools/create_ticket", Surface.TICKETS),
    _read("get_ticket", "/tools/tickets/{id}"),
    _write("delete_ticket", "DELETE", "/tools/tickets/{id}", Surface.TICKETS),
    Operation(
        name="post_intent",
        method="POST",
        path="/intents",
        effect=Effect.QUEUE,
        surface=Surface.INTENTS,
    ),
    _read("get_intent", "/intents/{id}"),
    _write("delete_intent", "DELETE", "/intents/{id}", Surface.INTENTS),
    _read("queue", "/queue"),
    _read("jobs", "/jobs"),
    _read("flag_a", "/flags/a"),
    _read("flag_b", "/flags/b"),
    _read("status_summary", "/status/api/v2/summary.json"),
    _read("status_active", "/status/api/v2/scheduled-maintenances/active.json"),
    _read("status_upcoming", "/status/api/v2/scheduled-maintenances/upcoming.json"),
    _read("banner", "/banner"),
    _read("openapi", "/openapi.json"),
    _read("metrics", "/metrics"),
    _read("healthz", "/healthz"),
    Operation(name="read_only", method="POST", path="/admin/read-only", effect=Effect.ADMIN),
)

OFFERED: Mapping[Door, tuple[Operation, ...]] = MappingProxyType(
    {
        Door.FRONT: OPERATIONS,
        Door.SIDE: tuple(operation for operation in OPERATIONS if operation.path == "/v1/vectors/{id}"),
    }
)
"""What is offered at each door."""


def operation_of(method: str, path: str, *, door: Door = Door.FRONT) -> Operation | None:
    """The declared operation that this request reaches, or None. HEAD is its GET."""
    asked = "GET" if method == "HEAD" else method
    for operation in OFFERED[door]:
        if operation.method == asked and operation.pattern.fullmatch(path):
            return operation
    return None
