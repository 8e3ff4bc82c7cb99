"""Events -> Report: the verdicts of the judge with what a reader needs beside them. Pure."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from monitor import __version__
from monitor.events import Acted, Alerted, Decided, Event, Judged, Observed, PhaseBegan, SelfNoted
from monitor.gate import Gate, ask
from monitor.judge import Judge
from monitor.ledger import Head
from monitor.model import Colour, Decision, Phase, Timeline, Verdict, colour, iso, span
from monitor.plan import Plan
from monitor.policy import decide
from monitor.snapshot import without_evidence
from probes.base import Kind, Observation, Outcome

SCHEMA = "freezewatch.report/1"
SILENT = 10.0
"""Seconds without any record after which nobody is watching."""
KEPT = 20_000
"""Runs of one probe that are kept whole; beyond that they are thinned."""
POINTS = 600
"""Points of a series that are kept for drawing; more are thinned evenly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run, for drawing: when (epoch seconds), a value (seconds, or ΔS), what came of it."""

    at: float
    value: float
    outcome: str


@dataclass(kw_only=True, slots=True)
class ProbeSummary:
    """One probe over the whole window."""

    name: str
    kind: str
    surface: str
    every: float
    outcomes: Counter[str] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)
    """Seconds, of runs that were answered; every other one is let go beyond `KEPT`."""
    points: list[Point] = field(default_factory=list)
    delta_s: list[Point] = field(default_factory=list)
    last_reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that a report says."""

    plan: Plan
    timeline: Timeline
    phase: Phase
    verdict: Colour
    decision: Decision
    criteria: tuple[Verdict, ...]
    close: Gate
    end: Gate
    phases: tuple[PhaseBegan, ...]
    history: tuple[Judged, ...]
    decisions: tuple[Decided, ...]
    alerts: tuple[Alerted, ...]
    acts: tuple[Acted, ...]
    notes: tuple[SelfNoted, ...]
    probes: tuple[ProbeSummary, ...]
    observations: int
    head: Head
    generated_at: float

    @property
    def accepted(self) -> bool:
        """GREEN only because somebody accepted findings."""
        return any(verdict.accepted for verdict in self.criteria)


class Collector:
    """Keeps what a report draws, within bounds, while events go by."""

    def __init__(self, plan: Plan) -> None:
        self.probes = {
            probe.name: ProbeSummary(
                name=probe.name, kind=probe.kind.value, surface=probe.surface, every=probe.every
            )
            for probe in plan.probes
        }
        self.observations = 0
        self.kept: dict[type, deque[Any]] = {
            kind: deque(maxlen=2000) for kind in (PhaseBegan, Judged, Decided, Alerted, Acted, SelfNoted)
        }

    def add(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Observed):
            self.observations += 1
            self._observation(event.observation)
        else:
            self.kept[type(event)].append(event)

    def _observation(self, o: Observation) -> None:
        probe = self.probes.get(o.probe)
        if probe is None:
            return
        if o.kind is Kind.MEANING:
            delta = o.figures.get("delta_s")
            if isinstance(delta, float | int):
                probe.delta_s = _bounded(probe.delta_s)
                probe.delta_s.append(Point(at=o.started, value=float(delta), outcome=o.outcome.value))
            return
        probe.outcomes[o.outcome.value] += 1
        probe.last_reason = o.reason
        if o.outcome is not Outcome.SKIPPED:
            probe.points = _bounded(probe.points)
            probe.points.append(Point(at=o.started, value=o.duration_s, outcome=o.outcome.value))
            if o.outcome is not Outcome.UNREACHABLE:
                if len(probe.durations) >= KEPT:
                    del probe.durations[::2]
                probe.durations.append(o.duration_s)


CHANGED = (
    "window.yaml was changed since the watchdog started: start `freezewatch watch` again, or put it back; "
    "`freezewatch replay` judges under another configuration"
)


