"""No evidence is never green: every row of FIELD-NOTES §6 that judging can meet."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from monitor.commands.judge import gate as gate_command
from monitor.drift.delta_s import Baseline
from monitor.errors import ConfigError
from monitor.events import Event, Observed, SelfNoted, dumps, loads
from monitor.judge import Judge
from monitor.metrics import Metrics
from monitor.model import Action, Colour, Decision, Status
from monitor.policy import decide
from monitor.report.build import build
from monitor.snapshot import STALLED, Snapshot
from probes.base import Kind, Observation, Outcome, Result, Run, Why
from probes.http import Transport
from probes.kinds import Tools

from .builders import (
    BASELINE,
    CLOSES,
    ENDS,
    EVERY,
    EVERYTHING_WAIVED,
    FLAGS,
    HEAD,
    LENGTH,
    OPENS,
    PLAIN,
    PROBES,
    READS,
    SOAK,
    WAIVED,
    WRITES,
    changed,
    extension,
    faces,
    healthy,
    judge_of,
    observation,
    plan_in,
    silent,
    skipped,
    verdicts_of,
    window_text,
    without,
    write,
)

AFTER = LENGTH + SOAK + 30.0
"""Seconds after `opens` at which a finished window is judged."""
Lose = Callable[[list[Event], float], list[Event]]
"""(events, opens) -> what is left of them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A window that lacks something, and who must say so, and how."""

    lose: Lose
    criterion: str
    says: str
    probes: str = PROBES
    waive: str = WAIVED
    offset: float = AFTER
    closed: tuple[str, ...] = ("close", "end")
    """The gates that this criterion keeps closed."""


def kept(events: list[Event], opens: float) -> list[Event]:
    return events


def nothing(events: list[Event], opens: float) -> list[Event]:
    return []


def no(probe: str | None = None, kind: Kind | None = None) -> Lose:
    return lambda events, opens: without(events, probe=probe, kind=kind)


def read_as(outcome: Outcome, reason: str) -> Lose:
    """Every reading of a store ends like this."""

    def worse(o: Observation) -> Observation:
        return replace(o, outcome=outcome, reason=reason) if o.kind is Kind.AUDIT else o

    return lambda events, opens: changed(events, worse)


def gap(start: float, end: float, probe: str | None = None) -> Lose:
    return lambda events, opens: silent(events, opens + start, opens + end, probe)


def every(matches: Callable[[Observation], bool], **values: Any) -> Lose:
    """Change every observation that matches; the meaning of an answer that is gone goes with it."""

    def lose(events: list[Event], opens: float) -> list[Event]:
        def change(o: Observation) -> Observation | None:
            if matches(o):
                return replace(o, **values)
            spoilt = values.get("outcome", Outcome.OK) is not Outcome.OK
            answered_by = replace(o, kind=Kind.READ, outcome=Outcome.OK)
            return None if o.kind is Kind.MEANING and spoilt and matches(answered_by) else o

        return changed(events, change)

    return lose


def skip(why: Why, start: float = -BASELINE, end: float = AFTER) -> Lose:
    def lose(events: list[Event], opens: float) -> list[Event]:
        def change(o: Observation) -> Observation | None:
            if not opens + start <= o.slot < opens + end:
                return o
            return None if o.kind is Kind.MEANING else skipped(o, why)

        return changed(events, change)

    return lose


def killed(events: list[Event], opens: float) -> list[Event]:
    """kill -9 at 300 s, started again at 480 s."""
    note = SelfNoted(at=opens + 480, what="started", detail={"resumed": True})
    before = [e for e in events if e.at < opens + 300]
    return [*before, note, *(e for e in events if e.at >= opens + 480)]


def figures(**lost: Any) -> Lose:
    """The measurements in the window without some of their figures."""

    def lose(events: list[Event], opens: float) -> list[Event]:
        def change(o: Observation) -> Observation:
            if o.kind is not Kind.MEANING or o.slot < opens:
                return o
            return replace(o, figures={**o.figures, **lost} if lost else {})

        return changed(events, change)

    return lose


def of_kind(kind: Kind) -> Callable[[Observation], bool]:
    return lambda o: o.kind is kind


def of(probe: str) -> Callable[[Observation], bool]:
    return lambda o: o.probe == probe and o.kind is not Kind.MEANING


GONE = {"outcome": Outcome.UNREACHABLE, "reason": "connection refused"}
HALF = LENGTH / 2
ROWS = {
    "a write surface is never asked": Row(
        lose=no("ticket-tool"), criterion="guard", says="ticket-tool: never asked while frozen"
    ),
    "a read is never asked": Row(
        lose=no("product-search"), criterion="reads", says="product-search: asked 0 of the 3 times"
    ),
    "an answered read is never asked": Row(
        lose=no("returns-policy"), criterion="meaning", says="returns-policy: 0 of 5 answers measured"
    ),
    "a replica of the flag is never read": Row(
        lose=no("read_only/2"), criterion="flag", says="read_only/2: read 0 of the 3 times"
    ),
    "nothing is asked at all": Row(lose=nothing, criterion="coverage", says="the watchdog recorded nothing"),
    "writes have only errors": Row(
        lose=every(of_kind(Kind.WRITE), **GONE), criterion="guard", says="connection refused"
    ),
    "reads are unreachable throughout": Row(
        lose=every(of_kind(Kind.READ), **GONE), criterion="reads", says="no read was ever answered"
    ),
    "one read is unreachable throughout": Row(
        lose=every(of("product-search"), **GONE), criterion="reads", says="product-search: never answered"
    ),
    "flags have only errors": Row(
        lose=every(of_kind(Kind.FLAG), **GONE), criterion="flag", says="read_only/1, read_only/2"
    ),
    "flags answer nonsense": Row(
        lose=every(of_kind(Kind.FLAG), outcome=Outcome.UNKNOWN, reason="'maybe' at $.on"),
        criterion="flag",
        says="'maybe' at $.on",
    ),
    "canary writes after the end have only errors": Row(
        lose=lambda events, opens: changed(
            events,
            lambda o: replace(o, **GONE) if o.kind is Kind.WRITE and o.slot >= opens + LENGTH else o,
        ),
        criterion="reopen",
        says="accepted 0 of 2 writes: connection refused",
        closed=("end",),
    ),
    "every probe is silent for three minutes": Row(
        lose=gap(300, 480), criterion="coverage", says="the watchdog recorded nothing for 3 min"
    ),
    "one probe is silent for a minute": Row(
        lose=gap(300, 360, "product-search"), criterion="coverage", says="product-search: nothing for"
    ),
    "our own network was gone for three minutes": Row(
        lose=skip(Why.OWN_FAULT, 300, 480), criterion="coverage", says="recorded nothing for 3 min"
    ),
    "our own network was gone throughout": Row(
        lose=skip(Why.OWN_FAULT), criterion="coverage", says="the watchdog recorded nothing"
    ),
    "runs are skipped as late": Row(
        lose=skip(Why.LATE, 300, 480), criterion="coverage", says="recorded nothing for 3 min"
    ),
    "the probes themselves fail": Row(
        lose=skip(Why.ERROR), criterion="guard", says="never asked while frozen"
    ),
    "the watchdog was killed for three minutes": Row(
        lose=killed, criterion="coverage", says="the watchdog recorded nothing for 3 min"
    ),
    "the watchdog was killed for good half-way": Row(
        lose=gap(HALF, AFTER), criterion="coverage", says="the watchdog recorded nothing for 12 min"
    ),
    "the window was extended and nobody asked on": Row(
        lose=lambda events, opens: [*events, extension(opens + LENGTH + SOAK - 1)],
        criterion="coverage",
        says="the watchdog recorded nothing",
        offset=LENGTH + SOAK + 300 + 30,
    ),
    "reads have no baseline": Row(
        lose=lambda events, opens: [e for e in events if e.at >= opens],
        criterion="reads",
        says="0 of 5 answers in the baseline",
    ),
    "answers have no baseline": Row(
        lose=lambda events, opens: changed(
            events, lambda o: None if o.kind is Kind.MEANING and o.slot < opens else o
        ),
        criterion="meaning",
        says="0 of 5 answers measured in the baseline",
    ),
    "the embedder was dead throughout": Row(
        lose=no(kind=Kind.MEANING), criterion="meaning", says="0 of 5 answers measured in the baseline"
    ),
    "the embedder died half-way": Row(
        lose=lambda events, opens: changed(
            events, lambda o: None if o.kind is Kind.MEANING and o.slot >= opens + HALF else o
        ),
        criterion="meaning",
        says="is the embedder alive?",
    ),
    "answers were given up": Row(
        lose=lambda events, opens: changed(
            events,
            lambda o: (
                replace(o, outcome=Outcome.UNREACHABLE, reason="given up", figures={})
                if o.kind is Kind.MEANING and o.slot >= opens
                else o
            ),
        ),
        criterion="meaning",
        says="answers were not measured: given up",
    ),
    "ΔS is no number": Row(
        lose=figures(delta_s=math.nan), criterion="meaning", says="the measurement has no delta_s"
    ),
    "ΔS is null": Row(lose=figures(delta_s=None), criterion="meaning", says="the measurement has no delta_s"),
    "ΔS is infinite": Row(
        lose=figures(delta_s=math.inf), criterion="meaning", says="the measurement has no delta_s"
    ),
    "the overlap of documents is no number": Row(
        lose=figures(documents_overlap=math.nan), criterion="meaning", says="no documents_overlap"
    ),
    "nobody looked for the facts": Row(
        lose=figures(facts_missing=None), criterion="meaning", says="no facts_missing"
    ),
    "measurements are empty": Row(lose=figures(), criterion="meaning", says="the measurement has no delta_s"),
    "reads have no duration": Row(
        lose=every(of("product-search"), duration_s=math.nan),
        criterion="reads",
        says="product-search: asked 0 of the 3 times",
    ),
    "durations are infinite": Row(
        lose=every(of_kind(Kind.WRITE), duration_s=math.inf),
        criterion="guard",
        says="never asked while frozen",
    ),
    "a refusal cannot be read back": Row(
        lose=kept,
        criterion="guard",
        says="ticket-tool: refusals are believed, not verified: no read_back",
        probes=READS + "writes:\n" + write("vector-upsert") + write("ticket-tool", read_back=False) + FLAGS,
    ),
    "a canary cannot be undone": Row(
        lose=kept,
        criterion="reopen",
        says="ticket-tool: no undo is configured",
        probes=READS + "writes:\n" + write("vector-upsert") + write("ticket-tool", undo=False) + FLAGS,
        closed=("end",),
    ),
    "there is no probe at all": Row(
        lose=nothing, criterion="coverage", says="there is no probe at all", probes=""
    ),
    "there is no write probe": Row(
        lose=kept, criterion="guard", says="no write surface has a probe", probes=READS + FLAGS
    ),
    "there is no read probe": Row(
        lose=kept, criterion="reads", says="no read has a probe", probes=WRITES + FLAGS
    ),
    "there is no flag": Row(lose=kept, criterion="flag", says="no flag has a probe", probes=READS + WRITES),
    "no read says where its answer stands": Row(
        lose=kept,
        criterion="meaning",
        says="no read says where its answer stands",
        probes="reads:" + PLAIN + WRITES + FLAGS,
    ),
    "there is no audit of a store": Row(
        lose=kept, criterion="storage", says="no storage audit", probes=READS + WRITES + FLAGS
    ),
    "a store is never audited": Row(
        lose=no(kind=Kind.AUDIT),
        criterion="storage",
        says="0 of the 3 readings",
    ),
    "a store is unreachable throughout": Row(
        lose=read_as(Outcome.UNREACHABLE, "connection refused"),
        criterion="storage",
        says="connection refused",
    ),
    "a store was started again half-way": Row(
        lose=read_as(Outcome.UNKNOWN, "the server was started again"),
        criterion="storage",
        says="cannot be told for a stretch",
    ),
    "no criterion is waived": Row(lose=kept, criterion="queue", says="not configured", waive=""),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_what_is_missing_is_amber_for_everybody(
    row: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Report, document, gate, exit code and metrics agree: not proven, by which criterion, and why."""
    opens = math.floor(time.time()) - row.offset
    plan = plan_in(tmp_path, window_text(opens=opens) + row.probes + row.waive)
    events = row.lose(healthy(plan), opens)

    shown = faces(plan, events)

    capsys.readouterr()
    said = shown.criterion(row.criterion)
    assert (said["verdict"], said["waived"]) == ("INCONCLUSIVE", None)
    assert row.says in said["reason"]
    assert shown.document["verdict"] == "AMBER"
    assert shown.report.decision.action is not Action.CLOSE
    for at in row.closed:
        gate = shown.document["gate"][at]
        assert (gate["open"], gate["verdict"], shown.exit_codes[at]) == (False, "AMBER", 3)
        blocked = {each["criterion"]: each for each in gate["blocked_by"]}
        assert row.says in blocked[row.criterion]["reason"]
    assert shown.sample("criterion_status", criterion=row.criterion, status="INCONCLUSIVE") == 1
    assert shown.sample("criterion_status", criterion=row.criterion, status="PASS") == 0


