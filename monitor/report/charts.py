"""Report -> three charts: what is drawn, what their legends say, and why one is empty. Pure.

Thins and folds, so that a long window with many probes stays readable. Judges and draws nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

from monitor.criteria.meaning import BASELINE as MEASURED
from monitor.criteria.reads import BASELINE, percentile
from monitor.report.build import Point, ProbeSummary, Report, thinned
from monitor.report.text import Words, length, number
from probes.base import LEAKS, Outcome

MOST = 12
"""Series of a chart; of more, the worst are drawn."""
LIMITS = 4
"""Series up to which each has its baseline and its limit drawn; more lines hide the points."""
LOG_FROM = 25.0
"""The ratio of largest value to median from which a linear axis shows nothing but the peak."""
BLOCKED = frozenset({Outcome.REFUSED.value, Outcome.REFUSED_BADLY.value})
GOT_THROUGH = frozenset({*(outcome.value for outcome in LEAKS), Outcome.DROPPED.value})

COLOURS = (
    "#2563eb",
    "#c2570c",
    "#0f766e",
    "#7c3aed",
    "#be185d",
    "#4d7c0f",
    "#0369a1",
    "#a16207",
    "#86198f",
    "#115e59",
    "#57534e",
    "#7c2d12",
)
SIGNS = ("●", "■", "▲", "◆", "▼", "⬢")
"""The shapes of points, so that colour is never the only sign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line of a chart: what is drawn, and what its legend says."""

    name: str
    points: list[Point]
    bad: list[Point]
    """Points that are marked with a cross."""
    cells: tuple[str, ...]
    worst: tuple[float, ...]
    """The larger, the worse: what decides which series are drawn."""
    before: float | None = None
    limit: float | None = None
    index: int = 0
    """Its place among those drawn: chooses colour and shape."""

    @property
    def mark(self) -> int:
        """Its shape."""
        return self.index % len(SIGNS)

    @property
    def colour(self) -> str:
        """Its colour in the light scheme."""
        return COLOURS[self.index % len(COLOURS)]

    @property
    def sign(self) -> str:
        """The shape of its points, for the legend."""
        return SIGNS[self.mark]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart. `empty` says why there is nothing to draw."""

    key: str
    title: str
    about: str
    axis: str
    """What the vertical axis shows, with its unit."""
    one: str
    """What a series is: a read, a question, a surface."""
    what: str
    shown: str
    """How a tool tip writes a value, as Bokeh's placeholder."""
    head: tuple[str, ...]
    series: tuple[Series, ...]
    empty: str = ""
    note: str = ""
    log: bool = False
    scale: float = 1.0
    step: bool = False
    """Drawn as steps, for counts that add up."""
    joined: bool = False
    """Points are joined by a thin line."""


def charts(report: Report, words: Words) -> tuple[Chart, ...]:
    """The charts of `report`; `words` makes a name harmless."""
    return latency(report, words), drift(report, words), blocked(report, words)


def _short(name: str) -> str:
    """A name that fits beside a point."""
    return name if len(name) <= 64 else f"{name[:63]}…"


def _finite(points: Sequence[Point]) -> list[Point]:
    return [p for p in points if number(p.at) is not None and number(p.value) is not None]


def _folded(series: list[Series], what: str) -> tuple[tuple[Series, ...], str]:
    """The worst `MOST` series in their order, coloured, and a note where some are left out."""
    kept = series
    if len(series) > MOST:
        worst = sorted(range(len(series)), key=lambda i: series[i].worst, reverse=True)[:MOST]
        kept = [series[i] for i in sorted(worst)]
    note = f"The {MOST} worst of {len(series)} {what} are drawn." if len(kept) < len(series) else ""
    coloured = tuple(replace(each, index=i) for i, each in enumerate(kept))
    return coloured, note


def latency(report: Report, words: Words) -> Chart:
    """How long each read took, with its baseline's 95th percentile and the limit that follows."""
    probes = [probe for probe in report.probes if probe.kind == "read"]
    found = [series for probe in probes if (series := _read(probe, report, words))]
    kept, note = _folded(found, "reads")
    values = [p.value for series in kept for p in series.points if p.value > 0]
    log = bool(values) and max(values) > LOG_FROM * median(values)
    unit = "s" if values and max(values) >= 10 and not log else "ms"
    return Chart(
        key="latency",
        title="Read latency",
        about="Each dot is one answered read, each cross one that failed. Dotted: 95th percentile "
        "of the baseline. Dashed: the limit that the objective derives from it.",
        axis=f"Time to answer ({unit}{', logarithmic' if log else ''})",
        one="read",
        what="took",
        shown=f"@value{{0,0.0}} {unit}",
        head=("Answered", "Failed", "Median", "p95", "Slowest", "Baseline p95", "Limit"),
        series=kept,
        note=note,
        log=log,
        scale=1.0 if unit == "s" else 1000.0,
        empty=_why_empty(probes, "reads", "no read was asked"),
    )


