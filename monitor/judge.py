"""Evidence -> verdicts. Pure: no clock, no I/O. A replay of the same events gives the same verdicts."""

from dataclasses import replace
from math import isfinite

from monitor.criteria.base import Criterion, unconfigured
from monitor.criteria.coverage import Coverage
from monitor.criteria.flag import Flag
from monitor.criteria.guard import Guard
from monitor.criteria.meaning import Meaning
from monitor.criteria.reads import Reads
from monitor.criteria.reopen import Reopen
from monitor.criteria.storage import Storage
from monitor.events import Acted, Event, Observed
from monitor.freeze import Freeze
from monitor.grid import Grid, staggered
from monitor.model import CRITERIA, Colour, Status, Timeline, Verdict, colour, iso
from monitor.plan import Plan
from probes.base import LEAKS, Observation, Outcome, Why, skipped

MISSING = {
    "queue": "no queue and no intent",
    "notice": "no banner and no status page",
    "jobs": "no background job",
    "retries": "no counter of blocked writes",
    "scope": "no declaration of what can be written (OpenAPI, MCP, grants)",
}
"""Criteria that nothing in this version's `window.yaml` can give evidence for."""


def grids(plan: Plan) -> dict[str, Grid]:
    """The slots of every probe; the same after a restart."""
    slots = staggered(plan.window.begins, [probe.every for probe in plan.probes])
    return {probe.name: grid for probe, grid in zip(plan.probes, slots, strict=True)}


_PROVES_HEALTH = frozenset({Outcome.OK, Outcome.REFUSED, Outcome.QUEUED, Outcome.ON})


def _with_times(observation: Observation) -> Observation | None:
    """`observation`, or what is left of it where a time is no number: bad news stays, good news is void.

    None when it cannot be said when it was.
    """
    o = observation
    if not (isfinite(o.slot) and isfinite(o.started)):
        return None
    if isfinite(o.duration_s) and isfinite(o.lateness_s):
        return o
    if o.outcome not in _PROVES_HEALTH:
        return replace(o, duration_s=0.0, lateness_s=0.0)
    said = skipped(Why.ERROR, "the record has no time that is a number")
    return replace(
        o,
        outcome=said.outcome,
        reason=said.reason,
        figures=said.figures,
        duration_s=0.0,
        lateness_s=0.0,
    )


class Judge:
    """Folds events into verdicts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.timeline = Timeline(window=plan.window)
        self._freeze = Freeze(plan.probes)
        self.reads = Reads(plan)
        self.meaning = Meaning(plan)
        self.flag = Flag(plan, self._freeze)
        self.storage = Storage(plan)
        self.coverage = Coverage(plan, grids(plan))
        self._criteria: dict[str, Criterion] = {
            criterion.name: criterion
            for criterion in (
                Guard(plan, self._freeze),
                self.storage,
                self.reads,
                self.meaning,
                self.flag,
                Reopen(plan),
                self.coverage,
            )
        }
        self.leaked: dict[str, str] = {}
        """Surfaces with a confirmed leak after their freeze took hold, and why: they stay left alone."""

    def feed(self, event: Event) -> None:
        """Learn from one event, in the order of the ledger."""
        if isinstance(event, Acted):
            self.timeline = replace(self.timeline, acts=(*self.timeline.acts, event.act))
            if event.act.act == "extend":
                # What was seen after the old end says nothing about the new one.
                self._criteria["reopen"] = Reopen(self._plan)
                self.flag.forget_what_came_after()
        elif isinstance(event, Observed):
            self._observe(event.observation)

    def _observe(self, recorded: Observation) -> None:
        observation = _with_times(recorded)
        if observation is None:
            return
        frozen_at = self._freeze.observe(observation, self.timeline)
        if frozen_at != self.timeline.frozen_at:
            self.timeline = replace(self.timeline, frozen_at=frozen_at)
        if (
            observation.outcome in LEAKS
            and self.timeline.window.opens <= observation.started < self.timeline.closes
            and not self.settling(observation.probe, observation.started)
        ):
            self.leaked.setdefault(observation.surface, observation.reason)
        for criterion in self._criteria.values():
            criterion.observe(observation, self.timeline)

    def settling(self, probe: str, moment: float) -> bool:
        """May `probe`'s surface still be open at `moment`, because its freeze is only taking hold?"""
        return self._freeze.settling(probe, moment, self.timeline)

    def verdicts(self, now: float) -> dict[str, Verdict]:
        """The verdict on every criterion, in the order of DESIGN §4. Changes nothing."""
        moment = min(now, self.timeline.ends + 3600.0)
        found = {}
        for name in CRITERIA:
            criterion = self._criteria.get(name)
            verdict = (
                criterion.verdict(moment, self.timeline)
                if criterion is not None
                else unconfigured(name, MISSING[name])
            )
            verdict = self._accepted(verdict)
            found[name] = replace(verdict, waived=self._plan.waive.get(name))
        return found

    def _accepted(self, verdict: Verdict) -> Verdict:
        """Facts that somebody accepted no longer fail; what came after that still does."""
        accepts = tuple(
            act for act in self.timeline.acts if act.act == "accept" and act.criterion == verdict.criterion
        )
        if not accepts or not verdict.final or verdict.status is not Status.FAIL:
            return verdict
        newest = max(act.at for act in accepts)
        last = max((finding.last for finding in verdict.findings), default=verdict.since or 0.0)
        if last > newest:
            return replace(verdict, accepted=accepts)
        act = accepts[-1]
        status, reason = verdict.otherwise
        named = f"accepted by {act.who} at {iso(act.at)}: {act.reason}"
        return replace(
            verdict,
            status=status,
            reason=f"{reason}; {named}" if reason else named,
            final=False,
            accepted=accepts,
        )

    def colour(self, now: float) -> Colour:
        """The verdict on the window."""
        return colour(self.verdicts(now))
