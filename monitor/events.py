"""What the ledger holds and `watch --json` prints: one JSON object for each thing that happened.

Each event is a frozen value here and `freezewatch.event/1` outside. Reading back gives the same value.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.model import Act, Action, Phase, from_iso, iso
from probes.base import Kind, Observation, Outcome

SCHEMA = "freezewatch.event/1"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """A probe ran, or should have."""

    at: float
    observation: Observation


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseBegan:
    """The window entered a phase."""

    at: float
    phase: Phase
    closes: float
    ends: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The verdict on a criterion changed. Criterion `window` is the verdict on the whole."""

    at: float
    criterion: str
    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """The advice changed."""

    at: float
    action: Action
    causes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alerted:
    """An alert began or ended. `to` names the notifiers that are told."""

    at: float
    cause: str
    state: str
    since: float
    to: tuple[str, ...]
    action: Action
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Acted:
    """Somebody did something to the window."""

    at: float
    act: Act


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfNoted:
    """The watchdog on itself: started, stopped, clock stepped, ledger failed, embedder died."""

    at: float
    what: str
    detail: Mapping[str, Any] = field(default_factory=dict)


Event = Observed | PhaseBegan | Judged | Decided | Alerted | Acted | SelfNoted


def to_json(event: Event) -> dict[str, Any]:
    """`event` as `freezewatch.event/1`."""
    head = {"schema": SCHEMA, "at": iso(event.at)}
    match event:
        case Observed(observation=o):
            return head | {"event": "observation"} | _observation(o)
        case PhaseBegan():
            return head | {
                "event": "phase",
                "phase": event.phase.value,
                "closes": iso(event.closes),
                "ends": iso(event.ends),
            }
        case Judged():
            return head | {
                "event": "verdict",
                "criterion": event.criterion,
                "verdict": event.verdict,
                "reason": event.reason,
            }
        case Decided():
            return head | {
                "event": "decision",
                "action": event.action.value,
                "causes": list(event.causes),
                "reason": event.reason,
            }
        case Alerted():
            return head | {
                "event": "alert",
                "cause": event.cause,
                "state": event.state,
                "since": iso(event.since),
                "to": list(event.to),
                "action": event.action.value,
                "summary": event.summary,
            }
        case Acted(act=act):
            return head | {
                "event": "act",
                "act": act.act,
                "who": act.who,
                "reason": act.reason,
                "by_s": act.by,
                "criterion": act.criterion,
            }
        case SelfNoted():
            return head | {"event": "self", "what": event.what, "detail": dict(event.detail)}


def _observation(o: Observation) -> dict[str, Any]:
    return {
        "probe": o.probe,
        "kind": o.kind.value,
        "surface": o.surface,
        "outcome": o.outcome.value,
        "reason": o.reason,
        "slot": iso(o.slot),
        "started": iso(o.started),
        "phase": o.phase,
        "lateness_s": round(o.lateness_s, 6),
        "duration_s": round(o.duration_s, 6),
        "phases": {name: round(seconds, 6) for name, seconds in o.phases.items()},
        "figures": dict(o.figures),
    }


def dumps(event: Event) -> str:
    """`event` as one line of JSON; numbers that JSON does not know become null."""
    body = to_json(event)
    try:
        line = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        body = _finite(body)
        line = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    if line.isascii() or _SURROGATE.search(line) is None:
        return line
    return json.dumps(body, separators=(",", ":"))  # half a character from outside has no UTF-8


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not -1e308 < value < 1e308:
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def loads(line: str) -> Event:
    """The event that `dumps` wrote. Raises ValueError or KeyError on anything else."""
    body = json.loads(line)
    at = from_iso(body["at"])
    match body["event"]:
        case "observation":
            return Observed(at=at, observation=_read_observation(body))
        case "phase":
            closes, ends = from_iso(body["closes"]), from_iso(body["ends"])
            return PhaseBegan(at=at, phase=Phase(body["phase"]), closes=closes, ends=ends)
        case "verdict":
            return Judged(at=at, criterion=body["criterion"], verdict=body["verdict"], reason=body["reason"])
        case "decision":
            return Decided(
                at=at,
                action=Action(body["action"]),
                causes=tuple(body["causes"]),
                reason=body["reason"],
            )
        case "alert":
            return Alerted(
                at=at,
                cause=body["cause"],
                state=body["state"],
                since=from_iso(body["since"]),
                to=tuple(body["to"]),
                action=Action(body["action"]),
                summary=body["summary"],
            )
        case "act":
            act = Act(
                at=at,
                act=body["act"],
                who=body["who"],
                reason=body["reason"],
                by=body["by_s"],
                criterion=body["criterion"],
            )
            return Acted(at=at, act=act)
        case "self":
            return SelfNoted(at=at, what=body["what"], detail=body["detail"])
        case other:
            raise ValueError(f"unknown event {other!r}")


def _number(value: float | None) -> float:
    """What was written as null was no number: it stays none."""
    return math.nan if value is None else value


def _read_observation(body: dict[str, Any]) -> Observation:
    return Observation(
        probe=body["probe"],
        kind=Kind(body["kind"]),
        surface=body["surface"],
        outcome=Outcome(body["outcome"]),
        reason=body["reason"],
        slot=from_iso(body["slot"]),
        started=from_iso(body["started"]),
        phase=body["phase"],
        lateness_s=_number(body["lateness_s"]),
        duration_s=_number(body["duration_s"]),
        phases=body["phases"],
        figures=body["figures"],
    )


__all__ = [
    "SCHEMA",
    "Acted",
    "Alerted",
    "Decided",
    "Event",
    "Judged",
    "Observed",
    "PhaseBegan",
    "SelfNoted",
    "dumps",
    "loads",
    "to_json",
]
