"""dashboards/window.json: every panel shows something and believes no stalled watchdog."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import generate_latest

from monitor.drift.lambda_ import Trend
from monitor.metrics import STATUSES
from monitor.model import CRITERIA, Action, Phase

from .harness import ALERTS, DASHBOARD, METRICS_PAGE, NAME, Story, Watched, series_of

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = BOARD["panels"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question of the dashboard."""

    panel: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.panel}: {self.expr}"


def queries() -> list[Query]:
    found = []
    for panel in SHOWN:
        for target in panel["targets"]:
            name = f"{panel['title']} ({panel['id']}{target['refId']})"
            found.append(Query(panel=name, expr=target["expr"], instant=target["instant"]))
    for note in BOARD["annotations"]["list"]:
        if "expr" in note:
            name = f"annotation {note['name']}"
            found.append(Query(panel=name, expr=note["expr"], instant=False))
    return found


def as_grafana_asks(expr: str, window: str) -> str:
    """`expr` with the variables filled in, every watchdog chosen, scraped every second."""
    filled = {
        "$__rate_interval": "15s",
        "$__interval": "1s",
        "$__range": "1m",
        "$window": window,
        "$instance": ".+",
    }
    for name, value in filled.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def shown(told: Story, title: str, window: str, *, later: float = 0.0) -> dict[str, float]:
    """What a panel's first query shows `later` seconds after the story ended, by its legend."""
    target = next(panel for panel in SHOWN if panel["title"] == title)["targets"][0]
    found = told.prometheus.instant(as_grafana_asks(target["expr"], window), told.told_at + later)
    label = re.sub(r"[{}]", "", target["legendFormat"])
    return {labels.get(label, ""): value for labels, value in found}


def text_of(title: str, value: float) -> str:
    """What a panel's value mappings make of a value."""
    panel = next(panel for panel in SHOWN if panel["title"] == title)
    for mapping in panel["fieldConfig"]["defaults"]["mappings"]:
        options = mapping["options"]
        if mapping["type"] == "value" and f"{value:.0f}" in options:
            return str(options[f"{value:.0f}"]["text"])
        if mapping["type"] == "range" and options["from"] <= value <= options["to"]:
            return str(options["result"]["text"])
    return f"no mapping for {value}"


# -- what it shows ----------------------------------------------------------------------------


@pytest.mark.parametrize("query", queries(), ids=lambda query: str(query.panel))
def test_every_query_shows_a_number(query: Query, told: Story) -> None:
    """On a window that leaks, drifts, fails reads and misses runs nothing stays empty."""
    expr = as_grafana_asks(query.expr, "leaking")
    ask = told.prometheus.instant if query.instant else told.prometheus.ranged
    try:
        found = ask(expr, told.told_at)
    except AssertionError as error:
        pytest.fail(f"{query}\n{error}")

    assert found, f"no series: {query}"
    assert any(not math.isnan(value) for _, value in found), f"no number: {query}"


@pytest.mark.parametrize("query", queries(), ids=lambda query: str(query.panel))
def test_no_query_shows_a_window_that_was_not_chosen(query: Query, told: Story) -> None:
    """The id chosen above stands in every query."""
    expr = as_grafana_asks(query.expr, "no-such-window")

    assert told.prometheus.ranged(expr, told.told_at) == [], str(query)


@pytest.mark.parametrize(
    ("title", "leaking", "healthy"),
    [
        ("Verdict", "RED", "GREEN"),
        ("Advice", "ROLL BACK", "HOLD"),
        ("Phase", "FROZEN", "FROZEN"),
    ],
)
def test_the_top_says_how_each_window_stands(title: str, leaking: str, healthy: str, told: Story) -> None:
    """Two windows in one Prometheus are told apart."""
    assert text_of(title, shown(told, title, "leaking")[""]) == leaking
    assert text_of(title, shown(told, title, "healthy")[""]) == healthy


