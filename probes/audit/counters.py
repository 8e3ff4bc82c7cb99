"""Counters that a store keeps of its own writes: what do two readings say? And counters over HTTP, as JSON.

A counter that rose is a write, one that fell was set back: then the time in between cannot be told. What is
missing, is no number or cannot be asked is never "nothing written". Counters say how much, not what or by
whom, so a write of ours is not told from others.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from probes.answer import Answer, Unreachable
from probes.audit.reading import AuditBase, Change, Reading
from probes.jsonpath import JsonPath, find_all
from probes.refusal import parsed
from probes.request import HttpRequest, ask
from probes.shown import shown, writable
from probes.tools import Tools
from probes.units import Duration

Number = int | float
Kind = Literal["counter", "gauge"]
MOST = 500
"""Counters of one audit. More would not fit into a mark that survives a restart."""
WITHIN = 0.9
"""Of the timeout: a hang is then named by what was waited for."""
_DIGITS = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What one look at the counters found."""

    values: Mapping[str, Number]
    started: Mapping[str, Number | str] = field(default_factory=dict)
    """What changes when a part of the store is started again, by part, where it is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mark:
    """What a reading leaves for the next."""

    asked: str
    """A digest of what was configured: counters of another question cannot be compared."""
    values: Mapping[str, Number]
    started: Mapping[str, Number | str]
    fell: Mapping[str, Number] = field(default_factory=dict)
    """What counters were before they fell: one that is back there may only have been away."""

    def packed(self) -> str:
        return json.dumps(
            {"asked": self.asked, "values": self.values, "started": self.started, "fell": self.fell},
            separators=(",", ":"),
        )

    @classmethod
    def unpacked(cls, text: str) -> "_Mark | None":
        """None when it is none of ours."""
        try:
            body: Any = json.loads(text)
            return cls(
                asked=body["asked"],
                values={str(k): _number_in_mark(v) for k, v in body["values"].items()},
                started=dict(body["started"]),
                fell={str(k): _number_in_mark(v) for k, v in body["fell"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def _number_in_mark(value: object) -> Number:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise TypeError("no number")


def digest(*asked: object) -> str:
    """What names a question: its configuration, so that no secret is in the mark."""
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def compared(mark: str | None, now: Counted, *, asked: str, kind: Kind, grade: str, lag_s: float) -> Reading:
    """What was written since `mark`, by its counters and those of now. Pure.

    Raises Unreachable when a counter of `mark` is missing and no other has moved: a later reading, which has
    it again, reaches back over this one.
    """
    before = _Mark.unpacked(mark) if mark is not None else None
    unknown: list[str] = []
    changes: list[Change] = []
    fell: dict[str, Number] = {}
    kept: dict[str, Number] = {}
    if mark is not None and (before is None or before.asked != asked):
        unknown.append("the reading before was of another configuration: nothing to compare with")
    elif before is not None and _started_again(before.started, now.started):
        unknown.append("the store was started again since the reading before")
    elif before is not None:
        changes, unknown, fell = _moved(before, now.values, kind)
        kept = {name: value for name, value in before.values.items() if name not in now.values}
        gone = _named(kept)
        if kept and not changes and not unknown:
            raise Unreachable(f"no value any more of {gone}")
        unknown += [f"no value any more of {gone}"] if kept else []
    values = {**kept, **now.values}
    return Reading(
        mark=_Mark(
            asked=asked, values=values, started={**_started(before, asked), **now.started}, fell=fell
        ).packed(),
        changes=tuple(changes),
        unknown="; ".join(unknown) or None,
        grade=grade,
        lag_s=lag_s,
        tells_own=False,
        figures={"counters": len(now.values)},
    )


def _started(before: _Mark | None, asked: str) -> Mapping[str, Number | str]:
    """What is known of earlier starts of the same question: a part may be away for a while."""
    return before.started if before is not None and before.asked == asked else {}


def _started_again(before: Mapping[str, Number | str], now: Mapping[str, Number | str]) -> bool:
    return any(now[part] != value for part, value in before.items() if part in now)


def _moved(
    before: _Mark, now: Mapping[str, Number], kind: Kind
) -> tuple[list[Change], list[str], dict[str, Number]]:
    """The counters that show writes, why others cannot tell, and what those that fell had been."""
    changes: list[Change] = []
    unknown: list[str] = []
    fell = dict(before.fell)
    for name, value in now.items():
        old = before.values.get(name)
        if old is None:
            if value != 0 or kind == "gauge":
                unknown.append(f"{name} is new, at {value:.15g}: what it was before is not known")
        elif value == old:
            continue
        elif kind == "gauge":
            changes.append(_change(name, value - old))
        elif value < old:
            fell[name] = max(old, fell.get(name, old))
            unknown.append(
                f"{name} was set back from {old:.15g} to {value:.15g}, or the store was started again"
            )
        elif name in fell and value >= fell[name]:
            unknown.append(
                f"{name} rose from {old:.15g} to {value:.15g}, where it was before it fell: it may be back"
            )
            del fell[name]
        else:
            changes.append(_change(name, value - old))
    return changes, unknown[:5], fell


def _change(name: str, by: Number) -> Change:
    return Change(what=name, operation="write", count=max(1, math.ceil(abs(by))))


def _named(names: Mapping[str, Number]) -> str:
    shown_names = ", ".join(sorted(names)[:3])
    return shown_names + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def number(value: object) -> Number | None:
    """`value` as a finite number; a text of digits is one too, since 64-bit counters are often sent so."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


