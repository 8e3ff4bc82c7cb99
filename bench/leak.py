"""How long from a leak to the webhook? Real service, real watchdog, real receiver; windows side by side."""

import json
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

FROZEN_FOR = 12.0
"""Seconds of sound refusals before the guard opens."""


def seconds_to_webhook(folder: Path, windows: int) -> list[float]:
    """One figure for each window; the guard of each opens at a random moment of the interval."""
    took: list[float] = []
    threads = []
    for number in range(windows):
        place = folder / str(number)
        place.mkdir()
        threads.append(threading.Thread(target=lambda p=place: took.append(_one(p))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _one(folder: Path) -> float:
    told = threading.Event()
    at: list[float] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if message["state"] == "firing" and message["cause"] == "guard":
                at.append(time.time())
                told.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    service = subprocess.Popen(
        [sys.executable, "-m", "monitor.demo.service", "--port", "0", "--exit-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert service.stdout is not None
    url = json.loads(service.stdout.readline())["url"]
    config = _window(folder, url, f"http://127.0.0.1:{hook.server_address[1]}/")
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "monitor", "watch", "--json", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        httpx.post(f"{url}/admin/read-only", json={"on": True})
        time.sleep(FROZEN_FOR + random.uniform(0, 5))
        opened = time.time()
        httpx.post(f"{url}/admin/read-only", json={"on": False})
        if not told.wait(20):
            raise SystemExit("the webhook was not told within 20 s")
        return at[0] - opened
    finally:
        watchdog.kill()
        watchdog.wait()
        service.kill()
        service.wait()
        hook.shutdown()


def _window(folder: Path, url: str, hook: str) -> Path:
    opens = time.time() + 2
    times = [datetime.fromtimestamp(t, UTC).isoformat() for t in (opens, opens + 60)]
    config = folder / "window.yaml"
    config.write_text(
        f"window: {{id: leak, opens: {times[0]}, closes: {times[1]}, baseline: 1s, soak: 1s, settle: 6s}}\n"
        "defaults: {every: 5s, timeout: 2s}\nlisten: 'off'\nwrites:\n"
        f'  - name: kv\n    http: {{method: PUT, url: "{url}/kv/${{canary}}", json: 1}}\n'
        f'    read_back: {{http: {{url: "{url}/kv/${{canary}}"}}}}\n'
        f'    undo: {{http: {{url: "{url}/kv/${{canary}}"}}}}\n'
        f"notify: [{{webhook: {{url: '{hook}'}}}}]\n"
    )
    return config
