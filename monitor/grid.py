"""The slots on which a probe asks. Pure arithmetic: the same grid before and after a restart."""

from dataclasses import dataclass
from math import ceil, floor


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The slots of one probe: `anchor + n * every`, all in seconds."""

    anchor: float
    every: float

    def after(self, moment: float) -> float:
        """The first slot after `moment`."""
        number = floor((moment - self.anchor) / self.every) + 1
        slot = self.anchor + number * self.every
        return slot if slot > moment + 1e-6 else slot + self.every

    def between(self, start: float, end: float) -> int:
        """How many slots lie in [start, end)."""
        first = ceil((start - self.anchor) / self.every - 1e-9)
        last = ceil((end - self.anchor) / self.every - 1e-9)
        return max(0, last - first)


def staggered(begins: float, everies: list[float]) -> list[Grid]:
    """One grid for each interval, spread evenly over it so that the probes do not start together."""
    total = max(1, len(everies))
    return [Grid(anchor=begins + every * index / total, every=every) for index, every in enumerate(everies)]
