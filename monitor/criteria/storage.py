"""storage: no production write is found by any audit between `opens` and the end, our own accounted for."""

from collections import Counter
from dataclasses import dataclass, field

from monitor.criteria.base import Findings, Tally, grouped, unconfigured
from monitor.model import Status, Timeline, Verdict, count, iso, span
from monitor.plan import Plan
from probes.base import AUDITED, LEAKS, Figure, Kind, Observation, Outcome

ENOUGH = 3
"""Readings while frozen before an audit counts."""
WHOSE = ("production", "freezing", "edge", "own", "exempt")
"""Whose writes an audit found. `freezing`: before the freeze had taken hold everywhere; `edge`: by a reading
that ended after `closes`, and may have seen what was written when writes were open again.
"""
OWN_SLACK = 10.0
"""Seconds by which the undo of a leak may come after it."""
MAY_HAVE_WRITTEN = LEAKS | {Outcome.DROPPED}
KNOWN = frozenset({"postgres", "mysql", "redis", "amqp", "nats"})
"""Kinds of stores: an attempt on one of them reaches no store of another kind."""
ANY = frozenset({"http", "prometheus"})
"""Audits that may count the writes of any store."""
OWN_CHANGES = 2
"""Changes that one attempt of ours makes when it leaks: the write and its undo."""


@dataclass(slots=True)
class _Audit:
    """What is known of one audit."""

    readings: int = 0
    """That compare two states of the frozen time."""
    unread: str | None = None
    """Why the newest reading failed; a later one that reaches back over it makes it good."""
    unknown: str | None = None
    """Why a stretch of the window can never be told."""
    until: float | None = None
    grades: dict[str, None] = field(default_factory=dict)
    open: tuple[int, list[str]] | None = None
    overdue: bool = False
    sees: bool = False
    """It has seen a write: while writes were open, or later."""
    notes: dict[str, None] = field(default_factory=dict)