def test_a_healthy_window_is_green_so_that_the_rows_mean_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing lost, the same evidence is GREEN, both gates are open and both commands exit 0."""
    opens = math.floor(time.time()) - AFTER
    plan = plan_in(tmp_path, window_text(opens=opens) + PROBES + WAIVED)

    shown = faces(plan, healthy(plan))

    capsys.readouterr()
    assert shown.document["verdict"] == "GREEN"
    assert shown.exit_codes == {"close": 0, "end": 0}
    assert shown.report.decision.action is Action.CLOSE
    assert shown.sample("criterion_status", criterion="guard", status="PASS") == 1


def test_a_window_in_which_everything_is_waived_is_amber_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Waiving every criterion verifies nothing: no advice to close, and a reason at both gates."""
    opens = math.floor(time.time()) - AFTER
    plan = plan_in(tmp_path, window_text(opens=opens) + PROBES + EVERYTHING_WAIVED)

    shown = faces(plan, healthy(plan))

    capsys.readouterr()
    assert shown.document["verdict"] == "AMBER"
    assert shown.exit_codes == {"close": 3, "end": 3}
    assert shown.report.decision.action is not Action.CLOSE
    for at in ("close", "end"):
        blocked = shown.document["gate"][at]["blocked_by"]
        assert [each["criterion"] for each in blocked] == ["window"]
        assert "every criterion is waived" in blocked[0]["reason"]


