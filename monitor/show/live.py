"""The live screen: phase, time left, a line for each probe, verdicts, advice. Shows, decides nothing."""

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitor.events import Alerted, Decided, Event, Judged, Observed, SelfNoted
from monitor.model import Colour, Phase, iso, span
from monitor.plan import Plan
from monitor.show.lines import words
from monitor.snapshot import Snapshot
from probes.base import Kind, Observation, Outcome

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 30
COLOURS = {Colour.GREEN: "bold green", Colour.AMBER: "bold yellow", Colour.RED: "bold red"}
SIGNS = {"PASS": ("✔", "green"), "FAIL": ("✘", "red"), "INCONCLUSIVE": ("?", "yellow")}
GOOD = frozenset({Outcome.OK, Outcome.REFUSED, Outcome.QUEUED, Outcome.ON, Outcome.OFF, Outcome.ACCEPTED})
UNSURE = frozenset({Outcome.UNREACHABLE, Outcome.SKIPPED, Outcome.UNKNOWN})


@dataclass(slots=True)
class _Row:
    """The newest runs of one probe."""

    recent: deque[tuple[float, Outcome, str]] = field(default_factory=lambda: deque(maxlen=WIDTH))
    runs: int = 0
    last: Outcome | None = None
    reason: str = ""
    delta_s: float | None = None


