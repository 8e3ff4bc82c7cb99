"""May the window close? Is it verified? Closed unless everything it asks for is green. Pure.

Exit codes: 0 open, 1 something failed, 3 not enough evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from monitor.model import Colour, Phase, Status, Timeline, Verdict, colour
from monitor.policy import NOTHING_COUNTS, for_close

At = Literal["close", "end"]
SCHEMA = "freezewatch.gate/1"
EXIT = {Colour.GREEN: 0, Colour.RED: 1, Colour.AMBER: 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """The gate's answer. `settled` is true when waiting cannot change it."""

    at: At
    open: bool
    verdict: Colour
    blocked_by: tuple[tuple[str, str, str], ...]
    """(criterion, verdict, reason) of everything that keeps it closed."""
    settled: bool

    @property
    def exit_code(self) -> int:
        """For a pipeline."""
        return EXIT[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """`freezewatch.gate/1`."""
        return {
            "schema": SCHEMA,
            "at": self.at,
            "open": self.open,
            "verdict": self.verdict.value,
            "blocked_by": [
                {"criterion": criterion, "verdict": verdict, "reason": reason}
                for criterion, verdict, reason in self.blocked_by
            ],
        }


def ask(at: At, now: float, timeline: Timeline, verdicts: Mapping[str, Verdict]) -> Gate:
    """The gate at `close` (may writes be re-enabled?) or `end` (is the whole window verified?)."""
    judged = for_close(verdicts) if at == "close" else dict(verdicts)
    blocked = [
        (name, verdict.status.value, verdict.reason) for name, verdict in judged.items() if verdict.holds_gate
    ]
    found = colour(judged)
    phase = timeline.phase_at(now)
    back = timeline.rolled_back
    if back is not None and at == "end":
        blocked.append(("window", Status.FAIL.value, f"rolled back by {back.who}: {back.reason}"))
        found = Colour.RED
    if all(verdict.waived is not None for verdict in judged.values()):
        blocked.append(("window", Status.INCONCLUSIVE.value, NOTHING_COUNTS))
    if found is Colour.GREEN:
        waits = _too_early(at, phase)
        if waits is not None:
            blocked.append(("window", Status.INCONCLUSIVE.value, waits))
            found = Colour.AMBER
    failed_for_good = any(
        verdict.holds_gate and verdict.status is Status.FAIL and verdict.final for verdict in judged.values()
    )
    return Gate(
        at=at,
        open=found is Colour.GREEN,
        verdict=found,
        blocked_by=tuple(blocked),
        settled=found is Colour.GREEN or failed_for_good or phase.over or (back is not None and at == "end"),
    )


def _too_early(at: At, phase: Phase) -> str | None:
    if at == "end" and not phase.over:
        return f"the window is not over: {phase.value}"
    if at == "close" and phase in (Phase.PLANNED, Phase.BASELINE, Phase.FREEZING):
        return f"the window is not frozen yet: {phase.value}"
    return None
