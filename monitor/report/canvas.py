"""Charts -> one Bokeh document as JSON, and Bokeh's JavaScript out of the installed wheel.

Asks no network. Bokeh is imported when there is something to draw. What stands in names reaches the
page as data only: the JSON cannot end the element that holds it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isnan, nan
from statistics import median
from typing import Any

from monitor.model import Timeline
from monitor.report.build import Point
from monitor.report.charts import COLOURS, LIMITS, Chart, Series

INK, MUTED, GRID, BAD = "#1b2130", "#5c6675", "#e6e9ef", "#c8281e"
IN_THE_DARK = (
    "#6ea8fe",
    "#fb9a4b",
    "#2dd4bf",
    "#b79cff",
    "#f472b6",
    "#a3e635",
    "#38bdf8",
    "#facc15",
    "#e879f9",
    "#99f6e4",
    "#d6d3d1",
    "#fdba74",
)
DARK = dict(zip(COLOURS, IN_THE_DARK, strict=True)) | {
    INK: "#e8ebf1",
    MUTED: "#9aa5b5",
    GRID: "#262c37",
    BAD: "#ff7b72",
}
"""What the page puts in the place of each colour in a dark scheme."""
SHADES = {"baseline": "#94a3b7", "freezing": "#22c3de", "frozen": "#3b82f5", "soak": "#a78bf9"}
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex")
DASHES = ("solid", "dashed", "dotdash", "dotted", "dashdot", "solid")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, kw_only=True, slots=True)
class Phased:
    """A phase of the window that is shaded, in epoch seconds."""

    name: str
    start: float
    end: float


def library() -> str:
    """Bokeh's JavaScript, safe to stand in a script element."""
    from bokeh.resources import Resources

    # As bokeh.resources.INLINE, but with the one component that is used: a third of the size.
    inline = Resources(mode="inline", components=["bokeh"], log_level="error")
    return "\n".join(inline.js_raw).replace("</script", "<\\/script")


def payload(charts: Sequence[Chart], phases: Sequence[Phased], timeline: Timeline) -> str:
    """`{"doc", "roots": {model id: element id}, "dark": {colour: colour}}`, safe in a script."""
    from bokeh.document import Document
    from bokeh.models import CrosshairTool, Range1d, Span

    start, end = timeline.window.begins, timeline.ends
    pad = (end - start) * 0.01
    shared = Range1d((start - pad) * 1000, (end + pad) * 1000, bounds="auto")
    line = Span(dimension="height", line_color=MUTED, line_width=1, line_alpha=0.6)
    document, roots = Document(title="charts"), {}
    for chart in charts:
        figure = _figure(chart, shared)
        figure.add_tools(CrosshairTool(overlay=line))
        _shade(figure, phases)
        for series in chart.series:
            _draw(figure, chart, series, phases)
        document.add_root(figure)
        roots[figure.id] = f"chart-{chart.key}"
    body = {"doc": document.to_json(deferred=False), "roots": roots, "dark": DARK}
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figure(chart: Chart, shared: Any) -> Any:
    from bokeh.models import BoxZoomTool, Range1d
    from bokeh.plotting import figure

    made = figure(
        height=260,
        min_width=240,
        sizing_mode="stretch_width",
        x_axis_type="datetime",
        y_axis_type="log" if chart.log else "linear",
        x_range=shared,
        toolbar_location=None,
        tools=[],
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border=4,
    )
    if not chart.log:
        values = [p.value for s in chart.series for p in (*s.points, *s.bad)]
        lines = [s.limit for s in chart.series if s.limit and len(chart.series) <= LIMITS]
        made.y_range = Range1d(0, max([*values, *lines, 0.0]) * chart.scale * 1.12 or 1.0)
    zoom = BoxZoomTool(dimensions="width")
    made.add_tools(zoom)
    made.toolbar.active_drag = zoom
    _axes(made, chart)
    return made


def _axes(made: Any, chart: Chart) -> None:
    from bokeh.models import BasicTickFormatter, DatetimeTickFormatter

    made.xaxis.axis_label, made.yaxis.axis_label = "Time (UTC)", chart.axis
    clock = "%H:%M"
    made.xaxis.formatter = DatetimeTickFormatter(
        milliseconds="%H:%M:%S.%3N",
        seconds="%H:%M:%S",
        minsec="%H:%M:%S",
        minutes=clock,
        hourmin=clock,
        hours=clock,
        days="%d %b",
        months="%b %Y",
    )
    made.yaxis.formatter = BasicTickFormatter(use_scientific=False)
    made.xgrid.grid_line_color = None
    made.ygrid.grid_line_color = GRID
    for axis in (*made.xaxis, *made.yaxis):
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = MUTED
        axis.axis_line_color = axis.major_tick_line_color = GRID
        axis.minor_tick_line_color = None
        axis.major_tick_in = 0


