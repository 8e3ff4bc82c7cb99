"""What every probe is and returns. Values only: no I/O, no judgement, no configuration.

Times are seconds since the Unix epoch in UTC (`slot`, `started`) or plain seconds (`*_s`, `phases`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

Figure = str | float | int | bool | None | list[str]


class Kind(StrEnum):
    """What sort of question a probe asks; the closed list of DESIGN's contracts plus `meaning`."""

    READ = "read"
    WRITE = "write"
    AUDIT = "audit"
    FLAG = "flag"
    MEANING = "meaning"


class Outcome(StrEnum):
    """What came of one run."""

    OK = "ok"
    """A read was answered as promised, an answer was measured, or a store shows no write."""
    FAILED = "failed"
    """A read was answered, but not as promised: a wrong status, no answer in the body."""
    REFUSED = "refused"
    """A write was blocked as promised, and its read-back shows no effect. A read refused by the
    write guard has the same outcome; there it is a fault."""
    REFUSED_BADLY = "refused_badly"
    """A write was blocked, but the contract is broken: status, Retry-After or code."""
    QUEUED = "queued"
    """A write was accepted as an intent on a surface where that is allowed."""
    ACCEPTED = "accepted"
    """A write was accepted while writes are open, and its read-back shows it."""
    LEAKED = "leaked"
    """A write was accepted while frozen."""
    LEAKED_BEHIND_REFUSAL = "leaked_behind_refusal"
    """A write was refused, yet its read-back shows it applied."""
    DROPPED = "dropped"
    """A write was accepted, yet its read-back does not show it."""
    UNREACHABLE = "unreachable"
    """No answer, or an answer that proves nothing either way. Never a refusal."""
    SKIPPED = "skipped"
    """The probe did not ask: late, overlapping, stopped, or the watchdog's own network is gone."""
    ON = "on"
    """A flag reads true."""
    OFF = "off"
    """A flag reads false."""
    UNKNOWN = "unknown"
    """A flag answered something that is neither true nor false; or a store cannot tell what was
    written since the reading before: it was started again, its counters were set back."""
    CHANGED = "changed"
    """A store's own records show writes since the reading before."""


class Why(StrEnum):
    """Why a run was skipped: the figure `why` beside the outcome `skipped`."""

    LATE = "late"
    """The watchdog did not come round to it in time."""
    OVERLAP = "overlap"
    """The run before is still in flight."""
    STOPPED = "stopped"
    """A leak was confirmed on this surface, which is left alone since."""
    HARMFUL = "harmful"
    """Nothing says how it could be undone."""
    OWN_FAULT = "own_fault"
    """The watchdog could not ask: its own network, files or memory."""
    ERROR = "error"
    """The probe itself failed: a mistake of ours."""


LEAKS = frozenset({Outcome.LEAKED, Outcome.LEAKED_BEHIND_REFUSAL})
AUDITED = frozenset({Outcome.OK, Outcome.CHANGED, Outcome.UNKNOWN})
"""Outcomes of an audit that was read, whatever it said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The occasion of one run: when it was due, and what the plan expects at that time."""

    slot: float
    phase: str
    frozen: bool
    """True when the plan says writes are blocked now."""
    started: float = 0.0
    """When it really began, by the watchdog's clock (epoch seconds)."""
    freezing: bool = False
    """True while the freeze may still be taking hold: an accepted write does not stop the probe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """The immutable record of one probe run. Plain values: it crosses processes and disks."""

    probe: str
    kind: Kind
    surface: str
    outcome: Outcome
    reason: str
    slot: float
    started: float
    phase: str
    lateness_s: float = 0.0
    duration_s: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    answer: str | None = None
    """The answer's text, for the meaning of it; kept apart from the record itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a probe found out, before the caller adds when it ran and how late."""

    outcome: Outcome
    reason: str
    duration_s: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    answer: str | None = None


def skipped(why: Why, reason: str, *, slots: int = 1) -> Result:
    """The result of a run that was not made; it may stand for several slots."""
    return Result(outcome=Outcome.SKIPPED, reason=reason, figures={"why": why.value, "slots": slots})


class Probe(Protocol):
    """One question put to one target. `run` returns a result for whatever the target does.

    It raises only for a mistake of our own; the caller records that as `skipped`.
    """

    @property
    def name(self) -> str:
        """Unique in its window; the value of the label `probe`."""
        ...

    @property
    def kind(self) -> Kind:
        """What it asks."""
        ...

    @property
    def surface(self) -> str:
        """Where a write enters, or the name itself. At most one attempt is in flight for each."""
        ...

    async def run(self, run: Run) -> Result:
        """Ask once."""
        ...


@runtime_checkable
class WriteProbe(Probe, Protocol):
    """A probe that tries to write, and so can be told to stop and what it still has to undo."""

    def stop(self, reason: str) -> None:
        """Attempt nothing more while frozen."""
        ...

    def owe(self, slot: float) -> None:
        """The canary of the attempt that was due at `slot` was left behind."""
        ...

    def expect(self, slot: float) -> None:
        """The attempt that was due at `slot` had no answer: it may land yet."""
        ...


@runtime_checkable
class HoldsSession(Protocol):
    """A probe that keeps a session from before the window opens, as a connection pool does."""

    async def hold(self) -> None:
        """Open the session where there is none, and keep it alive. Writes nothing, raises nothing."""
        ...


@runtime_checkable
class Follows(Protocol):
    """A probe that compares with its reading before, and so must be told of it after a restart."""

    def resume(self, mark: str, moment: float) -> None:
        """The newest recorded reading was taken at `moment` and left off at `mark`."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A probe that holds something open between its runs."""

    async def aclose(self) -> None:
        """Let go of it. Raises nothing."""
        ...
