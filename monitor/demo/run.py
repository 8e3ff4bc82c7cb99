"""`freezewatch demo`: a real service, a real window, the real watchdog as its own process.

Plays the operator: freezes the service when the window opens and lets it go when it closes. Watches
nothing itself: that is what `freezewatch watch` does, started just as a user starts it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import httpx

from monitor.commands.common import length as seconds_of
from monitor.commands.common import painted, report_now
from monitor.commands.judge import write_report
from monitor.config import read_plan
from monitor.demo.database import FILE_NAME
from monitor.demo.faults import FAULTS
from monitor.demo.questions import QUESTIONS
from monitor.drift.worker import PACKAGED
from monitor.errors import FreezewatchError, UsageError
from monitor.model import from_iso, span

MARK = ".freezewatch-demo"
DATA = "data"
WATCHED = 5
"""Questions that are asked; the bundled documents answer more."""
SHORTEST = 8.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """Where the demo service can be asked, and where its database is."""

    url: str
    vectors_url: str
    database: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """When what happens, in epoch seconds."""

    opens: float
    closes: float
    ends: float


def demo(fault: str | None, length: str, out: Path, *, as_machine: bool) -> int:
    """Watch a window of `length`; the exit code is the gate's at the end."""
    if fault == "list":
        for name, what in FAULTS.items():
            print(f"{name:<24} {what}")
        return 0
    if fault is not None and fault not in FAULTS:
        raise UsageError(f"unknown fault {fault!r}; known: {', '.join(FAULTS)}")
    frozen = seconds_of("--length", length)
    if frozen < SHORTEST:
        raise UsageError(f"--length {length} is too short to learn anything from: 8s at least")
    prepare(out)
    with _service(fault, out) as service:
        url = service.url
        _tell("loading the embedding model, so that the window starts with it ready")
        lead = _warm_up() * 1.3 + 2.0
        config, times = write_window(out, service, frozen, lead)
        _tell(
            f"the service is at {url}, its window in {config}; it opens in {span(times.opens - time.time())}"
        )
        if fault:
            _tell(f"fault: {fault}: {FAULTS[fault]}")
        code = _run_window(url, config, times, fault, as_machine=as_machine)
    if code not in (0, 1, 3):
        return code
    return _report(config, out, as_machine=as_machine)


def _tell(text: str) -> None:
    print(f"freezewatch demo: {text}", file=sys.stderr, flush=True)


