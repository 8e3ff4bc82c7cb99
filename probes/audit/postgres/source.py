"""The storage audit of a PostgreSQL database: what was committed to its tables since the reading before.

Three grades, the best that server and account allow: a temporary logical slot, the counters of the
statistics, counts of rows. A stretch without a slot is bridged by counters; one that nothing covers is
unknown. Keeps no more of the server's log than `limit`, and writes nothing. Sequences, large objects, and
DDL that rewrites nothing are not seen.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from probes.audit.postgres.counters import LAG, Mark, State, Table, rows, state, tables
from probes.audit.postgres.fence import fence
from probes.audit.postgres.reading import Evidence, told
from probes.audit.postgres.slot import Slot, SlotFull, SlotGone, SlotReading
from probes.audit.reading import AuditBase, Pattern, Reading, Source
from probes.stores.postgres import STORE, Budget, Dsn, Server, Session
from probes.tools import Tools

_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)", re.ASCII)
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SHARE = 0.95
"""The part of the timeout that a reading takes for itself: it rather ends by itself than is ended."""
PAUSE = 60.0
"""Seconds before another slot is made after one that had reached its limit."""
NO_SLOT = "no logical slot"
NOT_ALLOWED = "42501"
TOO_MUCH = "it kept more write-ahead log than its limit"
PRIMARY_KEYS = """
SELECT i.indrelid::bigint, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indisprimary AND i.indrelid = ANY (%(tables)s::oid[]) GROUP BY 1"""


def size(value: object) -> int:
    """Bytes from `256MiB`, `1GiB` or a number of bytes."""
    if type(value) is int and value > 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found and int(found[1]) > 0:
        return int(found[1]) * _UNITS[found[2]]
    raise ValueError(f"{value!r} is no size: write it like 256MiB, 1GiB or 1048576 (bytes), above 0")


Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{_SIZE.pattern}$", "examples": ["256MiB"]}),
]


class PostgresDatabase(BaseModel):
    """Which tables of which database are watched, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsn: Dsn
    tables: Annotated[list[Pattern], Field(min_length=1)] = ["*"]
    slot: bool = True
    """Use a temporary logical slot where the account may."""
    limit: Size = 256 * 2**20
    """Bytes of write-ahead log that the slot may keep on the server."""


class PostgresAudit(AuditBase):
    """The storage audit of one PostgreSQL database."""

    postgres: PostgresDatabase

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        if self.postgres.slot:
            return []
        return [
            "without a slot rows that were rolled back look as if they were written,"
            f" and a write shows up to {LAG:.0f} s late"
        ]


