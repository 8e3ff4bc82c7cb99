"""One watchdog over many probes of one target: what a recorded probe costs, and how exact its times are.

The whole path is in it: schedule, HTTP, ledger, metrics, judge. Prints one JSON object.
"""

import argparse
import asyncio
import gc
import json
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx

from monitor.commands.watch import steady_interpreter
from monitor.config import read_plan
from monitor.events import Event, Observed
from monitor.snapshot import Snapshot
from monitor.watch import Watch
from probes.base import Outcome
from probes.clockwork import ProbeLoop
from probes.http import Answer, ExchangeError

SETTLE = 4.0
"""Seconds before the measuring starts: connections are made, caches are warm."""


class Meter:
    """Looks on as a sink, and measures between two moments."""

    def __init__(self) -> None:
        self.counting = False
        self.lateness: list[float] = []
        self.errors: list[float] = []
        self.outcomes: dict[str, int] = {}

    def event(self, event: Event) -> None:
        if self.counting and isinstance(event, Observed):
            o = event.observation
            slots = o.figures.get("slots", 1) if o.outcome is Outcome.SKIPPED else 1
            self.outcomes[o.outcome.value] = self.outcomes.get(o.outcome.value, 0) + int(slots)
            self.lateness.append(o.lateness_s)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def trouble(self, reason: str | None) -> None:
        raise SystemExit(f"the ledger fails: {reason}")

    def exchange(self, request: httpx.Request, got: Answer | ExchangeError) -> None:
        if self.counting and isinstance(got, Answer):
            self.errors.append(got.duration_s - float(got.header("took")[0]))


def window(folder: Path, url: str, probes: int, every: float, seconds: float, after: float) -> Path:
    """A window that is frozen for `seconds` from a moment on, with `probes` reads."""
    opens = time.time() + 3.0
    stamp = [datetime.fromtimestamp(t, UTC).isoformat() for t in (opens, opens + seconds + SETTLE + 30)]
    reads = "\n".join(
        f'  - {{name: read-{n}, http: {{url: "{url}?after={after:g}"}}}}' for n in range(probes)
    )
    path = folder / "window.yaml"
    path.write_text(
        f"window: {{id: bench, opens: {stamp[0]}, closes: {stamp[1]}, baseline: 1s, soak: 1s}}\n"
        f"defaults: {{every: {every:g}s, timeout: 2s}}\nlisten: 'off'\nreads:\n{reads}\n"
    )
    return path


def share(values: list[float], at: float) -> float:
    """The value that a share of `values` does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(at * len(ordered)))] if ordered else float("nan")


async def run(config: Path, seconds: float, exact: bool) -> dict[str, float]:
    """Watch, measure for `seconds`, stop."""
    meter = Meter()
    watch = Watch(read_plan(config), [meter], record=meter.exchange if exact else None)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(3.0 + SETTLE)
    gc.collect()
    meter.counting = True
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    meter.counting = False
    watch.interrupt()
    await task
    runs = sum(count for outcome, count in meter.outcomes.items() if outcome != "skipped")
    return {
        "probes_per_s": runs / took,
        "skipped": meter.outcomes.get("skipped", 0),
        "not_ok": runs - meter.outcomes.get("ok", 0),
        "cpu_ms_per_probe": 1000 * cpu / runs,
        "cpu_share": cpu / took,
        "lateness_p50_ms": 1000 * share(meter.lateness, 0.5),
        "lateness_p99_ms": 1000 * share(meter.lateness, 0.99),
        "latency_error_p50_ms": 1000 * share(meter.errors, 0.5),
        "latency_error_p99_ms": 1000 * share([abs(e) for e in meter.errors], 0.99),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Run once with the options of the command line."""
    options = argparse.ArgumentParser()
    options.add_argument("--url", required=True)
    options.add_argument("--probes", type=int, default=400)
    options.add_argument("--every", type=float, default=1.0)
    options.add_argument("--seconds", type=float, default=15.0)
    options.add_argument("--after", type=float, default=0.0)
    options.add_argument("--exact", action="store_true")
    given = options.parse_args()
    steady_interpreter()
    with tempfile.TemporaryDirectory() as folder:
        config = window(Path(folder), given.url, given.probes, given.every, given.seconds, given.after)
        with asyncio.Runner(loop_factory=ProbeLoop) as runner:
            print(json.dumps(runner.run(run(config, given.seconds, given.exact))))


if __name__ == "__main__":
    main()
