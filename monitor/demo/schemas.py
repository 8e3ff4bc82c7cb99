"""The JSON Schemas (2020-12) of every body that the demo service takes or gives."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from monitor.demo.bodies import JSON
from monitor.demo.limits import (
    NAME_PATTERN,
    QUESTION_LIMIT,
    TEXT_LIMIT,
    TITLE_LIMIT,
    VECTOR_LIMIT,
)
from monitor.demo.mode import Status

ANYTHING: dict[str, JSON] = {"description": "Any JSON value."}
NAME: dict[str, JSON] = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}
MOMENT: dict[str, JSON] = {"type": "string", "format": "date-time"}
MOMENT_OR_NULL: dict[str, JSON] = {"type": ["string", "null"], "format": "date-time"}
NUMBER: dict[str, JSON] = {"type": "number"}
COUNT: dict[str, JSON] = {"type": "integer", "minimum": 0}
BOOLEAN: dict[str, JSON] = {"type": "boolean"}


def text(limit: int | None = None) -> dict[str, JSON]:
    """A string, bounded when a limit is given."""
    return {"type": "string"} if limit is None else {"type": "string", "maxLength": limit}


def wanted(limit: int) -> dict[str, JSON]:
    """A string that must hold something."""
    return {**text(limit), "minLength": 1}


def choice(*values: str) -> dict[str, JSON]:
    """One of a few strings."""
    return {"type": "string", "enum": list(values)}


def list_of(items: dict[str, JSON]) -> dict[str, JSON]:
    """An array of one kind of item."""
    return {"type": "array", "items": items}


def ref(name: str) -> dict[str, JSON]:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def shape(optional: tuple[str, ...] = (), /, **fields: dict[str, JSON]) -> dict[str, JSON]:
    """An object whose fields are all required but the optional ones."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
    }


_COMPONENT = shape(id=text(), name=text(), status=choice("operational", "under_maintenance"))
_PAGE = shape(id=text(), name=text(), url=text(), time_zone=text(), updated_at=MOMENT)
_STATUS = choice(*Status)
_VALUES: dict[str, JSON] = {**list_of(NUMBER), "minItems": 1, "maxItems": VECTOR_LIMIT}

SCHEMAS: Mapping[str, dict[str, JSON]] = MappingProxyType(
    {
        "Problem": shape(
            type=text(),
            title=text(),
            status={"type": "integer"},
            code=text(),
            detail=text(),
            error=shape(code=text()),
        ),
        "Question": shape(q=wanted(QUESTION_LIMIT)),
        "Source": shape(id=text(), title=text(), score=NUMBER),
        "Answer": shape(answer=text(), sources={**list_of(ref("Source")), "maxItems": 3}),
        "SearchResults": shape(results=list_of(ref("Source"))),
        "Document": shape(id=NAME, title=wanted(TITLE_LIMIT), text=wanted(TEXT_LIMIT)),
        "Created": shape(id=NAME),
        "VectorValues": shape(values=_VALUES),
        "Vector": shape(id=NAME, values=_VALUES),
        "Value": shape(key=NAME, value=ANYTHING),
        "NewTicket": shape(("id",), title=wanted(TITLE_LIMIT), id=NAME),
        "Ticket": shape(id=NAME, title=text(TITLE_LIMIT)),
        "NewIntent": shape(id=NAME, payload=ANYTHING),
        "IntentReceipt": shape(id=NAME, status=choice("queued", "applied")),
        "Intent": shape(id=NAME, status=choice("queued", "applied"), applied=COUNT),
        "Queue": shape(depth=COUNT, oldest_seconds={"type": "number", "minimum": 0}),
        "Jobs": shape(
            embeddings_backfill=shape(running={"type": "integer", "enum": [0, 1]}, last_run=MOMENT_OR_NULL)
        ),
        "Flag": shape(read_only=BOOLEAN, version=COUNT, updated_at=MOMENT),
        "Health": shape(status=choice("ok")),
        "IncidentUpdate": shape(
            id=text(),
            incident_id=text(),
            status=_STATUS,
            body=text(),
            created_at=MOMENT,
            display_at=MOMENT,
            updated_at=MOMENT,
        ),
        "Maintenance": shape(
            id=text(),
            name=text(),
            status=_STATUS,
            impact=choice("maintenance"),
            page_id=text(),
            created_at=MOMENT,
            updated_at=MOMENT,
            started_at=MOMENT_OR_NULL,
            resolved_at=MOMENT_OR_NULL,
            scheduled_for=MOMENT_OR_NULL,
            scheduled_until=MOMENT_OR_NULL,
            components=list_of(_COMPONENT),
            incident_updates=list_of(ref("IncidentUpdate")),
        ),
        "Maintenances": shape(page=_PAGE, scheduled_maintenances=list_of(ref("Maintenance"))),
        "StatusSummary": shape(
            page=_PAGE,
            components=list_of(_COMPONENT),
            incidents={"type": "array", "maxItems": 0},
            scheduled_maintenances=list_of(ref("Maintenance")),
            status=shape(indicator=choice("none", "maintenance"), description=text()),
        ),
    }
)
