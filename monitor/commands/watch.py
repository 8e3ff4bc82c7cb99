"""watch: run the watchdog over the whole window, show it, serve it, and exit with the gate's code."""

import asyncio
import contextlib
import gc
import signal
import sys
import time
from pathlib import Path

from monitor.clock import Clock
from monitor.commands.common import plan_of, report_now
from monitor.judging import Sink
from monitor.ledger import only_watcher
from monitor.plan import Plan
from monitor.report.build import Report
from monitor.show.lines import JsonLines, PlainLines
from monitor.watch import Watch, open_ledger
from monitor.web.app import Server, application
from probes.clockwork import ProbeLoop

SWITCH = 0.001
"""Seconds after which a thread gives way: a scrape must not hold up the loop that takes times."""


def steady_interpreter() -> None:
    """Let neither threads nor the garbage collector hold up the loop that takes times.

    What comes and goes with a probe is freed by counting; whole collections, which take a tenth of a
    second with thousands of probes, become rare, and the watch keeps what stays out of them.
    """
    sys.setswitchinterval(SWITCH)
    gc.set_threshold(700, 10, 500)


def watch(config: Path, *, as_machine: bool) -> int:
    """Watch until the window is over or until a signal; the exit code is that of the gate at the end."""
    plan = plan_of(config)
    for warning in plan.warnings:
        print(f"freezewatch: warning: {warning}", file=sys.stderr)
    steady_interpreter()
    with only_watcher(plan.ledger):
        open_ledger(plan).close()
        with asyncio.Runner(loop_factory=ProbeLoop) as runner, contextlib.ExitStack() as stack:
            runner.run(_watch(plan, stack, as_machine=as_machine))
    report = report_now(plan)
    if not as_machine:
        _say_end(report)
    return report.end.exit_code


async def _watch(plan: Plan, stack: contextlib.ExitStack, *, as_machine: bool) -> None:
    sinks: list[Sink] = []
    watch = Watch(plan, sinks, clock=Clock())
    server = _serve(plan, watch)
    stack.callback(server.stop) if server else None
    if as_machine:
        sinks.append(JsonLines(sys.stdout))
    elif sys.stdout.isatty():
        from rich.console import Console

        from monitor.show.live import LiveScreen

        screen = LiveScreen(plan, Console(), lambda: server.url if server else None)
        sinks.append(stack.enter_context(screen))
    else:
        sinks.append(PlainLines(sys.stdout))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, watch.interrupt)
    await watch.run()


def _serve(plan: Plan, watch: Watch) -> Server | None:
    if plan.listen is None:
        return None
    app = application(watch.registry, lambda: watch.snapshot, watch.clock.now)
    server = Server(app, plan.listen.host, plan.listen.port)
    problem = server.start()
    if problem is not None:
        print(f"freezewatch: metrics and gate are NOT served: {problem}", file=sys.stderr)
        return None
    print(f"freezewatch: serving {server.url}/metrics and {server.url}/api/v1/gate", file=sys.stderr)
    return server


def _say_end(report: Report) -> None:
    from monitor.commands.judge import summary

    print()
    print(summary(report))
    if not report.phase.over:
        left = report.timeline.ends - time.time()
        print(f"stopped {left:.0f} s before the end: `freezewatch watch` takes the window up again")
