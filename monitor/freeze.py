"""When did the freeze take hold? Pure fold over attempts, flags and fences.

A mode is not switched everywhere at once. From `opens` until every surface was seen to refuse and every store
that can tell has no writer left from before `opens`, at most for `settle`, the window is `freezing`, and what
is accepted on a surface that has not refused yet is shown apart. A surface that has refused once is frozen:
what it accepts after that is a leak.
"""

from collections.abc import Iterable

from monitor.model import Timeline
from monitor.plan import Planned
from probes.base import AUDITED, Kind, Observation, Outcome

_BLOCKED = frozenset({Outcome.REFUSED, Outcome.REFUSED_BADLY, Outcome.QUEUED, Outcome.LEAKED_BEHIND_REFUSAL})


class Freeze:
    """Follows every surface, flag and audit from `opens` on."""

    def __init__(self, probes: Iterable[Planned]) -> None:
        asked = [probe for probe in probes if probe.kind in (Kind.WRITE, Kind.FLAG, Kind.AUDIT)]
        self._open = {probe.name for probe in asked if not (probe.kind is Kind.WRITE and probe.spec.variants)}
        self._any = any(probe.kind is not Kind.AUDIT for probe in asked)
        """An audit alone cannot tell that writes are refused: then everything is frozen after `settle`."""
        self._variants = {
            probe.name: probe.name.rpartition("/")[0] for probe in asked if probe.name not in self._open
        }
        self.first_refusal: dict[str, float] = {}

    def observe(self, observation: Observation, timeline: Timeline) -> float | None:
        """Learn from one observation; returns when everything was frozen, once that is so."""
        moment = observation.started
        if not timeline.window.opens <= moment < timeline.closes:
            return timeline.frozen_at
        if _frozen(observation) and observation.probe not in self.first_refusal:
            self.first_refusal[observation.probe] = moment
            self._open.discard(observation.probe)
        if timeline.frozen_at is not None:
            return timeline.frozen_at
        latest = timeline.window.settled_by
        if self._any and not self._open:
            return min(moment + observation.duration_s, latest)
        return latest if moment >= latest else None

    def settling(self, probe: str, moment: float, timeline: Timeline) -> bool:
        """May `probe`'s surface still be open at `moment`, because its freeze is only taking hold?"""
        latest = timeline.window.settled_by
        asked = self._variants.get(probe, probe)
        return moment < min(latest, self.first_refusal.get(asked, latest))


def _frozen(observation: Observation) -> bool:
    """Does it show that the freeze has reached where it looked?

    An audit that cannot see open writers does not hold the freeze up.
    """
    if observation.kind is Kind.AUDIT:
        return observation.outcome in AUDITED and observation.figures.get("open") in (0, None)
    if observation.kind is Kind.FLAG:
        return observation.outcome is Outcome.ON
    return observation.outcome in _BLOCKED
