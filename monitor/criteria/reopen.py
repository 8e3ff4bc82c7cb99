"""reopen: after the end every surface accepts canary writes again, shows them, and lets them be undone."""

from dataclasses import dataclass

from monitor.criteria.base import Findings, Tally, grouped, unconfigured
from monitor.model import Status, Timeline, Verdict, count
from monitor.plan import Plan
from probes.base import Kind, Observation, Outcome

ENOUGH = 2


@dataclass(slots=True)
class _Surface:
    accepted: int = 0
    undone: int = 0
    last: Observation | None = None


class Reopen:
    """Judges attempts after `closes`."""

    name = "reopen"

    def __init__(self, plan: Plan) -> None:
        self._planned = [probe for probe in plan.of(Kind.WRITE) if not probe.spec.variants]
        self._surfaces = {probe.name: _Surface() for probe in self._planned}
        self._without_undo = [p.name for p in self._planned if not p.spec.undoable]
        self._findings = Findings()
        self._tally = Tally()
        self._since: float | None = None

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one attempt after the end."""
        surface = self._surfaces.get(observation.probe)
        if surface is None or observation.outcome is Outcome.SKIPPED:
            return
        if observation.started < timeline.closes:
            return
        self._tally.add(observation.started)
        surface.last = observation
        if observation.outcome in (Outcome.ACCEPTED, Outcome.LEAKED):
            surface.accepted += 1
            surface.undone += observation.figures.get("undone") is True
            if observation.figures.get("undone") is False:
                self._break(observation, f"a canary was left behind: {observation.reason}")
            return
        patience = min(timeline.window.settle, timeline.window.soak / 2)
        late = observation.started > timeline.closes + patience
        if late and observation.outcome is not Outcome.UNREACHABLE:
            self._break(observation, f"writes are not back: {observation.reason}")

    def _break(self, observation: Observation, what: str) -> None:
        self._findings.add(observation, what)
        if self._since is None:
            self._since = observation.started

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """FAIL when writes are not back in time, INCONCLUSIVE until each surface has shown it."""
        if not self._planned:
            return unconfigured(self.name, "no write surface has a probe")
        findings = self._findings.all
        questions = self._open_questions(now, timeline)
        shown = f"{count(self._tally.count, 'canary write')} on {count(len(self._surfaces), 'surface')}"
        otherwise = (
            Status.INCONCLUSIVE if questions else Status.PASS,
            grouped(questions) or f"{shown} accepted, read back and undone",
        )
        status, reason = otherwise
        if findings:
            status, reason = Status.FAIL, f"{findings[0].surface}: {findings[0].what}"
        return Verdict(
            criterion=self.name,
            status=status,
            reason=reason,
            otherwise=otherwise,
            since=self._since if findings else self._tally.first,
            figures={
                "accepted": sum(s.accepted for s in self._surfaces.values()),
                "undone": sum(s.undone for s in self._surfaces.values()),
            },
            findings=findings,
            evidence=self._tally.evidence,
            final=bool(findings),
        )

    def _open_questions(self, now: float, timeline: Timeline) -> list[tuple[str, str]]:
        if now < timeline.closes:
            return [("", "the window has not ended: writes have not come back yet")]
        if not timeline.window.soak:
            return [("", "there is no soak: nothing was written after the end")]
        questions = [(name, "no undo is configured, so nothing was written") for name in self._without_undo]
        broken = {finding.probe for finding in self._findings.all}
        for name, surface in self._surfaces.items():
            if name in self._without_undo or name in broken:
                continue
            if surface.accepted < ENOUGH:
                seen = f": {surface.last.reason}" if surface.last else ""
                questions.append((name, f"accepted {surface.accepted} of {ENOUGH} writes{seen}"))
            elif surface.last is not None and surface.last.figures.get("owed"):
                left = count(int(str(surface.last.figures["owed"])), "canary write")
                questions.append((name, f"{left} of the frozen time not undone yet"))
            elif surface.last is not None and surface.last.outcome is Outcome.UNREACHABLE:
                questions.append((name, surface.last.reason))
        return questions
