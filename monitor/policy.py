"""Decide what to advise. Pure: verdicts, timeline, time and the last decision in, a decision out.

- a confirmed leak or a production write: ROLL_BACK, at once
- another criterion that fails: EXTEND, and roll back what broke it
- at the end, not green: EXTEND while extensions remain, else ROLL_BACK
- green from the end on: CLOSE; before it: HOLD

A cause stays until its criterion passes again, so that a recovery that does not last makes no noise.
"""

from collections.abc import Mapping

from monitor.model import Action, Decision, Phase, Status, Timeline, Verdict

AT_ONCE = frozenset({"leaked", "leaked_behind_refusal", "accepted", "dropped", "changed"})
"""Outcomes that mean production data may have changed."""
NOTHING_COUNTS = "every criterion is waived: nothing is verified"
AFTER = frozenset({"reopen"})
"""Criteria that only the time after the end can show."""


def for_close(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The criteria that must pass before writes are re-enabled."""
    return {name: verdict for name, verdict in verdicts.items() if name not in AFTER}


def decide(
    now: float, timeline: Timeline, verdicts: Mapping[str, Verdict], before: Decision | None
) -> Decision:
    """The advice at `now`."""
    back = timeline.rolled_back
    if back is not None:
        return Decision(
            action=Action.ROLL_BACK, causes=(), reason=f"rolled back by {back.who}: {back.reason}"
        )
    counted = {name: verdict for name, verdict in verdicts.items() if verdict.waived is None}
    broken = [name for name, verdict in counted.items() if _broken(name, verdict, before)]
    urgent = [name for name in broken if _urgent(counted[name])]
    if urgent:
        return Decision(
            action=Action.ROLL_BACK,
            causes=tuple(broken),
            reason=f"writes got through. {_said(counted, urgent)}",
        )
    phase = timeline.phase_at(now)
    after_end = now >= timeline.closes
    judged = counted if phase.over else for_close(counted)
    unproven = [name for name, verdict in judged.items() if verdict.holds_gate]
    causes = broken + [name for name in unproven if after_end and name not in broken]
    if causes:
        return _not_green(timeline, counted, causes, after_end=after_end)
    if not judged:
        return Decision(action=Action.HOLD, causes=(), reason=NOTHING_COUNTS)
    if phase.over:
        return Decision(action=Action.CLOSE, causes=(), reason="every criterion passes")
    if phase is Phase.SOAK:
        return Decision(
            action=Action.CLOSE,
            causes=(),
            reason="green at the end; the soak proves that writes are back",
        )
    return Decision(action=Action.HOLD, causes=(), reason=_why_hold(phase, unproven))


def _broken(name: str, verdict: Verdict, before: Decision | None) -> bool:
    if verdict.status is Status.FAIL:
        return True
    stays = before is not None and before.action is not Action.HOLD and name in before.causes
    return stays and verdict.status is Status.INCONCLUSIVE


def _urgent(verdict: Verdict) -> bool:
    if verdict.status is not Status.FAIL or verdict.criterion not in ("guard", "storage"):
        return False
    return any(finding.outcome in AT_ONCE for finding in verdict.findings)


def _not_green(
    timeline: Timeline, verdicts: Mapping[str, Verdict], causes: list[str], *, after_end: bool
) -> Decision:
    said = _said(verdicts, causes)
    left = timeline.window.extend_at_most - len(timeline.extensions)
    if after_end and left <= 0:
        reason = f"the window has ended, is not green and cannot be extended again. {said}"
        return Decision(action=Action.ROLL_BACK, causes=tuple(causes), reason=reason)
    advice = "roll back what changed, and extend. " if not after_end else "not green at the end. "
    return Decision(action=Action.EXTEND, causes=tuple(causes), reason=advice + said)


def _said(verdicts: Mapping[str, Verdict], names: list[str]) -> str:
    return " | ".join(f"{name}: {verdicts[name].reason}" for name in names)


def _why_hold(phase: Phase, unproven: list[str]) -> str:
    if phase in (Phase.PLANNED, Phase.BASELINE):
        return "the window has not opened"
    if unproven:
        return f"nothing is broken; not proven yet: {', '.join(unproven)}"
    return "green so far; the end has not come"
