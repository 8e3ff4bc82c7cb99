"""Is this answer a proper refusal of a write? Pure: an answer and a rule in, a judgement out.

Retry-After by RFC 9110 §10.2.3, dates by §5.6.7; 423 by RFC 4918 §11.3; codes by RFC 9457.
Only what the rule names counts as a refusal. A 401, a 404, a bad payload or a dead upstream blocks a
write too, and proves nothing about the guard: that is `other`, never a refusal.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from probes.http import Answer
from probes.jsonpath import JsonPath, find_first

FAR_S = 24 * 3600
"""A Retry-After beyond this many seconds is shown as a warning: a typing mistake, most often."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


Statuses = Annotated[list[Annotated[int, Field(ge=100, le=599)]], BeforeValidator(_as_list)]


class Refusal(BaseModel):
    """What a proper refusal looks like on one surface."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Statuses = [423, 503]
    retry_after: Literal["required", "optional"] = "required"
    code: JsonPath | Literal["auto", "none"] = "auto"
    """Where the stable machine-readable code stands in the body; `auto` looks in the usual places."""
    code_header: str | None = None
    """A header that carries the code instead."""
    equals: str | None = None
    """The code itself, where it is known."""
    body: str | None = None
    """A regular expression that the body must match."""
    headers: dict[str, str] = {}
    """Headers that must be there, each with a regular expression that its value must match."""


class Class(StrEnum):
    """What an answer is, as far as the guard is concerned."""

    PROPER = "proper"
    BROKEN = "broken"
    """The guard's refusal, but it breaks its contract."""
    ACCEPTED = "accepted"
    OTHER = "other"
    """Neither: it blocks, or not, for another reason, and proves nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What an answer is, why, and what it carried. `retry_after_s` is seconds from the answer."""

    kind: Class
    reason: str
    code: str | None = None
    retry_after_s: float | None = None
    warnings: tuple[str, ...] = ()


MARKER = re.compile(
    r"read[-_ ]?only|maintenance|frozen|freeze|writes?[-_ ](are[-_ ])?(blocked|disabled|closed)",
    re.IGNORECASE,
)
AUTO_CODES = (
    "$.code",
    "$.error.code",
    "$.errors[0].code",
    "$.errors[0].extensions.code",
    "$.error",
)
OUTAGE = frozenset({500, 502, 503, 504})


def judge(answer: Answer, rule: Refusal, *, closes: float | None = None) -> Judgement:
    """Judge one answer to a write attempt. `closes` (epoch seconds) lets a late Retry-After be seen."""
    document = parsed(answer)
    code = _code(answer, rule, document)
    if answer.status not in rule.status:
        return _unlisted(answer, rule, document, code)
    retry = retry_after(answer.header("retry-after"), answer.header("date"), closes=closes)
    missing = list(_unmatched(answer, rule))
    if (
        answer.status in OUTAGE
        and not answer.header("retry-after")
        and code is None
        and (rule.retry_after == "required" or rule.code != "none")
    ):
        reason = f"{answer.status} without Retry-After or code: a guard or an outage?"
        return Judgement(kind=Class.OTHER, reason=reason)
    if missing and answer.status in OUTAGE:
        return Judgement(kind=Class.OTHER, reason=f"{answer.status}, but {missing[0]}", code=code)
    problems = missing + list(_broken(rule, answer, code, retry, document))
    if problems:
        return Judgement(
            kind=Class.BROKEN,
            reason=f"{answer.status}, but " + " and ".join(problems),
            code=code,
            retry_after_s=retry.seconds,
        )
    return Judgement(
        kind=Class.PROPER,
        reason=f"{answer.status} {code or ''}".strip(),
        code=code,
        retry_after_s=retry.seconds,
        warnings=retry.warnings,
    )


def _unlisted(answer: Answer, rule: Refusal, document: Any, code: str | None) -> Judgement:
    """A status that the rule does not name."""
    if 200 <= answer.status < 300:
        return Judgement(kind=Class.ACCEPTED, reason=f"answered {answer.status}")
    if _speaks_of_the_guard(answer, rule, document, code):
        listed = " or ".join(map(str, rule.status))
        reason = f"answered {answer.status}, not {listed}"
        return Judgement(kind=Class.BROKEN, reason=reason, code=code)
    reason = f"answered {answer.status}: blocked for another reason than the freeze, or not at all"
    if 300 <= answer.status < 400:
        reason = f"answered {answer.status}: a redirect, which is not followed"
    return Judgement(kind=Class.OTHER, reason=reason, code=code)


def _speaks_of_the_guard(answer: Answer, rule: Refusal, document: Any, code: str | None) -> bool:
    """Does an answer with the wrong status still say that writes are frozen?"""
    if answer.status == 423 or (rule.equals is not None and code == rule.equals):
        return True
    if answer.media_type == "text/html":
        return False
    said = json.dumps(document) if document is not None else answer.text
    return bool(MARKER.search(said[:4096]))


def _unmatched(answer: Answer, rule: Refusal) -> list[str]:
    found = []
    if rule.body is not None and not re.search(rule.body, answer.text):
        found.append(f"the body does not match /{rule.body}/")
    for name, pattern in rule.headers.items():
        if not any(re.search(pattern, value) for value in answer.header(name)):
            found.append(f"no header {name} matches /{pattern}/")
    return found


