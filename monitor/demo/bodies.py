"""The door: request bodies, names and headers become checked values or a refusal.

Refuses what is no JSON, too large, too deep, not finite, or holds characters that cannot be
stored; so nothing behind this room has to expect any of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TypeAlias

from starlette.requests import Request

from monitor.demo.limits import BODY_LIMIT_BYTES, DEPTH_LIMIT, NAME_PATTERN, VECTOR_LIMIT
from monitor.demo.problems import RejectedError, bad_request

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_NAME = re.compile(NAME_PATTERN)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


async def json_body(request: Request) -> JSON:
    """The body as a JSON value, checked to its last character."""
    raw = await _capped(request)
    try:
        value: JSON = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request("the body is not JSON") from error
    for scalar in _scalars(value):
        _check_scalar(scalar)
    return value


async def json_object(request: Request) -> dict[str, JSON]:
    """The body as a JSON object."""
    value = await json_body(request)
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value


def text_of(body: dict[str, JSON], field: str, *, limit: int) -> str:
    """A non-empty string field of at most `limit` characters."""
    value = body.get(field)
    if not isinstance(value, str) or not value.strip():
        raise bad_request(f"{field!r} must be a non-empty string")
    if len(value) > limit:
        raise bad_request(f"{field!r} must have at most {limit} characters")
    return value


def name_of(value: JSON, what: str) -> str:
    """An id or key: 1 to 200 letters, digits or `. _ : ~ -`."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise bad_request(f"{what} must be 1 to 200 letters, digits or any of . _ : ~ -")
    return value


def vector_of(body: dict[str, JSON]) -> tuple[float, ...]:
    """The `values` field: 1 to 4096 numbers."""
    values = body.get("values")
    if not isinstance(values, list) or not 1 <= len(values) <= VECTOR_LIMIT:
        raise bad_request(f"'values' must be a list of 1 to {VECTOR_LIMIT} numbers")
    return tuple(_number(value) for value in values)


def idempotency_key_of(request: Request) -> str | None:
    """The Idempotency-Key header, or None when there is none."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _IDEMPOTENCY_KEY.fullmatch(keys[0]):
        raise bad_request("Idempotency-Key must be one line of 1 to 255 printable characters")
    return keys[0]


async def _capped(request: Request) -> bytes:
    # Chunks past the limit are read and dropped: closing early would reset the connection
    # before the client has seen the answer.
    kept = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= BODY_LIMIT_BYTES:
            kept += chunk
    if size > BODY_LIMIT_BYTES:
        raise RejectedError(413, "BODY_TOO_LARGE", f"a body may have {BODY_LIMIT_BYTES} bytes")
    return bytes(kept)


def _refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _scalars(value: JSON) -> Iterator[JSON]:
    """Every key and leaf; iterative, because a hostile body is deeper than the stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_LIMIT:
            raise bad_request(f"the body nests deeper than {DEPTH_LIMIT} levels")
        below: list[JSON] = []
        for item in level:
            if isinstance(item, dict):
                yield from item
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            else:
                yield item
        level = below


def _check_scalar(value: JSON) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise bad_request("a number in the body is too large")
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise bad_request("a string in the body holds NUL or half a surrogate pair")


def _number(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request("'values' must hold numbers only")
    try:
        return float(value)
    except OverflowError as error:
        raise bad_request("a number in 'values' is too large") from error
