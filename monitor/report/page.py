"""Report -> Page: what the HTML page shows, arranged and worded. Pure: no HTML, no I/O.

Sorts, counts, adds sentences. Judges nothing, and leaves text as it is: the template makes it
harmless.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from statistics import median
from urllib.parse import urlsplit

from monitor import __version__
from monitor.criteria.reads import percentile
from monitor.model import Act, Colour, Phase, Status, Timeline, Verdict, iso, span
from monitor.report.build import ProbeSummary, Report
from monitor.report.canvas import Phased
from monitor.report.charts import Chart
from monitor.report.text import clean, length, number
from probes.base import Outcome

PROBES = 400
"""Rows of the table of probes; of more, those with the worst outcomes are shown."""
ENTRIES = 400
"""Entries of the history that are shown: the newest."""
ROOM = 6.5
"""Percentage of the strip that a written time takes."""
UNCONFIGURED = "not configured"
"""How the reason of a criterion begins that nothing can evidence."""
GOOD = frozenset({"ok", "refused", "queued", "accepted", "on", "off"})
BAD = frozenset({"failed", "refused_badly", "leaked", "leaked_behind_refusal", "dropped"})
SIGNS = frozenset({*map(str, Status), *map(str, Colour)})
ASKS = {
    "guard": "every write is refused as promised",
    "storage": "no production write is found",
    "reads": "reads stay up and fast",
    "meaning": "answers mean what they meant",
    "queue": "the queue stays bounded and drains",
    "notice": "users are told, before and after",
    "flag": "the read-only flag holds on every replica",
    "jobs": "background writers are stopped",
    "retries": "clients back off",
    "reopen": "writes are back after the end",
    "scope": "every way to write has a probe",
    "coverage": "every probe ran as planned",
}
"""What each criterion asks, in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Something on the timeline; `left` and `width` are percentages of the strip."""

    kind: str
    left: float
    width: float
    text: str
    start: float
    end: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One probe. Lengths are seconds; `share` of an outcome is a percentage."""

    probe: ProbeSummary
    runs: int
    outcomes: tuple[tuple[str, int, str, float], ...]
    """(outcome, count, good, bad or other, share)."""
    median: float | None
    p95: float | None
    bad: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the history."""

    at: float
    kind: str
    what: str
    said: str
    sign: str = ""
    """The verdict, where it is one."""

    @property
    def kind_name(self) -> str:
        """The kind in a word for people."""
        return "watchdog" if self.kind == "self" else self.kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What the template shows beside the report itself."""

    report: Report
    summary: str
    notices: tuple[str, ...]
    judged: tuple[Verdict, ...]
    unconfigured: tuple[Verdict, ...]
    phases: tuple[Mark, ...]
    ticks: tuple[tuple[str, float, float], ...]
    """(side to write on, place on the strip, epoch seconds)."""
    lanes: tuple[tuple[str, tuple[Mark, ...]], ...]
    alerted: tuple[Mark, ...]
    silent: tuple[Mark, ...]
    now: float | None
    """Where the time of the report stands on the strip, while the window goes on."""
    charts: tuple[Chart, ...]
    rows: tuple[Row, ...]
    days: tuple[tuple[str, tuple[Entry, ...]], ...]
    left_out: int
    rollback_link: str | None
    version: str = __version__


def arrange(report: Report, drawn: tuple[Chart, ...]) -> Page:
    """The page on `report` with the charts `drawn`."""
    judged = [v for v in report.criteria if not _unconfigured(v)]
    judged.sort(key=lambda v: (v.waived is not None, _rank(v.status)))
    strip = _Strip(report.timeline.window.begins, report.timeline.ends)
    acts, alerted = tuple(_acts(report, strip)), tuple(_alerts(report, strip))
    silent = tuple(_silences(report, strip))
    history = sorted(_history(report), key=lambda entry: entry.at)
    shown = history[-ENTRIES:]
    return Page(
        report=report,
        summary=summary(report),
        notices=tuple(_notices(report)),
        judged=tuple(judged),
        unconfigured=tuple(v for v in report.criteria if _unconfigured(v)),
        phases=tuple(
            strip.mark(phase.name, phase.start, phase.end, phase.name)
            for phase in phases(report.timeline, report.generated_at)
        ),
        ticks=tuple(_ticks(report.timeline, strip)),
        lanes=(("Acts", acts), ("Alerts", alerted), ("Gaps", silent)),
        alerted=alerted,
        silent=silent,
        now=None if report.generated_at >= report.timeline.ends else strip.at(report.generated_at),
        charts=drawn,
        rows=tuple(_rows(report.probes)),
        days=tuple((day, tuple(found)) for day, found in groupby(shown, key=_day)),
        left_out=len(history) - len(shown),
        rollback_link=_link(report.timeline.window.rollback),
    )