def _broken(rule: Refusal, answer: Answer, code: str | None, retry: "RetryAfter", document: Any) -> list[str]:
    """The ways in which a refusal with the right status breaks its contract."""
    found = []
    if retry.problem and (rule.retry_after == "required" or answer.header("retry-after")):
        found.append(retry.problem)
    if rule.code != "none" and code is None:
        where = rule.code_header or ("the body" if rule.code == "auto" else rule.code)
        found.append(f"there is no stable code in {where}")
    if rule.equals is not None and code is not None and code != rule.equals:
        found.append(f"the code is {code!r}, not {rule.equals!r}")
    if answer.media_type == "application/problem+json" and isinstance(document, dict):
        stated = document.get("status", answer.status)
        if stated != answer.status:
            found.append(f"the problem document says status {stated}")
    return found


def parsed(answer: Answer) -> Any:
    """The body as JSON, or None where it is none: wrong bytes, too deep, cut off."""
    if not answer.body or answer.truncated or answer.media_type == "text/html":
        return None
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _code(answer: Answer, rule: Refusal, document: Any) -> str | None:
    """The machine-readable code, or None. A problem's `type` counts unless it is about:blank."""
    if rule.code_header is not None:
        values = answer.header(rule.code_header)
        return values[0] if len(values) == 1 else None
    if document is None or rule.code == "none":
        return None
    if rule.code != "auto":
        return _as_code(find_first(rule.code, document))
    if not isinstance(document, dict):
        return None
    for path in AUTO_CODES:
        code = _as_code(find_first(path, document))
        if code is not None:
            return code
    kind = _as_code(document.get("type"))
    return kind if kind not in (None, "about:blank") else None


def _as_code(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text and len(text) <= 256 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAfter:
    """A Retry-After as seconds from the answer, or the problem with it."""

    seconds: float | None = None
    problem: str | None = None
    warnings: tuple[str, ...] = ()


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"(?P<h>[0-9]{2}):(?P<m>[0-9]{2}):(?P<s>[0-9]{2})"
_MON = f"(?P<mon>{'|'.join(_MONTHS)})"
_FORMS = (
    re.compile(rf"(?P<wd>{'|'.join(_DAYS)}), (?P<d>[0-9]{{2}}) {_MON} (?P<y>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?P<wd>{'|'.join(_LONG_DAYS)}), (?P<d>[0-9]{{2}})-{_MON}-(?P<y>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?P<wd>{'|'.join(_DAYS)}) {_MON} (?P<d>[0-9 ][0-9]) {_TIME} (?P<y>[0-9]{{4}})"),
)
_OBSOLETE = ("", "RFC 850 date", "asctime date")


def http_date(text: str) -> tuple[float, str] | None:
    """An HTTP-date as (epoch seconds, obsolete form or ""), or None. A wrong weekday is no date."""
    for form, obsolete in zip(_FORMS, _OBSOLETE, strict=True):
        found = form.fullmatch(text)
        if not found:
            continue
        year = int(found["y"])
        if len(found["y"]) == 2:
            year += 2000 if year < 70 else 1900
        try:
            moment = datetime(
                year,
                _MONTHS.index(found["mon"]) + 1,
                int(found["d"]),
                int(found["h"]),
                int(found["m"]),
                min(int(found["s"]), 59),
                tzinfo=UTC,
            )
        except ValueError:
            return None
        if found["wd"][:3] != _DAYS[moment.weekday()]:
            return None
        return moment.timestamp(), obsolete
    return None


def retry_after(
    values: Sequence[str], date: Sequence[str] = (), *, closes: float | None = None
) -> RetryAfter:
    """Read a Retry-After. It is a singleton: `1*DIGIT` in ASCII, or an HTTP-date; nothing else.

    `date` is the answer's own Date header, against which a date is measured.
    """
    if not values:
        return RetryAfter(problem="there is no Retry-After")
    if len(values) > 1:
        return RetryAfter(problem=f"there are {len(values)} Retry-After headers")
    text = values[0].strip(" \t")
    sent = http_date(date[0]) if len(date) == 1 else None
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        seconds = float(text[:18])
        return RetryAfter(seconds=seconds, warnings=_doubts(seconds, sent, closes))
    moment = http_date(text)
    if moment is None:
        shown = text if len(text) <= 60 else text[:57] + "..."
        return RetryAfter(problem=f"Retry-After {shown!r} is neither seconds nor an HTTP-date")
    if sent is None:
        return RetryAfter(warnings=("Retry-After is a date, and no Date to measure it by",))
    seconds = moment[0] - sent[0]
    warnings = ((f"Retry-After is an obsolete {moment[1]}",) if moment[1] else ()) + _doubts(
        seconds, sent, closes
    )
    return RetryAfter(seconds=seconds, warnings=warnings)


def _doubts(seconds: float, sent: tuple[float, str] | None, closes: float | None) -> tuple[str, ...]:
    doubts = []
    if seconds <= 0:
        doubts.append(f"Retry-After {seconds:g} s: clients come back at once")
    if seconds > FAR_S:
        doubts.append(f"Retry-After {seconds:g} s is more than a day")
    elif closes is not None and sent is not None and sent[0] + seconds > closes + 60:
        doubts.append(f"Retry-After {seconds:g} s lies beyond the end of the window")
    return tuple(doubts)
