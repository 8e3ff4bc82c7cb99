"""extend, close, roll-back, accept: recorded acts, each with a name and a reason. They move no system."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from monitor.commands.common import (
    length,
    login_name,
    plan_of,
    print_json,
    report_now,
    require_ledger,
)
from monitor.errors import LedgerError, UsageError
from monitor.events import Acted, to_json
from monitor.gate import Gate
from monitor.model import Act, Phase, Status, iso, span
from monitor.plan import Plan
from monitor.report.build import Report


def extend(config: Path, who: str | None, reason: str, by: str | None, *, as_machine: bool) -> int:
    """Move the end of the window."""
    plan = plan_of(config)
    window = plan.window
    seconds = length("--by", by) if by is not None else window.extend_by
    report = _open_window(plan)
    left = window.extend_at_most - len(report.timeline.extensions)
    if not window.extend_at_most:
        raise UsageError("window.yaml allows no extension: add `extend: {by: 15m, at_most: 2}`")
    if left <= 0:
        raise UsageError(f"all {window.extend_at_most} extensions are used: close or roll back")
    if seconds <= 0:
        raise UsageError("an extension must be longer than nothing: --by 15m")
    closes = report.timeline.planned_closes + seconds
    if closes <= time.time():
        raise UsageError(f"by {span(seconds)} it would have ended at {iso(closes)} already: say --by")
    act = Act(at=time.time(), act="extend", who=who or login_name(), reason=reason, by=seconds)
    return _record(plan, act, f"extended by {span(seconds)}: closes {iso(closes)}", as_machine)


def close(config: Path, who: str | None, reason: str, *, as_machine: bool) -> int:
    """Close the window now, if the gate lets it."""
    plan = plan_of(config)
    report = _open_window(plan)
    if report.phase not in (Phase.FREEZING, Phase.FROZEN, Phase.SOAK):
        raise UsageError(f"the window is not open: {report.phase.value}")
    if not report.close.open:
        return _held(report.close, as_machine)
    act = Act(at=time.time(), act="close", who=who or login_name(), reason=reason)
    return _record(plan, act, "closed: writes may be re-enabled", as_machine)


def _held(gate: Gate, as_machine: bool) -> int:
    if as_machine:
        print_json(gate.as_json())
    else:
        print("not closed: the gate is closed")
        for name, verdict, reason in gate.blocked_by:
            print(f"  {name}: {verdict}: {reason}")
    return gate.exit_code


def roll_back(config: Path, who: str | None, reason: str, *, as_machine: bool) -> int:
    """Record that the change was rolled back, which ends the window."""
    plan = plan_of(config)
    _open_window(plan)
    act = Act(at=time.time(), act="roll-back", who=who or login_name(), reason=reason)
    return _record(plan, act, "rolled back: the gate at the end stays closed", as_machine)


def accept(config: Path, criterion: str, who: str | None, reason: str, *, as_machine: bool) -> int:
    """Accept what a criterion found so far. Missing evidence cannot be accepted."""
    plan = plan_of(config)
    verdicts = {verdict.criterion: verdict for verdict in report_now(plan).criteria}
    verdict = verdicts.get(criterion)
    if verdict is None:
        raise UsageError(f"unknown criterion {criterion!r}; known: {', '.join(verdicts)}")
    if verdict.status is Status.PASS:
        raise UsageError(f"{criterion} passes: there is nothing to accept")
    if verdict.status is Status.INCONCLUSIVE:
        raise UsageError(
            f"{criterion} is INCONCLUSIVE ({verdict.reason}): missing evidence cannot be accepted; "
            f"waive the criterion in window.yaml if it does not apply"
        )
    if not verdict.final:
        raise UsageError(
            f"{criterion} can recover ({verdict.reason}): mend it, extend the window, or roll back"
        )
    act = Act(
        at=time.time(),
        act="accept",
        who=who or login_name(),
        reason=reason,
        criterion=criterion,
    )
    return _record(plan, act, f"accepted: {criterion}: {verdict.reason}", as_machine)


def _open_window(plan: Plan) -> Report:
    """The report, if the window is not over."""
    report = report_now(plan)
    if report.phase.over:
        raise UsageError(f"the window is over since {iso(report.timeline.ends)}")
    ended = report.timeline.ended_by
    if ended is not None:
        raise UsageError(f"the window was ended by {ended.who} at {iso(ended.at)} ({ended.act})")
    return report


def _record(plan: Plan, act: Act, said: str, as_machine: bool) -> int:
    if len(act.reason.strip()) < 3:
        raise UsageError('an act needs a reason: --reason "…"')
    event = Acted(at=act.at, act=act)
    with closing(require_ledger(plan)) as file:
        try:
            file.append([event])
        except sqlite3.Error as error:
            raise LedgerError(f"{plan.ledger}: the act was NOT recorded: {error}") from None
    if as_machine:
        print_json(to_json(event))
    else:
        print(f"{said} (by {act.who}: {act.reason})")
    return 0