@pytest.mark.parametrize(
    ("title", "text"), [("Verdict", "NO EVIDENCE"), ("Advice", "STALE"), ("Phase", "STALE")]
)
def test_the_top_does_not_believe_a_watchdog_that_stalled(title: str, text: str, told: Story) -> None:
    """Green of 40 s ago is no evidence now."""
    assert text_of(title, shown(told, title, "healthy", later=40)[""]) == text


def test_the_gate_opens_on_evidence_and_shuts_when_the_watchdog_stalls(told: Story) -> None:
    """Close is open for the healthy window alone; nothing is open 40 s after the last judgement."""
    assert shown(told, "Gate", "healthy") == {"close": 1, "end": 0}
    assert shown(told, "Gate", "leaking") == {"close": 0, "end": 0}
    assert shown(told, "Gate", "healthy", later=40) == {"close": 0, "end": 0}


def test_criteria_are_shown_by_name_and_verdict(told: Story) -> None:
    """All twelve, waived ones as waived."""
    found = shown(told, "Criteria", "leaking")
    texts = {name: text_of("Criteria", value) for name, value in found.items()}

    assert set(texts) == set(CRITERIA)
    assert {n for n, text in texts.items() if text == "FAIL"} == {"guard", "storage", "reads", "meaning"}
    assert texts["flag"] == "PASS"
    assert texts["queue"] == "WAIVED"


def test_writes_in_stores_are_counted_by_whose_they_were(told: Story) -> None:
    """Two production writes; ours and exempt ones have lines of their own, at 0."""
    target = next(panel for panel in SHOWN if panel["title"] == "Writes found in stores")["targets"][0]
    found = told.prometheus.instant(as_grafana_asks(target["expr"], "leaking"), told.told_at)

    counted = {labels["whose"]: value for labels, value in found}
    assert counted == {"production": 2, "freezing": 0, "edge": 0, "own": 0, "exempt": 0}


def test_leaks_are_counted_and_red(told: Story) -> None:
    """One leak, on its surface, is red in the number, the line and the table."""
    assert shown(told, "Writes that got through", "leaking") == {"": 1}
    assert shown(told, "Writes that got through", "healthy") == {"": 0}
    stat, line = (p for p in SHOWN if p["title"] == "Writes that got through")
    table = next(p for p in SHOWN if p["type"] == "table")

    assert stat["fieldConfig"]["defaults"]["thresholds"]["steps"][-1] == {
        "value": 1,
        "color": "red",
    }
    for panel, name in ((line, "vector-upsert leaked_behind_refusal"), (table, "leaked")):
        rules = panel["fieldConfig"]["overrides"]
        hit = [r for r in rules if re.search(r["matcher"]["options"].strip("/"), name)]
        assert "red" in json.dumps(hit[0]["properties"])


@pytest.mark.parametrize(
    ("title", "label", "values"),
    [
        ("Phase", "phase", [phase.value for phase in Phase]),
        ("Advice", "action", [action.value for action in Action]),
        ("Criteria", "status", [str(status) for status in STATUSES]),
        ("λ of each question", "state", [state.value for state in Trend]),
    ],
)
def test_every_state_has_a_number_and_every_number_a_text(title: str, label: str, values: list[str]) -> None:
    """A new state that the dashboard does not know would be shown as another one."""
    panel = next(panel for panel in SHOWN if panel["title"] == title)
    expr = panel["targets"][0]["expr"]
    found = dict(re.findall(rf'(\d) \* freezewatch_\w+{{{label}="(\w+)"}}', expr))
    numbers = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]

    assert sorted(found.values()) == sorted(values)
    assert set(found) == set(numbers)
    for number, value in found.items():
        assert numbers[number]["text"].casefold() == value.casefold().replace("_", " ")


# -- lint -------------------------------------------------------------------------------------


def test_ids_are_unique() -> None:
    """Every panel, rows too, has an id of its own."""
    assert [n for n, count in Counter(panel["id"] for panel in PANELS).items() if count > 1] == []


def test_panels_tile_without_overlap_or_hole() -> None:
    """Grafana would move panels that overlap, and leave holes as they are."""
    cells = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    height = max(y for _, y in cells) + 1

    assert set(cells) == {(x, y) for x in range(24) for y in range(height)}
    assert set(cells.values()) == {1}


