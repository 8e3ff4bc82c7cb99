"""λ: the trend of ΔS as one of four states, or none. Pure: a series in, a state and a slope out.

A first form over the newest samples of one question. `recursive` (flat) and `convergent` are healthy;
`divergent` and `chaotic` are not. Fewer samples than `WINDOW` give no state.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from statistics import fmean, median

WINDOW = 12
"""Samples that the trend looks at."""
SLOPE = 0.005
"""A change of ΔS a sample that counts as a trend: 0.06 over the window."""
JUMP = 0.04
"""Mean step from sample to sample above the baseline's that counts as chaotic."""


class Trend(StrEnum):
    """The states of λ."""

    CONVERGENT = "convergent"
    RECURSIVE = "recursive"
    DIVERGENT = "divergent"
    CHAOTIC = "chaotic"
    INCONCLUSIVE = "inconclusive"


def slope(series: Sequence[float]) -> float:
    """The Theil-Sen slope of ΔS a sample: the median over all pairs, which outliers do not move."""
    count = len(series)
    if count < 2:
        return 0.0
    return median((series[j] - series[i]) / (j - i) for i in range(count - 1) for j in range(i + 1, count))


def steps(series: Sequence[float]) -> float:
    """The mean absolute step from sample to sample."""
    if len(series) < 2:
        return 0.0
    return fmean(abs(after - before) for before, after in pairwise(series))


def trend(series: Sequence[float], baseline: Sequence[float]) -> tuple[Trend, float]:
    """λ of `series` (oldest first) against the `baseline` series, and its slope."""
    recent = list(series)[-WINDOW:]
    rate = slope(recent)
    if len(recent) < WINDOW:
        return Trend.INCONCLUSIVE, rate
    if rate <= -SLOPE:
        return Trend.CONVERGENT, rate
    if rate >= SLOPE:
        return Trend.DIVERGENT, rate
    if steps(recent) > steps(baseline) + JUMP:
        return Trend.CHAOTIC, rate
    return Trend.RECURSIVE, rate
