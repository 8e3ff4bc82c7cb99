"""Puts together what a slot showed and what counters say into one reading. Pure: no clock, no I/O.

What a slot has shown is certain. Counters fill in where there was no slot, and watch what no slot shows:
unlogged tables, and tables that were created, dropped or rewritten. A stretch that neither covers is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from probes.audit.postgres.counters import LAG, Mark, State, Table, compared, matches, recounted
from probes.audit.postgres.slot import Shown, SlotReading, keys
from probes.audit.reading import Change

SETTLED = LAG + 1
"""Seconds after which every counter has caught up."""
INDEX = {"insert": 0, "update": 1, "delete": 2, "truncate": 3}
COUNTED = frozenset({"insert", "update", "delete"})
NOT_UNDERSTOOD = "a table whose name was not understood"


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one reading comes to."""

    mark: Mark
    changes: tuple[Change, ...]
    unknown: tuple[str, ...]
    grade: str
    lag_s: float
    tells_own: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What was read, before it is put together."""

    state: State
    before: Mark | None
    patterns: Sequence[str]
    tables: Mapping[int, Table]
    method: str
    shown: SlotReading | None
    names: Mapping[int, str]
    """Tables by oid that earlier readings saw."""
    primary_keys: Mapping[int, Sequence[str]]

    @property
    def covered(self) -> bool:
        """The slot has shown all that was committed since the reading before."""
        return self.shown is not None and self.shown.covers

    @property
    def by_name(self) -> dict[str, Table]:
        """The watched tables by `schema.table`."""
        return {table.name: table for table in self.tables.values()}


def told(e: Evidence) -> Told:
    """The reading that the evidence amounts to."""
    certain = _by_slot(e) if e.before is not None else []
    problem = _incomparable(e)
    counted: list[Change] = []
    pending: dict[int, list[int]] = {}
    unknown = [problem] if problem else []
    if e.before is not None and problem is None:
        counted, pending, doubts = _by_counters(e, e.before)
        unknown += doubts
    vague = any(change.operation in COUNTED for change in counted)
    sure = any(not change.own for change in certain) or any(c.operation not in COUNTED for c in counted)
    by_slot = e.shown is not None
    return Told(
        mark=_mark(e, pending, comparable=problem is None),
        changes=(*certain, *counted),
        unknown=tuple(unknown),
        grade=_grade(e),
        lag_s=LAG if e.method == "tuples" and (not by_slot or (vague and not sure)) else 0.0,
        tells_own=by_slot and (not vague or sure),
    )


def _grade(e: Evidence) -> str:
    if e.shown is None:
        return "row counters" if e.method == "tuples" else "row count and xmin"
    bridged = e.before is not None and e.method == "tuples" and not e.shown.covers
    return "logical slot, bridged by row counters" if bridged else "logical slot"


def _incomparable(e: Evidence) -> str | None:
    """Why nothing can be compared with the reading before."""
    if e.before is None:
        return None
    if list(e.patterns) != e.before.patterns:
        return "the configuration names other tables than at the reading before"
    return e.state.identity.broken_since(e.before.identity)


def _by_slot(e: Evidence) -> list[Change]:
    """What the slot has shown of the watched tables."""
    changes, watched = [], e.by_name
    for shown in e.shown.shown if e.shown else ():
        if not shown.tables:
            changes.append(_change(NOT_UNDERSTOOD, shown, ()))
        for schema, name in shown.tables:
            what = f"{schema}.{name}"
            table = watched.get(what)
            if table is not None or matches(e.patterns, what):
                columns = e.primary_keys.get(table.oid, ()) if table else ()
                changes.append(_change(what, shown, columns))
    return sorted(changes, key=lambda change: (change.own, change.what, change.operation))


def _change(what: str, shown: Shown, columns: Sequence[str]) -> Change:
    found = [keys(sample, columns) for sample in shown.samples]
    return Change(
        what=what,
        operation=shown.operation,
        count=shown.count,
        keys=tuple(key for key in found if key is not None),
        when=_when(shown.first, shown.last),
        own=shown.own,
    )


def _when(first: float | None, last: float | None) -> str | None:
    """A moment, or an interval of two (ISO 8601)."""
    if first is None or last is None:
        return None
    spelled = [
        datetime.fromtimestamp(each, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for each in (first, last)
    ]
    return "/".join(dict.fromkeys(spelled))


def _by_counters(e: Evidence, before: Mark) -> tuple[list[Change], dict[int, list[int]], list[str]]:
    """What counters say on top of the slot, what they still owe, and what cannot be told."""
    needed = not e.covered or e.state.now < before.gap_until
    unlogged = any(table.unlogged for table in e.tables.values())
    if e.method == before.method == "rows":
        return recounted(before, e.tables, e.names), {}, []
    doubts = []
    comparable = e.method == before.method == "tuples"
    if not comparable and needed:
        doubts.append("neither a slot nor a counter covers the time since the reading before")
    elif not comparable and unlogged:
        doubts.append("unlogged tables are in no slot, and statistics are off (track_counts)")
    if comparable and e.state.identity.reset != before.identity.reset:
        comparable = False
        if needed or unlogged:
            doubts.append(f"the counters were set back at {e.state.identity.reset}")
    found, known = dict(e.tables), before
    if not comparable:
        found = {oid: replace(table, numbers=table.numbers[:1]) for oid, table in e.tables.items()}
        known = replace(before, tables={oid: list(numbers[:1]) for oid, numbers in before.tables.items()})
    changes, pending, backwards = compared(
        known, found, _shown_by_oid(e), names=e.names, clock=e.state.now, all_=needed
    )
    if backwards and (needed or unlogged):
        doubts.append(backwards)
    return changes, pending, doubts


def _shown_by_oid(e: Evidence) -> dict[int, list[int]]:
    """How many changes of each kind the slot has shown."""
    found, watched = dict[int, list[int]](), e.by_name
    for shown in e.shown.shown if e.shown else ():
        for schema, name in shown.tables:
            table, index = watched.get(f"{schema}.{name}"), INDEX.get(shown.operation)
            if table is not None and index is not None:
                found.setdefault(table.oid, [0, 0, 0, 0])[index] += shown.count
    return found


def _mark(e: Evidence, pending: Mapping[int, list[int]], *, comparable: bool) -> Mark:
    """Where the next reading goes on."""
    before = e.before if comparable else None
    gap = before is not None and e.shown is not None and not e.shown.covers
    moved = e.shown is not None and bool(e.shown.shown)
    return Mark(
        identity=e.state.identity,
        patterns=list(e.patterns),
        method=e.method,
        tables={oid: table.numbers for oid, table in e.tables.items()},
        lsn=e.shown.upto if e.shown else None,
        pending=pending,
        pending_until=e.state.now + SETTLED if moved else before.pending_until if before else 0.0,
        gap_until=e.state.now + SETTLED if gap else before.gap_until if before else 0.0,
    )
