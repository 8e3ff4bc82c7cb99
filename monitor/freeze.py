"""When did the freeze take hold? Pure fold over attempts and flags.

A mode is not switched everywhere at once. From `opens` until every surface was seen to refuse, at most for
`settle`, the window is `freezing`, and what is accepted on a surface that has not refused yet is shown
apart. A surface that has refused once is frozen: what it accepts after that is a leak.
"""

from monitor.model import Timeline
from probes.base import Kind, Observation, Outcome

_BLOCKED = frozenset({Outcome.REFUSED, Outcome.REFUSED_BADLY, Outcome.QUEUED, Outcome.LEAKED_BEHIND_REFUSAL})


class Freeze:
    """Follows every surface and flag from `opens` on."""

    def __init__(self, writes: list[str], flags: list[str]) -> None:
        self._open = set(writes) | set(flags)
        self._any = bool(self._open)
        self.first_refusal: dict[str, float] = {}

    def observe(self, observation: Observation, timeline: Timeline) -> float | None:
        """Learn from one observation; returns when everything was frozen, once that is so."""
        moment = observation.started
        if not timeline.window.opens <= moment < timeline.closes:
            return timeline.frozen_at
        held = observation.outcome in _BLOCKED or (
            observation.kind is Kind.FLAG and observation.outcome is Outcome.ON
        )
        if held and observation.probe not in self.first_refusal:
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
        return moment < min(latest, self.first_refusal.get(probe, latest))
