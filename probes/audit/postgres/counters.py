"""What a PostgreSQL server counts: who it is, its tables, their counters, and what changed between two marks.

The comparison is pure. A counter says that rows were written, not by whom, nor whether it was rolled back
after all, and up to `LAG` seconds late; what a slot has shown is taken off first. Refuses to compare across
anything that sets counters back: a restart, a crash, a promotion, a reset.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from probes.answer import Unreachable
from probes.audit.reading import Change
from probes.stores.postgres import Budget, Session, quoted

LAG: Final = 11.0
"""Seconds that a count may be late: a session that is idle may keep its own for 10 s."""
OPERATIONS = ("insert", "update", "delete", "rewrite")
LARGEST_COUNTED = 256 * 2**20
"""Bytes of a table that is still counted row by row."""
PACK_FROM = 16 * 1024
"""Characters of a mark from which its tables are packed."""

SERVER = """
SELECT (SELECT system_identifier::text FROM pg_control_system()),
  (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
  CASE WHEN pg_is_in_recovery() THEN (SELECT to_hex(timeline_id) FROM pg_control_checkpoint())
    ELSE lower(ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0')) END,
  pg_is_in_recovery(),
  to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  to_char((SELECT least(a.stats_reset, b.stats_reset) FROM pg_stat_archiver a, pg_stat_bgwriter b)
    AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  to_char((SELECT stats_reset FROM pg_stat_database WHERE datname = current_database())
    AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  extract(epoch FROM clock_timestamp())::float8,
  current_setting('track_counts')::bool, current_setting('wal_level'),
  coalesce(current_setting('max_slot_wal_keep_size', true), '-1'),
  (SELECT rolsuper OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
    FROM pg_roles WHERE rolname = current_user)"""
TABLES = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relpersistence = 'u', c.relfilenode::bigint,
  c.relpages::bigint * 8192, pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
  pg_stat_get_tuples_deleted(c.oid),
  CASE WHEN c.relispartition THEN ARRAY(
    SELECT pn.nspname || '.' || p.relname FROM pg_partition_ancestors(c.oid) a
    JOIN pg_class p ON p.oid = a.relid JOIN pg_namespace pn ON pn.oid = p.relnamespace) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which server, in which life. Times are the server's, as text."""

    system: str
    database: int
    timeline: str
    standby: bool
    started: str
    crashed: str | None
    """When the server's own counters began; a crash of any backend begins them anew."""
    reset: str | None
    """When the database's counters were last set back by hand."""

    def broken_since(self, before: "Identity") -> str | None:
        """Why nothing of this server can be compared with what it was."""
        if (self.system, self.database) != (before.system, before.database):
            return "another server or another database answers than before"
        if (self.timeline, self.standby) != (before.timeline, before.standby):
            return f"the server was promoted or replaced: timeline {before.timeline}, now {self.timeline}"
        if self.started != before.started:
            return f"the server was started again at {self.started}"
        if self.crashed != before.crashed:
            return f"the server crashed and set its counters to zero at {self.crashed}"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What the server and the account allow. `now` is the server's clock, epoch seconds."""

    identity: Identity
    now: float
    counts: bool
    wal_level: str
    keep_unlimited: bool
    sees_others: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One watched table. `numbers` are its file and then its counts; the file alone where nothing counts."""

    oid: int
    name: str
    quoted: str
    unlogged: bool
    size: int
    numbers: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Where a reading stopped. `lsn` is set when a slot was read so far."""

    identity: Identity
    patterns: list[str]
    method: str
    """`tuples` counted by the server, `rows` counted by us, or `none`."""
    tables: Mapping[int, list[int]]
    lsn: int | None = None
    pending: Mapping[int, list[int]] = field(default_factory=dict)
    """What a slot has shown and no counter yet, by table."""
    pending_until: float = 0.0
    gap_until: float = 0.0
    """Until then counters may still show what was written while there was no slot."""

    def text(self) -> str:
        """As JSON; many tables are packed."""
        whole = {"version": 1, **asdict(self)}
        text = json.dumps(whole, separators=(",", ":"))
        if len(text) < PACK_FROM:
            return text
        packed = zlib.compress(json.dumps(whole["tables"], separators=(",", ":")).encode(), 9)
        return json.dumps({**whole, "tables": base64.b85encode(packed).decode()}, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> "Mark | None":
        """A mark of ours; None when it cannot be read."""
        try:
            whole = json.loads(text)
            if whole.pop("version") != 1:
                return None
            if isinstance(whole["tables"], str):
                whole["tables"] = json.loads(zlib.decompress(base64.b85decode(whole["tables"])))
            for name in ("tables", "pending"):
                whole[name] = {int(oid): [int(n) for n in numbers] for oid, numbers in whole[name].items()}
            return cls(**{**whole, "identity": Identity(**whole["identity"])})
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
            return None


async def state(session: Session, budget: Budget) -> State:
    """Ask who the server is and what the account may do."""
    [row] = await session.run(SERVER, within=budget.left)
    names = ("system", "database", "timeline", "standby", "started", "crashed", "reset")
    now, counts, wal_level, keep, sees = row[len(names) :]
    return State(
        identity=Identity(**dict(zip(names, row, strict=False))),
        now=now,
        counts=counts,
        wal_level=wal_level,
        keep_unlimited=keep == "-1",
        sees_others=bool(sees),
    )


def matches(patterns: Sequence[str], name: str) -> list[str]:
    """The patterns that name a table. One without a dot names tables of every schema."""
    bare = name.partition(".")[2]
    return [each for each in patterns if fnmatchcase(name if "." in each else bare, each)]


async def tables(
    session: Session, patterns: Sequence[str], *, counted: bool, budget: Budget
) -> tuple[dict[int, Table], list[str]]:
    """The watched tables by oid, and the patterns that name none. A partition counts as its parents do."""
    found, unused = {}, set(patterns)
    for oid, schema, table, unlogged, file, size, *counts, parents in await session.run(
        TABLES, within=budget.left
    ):
        name = f"{schema}.{table}"
        used = {used for each in (name, *(parents or ())) for used in matches(patterns, each)}
        unused -= used
        if not patterns or used:
            found[oid] = Table(
                oid=oid,
                name=name,
                quoted=f"{quoted(schema)}.{quoted(table)}",
                unlogged=unlogged,
                size=size,
                numbers=[file, *counts] if counted else [file],
            )
    return found, [each for each in patterns if each in unused]


async def rows(
    session: Session, found: Mapping[int, Table], budget: Budget
) -> tuple[dict[int, Table], str | None]:
    """Count the rows of every table and add up their xmin, as long as there is time; and what is left out."""
    counted, left_out = {}, []
    for oid, table in found.items():
        counted[oid] = table
        if table.size > LARGEST_COUNTED or session.lost:
            left_out.append(table.name)
            continue
        statement = f"SELECT count(*), coalesce(sum(xmin::text::bigint), 0)::bigint FROM ONLY {table.quoted}"  # noqa: S608
        try:
            [numbers] = await session.run(statement, within=budget.left)
        except Unreachable:
            left_out.append(table.name)
            continue
        counted[oid] = _with(table, [table.numbers[0], *numbers])
    if not left_out:
        return counted, None
    return counted, f"too large, too slow or not allowed to be counted: {', '.join(left_out[:10])}"


def _with(table: Table, numbers: list[int]) -> Table:
    return Table(**{**asdict(table), "numbers": numbers})


def compared(
    before: Mark,
    now: Mapping[int, Table],
    shown: Mapping[int, Sequence[int]],
    *,
    names: Mapping[int, str],
    clock: float,
    all_: bool,
) -> tuple[list[Change], dict[int, list[int]], str | None]:
    """What counters say was written, what they still owe, and why they cannot be believed.

    `shown` is what a slot has shown since `before`. With `all_` what it has not shown is a change; without,
    that was rolled back, except in unlogged tables, which are in no slot.
    """
    changes, pending, backwards = _restructured(before, now, names), dict[int, list[int]](), None
    waited_for = before.pending if clock < before.pending_until else {}
    for oid, table in now.items():
        was = before.tables.get(oid)
        if was is None:
            was = [table.numbers[0], *(0 for _ in table.numbers[1:])]
        if len(was) != len(table.numbers):
            continue
        grown = _grown(was, table.numbers)
        if min(grown) < 0:
            backwards = f"the counters of {table.name} went back"
            continue
        owed = _added(waited_for.get(oid), shown.get(oid))
        rest = [max(0, each - due) for each, due in zip(grown, owed, strict=True)]
        if any(due > each for each, due in zip(grown, owed, strict=True)):
            pending[oid] = [max(0, due - each) for each, due in zip(grown, owed, strict=True)]
        if not (all_ or table.unlogged):
            rest[:3] = (0, 0, 0)
        changes += [
            Change(what=table.name, operation=operation, count=count)
            for operation, count in zip(OPERATIONS, rest, strict=True)
            if count
        ]
    return changes, pending, backwards


def _grown(was: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """Inserts, updates, deletes and rewrites between two states."""
    counts = [new - old for old, new in zip(was[1:], numbers[1:], strict=True)] or [0, 0, 0]
    return [*counts, int(was[0] != numbers[0])]


def _added(one: Sequence[int] | None, other: Sequence[int] | None) -> list[int]:
    none = (0, 0, 0, 0)
    return [a + b for a, b in zip(one or none, other or none, strict=True)]


def _restructured(before: Mark, now: Mapping[int, Table], names: Mapping[int, str]) -> list[Change]:
    """Tables that came, changed their name, or went.

    `names` are those of the reading before. A mark holds none: after a restart of the watchdog a table that
    is gone is known by its oid alone, and a new name is not noticed.
    """
    came = [
        Change(what=each.name, operation="create") for oid, each in now.items() if oid not in before.tables
    ]
    renamed = [
        Change(what=each.name, operation="rename", keys=(f"was {names[oid]}",))
        for oid, each in now.items()
        if names.get(oid, each.name) != each.name
    ]
    went = [
        Change(what=names.get(oid, f"table of oid {oid}"), operation="drop")
        for oid in before.tables
        if oid not in now
    ]
    return came + renamed + went


def recounted(before: Mark, now: Mapping[int, Table], names: Mapping[int, str]) -> list[Change]:
    """What counts of rows say was written: how many at least, not what."""
    changes = _restructured(before, now, names)
    for oid, table in now.items():
        was = before.tables.get(oid)
        if was is None:
            continue
        if was[0] != table.numbers[0]:
            changes.append(Change(what=table.name, operation="rewrite"))
        if len(was) == len(table.numbers) and was[1:] != table.numbers[1:]:
            count = max(1, abs(table.numbers[1] - was[1]))
            changes.append(Change(what=table.name, operation="write", count=count))
    return changes
