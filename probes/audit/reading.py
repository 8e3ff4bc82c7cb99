"""What one reading of a store's own records says, and what a kind of store must be able to do for it.

A source compares two states of a store and names what was written between them. It knows its store's
counters and their traps, and nothing of windows.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.base import Figure

Pattern = Annotated[str, Field(min_length=1)]
"""A name, or a pattern with `*` and `?`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What was written to one place between two readings."""

    what: str
    """The table, key space, file or object: what an exemption names."""
    operation: str
    """`insert`, `update`, `delete`, or `write` where the store does not say which."""
    count: int = 1
    keys: tuple[str, ...] = ()
    """Some of the keys, never values."""
    role: str | None = None
    """Who wrote, where the store knows it."""
    when: str | None = None
    """When, where the store knows it better than two readings do (ISO 8601)."""
    own: bool = False
    """An attempt of ours."""

    @property
    def where(self) -> str:
        """`public.products: insert`: what later writes of the same sort have in common."""
        return f"{self.what}: {self.operation}"

    @property
    def said(self) -> str:
        """`public.products: 2 × insert (id=5, id=6) by app`."""
        keys = f" ({', '.join(self.keys)})" if self.keys else ""
        by = f" by {self.role}" if self.role else ""
        at = f" at {self.when}" if self.when else ""
        return f"{self.what}: {self.count} × {self.operation}{keys}{by}{at}"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenWriter:
    """Something that was begun and may still write: a transaction, a delivery, a task."""

    who: str
    """Session, user and place: `session 4711 of app from 10.0.0.3`."""
    age_s: float
    what: str | None = None
    """The table or queue, where it is known."""
    role: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One reading. `changes` is what was written since the mark that it was given."""

    mark: str
    """Where the next reading goes on; any text that survives a restart of the watchdog."""
    changes: tuple[Change, ...] = ()
    unknown: str | None = None
    """Why the time since the reading before cannot be told: a restart, a reset, a gap in the log."""
    open: tuple[OpenWriter, ...] | None = None
    """Who may still write; None where the store, or the account, cannot tell."""
    grade: str = ""
    """How it was found out: `logical slot`, `row counters`."""
    lag_s: float = 0.0
    """A write may show up to so many seconds late."""
    tells_own: bool = True
    """A write of ours is told from others."""
    notes: tuple[str, ...] = ()
    """What an operator should know: a slot that was dropped, a table without statistics."""
    figures: dict[str, Figure] | None = None


class Source(Protocol):
    """One store's records."""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`; None for a first reading, which finds nothing.

        Raises Unreachable or OwnFault. Changes nothing in the store, or names what it keeps there.
        """
        ...

    async def aclose(self) -> None:
        """Let go of session and slot. Raises nothing."""
        ...


class Exemption(BaseModel):
    """Writes that are allowed while frozen, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Pattern | None = None
    key: Pattern | None = None
    path: Pattern | None = None
    role: Pattern | None = None
    """Who may write; matches only where the store says who wrote."""
    reason: Annotated[str, Field(min_length=3)]

    @model_validator(mode="after")
    def _names_something(self) -> "Exemption":
        if sum(each is not None for each in (self.table, self.key, self.path)) > 1:
            raise ValueError("table, key and path are three names for what is written: keep one")
        if self.what is None and self.role is None:
            raise ValueError("name what may be written (table, key or path), or the role that may write")
        return self

    @property
    def what(self) -> str | None:
        """The pattern of what may be written."""
        return self.table or self.key or self.path

    def covers(self, what: str | None, role: str | None) -> bool:
        """Is a write to `what` by `role` allowed?"""
        if self.what is not None and (what is None or not fnmatchcase(what, self.what)):
            return False
        return self.role is None or (role is not None and fnmatchcase(role, self.role))


class AuditBase(BaseModel):
    """What every audit may say, whatever its store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exempt: list[Exemption] = []

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes, as sentences."""
        return []
