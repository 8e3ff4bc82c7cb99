"""Is this answer a proper refusal of a write? Pure: an answer and a rule in, a judgement out.

Retry-After by RFC 9110 §10.2.3, dates by §5.6.7; 423 by RFC 4918 §11.3; codes by RFC 9457.
Only what the rule names counts as a refusal. A 401, a 404, a bad payload or a dead upstream blocks a
write too, and proves nothing about the guard: that is `other`, never a refusal.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.answer import Answer
from probes.jsonpath import JsonPath, find_all, find_first
from probes.retry_after import RetryAfter, http_date, retry_after

__all__ = [
    "Class",
    "Judgement",
    "Refusal",
    "RetryAfter",
    "Statuses",
    "code_in",
    "http_date",
    "judge",
    "parsed",
    "retry_after",
    "says_failed",
]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


Statuses = Annotated[
    list[Annotated[int, Field(ge=100, le=599)]], Field(min_length=1), BeforeValidator(_as_list)
]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


OUTAGE = frozenset({500, 502, 503, 504})
LOCKED = 423
Pattern = Annotated[str, AfterValidator(_pattern)]


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
    body: Pattern | None = None
    """A regular expression that the body must match."""
    headers: dict[str, Pattern] = {}
    """Headers that must be there, each with a regular expression that every value of it must match."""
    failed: JsonPath | None = None
    """Where a 2xx answer says that it failed nevertheless: it accepted nothing if something stands there."""

    @model_validator(mode="after")
    def _can_tell(self) -> "Refusal":
        if self.equals is not None and self.code == "none" and self.code_header is None:
            raise ValueError("equals names a code, and `code: none` says that there is none: keep one")
        if any(200 <= status < 300 for status in self.status) and not self.has_marker:
            raise ValueError("a 2xx says accepted: name body, headers or equals, by which a refusal is known")
        return self

    @property
    def outage_looks_the_same(self) -> bool:
        """A dead upstream may answer just so: such a refusal proves nothing unless it has Retry-After."""
        bare = self.retry_after == "optional" and self.code == "none" and not self.has_marker
        return bare and bool(OUTAGE.intersection(self.status))

    @property
    def has_marker(self) -> bool:
        """Something tells the guard from an outage, or from an accepted write."""
        return bool(self.body or self.headers or self.equals)


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
    r"read[-_ ]?only|maintenance|frozen|freez(?:e(?!watch)|ing)"
    r"|writes?[-_ ](?:are[-_ ])?(?:blocked|disabled|closed)",
    re.IGNORECASE,
)
"""Says that writes are frozen. Our own name, which an answer may repeat from the canary, does not."""
AUTO_CODE = re.compile(r"[A-Za-z0-9_.:/#~-]+")
"""What `auto` takes for a code: one word. A sentence is for people and may change."""
AUTO_CODES = (
    "$.code",
    "$.error.code",
    "$.errors[0].code",
    "$.errors[0].extensions.code",
    "$.error",
)


def judge(answer: Answer, rule: Refusal, *, closes: float | None = None) -> Judgement:
    """Judge one answer to a write attempt. `closes` (epoch seconds) lets a late Retry-After be seen."""
    document = parsed(answer)
    code = _code(answer, rule, document)
    if answer.status not in rule.status:
        return _unlisted(answer, rule, code, document)
    missing = _unmatched(answer, rule)
    doubt = _may_be_something_else(answer, rule, code, missing, document)
    if doubt is not None:
        return Judgement(kind=doubt[0], reason=doubt[1], code=code)
    retry = retry_after(answer.header("retry-after"), answer.header("date"), closes=closes)
    problems = [*missing, *_broken(rule, answer, code, retry, document)]
    said = f", but {' and '.join(problems)}" if problems else f" {code or ''}"
    return Judgement(
        kind=Class.BROKEN if problems else Class.PROPER,
        reason=f"{answer.status}{said}".strip(),
        code=code,
        retry_after_s=retry.seconds,
        warnings=retry.warnings,
    )


def _may_be_something_else(
    answer: Answer, rule: Refusal, code: str | None, missing: list[str], document: Any
) -> tuple[Class, str] | None:
    """A listed status that others answer too: a success with a 2xx, an outage with a 5xx."""
    status = answer.status
    if 200 <= status < 300:
        other_code = rule.equals is not None and code != rule.equals
        if not (missing or other_code):
            return None
        if says_failed(rule.failed, document):
            return Class.OTHER, f"answered {status}, and says that it failed{f': {code}' if code else ''}"
        return Class.ACCEPTED, f"answered {status}"
    if status == LOCKED:
        return None
    if missing:
        return Class.OTHER, f"{status}, but {missing[0]}"
    if status not in OUTAGE or code is not None or rule.body is not None or rule.headers:
        return None
    if answer.is_html:
        return Class.OTHER, f"{status} with an HTML page: a guard or an outage?"
    if not answer.header("retry-after"):
        return Class.OTHER, f"{status} without Retry-After or code: a guard or an outage?"
    return None


def _unlisted(answer: Answer, rule: Refusal, code: str | None, document: Any) -> Judgement:
    """A status that the rule does not name."""
    failed = says_failed(rule.failed, document)
    if 200 <= answer.status < 300 and not failed:
        return Judgement(kind=Class.ACCEPTED, reason=f"answered {answer.status}")
    if _speaks_of_the_guard(answer, rule, code):
        listed = " or ".join(map(str, rule.status))
        reason = f"answered {answer.status}, not {listed}"
        return Judgement(kind=Class.BROKEN, reason=reason, code=code)
    reason = f"answered {answer.status}: blocked for another reason than the freeze, or not at all"
    if failed:
        reason = f"answered {answer.status}, and says that it failed{f': {code}' if code else ''}"
    if 300 <= answer.status < 400:
        reason = f"answered {answer.status}: a redirect, which is not followed"
    return Judgement(kind=Class.OTHER, reason=reason, code=code)


def says_failed(path: str | None, document: Any) -> bool:
    """Does something stand at `path`: neither null, false, nor an empty text, list or object?"""
    if path is None:
        return False
    return any(item not in (None, "", [], {}, False) for item in find_all(path, document))


def _speaks_of_the_guard(answer: Answer, rule: Refusal, code: str | None) -> bool:
    """Does an answer with the wrong status still say that writes are frozen?"""
    if answer.status == LOCKED or (rule.equals is not None and code == rule.equals):
        return True
    return not answer.is_html and bool(MARKER.search(answer.text[:4096]))


def _unmatched(answer: Answer, rule: Refusal) -> list[str]:
    """The configured marks of the guard that the answer lacks."""
    found = []
    if rule.body is not None and not re.search(rule.body, answer.text):
        found.append(f"the body does not match /{rule.body}/")
    for name, pattern in rule.headers.items():
        values = answer.header(name)
        if not values or not all(re.search(pattern, value) for value in values):
            found.append(f"no header {name} matches /{pattern}/")
    return found


def _broken(
    rule: Refusal, answer: Answer, code: str | None, retry: RetryAfter, document: Any
) -> Iterator[str]:
    """The ways in which a refusal with the right status breaks its contract."""
    if retry.problem and (rule.retry_after == "required" or answer.header("retry-after")):
        yield retry.problem
    if rule.code != "none" and code is None:
        where = rule.code_header or ("the body" if rule.code == "auto" else rule.code)
        yield f"there is no stable code in {where}"
    if rule.equals is not None and code != rule.equals and (code is not None or rule.code == "none"):
        yield f"the code is {code!r}, not {rule.equals!r}"
    if answer.media_type == "application/problem+json" and isinstance(document, dict):
        stated = document.get("status", answer.status)
        if isinstance(stated, bool) or stated != answer.status:
            said = stated if isinstance(stated, int) else f"as a {type(stated).__name__}"
            yield f"the problem document says status {said}"


def parsed(answer: Answer) -> Any:
    """The body as JSON, or None where it is none: wrong bytes, too deep, cut off."""
    if not answer.body or answer.truncated or answer.is_html:
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
    return code_in(document, rule.code, unlike=str(answer.status))


def code_in(document: Any, where: str, *, unlike: str = "") -> str | None:
    """The code in a JSON document: at a JSONPath, nowhere (`none`) or in the usual places (`auto`).

    `unlike` is what `auto` does not take for a code, such as the status itself.
    """
    if document is None or where == "none":
        return None
    if where != "auto":
        return _as_code(find_first(where, document))
    if not isinstance(document, dict):
        return None
    for path in AUTO_CODES:
        code = _as_code(find_first(path, document))
        if code is not None and code != unlike and AUTO_CODE.fullmatch(code):
            return code
    kind = document.get("type")
    return _as_code(kind) if isinstance(kind, str) and kind != "about:blank" else None


def _as_code(value: Any) -> str | None:
    """A code is a number or a short text that can be printed."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if 0 < len(text) <= 256 and text.isprintable() else None