def test_panels_stand_in_reading_order() -> None:
    """Grafana takes the panels after a row as that row's."""
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in PANELS]

    assert places == sorted(places)


def test_every_panel_and_row_says_what_it_shows() -> None:
    """A description is for who sees the panel at night for the first time."""
    assert [panel["title"] for panel in PANELS if len(panel.get("description", "")) < 15] == []


def test_every_target_asks_the_chosen_data_source() -> None:
    """None is nailed down: panels, targets, variables and annotations follow the choice."""
    used = [panel["datasource"] for panel in SHOWN]
    used += [target["datasource"] for panel in SHOWN for target in panel["targets"]]
    used += [each["datasource"] for each in BOARD["templating"]["list"] if each["type"] == "query"]
    used += [note["datasource"] for note in BOARD["annotations"]["list"] if "expr" in note]

    assert [source for source in used if source != SOURCE] == []


def test_the_dashboard_is_ready_to_import() -> None:
    """UTC, refreshed every 5 s, tagged, with a variable for source, window and watchdog."""
    assert BOARD["schemaVersion"] >= 39
    assert (BOARD["timezone"], BOARD["refresh"], BOARD["id"]) == ("utc", "5s", None)
    assert "freezewatch" in BOARD["tags"]
    assert [v["name"] for v in BOARD["templating"]["list"]] == ["datasource", "window", "instance"]
    kinds = {each["id"] for each in BOARD["__requires"] if each["type"] == "panel"}
    assert kinds == {panel["type"] for panel in SHOWN}


def test_variables_find_the_windows(told: Story) -> None:
    """What label_values asks is there: both ids, and for an id its watchdog."""
    window, instance = BOARD["templating"]["list"][1:]
    metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", window["definition"]).groups()  # type: ignore[union-attr]
    found = told.prometheus.instant(metric, told.told_at)
    assert {labels[label] for labels, _ in found} == {"leaking", "healthy"}

    metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", instance["definition"]).groups()  # type: ignore[union-attr]
    found = told.prometheus.instant(metric.replace("$window", "healthy"), told.told_at)
    assert {labels[label] for labels, _ in found} == {told.healthy.instance}


# -- metrics and their page -------------------------------------------------------------------


def metrics_of(watched: Watched) -> dict[str, tuple[str, frozenset[str]]]:
    """(type, labels) of every metric in the registry, by the name that PromQL uses."""
    found = {}
    for family in watched.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = frozenset(label for s in family.samples for label in s.labels) - {"le"}
        found[name] = (family.type, labels)
    return found


def rows_of_the_page() -> dict[str, tuple[str, frozenset[str]]]:
    """(type, labels) of every metric in the table of docs/reference/metrics.md."""
    text = METRICS_PAGE.read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `freezewatch_") and len(cells) >= 5:
            found[cells[0].strip("`")] = (cells[1], frozenset(re.findall(r"`(\w+)`", cells[2])))
    return found


def test_promtool_accepts_the_exposition(promtool: str, fresh: Watched) -> None:
    """Names, units and help texts follow the conventions, before any event and after many."""
    for until in (None, fresh.plan.window.opens + 300):
        if until is not None:
            fresh.tell(until)
        text = generate_latest(fresh.registry)
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr.decode()
        assert checked.stdout + checked.stderr == b""


def test_the_page_lists_every_metric_with_its_type_and_labels(fresh: Watched) -> None:
    """The reference is the registry, row by row."""
    assert rows_of_the_page() == metrics_of(fresh)


@pytest.mark.parametrize("file", [DASHBOARD, ALERTS, METRICS_PAGE], ids=lambda file: file.name)
def test_only_metrics_that_exist_are_used(file: Any, fresh: Watched) -> None:
    """A name that nobody exports shows nothing, for ever."""
    known = set(metrics_of(fresh))
    used = {series_of(name) for name in NAME.findall(file.read_text(encoding="utf-8"))}

    assert used - known == set()