class CountersAudit(AuditBase):
    """One audit of counters that are answered as JSON."""

    http: HttpRequest
    at: JsonPath | Annotated[dict[Annotated[str, Field(min_length=1)], JsonPath], Field(min_length=1)]
    """Where the counter stands, or several by name."""
    kind: Kind = "counter"
    """`counter`: only ever rises. `gauge`: whatever moves it is a write."""
    restart: JsonPath | None = None
    """What changes when the store is started again: a start time, a run id."""
    lag: Duration = 0.0
    """A write may show so late; an older answer of a cache counts as none."""

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        return gauge_doubts(self.kind)


def gauge_doubts(kind: Kind) -> list[str]:
    """Of what is no counter."""
    if kind == "gauge":
        return ["a gauge that rises and falls again between two readings shows nothing; a counter would"]
    return []


class HttpCounters:
    """Counters behind one HTTP request."""

    def __init__(self, spec: CountersAudit, *, timeout: float, tools: Tools) -> None:
        self._spec = spec
        self._within = WITHIN * timeout
        self._transport = tools.transport
        self._request = spec.http.build("GET", User_Agent=tools.agent, Cache_Control="no-cache")
        self._request.read()
        self._paths = {spec.at: spec.at} if isinstance(spec.at, str) else dict(spec.at)
        same = spec.http.model_dump_json(by_alias=True, exclude={"headers", "verify", "fresh"})
        self._asked = digest(same, sorted(self._paths.items()), spec.restart)

    async def read(self, mark: str | None) -> Reading:
        """What the counters say was written since `mark`. Raises Unreachable or OwnFault."""
        spec = self._spec
        answer = await ask(self._transport, spec.http, self._request, self._within)
        document = json_in(answer)
        _fresh(answer, spec.lag)
        values = {name: _one(path, document) for name, path in self._paths.items()}
        started = _identity(spec.restart, document) if spec.restart is not None else {}
        return compared(
            mark,
            Counted(values=values, started=started),
            asked=self._asked,
            kind=spec.kind,
            grade=f"{spec.kind}s over HTTP",
            lag_s=spec.lag,
        )

    async def aclose(self) -> None:
        """Nothing is held: the transport is the caller's."""


def json_in(answer: Answer) -> Any:
    """The document of a good answer. Raises Unreachable for any other."""
    if not 200 <= answer.status < 300:
        raise Unreachable(f"answered {answer.status}")
    if answer.truncated:
        raise Unreachable(f"the answer is longer than {len(answer.body)} bytes")
    document = parsed(answer)
    if document is None:
        raise Unreachable(f"answered {answer.status}, but not with JSON")
    return document


def _fresh(answer: Answer, lag: float) -> None:
    """Raises Unreachable for an answer that a cache says is older than `lag` seconds."""
    stated = answer.header("age")
    if stated and stated[0].isascii() and stated[0].isdigit() and int(stated[0]) > lag:
        raise Unreachable(f"the answer comes from a cache, and is {int(stated[0])} s old")


def _one(path: str, document: Any) -> Number:
    """The one number at `path`. Raises Unreachable where there is none, or several."""
    found = find_all(path, document)
    if len(found) != 1:
        raise Unreachable(f"{len(found)} values at {path}")
    value = number(found[0])
    if value is None:
        said = shown(writable(found[0])) if isinstance(found[0], str) else f"a {type(found[0]).__name__}"
        raise Unreachable(f"{said} at {path} is no number")
    return value


def _identity(path: str, document: Any) -> dict[str, Number | str]:
    """What stands at the path of `restart`, so that it can be compared and not read."""
    found = find_all(path, document)
    if not found or any(item is None for item in found):
        raise Unreachable(f"nothing at {path}, which tells when the store was started")
    return {path: digest(json.dumps(found, sort_keys=True))}


def counters_audit(spec: CountersAudit, timeout: float, tools: Tools) -> HttpCounters:
    """What an audit of the kind `http` reads."""
    return HttpCounters(spec, timeout=timeout, tools=tools)
