"""The slots on which a probe asks. Pure arithmetic: the same grid before and after a restart."""

from dataclasses import dataclass
from math import ceil, floor

HALF = 0.0005
"""Half of a millisecond, in seconds: moments closer than that are one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The slots of one probe: `anchor + n * every` in seconds, each a whole millisecond.

    Whole milliseconds, because a slot goes through datetimes and JSON and must come back as itself:
    a slot that comes back a microsecond early is found again as the next one, without end.
    """

    anchor: float
    every: float

    def slot(self, number: int) -> float:
        """The slot with this number; 0 is the anchor's."""
        return round(self.anchor + number * self.every, 3)

    def after(self, moment: float) -> float:
        """The first slot that lies after `moment` by more than half a millisecond."""
        number = floor((moment - self.anchor) / self.every)
        while self.slot(number) <= moment + HALF:
            number += 1
        return self.slot(number)

    def between(self, start: float, end: float) -> int:
        """How many slots lie in [start, end)."""
        first = ceil((start - self.anchor - HALF) / self.every)
        last = ceil((end - self.anchor - HALF) / self.every)
        return max(0, last - first)


def staggered(begins: float, everies: list[float]) -> list[Grid]:
    """One grid for each interval, spread evenly over it so that the probes do not start together."""
    total = max(1, len(everies))
    return [Grid(anchor=begins + every * index / total, every=every) for index, every in enumerate(everies)]
