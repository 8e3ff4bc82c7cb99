"""coverage: every probe ran as often as planned, with no gap longer than allowed; the watchdog was up."""

from dataclasses import dataclass

from monitor.criteria.base import Tally, grouped, unconfigured
from monitor.grid import Grid
from monitor.model import Status, Timeline, Verdict, iso, span
from monitor.plan import Plan, Planned
from probes.base import Kind, Observation, Outcome, Why


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
        questions = self._open_questions(now, timeline)
        planned, ran = self._ratio(now, timeline)
        share = min(1.0, ran / planned) if planned else 0.0
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
                "longest_gap_s": round(max(p.longest for p in self._probes.values()), 3),
                "worst_lateness_s": round(self._lateness, 4),
            },
            evidence=self._tally.evidence,
        )

    def _open_questions(self, now: float, timeline: Timeline) -> list[tuple[str, str]]:
        if now < timeline.window.opens:
            return [("", "the window has not opened: nothing had to be asked yet")]
        silent = [self._silence(probe, now, timeline) for probe in self._probes.values()]
        gaps = [gap for gap in silent if gap is not None]
        if len(gaps) == len(silent) and gaps:
            longest = max(gaps, key=lambda gap: gap[0])
            return [
                (
                    "",
                    f"the watchdog recorded nothing for {span(longest[0])}, from {iso(longest[1])}",
                )
            ]
        questions = [
            (probe.planned.name, f"nothing for {span(gap[0])}, from {iso(gap[1])}")
            for probe, gap in zip(self._probes.values(), silent, strict=True)
            if gap is not None
        ]
        return questions or self._too_few(now, timeline)

    def _span(self, probe: _Probe, now: float, timeline: Timeline) -> tuple[float, float]:
        """The time in which this probe had to ask, up to now."""
        writes_nothing_when_open = probe.planned.kind is Kind.WRITE and probe.planned.spec.undo is None
        ends = timeline.closes if writes_nothing_when_open else timeline.ends
        return timeline.window.opens, min(now, ends)

    def _silence(self, probe: _Probe, now: float, timeline: Timeline) -> tuple[float, float] | None:
        """The longest time without a run that is longer than allowed: (seconds, from)."""
        if probe.stopped:
            return None
        every, timeout = probe.planned.every, probe.planned.timeout
        allowed = self._objective.gap or max(3 * every, 5.0)
        start, end = self._span(probe, now, timeline)
        last = start if probe.last is None else probe.last
        over = now >= end and end < now
        stale = allowed if over else 2 * every + timeout
        found = []
        if probe.longest > allowed + 1e-3:
            found.append((probe.longest, probe.longest_from))
        if end - last > stale + 1e-3:
            found.append((end - last, last))
        return max(found, default=None)

    def _too_few(self, now: float, timeline: Timeline) -> list[tuple[str, str]]:
        if not self._ratio(now, timeline)[0] and not any(p.stopped for p in self._probes.values()):
            return [("", "too early: no run is due yet")]
        questions = []
        for probe in self._probes.values():
            planned, ran = self._counts(probe, now, timeline)
            if not probe.stopped and planned >= 3 and ran < self._objective.share * planned:
                questions.append((probe.planned.name, f"{ran} of {planned} planned runs"))
        return questions

    def _counts(self, probe: _Probe, now: float, timeline: Timeline) -> tuple[int, int]:
        """(planned, ran) up to the last moment of which a record can be expected by now."""
        start, end = self._span(probe, now, timeline)
        settled = min(end, now - probe.planned.every - probe.planned.timeout)
        planned = probe.grid.between(start, settled)
        return planned, min(planned, probe.ran)

    def _ratio(self, now: float, timeline: Timeline) -> tuple[int, int]:
        counts = [self._counts(probe, now, timeline) for probe in self._probes.values() if not probe.stopped]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)
