"""Each fault of the demo turns exactly its own criterion, with its verdict, advice and exit code."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from monitor.commands.schema import schema_of

pytestmark = [pytest.mark.window, pytest.mark.timeout(240)]

FAULTS = [
    # fault, criterion, verdict, advice, exit code
    ("unguarded-endpoint", "guard", "FAIL", "ROLL_BACK", 1),
    ("writes-behind-refusal", "guard", "FAIL", "ROLL_BACK", 1),
    ("no-retry-after", "guard", "FAIL", "EXTEND", 1),
    ("read-errors", "reads", "FAIL", "EXTEND", 1),
    ("slow-reads", "reads", "FAIL", "EXTEND", 1),
    ("wrong-answers", "meaning", "FAIL", "EXTEND", 1),
    ("flag-off", "flag", "FAIL", "EXTEND", 1),
    ("reopen-broken", "reopen", "FAIL", "EXTEND", 1),
    ("html-error", "guard", "INCONCLUSIVE", "EXTEND", 3),
    ("background-writer", "storage", "FAIL", "ROLL_BACK", 1),
    ("side-door", "guard", "FAIL", "ROLL_BACK", 1),
    ("watchdog-killed", "coverage", "INCONCLUSIVE", "EXTEND", 3),
]


def run_demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a short demo to its end."""
    command = [sys.executable, "-m", "monitor", "demo", "--length", "20s", "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)


def report_of(out: Path) -> dict:
    """The demo's report, checked against its schema."""
    report = json.loads((out / "report.json").read_text("utf-8"))
    jsonschema.validate(report, schema_of("report"))
    return report


def test_window_without_a_fault_is_green(tmp_path: Path) -> None:
    """A sound service through a whole window opens the gate, and every line printed fits the schema."""
    done = run_demo(tmp_path / "out", "--json")

    report = report_of(tmp_path / "out")
    not_passing = [c for c in report["criteria"] if c["verdict"] != "PASS" and c["waived"] is None]
    assert done.returncode == 0, done.stderr[-2000:] + json.dumps(not_passing, indent=1)
    assert report["verdict"] == "GREEN"
    assert report["gate"]["end"]["open"] is True
    assert report["decision"]["action"] == "CLOSE"
    assert (tmp_path / "out" / "report.html").read_text("utf-8").startswith("<!")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    check = jsonschema.Draft202012Validator(schema_of("event"))
    for event in events:
        check.validate(event)
    assert {event["event"] for event in events} >= {"phase", "observation", "verdict", "decision", "self"}
    assert not [e for e in events if e["event"] == "alert"], "a sound window must not cry wolf"
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert phases == ["planned", "baseline", "freezing", "frozen", "soak", "closed"]


@pytest.mark.parametrize(
    ("fault", "criterion", "verdict", "action", "code"), FAULTS, ids=[f[0] for f in FAULTS]
)
def test_fault_turns_exactly_its_own_criterion(
    tmp_path: Path, fault: str, criterion: str, verdict: str, action: str, code: int
) -> None:
    """The named criterion turns, every other one passes, and the advice and exit code fit."""
    done = run_demo(tmp_path / "out", "--fault", fault)

    report = report_of(tmp_path / "out")
    turned = {
        c["criterion"]: c["verdict"] for c in report["criteria"] if c["verdict"] != "PASS" and not c["waived"]
    }
    assert turned == {criterion: verdict}, json.dumps(
        [(c["criterion"], c["reason"], c["figures"]) for c in report["criteria"] if c["criterion"] in turned]
    )
    assert done.returncode == code, done.stderr[-2000:]
    assert report["decision"]["action"] == action
    assert report["decision"]["causes"] == [criterion]
    assert report["gate"]["end"]["open"] is False
    assert f"{criterion}: {verdict}" in done.stdout, "the screen must name what broke"
