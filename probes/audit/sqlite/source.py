"""Audit of an SQLite database: which rows came, went and changed since the reading before?

The file system says whether anything was written at all: a commit moves the stamps of the database or of its
WAL. Only then are rows compared, by count and by a hash of each. A table that is too large to read in time is
not guessed at: the reading is unknown, unless the file says `large: counts`. Changes nothing in the database.
"""

import asyncio
import json
import sqlite3
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from probes.answer import OwnFault, Unreachable
from probes.audit.aside import Aside
from probes.audit.audit import LONGEST_MARK
from probes.audit.reading import AuditBase, Change, Pattern, Reading
from probes.audit.sqlite.file import OLDEST_SQLITE, Files, Look, Looking, files, hashed
from probes.audit.sqlite.rows import TableState, by_count, written
from probes.tools import Tools
from probes.units import NoBool

GRADE = "row contents"
MARK = 1
"""The form of our marks; one of another form is not read."""


def _file_name(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path has no NUL in it")
    if text.startswith(("file:", ":", "sqlite:")):
        raise ValueError(f"{text!r} is no path: name the file itself, as /var/lib/app/app.db")
    return text


class SqliteDatabase(BaseModel):
    """Which database, and which of its tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(min_length=1), AfterValidator(_file_name)]
    tables: Annotated[list[Pattern], Field(min_length=1)] = ["*"]
    """Names or patterns. SQLite's own, virtual tables and their shadows only by their exact names."""
    rows: Annotated[int, NoBool, Field(ge=0, le=5_000_000)] = 100_000
    """Rows whose hashes are kept in memory, over all tables: so many can be told by their keys."""
    large: Literal["unknown", "counts"] = "unknown"
    """What becomes of a table that is too large to be read in time, once the file has moved."""


class SqliteAudit(AuditBase):
    """One audit of an SQLite database."""

    sqlite: SqliteDatabase

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        if self.sqlite.large == "counts":
            return ["with `large: counts`, a row that is changed in place in a large table is not seen"]
        return []


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What a reading leaves for the next."""

    asked: str
    """A hash of what was configured."""
    files: Files
    look: Look

    def packed(self) -> str:
        """As a mark. Too many tables for one make a short mark that says so and compares with nothing."""
        seen = self.files
        body = {
            "v": MARK,
            "asked": self.asked,
            "files": [seen.inode, seen.settled, seen.stamps],
            "schema": self.look.schema,
            "tables": {name: table.packed() for name, table in self.look.tables.items()},
        }
        text = json.dumps(body, separators=(",", ":"))
        if len(text) <= LONGEST_MARK:
            return text
        short = body | {"schema": hashed(json.dumps(body["schema"])), "tables": hashed(text)}
        return json.dumps(short, separators=(",", ":"))

    @classmethod
    def unpacked(cls, mark: str) -> "_State | None":
        """From a mark; None when it is none of ours."""
        try:
            body: Any = json.loads(mark)
            if body["v"] != MARK:
                return None
            inode, settled, stamps = body["files"]
            seen = Files(inode=inode, settled=settled, stamps=tuple(tuple(stamp) for stamp in stamps))
            tables, schema = body["tables"], body["schema"]
            if isinstance(tables, str):
                tables, schema = {}, {"": schema}
            found = {name: TableState.unpacked(packed) for name, packed in tables.items()}
            return cls(
                asked=body["asked"], files=seen, look=Look(tables=found, schema=dict(schema), left_out=())
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return None


class SqliteSource:
    """One database that another process writes."""

    def __init__(self, spec: SqliteAudit, timeout: float) -> None:
        self._spec = spec.sqlite
        self._within = 0.9 * timeout
        self._aside = Aside()
        self._asked = hashed(repr((str(Path(self._spec.path)), self._spec.tables)))
        self._kept: tuple[str, _State] | None = None
        """The newest mark that was given out, and what it stands for in full."""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise OwnFault(f"SQLite {needed} is needed, and this Python has {sqlite3.sqlite_version}")
        before = self._before(mark)
        spec = self._spec
        looking = Looking(spec.path, tuple(spec.tables), room=spec.rows, seconds=self._within)
        hurry = asyncio.get_running_loop().call_later(0.8 * self._within, looking.hurry)
        try:
            reading, state = await self._aside.run(
                lambda: self._read(looking, mark, before), within=self._within, stop=looking.stop
            )
        finally:
            hurry.cancel()
        self._kept = (reading.mark, state)
        return reading

    def _before(self, mark: str | None) -> _State | None:
        if mark is None:
            return None
        if self._kept is not None and self._kept[0] == mark:
            return self._kept[1]
        return _State.unpacked(mark)

    def _read(self, looking: Looking, mark: str | None, before: _State | None) -> tuple[Reading, _State]:
        """In the thread: look where anything was written since, and compare."""
        seen = files(self._spec.path)
        known = before is not None and before.asked == self._asked and before.files.settled
        if before is not None and mark is not None and known and before.files.stamps == seen.stamps:
            return self._unmoved(mark, before), before
        sizes = {name: table.rows or 0 for name, table in before.look.tables.items()} if before else {}
        state = _State(asked=self._asked, files=seen, look=looking.look(seen, sizes))
        return self._compared(mark, before, state), state

    def _unmoved(self, mark: str, state: _State) -> Reading:
        return Reading(
            mark=mark, grade=self._grade(state), notes=self._notes(state), figures=self._figures(state, False)
        )

    def _compared(self, mark: str | None, before: _State | None, state: _State) -> Reading:
        unknown: str | None = None
        changes: list[Change] = []
        unread: list[str] = []
        if before is None or before.asked != self._asked:
            self._must_match(state)
            if mark is not None:
                unknown = "the reading before was of another configuration: nothing to compare with"
        else:
            unknown, changes, unread = self._since(before, state)
        return Reading(
            mark=state.packed(),
            changes=tuple(changes),
            unknown=unknown,
            grade=self._grade(state),
            tells_own=not unread,
            notes=self._notes(state),
            figures=self._figures(state, before is not None),
        )

    def _since(self, before: _State, state: _State) -> tuple[str | None, list[Change], list[str]]:
        """Why it cannot be told, what was written, and the tables that could not be compared row by row."""
        if "" in before.look.schema:
            return "a database of so many tables cannot be compared after a restart", [], []
        changes = list(_redefined(before.look.schema, state.look.schema))
        unread = []
        for name in sorted({*before.look.tables, *state.look.tables}):
            old, new = before.look.tables.get(name), state.look.tables.get(name)
            if old is not None and new is not None and old.columns == new.columns:
                unread += [] if old.whole and new.whole else [name]
            changes += _written(name, old, new)
        unknown = self._unknown(before, state, changes, unread)
        return unknown, changes, unread

    def _unknown(self, before: _State, state: _State, changes: list[Change], unread: list[str]) -> str | None:
        """Why the time since cannot be told in full. Raises Unreachable where a later reading still may."""
        if before.files.inode != state.files.inode:
            return "another file stands in its place: what was written before that cannot be told"
        if not unread or self._spec.large == "counts":
            return None
        named = ", ".join(unread[:3]) + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
        reason = (
            f"the file was written, and {named} could not be compared within {0.6 * self._within:.2g} s: "
            "a longer timeout, fewer tables, or `large: counts`"
        )
        once = [name for name in unread if before.look.tables[name].whole]
        if once and not changes:
            raise Unreachable(reason)  # the next reading compares with the same state again
        for name in once:
            state.look.tables[name] = before.look.tables[name]
        return reason

    def _must_match(self, state: _State) -> None:
        """A first reading of nothing is a mistake in the file, not a store without writes."""
        for pattern in self._spec.tables:
            if pattern != "*" and not any(fnmatchcase(name, pattern) for name in state.look.tables):
                raise Unreachable(f"no table matches {pattern!r}")

    def _grade(self, state: _State) -> str:
        large = [name for name, table in state.look.tables.items() if not table.whole]
        if not large:
            return GRADE
        named = ", ".join(sorted(large)[:3]) + (f" and {len(large) - 3} more" if len(large) > 3 else "")
        return f"{GRADE}; {named} by count and highest rowid alone"

    @staticmethod
    def _notes(state: _State) -> tuple[str, ...]:
        notes = []
        if state.look.left_out:
            named = ", ".join(state.look.left_out[:5])
            notes.append(f"virtual tables are left out, with the tables they keep: {named}")
        if not state.look.tables:
            notes.append("there is no table to compare")
        return tuple(notes)

    @staticmethod
    def _figures(state: _State, touched: bool) -> dict[str, Any]:
        tables = state.look.tables.values()
        return {
            "tables": len(tables),
            "rows": sum(table.rows or 0 for table in tables),
            "touched": touched,
        }

    async def aclose(self) -> None:
        """Nothing is held between readings."""


def _written(name: str, old: TableState | None, new: TableState | None) -> list[Change]:
    """What was written to one table that may have come or gone."""
    if old is None or new is None or old.columns != new.columns:
        return _recounted(name, old, new)
    if old.whole and new.whole:
        return list(written(name, old, new))
    moved = "write" if old.top != new.top else None
    if old.rows is None or new.rows is None:
        return [Change(what=name, operation=moved)] if moved else []
    return list(by_count(name, old.rows, new.rows, otherwise=moved))


def _recounted(name: str, old: TableState | None, new: TableState | None) -> list[Change]:
    """A table that is new, gone or has other columns: only counts can be compared."""
    before, now = _counts(old), _counts(new)
    return [change for own in (False, True) for change in by_count(name, before[own], now[own], own=own)]


def _counts(table: TableState | None) -> tuple[int, int]:
    """Rows of production and of ours; without a full reading all of them count as production's."""
    if table is None:
        return 0, 0
    if table.production is None or table.own is None:
        return table.counted or 0, 0
    return table.production.rows, table.own.rows


def _redefined(old: dict[str, str], new: dict[str, str]) -> list[Change]:
    """What was created, dropped and altered."""
    changed = [name for name in new if name in old and old[name] != new[name]]
    found = (
        ("insert", [name for name in new if name not in old]),
        ("update", changed),
        ("delete", [name for name in old if name not in new]),
    )
    return [
        Change(what="schema", operation=operation, count=len(names), keys=tuple(sorted(names)[:5]))
        for operation, names in found
        if names
    ]


def sqlite_audit(spec: SqliteAudit, timeout: float, tools: Tools) -> SqliteSource:
    """The source that reads `spec`; `timeout` in seconds bounds each reading."""
    where = spec.sqlite.model_copy(update={"path": str(tools.folder / spec.sqlite.path)})
    return SqliteSource(spec.model_copy(update={"sqlite": where}), timeout)
