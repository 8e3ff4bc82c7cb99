"""Lengths, shares and moments as people write them in `window.yaml`. Nothing is guessed."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

LONGEST = 3650 * 86400.0
"""Seconds: what is longer is a typing mistake, and leaves the calendar when it is added up."""
EARLIEST, LATEST = 1990, 2500
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)%", re.ASCII)


def duration(value: object) -> float:
    """Seconds from `5s`, `10m`, `1h30m`, `250ms`. A number without a unit is a mistake."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
        if seconds <= LONGEST:
            return seconds
        raise ValueError(f"{value[:40]!r} is longer than ten years")
    raise ValueError(f"{value!r} is no length of time: write it like 5s, 10m, 1h30m or 250ms")


def share(value: object) -> float:
    """A share in (0, 1) from `99.9%`; a bare number is a mistake, since 99.9 and 0.999 look alike."""
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if found and 0 < float(found[1]) < 100:
        return float(found[1]) / 100
    raise ValueError(f"{value!r} is no share: write it like 99.9%, above 0 % and below 100 %")


def moment(value: object) -> float:
    """Epoch seconds from an ISO 8601 time with a zone. A time without a zone is a mistake."""
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            parsed = None
        if parsed is not None and not EARLIEST <= parsed.year <= LATEST:
            raise ValueError(f"{value!r} is not between the years {EARLIEST} and {LATEST}")
        if parsed is not None and parsed.tzinfo is not None:
            return parsed.timestamp()
        if parsed is not None:
            raise ValueError(f"{value!r} has no zone: write it like 2026-11-23T22:00:00Z")
    raise ValueError(f"{value!r} is no time: write it like 2026-11-23T22:00:00Z")


def number(value: object) -> object:
    """Anything but true and false, which would pass for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")  # noqa: TRY004 - pydantic reads ValueError
    return value


NoBool = BeforeValidator(number)
_LENGTH = WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["5s"]})
Duration = Annotated[float, BeforeValidator(duration), _LENGTH]
Positive = Annotated[float, BeforeValidator(duration), Field(gt=0), _LENGTH]
Share = Annotated[
    float,
    BeforeValidator(share),
    WithJsonSchema({"type": "string", "pattern": f"^{_SHARE.pattern}$", "examples": ["99.9%"]}),
]
Moment = Annotated[float, BeforeValidator(moment), WithJsonSchema({"type": "string", "format": "date-time"})]
