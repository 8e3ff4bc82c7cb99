"""Starts the demo service as a real process and speaks to it; nothing here asserts but refusals."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from monitor.demo.operations import OFFERED, OPERATIONS, Door, Effect, Operation, Surface
from monitor.demo.services import Services, build_services

ROOT = Path(__file__).parents[2]
CANARY = "freezewatch-canary"
MUTATIONS = tuple(operation for operation in OPERATIONS if operation.effect is Effect.WRITE)
AT_THE_SIDE = tuple(operation for operation in MUTATIONS if operation in OFFERED[Door.SIDE])
BODIES: dict[str, object] = {
    "put_vector": {"values": [0.5, 1]},
    "put_value": {"any": ["json", None]},
    "post_document": {"id": CANARY, "title": "Canary", "text": "Thirty days to return a tent."},
    "create_ticket": {"id": CANARY, "title": "Canary"},
}
READ_BACKS = {
    Surface.VECTORS: f"/v1/vectors/{CANARY}",
    Surface.KV: f"/kv/{CANARY}",
    Surface.DOCUMENTS: f"/documents/{CANARY}",
    Surface.TICKETS: f"/tools/tickets/{CANARY}",
    Surface.INTENTS: f"/intents/{CANARY}",
}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A running service: its process, and a client bound to each of its doors."""

    process: subprocess.Popen[str]
    http: httpx.Client
    side: httpx.Client

    def at(self, door: Door) -> httpx.Client:
        return self.side if door is Door.SIDE else self.http

    def freeze(self, **closes: str) -> None:
        self.http.post("/admin/read-only", json={"on": True, **closes}).raise_for_status()

    def reopen(self) -> None:
        self.http.post("/admin/read-only", json={"on": False}).raise_for_status()

    def ask(self, question: str) -> httpx.Response:
        return self.http.post("/ask", json={"q": question})

    def attempt(self, operation: Operation, door: Door = Door.FRONT, **headers: str) -> httpx.Response:
        path = operation.path.replace("{id}", CANARY).replace("{key}", CANARY)
        body = BODIES.get(operation.name)
        return self.at(door).request(operation.method, path, json=body, headers=headers)

    def metric(self, sample: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(sample + " "))


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Demo]:
    command = [sys.executable, "-m", "monitor.demo.service", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            assert ready["pid"] == process.pid
            with (
                httpx.Client(base_url=ready["url"], timeout=10) as http,
                httpx.Client(base_url=ready["vectors_url"], timeout=10) as side,
            ):
                yield Demo(process=process, http=http, side=side)
        finally:
            process.terminate()
            process.wait(10)


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 22, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@contextlib.contextmanager
def parts(data: Path, *, fault: str | None = None) -> Iterator[tuple[Services, FakeClock]]:
    clock = FakeClock()
    services = build_services(data=data, fault=fault, clock=clock)
    try:
        yield services, clock
    finally:
        services.database.close()


def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
    return False


def named(name: str) -> Operation:
    return next(operation for operation in OPERATIONS if operation.name == name)


def assert_proper_refusal(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["retry-after"]) >= 1
    assert response.json() == response.json() | {
        "type": "https://freezewatch.dev/problems/read-only",
        "title": "Read-only maintenance window",
        "status": 503,
        "code": "READ_ONLY_WINDOW",
        "error": {"code": "READ_ONLY_WINDOW"},
    }
