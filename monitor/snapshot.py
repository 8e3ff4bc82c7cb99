"""What the watchdog thinks at one moment: one frozen value for the live view, the metrics and the gate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from monitor.gate import At, Gate, ask
from monitor.model import Colour, Decision, Phase, Status, Timeline, Verdict, colour

STALLED = 5.0
"""Seconds after which a moment is too old to answer from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Verdicts and advice as of `now` (epoch seconds)."""

    now: float
    timeline: Timeline
    verdicts: Mapping[str, Verdict]
    decision: Decision
    ledger_failing: str | None = None

    @property
    def phase(self) -> Phase:
        """Where the window stands."""
        return self.timeline.phase_at(self.now)

    @property
    def colour(self) -> Colour:
        """The verdict on the window."""
        return colour(self.verdicts)

    def gate(self, at: At, now: float) -> Gate:
        """The gate's answer at `now`; closed when the watchdog has not judged for too long."""
        if now - self.now <= STALLED:
            return ask(at, self.now, self.timeline, self.verdicts)
        why = f"the watchdog has not judged for {now - self.now:.0f} s"
        return ask(at, self.now, self.timeline, without_evidence(self.verdicts, why))


def without_evidence(verdicts: Mapping[str, Verdict], why: str) -> dict[str, Verdict]:
    """`verdicts` with coverage INCONCLUSIVE because of `why`, waived or not: what keeps any gate closed."""
    coverage = replace(verdicts["coverage"], status=Status.INCONCLUSIVE, reason=why, waived=None, final=False)
    return {**verdicts, "coverage": coverage}
