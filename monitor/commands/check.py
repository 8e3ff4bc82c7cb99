"""check: is the configuration sound, and, with `--ask`, what does each probe get back right now?"""

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from monitor import __version__
from monitor.commands.common import plan_of, print_json, report_now
from monitor.errors import UsageError
from monitor.model import Timeline, count, iso, span
from monitor.plan import Plan, Planned
from probes.base import Closing, Kind, Outcome, Result, Run, Why, skipped
from probes.clockwork import ProbeLoop
from probes.http import Answer, ExchangeError, Recorder, Transport
from probes.kinds import Tools
from probes.secrets import SENSITIVE
from probes.write.attempt import WriteAttempts

SHOWN = 4000
"""Characters of a body that are shown."""
UNSURE = frozenset({Outcome.UNREACHABLE, Outcome.SKIPPED, Outcome.UNKNOWN})
BAD = frozenset({Outcome.FAILED, Outcome.DROPPED, Outcome.LEAKED, Outcome.LEAKED_BEHIND_REFUSAL})

Exchange = tuple[httpx.Request, Answer | ExchangeError]


def check(config: Path, *, ask: bool, name: str | None, show: bool, as_machine: bool) -> int:
    """Check; exit 0 when all is well, 1 or 3 when an asked probe fails or learns nothing."""
    plan = plan_of(config)
    chosen = [probe for probe in plan.probes if name in (None, probe.name)]
    if name is not None and not chosen:
        known = ", ".join(probe.name for probe in plan.probes)
        raise UsageError(f"there is no probe {name!r}; there are: {known}")
    for warning in plan.warnings:
        print(
            f"{warning.file}:{warning.line}:{warning.column}: warning: {warning.message}",
            file=sys.stderr,
        )
    if not ask:
        _say_plan(plan, as_machine)
        return 0
    with asyncio.Runner(loop_factory=ProbeLoop) as runner:
        results = runner.run(_ask_all(plan, chosen))
    if as_machine:
        print_json([_as_json(plan, probe, result) for probe, result, _ in results])
    else:
        for probe, result, exchanges in results:
            print(_line(plan, probe, result))
            about = _about(plan, result)
            if about:
                print(f"       {about}")
            if show:
                print(shown(plan, exchanges))
    outcomes = {result.outcome for _, result, _ in results if not _no_way_in(result)}
    if outcomes & BAD:
        return 1
    return 3 if outcomes & UNSURE else 0


def _no_way_in(result: Result) -> bool:
    """Another spelling of a write that was answered and wrote nothing: that is all that it could show."""
    said = result.figures
    told = "variant" in said and said.get("answered") is True and said.get("verified") is True
    return told and result.outcome is Outcome.UNREACHABLE


def _say_plan(plan: Plan, as_machine: bool) -> None:
    window = plan.window
    counts = {kind: len(plan.of(kind)) for kind in (Kind.READ, Kind.WRITE, Kind.AUDIT, Kind.FLAG)}
    if as_machine:
        print_json(
            {
                "file": str(plan.file),
                "window": window.id,
                "opens": iso(window.opens),
                "closes": iso(window.closes),
                "probes": {kind.value: number for kind, number in counts.items()},
                "warnings": [str(warning) for warning in plan.warnings],
            }
        )
        return
    said = ", ".join(count(number, f"{kind.value} probe") for kind, number in counts.items())
    length = span(window.closes - window.opens)
    print(f"{plan.file}: sound. {window.title}: opens {iso(window.opens)} for {length}; {said}")


async def _ask_all(plan: Plan, chosen: list[Planned]) -> list[tuple[Planned, Result, list[Exchange]]]:
    found = []
    timeline = report_now(plan).timeline
    for planned in chosen:
        exchanges: list[Exchange] = []
        transport = Transport(record=_into(exchanges))
        try:
            found.append((planned, await _ask(plan, planned, transport, timeline), exchanges))
        finally:
            await transport.aclose()
    return found


def _into(kept: list[Exchange]) -> Recorder:
    def record(request: httpx.Request, got: Answer | ExchangeError) -> None:
        kept.append((request, got))

    return record


async def _ask(plan: Plan, planned: Planned, transport: Transport, timeline: Timeline) -> Result:
    """Ask once. A write whose canary could not be taken away again is not tried."""
    now = time.time()
    frozen = timeline.phase_at(now).frozen
    if planned.kind is Kind.WRITE and not planned.spec.undoable:
        return skipped(Why.HARMFUL, "not tried: without undo a canary might be left behind")
    tools = Tools(
        window=plan.window.id,
        opens=plan.window.opens,
        closes=plan.window.latest_closes,
        folder=plan.file.resolve().parent,
        agent=f"freezewatch/{__version__} (check)",
        transport=transport,
    )
    probe = planned.make(tools)
    try:
        result = await probe.run(Run(slot=now, started=now, phase="check", frozen=frozen))
        tries = {"tried": probe.target.tries} if isinstance(probe, WriteAttempts) else {}
        return replace(result, figures={**tries, **result.figures})
    finally:
        if isinstance(probe, Closing):
            await probe.aclose()


def _line(plan: Plan, planned: Planned, result: Result) -> str:
    took = f"{result.duration_s * 1000:.0f} ms"
    text = plan.redactor.text(result.reason)
    return f"{planned.kind.value:<6} {planned.name:<24} {result.outcome.value:<22} {took:>8}  {text}"


def _about(plan: Plan, result: Result) -> str:
    """What was tried and what it left in the store; or how a store was read."""
    figures = result.figures
    notes = figures.get("notes")
    parts = [
        f"tried: {figures['tried']}" if figures.get("tried") else "",
        f"trace left: {figures['trace']}" if figures.get("trace") else "",
        f"read by: {figures['grade']}" if figures.get("grade") else "",
        *(notes if isinstance(notes, list) else []),
    ]
    return plan.redactor.text("; ".join(filter(None, parts)))


def _as_json(plan: Plan, planned: Planned, result: Result) -> dict[str, Any]:
    return {
        "probe": planned.name,
        "kind": planned.kind.value,
        "surface": planned.surface,
        "outcome": result.outcome.value,
        "reason": plan.redactor.text(result.reason),
        "duration_s": round(result.duration_s, 6),
        "phases": result.phases,
        "figures": plan.redactor.value(result.figures),
    }


def shown(plan: Plan, exchanges: list[Exchange]) -> str:
    """The exchanges in full, secrets hidden."""
    lines = []
    for request, got in exchanges:
        lines.append(f"  > {request.method} {request.url}")
        lines += [f"  > {name}: {_hidden(name, value)}" for name, value in request.headers.items()]
        lines += _body("  > ", request.content.decode("utf-8", "replace"))
        if isinstance(got, ExchangeError):
            lines.append(f"  < {got.reason}")
        else:
            lines.append(f"  < {got.status}  ({got.duration_s * 1000:.1f} ms, {got.peer})")
            lines += [f"  < {name}: {_hidden(name, value)}" for name, value in got.headers]
            lines += _body("  < ", got.text)
        lines.append("")
    return plan.redactor.text("\n".join(lines))


def _hidden(name: str, value: str) -> str:
    return "(hidden)" if SENSITIVE.search(name) else value


def _body(sign: str, text: str) -> list[str]:
    if not text:
        return []
    cut = text[:SHOWN] + (f"… ({len(text) - SHOWN} more characters)" if len(text) > SHOWN else "")
    printable = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in cut)
    return [f"{sign}{line}" for line in printable.split("\n")]
