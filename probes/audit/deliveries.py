"""How old the oldest delivery is that nobody has acknowledged, from counts alone. Pure.

A broker says how many messages it has delivered to consumers and how many of them are settled, and not when.
A delivery that was counted at an earlier reading is at least as old as that reading.
"""

from dataclasses import dataclass, field
from typing import Any

KEPT = 16
"""Readings that are remembered for each consumer; the oldest always is."""


@dataclass(slots=True)
class Deliveries:
    """One consumer, or one queue. `samples` are (epoch seconds, deliveries counted by then), oldest first."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def seen(self, *, now: float, delivered: int, settled: int, waiting: int) -> float | None:
        """Take in a reading. Seconds for which the oldest delivery has waited at least; None without one.

        All deliveries up to the number `settled` are settled; `waiting` of the others are not.
        """
        if self.samples and delivered < self.samples[-1][1]:
            self.samples.clear()  # it was created again, and counts from the beginning
        if waiting <= 0:
            self.samples.clear()
            return None
        self.samples = [sample for sample in self.samples if sample[1] > settled]
        if not self.samples or self.samples[-1][1] < delivered:
            self.samples.append((now, delivered))
        if len(self.samples) > KEPT:
            self.samples = [self.samples[0], *self.samples[2::2]]
        return max(0.0, now - self.samples[0][0])

    def packed(self) -> list[list[float | int]]:
        """As it stands in a mark."""
        return [[round(moment, 3), count] for moment, count in self.samples]

    @classmethod
    def unpacked(cls, packed: Any) -> "Deliveries":
        """From a mark. Raises TypeError or ValueError when it is none."""
        return cls([(float(moment), int(count)) for moment, count in packed])