def test_only_reopen_left_does_not_open_the_gate_at_close(tmp_path: Path) -> None:
    """Where everything that counts before the end is waived, the gate at close stays closed."""
    waive = EVERYTHING_WAIVED.replace("  reopen: not asked for\n", "")
    plan = plan_in(tmp_path, window_text() + PROBES + waive)

    report = build(plan, healthy(plan), HEAD, CLOSES + 5)

    assert not report.close.open
    assert report.close.exit_code == 3
    assert report.decision.action is Action.HOLD


def test_without_a_ledger_the_gate_is_closed_in_a_process_of_its_own(tmp_path: Path) -> None:
    """`freezewatch gate` before anybody has watched exits 3, as a pipeline sees it."""
    plan = plan_in(tmp_path, window_text(opens=math.floor(time.time()) - 60) + PROBES + WAIVED)
    command = [sys.executable, "-m", "monitor", "gate", "--at", "close", "--config", str(plan.file)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 3
    assert "the watchdog recorded nothing" in done.stdout


def test_a_gate_survives_a_restart_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer comes from the ledger alone: asked again by anybody, it is the same."""
    opens = math.floor(time.time()) - AFTER
    plan = plan_in(tmp_path, window_text(opens=opens) + PROBES + WAIVED)
    first = faces(plan, silent(healthy(plan), opens + 300, opens + 400)).exit_codes

    again = gate_command(plan.file, "end", wait=0.0, as_machine=True)

    capsys.readouterr()
    assert first["end"] == again == 3


# -- time that passes without evidence ------------------------------------------------------------


@pytest.mark.parametrize("after", [OPENS + 333, OPENS + HALF, CLOSES - 45])
def test_a_monitor_that_stops_reporting_is_amber_within_two_intervals(after: float, tmp_path: Path) -> None:
    """Two intervals and the time that an answer may take after the last record, coverage gives up."""
    plan = plan_in(tmp_path)
    events = [e for e in healthy(plan) if e.at <= after]
    judge = judge_of(plan, events)
    last = max(e.at for e in events)

    just = judge.verdicts(last + EVERY)["coverage"]
    late = judge.verdicts(last + 2 * EVERY + 2.0 + EVERY * 5 / 6)["coverage"]

    assert just.status is Status.PASS
    assert late.status is Status.INCONCLUSIVE
    assert "nothing" in late.reason
    assert judge.colour(last + 3 * EVERY) is Colour.AMBER


def test_each_silent_probe_is_missed_two_intervals_after_its_own_last_run(tmp_path: Path) -> None:
    """The bound holds for every single probe, not only for all of them."""
    plan = plan_in(tmp_path)
    for probe in plan.probes:
        events = silent(healthy(plan, until=OPENS + 400), OPENS + 300, OPENS + 400, probe.name)
        own = [e for e in events if isinstance(e, Observed) and e.observation.probe == probe.name]
        moment = own[-1].observation.slot + 2 * EVERY + 2.0 + 0.2

        coverage = verdicts_of(plan, [e for e in events if e.at <= moment], moment)["coverage"]

        assert coverage.status is Status.INCONCLUSIVE
        assert probe.name in coverage.reason


def test_a_snapshot_that_grows_old_answers_with_a_closed_gate(tmp_path: Path) -> None:
    """A watchdog that hangs keeps the gate closed, even where coverage is waived."""
    plan = plan_in(tmp_path, window_text() + PROBES + WAIVED + "  coverage: we trust it\n")
    judge = judge_of(plan, healthy(plan))
    verdicts = judge.verdicts(ENDS + 1)
    snapshot = Snapshot(
        now=ENDS + 1,
        timeline=judge.timeline,
        verdicts=verdicts,
        decision=Decision(action=Action.CLOSE, causes=(), reason="green"),
    )

    fresh = snapshot.gate("end", ENDS + 1 + STALLED)
    stale = snapshot.gate("end", ENDS + 2 + STALLED)

    assert fresh.open
    assert (stale.open, stale.exit_code) == (False, 3)
    assert any("has not judged for" in reason for _, _, reason in stale.blocked_by)


# -- nothing is made up ---------------------------------------------------------------------------


def test_before_anything_is_seen_no_metric_says_that_all_is_well(tmp_path: Path) -> None:
    """From its first scrape on: every criterion INCONCLUSIVE, ΔS and coverage no numbers, gates 0."""
    plan = plan_in(tmp_path)
    registry = CollectorRegistry()
    metrics = Metrics(plan, registry)
    judge = Judge(plan)
    verdicts = judge.verdicts(OPENS)

    metrics.judged(OPENS, judge, verdicts, decide(OPENS, judge.timeline, verdicts, None))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"freezewatch_{name}", labels)

    for name, verdict in verdicts.items():
        status = "WAIVED" if verdict.waived else "INCONCLUSIVE"
        assert value("criterion_status", criterion=name, status=status) == 1
    drift = value("answer_drift", probe="returns-policy")
    assert drift is not None
    assert math.isnan(drift)
    ratio = value("coverage_ratio")
    assert ratio is not None
    assert math.isnan(ratio)
    assert value("gate_open", at="close") == value("gate_open", at="end") == 0


def test_figures_of_what_was_never_asked_are_none_and_not_zero(tmp_path: Path) -> None:
    """Availability and latency of nothing are no numbers."""
    reads = verdicts_of(plan_in(tmp_path), [], OPENS + 60)["reads"]

    assert reads.figures["availability"] is None
    assert reads.figures["baseline_p95_s"] is None


def test_a_vector_that_is_none_has_no_distance() -> None:
    """NaN from an embedder is a missing ΔS, neither 0 nor the largest."""
    baseline = Baseline()
    right, broken = np.array([1.0, 0.0], np.float32), np.array([np.nan, 1.0], np.float32)
    baseline.learn("a", right)

    known = baseline.delta_s("a", right)
    lost = baseline.delta_s("b", broken)
    baseline.learn("c", broken)
    poisoned = baseline.delta_s("d", right)

    assert known == 0.0
    assert lost is None
    assert poisoned is None


def test_a_record_without_a_duration_stays_without_one() -> None:
    """What JSON does not know is null in the ledger and no number when it is read, never 0."""
    timeless = observation(duration_s=math.nan, lateness_s=math.inf)
    written = dumps(Observed(at=OPENS + 61, observation=timeless))

    again = loads(written)

    assert isinstance(again, Observed)
    assert math.isnan(again.observation.duration_s)
    assert math.isnan(again.observation.lateness_s)


def test_a_leak_counts_even_where_its_duration_is_no_number(tmp_path: Path) -> None:
    """Bad news needs no stop-watch."""
    leak = observation(outcome=Outcome.LEAKED, slot=OPENS + 100, duration_s=math.nan)

    guard = verdicts_of(plan_in(tmp_path), [Observed(at=OPENS + 101, observation=leak)], OPENS + 102)["guard"]

    assert guard.status is Status.FAIL


@contextmanager
def guarded(status: int, retry_after: list[str]) -> Iterator[str]:
    """A server that refuses every PUT like this, and knows nothing under any name."""

    class Guard(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.answer(status, b'{"code": "READ_ONLY"}', retry_after)

        def do_GET(self) -> None:
            self.answer(404, b"{}", [])

        def answer(self, code: int, body: bytes, retries: list[str]) -> None:
            self.send_response(code)
            for line in retries:
                self.send_header("Retry-After", line)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def attempted(directory: Path, status: int, retry_after: list[str]) -> Result:
    """One attempt as `watch` makes it, under `refusal: {status: [423, 503]}`."""
    with guarded(status, retry_after) as url:
        writes = WRITES.replace("http://127.0.0.1:1", url).replace(
            "method: PUT}\n", "method: PUT}\n    refusal: {status: [423, 503]}\n", 1
        )
        planned = plan_in(directory, window_text() + READS + writes + FLAGS + WAIVED).of(Kind.WRITE)[0]

        async def once() -> Result:
            transport = Transport()
            tools = Tools(window="reindex", opens=OPENS, closes=CLOSES, agent="test", transport=transport)
            probe = planned.make(tools)
            try:
                return await probe.run(Run(slot=OPENS + 60, phase="frozen", frozen=True))
            finally:
                await transport.aclose()

        return asyncio.run(once())


@pytest.mark.parametrize(
    ("status", "proper"), [(423, True), (503, True), (450, False), (424, False), (502, False), (422, False)]
)
def test_a_list_of_statuses_is_a_set_and_no_range(status: int, proper: bool, tmp_path: Path) -> None:
    """`[423, 503]` holds two statuses; what lies between them is no proper refusal."""
    result = attempted(tmp_path, status, ["120"])

    assert (result.outcome is Outcome.REFUSED) is proper


def test_two_retry_after_lines_are_a_broken_refusal(tmp_path: Path) -> None:
    """One good line among several proves nothing: the guard fails, where one line passes."""
    result = attempted(tmp_path, 503, ["120", "60"])

    assert result.outcome is Outcome.REFUSED_BADLY
    assert "2 Retry-After headers" in result.reason


def test_a_threshold_that_is_no_number_is_a_configuration_error(tmp_path: Path) -> None:
    """It is not compared as if it were 0."""
    with pytest.raises(ConfigError, match=r"window\.yaml:\d+:\d+: p95_over_baseline"):
        plan_in(tmp_path, window_text() + "objectives: {reads: {p95_over_baseline: fast}}\n")


# -- mutation: whatever is taken away, GREEN goes --------------------------------------------------

FIXTURE_OK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ("returns-policy", "product-search", "vector-upsert", "ticket-tool", "read_only/1", "read_only/2")
ALLOWED = max(3 * EVERY, 5.0)


@pytest.mark.parametrize(("name", "kind"), [*((name, None) for name in NAMES), (NAMES[0], Kind.MEANING)])
def test_no_probe_can_be_taken_away_from_a_green_window(name: str, kind: Kind | None, tmp_path: Path) -> None:
    """Without the evidence of any one probe, or of its measurements, GREEN is gone."""
    plan = plan_in(tmp_path)
    events = healthy(plan)

    whole = build(plan, events, HEAD, ENDS + 30).verdict
    less = build(plan, without(events, probe=name, kind=kind), HEAD, ENDS + 30)

    assert whole is Colour.GREEN
    assert less.verdict is Colour.AMBER
    assert not less.end.open


@FIXTURE_OK
@given(data=st.data())
def test_no_stretch_can_be_cut_out_of_a_green_window(data: st.DataObject, tmp_path: Path) -> None:
    """A silence longer than allowed, of one probe or of all, anywhere from opens on, is never GREEN."""
    plan = plan_in(tmp_path)
    length = data.draw(st.floats(ALLOWED + 0.5, LENGTH + SOAK), label="seconds of silence")
    start = data.draw(st.floats(OPENS, ENDS - length), label="from")
    probe = data.draw(st.sampled_from([None, *NAMES]), label="probe")

    events = silent(healthy(plan), start, start + length, probe)

    for now in (ENDS + 1, ENDS + 60, ENDS + 3 * 86400):
        report = build(plan, events, HEAD, now)
        assert report.verdict is Colour.AMBER
        assert not report.end.open


@FIXTURE_OK
@given(data=st.data())
def test_no_stretch_of_skipped_runs_passes_for_evidence(data: st.DataObject, tmp_path: Path) -> None:
    """Runs that were skipped because of us are as silent as runs that are not there."""
    plan = plan_in(tmp_path)
    length = data.draw(st.floats(ALLOWED + 0.5, LENGTH), label="seconds")
    start = data.draw(st.floats(OPENS, ENDS - length), label="from")
    why = data.draw(st.sampled_from([Why.LATE, Why.OWN_FAULT, Why.ERROR, Why.OVERLAP, Why.HARMFUL]))
    events = skip(why, start - OPENS, start - OPENS + length)(healthy(plan), OPENS)

    assert build(plan, events, HEAD, ENDS + 30).verdict is Colour.AMBER


def test_waived_coverage_does_not_make_an_unwatched_window_green(tmp_path: Path) -> None:
    """A ledger that went silent halfway answers nothing but AMBER, whatever the file waives."""
    plan = plan_in(tmp_path, window_text() + PROBES + WAIVED + "  coverage: a tolerant team\n")
    half = OPENS + LENGTH / 2
    events = healthy(plan, until=half)

    fresh = build(plan, events, HEAD, half + 1)
    stale = build(plan, events, HEAD, half + 60)

    assert fresh.close.open
    assert (stale.verdict, stale.close.open) == (Colour.AMBER, False)
    assert "nobody has watched" in stale.close.blocked_by[0][2]


def test_report_under_another_configuration_than_was_watched_is_never_green(tmp_path: Path) -> None:
    """The judge was not asked about this file; `replay` is for that."""
    plan = plan_in(tmp_path)
    started = SelfNoted(at=OPENS - 300, what="started", detail={"config": plan.digest})
    other = plan_in(tmp_path, window_text() + PROBES + WAIVED.replace("batch", "own batch"))
    events = [started, *healthy(plan)]

    assert build(plan, events, HEAD, ENDS + 1).verdict is Colour.GREEN
    assert build(other, events, HEAD, ENDS + 1).verdict is Colour.AMBER
    assert build(other, events, HEAD, ENDS + 1, same_plan=False).verdict is Colour.GREEN


def test_leak_of_a_probe_that_was_taken_out_of_the_file_stays_a_leak(tmp_path: Path) -> None:
    """What happened is not undone by not asking about it any more."""
    plan = plan_in(tmp_path)
    leak = next(
        e.observation
        for e in healthy(plan)
        if isinstance(e, Observed) and e.observation.kind is Kind.WRITE and e.observation.slot > OPENS + 60
    )
    gone = replace(leak, probe="kv", surface="kv", outcome=Outcome.LEAKED, reason="answered 200 while frozen")

    report = build(plan, [*healthy(plan), Observed(at=ENDS, observation=gone)], HEAD, ENDS + 1)

    assert report.verdict is Colour.RED
