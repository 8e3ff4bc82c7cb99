"""Every failure the demo service can name, and its one wire form, problem details (RFC 9457).

    DemoError
    ├── ReadOnly         a write met a closed gate
    └── RejectedError    a request breaks the contract; it carries status and code of the answer

Knows nothing about routes or stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

PROBLEM_BASE = "https://freezewatch.dev/problems"


class DemoError(Exception):
    """Root of everything the demo service raises on purpose."""


class ReadOnly(DemoError):
    """A write met a closed gate: nothing was changed."""


class RejectedError(DemoError):
    """A request that breaks the contract, with the status and the stable code to answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def bad_request(detail: str) -> RejectedError:
    """The request can never succeed as it is written."""
    return RejectedError(400, "BAD_REQUEST", detail)


def not_found(what: str) -> RejectedError:
    """The thing that was asked for does not exist."""
    return RejectedError(404, "NOT_FOUND", f"{what} does not exist")


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    title: str | None = None,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """`{"type", "title", "status", "code", "detail", "error": {"code"}}` with its media type."""
    body = {
        "type": f"{PROBLEM_BASE}/{kind or code.lower().replace('_', '-')}",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "error": {"code": code},
    }
    return JSONResponse(body, status, headers=dict(headers or {}), media_type="application/problem+json")
