"""A real Prometheus, and two windows told as durable events: one leaks, one is healthy."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, start_http_server

from monitor.config import read_plan
from monitor.events import Event, Observed
from monitor.gate import ask
from monitor.judge import Judge, grids
from monitor.metrics import Metrics
from monitor.model import iso
from monitor.plan import Plan, Planned
from monitor.policy import decide
from probes.base import Kind, Observation, Outcome, Why

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "alerts.yml"
DASHBOARD = ROOT / "dashboards" / "window.json"
METRICS_PAGE = ROOT / "docs" / "reference" / "metrics.md"
ALERTS_PAGE = ROOT / "docs" / "how-to" / "respond-to-alerts.md"
RECORDED = re.compile(r"freezewatch:[a-z_:]+")
NAME = re.compile(r"\bfreezewatch_[a-z_]+")
LEAKS_AFTER, DRIFTS_AFTER = 60.0, 120.0
"""Seconds after the window opened."""

Series = dict[str, str]


def tool(name: str) -> str:
    """The path of a Prometheus tool. Without it the test is skipped, or fails where CI is set."""
    found = shutil.which(name)
    if found is None:
        why = f"{name} is not on PATH: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return found


def eventually(condition: Callable[[], bool], what: str, *, within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:.0f} s: {what}")
        time.sleep(0.05)


def series_of(name: str) -> str:
    """The metric that a name in PromQL belongs to: without a histogram's suffix."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


# -- a window ---------------------------------------------------------------------------------

WINDOW = """
window:
  id: {id}
  title: "{title}"
  opens: {opens}
  closes: {closes}
  baseline: 2m
  soak: 1m
  hold: 1m
defaults: {{every: 5s, timeout: 2s}}
reads:
  - {{name: returns-policy, http: {{url: "http://127.0.0.1:9/ask"}}, answer: $.answer}}
  - {{name: store-hours, http: {{url: "http://127.0.0.1:9/hours"}}, answer: $.answer}}
  - {{name: front-page, http: {{url: "http://127.0.0.1:9/"}}}}
writes:
  - name: vector-upsert
    http: {{method: PUT, url: "http://127.0.0.1:9/v/${{canary}}"}}
    variants: false
    read_back: {{http: {{url: "http://127.0.0.1:9/v/${{canary}}"}}}}
    undo: {{http: {{method: DELETE, url: "http://127.0.0.1:9/v/${{canary}}"}}}}
  - name: ticket-tool
    http: {{method: POST, url: "http://127.0.0.1:9/t"}}
    read_back: {{waived: "nothing to read"}}
    undo: {{waived: "nothing to undo"}}
audits:
  - {{name: catalogue-db, sqlite: {{path: /srv/catalogue.db}}}}
flags:
  - name: read-only
    http: {{url: "http://127.0.0.1:9/flag"}}
    at: $.read_only
    replicas: ["http://127.0.0.1:10/flag"]
waive:
  queue: nothing is buffered
  notice: nobody to tell
  jobs: none run
  retries: not counted
  scope: nothing is declared
  reopen: not in this story
"""


def plan_in(folder: Path, *, id: str, title: str, now: float) -> Plan:
    """A plan whose window opened five minutes before `now`."""
    file = folder / f"{id}.yaml"
    opens, closes = iso(now - 300), iso(now + 900)
    file.write_text(WINDOW.format(id=id, title=title, opens=opens, closes=closes), encoding="utf-8")
    return read_plan(file)


def story(plan: Plan, until: float, *, broken: bool) -> list[Event]:
    """What the probes saw from the baseline on, oldest first."""
    slots = grids(plan)
    runs = []
    for probe in plan.probes:
        slot = slots[probe.name].after(plan.window.begins)
        while slot < until - 0.1:
            if probe.kind is not Kind.WRITE or slot >= plan.window.opens:
                runs.append((slot, probe))
            slot = slots[probe.name].after(slot)
    runs.sort(key=lambda run: run[0])
    return [
        Observed(at=slot + 0.1, observation=observation)
        for slot, probe in runs
        for observation in _seen(plan, probe, slot, broken=broken)
    ]


def _seen(plan: Plan, probe: Planned, slot: float, *, broken: bool) -> Iterator[Observation]:
    since = slot - plan.window.opens
    outcome, figures = _OUTCOMES[probe.kind](probe, since, broken)
    if probe.kind is Kind.AUDIT:
        figures["since"] = slot - probe.every
    yield _observation(probe, slot, since, outcome, figures)
    if probe.measured and outcome is Outcome.OK:
        drifts = broken and probe.name == "returns-policy" and since > DRIFTS_AFTER
        delta = 0.01 + (since - DRIFTS_AFTER) * 0.003 if drifts else 0.01
        measured = _observation(probe, slot, since, Outcome.OK, {"delta_s": delta}, Kind.MEANING)
        yield measured


def _read(probe: Planned, since: float, broken: bool) -> tuple[Outcome, dict[str, Any]]:
    if broken and probe.name == "front-page" and since > DRIFTS_AFTER:
        if since % 30 < 5:
            return Outcome.SKIPPED, {"why": Why.LATE.value, "slots": 1}
        return Outcome.FAILED, {"status": 500}
    return Outcome.OK, {"status": 200}


