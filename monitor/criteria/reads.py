"""reads: availability and latency stay within the objective, and the error budget is not burnt too fast.

Errors burn in two lookbacks at once, as in the Google SRE workbook's multi-window alerts (chapter 5), scaled
from its 30 days to a window of an hour: the last twelfth and the last sixtieth of it. "Too fast" is a
matter of evidence: more errors than the objective explains at one in a million.
"""

from dataclasses import dataclass, field
from math import ceil

from monitor.criteria.base import (
    Condition,
    Findings,
    Rolling,
    Tally,
    grouped,
    improbable,
    unconfigured,
)
from monitor.model import Status, Timeline, Verdict
from monitor.plan import Plan
from probes.base import Kind, Observation, Outcome

Said = list[tuple[str, str]]
"""(read, what is wrong with it)."""
ENOUGH = 3
"""Answers of one read before it can pass."""
BASELINE = 5
"""Answers of one read in the baseline before its latency can be compared."""
SLOW_SHARE = 0.05
"""By definition of a 95th percentile."""

_ERRORS = frozenset({Outcome.FAILED, Outcome.REFUSED, Outcome.UNREACHABLE})


@dataclass(slots=True)
class _Read:
    """What is known of one read, or of all of them together."""

    errors: tuple[Rolling, Rolling]
    slow: tuple[Rolling, Rolling]
    failing: Condition
    slowness: Condition
    answered: int = 0
    asked: int = 0
    bad: int = 0
    baseline: list[float] = field(default_factory=list)
    limit: float | None = None
    ever_answered: bool = False


