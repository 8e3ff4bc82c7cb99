"""Plans from real files, the observations of a healthy window, and what is made of them; asserts nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from monitor.commands.judge import gate as gate_command
from monitor.config import read_plan
from monitor.events import Acted, Event, Observed
from monitor.judge import Judge, grids
from monitor.ledger import Head, LedgerFile, answer_id
from monitor.metrics import Metrics
from monitor.model import Act, Verdict, iso
from monitor.plan import Plan, Planned
from monitor.policy import decide
from monitor.report.build import Report, as_json, build
from probes.base import Kind, Observation, Outcome, Why

OPENS = 1_795_471_200.0
"""2026-11-23T22:00:00Z."""
LENGTH = 1200.0
BASELINE = 300.0
SOAK = 120.0
CLOSES = OPENS + LENGTH
ENDS = CLOSES + SOAK
EVERY = 10.0
HEAD = Head(records=0, link="00" * 32)

WINDOW = """
window:
  id: reindex
  opens: {opens}
  closes: {closes}
  baseline: {baseline}
  soak: {soak}
  settle: 30s
  hold: 2m
  extend: {{by: 5m, at_most: 2}}
  contact: search-oncall@example.com
  rollback: https://runbooks.example.com/reindex
defaults: {{every: 10s, timeout: 2s}}
listen: "off"
"""
ANSWERED = """
  - name: returns-policy
    http: {url: "http://127.0.0.1:1/ask"}
    answer: $.answer
    documents: $.sources[*].id
    must_contain: ["30 days"]
"""
PLAIN = """
  - name: product-search
    http: {url: "http://127.0.0.1:1/search"}
"""
READS = f"reads:{ANSWERED}{PLAIN}"
READ_BACK = """    read_back: {http: {url: "http://127.0.0.1:1/v/${canary}"}}\n"""
UNDO = """    undo: {http: {url: "http://127.0.0.1:1/v/${canary}", method: DELETE}}\n"""


def write(name: str, *, read_back: bool = True, undo: bool = True) -> str:
    head = f'  - name: {name}\n    http: {{url: "http://127.0.0.1:1/v/${{canary}}", method: PUT}}\n'
    head += "    variants: false\n"
    return head + (READ_BACK if read_back else "") + (UNDO if undo else "")


WRITES = "writes:\n" + write("vector-upsert") + write("ticket-tool")
FLAGS = """
flags:
  - {name: read_only, http: {url: "http://127.0.0.1:1/flag"}, at: $.on,
     replicas: ["http://127.0.0.1:1/flag-b"]}
"""
AUDITS = """
audits:
  - {name: catalogue-db, sqlite: {path: /srv/catalogue.db}}
"""
WAIVED = """
waive:
  queue: writes are dropped, nothing is buffered
  notice: an internal window, users see nothing
  jobs: the backfill runs by hand
  retries: the clients are our own batch jobs
  scope: the surfaces were listed by hand