class LiveScreen:
    """Draws at most four times a second."""

    def __init__(self, plan: Plan, console: Console, serving: Callable[[], str | None]) -> None:
        self._plan = plan
        self._console = console
        self._serving = serving
        self._rows = {probe.name: _Row() for probe in plan.probes}
        self._news: deque[str] = deque(maxlen=5)
        self._snapshot: Snapshot | None = None
        self._trouble: str | None = None
        self._live = Live(get_renderable=self.draw, console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> "LiveScreen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()

    def event(self, event: Event) -> None:
        """Take in a durable event."""
        if isinstance(event, Observed):
            o = event.observation
            row = self._rows.get(o.probe)
            if row is None:
                return
            if o.kind is Kind.MEANING:
                delta = o.figures.get("delta_s")
                row.delta_s = float(delta) if isinstance(delta, float | int) else row.delta_s
                return
            row.recent.append((o.duration_s, o.outcome, style_of(o)))
            row.runs += 1
            row.last, row.reason = o.outcome, o.reason
        elif isinstance(event, Judged | Decided | Alerted | SelfNoted):
            line = words(event)
            if line is not None:
                self._news.append(line)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Take in a newer judgement."""
        self._snapshot = snapshot

    def trouble(self, reason: str | None) -> None:
        """Show that evidence is not being kept."""
        self._trouble = reason

    def draw(self) -> RenderableType:
        """The whole screen."""
        snapshot = self._snapshot
        if snapshot is None:
            return Text("waiting for the first judgement…", style="dim")
        parts: list[RenderableType] = [self._head(snapshot)]
        if self._trouble:
            parts.append(Text(f" THE LEDGER TAKES NO EVIDENCE: {self._trouble} ", style="bold white on red"))
        parts += [self._probes(), self._criteria(snapshot), self._foot(snapshot)]
        return Group(*parts)

    def _head(self, snapshot: Snapshot) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right")
        title = Text(self._plan.window.title, style="bold")
        title.append(f"  {self._plan.window.id}", style="dim")
        verdict = Text(f" {snapshot.colour.value} ", style=COLOURS[snapshot.colour] + " reverse")
        head.add_row(title, verdict)
        head.add_row(self._times(snapshot), Text(f"advice: {snapshot.decision.action.value}", "bold"))
        return Panel(head, border_style=COLOURS[snapshot.colour].removeprefix("bold "))

    def _times(self, snapshot: Snapshot) -> Text:
        timeline, phase, now = snapshot.timeline, snapshot.phase, snapshot.now
        text = Text(f"{phase.value.upper():<9}", style="bold cyan")
        next_change = {
            Phase.PLANNED: ("baseline in", timeline.window.begins),
            Phase.BASELINE: ("opens in", timeline.window.opens),
            Phase.FREEZING: ("closes in", timeline.closes),
            Phase.FROZEN: ("closes in", timeline.closes),
            Phase.SOAK: ("ends in", timeline.ends),
        }.get(phase)
        if next_change is not None:
            text.append(f"  {next_change[0]} {span(max(0.0, next_change[1] - now))}")
        text.append(f"   {iso(timeline.window.opens)[11:19]} to {iso(timeline.closes)[11:19]} UTC", "dim")
        return text

    def _probes(self) -> RenderableType:
        table = Table(box=None, expand=True, pad_edge=False, show_edge=False)
        for name, justify in (
            ("probe", "left"),
            ("newest runs", "left"),
            ("took", "right"),
            ("ΔS", "right"),
            ("runs", "right"),
            ("outcome", "left"),
        ):
            table.add_column(name, justify=justify, no_wrap=True, header_style="dim")  # type: ignore[arg-type]
        for probe in self._plan.probes:
            row = self._rows[probe.name]
            took = f"{row.recent[-1][0] * 1000:.0f} ms" if row.recent else ""
            drift = "" if row.delta_s is None else f"{row.delta_s:.2f}"
            table.add_row(
                Text(probe.name),
                sparkline(list(row.recent)),
                took,
                drift,
                str(row.runs),
                _outcome(row),
            )
        return table

    def _criteria(self, snapshot: Snapshot) -> RenderableType:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        shown = [v for v in snapshot.verdicts.values() if v.waived is None]
        for verdict in shown:
            sign, style = SIGNS[verdict.status.value]
            table.add_row(
                Text(f"{sign} {verdict.criterion}", style=style),
                Text(verdict.status.value, style=style),
                Text(verdict.reason, style="" if verdict.holds_gate else "dim"),
            )
        waived = [v.criterion for v in snapshot.verdicts.values() if v.waived is not None]
        if waived:
            table.add_row(Text("– waived", style="dim"), "", Text(", ".join(waived), style="dim"))
        return Panel(table, title="criteria", title_align="left", border_style="dim")

    def _foot(self, snapshot: Snapshot) -> RenderableType:
        lines = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._news]
        advice = Text(snapshot.decision.reason, no_wrap=True, overflow="ellipsis")
        close = snapshot.gate("close", snapshot.now)
        gate = Text("gate at close: ", style="dim")
        gate.append("open" if close.open else "closed", "green" if close.open else "yellow")
        served = self._serving()
        if served:
            gate.append(f"    {served}/metrics", style="dim")
        return Group(advice, gate, *lines)


def _outcome(row: _Row) -> Text:
    if row.last is None:
        return Text("not asked yet", style="dim")
    style = row.recent[-1][2]
    text = Text(row.last.value, style="bold red" if style == "red" else style)
    if row.last not in GOOD:
        text.append(f": {row.reason[:60]}", style="dim")
    return text


def style_of(o: Observation) -> str:
    """The colour of an outcome. A write to a store while writes are open, and another spelling of a write
    that is no way in, are neither good nor bad.
    """
    open_to_writes = o.phase not in (Phase.FREEZING, Phase.FROZEN)
    no_way_in = o.outcome is Outcome.UNREACHABLE and o.figures.get("answered") is True
    if no_way_in or (o.outcome is Outcome.CHANGED and open_to_writes):
        return "cyan"
    return "green" if o.outcome in GOOD else "yellow" if o.outcome in UNSURE else "red"


def sparkline(recent: list[tuple[float, Outcome, str]]) -> Text:
    """Durations as bars from the fastest to the slowest shown; colour says what came of each."""
    text = Text()
    slowest = max((duration for duration, _, _ in recent), default=0.0)
    for duration, outcome, style in recent:
        height = int(duration / slowest * (len(BARS) - 1)) if slowest else 0
        text.append("·" if outcome is Outcome.SKIPPED else BARS[height], style=style)
    return text
