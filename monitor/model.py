"""The values that judging speaks of: Window, Timeline, Verdict, Decision. No I/O, no clock, no rules.

Times are seconds since the Unix epoch in UTC; lengths are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from probes.base import Figure


class Phase(StrEnum):
    """Where a window stands."""

    PLANNED = "planned"
    BASELINE = "baseline"
    FREEZING = "freezing"
    FROZEN = "frozen"
    SOAK = "soak"
    CLOSED = "closed"
    ROLLED_BACK = "rolled_back"

    @property
    def frozen(self) -> bool:
        """Writes are blocked by plan."""
        return self in (Phase.FREEZING, Phase.FROZEN)

    @property
    def over(self) -> bool:
        """Nothing is asked any more."""
        return self in (Phase.CLOSED, Phase.ROLLED_BACK)


class Status(StrEnum):
    """A verdict on one criterion."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Colour(StrEnum):
    """A verdict on the window."""

    GREEN = "GREEN"
    AMBER = "AMBER"
    RED = "RED"


class Action(StrEnum):
    """What the policy advises."""

    HOLD = "HOLD"
    EXTEND = "EXTEND"
    ROLL_BACK = "ROLL_BACK"
    CLOSE = "CLOSE"


CRITERIA = (
    "guard",
    "storage",
    "reads",
    "meaning",
    "queue",
    "notice",
    "flag",
    "jobs",
    "retries",
    "reopen",
    "scope",
    "coverage",
)


def iso(moment: float) -> str:
    """Epoch seconds as ISO 8601 in UTC with milliseconds and `Z`."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def from_iso(text: str) -> float:
    """The inverse of `iso`."""
    return datetime.fromisoformat(text).timestamp()


def span(seconds: float) -> str:
    """A length for people: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def count(number: int, what: str) -> str:
    """`1 surface`, `2 surfaces`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The plan of a read-only window."""

    id: str
    title: str
    opens: float
    closes: float
    baseline: float
    soak: float
    settle: float
    hold: float
    extend_by: float = 0.0
    extend_at_most: int = 0
    contact: str | None = None
    rollback: str | None = None

    @property
    def identity(self) -> str:
        """What a ledger belongs to: the same id on another night is another window."""
        return f"{self.id} {iso(self.opens)}"

    @property
    def settled_by(self) -> float:
        """When the freeze must have reached every surface."""
        return self.opens + self.settle

    @property
    def latest_closes(self) -> float:
        """The end if every extension is used."""
        return self.closes + self.extend_by * self.extend_at_most

    @property
    def begins(self) -> float:
        """When the first question is asked."""
        return self.opens - self.baseline


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """Something that a person, or a pipeline in a person's name, did to the window."""

    at: float
    act: str
    """`extend`, `close`, `roll-back` or `accept`."""
    who: str
    reason: str
    by: float = 0.0
    """Seconds, for `extend`."""
    criterion: str | None = None
    """For `accept`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The window as it really goes: the plan and the acts that moved it."""

    window: Window
    acts: tuple[Act, ...] = ()
    frozen_at: float | None = None
    """When every surface was seen to refuse, or `settle` had passed."""

    closes: float = field(init=False)
    """When writes come back: by plan, extensions, or an earlier end."""
    ends: float = field(init=False)
    """When the last question is asked."""

    def __post_init__(self) -> None:
        early = self.ended_by
        closes = min(self.planned_closes, early.at) if early else self.planned_closes
        object.__setattr__(self, "closes", closes)
        object.__setattr__(self, "ends", closes + self.window.soak)

    @property
    def extensions(self) -> tuple[Act, ...]:
        """The extensions in the order in which they were recorded."""
        return tuple(act for act in self.acts if act.act == "extend")

    @property
    def ended_by(self) -> Act | None:
        """The close or roll-back that ended the frozen time before its planned end."""
        return next((act for act in self.acts if act.act in ("close", "roll-back")), None)

    @property
    def planned_closes(self) -> float:
        """The end by plan and extensions."""
        return self.window.closes + sum(act.by for act in self.extensions)

    @property
    def rolled_back(self) -> Act | None:
        """The recorded roll-back, if there is one."""
        return next((act for act in self.acts if act.act == "roll-back"), None)

    def phase_at(self, moment: float) -> Phase:
        """The phase at `moment`."""
        if moment >= self.ends:
            return Phase.ROLLED_BACK if self.rolled_back else Phase.CLOSED
        if moment >= self.closes:
            return Phase.SOAK
        if moment >= self.window.opens:
            latest = self.window.settled_by
            settled = latest if self.frozen_at is None else min(latest, self.frozen_at)
            return Phase.FROZEN if moment >= settled else Phase.FREEZING
        return Phase.BASELINE if moment >= self.window.begins else Phase.PLANNED


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong, as often as it was seen. `first` and `last` are epoch seconds."""

    probe: str
    surface: str
    outcome: str
    what: str
    first: float
    last: float
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a verdict rests on."""

    count: int = 0
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The verdict on one criterion, with its reason and its evidence."""

    criterion: str
    status: Status
    reason: str
    since: float | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    final: bool = False
    """True when only an act can change it: a fact that happened."""
    otherwise: tuple[Status, str] = (Status.PASS, "")
    """What it would be without the facts: (status, reason), for when these are accepted."""
    waived: str | None = None
    accepted: tuple[Act, ...] = ()

    @property
    def holds_gate(self) -> bool:
        """Does it keep the gate closed?"""
        return self.waived is None and self.status is not Status.PASS


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the policy advises, because of which criteria, and why."""

    action: Action
    causes: tuple[str, ...]
    reason: str


def colour(verdicts: Mapping[str, Verdict]) -> Colour:
    """GREEN when every criterion passes or is waived, RED when one fails, else AMBER."""
    counted = [verdict for verdict in verdicts.values() if verdict.waived is None]
    if any(verdict.status is Status.FAIL for verdict in counted):
        return Colour.RED
    if not counted or any(verdict.status is not Status.PASS for verdict in counted):
        return Colour.AMBER
    return Colour.GREEN
