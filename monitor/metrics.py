"""Every metric name lives here. Fed with events and verdicts only after they are durable.

The registry is passed in. Every label set exists from the start, at 0, so that a first leak is a step from
0 to 1 that `increase()` sees. The window's id stands in `freezewatch_window_info` alone.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitor import __version__
from monitor.criteria.storage import WHOSE
from monitor.drift.lambda_ import Trend
from monitor.events import Event, Observed
from monitor.judge import Judge
from monitor.model import CRITERIA, Action, Decision, Phase, Status, Timeline, Verdict
from monitor.plan import Plan, Planned
from monitor.snapshot import Snapshot
from probes.base import Kind, Observation, Outcome

OUTCOMES: Mapping[Kind, tuple[Outcome, ...]] = {
    Kind.READ: (
        Outcome.OK,
        Outcome.FAILED,
        Outcome.REFUSED,
        Outcome.UNREACHABLE,
        Outcome.SKIPPED,
    ),
    Kind.WRITE: (
        Outcome.REFUSED,
        Outcome.REFUSED_BADLY,
        Outcome.QUEUED,
        Outcome.ACCEPTED,
        Outcome.LEAKED,
        Outcome.LEAKED_BEHIND_REFUSAL,
        Outcome.DROPPED,
        Outcome.UNREACHABLE,
        Outcome.SKIPPED,
    ),
    Kind.AUDIT: (
        Outcome.OK,
        Outcome.CHANGED,
        Outcome.UNKNOWN,
        Outcome.UNREACHABLE,
        Outcome.SKIPPED,
    ),
    Kind.FLAG: (
        Outcome.ON,
        Outcome.OFF,
        Outcome.UNKNOWN,
        Outcome.UNREACHABLE,
        Outcome.SKIPPED,
    ),
}
PHASES = ("total", "dns", "connect", "tls", "first_byte", "body")
SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENESS = (0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
STATUSES = (*Status, "WAIVED")


class _ProbeMetrics:
    """The series of one probe, looked up once."""

    def __init__(self, metrics: "Metrics", probe: Planned) -> None:
        labels = (probe.name, probe.kind.value, probe.surface)
        self.runs = {o: metrics.runs.labels(*labels, o.value) for o in OUTCOMES[probe.kind]}
        self.lateness = metrics.lateness.labels(probe.kind.value)
        self.durations = {
            phase: metrics.duration.labels(probe.name, probe.kind.value, phase) for phase in PHASES
        }
        self.attempts = (
            {
                o: metrics.attempts.labels(probe.name, probe.surface, o.value)
                for o in self.runs
                if o is not Outcome.SKIPPED
            }
            if probe.kind is Kind.WRITE
            else {}
        )


class Metrics:
    """The metrics of one watched window in `registry`."""

    def __init__(self, plan: Plan, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._name_probes()
        self._name_judgements()
        self._name_itself()
        window = plan.window
        self._gauge("build_info", "The version that runs.", "version").labels(__version__).set(1)
        info = self._gauge("window_info", "The window that is watched.", "id", "title")
        info.labels(window.id, window.title).set(1)
        self.opens.set(window.opens)
        self.closes.set(window.closes)
        self.ends.set(window.closes + window.soak)
        self._probes = {probe.name: _ProbeMetrics(self, probe) for probe in plan.probes}
        self._audits = plan.of(Kind.AUDIT)
        self._measured = [probe.name for probe in plan.probes if probe.measured]
        self._one_hot()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"freezewatch_{name}", text, labels, registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"freezewatch_{name}", text, labels, registry=self._registry)

    def _name_probes(self) -> None:
        by_probe = ("probe", "kind", "surface")
        self.runs = self._counter("probe_runs_total", "Runs of a probe by outcome.", *by_probe, "outcome")
        self.attempts = self._counter(
            "write_attempts_total", "Write attempts by outcome.", "probe", "surface", "outcome"
        )
        self.storage = self._counter(
            "storage_writes_total", "Writes that a storage audit found while frozen.", "probe", "whose"
        )
        self.duration = Histogram(
            "freezewatch_probe_duration_seconds",
            "How long the target took, by phase of the exchange; our own delay is taken out.",
            ("probe", "kind", "phase"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.lateness = Histogram(
            "freezewatch_probe_lateness_seconds",
            "How long after its slot a probe started.",
            ("kind",),
            buckets=LATENESS,
            registry=self._registry,
        )

    def _name_judgements(self) -> None:
        self.drift = self._gauge("answer_drift", "ΔS of the newest answer: 1 - cosine.", "probe")
        self.slope = self._gauge("answer_drift_trend", "Slope of ΔS a sample (Theil-Sen).", "probe")
        self.state = self._gauge("answer_state", "λ: 1 for the state that holds.", "probe", "state")
        self.burn = self._gauge(
            "error_budget_burn_rate", "How many times faster than allowed reads fail.", "lookback"
        )
        self.criterion = self._gauge(
            "criterion_status", "1 for the verdict that holds.", "criterion", "status"
        )
        self.phase = self._gauge("window_phase", "1 for the phase that holds.", "phase")
        self.opens = self._gauge("window_opens_timestamp_seconds", "When the window opens.")
        self.closes = self._gauge("window_closes_timestamp_seconds", "When it closes, as extended.")
        self.ends = self._gauge("window_ends_timestamp_seconds", "When the last question is asked.")
        self.decision = self._gauge("decision", "1 for the advice that holds.", "action")
        self.rolled_back = self._gauge("rolled_back", "1 once somebody recorded a roll-back.")
        self.gate = self._gauge("gate_open", "1 when the gate is open.", "at")

    def _name_itself(self) -> None:
        self.coverage = self._gauge("coverage_ratio", "Share of the planned runs that were made.")
        self.tick = self._gauge(
            "watchdog_last_tick_timestamp_seconds",
            "When the watchdog last judged durable evidence.",
        )
        self.ledger_failing = self._gauge("ledger_failing", "1 while the ledger takes no evidence.")
        self.ledger_backlog = self._gauge("ledger_backlog_events", "Events that are not durable yet.")
        self.embedder_up = self._gauge(
            "embedder_up", "1 while the embedder answers; NaN when no answer is measured."
        )
        self.embedder_queue = self._gauge("embedder_queue_answers", "Answers that wait for an embedding.")

    def _one_hot(self) -> None:
        """Make every label set exist."""
        for probe in self._measured:
            self.drift.labels(probe).set(float("nan"))
            self.slope.labels(probe).set(0)
            for state in Trend:
                self.state.labels(probe, state.value).set(state is Trend.INCONCLUSIVE)
        self._audited = {
            (probe.name, whose): self.storage.labels(probe.name, whose)
            for probe in self._audits
            for whose in WHOSE
        }
        self._written = dict.fromkeys(self._audited, 0)
        for name in CRITERIA:
            for status in STATUSES:
                self.criterion.labels(name, str(status)).set(status == Status.INCONCLUSIVE)
        for phase in Phase:
            self.phase.labels(phase.value).set(phase is Phase.PLANNED)
        for action in Action:
            self.decision.labels(action.value).set(action is Action.HOLD)
        for lookback in ("long", "short"):
            self.burn.labels(lookback).set(0)
        for at in ("close", "end"):
            self.gate.labels(at).set(0)

    def event(self, event: Event) -> None:
        """Count one durable event."""
        if isinstance(event, Observed) and event.observation.kind is not Kind.MEANING:
            self._observation(event.observation)

    def _observation(self, o: Observation) -> None:
        series = self._probes.get(o.probe)
        if series is None or o.outcome not in series.runs:
            return
        slots = o.figures.get("slots", 1) if o.outcome is Outcome.SKIPPED else 1
        series.runs[o.outcome].inc(slots if isinstance(slots, int) else 1)
        if o.outcome is Outcome.SKIPPED:
            return
        if series.attempts:
            series.attempts[o.outcome].inc()
        series.lateness.observe(o.lateness_s)
        if isfinite(o.duration_s):
            series.durations["total"].observe(o.duration_s)
        for phase, seconds in o.phases.items():
            if phase in series.durations and isfinite(seconds):
                series.durations[phase].observe(seconds)

    def judged(self, now: float, judge: Judge, verdicts: Mapping[str, Verdict], decision: Decision) -> None:
        """Show the newest verdicts, decision, trends and times."""
        for name, verdict in verdicts.items():
            shown: Any = "WAIVED" if verdict.waived is not None else verdict.status
            for status in STATUSES:
                self.criterion.labels(name, str(status)).set(status == shown)
        for action in Action:
            self.decision.labels(action.value).set(action is decision.action)
        self.timeline(now, judge.timeline)
        for key, series in self._audited.items():
            found = judge.storage.writes[key]
            series.inc(max(0, found - self._written[key]))
            self._written[key] = max(found, self._written[key])
        for lookback, rate in judge.reads.burn_rates().items():
            self.burn.labels(lookback).set(rate)
        for probe, (delta, trend, rate) in judge.meaning.trends().items():
            if delta is not None:
                self.drift.labels(probe).set(delta)
            self.slope.labels(probe).set(rate)
            for state in Trend:
                self.state.labels(probe, state.value).set(state is trend)
        ratio = verdicts["coverage"].figures.get("ratio")
        due = bool(verdicts["coverage"].figures.get("planned"))
        self.coverage.set(ratio if due and isinstance(ratio, float | int) else float("nan"))
        self.tick.set(now)

    def gates(self, snapshot: Snapshot) -> None:
        """Show whether the gates are open."""
        self.gate.labels("close").set(snapshot.gate("close", snapshot.now).open)
        self.gate.labels("end").set(snapshot.gate("end", snapshot.now).open)

    def itself(self, *, backlog: int, waiting: int, embedder_up: bool | None) -> None:
        """Show how the watchdog itself is doing; `embedder_up` is None when none is needed."""
        self.ledger_backlog.set(backlog)
        self.embedder_queue.set(waiting)
        self.embedder_up.set(float("nan") if embedder_up is None else embedder_up)

    def timeline(self, now: float, timeline: Timeline) -> None:
        """Show the phase and the end."""
        current = timeline.phase_at(now)
        for phase in Phase:
            self.phase.labels(phase.value).set(phase is current)
        self.closes.set(timeline.closes)
        self.rolled_back.set(timeline.rolled_back is not None)
        self.ends.set(timeline.ends)