class Reads:
    """Judges reads from `opens` to the end of the soak."""

    name = "reads"

    def __init__(self, plan: Plan) -> None:
        self._objective = plan.objectives.reads
        self._planned = plan.of(Kind.READ)
        self._long, self._short = lookbacks(plan)
        self._hold = plan.window.hold
        self._reads = {probe.name: self._new() for probe in self._planned}
        self._total = self._new()
        self._answering = self._new()
        """All reads that were ever answered: the others may be a mistake in the plan, and prove nothing."""
        self._findings = Findings()
        self._tally = Tally()
        self._spent_since: float | None = None
        length = plan.window.closes - plan.window.opens
        planned = sum(length / probe.every for probe in self._planned)
        self._budget = max(1.0, planned * (1 - self._objective.availability))

    def _new(self) -> _Read:
        return _Read(
            errors=(Rolling(self._long), Rolling(self._short)),
            slow=(Rolling(self._long), Rolling(self._short)),
            failing=Condition(hold=self._hold),
            slowness=Condition(hold=self._hold),
        )

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one read."""
        read = self._reads.get(observation.probe)
        if (
            read is None
            or observation.kind is not Kind.READ
            or observation.outcome is Outcome.SKIPPED
            or observation.started >= timeline.ends
        ):
            return
        good = observation.outcome is Outcome.OK
        read.ever_answered |= observation.outcome is not Outcome.UNREACHABLE
        if observation.started < timeline.window.opens:
            if good:
                read.baseline.append(observation.duration_s)
            return
        self._tally.add(observation.started)
        self._errors(read, observation)
        if good:
            self._latency(read, observation)

    def _errors(self, read: _Read, observation: Observation) -> None:
        bad = observation.outcome in _ERRORS
        if bad:
            self._findings.add(observation)
        allowed = 1 - self._objective.availability
        for each in (read, self._total, self._answering) if read.ever_answered else (read, self._total):
            each.asked += 1
            each.bad += bad
            for lookback in each.errors:
                lookback.add(observation.started, bad)
            burning = all(improbable(look.bad, look.count, allowed) for look in each.errors)
            each.failing.update(observation.started, burning, self._what(each))
        if (
            self._spent_since is None
            and self._answering.bad > self._budget
            and improbable(self._answering.bad, self._answering.asked, allowed)
        ):
            self._spent_since = observation.started

    @staticmethod
    def _what(read: _Read) -> str:
        long = read.errors[0]
        return f"{long.bad} of the last {long.count} reads failed"

    def _latency(self, read: _Read, observation: Observation) -> None:
        read.answered += 1
        if read.limit is None:
            if len(read.baseline) < BASELINE:
                return
            base = percentile(read.baseline, 0.95)
            read.limit = max(base * self._objective.p95_over_baseline, base + self._objective.latency_floor)
        slow = observation.duration_s > read.limit
        for each in (read, self._answering):
            for lookback in each.slow:
                lookback.add(observation.started, slow)
            breached = all(improbable(look.bad, look.count, SLOW_SHARE) for look in each.slow)
            long = each.slow[0]
            what = f"{long.bad} of the last {long.count} answers slower than the baseline allows"
            each.slowness.update(observation.started, breached, what)
        if slow and (read.slowness.breached_since or self._answering.slowness.breached_since):
            self._findings.add(observation, "answers slower than the baseline allows", "slow")

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """FAIL while errors or latency break the objective, or for good once the budget is spent."""
        if not self._planned:
            return unconfigured(self.name, "no read has a probe")
        failing, questions = self._states(now, timeline)
        fine = f"{self._total.asked - self._total.bad} of {self._total.asked} reads answered in time"
        otherwise = (_status(failing, questions), grouped(failing or questions) or fine)
        spent = self._spent_since is not None
        if spent:
            failed = f"{self._answering.bad} of {self._answering.asked} reads failed"
            failing.insert(0, ("", f"the error budget of {self._budget:.0f} is spent: {failed}"))
        return Verdict(
            criterion=self.name,
            status=_status(failing, questions),
            reason=grouped(failing or questions) or fine,
            otherwise=otherwise,
            since=self._since(spent) if failing else self._tally.first,
            figures=self._figures(),
            findings=self._findings.all,
            evidence=self._tally.evidence,
            final=spent,
        )

    def _states(self, now: float, timeline: Timeline) -> tuple[Said, Said]:
        failing: Said = []
        questions: Said = []
        for name, read in [("all reads", self._answering), *self._reads.items()]:
            if name != "all reads" and not read.ever_answered and read.asked:
                questions.append((name, "never answered, before or after the window opened"))
                continue
            for condition in (read.failing, read.slowness):
                if condition.status is Status.FAIL:
                    failing.append((name, condition.reason))
                elif condition.status is Status.INCONCLUSIVE:
                    questions.append((name, condition.reason))
        if not self._ever_answered and self._total.asked:
            return [], [("", "no read was ever answered: is the target down, or the way to it?")]
        return failing, questions + self._missing(now, timeline)

    @property
    def _ever_answered(self) -> bool:
        return any(read.ever_answered for read in self._reads.values())

    def _missing(self, now: float, timeline: Timeline) -> Said:
        if now < timeline.window.opens:
            return [("", "the window has not opened: no read was asked in it yet")]
        questions: Said = []
        for name, read in self._reads.items():
            if read.asked < ENOUGH:
                questions.append((name, f"asked {read.asked} of the {ENOUGH} times needed"))
            elif len(read.baseline) < BASELINE:
                count = f"{len(read.baseline)} of {BASELINE}"
                questions.append((name, f"{count} answers in the baseline to compare latency with"))
        return questions

    def _since(self, spent: bool) -> float | None:
        conditions = [c for r in (self._answering, *self._reads.values()) for c in (r.failing, r.slowness)]
        breached = [c.breached_since for c in conditions if c.breached_since is not None]
        return min(breached, default=self._spent_since if spent else None)

    def burn_rates(self) -> dict[str, float]:
        """How many times faster than allowed errors burn, for both lookbacks."""
        allowed = 1 - self._objective.availability
        long, short = self._total.errors
        return {
            "long": long.bad / long.count / allowed if long.count else 0.0,
            "short": short.bad / short.count / allowed if short.count else 0.0,
        }

    def _figures(self) -> dict[str, str | float | int | bool | None | list[str]]:
        baseline = [d for read in self._reads.values() for d in read.baseline]
        total = self._total
        incidents = sum(
            len(c.incidents)
            for r in (self._answering, *self._reads.values())
            for c in (r.failing, r.slowness)
        )
        return {
            "asked": total.asked,
            "failed": total.bad,
            "availability": round(1 - total.bad / total.asked, 6) if total.asked else None,
            "error_budget_used": round(total.bad / self._budget, 3),
            "burn_rate_long": round(self.burn_rates()["long"], 2),
            "burn_rate_short": round(self.burn_rates()["short"], 2),
            "baseline_p95_s": round(percentile(baseline, 0.95), 4) if baseline else None,
            "slow": self._answering.slow[0].bad,
            "incidents": incidents,
        }


def _status(failing: Said, questions: Said) -> Status:
    if failing:
        return Status.FAIL
    return Status.INCONCLUSIVE if questions else Status.PASS


def lookbacks(plan: Plan) -> tuple[float, float]:
    """The long and the short lookback in seconds: a twelfth and a sixtieth of the window, or a few asks."""
    length = plan.window.closes - plan.window.opens
    slowest = max((probe.every for probe in plan.of(Kind.READ)), default=1.0)
    return max(length / 12, 10 * slowest), max(length / 60, 5 * slowest)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