def test_the_dashboard_shows_every_metric_that_no_other_panel_stands_for(fresh: Watched) -> None:
    """A metric worth exporting is worth a look; a roll-back shows as the phase that ends the window."""
    used = {series_of(name) for query in queries() for name in NAME.findall(query.expr)}

    assert set(metrics_of(fresh)) - used == {"freezewatch_build_info", "freezewatch_rolled_back"}


# -- from the start ---------------------------------------------------------------------------

WRITES = {
    "refused",
    "refused_badly",
    "queued",
    "accepted",
    "leaked",
    "leaked_behind_refusal",
    "dropped",
    "unreachable",
    "skipped",
}
ATTEMPTS = WRITES - {"skipped"}


def values_of(watched: Watched, name: str, label: str, **where: str) -> set[str]:
    return {
        sample.labels[label]
        for family in watched.registry.collect()
        for sample in family.samples
        if sample.name == name and where.items() <= sample.labels.items()
    }


@pytest.mark.parametrize(
    ("name", "label", "where", "values"),
    [
        ("write_attempts_total", "outcome", {"surface": "vector-upsert"}, ATTEMPTS),
        ("write_attempts_total", "outcome", {"surface": "ticket-tool"}, ATTEMPTS),
        ("probe_runs_total", "outcome", {"kind": "write", "probe": "ticket-tool"}, WRITES),
        (
            "probe_runs_total",
            "outcome",
            {"kind": "read", "probe": "front-page"},
            {"ok", "failed", "refused", "unreachable", "skipped"},
        ),
        (
            "probe_runs_total",
            "outcome",
            {"kind": "flag", "probe": "read-only/2", "surface": "read-only"},
            {"on", "off", "unknown", "unreachable", "skipped"},
        ),
        ("criterion_status", "criterion", {}, set(CRITERIA)),
        *(("criterion_status", "status", {"criterion": name}, set(map(str, STATUSES))) for name in CRITERIA),
        ("window_phase", "phase", {}, {phase.value for phase in Phase}),
        ("decision", "action", {}, {action.value for action in Action}),
        ("answer_state", "state", {"probe": "returns-policy"}, {state.value for state in Trend}),
        ("answer_drift", "probe", {}, {"returns-policy", "store-hours"}),
        ("answer_drift_trend", "probe", {}, {"returns-policy", "store-hours"}),
        ("error_budget_burn_rate", "lookback", {}, {"long", "short"}),
        ("gate_open", "at", {}, {"close", "end"}),
        ("probe_lateness_seconds_count", "kind", {}, {"read", "write", "audit", "flag"}),
        (
            "probe_duration_seconds_count",
            "phase",
            {"probe": "store-hours"},
            {"total", "dns", "connect", "tls", "first_byte", "body"},
        ),
    ],
)
def test_every_label_set_exists_before_any_event(
    name: str, label: str, where: dict[str, str], values: set[str], fresh: Watched
) -> None:
    """A first leak is a step from 0 to 1, not a series out of nowhere."""
    assert values_of(fresh, f"freezewatch_{name}", label, **where) == values


def test_the_start_is_never_green(fresh: Watched) -> None:
    """Before any evidence all is INCONCLUSIVE, both gates are shut, the advice is HOLD."""
    status = "freezewatch_criterion_status"

    assert fresh.total(status, status="INCONCLUSIVE") == len(CRITERIA)
    assert fresh.total(status) == len(CRITERIA)
    assert fresh.total("freezewatch_gate_open") == 0
    assert fresh.total("freezewatch_decision", action="HOLD") == 1
    assert fresh.total("freezewatch_write_attempts_total") == 0


def test_no_event_brings_a_new_series(fresh: Watched) -> None:
    """The number of series is bounded by window.yaml alone."""
    before = {(s.name, *sorted(s.labels.items())) for f in fresh.registry.collect() for s in f.samples}
    fresh.tell(fresh.plan.window.opens + 300)
    after = {(s.name, *sorted(s.labels.items())) for f in fresh.registry.collect() for s in f.samples}

    assert after == before