"""
EVERYTHING_WAIVED = WAIVED + "".join(
    f"  {name}: not asked for\n"
    for name in ("guard", "storage", "reads", "meaning", "flag", "reopen", "coverage")
)
PROBES = READS + WRITES + AUDITS + FLAGS


def window_text(
    *, opens: float = OPENS, baseline: str = "5m", soak: str = "2m", length: float = LENGTH
) -> str:
    return WINDOW.format(opens=iso(opens), closes=iso(opens + length), baseline=baseline, soak=soak)


def plan_in(directory: Path, text: str | None = None, environment: dict[str, str] | None = None) -> Plan:
    """The plan in a real file; by default the one whose healthy window is GREEN."""
    file = directory / "window.yaml"
    file.write_text(text if text is not None else window_text() + PROBES + WAIVED, encoding="utf-8")
    return read_plan(file, environment or {})


def observation(
    probe: str = "vector-upsert",
    kind: Kind = Kind.WRITE,
    outcome: Outcome = Outcome.REFUSED,
    slot: float = OPENS + 60,
    **others: Any,
) -> Observation:
    fields: dict[str, Any] = {
        "surface": probe.split("/")[0],
        "reason": outcome.value,
        "started": slot,
        "phase": "frozen",
        "duration_s": 0.02,
    }
    return Observation(probe=probe, kind=kind, outcome=outcome, slot=slot, **(fields | others))


def seen(o: Observation) -> Observed:
    return Observed(at=o.started + o.duration_s, observation=o)


def accept(criterion: str, at: float, who: str = "dana") -> Acted:
    return Acted(at=at, act=Act(at=at, act="accept", who=who, reason="checked by hand", criterion=criterion))


def extension(at: float, by: float = 300.0) -> Acted:
    return Acted(at=at, act=Act(at=at, act="extend", who="amira", reason="the index is late", by=by))


def closing_act(at: float, act: str = "close") -> Acted:
    return Acted(at=at, act=Act(at=at, act=act, who="amira", reason="it is done"))


@dataclass(frozen=True, kw_only=True)
class Story:
    """How a healthy target behaves: when it freezes and thaws, how fast it answers."""

    freezes: float = 2.0
    thaws: float = 1.0
    median: float = 0.03
    sigma: float = 0.3
    seed: int = 7


def healthy(plan: Plan, story: Story = Story(), *, until: float | None = None) -> list[Event]:
    """The events of a window in which nothing goes wrong, in the order in which they end."""
    dice = random.Random(story.seed)
    window = plan.window
    ends = window.closes + window.soak if until is None else until
    found: list[Event] = []
    for probe, slot in _slots(plan, ends):
        run = _run(plan, probe, slot, dice, story)
        if run is None:
            continue
        found.append(seen(run))
        if probe.measured and run.outcome is Outcome.OK:
            first = slot < window.begins + 2 * probe.every
            meaning = measured(run, None if first else round(abs(dice.gauss(0.01, 0.005)), 6))
            found.append(Observed(at=found[-1].at, observation=meaning))
    return found


def _slots(plan: Plan, ends: float) -> Iterator[tuple[Planned, float]]:
    slots = grids(plan)
    due = []
    for probe in plan.probes:
        grid = slots[probe.name]
        slot = grid.after(plan.window.begins - grid.every)
        while slot < ends:
            if slot >= plan.window.begins:
                due.append((slot, probe.name, probe))
            slot += grid.every
    return ((probe, slot) for slot, _, probe in sorted(due, key=lambda item: item[:2]))


def _run(plan: Plan, probe: Planned, slot: float, dice: random.Random, story: Story) -> Observation | None:
    window = plan.window
    frozen = window.opens + story.freezes <= slot < window.closes + story.thaws
    planned_frozen = window.opens <= slot < window.closes
    figures: dict[str, Any] = {"status": 200}
    if probe.kind is Kind.WRITE:
        unwanted = slot < window.opens or (slot >= window.closes and probe.spec.undo is None)
        if unwanted or 0 < window.closes - slot < 0.25:
            return None
        outcome = Outcome.REFUSED if frozen else Outcome.LEAKED if planned_frozen else Outcome.ACCEPTED
        figures = {"code": "read_only", "verified": True}
        if outcome is not Outcome.REFUSED:
            figures["undone"] = True
    elif probe.kind is Kind.AUDIT:
        since = None if slot - probe.every < window.begins else slot - probe.every + 0.001
        outcome = Outcome.OK if frozen else Outcome.CHANGED
        changes = 0 if frozen else 3
        figures = {"grade": "row contents", "since": since, "changes": changes, "open": 0, "lag_s": 0.0}
    elif probe.kind is Kind.FLAG:
        outcome = Outcome.ON if frozen else Outcome.OFF
    else:
        outcome = Outcome.OK
        if probe.spec.answer:
            figures["answer"] = answer_id("30 days")
    return Observation(
        probe=probe.name,
        kind=probe.kind,
        surface=probe.surface,
        outcome=outcome,
        reason=f"{outcome.value} as told",
        slot=slot,
        started=slot + 0.001,
        phase="frozen" if planned_frozen else "baseline" if slot < window.opens else "soak",
        lateness_s=0.001,
        duration_s=round(story.median * dice.lognormvariate(0, story.sigma), 6),
        figures=figures,
        answer="30 days" if "answer" in figures else None,
    )


def measured(read: Observation, delta: float | None, **figures: Any) -> Observation:
    """The measurement of an answered read."""
    found: dict[str, Any] = {"delta_s": delta, "facts_missing": [], "documents_overlap": 1.0}
    if delta is None:
        found["documents_overlap"] = None
    return replace(
        read,
        kind=Kind.MEANING,
        outcome=Outcome.OK,
        reason="measured",
        duration_s=0.0,
        lateness_s=0.0,
        phases={},
        answer=None,
        figures=found | figures,
    )


Change = Callable[[Observation], Observation | None]


def changed(events: Iterable[Event], change: Change) -> list[Event]:
    """`events` with every observation put through `change`; None removes it."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, Observed):
            other = change(event.observation)
            if other is not None:
                found.append(replace(event, observation=other))
        else:
            found.append(event)
    return found


