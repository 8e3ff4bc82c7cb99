"""From evidence to verdicts, advice and gate: decision tables, edges, purity, and how often it errs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.commands.acts import accept as accept_command
from monitor.criteria.meaning import Meaning
from monitor.criteria.reads import Reads
from monitor.errors import UsageError
from monitor.events import Event, Observed, dumps, loads
from monitor.gate import ask
from monitor.judge import Judge
from monitor.ledger import LedgerFile
from monitor.model import (
    CRITERIA,
    Action,
    Colour,
    Decision,
    Finding,
    Phase,
    Status,
    Timeline,
    Verdict,
    colour,
)
from monitor.plan import Plan
from monitor.policy import decide
from monitor.report.build import build
from probes.base import Kind, Observation, Outcome

from .builders import (
    ANSWERED,
    CLOSES,
    ENDS,
    EVERY,
    FLAGS,
    HEAD,
    OPENS,
    PLAIN,
    PROBES,
    READS,
    SOAK,
    WAIVED,
    WRITES,
    Story,
    accept,
    changed,
    closing_act,
    extension,
    healthy,
    judge_of,
    lognormal,
    measured,
    observation,
    plan_in,
    seen,
    verdicts_of,
    window_text,
)

PASS, FAIL, INCONCLUSIVE = Status.PASS, Status.FAIL, Status.INCONCLUSIVE
MIDDLE = OPENS + 600
Broken = Callable[[Observation], Observation | None]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_in(tmp_path)


def at(slot: float, probe: str, **values: Any) -> Broken:
    """Change the one run of `probe` whose slot is the first at or after `slot`."""
    done: list[float] = []

    def change(o: Observation) -> Observation:
        if o.probe == probe and o.kind is not Kind.MEANING and o.slot >= slot and not done:
            done.append(o.slot)
            return replace(o, **values)
        return o

    return change


def between(start: float, end: float, probe: str, kind: Kind | None = None, **values: Any) -> Broken:
    def change(o: Observation) -> Observation:
        wanted = o.kind is kind if kind is not None else o.kind is not Kind.MEANING
        return replace(o, **values) if o.probe == probe and wanted and start <= o.slot < end else o

    return change


def status_of(plan: Plan, change: Broken, criterion: str, now: float = ENDS + 30) -> Status:
    return verdicts_of(plan, changed(healthy(plan), change), now)[criterion].status


# -- one attempt, one verdict ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.REFUSED, PASS),
        (Outcome.QUEUED, PASS),
        (Outcome.REFUSED_BADLY, FAIL),
        (Outcome.LEAKED, FAIL),
        (Outcome.LEAKED_BEHIND_REFUSAL, FAIL),
        (Outcome.ACCEPTED, FAIL),
        (Outcome.DROPPED, FAIL),
        (Outcome.UNREACHABLE, PASS),
        (Outcome.SKIPPED, PASS),
    ],
)
def test_one_attempt_among_many_decides_the_guard(outcome: Outcome, status: Status, plan: Plan) -> None:
    """One broken refusal fails the window; one attempt without an answer does neither harm nor good."""
    change = at(MIDDLE, "ticket-tool", outcome=outcome, figures={"code": "read_only", "why": "late"})

    assert status_of(plan, change, "guard") is status


@pytest.mark.parametrize(("in_a_row", "status"), [(1, PASS), (2, PASS), (3, INCONCLUSIVE), (9, INCONCLUSIVE)])
def test_a_blind_stretch_is_never_a_refusal(in_a_row: int, status: Status, plan: Plan) -> None:
    """Unanswered attempts in a row can make the guard only INCONCLUSIVE, and for good."""
    gone = {"outcome": Outcome.UNREACHABLE, "reason": "reset"}
    change = between(MIDDLE, MIDDLE + in_a_row * EVERY, "ticket-tool", **gone)

    assert status_of(plan, change, "guard") is status


def test_a_code_that_changes_is_a_broken_contract(plan: Plan) -> None:
    """A client must be able to rely on one."""
    change = at(MIDDLE, "ticket-tool", figures={"code": "maintenance"})

    verdict = verdicts_of(plan, changed(healthy(plan), change), ENDS + 30)["guard"]

    assert verdict.status is FAIL
    assert "the code changed: read_only, maintenance" in verdict.reason


def test_the_worst_wins(plan: Plan) -> None:
    """FAIL before INCONCLUSIVE before PASS, and the reason is that of the worst."""
    gone = {"outcome": Outcome.UNREACHABLE, "reason": "reset"}
    blind = between(MIDDLE, MIDDLE + 60, "ticket-tool", **gone)
    leak = at(MIDDLE, "vector-upsert", outcome=Outcome.LEAKED, reason="answered 201")
    events = healthy(plan)

    fine, blinded = events, changed(events, blind)
    leaky = changed(blinded, leak)
    verdicts = [verdicts_of(plan, each, ENDS + 30)["guard"] for each in (fine, blinded, leaky)]

    assert [verdict.status for verdict in verdicts] == [PASS, INCONCLUSIVE, FAIL]
    assert "leaked: answered 201" in verdicts[2].reason
    assert verdicts[2].otherwise[0] is INCONCLUSIVE


def verdict(criterion: str, status: Status, *, waived: str | None = None) -> Verdict:
    return Verdict(criterion=criterion, status=status, reason="told", waived=waived)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], Colour.AMBER),
        ([PASS], Colour.GREEN),
        ([PASS, INCONCLUSIVE], Colour.AMBER),
        ([PASS, INCONCLUSIVE, FAIL], Colour.RED),
        ([FAIL], Colour.RED),
        ([INCONCLUSIVE], Colour.AMBER),
    ],
)
def test_a_window_is_as_good_as_its_worst_criterion(statuses: list[Status], expected: Colour) -> None:
    """And without any it is AMBER."""
    found = {str(n): verdict(str(n), status) for n, status in enumerate(statuses)}

    assert colour(found) is expected


def test_a_waived_criterion_counts_neither_way_and_is_shown(tmp_path: Path) -> None:
    """The waiver stands beside the verdict that it sets aside."""
    plan = plan_in(tmp_path, window_text() + PROBES + WAIVED + "  guard: the surface is a test double\n")
    leak = at(MIDDLE, "ticket-tool", outcome=Outcome.LEAKED)

    report = build(plan, changed(healthy(plan), leak), HEAD, ENDS + 30)

    guard = next(each for each in report.criteria if each.criterion == "guard")
    assert (guard.status, guard.waived) == (FAIL, "the surface is a test double")
    assert report.verdict is Colour.GREEN
    assert report.end.open


# -- reads, meaning and flags: conditions that can recover ----------------------------------------


def bad_reads(start: float, end: float) -> Broken:
    return between(start, end, "product-search", outcome=Outcome.FAILED, reason="answered 500")


def slow_reads(start: float, end: float) -> Broken:
    return between(start, end, "product-search", duration_s=0.9)


def other_meaning(start: float, end: float) -> Broken:
    figures = {"delta_s": 0.8, "facts_missing": [], "documents_overlap": 1.0}
    return between(start, end, "returns-policy", Kind.MEANING, figures=figures)


def flag_off(start: float, end: float) -> Broken:
    return between(start, end, "read_only/2", outcome=Outcome.OFF)


@pytest.mark.parametrize(
    ("criterion", "breach"), [("reads", slow_reads), ("meaning", other_meaning), ("flag", flag_off)]
)
def test_a_condition_fails_then_waits_for_hold_then_passes(
    criterion: str, breach: Callable[[float, float], Broken], tmp_path: Path
) -> None:
    """FAIL while breached, INCONCLUSIVE until healthy for `hold`, then PASS, with the incident kept."""
    text = window_text().replace("every: 10s", "every: 2s")
    plan = plan_in(tmp_path, text + PROBES + WAIVED)
    events = changed(healthy(plan), breach(OPENS + 100, OPENS + 130))
    judge, statuses, events_left = Judge(plan), [], list(events)
    for second in range(0, 700, 2):
        while events_left and events_left[0].at <= OPENS + second:
            judge.feed(events_left.pop(0))
        found = judge.verdicts(OPENS + second)[criterion]
        if found.final:
            pytest.fail(f"a condition must not be final: {found.reason}")
        if not statuses or statuses[-1][1] is not found.status:
            statuses.append((second, found.status))

    said = [status for _, status in statuses]
    assert said[-3:] == [FAIL, INCONCLUSIVE, PASS]
    assert PASS in said[:-3]
    failed, waits, passes = (second for second, _ in statuses[-3:])
    assert 100 <= failed <= 145
    assert passes - waits >= plan.window.hold - 4
    kept = judge.verdicts(OPENS + 700)[criterion]
    assert kept.findings or kept.figures["incidents"]


def test_a_breach_while_it_waits_starts_the_wait_again(plan: Plan) -> None:
    """`hold` is without a break."""
    one = changed(healthy(plan), flag_off(OPENS + 100, OPENS + 130))
    two = changed(one, flag_off(OPENS + 230, OPENS + 240))

    def status(events: list[Event], now: float) -> Status:
        return verdicts_of(plan, [e for e in events if e.at <= now], now)["flag"].status

    assert status(one, OPENS + 275) is PASS
    assert status(two, OPENS + 275) is INCONCLUSIVE
    assert status(two, OPENS + 400) is PASS


def test_an_error_budget_spent_in_full_is_a_fact(plan: Plan) -> None:
    """It stays when reads are healthy again, until somebody accepts it."""
    events = changed(healthy(plan), bad_reads(OPENS + 100, OPENS + 400))

    later = verdicts_of(plan, events, ENDS + 30)["reads"]
    taken = verdicts_of(plan, [*events, accept("reads", ENDS + 5)], ENDS + 30)["reads"]

    assert (later.status, later.final) == (FAIL, True)
    assert "error budget" in later.reason
    assert taken.status is PASS


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"delta_s": 0.9}, "ΔS 0.90, the band ends at"),
        ({"facts_missing": ["30 days"]}, "lacks '30 days'"),
        ({"documents_overlap": 0.2}, "20% of the documents"),
    ],
)
def test_three_of_five_changed_answers_break_the_meaning(
    figures: dict[str, Any], says: str, plan: Plan
) -> None:
    """Two do not: an answer may vary."""
    whole = {"delta_s": 0.0, "facts_missing": [], "documents_overlap": 1.0} | figures

    def verdict(answers: int) -> Verdict:
        end = MIDDLE + answers * EVERY
        change = between(MIDDLE, end, "returns-policy", Kind.MEANING, figures=whole)
        events = [e for e in changed(healthy(plan), change) if e.at < end + 1]
        return verdicts_of(plan, events, end + 1)["meaning"]

    assert verdict(2).status is not FAIL
    assert verdict(3).status is FAIL
    assert says in verdict(3).reason


def test_a_guard_that_refuses_reads_fails_reads(plan: Plan) -> None:
    """A search that is a POST is blocked: that is an outage for readers."""
    change = between(MIDDLE, ENDS, "product-search", outcome=Outcome.REFUSED)

    assert status_of(plan, change, "reads", MIDDLE + 120) is FAIL


def test_a_flag_that_stays_true_after_the_end_fails(plan: Plan) -> None:
    """It is given half the soak, at most `settle`."""
    change = between(CLOSES, ENDS, "read_only/1", outcome=Outcome.ON)
    events = changed(healthy(plan), change)

    def flag(now: float) -> Status:
        return verdicts_of(plan, [e for e in events if e.at <= now], now)["flag"].status

    assert flag(CLOSES + 20) is PASS
    assert flag(CLOSES + 50) is FAIL


# -- freezing, and the edges of the window --------------------------------------------------------


def attempt(slot: float, outcome: Outcome, probe: str = "vector-upsert", **values: Any) -> Observed:
    return seen(observation(probe=probe, slot=slot, outcome=outcome, **values))


REFUSED, LEAKED, ACCEPTED = Outcome.REFUSED, Outcome.LEAKED, Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("attempts", "landed", "status"),
    [
        ([(1, LEAKED), (5, LEAKED), (8, REFUSED)], 2, INCONCLUSIVE),
        ([(1, REFUSED), (5, LEAKED)], 0, FAIL),
        ([(1, LEAKED), (5, REFUSED), (9, LEAKED)], 1, FAIL),
        ([(29.9, LEAKED)], 1, INCONCLUSIVE),
        ([(30, LEAKED)], 0, FAIL),
        ([(31, LEAKED)], 0, FAIL),
        ([(1, Outcome.DROPPED)], 1, INCONCLUSIVE),
        ([(1, Outcome.LEAKED_BEHIND_REFUSAL)], 0, FAIL),
        ([(1, Outcome.REFUSED_BADLY)], 0, FAIL),
        ([(5, Outcome.REFUSED_BADLY), (9, LEAKED)], 0, FAIL),
        ([(1, Outcome.UNREACHABLE), (5, LEAKED)], 1, INCONCLUSIVE),
    ],
)
def test_what_lands_while_freezing_is_apart_and_what_leaks_after_counts(
    attempts: list[tuple[float, Outcome]], landed: int, status: Status, plan: Plan
) -> None:
    """A surface is freezing until it has refused once, at most for `settle`."""
    events = [attempt(OPENS + second, outcome) for second, outcome in attempts]

    guard = verdicts_of(plan, events, OPENS + 60)["guard"]

    assert guard.status is status
    assert guard.figures["landed_while_freezing"] == landed


def test_each_surface_freezes_by_itself(plan: Plan) -> None:
    """The refusal of one says nothing of the other."""
    events = [attempt(OPENS + 1, REFUSED), attempt(OPENS + 5, LEAKED, "ticket-tool")]

    judge = judge_of(plan, events)

    assert judge.verdicts(OPENS + 6)["guard"].figures["landed_while_freezing"] == 1
    assert not judge.settling("vector-upsert", OPENS + 6)
    assert judge.settling("ticket-tool", OPENS + 6)
    assert not judge.settling("ticket-tool", OPENS + 30)
    assert judge.leaked == {}


def test_the_window_is_frozen_when_everything_has_refused_or_settle_is_over(plan: Plan) -> None:
    """Before, its phase is `freezing`, and the gate at close is closed."""
    events = [e for e in healthy(plan) if e.at < OPENS + 60]

    frozen = judge_of(plan, events).timeline
    never = Timeline(window=plan.window)

    assert frozen.frozen_at is not None
    assert OPENS < frozen.frozen_at < OPENS + 15
    assert frozen.phase_at(frozen.frozen_at - 0.1) is Phase.FREEZING
    assert frozen.phase_at(frozen.frozen_at) is Phase.FROZEN
    assert never.phase_at(OPENS + 29) is Phase.FREEZING


@pytest.mark.parametrize(
    ("slot", "duration", "status"),
    [
        (OPENS - 0.001, 0.02, INCONCLUSIVE),  # before it opens: nothing was promised
        (CLOSES - 0.5, 0.4, FAIL),
        (CLOSES - 0.5, 0.5, INCONCLUSIVE),  # answered at the end: nobody can say which side of it
        (CLOSES - 0.5, 2.0, INCONCLUSIVE),
        (CLOSES, 0.02, INCONCLUSIVE),  # after the end writes are back
    ],
)
def test_attempts_at_the_edges_are_judged_by_where_they_lie_whole(
    slot: float, duration: float, status: Status, plan: Plan
) -> None:
    """Only what began and ended while frozen can be a leak."""
    events = [attempt(slot, LEAKED, duration_s=duration)]

    assert verdicts_of(plan, events, CLOSES + 5)["guard"].status is status


@pytest.mark.parametrize(
    ("moment", "phase"),
    [
        (OPENS - 301, Phase.PLANNED),
        (OPENS - 300, Phase.BASELINE),
        (OPENS - 0.001, Phase.BASELINE),
        (OPENS, Phase.FREEZING),
        (CLOSES - 0.001, Phase.FROZEN),
        (CLOSES, Phase.SOAK),
        (ENDS - 0.001, Phase.SOAK),
        (ENDS, Phase.CLOSED),
    ],
)
def test_phases_begin_on_the_moment(moment: float, phase: Phase, plan: Plan) -> None:
    """Each phase holds its beginning and not its end."""
    assert Timeline(window=plan.window, frozen_at=OPENS + 8).phase_at(moment) is phase


# -- reopening, extending, ending early -----------------------------------------------------------


def test_a_canary_left_behind_fails_reopen(plan: Plan) -> None:
    """What was written after the end must be taken away again."""
    change = at(CLOSES + 20, "ticket-tool", figures={"undone": False})

    assert status_of(plan, change, "reopen") is FAIL


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.DROPPED, Outcome.REFUSED_BADLY])
def test_writes_that_do_not_come_back_fail_reopen_after_its_patience(outcome: Outcome, plan: Plan) -> None:
    """`settle`, or half of the soak, is the time that a thaw may take."""
    early = at(CLOSES + 5, "ticket-tool", outcome=outcome, figures={})
    late = at(CLOSES + 60, "ticket-tool", outcome=outcome, figures={})

    assert status_of(plan, early, "reopen") is PASS
    assert status_of(plan, late, "reopen") is FAIL


def test_an_extension_in_the_soak_forgets_what_came_after_the_old_end(plan: Plan) -> None:
    """Canaries accepted and flags released after the old end prove nothing about the new one."""
    first = [e for e in healthy(plan) if e.at < CLOSES + 60]
    judge = judge_of(plan, first)
    before = judge.verdicts(CLOSES + 60)

    judge.feed(extension(CLOSES + 60))
    after = judge.verdicts(CLOSES + 61)

    assert before["reopen"].status is PASS
    assert after["reopen"].status is INCONCLUSIVE
    assert "the window has not ended" in after["reopen"].reason
    assert judge.timeline.phase_at(CLOSES + 61) is Phase.FROZEN
    assert judge.timeline.closes == CLOSES + 300


def test_a_failed_reopening_is_forgotten_by_an_extension_too(plan: Plan) -> None:
    """Writes that were not back at the old end are not expected back before the new one."""
    change = between(CLOSES, ENDS, "ticket-tool", outcome=Outcome.REFUSED)
    events = [e for e in changed(healthy(plan), change) if e.at < CLOSES + 60]

    failed = verdicts_of(plan, events, CLOSES + 60)["reopen"].status
    extended = verdicts_of(plan, [*events, extension(CLOSES + 60)], CLOSES + 61)["reopen"].status

    assert (failed, extended) == (FAIL, INCONCLUSIVE)


def test_closing_early_ends_the_promise_there(plan: Plan) -> None:
    """A write that is accepted after a recorded close is no leak."""
    close = closing_act(OPENS + 300)
    events = [e for e in healthy(plan) if e.at < OPENS + 300]
    accepted = attempt(OPENS + 310, ACCEPTED, figures={"undone": True})

    judge = judge_of(plan, [*events, close, accepted])

    assert judge.timeline.closes == OPENS + 300
    assert judge.timeline.ends == OPENS + 300 + SOAK
    assert judge.verdicts(OPENS + 311)["guard"].status is PASS


def test_a_roll_back_keeps_the_gate_at_the_end_closed_for_good(plan: Plan) -> None:
    """However green it was; waiting changes nothing."""
    events = [*healthy(plan), closing_act(CLOSES + 60, "roll-back")]
    judge = judge_of(plan, events)

    gates = [ask("end", now, judge.timeline, judge.verdicts(now)) for now in (CLOSES + 61, ENDS + 30)]

    assert [(gate.open, gate.exit_code, gate.settled) for gate in gates] == [(False, 1, True)] * 2
    assert judge.timeline.phase_at(ENDS + 30) is Phase.ROLLED_BACK


# -- accepting ------------------------------------------------------------------------------------


def test_accepting_covers_what_was_found_up_to_then_and_no_more(plan: Plan) -> None:
    """A new leak fails again; accepting that one too passes again."""
    leak = at(OPENS + 300, "ticket-tool", outcome=Outcome.REFUSED_BADLY, reason="no Retry-After")
    again = at(OPENS + 800, "ticket-tool", outcome=Outcome.REFUSED_BADLY, reason="no Retry-After")
    one = changed(healthy(plan), leak)
    two = changed(one, again)
    act = accept("guard", OPENS + 400)

    def guard(events: list[Event], *acts: Event) -> Verdict:
        ordered = sorted([*events, *acts], key=lambda event: event.at)
        return verdicts_of(plan, ordered, ENDS + 30)["guard"]

    assert guard(one).status is FAIL
    assert guard(one, act).status is PASS
    assert "accepted by dana" in guard(one, act).reason
    assert guard(two, act).status is FAIL
    assert guard(two, act, accept("guard", OPENS + 900)).status is PASS


def test_a_window_green_by_acceptance_says_so(plan: Plan) -> None:
    """The report lists who accepted what."""
    leak = at(OPENS + 300, "ticket-tool", outcome=Outcome.REFUSED_BADLY)
    events = sorted([*changed(healthy(plan), leak), accept("guard", OPENS + 400)], key=lambda e: e.at)

    report = build(plan, events, HEAD, ENDS + 30)

    assert report.verdict is Colour.GREEN
    assert report.accepted
    assert report.end.open


def test_accepting_does_not_make_up_for_missing_evidence(plan: Plan) -> None:
    """What is INCONCLUSIVE without the fact stays so."""
    gone = {"outcome": Outcome.UNREACHABLE, "reason": "reset"}
    leak = at(OPENS + 300, "ticket-tool", outcome=Outcome.REFUSED_BADLY)
    blind = between(MIDDLE, MIDDLE + 60, "vector-upsert", **gone)
    events = [*changed(changed(healthy(plan), leak), blind), accept("guard", ENDS + 1)]

    guard = verdicts_of(plan, events, ENDS + 30)["guard"]

    assert guard.status is INCONCLUSIVE
    assert "not proven for a stretch" in guard.reason


@pytest.mark.parametrize("criterion", CRITERIA)
def test_accepting_what_is_only_missing_changes_nothing(criterion: str, plan: Plan) -> None:
    """With no evidence at all, an acceptance of each criterion leaves its verdict as it was."""
    before = verdicts_of(plan, [], ENDS + 30)[criterion]

    after = verdicts_of(plan, [accept(criterion, ENDS + 1)], ENDS + 30)[criterion]

    assert (after.status, after.reason) == (before.status, before.reason)
    assert after.status is INCONCLUSIVE


def test_the_command_refuses_to_accept_missing_evidence(tmp_path: Path) -> None:
    """It says what can be done instead."""
    plan = plan_in(tmp_path)
    LedgerFile(plan.ledger, create=True).close()

    with pytest.raises(UsageError, match="missing evidence cannot be accepted; waive"):
        accept_command(plan.file, "guard", "dana", "it looked fine", as_machine=True)


# -- policy ---------------------------------------------------------------------------------------


def told(**statuses: Status) -> dict[str, Verdict]:
    """Everything passes but what is named."""
    return {name: verdict(name, statuses.get(name, PASS)) for name in CRITERIA}


def leaking(outcome: str) -> dict[str, Verdict]:
    found = told(guard=FAIL)
    finding = observation(outcome=Outcome.LEAKED)
    what = Finding(
        probe=finding.probe, surface="vectors", outcome=outcome, what="told", first=OPENS, last=OPENS
    )
    return {**found, "guard": replace(found["guard"], findings=(what,), final=True)}


def auditing(outcome: str) -> dict[str, Verdict]:
    """A store was written, or is held open from before the window."""
    found = told(storage=FAIL)
    what = Finding(probe="db", surface="db", outcome=outcome, what="told", first=OPENS, last=OPENS)
    return {**found, "storage": replace(found["storage"], findings=(what,), final=True)}


HOLD, EXTEND, ROLL_BACK, CLOSE = Action.HOLD, Action.EXTEND, Action.ROLL_BACK, Action.CLOSE


@pytest.mark.parametrize(
    ("now", "verdicts", "extensions", "action", "causes"),
    [
        (OPENS - 60, told(guard=INCONCLUSIVE, reads=INCONCLUSIVE), 0, HOLD, ()),
        (MIDDLE, told(), 0, HOLD, ()),
        (MIDDLE, told(meaning=INCONCLUSIVE), 0, HOLD, ()),
        (MIDDLE, told(reads=FAIL), 0, EXTEND, ("reads",)),
        (MIDDLE, told(meaning=FAIL, flag=FAIL), 0, EXTEND, ("meaning", "flag")),
        (MIDDLE, auditing("changed"), 0, ROLL_BACK, ("storage",)),
        (MIDDLE, auditing("open"), 0, EXTEND, ("storage",)),
        (MIDDLE, leaking("leaked"), 0, ROLL_BACK, ("guard",)),
        (MIDDLE, leaking("leaked_behind_refusal"), 0, ROLL_BACK, ("guard",)),
        (MIDDLE, leaking("dropped"), 0, ROLL_BACK, ("guard",)),
        (MIDDLE, leaking("accepted"), 0, ROLL_BACK, ("guard",)),
        (MIDDLE, leaking("refused_badly"), 0, EXTEND, ("guard",)),
        (CLOSES - 1, told(coverage=INCONCLUSIVE), 0, HOLD, ()),
        (CLOSES, told(coverage=INCONCLUSIVE), 0, EXTEND, ("coverage",)),
        (CLOSES, told(coverage=INCONCLUSIVE), 2, HOLD, ()),
        (CLOSES + 600, told(coverage=INCONCLUSIVE), 2, ROLL_BACK, ("coverage",)),
        (CLOSES, told(reopen=INCONCLUSIVE), 0, CLOSE, ()),
        (CLOSES, told(), 0, CLOSE, ()),
        (ENDS, told(), 0, CLOSE, ()),
        (ENDS, told(reopen=FAIL), 0, EXTEND, ("reopen",)),
    ],
)
def test_the_policy_is_a_table(
    now: float,
    verdicts: dict[str, Verdict],
    extensions: int,
    action: Action,
    causes: tuple[str, ...],
    plan: Plan,
) -> None:
    """Verdicts, time and extensions in, one advice out."""
    acts = tuple(extension(CLOSES - 60).act for _ in range(extensions))
    timeline = Timeline(window=plan.window, acts=acts, frozen_at=OPENS + 5)

    decision = decide(now, timeline, verdicts, None)

    assert (decision.action, decision.causes) == (action, causes)
    assert all(cause in decision.reason for cause in causes)


def test_a_cause_stays_until_its_criterion_passes(plan: Plan) -> None:
    """A recovery that is not proven yet makes no noise: the advice holds through INCONCLUSIVE."""
    timeline = Timeline(window=plan.window, frozen_at=OPENS + 5)
    said: list[Action] = []
    decision: Decision | None = None
    for status in (INCONCLUSIVE, FAIL, INCONCLUSIVE, FAIL, INCONCLUSIVE, PASS, INCONCLUSIVE):
        decision = decide(MIDDLE, timeline, told(reads=status), decision)
        said.append(decision.action)

    assert said == [HOLD, EXTEND, EXTEND, EXTEND, EXTEND, HOLD, HOLD]


def test_a_recorded_roll_back_is_the_last_word(plan: Plan) -> None:
    """The advice follows the act."""
    timeline = Timeline(window=plan.window, acts=(closing_act(MIDDLE, "roll-back").act,))

    assert decide(MIDDLE + 1, timeline, told(), None).action is ROLL_BACK


@pytest.mark.parametrize(
    ("at_", "now", "is_open", "code"),
    [
        ("close", OPENS - 60, False, 3),
        ("close", OPENS + 5, False, 3),
        ("close", MIDDLE, True, 0),
        ("end", MIDDLE, False, 3),
        ("end", CLOSES + 60, False, 3),
        ("end", ENDS, True, 0),
    ],
)
def test_a_green_gate_opens_no_earlier_than_its_question(
    at_: Any, now: float, is_open: bool, code: int, plan: Plan
) -> None:
    """At close: once frozen. At the end: once over."""
    timeline = Timeline(window=plan.window, frozen_at=OPENS + 10)

    gate = ask(at_, now, timeline, told())

    assert (gate.open, gate.exit_code) == (is_open, code)
    assert is_open or gate.blocked_by


# -- purity ---------------------------------------------------------------------------------------

SLOTS = st.integers(-400_000, 1_700_000).map(lambda ms: round(OPENS + ms / 1000, 3))
NAMES = ["returns-policy", "product-search", "vector-upsert", "ticket-tool", "read_only/1", "nobody"]
FIGURE = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats()
    | st.sampled_from(["late", "overlap", "stopped", "x", "\ud800"])
    | st.lists(st.text(max_size=4), max_size=2)
)
KEYS = ["delta_s", "documents_overlap", "facts_missing", "code", "why", "slots", "undone", "answer"]
OBSERVED = st.builds(
    lambda **fields: Observed(at=fields["slot"], observation=Observation(**fields)),
    probe=st.sampled_from(NAMES),
    kind=st.sampled_from(Kind),
    surface=st.just("s"),
    outcome=st.sampled_from(Outcome),
    reason=st.sampled_from(["", "told", "\x00\ud800"]),
    slot=SLOTS,
    started=SLOTS,
    phase=st.just("frozen"),
    lateness_s=st.floats(),
    duration_s=st.floats(0, 100).map(lambda s: round(s, 6)) | st.floats(),
    figures=st.dictionaries(st.sampled_from(KEYS), FIGURE),
)
ACTS = st.builds(extension, SLOTS, st.sampled_from([0.5, 60.0, 3600.0])) | st.builds(
    accept, st.sampled_from(CRITERIA), SLOTS
)
ENDINGS = st.builds(closing_act, SLOTS, st.sampled_from(["close", "roll-back"]))
STREAMS = st.lists(OBSERVED | OBSERVED | OBSERVED | ACTS | ENDINGS, max_size=40)
HEALTHY_START = st.integers(0, 1100)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=STREAMS, kept=HEALTHY_START, moments=st.lists(SLOTS, min_size=1, max_size=4))
def test_judging_is_pure(stream: list[Event], kept: int, moments: list[float], plan: Plan) -> None:
    """Any events in any order: no exception, and a replay of the ledger says what was said live."""
    events = [*healthy(plan)[:kept], *stream]
    live = Judge(plan)
    asked = Judge(plan)
    for event in events:
        live.feed(loads(dumps(event)))
        asked.feed(loads(dumps(event)))
        asked.verdicts(moments[0])
    replayed = judge_of(plan, [loads(dumps(event)) for event in events])

    for now in [*moments, *moments]:
        first = live.verdicts(now)
        assert repr(first) == repr(live.verdicts(now)) == repr(asked.verdicts(now))
        assert repr(first) == repr(replayed.verdicts(now))
        assert set(first) == set(CRITERIA)
        decision = decide(now, live.timeline, first, None)
        gates = [ask(at_, now, live.timeline, first) for at_ in ("close", "end")]  # type: ignore[arg-type]
        assert all(gate.open is (gate.verdict is Colour.GREEN) for gate in gates)
        assert all(gate.open or gate.blocked_by for gate in gates)
        assert decision == decide(now, replayed.timeline, replayed.verdicts(now), None)
        assert all(verdict.reason for verdict in first.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=st.lists(OBSERVED, max_size=25))
def test_values_straight_from_a_probe_raise_nothing(stream: list[Event], plan: Plan) -> None:
    """NaN and infinity included, before any ledger has seen them."""
    judge = judge_of(plan, [*healthy(plan, until=OPENS + 60), *stream])

    assert judge.colour(ENDS) in Colour
    judge.meaning.trends()
    judge.reads.burn_rates()


# -- how often it errs ----------------------------------------------------------------------------

HOUR = 3600.0
ASKED = 3
READS_OF_TEN = "reads:" + "".join(
    ANSWERED.replace("returns-policy", f"ask-{n}")
    if n < ASKED
    else PLAIN.replace("product-search", f"get-{n}")
    for n in range(10)
)


@pytest.fixture
def hour(tmp_path: Path) -> Plan:
    text = window_text(length=HOUR, baseline="10m").replace("every: 10s", "every: 5s")
    return plan_in(tmp_path, text.replace("hold: 2m", "hold: 10m") + READS_OF_TEN + WAIVED)


Spoil = Callable[[np.ndarray, np.ndarray], None]
"""(durations, bad) of every slot and read, rows in time from `begins` on; changes them in place."""


class Hour:
    """An hour of ten reads every 5 s, drawn at once; judged only where a verdict could change."""

    def __init__(self, plan: Plan, seed: int, spoil: Spoil | None = None) -> None:
        self.plan = plan
        rng = np.random.default_rng(seed)
        self.rows = int((plan.window.baseline + HOUR) / 5)
        self.durations = np.array(lognormal(rng, self.rows * 10)).reshape(self.rows, 10)
        self.bad = np.zeros((self.rows, 10), bool)
        spikes = rng.choice(self.rows * 10, rng.integers(3, 12), replace=False)
        self.durations.reshape(-1)[spikes] *= rng.uniform(10, 60, len(spikes))
        self.bad.reshape(-1)[rng.integers(self.rows * 10)] = True
        if spoil is not None:
            spoil(self.durations, self.bad)

    def first_failure(self) -> dict[str, float]:
        """Seconds after `opens` at which `reads` and `meaning` first fail, where they do."""
        window = self.plan.window
        timeline, found = Timeline(window=window, frozen_at=window.opens + 5), {}
        reads, meaning = Reads(self.plan), Meaning(self.plan)
        names = [probe.name for probe in self.plan.probes]
        for row in range(self.rows):
            slot = window.begins + row * 5
            for column, name in enumerate(names):
                read = self._read(name, slot + column * 0.5, row, column)
                reads.observe(read, timeline)
                if column < ASKED and read.outcome is Outcome.OK:
                    meaning.observe(read, timeline)
                    meaning.observe(measured(read, None if row == 0 else 0.0), timeline)
            if slot < window.opens + 30:
                continue
            for criterion in (reads, meaning):
                if criterion.name not in found and self._fails(criterion, slot + 5, timeline):
                    found[criterion.name] = slot + 5 - window.opens
        return found

    @staticmethod
    def _fails(criterion: Reads | Meaning, now: float, timeline: Timeline) -> bool:
        if isinstance(criterion, Reads):
            failing, _ = criterion._states(now, timeline)
            return bool(failing) or criterion._spent_since is not None
        return any(q.condition.breached_since is not None for q in criterion._questions.values())

    def _read(self, name: str, slot: float, row: int, column: int) -> Observation:
        bad = bool(self.bad[row, column])
        return Observation(
            probe=name,
            kind=Kind.READ,
            surface=name,
            outcome=Outcome.UNREACHABLE if bad else Outcome.OK,
            reason="timeout" if bad else "answered",
            slot=slot,
            started=slot,
            phase="frozen",
            duration_s=2.0 if bad else float(self.durations[row, column]),
        )


@pytest.mark.parametrize("part", range(6))
def test_three_hundred_clean_hours_raise_no_false_alarm(part: int, hour: Plan) -> None:
    """Lognormal latency, lone spikes and a lone timeout: none of fifty hours passes through FAIL."""
    failed = [seed for seed in range(part * 50, part * 50 + 50) if Hour(hour, seed).first_failure()]

    assert failed == []


def everything(start: float, share: float) -> Spoil:
    def spoil(durations: np.ndarray, bad: np.ndarray) -> None:
        rows = bad[int((600 + start) / 5) :]
        rows |= np.random.default_rng(5).random(rows.shape) < share

    return spoil


def slower(start: float, by: float) -> Spoil:
    def spoil(durations: np.ndarray, bad: np.ndarray) -> None:
        durations[int((600 + start) / 5) :] += by

    return spoil


@pytest.mark.parametrize("start", [60.0, 1000.0, 3000.0])
@pytest.mark.parametrize(
    "spoil",
    [lambda s: everything(s, 1.0), lambda s: everything(s, 0.25), lambda s: slower(s, 0.4)],
    ids=["every read fails", "a quarter of reads fail", "reads take 400 ms longer"],
)
def test_a_real_fault_is_found_within_a_minute(
    spoil: Callable[[float], Spoil], start: float, hour: Plan
) -> None:
    """Early, midway and late in the hour, after however many healthy answers."""
    for seed in (1, 2, 3):
        found = Hour(hour, seed, spoil(start)).first_failure()

        assert start < found["reads"] <= start + 60


def test_a_freeze_or_thaw_that_takes_its_time_is_no_failure(plan: Plan) -> None:
    """Anything up to `settle` is allowed at both edges."""
    dice = random.Random(11)
    for _ in range(20):
        story = Story(freezes=dice.uniform(0, 29), thaws=dice.uniform(0, 29), seed=dice.randrange(10**6))

        report = build(plan, healthy(plan, story), HEAD, ENDS + 30)

        assert report.verdict is Colour.GREEN, [(v.criterion, v.reason) for v in report.criteria]


def test_the_sections_of_a_window_are_judged_by_what_is_configured(tmp_path: Path) -> None:
    """Without a soak, what comes after the end cannot be proven."""
    plan = plan_in(tmp_path, window_text(soak="0s") + READS + WRITES + FLAGS + WAIVED)

    verdicts = verdicts_of(plan, healthy(plan), CLOSES + 30)

    assert verdicts["reopen"].status is INCONCLUSIVE
    assert "there is no soak" in verdicts["reopen"].reason
