"""Windows as they go: a plan from a real file, and the events of a quiet, leaking or blind one."""

import json
import random
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from monitor.config import read_plan
from monitor.events import (
    Acted,
    Alerted,
    Decided,
    Event,
    Judged,
    Observed,
    PhaseBegan,
    SelfNoted,
)
from monitor.ledger import Head
from monitor.model import Act, Action, Phase, from_iso
from monitor.plan import Plan
from monitor.report.build import Report, build
from probes.base import Kind, Observation, Outcome

OPENS = from_iso("2026-11-23T22:00:00Z")
CLOSES = from_iso("2026-11-23T23:00:00Z")
SOAK = 300.0
HEAD = Head(records=4711, link="9f" * 32)
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egnp.exe\x00{{ 7*7 }}"
WINDOW = """
window:
  id: catalogue-reindex
  title: {title}
  opens: 2026-11-23T22:00:00Z
  closes: 2026-11-23T23:00:00Z
  baseline: 10m
  soak: 5m
  extend: {{by: 15m, at_most: 2}}
  contact: search-oncall@example.com
  rollback: {rollback}
defaults: {{every: 10s, timeout: 2s}}
"""
PROBES = """
reads:
  - name: returns-policy
    http: {url: "http://127.0.0.1:1/ask"}
    answer: $.answer
  - name: express-delivery
    http: {url: "http://127.0.0.1:1/ask?q=2"}
    answer: $.answer
  - name: product-search
    http: {url: "http://127.0.0.1:1/search"}
writes:
  - name: vector-upsert
    surface: vectors
    http: {url: "http://127.0.0.1:1/v/${canary}", method: PUT}
    variants: false
    read_back: {http: {url: "http://127.0.0.1:1/v/${canary}"}}
    undo: {http: {url: "http://127.0.0.1:1/v/${canary}", method: DELETE}}
  - name: catalogue-table
    http: {url: "http://127.0.0.1:1/p/${canary}", method: PUT}
    variants: false
    read_back: {http: {url: "http://127.0.0.1:1/p/${canary}"}}
    undo: {http: {url: "http://127.0.0.1:1/p/${canary}", method: DELETE}}
  - name: ticket-tool
    http: {url: "http://127.0.0.1:1/t/${canary}", method: PUT}
    variants: false
    read_back: {http: {url: "http://127.0.0.1:1/t/${canary}"}}
    undo: {http: {url: "http://127.0.0.1:1/t/${canary}", method: DELETE}}
flags:
  - {name: read_only, http: {url: "http://127.0.0.1:1/flag"}, at: $.on,
     replicas: ["http://127.0.0.1:1/flag-b"]}
"""
WAIVED = """
waive:
  storage: the catalogue is rebuilt offline, no store is written
  queue: writes are dropped, nothing is buffered
  notice: an internal window, users see nothing
  jobs: the backfill is the only job, and runs by hand
  retries: the clients are our own batch jobs
  scope: the three surfaces are all there is
"""
Change = Callable[[Observation], Observation]


def plan_of(
    directory: Path,
    *,
    title: str = "Rebuild the catalogue search index",
    rollback: str = "https://runbooks.example.com/reindex#rollback",
    probes: str = PROBES,
    waive: str = WAIVED,
) -> Plan:
    file = directory / "window.yaml"
    head = WINDOW.format(title=json.dumps(title), rollback=json.dumps(rollback))
    file.write_text(head + probes + waive, encoding="utf-8")
    return read_plan(file, {})


def phase_at(moment: float) -> str:
    if moment < OPENS:
        return "baseline"
    if moment < OPENS + 8:
        return "freezing"
    return "frozen" if moment < CLOSES else "soak"


def outcome_at(kind: Kind, moment: float) -> Outcome:
    frozen = OPENS + 2 <= moment < CLOSES + 1
    if kind is Kind.WRITE:
        return Outcome.REFUSED if frozen else Outcome.ACCEPTED
    if kind is Kind.FLAG:
        return Outcome.ON if frozen else Outcome.OFF
    return Outcome.OK


