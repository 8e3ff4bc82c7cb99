"""The read-only mode: the flag, the planned window and what has been announced about it.

The only place that remembers whether writes are frozen. Refuses nothing itself: the guard asks.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

RETRY_AFTER_WHEN_END_UNKNOWN_S = 120


class Clock(Protocol):
    """UTC for when, a monotonic count of seconds for how long."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The present moment in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()


class Status(StrEnum):
    """Where the maintenance stands, in the words of the Statuspage v2 API."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The window as it is known at the moment; either end may be unknown."""

    opens: datetime | None = None
    closes: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Flag:
    """The read-only flag as every replica should show it; `version` grows with each change."""

    read_only: bool
    version: int
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """One thing said in public about the window: its status then, and the times known then."""

    status: Status
    at: datetime
    plan: Plan
    extended: bool = False


class ReadOnlyMode:
    """The mode, turned by the operator alone; the planned times never turn it by themselves."""

    def __init__(self, *, plan: Plan, clock: Clock) -> None:
        self._clock = clock
        self._plan = plan
        self._flag = Flag(read_only=False, version=1, updated_at=clock.now())
        self._first_frozen_at: float | None = None
        self._announcements: list[Announcement] = []
        if plan.opens is not None:
            self._announce(Status.SCHEDULED)

    @property
    def frozen(self) -> bool:
        """True while writes are not allowed."""
        return self._flag.read_only

    @property
    def flag(self) -> Flag:
        """The flag as it stands."""
        return self._flag

    @property
    def plan(self) -> Plan:
        """The window's times as they are known now."""
        return self._plan

    @property
    def announcements(self) -> tuple[Announcement, ...]:
        """Everything announced so far, oldest first; empty when no window is known."""
        return tuple(self._announcements)

    @property
    def seconds_since_first_freeze(self) -> float | None:
        """Seconds since the mode was first turned on; None before that."""
        if self._first_frozen_at is None:
            return None
        return self._clock.monotonic() - self._first_frozen_at

    def turn_on(self, *, closes: datetime | None = None) -> None:
        """Freeze writes, or move the end of a freeze that holds already."""
        moved = closes is not None and closes != self._plan.closes
        opens = self._plan.opens or self._clock.now()
        self._plan = Plan(opens=opens, closes=closes or self._plan.closes)
        if not self.frozen:
            if self._first_frozen_at is None:
                self._first_frozen_at = self._clock.monotonic()
            self._set(read_only=True)
            self._announce(Status.IN_PROGRESS)
        elif moved:
            self._announce(Status.IN_PROGRESS, extended=True)

    def turn_off(self) -> None:
        """Let writes in again; without effect when they are open."""
        if self.frozen:
            self._set(read_only=False)
            self._announce(Status.COMPLETED)

    def retry_after(self) -> int:
        """Whole seconds, at least 1, until the window closes (RFC 9110 §10.2.3)."""
        if self._plan.closes is None:
            return RETRY_AFTER_WHEN_END_UNKNOWN_S
        return max(1, math.ceil((self._plan.closes - self._clock.now()).total_seconds()))

    def _set(self, *, read_only: bool) -> None:
        self._flag = Flag(read_only=read_only, version=self._flag.version + 1, updated_at=self._clock.now())

    def _announce(self, status: Status, *, extended: bool = False) -> None:
        self._announcements.append(
            Announcement(status=status, at=self._clock.now(), plan=self._plan, extended=extended)
        )


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a Z, as Statuspage writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_moment(text: str) -> datetime:
    """An ISO 8601 moment with its offset; ValueError names what is wrong."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an ISO 8601 moment such as 2026-11-23T22:00Z") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset: end it with Z or +01:00")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the calendar in UTC") from error
