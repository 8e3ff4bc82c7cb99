"""status, gate, report, replay, verify: they read the ledger and judge. They write nothing to it."""

import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from monitor.commands.common import evidence, painted, plan_of, print_json, report_now
from monitor.errors import UsageError
from monitor.gate import EXIT, At, Gate
from monitor.ledger import LedgerFile
from monitor.model import iso, span
from monitor.report.build import Report, as_json, build

POLL = 1.0


def status(config: Path, *, as_machine: bool) -> int:
    """Print where the window stands; exit 0 whatever it is."""
    report = report_now(plan_of(config))
    if as_machine:
        print_json(as_json(report))
    else:
        print(summary(report))
    return 0


def summary(report: Report) -> str:
    """The report in a screenful."""
    window, timeline = report.plan.window, report.timeline
    accepted = " with accepted findings" if report.accepted and report.end.open else ""
    lines = [
        f"{window.title} ({window.id})",
        f"{painted(report.verdict)}{accepted}   {report.phase.value}, "
        f"{iso(window.opens)} to {iso(timeline.closes)}",
        f"advice: {report.decision.action.value}: {report.decision.reason}",
        "",
    ]
    for verdict in report.criteria:
        word = "waived" if verdict.waived is not None else verdict.status.value
        reason = verdict.waived if verdict.waived is not None else verdict.reason
        lines.append(f"  {verdict.criterion:<9} {word:<13} {reason}")
    for at, gate in (("close", report.close), ("end", report.end)):
        lines.append(f"gate at {at}: {'open' if gate.open else 'closed'}")
    return "\n".join(lines)


def gate(config: Path, at: At, *, wait: float, as_machine: bool) -> int:
    """Answer the gate's question; with `wait` (seconds), wait for an answer that can still change."""
    plan = plan_of(config)
    deadline = time.monotonic() + wait
    while True:
        report = report_now(plan)
        answer = report.close if at == "close" else report.end
        left = deadline - time.monotonic()
        if answer.open or answer.settled or left <= 0:
            break
        time.sleep(min(POLL, left))
    if as_machine:
        print_json(answer.as_json())
    else:
        print(_said(answer))
    return answer.exit_code


def _said(answer: Gate) -> str:
    word = "open" if answer.open else "closed"
    lines = [f"gate at {answer.at}: {word} ({painted(answer.verdict)})"]
    lines += [f"  {name}: {verdict}: {reason}" for name, verdict, reason in answer.blocked_by]
    return "\n".join(lines)


def report(config: Path, form: str, out: Path | None) -> int:
    """Write the report; exit 0 once it is written, whatever it says."""
    value = report_now(plan_of(config))
    write_report(value, form, out)
    return 0


def write_report(value: Report, form: str, out: Path | None) -> None:
    """Write `value` as json or html to `out`, or to standard output."""
    if form == "json":
        import json

        text = json.dumps(as_json(value), ensure_ascii=False, indent=2) + "\n"
    elif form == "html":
        from monitor.report.html import render

        text = render(value)
    else:
        raise UsageError(f"unknown format {form!r}; known: json, html")
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")


def replay(config: Path, ledger: Path | None, *, as_machine: bool) -> int:
    """Judge recorded evidence under the configuration in `config`, as of the last record."""
    plan = plan_of(config)
    if ledger is not None:
        plan = replace(plan, ledger=ledger)
    events, head = evidence(plan, any_window=True)
    now = events[-1].at if events else plan.window.begins
    value = build(plan, events, head, now, same_plan=False)
    if as_machine:
        print_json(as_json(value))
    else:
        print(summary(value))
    return EXIT[value.verdict]


def verify(config: Path, ledger: Path | None, *, as_machine: bool) -> int:
    """Check the chain of evidence; exit 4 and name the first broken record when it does not hold."""
    path = ledger or plan_of(config).ledger
    with closing(LedgerFile(path)) as file:
        began = time.perf_counter()
        head = file.verify()
    took = span(time.perf_counter() - began)
    if as_machine:
        print_json({"ledger": str(path), "records": head.records, "head": head.link, "holds": True})
    else:
        print(f"{path}: {head.records} records, the chain holds ({took})\nhead {head.link}")
    return 0
