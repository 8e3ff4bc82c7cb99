"""alerts.yml: every alert fires on its cause alone, on unit tests and on a real Prometheus."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from ruamel.yaml import YAML

from monitor.model import CRITERIA

from .harness import ALERTS, ALERTS_PAGE, NAME, RECORDED, Story, Watched

UNIT_TESTS = "alerts_test.yml"
PAGE = "https://github.com/freezewatch/freezewatch/blob/main/docs/how-to/respond-to-alerts.md#"


def rules() -> list[dict[str, Any]]:
    document = YAML(typ="safe").load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def test_promtool_accepts_the_rules(promtool: str) -> None:
    """The file is loadable as is, without so much as a lint."""
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_on_its_series_and_on_nothing_else(promtool: str) -> None:
    """Healthy, waived, ended, moved, two instances, missing labels: as alerts_test.yml says."""
    file = str(ALERTS.parent / "tests" / "prometheus" / UNIT_TESTS)
    tested = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", [alert["alert"] for alert in alerts()])
def test_unit_tests_show_every_alert_firing(name: str) -> None:
    """An alert that no unit test has seen fire may never fire."""
    text = (ALERTS.parent / "tests" / "prometheus" / UNIT_TESTS).read_text(encoding="utf-8")

    assert re.search(rf'labels: \'[^\']*alertname="{name}"', text)


def test_every_criterion_has_an_alert() -> None:
    """A new criterion without an alert would be seen by nobody at night."""
    watched = {
        found
        for alert in alerts()
        if "criterion_status" in alert["expr"] and "freezewatch_embedder_up" not in alert["expr"]
        for found in re.findall(r'criterion="(\w+)"', alert["expr"])
    }

    assert watched == set(CRITERIA)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_broke_where_and_what_to_do(alert: dict[str, Any]) -> None:
    """Each names its window or instance, its severity, the act to take and its page."""
    notes = alert["annotations"]

    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(notes) == {"summary", "description", "action", "runbook_url"}
    assert "$labels.id" in notes["summary"] or "$labels.instance" in notes["summary"]
    assert notes["runbook_url"].startswith(PAGE)
    assert re.fullmatch(r"[a-z-]+", notes["runbook_url"].removeprefix(PAGE))


def test_every_alert_has_a_page_of_its_own() -> None:
    """Each anchor is one heading of the how-to."""
    anchors = [alert["annotations"]["runbook_url"].removeprefix(PAGE) for alert in alerts()]

    assert len(set(anchors)) == len(anchors)
    text = ALERTS_PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in headings}
    slugs |= set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    assert set(anchors) <= slugs


def test_rules_use_metrics_that_exist(fresh: Watched) -> None:
    """A rule over a metric that nobody exports is silent for ever."""
    known = {sample.name for family in fresh.registry.collect() for sample in family.samples}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    texts = [rule["expr"] + str(rule.get("annotations", "")) for rule in rules()]

    assert {name for text in texts for name in NAME.findall(text)} <= known
    assert {name for text in texts for name in RECORDED.findall(text)} == recorded


def test_prometheus_runs_every_rule_without_an_error(told: Story) -> None:
    """No join is many-to-many, no template is broken."""
    found = [rule for group in told.prometheus.api("rules")["groups"] for rule in group["rules"]]

    assert len(found) == len(rules())
    assert {rule["name"]: rule["lastError"] for rule in found if rule.get("lastError")} == {}
    assert {rule["health"] for rule in found} == {"ok"}


def test_a_leak_fires_for_its_window_and_not_for_the_healthy_one(told: Story) -> None:
    """What happened at once fires at once, with the id and title of the window that leaked."""
    found = told.prometheus.instant('ALERTS{alertstate="firing"}', told.told_at)

    assert {labels["alertname"] for labels, _ in found} == {
        "FreezewatchGuard",
        "FreezewatchRollBackAdvised",
        "FreezewatchStorage",
    }
    assert {(s["id"], s["title"], s["instance"]) for s, _ in found} == {
        ("leaking", "It leaks", told.leaking.instance)
    }


def test_a_leak_is_told_by_surface_and_count(told: Story) -> None:
    """The description names what got through, from the counters of that watchdog."""
    found = told.prometheus.api("alerts")["alerts"]
    guard = next(alert for alert in found if alert["labels"]["alertname"] == "FreezewatchGuard")

    assert guard["annotations"]["summary"] == "Writes are not refused as promised on leaking"
    assert guard["annotations"]["description"].endswith(
        "Since the watchdog started: vector-upsert: 1 leaked_behind_refusal."
    )


def test_failing_reads_wait_before_they_page(told: Story) -> None:
    """A condition that may pass is pending first."""
    found = told.prometheus.instant('ALERTS{alertname="FreezewatchReads"}', told.told_at)

    assert [(labels["id"], labels["alertstate"]) for labels, _ in found] == [("leaking", "pending")]


def test_increase_sees_the_first_leak(told: Story) -> None:
    """The series stands at 0 before the leak, so the step to 1 is an increase."""
    expr = 'increase(freezewatch_write_attempts_total{outcome="leaked_behind_refusal"}[15s]) > 0'
    found = told.prometheus.instant(expr, told.told_at)

    assert [labels["surface"] for labels, _ in found] == ["vector-upsert"]