def without(events: Iterable[Event], *, probe: str | None = None, kind: Kind | None = None) -> list[Event]:
    """`events` without the evidence of a probe, of a kind, or of a kind of one probe."""

    def gone(o: Observation) -> bool:
        return probe in (None, o.probe) and kind in (None, o.kind)

    return changed(events, lambda o: None if gone(o) else o)


def silent(events: Iterable[Event], start: float, end: float, probe: str | None = None) -> list[Event]:
    """`events` without those that began in [start, end), of one probe or of all."""

    def inside(o: Observation) -> bool:
        return start <= o.slot < end and probe in (None, o.probe)

    return changed(events, lambda o: None if inside(o) else o)


def skipped(o: Observation, why: Why) -> Observation:
    return replace(
        o,
        outcome=Outcome.SKIPPED,
        reason=f"skipped: {why.value}",
        duration_s=0.0,
        answer=None,
        figures={"why": why.value, "slots": 1},
    )


def judge_of(plan: Plan, events: Iterable[Event]) -> Judge:
    judge = Judge(plan)
    for event in events:
        judge.feed(event)
    return judge


def verdicts_of(plan: Plan, events: Iterable[Event], now: float) -> dict[str, Verdict]:
    return judge_of(plan, events).verdicts(now)


@dataclass(frozen=True, kw_only=True)
class Faces:
    """One moment of a window as everybody sees it."""

    report: Report
    document: dict[str, Any]
    exit_codes: dict[str, int]
    registry: CollectorRegistry

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"freezewatch_{name}", labels)

    def criterion(self, name: str) -> dict[str, Any]:
        return next(each for each in self.document["criteria"] if each["criterion"] == name)


def faces(plan: Plan, events: list[Event]) -> Faces:
    """Report, document, exit codes of the real command on a real ledger, and metrics, as of this moment."""
    with closing(LedgerFile(plan.ledger, create=True)) as file:
        if events:
            file.append(events)
        recorded = [event for _, event in file.events()]
        head = file.head()
    report = build(plan, recorded, head, time.time())
    codes = {
        at: gate_command(plan.file, at, wait=0.0, as_machine=True)  # type: ignore[arg-type]
        for at in ("close", "end")
    }
    registry = CollectorRegistry()
    metrics = Metrics(plan, registry)
    judge = Judge(plan)
    for event in recorded:
        judge.feed(event)
        metrics.event(event)
    now = time.time()
    verdicts = judge.verdicts(now)
    metrics.judged(now, judge, verdicts, decide(now, judge.timeline, verdicts, None))
    return Faces(report=report, document=as_json(report), exit_codes=codes, registry=registry)


def lognormal(rng: np.random.Generator, count: int, median: float = 0.03, sigma: float = 0.35) -> list[float]:
    return [float(value) for value in rng.lognormal(np.log(median), sigma, count)]
