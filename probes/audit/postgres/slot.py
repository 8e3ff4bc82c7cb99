"""What a logical slot shows: the committed changes of one database, counted on the server.

The slot is temporary: it ends with its session, and with any error in it, so nothing else is asked over that
session. Changes are peeked at, and the slot moves on only to what an earlier reading has recorded. Refuses to
keep more write-ahead log than `limit`, to wait long for a slot, and to make one through a pooler, where it
would outlive us.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from probes.answer import Unreachable
from probes.stores.postgres import Budget, Server, Session

LONGEST_WAIT: Final = 1.0
"""Seconds to wait for a slot, which waits for the transactions that write at that moment."""
SAMPLES, SAMPLED_FROM, SAMPLE_SIZE = 5, 1000, 2000
"""Samples of a kind of change, taken from the first changes of a reading, each cut to so many characters."""
OWN_TEXT: Final = "freezewatch-[0-9a-f]{20}"

SETTINGS = """
SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
  ('idle_session_timeout', '15min'), ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'),
  ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '30s'), ('enable_nestloop', 'off')
) AS ours (known, value) ON name = known"""
"""The server ends the slot by itself when we hang or are cut off, and lets its log go. Nested loops are off
because the planner takes any function for one of 1,000 rows: a million changes would be joined row by row.
"""
CREATE = "SELECT lsn::text FROM pg_create_logical_replication_slot(%(slot)s, 'test_decoding', true)"
MOVE = "SELECT end_lsn::text FROM pg_replication_slot_advance(%(slot)s, %(lsn)s::pg_lsn)"
STANDS = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, pg_current_wal_flush_lsn()::text
FROM pg_replication_slots WHERE slot_name = %(slot)s"""
_NAME = '(?:"(?:[^"]|"")+"|[^".:, ]+)'
_RELATION = rf"{_NAME}\.{_NAME}(?:, {_NAME}\.{_NAME})*"
PEEK = rf"""
WITH raw AS MATERIALIZED (
  SELECT ordinality AS n, xid, data FROM pg_logical_slot_peek_changes(%(slot)s, %(upto)s::pg_lsn, NULL,
    'include-timestamp', 'on', 'skip-empty-xacts', 'on') WITH ORDINALITY
), ends AS MATERIALIZED (
  SELECT xid, extract(epoch FROM substring(data FROM '\(at (.*)\)$')::timestamptz)::float8 AS at
  FROM raw WHERE data LIKE 'COMMIT %%'
), changes AS (
  SELECT n, xid, data, CASE WHEN strpos(split_part(data, ': ', 1), '"') = 0
      THEN substr(split_part(data, ': ', 1), 7)
      ELSE substring(data FROM '^table ({_RELATION}): ') END AS relation
  FROM raw WHERE data LIKE 'table %%'
)
SELECT relation, split_part(substr(data, length(relation) + 9), ':', 1) AS operation,
  xid::text = ANY (%(own)s) OR (strpos(data, 'freezewatch-') > 0 AND data ~ '{OWN_TEXT}') AS own,
  count(*), min(at), max(at),
  coalesce((array_agg(left(data, {SAMPLE_SIZE}) ORDER BY n) FILTER (WHERE n <= {SAMPLED_FROM}))[1:{SAMPLES}],
    ARRAY[min(left(data, {SAMPLE_SIZE}))])
FROM changes LEFT JOIN ends USING (xid) GROUP BY 1, 2, 3"""  # noqa: S608 - our own patterns


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """Changes of one kind to one table, or to several truncated together. Times are epoch seconds."""

    tables: tuple[tuple[str, str], ...]
    """Schema and name; empty when the server's words were not understood."""
    operation: str
    own: bool
    count: int
    first: float | None
    last: float | None
    samples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotReading:
    """What a slot has shown up to `upto`, and how many bytes of log it keeps."""

    shown: tuple[Shown, ...]
    upto: int
    kept: int
    covers: bool
    """It shows all that was committed since the reading before."""


class SlotGone(Exception):
    """There is no slot, or it cannot be read any more; the message says why."""


class SlotFull(SlotGone):
    """It kept more of the server's log than it may."""