def _read(probe: ProbeSummary, report: Report, words: Words) -> Series | None:
    points, opens = _finite(probe.points), report.plan.window.opens
    if not points:
        return None
    good = [p for p in points if p.outcome == Outcome.OK]
    bad = [p for p in points if p.outcome != Outcome.OK]
    before = [p.value for p in good if p.at < opens]
    base = limit = None
    if len(before) >= BASELINE:
        objective, base = report.plan.objectives.reads, percentile(before, 0.95)
        limit = max(base * objective.p95_over_baseline, base + objective.latency_floor)
    values = [p.value for p in good]
    cells = (
        f"{len(good):,}",
        f"{len(bad):,}",
        length(median(values)) if values else "–",
        length(percentile(values, 0.95)) if values else "–",
        length(max(values)) if values else "–",
        length(base),
        length(limit),
    )
    worst = (float(len(bad)), percentile(values, 0.95) if values else 0.0)
    return Series(
        name=_short(words(probe.name)),
        points=thinned(good),
        bad=thinned(bad),
        cells=cells,
        worst=worst,
        before=base,
        limit=limit,
    )


def drift(report: Report, words: Words) -> Chart:
    """The semantic distance of each answer to its baseline."""
    measured = {planned.name for planned in report.plan.probes if planned.measured}
    probes = [probe for probe in report.probes if probe.name in measured]
    found = [series for probe in probes if (series := _question(probe, report, words))]
    kept, note = _folded(found, "questions")
    return Chart(
        key="drift",
        title="Answer drift ΔS",
        about="Semantic distance of an answer to its baseline: 0 means the same. Dashed: where the "
        "band ends that the baseline calibrated.",
        axis="ΔS (cosine distance, 0 to 2)",
        one="question",
        what="ΔS",
        shown="@value{0.000}",
        head=("Measured", "Median", "Largest", "Band ends", "Beyond"),
        series=kept,
        note=note,
        joined=True,
        empty=_why_empty(probes, "reads that say where their answer stands", "no answer was measured"),
    )


def _question(probe: ProbeSummary, report: Report, words: Words) -> Series | None:
    points, opens = _finite(probe.delta_s), report.plan.window.opens
    if not points:
        return None
    before = [p.value for p in points if p.at < opens]
    enough = len(before) >= MEASURED
    limit = max(before) + report.plan.objectives.meaning.band if enough else None
    points = [
        replace(p, outcome="beyond the band")
        if limit is not None and p.at >= opens and p.value > limit
        else p
        for p in points
    ]
    beyond = [p for p in points if p.outcome == "beyond the band"]
    values = [p.value for p in points]
    cells = (
        f"{len(points):,}",
        f"{median(values):.3f}",
        f"{max(values):.3f}",
        f"{limit:.3f}" if limit is not None else "–",
        f"{len(beyond):,}" if limit is not None else "–",
    )
    return Series(
        name=_short(words(probe.name)),
        points=thinned(points),
        bad=thinned(beyond),
        cells=cells,
        worst=(max(values) - (limit or 0.0),),
        limit=limit,
    )


def blocked(report: Report, words: Words) -> Chart:
    """How many writes were blocked on each surface, added up."""
    probes = [probe for probe in report.probes if probe.kind == "write"]
    surfaces: dict[str, list[Point]] = {}
    for probe in probes:
        surfaces.setdefault(probe.surface, []).extend(_finite(probe.points))
    found = [series for name, points in surfaces.items() if (series := _surface(name, points, words))]
    kept, note = _folded(found, "surfaces")
    return Chart(
        key="blocked",
        title="Blocked writes",
        about="Attempts that were refused, added up for each surface. A cross is a write that got "
        "through or was dropped.",
        axis="Blocked writes (count)",
        one="surface",
        what="blocked so far",
        shown="@value{0,0}",
        head=("Blocked", "Got through or dropped", "First blocked", "Last blocked"),
        series=kept,
        note=note,
        step=True,
        empty=_why_empty(probes, "writes", "no write was blocked or got through"),
    )


def _surface(name: str, points: list[Point], words: Words) -> Series | None:
    count, line, bad = 0, [], []
    for point in sorted(points, key=lambda p: p.at):
        if point.outcome in BLOCKED:
            count += 1
            line.append(Point(at=point.at, value=float(count), outcome=point.outcome))
        elif point.outcome in GOT_THROUGH:
            bad.append(Point(at=point.at, value=float(count), outcome=point.outcome))
    if not line and not bad:
        return None
    first, last = (_time(line[0].at), _time(line[-1].at)) if line else ("–", "–")
    return Series(
        name=_short(words(name)),
        points=thinned(line),
        bad=thinned(bad),
        cells=(f"{count:,}", f"{len(bad):,}", first, last),
        worst=(float(len(bad)), -float(count)),
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _why_empty(probes: Sequence[ProbeSummary], what: str, nothing: str) -> str:
    if not probes:
        return f"Nothing to draw: window.yaml has no {what}."
    return f"Nothing to draw: {nothing} up to the time of this report."
