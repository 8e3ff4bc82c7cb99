"""A real demo service and the real watchdog as processes, with windows of a few seconds."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

WAIVED = ("storage", "queue", "notice", "jobs", "retries", "scope", "meaning")
T = TypeVar("T")


def until(what: Callable[[], T], why: str, seconds: float = 30.0) -> T:
    """Ask `what` until it is true; fail with `why` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {why}")
        time.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stamp(moment: float) -> str:
    """Epoch seconds as ISO 8601."""
    return datetime.fromtimestamp(moment, UTC).isoformat()


@contextmanager
def service(*options: str) -> Iterator[str]:
    """The demo service; gives its URL."""
    command = [sys.executable, "-m", "monitor.demo.service", "--port", "0", "--exit-with-stdin", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
        process.terminate()


def freeze(url: str, on: bool) -> None:
    """Turn the read-only mode of the service."""
    httpx.post(f"{url}/admin/read-only", json={"on": on}, timeout=5).raise_for_status()


@dataclass(kw_only=True)
class Window:
    """A window over a demo service, from now on. Meaning is waived: loading a model takes long."""

    folder: Path
    url: str
    opens_in: float = 5.0
    length: float = 10.0
    soak: float = 4.0
    baseline: float = 4.0
    extra: str = ""
    every: str = "250ms"
    timeout: str = "500ms"

    def __post_init__(self) -> None:
        self.opens = time.time() + self.opens_in
        self.closes = self.opens + self.length
        self.ends = self.closes + self.soak
        self.config = self.folder / "window.yaml"
        self.ledger = self.folder / "test.ledger"
        self.port = free_port()
        self.write()

    def write(self) -> None:
        """Write window.yaml."""
        waived = "".join(f"  {name}: not part of this test\n" for name in WAIVED)
        writes = "".join(
            f"""
  - name: {name}
    http: {{method: PUT, url: "{self.url}{path}", json: {{values: [1.0]}}}}
    variants: false
    read_back: {{http: {{url: "{self.url}{path}"}}}}
    undo: {{http: {{url: "{self.url}{path}"}}}}
    control: true"""
            for name, path in (("vectors", "/v1/vectors/${canary}"), ("kv", "/kv/${canary}"))
        )
        self.config.write_text(
            f"""
window:
  id: test
  opens: {stamp(self.opens)}
  closes: {stamp(self.closes)}
  baseline: {self.baseline:g}s
  soak: {self.soak:g}s
  settle: 1s
  extend: {{by: 4s, at_most: 1}}
defaults: {{every: {self.every}, timeout: {self.timeout}}}
reads:
  - {{name: search, http: {{url: "{self.url}/search?q=returns"}}}}
writes:{writes}
flags:
  - {{name: read_only, http: {{url: "{self.url}/flags/a"}}, at: $.read_only}}
objectives: {{reads: {{latency_floor: 200ms}}}}
listen: {{port: {self.port}}}
waive:
{waived}{self.extra}""",
            "utf-8",
        )

    def command(self, *words: str) -> list[str]:
        """A freezewatch command on this window."""
        return [sys.executable, "-m", "monitor", *words, "--config", str(self.config)]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60, check=False, **options
        )

    @contextmanager
    def watch(self, **options: Any) -> Iterator["Watchdog"]:
        """Start the watchdog; it is killed at the end if it still runs."""
        log = (self.folder / "watch.log").open("ab")
        process = subprocess.Popen(
            self.command("watch", "--json"), stdout=log, stderr=subprocess.STDOUT, **options
        )
        try:
            yield Watchdog(process=process, window=self)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            log.close()

    def play_operator(self, until_moment: float | None = None) -> None:
        """Freeze at `opens` and let go at `closes`, by the clock."""
        self.wait_for(self.opens)
        freeze(self.url, True)
        self.wait_for(self.closes if until_moment is None else until_moment)
        freeze(self.url, False)

    @staticmethod
    def wait_for(moment: float) -> None:
        """Let the clock reach `moment`."""
        until(lambda: time.time() >= moment, f"the clock reaching {stamp(moment)}", 120)

    def events(self) -> list[dict[str, Any]]:
        """What the watchdog printed so far."""
        lines = (self.folder / "watch.log").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def report(self) -> dict[str, Any]:
        """The report as of now."""
        done = self.run("report")
        assert done.returncode == 0, done.stderr
        loaded: dict[str, Any] = json.loads(done.stdout)
        return loaded

    def held_by(self) -> str:
        """What keeps the gate closed, with figures; for messages."""
        held = [c for c in self.report()["criteria"] if c["verdict"] != "PASS" and not c["waived"]]
        return json.dumps([(c["criterion"], c["reason"], c["figures"]) for c in held])

    def criterion(self, name: str) -> dict[str, Any]:
        """One criterion of the report as of now."""
        found: dict[str, Any] = next(c for c in self.report()["criteria"] if c["criterion"] == name)
        return found


@dataclass(kw_only=True)
class Watchdog:
    """A running watchdog."""

    process: subprocess.Popen[bytes]
    window: Window

    def get(self, path: str) -> httpx.Response:
        """Ask its own server."""
        return httpx.get(f"http://127.0.0.1:{self.window.port}{path}", timeout=5)

    def phase(self, name: str) -> None:
        """Wait until it has entered a phase."""
        until(
            lambda: any(e["event"] == "phase" and e["phase"] == name for e in self.window.events()),
            f"the phase {name}; it printed: {(self.window.folder / 'watch.log').read_text()[-2000:]}",
            60,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(90)
