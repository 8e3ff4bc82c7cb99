"""What a criterion is, and the small tools that several of them need."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

from monitor.model import Evidence, Finding, Status, Timeline, Verdict, span
from probes.base import Observation

DISTINCT = 40
"""Different findings that are kept for one criterion; the rest is counted under the last of them."""


class Criterion(Protocol):
    """One acceptance target."""

    @property
    def name(self) -> str:
        """As in DESIGN §4."""
        ...

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one observation."""
        ...

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """The verdict at `now`. Changes nothing."""
        ...


class Findings:
    """What is wrong, each thing once with how often it was seen."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Finding] = {}

    def add(
        self,
        observation: Observation,
        what: str | None = None,
        outcome: str | None = None,
        *,
        same: str | None = None,
    ) -> None:
        """Count one more of what `observation` shows. What has the same `same` is one finding, told as the
        first of them was.
        """
        text = what or observation.reason
        outcome = outcome or observation.outcome.value
        key = (observation.probe, outcome, same or text)
        at = observation.started
        known = self._found.get(key)
        if known is not None:
            self._found[key] = replace(known, last=at, count=known.count + 1)
        elif len(self._found) < DISTINCT:
            self._found[key] = Finding(
                probe=observation.probe,
                surface=observation.surface,
                outcome=outcome,
                what=text,
                first=at,
                last=at,
            )
        else:
            key = next(reversed(self._found))
            known = self._found[key]
            self._found[key] = replace(known, last=at, count=known.count + 1)

    @property
    def all(self) -> tuple[Finding, ...]:
        """Every finding in the order of its first sight."""
        return tuple(self._found.values())

    def __len__(self) -> int:
        return len(self._found)


class Tally:
    """How much evidence there is, from when to when."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.count = 0
        self.first: float | None = None
        self.last: float | None = None

    def add(self, moment: float) -> None:
        """One more, seen at `moment`."""
        self.count += 1
        if self.first is None:
            self.first = moment
        self.last = moment

    @property
    def evidence(self) -> Evidence:
        """As a value."""
        return Evidence(count=self.count, first=self.first, last=self.last)


@dataclass(slots=True)
class Condition:
    """Something that can recover: failing while breached, unproven until healthy for `hold` seconds.

    Moves only when told of evidence, never by the passing of time alone.
    """

    hold: float
    breached_since: float | None = None
    healthy_since: float | None = None
    last: float | None = None
    what: str = ""
    incidents: list[tuple[float, float, str]] = field(default_factory=list)

    def update(self, moment: float, breached: bool, what: str = "") -> None:
        """Evidence at `moment` says that it is breached, or not."""
        self.last = moment
        if breached:
            self.what = what or self.what
            self.healthy_since = None
            if self.breached_since is None:
                self.breached_since = moment
        elif self.breached_since is not None:
            self.incidents.append((self.breached_since, moment, self.what))
            self.breached_since = None
            self.healthy_since = moment

    @property
    def status(self) -> Status:
        """FAIL while breached, INCONCLUSIVE while recovering, else PASS."""
        if self.breached_since is not None:
            return Status.FAIL
        if self.healthy_since is not None and self.healthy_for < self.hold:
            return Status.INCONCLUSIVE
        return Status.PASS

    @property
    def healthy_for(self) -> float:
        """Seconds without a breach since the last one ended."""
        if self.healthy_since is None or self.last is None:
            return 0.0
        return self.last - self.healthy_since

    @property
    def reason(self) -> str:
        """What is wrong, or what is still waited for."""
        if self.breached_since is not None:
            return self.what
        return f"healthy again for {span(self.healthy_for)} of {span(self.hold)}, after: {self.what}"


class Rolling:
    """Counts of all and of bad ones over the last `width` seconds, in twelve steps. O(1) each."""

    __slots__ = ("_step", "_steps", "bad", "count", "width")

    def __init__(self, width: float) -> None:
        self.width = width
        self._step = width / 12
        self._steps: deque[list[float]] = deque()
        self.count = 0
        self.bad = 0

    def add(self, moment: float, bad: bool) -> None:
        """One more at `moment`; moments may come slightly out of order."""
        number = moment // self._step
        if not self._steps or number > self._steps[-1][0]:
            self._steps.append([number, 0, 0])
            while self._steps[0][0] <= number - 12:
                _, count, missed = self._steps.popleft()
                self.count -= int(count)
                self.bad -= int(missed)
        self._steps[-1][1] += 1
        self._steps[-1][2] += bad
        self.count += 1
        self.bad += bad


def improbable(bad: int, count: int, share: float) -> bool:
    """Are `bad` of `count` more than a true share of `share` explains, at one in a million?

    The upper tail of the binomial distribution. So strict because it is asked at every observation
    of a window: at one in a thousand a healthy hour would break many times.
    """
    if bad < 2 or bad <= count * share:
        return False
    from scipy.special import bdtrc

    return float(bdtrc(bad - 1, count, share)) < 1e-6


NAMED = 3
"""Names that a reason spells out before it counts the rest."""


def grouped(said: list[tuple[str, str]]) -> str:
    """(name, what) pairs as one sentence, names with the same `what` together: `a, b and 4 more: gone`."""
    by_what: dict[str, list[str]] = {}
    for name, what in said:
        by_what.setdefault(what, []).append(name)
    parts = []
    for what, names in by_what.items():
        shown = ", ".join(names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{shown}{more}: {what}" if shown else what)
    return "; ".join(parts)


def unconfigured(criterion: str, missing: str) -> Verdict:
    """The verdict where nothing in `window.yaml` can give evidence."""
    return Verdict(
        criterion=criterion,
        status=Status.INCONCLUSIVE,
        reason=f"not configured: {missing}",
        final=True,
    )