class Storage:
    """Judges readings of stores between `opens` and `closes`."""

    name = "storage"

    def __init__(self, plan: Plan) -> None:
        self._audits = {probe.name: _Audit() for probe in plan.of(Kind.AUDIT)}
        self._stores = {probe.name: probe.store for probe in plan.probes}
        self._ours: list[tuple[float, str]] = []
        """When attempts of ours were applied, and on what kind of store."""
        self._findings = Findings()
        self._tally = Tally()
        self._since: float | None = None
        self.writes: Counter[tuple[str, str]] = Counter()
        """Writes found by (audit, whose)."""

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one reading, or from an attempt of ours that may have written."""
        o = observation
        if o.kind is Kind.WRITE and o.outcome in MAY_HAVE_WRITTEN and o.figures.get("trace") != "none":
            self._ours.append((o.started, self._stores.get(o.probe, "")))
        if o.kind is not Kind.AUDIT or o.outcome is Outcome.SKIPPED:
            return
        audit = self._audits.get(o.probe)
        if audit is None:
            if o.outcome is Outcome.CHANGED and self._frozen_since(o, timeline):
                self._break(o, f"{o.reason} (not configured any more)")
            return
        apart = any(_number(o.figures.get(whose)) for whose in ("own", "exempt"))
        audit.sees |= o.outcome is Outcome.CHANGED or apart
        if timeline.window.opens <= o.started < timeline.closes:
            self._learn(audit, o, timeline)

    def _learn(self, audit: _Audit, o: Observation, timeline: Timeline) -> None:
        self._tally.add(o.started)
        if o.outcome not in AUDITED:
            audit.unread = o.reason
            return
        audit.unread = None
        audit.until = o.started - _seconds(o.figures.get("lag_s"))
        audit.grades[str(o.figures.get("grade") or "read")] = None
        for note in _texts(o.figures.get("notes")):
            audit.notes[note] = None
        self._fence(audit, o, timeline)
        if timeline.frozen_at is not None and (o.outcome is Outcome.UNKNOWN or o.figures.get("unknown")):
            audit.unknown = audit.unknown or o.reason
        own, exempt = _number(o.figures.get("own")), _number(o.figures.get("exempt"))
        self.writes[o.probe, "own"] += own
        self.writes[o.probe, "exempt"] += exempt
        found = _number(o.figures.get("changes"))
        if found and o.started + o.duration_s >= timeline.closes:
            self.writes[o.probe, "edge"] += found
            return
        if not self._frozen_since(o, timeline):
            self.writes[o.probe, "freezing"] += found
            return
        audit.readings += 1
        if o.outcome is Outcome.CHANGED:
            self._changed(o, found)

    def _changed(self, o: Observation, found: int) -> None:
        """Writes in the frozen time: production, unless a leak of ours can be all of them."""
        since = o.figures.get("since")
        began = since if isinstance(since, float | int) else o.started
        store = self._stores.get(o.probe, "")
        ours = sum(
            began - OWN_SLACK <= moment <= o.started + o.duration_s and _may_reach(written, store)
            for moment, written in self._ours
        )
        if o.figures.get("tells_own") is False and found <= OWN_CHANGES * ours:
            self.writes[o.probe, "own"] += found
            return
        self.writes[o.probe, "production"] += found
        told = _texts(o.figures.get("what")) or [o.reason]
        places = _texts(o.figures.get("where"))
        for number, what in enumerate(told):
            same = places[number] if len(places) == len(told) else None
            self._break(o, f"{what}, between {iso(began)} and {iso(o.started + o.duration_s)}", same)

    def _fence(self, audit: _Audit, o: Observation, timeline: Timeline) -> None:
        """Writers from before `opens`; one that is left after `settle` is a finding."""
        waiting = o.figures.get("open")
        if not isinstance(waiting, int) or isinstance(waiting, bool):
            audit.open = None
            return
        named = _texts(o.figures.get("open_what"))
        audit.open = (waiting, named)
        if not waiting or o.started < timeline.window.settled_by or audit.overdue:
            return
        audit.overdue = True
        late = span(o.started - timeline.window.opens)
        for who in named or [f"{count(waiting, 'writer')} that the store does not name"]:
            self._findings.add(o, f"begun before the window and still open {late} into it: {who}", "open")
        if self._since is None:
            self._since = o.started

    @staticmethod
    def _frozen_since(o: Observation, timeline: Timeline) -> bool:
        """Was everything frozen all the time between the reading before and this one?

        What a store shows late may be older than the freeze by as much.
        """
        since = o.figures.get("since")
        if not isinstance(since, float | int) or timeline.frozen_at is None:
            return False
        late = _seconds(o.figures.get("lag_s"))
        return since - late >= timeline.frozen_at and o.started < timeline.closes

    def _break(self, o: Observation, what: str, same: str | None = None) -> None:
        self._findings.add(o, what, same=same)
        if self._since is None:
            self._since = o.started

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """FAIL on a production write or a fence that stays open, INCONCLUSIVE until every store was read."""
        if not self._audits:
            return unconfigured(self.name, "no storage audit")
        questions = self._open_questions(now, timeline)
        otherwise = (
            Status.INCONCLUSIVE if questions else Status.PASS,
            grouped(questions) or self._fine(),
        )
        findings = self._findings.all
        return Verdict(
            criterion=self.name,
            status=Status.FAIL if findings else otherwise[0],
            reason=self._worst() if findings else otherwise[1],
            otherwise=otherwise,
            since=self._since if findings else self._tally.first,
            figures=self._figures(),
            findings=findings,
            evidence=self._tally.evidence,
            final=bool(findings),
        )

    def _fine(self) -> str:
        grades = {grade for audit in self._audits.values() for grade in audit.grades}
        readings = sum(audit.readings for audit in self._audits.values())
        stores = count(len(self._audits), "store")
        return (
            f"no production write in {count(readings, 'reading')} of {stores} ({', '.join(sorted(grades))})"
        )

    def _worst(self) -> str:
        findings = self._findings.all
        written = [finding for finding in findings if finding.outcome != "open"]
        first = (written or findings)[0]
        more = len(findings) - 1
        return f"{first.probe}: {first.what}" + (f", and {count(more, 'finding')} more" if more else "")

    def _open_questions(self, now: float, timeline: Timeline) -> list[tuple[str, str]]:
        if now < timeline.window.opens:
            return [("", "the window has not opened: nothing was audited yet")]
        questions = []
        for name, audit in self._audits.items():
            if audit.unknown is not None:
                questions.append((name, f"cannot be told for a stretch: {audit.unknown}"))
            elif audit.unread is not None:
                questions.append((name, audit.unread))
            elif audit.readings < ENOUGH:
                questions.append((name, f"{audit.readings} of the {ENOUGH} readings needed while frozen"))
            elif audit.open is not None and audit.open[0]:
                questions.append((name, f"still open from before the window: {', '.join(audit.open[1][:3])}"))
        return questions

    def _figures(self) -> dict[str, Figure]:
        audits = self._audits
        whose = {
            kind: sum(number for (_, own), number in self.writes.items() if own == kind) for kind in WHOSE
        }
        until = [audit.until for audit in audits.values() if audit.until is not None]
        fence = {name: audit.open for name, audit in audits.items()}
        return {
            "production_writes": whose["production"],
            "landed_while_freezing": whose["freezing"],
            "at_the_edge": whose["edge"],
            "own_writes": whose["own"],
            "exempt_writes": whose["exempt"],
            "readings": sum(audit.readings for audit in audits.values()),
            "grades": [
                f"{name}: {', '.join(audit.grades)}" for name, audit in audits.items() if audit.grades
            ],
            "covered_until": iso(min(until)) if until else None,
            "open_from_before": sum(seen[0] for seen in fence.values() if seen),
            "fence_not_seen": [name for name, seen in fence.items() if seen is None],
            "never_seen_to_see": [name for name, audit in audits.items() if not audit.sees],
            "notes": [f"{name}: {note}" for name, audit in audits.items() for note in audit.notes][:20],
        }


def _may_reach(written: str, audited: str) -> bool:
    """May an attempt on one kind of store show in an audit of another?"""
    return written == audited or written not in KNOWN or audited in ANY


def _number(value: Figure) -> int:
    return value if isinstance(value, int) else 0


def _seconds(value: Figure) -> float:
    return float(value) if isinstance(value, float | int) else 0.0


def _texts(value: Figure) -> list[str]:
    return value if isinstance(value, list) else []