def run(plan: Plan, number: int, slot: float, dice: random.Random) -> Observation:
    probe = plan.probes[number]
    base = 0.02 * (number + 1)
    outcome = outcome_at(probe.kind, slot)
    reason = {Kind.READ: "answered", Kind.WRITE: "423 with Retry-After", Kind.FLAG: "reads true"}
    return Observation(
        probe=probe.name,
        kind=probe.kind,
        surface=probe.surface,
        outcome=outcome,
        reason=reason[probe.kind],
        slot=slot,
        started=slot + 0.002,
        phase=phase_at(slot),
        lateness_s=0.002,
        duration_s=base * dice.lognormvariate(0, 0.25),
        figures={"code": "read_only_window", "undone": outcome is Outcome.ACCEPTED},
    )


def observations(plan: Plan, until: float) -> Iterator[Observation]:
    """What healthy targets answer from the baseline on, up to `until`."""
    dice = random.Random(7)
    slots = [
        (OPENS - 600 + n * probe.every + i * probe.every / len(plan.probes), i)
        for i, probe in enumerate(plan.probes)
        for n in range(int((CLOSES + SOAK - OPENS + 600) / probe.every))
    ]
    for slot, number in sorted(slots):
        if slot >= until:
            return
        observed = run(plan, number, slot, dice)
        yield observed
        if plan.probes[number].measured and observed.outcome is Outcome.OK:
            yield measured(observed, abs(dice.gauss(0.03, 0.012)))


def measured(read: Observation, delta: float) -> Observation:
    return Observation(
        probe=read.probe,
        kind=Kind.MEANING,
        surface=read.surface,
        outcome=Outcome.OK,
        reason="measured",
        slot=read.slot,
        started=read.started,
        phase=read.phase,
        figures={"delta_s": round(delta, 4)},
    )


def unchanged(observation: Observation) -> Observation:
    return observation


def report_of(
    plan: Plan,
    *others: Event,
    now: float = CLOSES + SOAK + 30,
    change: Change = unchanged,
) -> Report:
    events: list[Event] = [Observed(at=o.started, observation=change(o)) for o in observations(plan, now)]
    return build(plan, sorted([*events, *others], key=lambda event: event.at), HEAD, now)


def changed(observation: Observation, **values: object) -> Observation:
    fields = {name: getattr(observation, name) for name in Observation.__slots__}
    return Observation(**(fields | values))


def story() -> list[Event]:
    """What a watchdog records beside the observations of a quiet window."""
    ends = CLOSES + SOAK
    return [
        SelfNoted(at=OPENS - 600, what="started", detail={"version": "0.1.0", "pid": 4242}),
        PhaseBegan(at=OPENS - 600, phase=Phase.BASELINE, closes=CLOSES, ends=ends),
        PhaseBegan(at=OPENS, phase=Phase.FREEZING, closes=CLOSES, ends=ends),
        PhaseBegan(at=OPENS + 8, phase=Phase.FROZEN, closes=CLOSES, ends=ends),
        Judged(at=OPENS + 40, criterion="guard", verdict="PASS", reason="9 attempts refused"),
        Judged(at=OPENS + 60, criterion="window", verdict="AMBER", reason="not proven: reopen"),
        Decided(at=OPENS + 60, action=Action.HOLD, causes=(), reason="green so far"),
        PhaseBegan(at=CLOSES, phase=Phase.SOAK, closes=CLOSES, ends=ends),
        Judged(at=CLOSES + 40, criterion="window", verdict="GREEN", reason="every criterion passes"),
        Decided(at=CLOSES + 40, action=Action.CLOSE, causes=(), reason="every criterion passes"),
        PhaseBegan(at=ends, phase=Phase.CLOSED, closes=CLOSES, ends=ends),
    ]


def alert(at: float, state: str, summary: str, cause: str = "guard") -> Alerted:
    return Alerted(
        at=at,
        cause=cause,
        state=state,
        since=OPENS + 1800,
        to=("alertmanager",),
        action=Action.ROLL_BACK,
        summary=summary,
    )


