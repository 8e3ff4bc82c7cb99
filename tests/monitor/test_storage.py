"""storage: what an audit found, when it was found, whose it was, and what could not be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitor.criteria.storage import Storage
from monitor.events import Event, Observed
from monitor.freeze import Freeze
from monitor.model import Status, Timeline, Verdict
from monitor.plan import Plan
from probes.base import Kind, Observation, Outcome

from .builders import (
    AUDITS,
    CLOSES,
    FLAGS,
    OPENS,
    READS,
    WAIVED,
    WRITES,
    accept,
    changed,
    healthy,
    judge_of,
    observation,
    plan_in,
    seen,
    verdicts_of,
    window_text,
)

FROZEN = OPENS + 60.0
NAME = "catalogue-db"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_in(tmp_path)


def reading(
    slot: float, outcome: Outcome = Outcome.OK, *, since: float | None = None, **figures: Any
) -> Observation:
    told = {"grade": "row contents", "lag_s": 0.0, "open": 0, "changes": 0} | figures
    told["since"] = slot - 10.0 if since is None else since
    return observation(NAME, Kind.AUDIT, outcome, slot, figures=told)


def written(slot: float, what: str = "products: 1 × insert (id=7)", **figures: Any) -> Observation:
    return reading(slot, Outcome.CHANGED, **({"changes": 1, "what": [what]} | figures))


def storage(plan: Plan, observations: list[Observation], *, frozen_at: float | None = OPENS + 2) -> Verdict:
    criterion = Storage(plan)
    timeline = Timeline(window=plan.window, frozen_at=frozen_at)
    for each in observations:
        criterion.observe(each, timeline)
    return criterion.verdict(observations[-1].started + 1, timeline)


QUIET = [reading(FROZEN + 10.0 * number) for number in range(5)]


def test_quiet_readings_pass_and_say_how_they_were_made(plan: Plan) -> None:
    verdict = storage(plan, QUIET)

    assert verdict.status is Status.PASS
    assert "no production write in 5 readings of 1 store (row contents)" in verdict.reason


def test_a_window_without_an_audit_is_not_configured(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, window_text() + READS + WRITES + FLAGS + WAIVED)

    verdict = verdicts_of(plan, healthy(plan), CLOSES - 1)["storage"]

    assert verdict.status is Status.INCONCLUSIVE
    assert "no storage audit" in verdict.reason


def test_one_write_fails_for_good_and_is_named_with_both_readings(plan: Plan) -> None:
    verdict = storage(plan, [*QUIET, written(FROZEN + 50), reading(FROZEN + 60)])

    assert verdict.status is Status.FAIL
    assert verdict.final
    assert "products: 1 × insert (id=7), between 2026-11-23T22:01:40" in verdict.reason
    assert verdict.figures["production_writes"] == 1


def test_writes_that_go_on_are_one_finding_for_each_place(plan: Plan) -> None:
    """A job that writes all night is one thing that is wrong, told as it was first seen."""
    on_and_on = [
        written(FROZEN + 50 + 10 * n, f"stock: 1 × insert (id={n})", where=["stock: insert"])
        for n in range(50)
    ]

    verdict = storage(plan, [*QUIET, *on_and_on, written(FROZEN + 600, where=["products: insert"])])

    assert [(f.count, f.what.partition(",")[0]) for f in verdict.findings] == [
        (50, "stock: 1 × insert (id=0)"),
        (1, "products: 1 × insert (id=7)"),
    ]
    assert verdict.findings[0].last == FROZEN + 540
    assert verdict.figures["production_writes"] == 51


def test_a_write_between_readings_across_the_freeze_is_shown_apart(plan: Plan) -> None:
    """Nobody can say on which side of the freeze it was."""
    verdict = storage(plan, [written(OPENS + 5, since=OPENS - 5), *QUIET])

    assert verdict.status is Status.PASS
    assert verdict.figures["landed_while_freezing"] == 1


def test_a_store_that_shows_writes_late_is_not_believed_too_early(plan: Plan) -> None:
    late = written(OPENS + 12, since=OPENS + 3, lag_s=11.0)
    after = written(OPENS + 25, since=OPENS + 15, lag_s=11.0)

    assert storage(plan, [late, *QUIET]).status is Status.PASS
    assert storage(plan, [after, *QUIET]).status is Status.FAIL


def test_nothing_is_judged_while_it_is_not_known_to_be_frozen(plan: Plan) -> None:
    verdict = storage(plan, [written(OPENS + 15)], frozen_at=None)

    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.figures["landed_while_freezing"] == 1


def test_exempt_writes_and_our_own_are_counted_apart(plan: Plan) -> None:
    verdict = storage(plan, [*QUIET, reading(FROZEN + 50, exempt=4, own=2)])

    assert verdict.status is Status.PASS
    assert (verdict.figures["exempt_writes"], verdict.figures["own_writes"]) == (4, 2)


def leak(slot: float, trace: str = "none: undone") -> Observation:
    return observation("vector-upsert", Kind.WRITE, Outcome.LEAKED, slot, figures={"trace": trace})


@pytest.mark.parametrize(("found", "status"), [(2, Status.PASS), (3, Status.FAIL)])
def test_a_counter_that_cannot_tell_ours_is_forgiven_our_leak_and_no_more(
    plan: Plan, found: int, status: Status
) -> None:
    """A leaked canary is one write and one undo."""
    counted = written(FROZEN + 50, changes=found, tells_own=False)

    verdict = storage(plan, [*QUIET, leak(FROZEN + 45), counted])

    assert verdict.status is status


def test_a_leak_that_left_nothing_excuses_no_write(plan: Plan) -> None:
    """An attempt without a trace is in no counter."""
    verdict = storage(plan, [*QUIET, leak(FROZEN + 45, "none"), written(FROZEN + 50, tells_own=False)])

    assert verdict.status is Status.FAIL


def test_a_leak_on_one_kind_of_store_excuses_no_write_to_another(tmp_path: Path) -> None:
    text = window_text() + WRITES + AUDITS + WAIVED
    text = text.replace("writes:", "writes:\n  - {name: cache, redis: {url: redis://127.0.0.1:1}}")
    plan = plan_in(tmp_path, text)
    elsewhere = observation(
        "cache", Kind.WRITE, Outcome.LEAKED, FROZEN + 45, figures={"trace": "none: undone"}
    )

    verdict = storage(plan, [*QUIET, elsewhere, written(FROZEN + 50, tells_own=False)])

    assert verdict.status is Status.FAIL


def test_a_counter_that_tells_ours_is_forgiven_nothing(plan: Plan) -> None:
    verdict = storage(plan, [*QUIET, leak(FROZEN + 45), written(FROZEN + 50, tells_own=True)])

    assert verdict.status is Status.FAIL


def test_a_stretch_that_cannot_be_told_is_never_made_good(plan: Plan) -> None:
    lost = reading(FROZEN + 50, Outcome.UNKNOWN, unknown="the server was started again")

    verdict = storage(plan, [*QUIET, lost, *(reading(FROZEN + 60 + 10 * n) for n in range(9))])

    assert verdict.status is Status.INCONCLUSIVE
    assert "cannot be told for a stretch" in verdict.reason


def test_a_change_beside_an_unknown_stretch_is_still_a_change(plan: Plan) -> None:
    verdict = storage(plan, [*QUIET, written(FROZEN + 50, unknown="the slot was lost")])

    assert verdict.status is Status.FAIL
    assert verdict.otherwise[0] is Status.INCONCLUSIVE


def test_a_reading_that_failed_is_made_good_by_one_that_reaches_over_it(plan: Plan) -> None:
    dead = observation(NAME, Kind.AUDIT, Outcome.UNREACHABLE, FROZEN + 50, reason="connection refused")

    assert storage(plan, [*QUIET, dead]).reason == f"{NAME}: connection refused"
    assert storage(plan, [*QUIET, dead, reading(FROZEN + 60, since=FROZEN + 40)]).status is Status.PASS


@pytest.mark.parametrize("readings", [0, 1, 2])
def test_few_readings_prove_nothing(plan: Plan, readings: int) -> None:
    verdict = storage(plan, [reading(OPENS + 1, since=OPENS - 9), *QUIET[:readings]])

    assert verdict.status is Status.INCONCLUSIVE


def test_a_fence_that_stays_open_is_a_finding_that_names_who(plan: Plan) -> None:
    """It is said once, and is no reason to roll back: nothing was written yet."""
    who = ["session 4711 of app from 10.0.0.3, for 95 s"]
    waiting = [reading(FROZEN + 10 * n, open=1, open_what=who) for n in range(4)]

    verdict = storage(plan, waiting)

    assert verdict.status is Status.FAIL
    assert [finding.outcome for finding in verdict.findings] == ["open"]
    assert "session 4711 of app" in verdict.reason


def test_a_fence_within_settle_is_no_finding(plan: Plan) -> None:
    waiting = reading(OPENS + 5, open=1, open_what=["session 1"])

    verdict = storage(plan, [waiting, *QUIET], frozen_at=OPENS + 6)

    assert verdict.status is Status.PASS


def test_a_fence_that_cannot_be_seen_is_said(plan: Plan) -> None:
    verdict = storage(plan, [reading(each.slot, open=None) for each in QUIET])

    assert verdict.status is Status.PASS
    assert verdict.figures["fence_not_seen"] == [NAME]


def test_the_freeze_waits_for_writers_from_before(plan: Plan) -> None:
    freeze, timeline = Freeze(plan.probes), Timeline(window=plan.window)
    for name in ("vector-upsert", "ticket-tool"):
        freeze.observe(observation(name, slot=OPENS + 1), timeline)
    for replica in ("read_only/1", "read_only/2"):
        freeze.observe(observation(replica, Kind.FLAG, Outcome.ON, OPENS + 1), timeline)

    assert freeze.observe(reading(OPENS + 3, open=1), timeline) is None
    assert freeze.observe(reading(OPENS + 8, open=0), timeline) == pytest.approx(OPENS + 8.02)


def test_an_audit_that_never_saw_a_write_is_listed(plan: Plan) -> None:
    """One that has seen writes while they were open has shown that it would see them."""
    before = written(OPENS - 50)

    assert storage(plan, QUIET).figures["never_seen_to_see"] == [NAME]
    assert storage(plan, [before, *QUIET]).figures["never_seen_to_see"] == []


def test_an_audit_that_saw_our_own_canary_looks_at_the_right_store(plan: Plan) -> None:
    before = reading(OPENS - 60, own=1)

    assert storage(plan, [before, *QUIET]).figures["never_seen_to_see"] == []


def test_a_write_in_a_reading_that_ended_after_the_window_may_be_of_after_it(plan: Plan) -> None:
    late = replace(written(CLOSES - 0.1), duration_s=0.3)

    verdict = storage(plan, [*QUIET, late])

    assert verdict.status is Status.PASS
    assert verdict.figures["production_writes"] == 0
    assert verdict.figures["at_the_edge"] == 1


def test_a_write_stays_a_finding_when_its_audit_is_taken_out(plan: Plan) -> None:
    gone = observation(
        "old-db", Kind.AUDIT, Outcome.CHANGED, FROZEN, figures={"since": FROZEN - 10, "changes": 1}
    )

    assert storage(plan, [gone, *QUIET]).status is Status.FAIL


def with_write(plan: Plan, at: float) -> list[Event]:
    def change(o: Observation) -> Observation:
        hit = o.kind is Kind.AUDIT and abs(o.slot - at) < 5
        return written(o.slot, since=o.figures["since"]) if hit else o  # type: ignore[arg-type]

    return changed(healthy(plan), change)


def test_a_write_advises_to_roll_back_and_can_be_accepted(plan: Plan) -> None:
    events = with_write(plan, OPENS + 300)

    broken = verdicts_of(plan, events, CLOSES - 1)["storage"]
    accepted = verdicts_of(plan, [*events, accept("storage", CLOSES - 5)], CLOSES - 1)["storage"]

    assert broken.status is Status.FAIL
    assert accepted.status is Status.PASS
    assert accepted.accepted


def test_a_window_with_a_write_turns_storage_alone(plan: Plan) -> None:
    verdicts = verdicts_of(plan, with_write(plan, OPENS + 300), CLOSES - 1)

    assert [name for name, v in verdicts.items() if v.status is Status.FAIL] == ["storage"]


def test_figures_of_the_wrong_type_turn_nothing_green(plan: Plan) -> None:
    """A ledger that somebody wrote by hand."""
    nonsense = [
        observation(NAME, Kind.AUDIT, Outcome.OK, FROZEN + 10 * n, figures={"since": "x", "open": "none"})
        for n in range(9)
    ]

    assert storage(plan, nonsense).status is Status.INCONCLUSIVE


def test_the_judge_and_the_criterion_see_the_same(plan: Plan) -> None:
    judge = judge_of(plan, with_write(plan, OPENS + 300))

    assert judge.storage.writes[NAME, "production"] == 1
    assert isinstance(seen(written(FROZEN)), Observed)
