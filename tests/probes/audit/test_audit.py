"""The audit probe: whose a write was, who may still write, and what a source could not tell."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from probes.answer import OwnFault, Unreachable
from probes.audit.audit import LONGEST_MARK, NAMED, Audit
from probes.audit.reading import Change, Exemption, OpenWriter, Reading
from probes.base import Outcome, Result, Run, Why

OPENS = 1000.0
WRITE = Change(what="public.products", operation="insert", count=2, keys=("id=5", "id=6"))


class Told:
    """A source that says what a test tells it, one reading after the other."""

    def __init__(self, *readings: Reading | Exception | float) -> None:
        self.readings = list(readings)
        self.marks: list[str | None] = []
        self.closed = False

    async def read(self, mark: str | None) -> Reading:
        self.marks.append(mark)
        told = self.readings.pop(0)
        if isinstance(told, Exception):
            raise told
        if isinstance(told, float):
            await asyncio.sleep(told)
            return Reading(mark="late")
        return told

    async def aclose(self) -> None:
        self.closed = True


def audit(source: Told, *exempt: dict[str, str], timeout: float = 1.0) -> Audit:
    return Audit(
        name="db",
        source=source,
        exempt=[Exemption.model_validate(each) for each in exempt],
        timeout=timeout,
        opens=OPENS,
    )


def frozen(at: float = OPENS + 60) -> Run:
    return Run(slot=at, started=at, phase="frozen", frozen=True)


async def runs(probe: Audit, *starts: float) -> list[Result]:
    return [await probe.run(frozen(at)) for at in starts]


async def one(*changes: Change, exempt: tuple[dict[str, str], ...] = (), **reading: Any) -> Result:
    source = Told(Reading(mark="m1"), Reading(mark="m2", changes=changes, **reading))
    return (await runs(audit(source, *exempt), OPENS + 50, OPENS + 60))[1]


async def test_each_reading_goes_on_from_the_one_before() -> None:
    source = Told(Reading(mark="a"), Reading(mark="b"), Reading(mark="c"))

    results = await runs(audit(source), OPENS + 1, OPENS + 2, OPENS + 3)

    assert source.marks == [None, "a", "b"]
    assert [result.figures["since"] for result in results] == [None, OPENS + 1, OPENS + 2]


async def test_a_first_reading_proves_nothing_and_says_so() -> None:
    first = (await runs(audit(Told(Reading(mark="a"))), OPENS + 1))[0]

    assert (first.outcome, first.reason) == (Outcome.OK, "first reading")


async def test_a_write_is_named() -> None:
    result = await one(WRITE, grade="logical slot")

    assert result.outcome is Outcome.CHANGED
    assert result.reason == "public.products: 2 × insert (id=5, id=6) (logical slot)"
    assert result.figures["changes"] == 2


async def test_ours_and_exempt_ones_are_apart() -> None:
    heartbeat = Change(what="public.heartbeat", operation="update", count=9)
    ours = replace(WRITE, own=True)

    result = await one(heartbeat, ours, exempt=({"table": "public.heart*", "reason": "the monitor"},))

    assert result.outcome is Outcome.OK
    assert result.reason == "nothing written since the reading before, apart from 9 exempt and 2 our own"
    assert (result.figures["exempt"], result.figures["own"], result.figures["changes"]) == (9, 2, 0)


async def test_an_exemption_by_role_needs_the_role_to_be_known() -> None:
    """Where the store does not say who wrote, nobody is excused by who they are."""
    rule = {"table": "public.products", "role": "replicator", "reason": "the subscription"}

    assert (await one(replace(WRITE, role="replicator"), exempt=(rule,))).outcome is Outcome.OK
    assert (await one(replace(WRITE, role="app"), exempt=(rule,))).outcome is Outcome.CHANGED
    assert (await one(WRITE, exempt=(rule,))).outcome is Outcome.CHANGED


@pytest.mark.parametrize(
    "rule",
    [
        {"reason": "nothing named"},
        {"table": "a", "key": "b", "reason": "two names"},
        {"table": "a"},
        {"table": "a", "reason": "x"},
        {"table": "", "reason": "everything"},
        {"tabel": "a", "reason": "a typing mistake"},
    ],
)
def test_an_exemption_says_what_and_why(rule: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Exemption.model_validate(rule)


async def test_what_cannot_be_told_is_unknown_and_a_change_beside_it_is_a_change() -> None:
    unknown = await one(unknown="the server was started again")
    both = await one(WRITE, unknown="the server was started again")

    assert (unknown.outcome, unknown.reason) == (Outcome.UNKNOWN, "the server was started again")
    assert (both.outcome, both.figures["unknown"]) == (Outcome.CHANGED, "the server was started again")


async def test_writers_from_before_the_window_are_counted_and_named() -> None:
    old = OpenWriter(who="session 1 of app", age_s=61.0, role="app")
    new = OpenWriter(who="session 2 of app", age_s=59.0, role="app")

    result = await one(open=(old, new))

    assert result.figures["open"] == 1
    assert result.figures["open_what"] == ["session 1 of app, for 61 s"]


async def test_an_exempt_role_holds_no_fence() -> None:
    old = OpenWriter(who="session 1 of repl", age_s=61.0, role="repl")

    result = await one(open=(old,), exempt=({"role": "repl", "reason": "the subscription"},))

    assert result.figures["open"] == 0


async def test_a_fence_that_cannot_be_seen_is_none_and_not_zero() -> None:
    assert (await one(open=None)).figures["open"] is None


async def test_no_fence_is_counted_while_writes_are_open() -> None:
    source = Told(Reading(mark="a", open=(OpenWriter(who="session 1", age_s=1e6),)))

    result = await audit(source).run(Run(slot=OPENS - 9, started=OPENS - 9, phase="baseline", frozen=False))

    assert result.figures["open"] == 0


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (Unreachable("connection refused"), Outcome.UNREACHABLE),
        (OwnFault("the driver is not installed"), Outcome.SKIPPED),
        (9.0, Outcome.UNREACHABLE),
    ],
)
async def test_a_reading_that_fails_says_so_and_the_next_reaches_over_it(
    told: Exception | float, outcome: Outcome
) -> None:
    source = Told(Reading(mark="a"), told, Reading(mark="c", changes=(WRITE,)))

    results = await runs(audit(source, timeout=0.1), OPENS + 1, OPENS + 2, OPENS + 3)

    assert results[1].outcome is outcome
    assert source.marks == [None, "a", "a"]
    assert results[2].outcome is Outcome.CHANGED
    assert results[2].figures["since"] == OPENS + 1


async def test_our_own_fault_is_named_as_such() -> None:
    result = (await runs(audit(Told(OwnFault("no file descriptors"))), OPENS + 1))[0]

    assert result.figures["why"] == Why.OWN_FAULT


async def test_a_restart_goes_on_from_what_was_recorded() -> None:
    source = Told(Reading(mark="b", changes=(WRITE,)))
    probe = audit(source)

    probe.resume("a", OPENS + 5)
    result = (await runs(probe, OPENS + 100))[0]

    assert source.marks == ["a"]
    assert (result.outcome, result.figures["since"]) == (Outcome.CHANGED, OPENS + 5)


async def test_a_mark_is_recorded_when_it_moved_and_when_it_is_not_too_long() -> None:
    long = "x" * (LONGEST_MARK + 1)
    source = Told(Reading(mark="a"), Reading(mark="a"), Reading(mark="b"), Reading(mark=long))

    results = await runs(audit(source), *(OPENS + n for n in range(4)))

    assert [result.figures.get("mark") for result in results] == ["a", None, "b", None]


async def test_many_changes_are_counted_and_few_are_spelled_out() -> None:
    many = [replace(WRITE, what=f"public.t{number}") for number in range(3 * NAMED)]

    result = await one(*many)

    assert result.figures["changes"] == 6 * NAMED
    assert len(result.figures["what"]) == NAMED  # type: ignore[arg-type]
    assert f"and {3 * NAMED - 3} more" in result.reason


async def test_closing_closes_the_source() -> None:
    source = Told()

    await audit(source).aclose()

    assert source.closed