def leaky(observation: Observation) -> Observation:
    """A leak on one surface, slow reads for a while, an answer that drifts."""
    since = observation.started - OPENS
    if observation.probe == "vector-upsert" and 1800 <= since < 1809:
        reason = "refused with 423, yet the read-back shows it"
        return changed(observation, outcome=Outcome.LEAKED_BEHIND_REFUSAL, reason=reason)
    if observation.probe == "vector-upsert" and 1809 <= since < 3600:
        reason = "stopped after a confirmed leak"
        figures = {"why": "stopped", "slots": 1}
        return changed(observation, outcome=Outcome.SKIPPED, reason=reason, figures=figures)
    if observation.probe == "product-search" and 1500 <= since < 2000:
        if observation.slot % 40 < 10:
            return changed(observation, outcome=Outcome.FAILED, reason="answered 502")
        return changed(observation, duration_s=observation.duration_s * 14)
    if observation.kind is Kind.MEANING and observation.probe == "returns-policy" and since > 2400:
        return changed(observation, figures={"delta_s": 0.05 + (since - 2400) / 6000})
    return observation


def red(directory: Path, *more: Event) -> Report:
    leak = "vectors: leaked behind refusal: refused with 423, yet the read-back shows it"
    extend = Act(at=CLOSES - 300, act="extend", who="amira", reason="the index is late", by=900.0)
    events = [
        alert(OPENS + 1801, "firing", leak),
        alert(OPENS + 2520, "resolved", leak),
        alert(OPENS + 2700, "firing", "returns-policy: ΔS 0.24, the band ends at 0.21", "meaning"),
        Judged(at=OPENS + 1801, criterion="guard", verdict="FAIL", reason=leak),
        Judged(at=OPENS + 1801, criterion="window", verdict="RED", reason=leak),
        Decided(at=OPENS + 1801, action=Action.ROLL_BACK, causes=("guard",), reason=leak),
        Acted(at=extend.at, act=extend),
    ]
    plan = plan_of(directory)
    return report_of(plan, *story()[:7], *events, *more, change=leaky, now=CLOSES - 120)


def green_by_acceptance(directory: Path) -> Report:
    def change(observation: Observation) -> Observation:
        changed_one = leaky(observation)
        return changed_one if observation.kind is Kind.WRITE else observation

    act = Act(
        at=OPENS + 2400,
        act="accept",
        who="dana (data steward)",
        reason="the canary vector was deleted and no other row is affected, INC-4711",
        criterion="guard",
    )
    return report_of(plan_of(directory), *story(), Acted(at=act.at, act=act), change=change)


def amber(directory: Path) -> Report:
    def change(observation: Observation) -> Observation:
        lost = observation.started > OPENS + 1500 and observation.probe == "ticket-tool"
        if not lost or observation.started > OPENS + 1900:
            return observation
        reason = "connect timeout after 2 s"
        return changed(observation, outcome=Outcome.UNREACHABLE, reason=reason, duration_s=0.0)

    plan = plan_of(directory, waive="")
    pause = (OPENS + 2000, OPENS + 2300)
    events: list[Event] = [
        Observed(at=o.started, observation=change(o))
        for o in observations(plan, CLOSES + SOAK)
        if not pause[0] < o.started < pause[1]
    ]
    notes = [
        SelfNoted(at=pause[0], what="stopped", detail={"signal": "SIGTERM"}),
        SelfNoted(at=pause[1], what="started", detail={"after_s": 300}),
    ]
    ordered = sorted([*events, *notes, *story()], key=lambda event: event.at)
    return build(plan, ordered, HEAD, CLOSES + SOAK + 30)


class Parsed(HTMLParser):
    """The elements, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.data = ""
        self._inside: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(dict(attrs).get("type") or tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text.append(data)
        elif self._inside[-1] == "application/json":
            self.data += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def rows_of(page: str, criterion: str) -> str:
    """The visible text of a criterion's row."""
    found = [row for row in re.findall(r"<tr.*?</tr>", page, re.S) if f'id="c-{criterion}"' in row]
    assert len(found) == 1
    return Parsed(found[0]).words