class Slot:
    """A temporary slot on a session of its own. `start` is where it begins to show changes."""

    def __init__(self, session: Session, name: str, start: int) -> None:
        self._session = session
        self._name = name
        self._moved_to = start
        self.start = start

    @property
    def process(self) -> int:
        """The server's process that holds it."""
        return self._session.process

    @property
    def lost(self) -> bool:
        """Its session is gone, and it with it."""
        return self._session.lost

    @classmethod
    async def create(cls, server: Server, budget: Budget) -> "Slot":
        """A new slot. Raises SlotGone with the reason why there is none, or OwnFault."""
        try:
            session = await server.connect(budget.left)
        except Unreachable as error:
            raise SlotGone(f"no session for it: {error.reason}") from None
        try:
            return await cls._created(session, budget)
        except Unreachable as error:
            await session.close()
            waits = "57014" in error.reason or "no answer" in error.reason
            why = "it waits for transactions that are open" if waits else error.reason
            raise SlotGone(why) from None
        except BaseException:
            await session.close()
            raise

    @classmethod
    async def _created(cls, session: Session, budget: Budget) -> "Slot":
        [(process,)] = await session.run("SELECT pg_backend_pid()", within=budget.left)
        if process != session.process:
            raise SlotGone("a pooler stands in between")
        await session.run(SETTINGS, within=budget.left)
        wait = min(LONGEST_WAIT, budget.left / 3)
        bound = "SELECT set_config('statement_timeout', %(limit)s, false)"
        [(usual,)] = await session.run("SHOW statement_timeout", within=budget.left)
        await session.run(bound, {"limit": f"{max(1, int(wait * 1000))}ms"}, within=budget.left)
        name = f"freezewatch_{process}_{secrets.token_hex(4)}"
        [(start,)] = await session.run(CREATE, {"slot": name}, within=budget.left)
        await session.run(bound, {"limit": usual}, within=budget.left)
        return cls(session, name, parsed(start))

    async def read(self, recorded: int | None, own: Sequence[str], limit: int, budget: Budget) -> SlotReading:
        """What was committed since; `recorded` is where the reading before stopped. Raises SlotGone."""
        covers = recorded is not None and recorded >= self.start
        try:
            if recorded is not None and recorded > self._moved_to:
                await self._session.run(
                    MOVE, {"slot": self._name, "lsn": spelled(recorded)}, within=budget.left
                )
                self._moved_to = recorded
            kept, upto = await self._stands(budget)
            if kept > limit:
                raise SlotFull("it kept more write-ahead log than its limit")
            if parsed(upto) <= self._moved_to:
                return SlotReading(shown=(), upto=self._moved_to, kept=kept, covers=covers)
            values = {"slot": self._name, "upto": upto, "own": list(own)}
            rows = await self._session.run(PEEK, values, within=budget.left)
            kept, _ = await self._stands(budget)
        except Unreachable as error:
            raise SlotGone(error.reason) from None
        return SlotReading(shown=tuple(map(_shown, rows)), upto=parsed(upto), kept=kept, covers=covers)

    async def _stands(self, budget: Budget) -> tuple[int, str]:
        found = await self._session.run(STANDS, {"slot": self._name}, within=budget.left)
        if not found or found[0][0] is None:
            raise SlotGone("the server has dropped it")
        return int(found[0][0]), str(found[0][1])

    async def drop(self) -> None:
        """Let go of it, by ending its session."""
        await self._session.close()


def _shown(row: tuple[object, ...]) -> Shown:
    relation, operation, own, count, first, last, samples = row
    return Shown(
        tables=tuple(relations(str(relation or ""))),
        operation=str(operation or "write").strip().lower(),
        own=bool(own),
        count=int(str(count)),
        first=first if isinstance(first, float) else None,
        last=last if isinstance(last, float) else None,
        samples=tuple(map(str, samples)) if isinstance(samples, list) else (),
    )


def parsed(lsn: str) -> int:
    """A position in the log as a number."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def spelled(lsn: int) -> str:
    """A position in the log as the server writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


_PAIR = re.compile(rf"({_NAME})\.({_NAME})(?:, |$)")
_FIELD = re.compile(
    r"""\ ?((?:"(?:[^"]|"")+"|[^\s"\[]+))         # the column
        \[(?:[^\[\]"]|"(?:[^"]|"")*"|\[\])*\]:    # its type, an array's as well
        ('(?:[^']|'')*'|B'[01]*'|[^\s']+)         # its value""",
    re.VERBOSE | re.DOTALL,
)


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def relations(text: str) -> Iterator[tuple[str, str]]:
    """Schema and name of each table in test_decoding's `public.t, "My ""x"".y"`."""
    for schema, table in _PAIR.findall(text):
        yield _plain(schema), _plain(table)


def keys(sample: str, columns: Sequence[str]) -> str | None:
    """The values of the key columns in one line of test_decoding, `id=5`; None when they are not all there.

    No other value is taken from it, and none that a cut may have shortened.
    """
    head = re.match(rf"table {_RELATION}: [A-Z]+: ", sample)
    rest = sample[head.end() :] if head else ""
    # An update that changes the key shows the old one first: that is the row that was there.
    rest = rest.removeprefix("old-key: ")
    found: dict[str, str] = {}
    at = 0
    while field := _FIELD.match(rest, at):
        at = field.end()
        if at < len(rest) or len(sample) < SAMPLE_SIZE:
            found.setdefault(_plain(field[1]), field[2])
    if not columns or any(column not in found for column in columns):
        return None
    return ", ".join(f"{column}={_short(found[column])}" for column in columns)


def _short(value: str) -> str:
    """A value without quotes, cut."""
    bare = value[1:-1].replace("''", "'") if value.startswith("'") else value
    return bare if len(bare) <= 60 else bare[:59] + "…"