def _shade(made: Any, phases: Sequence[Phased]) -> None:
    from bokeh.models import BoxAnnotation, Span

    for phase in phases:
        box = BoxAnnotation(
            left=phase.start * 1000,
            right=phase.end * 1000,
            fill_color=SHADES[phase.name],
            fill_alpha=0.09,
            line_color=None,
            level="image",
        )
        edge = Span(
            location=phase.start * 1000,
            dimension="height",
            line_color=SHADES[phase.name],
            line_alpha=0.5,
            level="underlay",
        )
        made.add_layout(box)
        made.add_layout(edge)


def _source(points: Sequence[Point], chart: Chart, *, outcomes: bool = False) -> Any:
    import numpy as np
    from bokeh.models import ColumnDataSource

    floor = 1e-6 if chart.log else 0.0
    data: dict[str, Any] = {
        "at": np.array([p.at * 1000 for p in points], dtype=np.float64),
        "value": np.array([_level(p.value, floor) * chart.scale for p in points], dtype=np.float64),
    }
    if outcomes:
        data["outcome"] = [p.outcome.replace("_", " ") for p in points]
    return ColumnDataSource(data)


def _level(value: float, floor: float) -> float:
    """`value`, at least `floor`; a hole stays a hole."""
    return value if isnan(value) else max(value, floor)


def _broken(points: Sequence[Point]) -> list[Point]:
    """`points` with a hole where far more time passed than usual: no line may bridge a gap."""
    steps = [b.at - a.at for a, b in pairwise(points)]
    usual = median(steps) if steps else 0.0
    broken = list(points[:1])
    for step, point in zip(steps, points[1:], strict=True):
        if step > 4 * usual:
            broken.append(replace(point, value=nan))
        broken.append(point)
    return broken


def _draw(made: Any, chart: Chart, series: Series, phases: Sequence[Phased]) -> None:
    """One series: a thin line and its points, or a step; crosses for what is bad; its limits."""
    colour, source = series.colour, _source(series.points, chart)
    line = {"line_color": colour, "line_dash": DASHES[series.mark] if chart.step else "solid"}
    if chart.step:
        made.step("at", "value", source=source, mode="after", line_width=2, **line)
    elif chart.joined:
        whole = _source(_broken(series.points), chart)
        made.line("at", "value", source=whole, line_width=1.2, line_alpha=0.45, **line)
    crossed = frozenset(series.bad)
    dots = made.scatter(
        "at",
        "value",
        source=_source([p for p in series.points if p not in crossed], chart),
        marker=MARKERS[series.mark],
        size=8 if chart.step else 4.5,
        fill_color=colour,
        fill_alpha=0.0 if chart.step else 0.75,
        line_color=None,
        name=series.name,
        hover_fill_alpha=1.0,
    )
    _hover(made, chart, dots)
    if series.bad:
        crosses = made.scatter(
            "at",
            "value",
            source=_source(series.bad, chart, outcomes=True),
            marker="x",
            size=9,
            line_color=BAD,
            line_width=2,
            name=series.name,
        )
        _hover(made, chart, crosses, ("outcome", "@outcome"))
    if len(chart.series) <= LIMITS:
        _limits(made, chart, series, phases)


def _hover(made: Any, chart: Chart, renderer: Any, *more: tuple[str, str]) -> None:
    from bokeh.models import HoverTool

    made.add_tools(
        HoverTool(
            renderers=[renderer],
            tooltips=[
                (chart.one, "$name"),
                ("at", "@at{%F %H:%M:%S} UTC"),
                (chart.what, chart.shown),
                *more,
            ],
            formatters={"@at": "datetime"},
            limit=1,
            show_arrow=False,
            attachment="horizontal",
        )
    )


def _limits(made: Any, chart: Chart, series: Series, phases: Sequence[Phased]) -> None:
    """The baseline's level where it was learnt, and the limit where it holds."""
    for level, names, dash in (
        (series.before, ("baseline",), "dotted"),
        (series.limit, ("freezing", "frozen", "soak"), "dashed"),
    ):
        parts = [phase for phase in phases if phase.name in names]
        if level is not None and parts:
            made.line(
                [parts[0].start * 1000, parts[-1].end * 1000],
                [level * chart.scale] * 2,
                line_color=series.colour,
                line_dash=dash,
                line_width=1.5,
                line_alpha=0.9,
            )