def prepare(out: Path) -> None:
    """Make DIR, and take away what an earlier demo left in it; anything else is left alone."""
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise UsageError(f"{out} is not empty and not from a demo: name another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    for pattern in ("demo.ledger*", "window.yaml", "report.*", "service.log", f"{DATA}/{FILE_NAME}*"):
        for old in out.glob(pattern):
            old.unlink()


@contextmanager
def _service(fault: str | None, out: Path) -> Iterator[Service]:
    """The demo service in a process of its own; it ends when we do."""
    data = out / DATA
    command = [sys.executable, "-m", "monitor.demo.service", "--exit-with-stdin", "--data", str(data)]
    if fault:
        command += ["--fault", fault]
    with (out / "service.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise FreezewatchError(f"the demo service did not start: see {out / 'service.log'}")
            ready = json.loads(line)
            yield Service(
                url=ready["url"], vectors_url=ready["vectors_url"], database=(data / FILE_NAME).resolve()
            )
        finally:
            process.terminate()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _warm_up() -> float:
    """Load the model once, so that the watchdog's own load is quick; returns how long it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "monitor.drift.worker", next(iter(PACKAGED))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        if process.stdout is None or not process.stdout.readline():
            raise FreezewatchError("the embedding model cannot be loaded: is the installation whole?")
        process.kill()
    return time.monotonic() - began


def write_window(out: Path, service: Service, frozen: float, lead: float) -> tuple[Path, Times]:
    """`window.yaml` in `out`, for a window of `frozen` seconds after `lead` and a baseline; and its times."""
    from jinja2 import Environment

    source = resources.files("monitor.demo").joinpath("window.yaml.j2").read_text("utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    baseline, soak = max(8.0, frozen / 4), max(6.0, frozen / 5)
    opens = round(time.time() + lead + baseline, 1)
    times = Times(opens=opens, closes=opens + frozen, ends=opens + frozen + soak)
    text = environment.from_string(source).render(
        url=service.url,
        vectors_url=service.vectors_url,
        database=str(service.database),
        opens=_stamp(times.opens),
        closes=_stamp(times.closes),
        length=f"{frozen:g}",
        baseline=f"{baseline:g}",
        soak=f"{soak:g}",
        settle=f"{min(3.0, frozen / 6):.1f}",
        questions=QUESTIONS[:WATCHED],
        port=_free_port(),
    )
    config = out / "window.yaml"
    config.write_text(text, encoding="utf-8")
    return config, times


def _stamp(moment: float) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run_window(url: str, config: Path, times: Times, fault: str | None, *, as_machine: bool) -> int:
    """Run the watchdog and play the operator; returns the watchdog's exit code."""
    command = [sys.executable, "-m", "monitor", "watch", "--config", str(config)]
    if as_machine:
        command.append("--json")
    killed = fault == "watchdog-killed"
    dies = times.opens + (times.closes - times.opens) / 3 if killed else None
    returns = times.opens + (times.closes - times.opens) * 2 / 3 if killed else None
    watchdog = subprocess.Popen(command)
    operator = _Operator(url, config, times)
    try:
        while True:
            now = time.time()
            operator.play(now)
            if dies is not None and now >= dies:
                _tell("SIGKILL to the watchdog")
                watchdog.kill()
                watchdog.wait()
                dies = None
            elif returns is not None and dies is None and now >= returns:
                _tell("starting the watchdog again")
                watchdog = subprocess.Popen(command)
                returns = None
            elif (returns is None and watchdog.poll() is not None) or (
                returns is not None and dies is not None and watchdog.poll() is not None
            ):
                return int(watchdog.returncode)
            time.sleep(0.05)
    except KeyboardInterrupt:
        return int(watchdog.wait())
    finally:
        if watchdog.poll() is None:
            os.kill(watchdog.pid, signal.SIGTERM)
            watchdog.wait(30)


class _Operator:
    """Freezes and reopens the service by the clock, and keeps it frozen when the window is extended."""

    def __init__(self, url: str, config: Path, times: Times) -> None:
        self._client = httpx.Client(base_url=url, timeout=5)
        plan = read_plan(config)
        port = plan.listen.port if plan.listen else 0
        self._status = f"http://127.0.0.1:{port}/api/v1/status"
        self._opens, self._closes = times.opens, times.closes
        self._frozen = False
        self._done = False

    def play(self, now: float) -> None:
        """Do what is due at `now`."""
        if not self._frozen and not self._done and now >= self._opens:
            self._switch(on=True)
        elif self._frozen and now >= self._closes:
            self._closes = self._extended()
            if now >= self._closes:
                self._switch(on=False)
                self._done = True

    def _switch(self, *, on: bool) -> None:
        self._client.post(
            "/admin/read-only", json={"on": on, "closes": _stamp(self._closes)}
        ).raise_for_status()
        self._frozen = on

    def _extended(self) -> float:
        try:
            answer = httpx.get(self._status, timeout=1).json()
            return max(self._closes, from_iso(answer["closes"]))
        except (httpx.HTTPError, ValueError, KeyError):
            return self._closes


def _report(config: Path, out: Path, *, as_machine: bool) -> int:
    report = report_now(read_plan(config))
    for form in ("json", "html"):
        write_report(report, form, out / f"report.{form}")
    _tell(f"{painted(report.verdict)}; the report is {(out / 'report.html').resolve().as_uri()}")
    if not as_machine:
        broken = [v for v in report.criteria if v.holds_gate]
        for verdict in broken:
            print(f"  {verdict.criterion}: {verdict.status.value}: {verdict.reason}")
    return report.end.exit_code
