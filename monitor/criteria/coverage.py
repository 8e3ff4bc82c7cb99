"""coverage: every probe ran as often as planned, with no gap longer than allowed; the watchdog was up."""

from dataclasses import dataclass

from monitor.criteria.base import Tally, grouped, unconfigured
from monitor.grid import Grid
from monitor.model import Status, Timeline, Verdict, iso, span
from monitor.plan import EDGE, Plan, Planned
from probes.base import Kind, Observation, Outcome, Why

SLACK = 1e-3
"""Seconds that times lose on their way through the ledger."""
FEW = 3
"""Planned runs below which a share says nothing."""


@dataclass(slots=True)
class _Probe:
    planned: Planned
    grid: Grid
    ran: int = 0
    last: float | None = None
    longest: float = 0.0
    longest_from: float = 0.0
    missed: int = 0
    stopped: bool = False


class Coverage:
    """Compares what was asked with what was planned, from `opens` to the end of the soak."""

    name = "coverage"

    def __init__(self, plan: Plan, grids: dict[str, Grid]) -> None:
        self._objective = plan.objectives.coverage
        self._probes = {probe.name: _Probe(planned=probe, grid=grids[probe.name]) for probe in plan.probes}
        self._tally = Tally()
        self._lateness = 0.0
        self._last_any: float | None = None

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one run, or from one that should have been."""
        probe = self._probes.get(observation.probe)
        if probe is None or observation.kind is Kind.MEANING:
            return
        if not timeline.window.opens <= observation.slot < timeline.ends:
            return
        if observation.outcome is Outcome.SKIPPED:
            self._skipped(probe, observation)
            return
        self._tally.add(observation.started)
        self._lateness = max(self._lateness, observation.lateness_s)
        start = timeline.window.opens if probe.last is None else probe.last
        self._stretch(probe, start, observation.slot)
        probe.ran += 1
        probe.last = max(observation.slot + observation.duration_s, probe.last or 0.0)

    @staticmethod
    def _skipped(probe: _Probe, observation: Observation) -> None:
        """A run that overlapped stands for the time it filled; one after a leak is not wanted."""
        slots = observation.figures.get("slots", 1)
        count = slots if isinstance(slots, int) else 1
        why = observation.figures.get("why")
        if why == Why.STOPPED:
            probe.stopped = True
        elif why == Why.OVERLAP:
            probe.ran += count
        else:
            probe.missed += count

    @staticmethod
    def _stretch(probe: _Probe, start: float, end: float) -> None:
        if end - start > probe.longest:
            probe.longest, probe.longest_from = end - start, start

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """INCONCLUSIVE where evidence is missing; never FAIL, since nothing seen is nothing broken."""
        if not self._probes:
            return unconfigured(self.name, "there is no probe at all")
        seen = [self._look(p, now, timeline) for p in self._probes.values() if not p.stopped]
        questions = self._open_questions(seen, now, timeline)
        planned, ran = sum(s.planned for s in seen), sum(s.ran for s in seen)
        share = ran / planned if planned else 0.0
        return Verdict(
            criterion=self.name,
            status=Status.INCONCLUSIVE if questions else Status.PASS,
            reason=grouped(questions) or f"{ran} of {planned} planned runs, {share:.1%}",
            since=self._tally.first,
            figures={
                "planned": planned,
                "ran": ran,
                "ratio": round(share, 4),
                "missed": sum(p.missed for p in self._probes.values()),
                "longest_gap_s": round(max((s.gap for s in seen), default=0.0), 3),
                "worst_lateness_s": round(self._lateness, 4),
            },
            evidence=self._tally.evidence,
        )

    def _look(self, probe: _Probe, now: float, timeline: Timeline) -> "_Seen":
        """What a probe did up to now, against what it had to do."""
        planned = probe.planned
        opens = timeline.window.opens
        # A slot that comes a little before the edge is run a little later, and so not at all.
        ends = timeline.ends if planned.asked_when_open else timeline.closes - 2 * EDGE
        end = min(now, ends)
        last = opens if probe.last is None else probe.last
        allowed = self._objective.gap or max(3 * planned.every, 5.0)
        stale = allowed if end < now else 2 * planned.every + planned.timeout
        silences = []
        if probe.longest > allowed + SLACK:
            silences.append((probe.longest, probe.longest_from))
        if end - last > stale + SLACK:
            silences.append((end - last, last))
        due = probe.grid.between(opens, min(end, now - planned.every - planned.timeout))
        return _Seen(
            name=planned.name,
            planned=due,
            ran=min(due, probe.ran),
            gap=max(probe.longest, end - last),
            silence=max(silences, default=None),
        )

    def _open_questions(self, seen: list["_Seen"], now: float, timeline: Timeline) -> list[tuple[str, str]]:
        if now < timeline.window.opens:
            return [("", "the window has not opened: nothing had to be asked yet")]
        silences = [s.silence for s in seen if s.silence is not None]
        if silences and len(silences) == len(self._probes):
            seconds, since = max(silences)
            return [("", f"the watchdog recorded nothing for {span(seconds)}, from {iso(since)}")]
        if silences:
            return [
                (s.name, f"nothing for {span(s.silence[0])}, from {iso(s.silence[1])}")
                for s in seen
                if s.silence is not None
            ]
        if seen and not any(s.planned for s in seen):
            return [("", "too early: no run is due yet")]
        share = self._objective.share
        return [
            (s.name, f"{s.ran} of {s.planned} planned runs")
            for s in seen
            if s.planned >= FEW and s.ran < share * s.planned
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """One probe up to now. `silence` is (seconds, from) where it was longer than allowed."""

    name: str
    planned: int
    ran: int
    gap: float
    silence: tuple[float, float] | None
