"""An exporter as a process of its own, that is told over POST what to count, and can be killed."""

from __future__ import annotations

import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import httpx

from ..harness import free_port


class Page(BaseHTTPRequestHandler):
    counters: ClassVar[dict[str, float]] = {}
    started = 1_795_000_000.0
    stamped = False
    """Samples bear a time of their own: Prometheus then shows them for five minutes after they end."""

    def do_GET(self) -> None:
        stamp = f" {int(time.time() * 1000)}" if self.stamped else ""
        lines = ["# TYPE writes_total counter"]
        lines += [f'writes_total{{table="{name}"}} {value!r}{stamp}' for name, value in self.counters.items()]
        lines += [f"process_start_time_seconds {self.started!r}", "up_and_down 3"]
        self._say("\n".join([*lines, ""]).encode())

    def do_POST(self) -> None:
        verb, _, rest = self.path.strip("/").partition("/")
        if verb == "add":
            name, by = rest.split("/")
            self.counters[name] = self.counters.get(name, 0.0) + float(by)
        elif verb == "restart":
            Page.started += 100.0
            for name in self.counters:
                self.counters[name] = 0.0
        elif verb == "stamp":
            Page.stamped = True
        elif verb == "forget":
            del self.counters[rest]
        self._say(b"")

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Exporter:
    """The process, and what tells it what to count."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", __name__, str(self.port)])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx.get(self.url, timeout=1, trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the exporter did not start")

    def tell(self, what: str) -> None:
        httpx.post(f"{self.url}/{what}", timeout=5, trust_env=False).raise_for_status()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