def _unconfigured(verdict: Verdict) -> bool:
    return verdict.reason.startswith(UNCONFIGURED) and not verdict.evidence.count


def bare_reason(verdict: Verdict) -> str:
    """The reason without the acceptance that the judge put behind it: that stands beside it."""
    for act in verdict.accepted:
        said = f"accepted by {act.who} at {iso(act.at)}: {act.reason}"
        if verdict.reason.endswith(f"; {said}"):
            return verdict.reason.removesuffix(f"; {said}")
    return verdict.reason


def _rank(status: Status) -> int:
    return (Status.FAIL, Status.INCONCLUSIVE, Status.PASS).index(status)


def sort_of(outcome: str, kind: str = "") -> str:
    """Is an outcome good, bad, or neither? What a store shows is bad only where it is a finding."""
    found = kind == "finding" and outcome in ("changed", "open")
    if outcome in BAD or found or (kind == "read" and outcome == Outcome.REFUSED):
        return "bad"
    return "good" if outcome in GOOD else "other"


def summary(report: Report) -> str:
    """One sentence on the verdict."""
    counted = [verdict for verdict in report.criteria if verdict.waived is None]
    waived = len(report.criteria) - len(counted)
    tail = f"; {waived} waived" if waived else ""
    failing = [v.criterion for v in counted if v.status is Status.FAIL]
    unproven = [v.criterion for v in counted if v.status is Status.INCONCLUSIVE]
    if report.verdict is Colour.RED:
        also = f"; not proven: {', '.join(unproven)}" if unproven else ""
        return f"{_count(len(failing), 'criterion fails', 'criteria fail')}: " + (
            ", ".join(failing) + also + tail
        )
    if not counted:
        return "Every criterion is waived, so nothing is proven."
    if report.verdict is Colour.AMBER:
        many = _count(len(unproven), "criterion is not proven", "criteria are not proven")
        return f"Nothing is known to be broken, but {many}: {', '.join(unproven)}{tail}"
    return f"{_count(len(counted), 'criterion passes', 'criteria pass')}{tail}"