class PostgresSource:
    """One database's own records."""

    def __init__(self, spec: PostgresAudit, *, timeout: float, tools: Tools) -> None:
        self._what = spec.postgres
        self._timeout = timeout
        self._tools = tools
        # Row security would hide rows from a count: rather an error than a part.
        self._server = Server(self._what.dsn, timeout, "-c row_security=off")
        self._slot: Slot | None = None
        self._names: dict[int, str] = {}
        self._wait_until = 0.0
        """No other slot is made before (the server's clock, epoch seconds)."""
        self._waits_for = ""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`, and who may still write. Raises Unreachable or OwnFault."""
        budget = Budget(self._timeout * SHARE)
        session = await self._server.connect(budget.left)
        try:
            return await self._read(session, mark, budget)
        finally:
            await session.close()

    async def _read(self, session: Session, mark: str | None, budget: Budget) -> Reading:
        before = Mark.read(mark) if mark is not None else None
        seen = await state(session, budget)
        # The slot before the counters, so that all that lies before it is counted; the counters before
        # what it shows, so that all that is counted is shown.
        notes = await self._have_slot(seen, budget)
        counts = seen.counts and not seen.identity.standby
        found, unused = await tables(session, self._what.tables, counted=counts, budget=budget)
        own = [self._slot.process] if self._slot else []
        waiting, more = await fence(
            session, sees_others=seen.sees_others, own=own, opens=self._tools.opens, budget=budget
        )
        shown = await self._shown(seen, before, notes, budget)
        evidence = Evidence(
            state=seen,
            before=before,
            patterns=self._what.tables,
            tables=found,
            method="tuples" if counts else "none",
            shown=shown,
            names=self._names,
            primary_keys=await _primary_keys(session, found, shown, budget),
        )
        unknown = [f"no table is named {each!r}" for each in unused]
        if mark is not None and before is None:
            unknown.append("the mark of the reading before cannot be read")
        if shown is None and not counts:
            counted, left_out = await rows(session, found, budget)
            evidence = replace(evidence, tables=counted, method="rows")
            unknown += [left_out] if left_out else []
        result = told(evidence)
        self._names = {oid: table.name for oid, table in found.items()}
        return Reading(
            mark=result.mark.text(),
            changes=result.changes,
            unknown="; ".join([*unknown, *result.unknown]) or None,
            open=waiting,
            grade=result.grade,
            lag_s=result.lag_s,
            tells_own=result.tells_own,
            notes=(*notes, *more, *self._about(evidence)),
            figures={"tables": len(found), "kept_wal_bytes": shown.kept if shown else 0},
        )

    async def _have_slot(self, seen: State, budget: Budget) -> list[str]:
        """Make a slot where there is none and there may be one; notes why there is none."""
        if self._slot is not None and self._slot.lost:
            self._slot = None
        if not self._what.slot or self._slot is not None:
            return []
        if seen.identity.standby:
            return [f"{NO_SLOT}: this is a hot standby"]
        if seen.wal_level != "logical":
            return [f"{NO_SLOT}: wal_level is {seen.wal_level}"]
        if seen.now < self._wait_until:
            return [f"{NO_SLOT}: {self._waits_for}"]
        try:
            self._slot = await Slot.create(self._server, budget)
        except SlotGone as error:
            self._put_off(seen, str(error), PAUSE if NOT_ALLOWED in str(error) else 0.0)
            return [f"{NO_SLOT}: {error}"]
        return []

    def _put_off(self, seen: State, why: str, pause: float) -> None:
        self._wait_until = seen.now + pause
        self._waits_for = why

    async def _shown(
        self, seen: State, before: Mark | None, notes: list[str], budget: Budget
    ) -> SlotReading | None:
        """What the slot shows; without one, or when it is lost, None."""
        if self._slot is None:
            return None
        same = before is not None and seen.identity.broken_since(before.identity) is None
        system = f"{seen.identity.system}:"
        own = [
            token.removeprefix(system) for token in self._tools.own.tokens(STORE) if token.startswith(system)
        ]
        limit = self._what.limit
        try:
            reading = await self._slot.read(before.lsn if before and same else None, own, limit, budget)
        except SlotGone as error:
            await self._drop(seen, notes, error)
            return None
        if reading.kept > limit:
            await self._drop(seen, notes, SlotFull(TOO_MUCH))
        return reading

    async def _drop(self, seen: State, notes: list[str], why: SlotGone) -> None:
        """Let go of the slot, and of the log that it keeps."""
        slot, self._slot = self._slot, None
        if slot is not None:
            await slot.drop()
        notes.append(f"the logical slot was dropped: {why}")
        self._put_off(seen, f"the last one was dropped: {why}", PAUSE if isinstance(why, SlotFull) else 0.0)

    def _about(self, evidence: Evidence) -> Iterator[str]:
        """What an operator should know about how this was read."""
        if evidence.shown is not None and evidence.state.keep_unlimited:
            yield (
                "max_slot_wal_keep_size is unlimited: only this audit's own limit"
                f" of {self._what.limit / 2**20:.4g} MiB bounds the log that its slot keeps"
            )
        unlogged = [table.name for table in evidence.tables.values() if table.unlogged]
        if evidence.shown is not None and unlogged:
            yield f"unlogged, so in no slot and watched by counters alone: {', '.join(unlogged[:5])}"
        if evidence.method == "rows":
            why = "a hot standby counts nothing" if evidence.state.identity.standby else "track_counts is off"
            yield f"{why}: the rows of every table are counted at each reading"

    async def aclose(self) -> None:
        """Let go of the slot."""
        slot, self._slot = self._slot, None
        if slot is not None:
            await slot.drop()


async def _primary_keys(
    session: Session, found: Mapping[int, Table], shown: SlotReading | None, budget: Budget
) -> dict[int, list[str]]:
    """The key columns of the tables that were written to."""
    names = {f"{schema}.{table}" for each in (shown.shown if shown else ()) for schema, table in each.tables}
    written = [oid for oid, table in found.items() if table.name in names]
    if not written:
        return {}
    return dict(await session.run(PRIMARY_KEYS, {"tables": written}, within=budget.left))


def postgres_audit(spec: PostgresAudit, timeout: float, tools: Tools) -> Source:
    """The source of one audit."""
    return PostgresSource(spec, timeout=timeout, tools=tools)
