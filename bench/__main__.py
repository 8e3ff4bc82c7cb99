"""`make bench`: every figure that the documentation quotes, in one run, against its target."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.transport import table

ROUNDS = 5


@contextmanager
def server() -> Iterator[str]:
    """The benchmark's target in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()


def watchdog(url: str, *, exact: bool, **options: float) -> dict[str, float]:
    """One run of `bench.watchdog`; `exact` also compares every latency with what the server says."""
    words = [word for name, value in options.items() for word in (f"--{name}", f"{value:g}")]
    command = [sys.executable, "-m", "bench.watchdog", "--url", url, *words]
    command += ["--exact"] if exact else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    loaded: dict[str, float] = json.loads(done.stdout)
    return loaded


def say(what: str, value: float, unit: str, target: float | None = None) -> None:
    """One line: the figure, and the target where there is one."""
    aim = "" if target is None else f"   target <= {target:g} {'met' if value <= target else 'MISSED'}"
    print(f"  {what:<44} {value:>9.3f} {unit:<4}{aim}", flush=True)


def paths(url: str) -> None:
    """The whole path at two sizes: first its cost, then how exact its times are."""
    for probes in (400, 2000):
        print(f"{probes} probes, every second, 1 KiB keep-alive:")
        cost = watchdog(url, exact=False, probes=probes, seconds=15)
        say("CPU per recorded probe", cost["cpu_ms_per_probe"], "ms", 0.7)
        say("probes a second", cost["probes_per_s"], "")
        say("skipped", cost["skipped"], "")
        say("memory of the watchdog (RSS, peak)", cost["rss_mb"], "MB", 150 if probes == 400 else None)
        print(f"{probes} probes, every second, a target that answers after 10 ms:")
        times = watchdog(url, exact=True, probes=probes, seconds=15, after=0.01)
        say("lateness, median", times["lateness_p50_ms"], "ms")
        say("lateness, 99 %", times["lateness_p99_ms"], "ms", 5)
        say("error of the latency, 99 %", times["latency_error_p99_ms"], "ms", 2)


def transports(url: str) -> None:
    """The table of clients."""
    for at_once in (50, 500):
        print(f"keep-alive GET of 1 KiB, {at_once} at once:")
        for name, row in table(url, at_once, 6000 if at_once == 50 else 3000):
            print(
                f"  {name:<24} {row['cpu_ms']:6.2f} ms CPU {row['per_s']:7.0f}/s   booked beyond the server: "
                f"p50 {row['queue_p50_ms']:8.1f} ms, p99 {row['queue_p99_ms']:8.1f} ms",
                flush=True,
            )


def help_time() -> None:
    """How long `freezewatch --help` takes."""
    took = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "monitor", "--help"], capture_output=True, check=True)
        took.append(time.perf_counter() - began)
    print("the command line:")
    say(f"freezewatch --help, median of {ROUNDS}", statistics.median(took[1:]), "s", 0.3)


def leak_to_webhook() -> None:
    """From the moment a guard opens to the webhook, at 5 s interval, over windows that run side by side."""
    from bench.leak import seconds_to_webhook

    with tempfile.TemporaryDirectory() as folder:
        took = seconds_to_webhook(Path(folder), windows=6)
    print("a leak that begins at a random moment, probes every 5 s:")
    say(f"leak to webhook, median of {len(took)}", statistics.median(took), "s", 3)
    say("the slowest", max(took), "s")


def main() -> None:
    """Everything, in a few minutes."""
    help_time()
    with server() as url:
        paths(url)
        transports(url)
    leak_to_webhook()


if __name__ == "__main__":
    main()