def _count(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _notices(report: Report) -> Iterator[str]:
    """What a reader must know before the rest makes sense."""
    back = report.timeline.rolled_back
    if back is not None:
        yield f"The window was rolled back by {back.who}: {back.reason}"
    if not report.plan.probes:
        yield "window.yaml names no probe: nothing was asked, so nothing can be proven."
    elif not report.observations:
        yield "No observation was recorded: nothing was asked yet, or nothing was written down."
    if report.phase in (Phase.PLANNED, Phase.BASELINE):
        yield "The window has not opened yet: there is nothing to judge."
    elif not report.phase.over:
        yield f"The window is still going on ({report.phase.value}): what is said here can change."


def _link(text: str | None) -> str | None:
    """`text` where it is a plain web address, else None: it may hold anything."""
    if text is None or clean(text) != text or " " in text:
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None


class _Strip:
    """Moments as percentages of the window, from the first question to the last."""

    def __init__(self, begins: float, ends: float) -> None:
        self._begins, self._length = begins, max(ends - begins, 1e-9)

    def at(self, moment: float) -> float:
        return round(min(100.0, max(0.0, (moment - self._begins) / self._length * 100)), 3)

    def mark(self, kind: str, start: float, end: float | None, text: str) -> Mark:
        left = self.at(start)
        width = self.at(end) - left if end is not None else 0.0
        return Mark(kind=kind, left=left, width=round(width, 3), text=text, start=start, end=end)


def phases(timeline: Timeline, now: float) -> list[Phased]:
    """The phases that last, in order; the frozen ones as far as is known at `now`."""
    window, closes = timeline.window, timeline.closes
    frozen = window.opens if now < window.opens else closes
    if timeline.frozen_at is not None:
        frozen = min(timeline.frozen_at, closes)
    parts = (
        Phased(name="baseline", start=window.begins, end=min(window.opens, closes)),
        Phased(name="freezing", start=window.opens, end=frozen),
        Phased(name="frozen", start=frozen, end=closes),
        Phased(name="soak", start=closes, end=timeline.ends),
    )
    return [part for part in parts if part.end > part.start]


def _ticks(timeline: Timeline, strip: _Strip) -> Iterator[tuple[str, float, float]]:
    """The times beneath the strip, without those that would stand on one another."""
    window = timeline.window
    opens, closes = strip.at(window.opens), strip.at(timeline.closes)
    if opens > ROOM:
        yield "right", 0.0, window.begins
    yield "right", opens, window.opens
    narrow = 100 - closes < 2 * ROOM
    if closes - opens > 2 * ROOM or not narrow:
        yield "left" if narrow else "right", closes, timeline.closes
    if 100 - closes > ROOM:
        yield "left", 100.0, timeline.ends


def _acts(report: Report, strip: _Strip) -> Iterator[Mark]:
    for acted in report.acts:
        act = acted.act
        yield strip.mark("act", act.at, None, f"{_act(act)}: {act.reason}")


def _silences(report: Report, strip: _Strip) -> Iterator[Mark]:
    for start, end in gaps(report):
        yield strip.mark("gap", start, end, f"no probe ran for {length(end - start)}")


def _alerts(report: Report, strip: _Strip) -> Iterator[Mark]:
    """From firing to resolved, or to the time of the report."""
    firing: dict[str, tuple[float, str]] = {}
    for alert in report.alerts:
        if alert.state == "firing":
            firing.setdefault(alert.cause, (alert.at, f"{alert.cause}: {alert.summary}"))
        elif alert.cause in firing:
            start, text = firing.pop(alert.cause)
            yield strip.mark("alert", start, alert.at, text)
    for start, text in firing.values():
        yield strip.mark("alert", start, min(report.generated_at, report.timeline.ends), text)


def gaps(report: Report) -> list[tuple[float, float]]:
    """Stretches in which no probe ran at all, for longer than each of them may be silent."""
    if not report.plan.probes:
        return []
    silence = report.plan.objectives.coverage.gap
    allowed = silence or max(5.0, 3 * min(probe.every for probe in report.plan.probes))
    until = min(report.generated_at, report.timeline.ends)
    runs = sorted(
        (at, number(point.value) or 0.0)
        for probe in report.probes
        for point in probe.points
        if (at := number(point.at)) is not None
    )
    found, last = [], report.timeline.window.begins
    for at, took in [*runs, (until, 0.0)]:
        if at - last > allowed:
            found.append((last, at))
        last = max(last, at + took)
    return found[:200]


def _rows(probes: tuple[ProbeSummary, ...]) -> list[Row]:
    rows = [_row(probe) for probe in probes]
    if len(rows) > PROBES:
        rows = sorted(rows, key=lambda row: (-row.bad, row.probe.name))[:PROBES]
    return rows


def _row(probe: ProbeSummary) -> Row:
    runs = sum(probe.outcomes.values())
    took = [d for d in probe.durations if number(d) is not None]
    outcomes = tuple(
        (outcome, count, sort_of(outcome, probe.kind), round(100 * count / runs, 2))
        for outcome, count in probe.outcomes.most_common()
    )
    return Row(
        probe=probe,
        runs=runs,
        outcomes=outcomes,
        median=median(took) if took else None,
        p95=percentile(took, 0.95) if took else None,
        bad=sum(count for _, count, sort, _ in outcomes if sort == "bad"),
    )


def _history(report: Report) -> Iterator[Entry]:
    for began in report.phases:
        yield Entry(at=began.at, kind="phase", what=began.phase.value, said="")
    for judged in report.history:
        known = judged.verdict in SIGNS
        yield Entry(
            at=judged.at,
            kind="verdict",
            what=judged.criterion if known else f"{judged.criterion} {judged.verdict}",
            said=judged.reason,
            sign=judged.verdict if known else "",
        )
    for decided in report.decisions:
        action = decided.action.value.replace("_", " ")
        yield Entry(at=decided.at, kind="decision", what=action, said=decided.reason)
    for alert in report.alerts:
        to = f" (to {', '.join(alert.to)})" if alert.to else ""
        said = alert.summary + to
        yield Entry(at=alert.at, kind="alert", what=f"{alert.cause} {alert.state}", said=said)
    for acted in report.acts:
        yield Entry(at=acted.at, kind="act", what=_act(acted.act), said=acted.act.reason)
    for note in report.notes:
        said = ", ".join(f"{key}: {value}" for key, value in note.detail.items())
        yield Entry(at=note.at, kind="self", what=note.what, said=said)


def _act(act: Act) -> str:
    about = f" {act.criterion}" if act.criterion else ""
    by = f" by {span(act.by)}" if act.by else ""
    return f"{act.act}{about}{by}, {act.who}"


def _day(entry: Entry) -> str:
    try:
        return datetime.fromtimestamp(entry.at, UTC).strftime("%A, %d %B %Y")
    except (OverflowError, OSError, ValueError):
        return "an unknown day"
