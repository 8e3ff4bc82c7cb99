"""A clock that no one can set back. UTC for *when*, steady for *how long*, in one.

It takes the wall clock once and then counts on the boot-time clock, which also counts a suspended
machine. Steps of the wall clock do not move it; `step` tells how far the two have parted.
"""

import time
from datetime import UTC, datetime, timedelta, tzinfo

STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Seconds since the epoch in UTC, steady from the moment it was made."""

    def __init__(self) -> None:
        self._wall = time.time()
        self._steady = time.clock_gettime(STEADY)

    def now(self) -> float:
        """Now, in epoch seconds."""
        return self._wall + time.clock_gettime(STEADY) - self._steady

    def step(self) -> float:
        """Seconds by which the wall clock is ahead of this one."""
        return time.time() - self.now()


class SteadyZone(tzinfo):
    """UTC as a steady clock counts it: what `datetime.now(zone)` gives a scheduler that knows no other.

    The system's clock says when it is; this zone takes back whatever that clock was stepped by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def fromutc(self, moment: datetime) -> datetime:
        """`moment`, read off the system's clock, without the steps that clock has made."""
        return moment - timedelta(seconds=self._clock.step())

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """None at all: it is UTC."""
        return timedelta(0)

    def dst(self, moment: datetime | None) -> timedelta:
        """None."""
        return timedelta(0)

    def tzname(self, moment: datetime | None) -> str:
        """`UTC`."""
        return "UTC"


def as_datetime(moment: float) -> datetime:
    """Epoch seconds as an aware datetime."""
    return datetime.fromtimestamp(moment, UTC)