def build(plan: Plan, events: Iterable[Event], head: Head, now: float, *, same_plan: bool = True) -> Report:
    """The report on `events` as of `now`.

    With `same_plan`, nothing is green under another configuration than the one that was watched.
    """
    judge, collector = Judge(plan), Collector(plan)
    last: Decided | None = None
    watched: str | None = None
    newest = plan.window.begins
    for event in events:
        judge.feed(event)
        collector.add(event)
        newest = max(newest, event.at)
        if isinstance(event, Decided):
            last = event
        elif isinstance(event, SelfNoted) and event.what == "started":
            watched = event.detail.get("config")
    before = Decision(action=last.action, causes=last.causes, reason=last.reason) if last else None
    verdicts = judge.verdicts(now)
    if same_plan and watched not in (None, plan.digest):
        verdicts = without_evidence(verdicts, CHANGED)
    unwatched = _unwatched(plan, judge.timeline, newest, now)
    if same_plan and unwatched is not None and not verdicts["coverage"].holds_gate:
        verdicts = without_evidence(verdicts, unwatched)
    kept = collector.kept
    return Report(
        plan=plan,
        timeline=judge.timeline,
        phase=judge.timeline.phase_at(now),
        verdict=colour(verdicts),
        decision=decide(now, judge.timeline, verdicts, before),
        criteria=tuple(verdicts.values()),
        close=ask("close", now, judge.timeline, verdicts),
        end=ask("end", now, judge.timeline, verdicts),
        phases=tuple(kept[PhaseBegan]),
        history=tuple(kept[Judged]),
        decisions=tuple(kept[Decided]),
        alerts=tuple(kept[Alerted]),
        acts=tuple(kept[Acted]),
        notes=tuple(kept[SelfNoted]),
        probes=tuple(collector.probes.values()),
        observations=collector.observations,
        head=head,
        generated_at=now,
    )


def _unwatched(plan: Plan, timeline: Timeline, newest: float, now: float) -> str | None:
    """Why the newest record is too old for anything to be green, coverage waived or not; or None."""
    patience = max((2 * probe.every + probe.timeout for probe in plan.probes), default=0.0)
    silent = min(now, timeline.ends) - newest
    if silent <= max(SILENT, patience):
        return None
    return f"nobody has watched for {span(silent)}, since {iso(newest)}"


def _bounded(points: list[Point]) -> list[Point]:
    return points if len(points) < KEPT else thinned(points, KEPT // 2)


def thinned(points: list[Point], most: int = POINTS) -> list[Point]:
    """At most `most` points: in each of as many stretches the largest value, so that no peak is lost."""
    if len(points) <= most:
        return points
    size = len(points) / most
    return [
        max(points[int(i * size) : int((i + 1) * size)], key=lambda point: point.value) for i in range(most)
    ]


def as_json(report: Report) -> dict[str, Any]:
    """`freezewatch.report/1`."""
    timeline, window = report.timeline, report.plan.window
    return {
        "schema": SCHEMA,
        "window": {
            "id": window.id,
            "title": window.title,
            "opens": iso(window.opens),
            "closes": iso(timeline.closes),
            "planned_closes": iso(window.closes),
            "ends": iso(timeline.ends),
            "phase": report.phase.value,
            "extensions": [
                {"by": act.by, "at": iso(act.at), "who": act.who, "reason": act.reason}
                for act in timeline.extensions
            ],
        },
        "verdict": report.verdict.value,
        "accepted_findings": report.accepted,
        "decision": {
            "action": report.decision.action.value,
            "causes": list(report.decision.causes),
            "reason": report.decision.reason,
        },
        "criteria": [_criterion(verdict) for verdict in report.criteria],
        "gate": {"close": report.close.as_json(), "end": report.end.as_json()},
        "ledger": {"observations": report.observations, "head": report.head.link},
        "generated_at": iso(report.generated_at),
        "version": __version__,
    }


def _criterion(verdict: Verdict) -> dict[str, Any]:
    return {
        "criterion": verdict.criterion,
        "verdict": verdict.status.value,
        "waived": verdict.waived,
        "accepted": [{"at": iso(act.at), "who": act.who, "reason": act.reason} for act in verdict.accepted],
        "reason": verdict.reason,
        "since": _iso(verdict.since),
        "figures": dict(verdict.figures),
        "findings": [
            {
                "probe": finding.probe,
                "surface": finding.surface,
                "outcome": finding.outcome,
                "what": finding.what,
                "first": iso(finding.first),
                "last": iso(finding.last),
                "count": finding.count,
            }
            for finding in verdict.findings
        ],
        "evidence": {
            "count": verdict.evidence.count,
            "first": _iso(verdict.evidence.first),
            "last": _iso(verdict.evidence.last),
        },
    }


def _iso(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)