def _write(probe: Planned, since: float, broken: bool) -> tuple[Outcome, dict[str, Any]]:
    if broken and probe.name == "vector-upsert" and since > LEAKS_AFTER:
        if since < LEAKS_AFTER + 5:
            return Outcome.LEAKED_BEHIND_REFUSAL, {"code": "READ_ONLY", "undone": True}
        return Outcome.SKIPPED, {"why": Why.STOPPED.value, "slots": 1}
    return Outcome.REFUSED, {"code": "READ_ONLY", "verified": True}


def _flag(probe: Planned, since: float, broken: bool) -> tuple[Outcome, dict[str, Any]]:
    return Outcome.ON if since >= 0 else Outcome.OFF, {}


def _audit(probe: Planned, since: float, broken: bool) -> tuple[Outcome, dict[str, Any]]:
    figures = {"grade": "row contents", "open": 0, "changes": 0}
    if broken and LEAKS_AFTER < since < LEAKS_AFTER + 5:
        return Outcome.CHANGED, figures | {"changes": 2, "what": ["products: 2 × update"]}
    return Outcome.OK, figures


_OUTCOMES = {Kind.READ: _read, Kind.WRITE: _write, Kind.FLAG: _flag, Kind.AUDIT: _audit}


def _observation(
    probe: Planned,
    slot: float,
    since: float,
    outcome: Outcome,
    figures: dict[str, Any],
    kind: Kind | None = None,
) -> Observation:
    duration = 0.02 + 0.001 * (int(slot) % 7)
    return Observation(
        probe=probe.name,
        kind=kind or probe.kind,
        surface=probe.surface,
        outcome=outcome,
        reason=outcome.value,
        slot=slot,
        started=slot + 0.002,
        phase="frozen" if since >= 0 else "baseline",
        lateness_s=0.002,
        duration_s=duration,
        phases={"dns": 0.001, "connect": 0.004, "first_byte": duration - 0.007, "body": 0.002},
        figures=figures,
    )


@dataclass(kw_only=True)
class Watched:
    """A window and what its watchdog exports, served over HTTP."""

    plan: Plan
    broken: bool
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    port: int = 0
    told: int = 0

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.plan, self.registry)
        self.judge = Judge(self.plan)

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.port}"

    def tell(self, until: float) -> None:
        """Everything that happened up to `until` and was not told yet, then a judgement."""
        events = story(self.plan, until, broken=self.broken)
        for event in events[self.told :]:
            self.judge.feed(event)
            self.metrics.event(event)
        self.told = len(events)
        verdicts = self.judge.verdicts(until)
        decision = decide(until, self.judge.timeline, verdicts, None)
        self.metrics.judged(until, self.judge, verdicts, decision)
        for at in ("close", "end"):
            gate = ask(at, until, self.judge.timeline, verdicts)
            self.metrics.gate.labels(at).set(gate.open)
        self.metrics.embedder_up.set(1)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry `labels`."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextlib.contextmanager
def served(watched: Watched) -> Iterator[Watched]:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=watched.registry)
    watched.port = server.server_port
    try:
        yield watched
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


# -- Prometheus -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A running server, asked over its HTTP API."""

    http: httpx.Client

    def api(self, path: str, **params: str | float) -> Any:
        """The `data` of an answer; fails with what Prometheus says is wrong."""
        answer = self.http.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer.get("error")
        return answer["data"]

    def instant(self, expr: str, at: float) -> list[tuple[Series, float]]:
        found = self.api("query", query=expr, time=at)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def ranged(self, expr: str, at: float, *, seconds: float = 15.0) -> list[tuple[Series, float]]:
        """The newest number of each series over the last `seconds`; NaN where there is none."""
        data = self.api("query_range", query=expr, start=at - seconds, end=at, step=1)
        found = []
        for one in data["result"]:
            numbers = [float(text) for _, text in one["values"] if not math.isnan(float(text))]
            found.append((one["metric"], numbers[-1] if numbers else math.nan))
        return found

    def now(self, expr: str) -> float | None:
        """The only value of `expr` now, or None."""
        found = self.instant(expr, time.time())
        return found[0][1] if len(found) == 1 else None

    def knows(self, watched: Watched) -> bool:
        """Has it scraped everything that `watched` counted?"""
        expr = f'sum(freezewatch_probe_runs_total{{instance="{watched.instance}"}})'
        return self.now(expr) == watched.total("freezewatch_probe_runs_total")


@contextlib.contextmanager
def prometheus(folder: Path, targets: list[str]) -> Iterator[Prometheus]:
    """A server that scrapes `targets` every second and loads alerts.yml, on a port it picks."""
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "freezewatch", "static_configs": [{"targets": targets}]}],
    }
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = [
        tool("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        try:
            address = _address(log, process)
            with httpx.Client(base_url=f"http://{address}", timeout=10) as http:
                yield Prometheus(http=http)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the server says that it listens, once it is ready."""
    found: list[str] = []

    def ready() -> bool:
        text = log.read_text(encoding="utf-8")
        assert process.poll() is None, f"prometheus ended: {text[-2000:]}"
        found[:] = re.findall(r'msg="Listening on".* address=(127\.0\.0\.1:\d+)', text)
        return bool(found) and "Server is ready to receive web requests" in text

    eventually(ready, "prometheus is ready")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What was told to Prometheus, and the moment (epoch seconds) at which it knew all of it."""

    prometheus: Prometheus
    leaking: Watched
    healthy: Watched
    told_at: float
