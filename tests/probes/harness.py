"""Real servers on 127.0.0.1 that say what a script says, byte by byte; a store to write to; nginx."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from probes.answer import Answer
from probes.base import Run

AGENT = "freezewatch/test (window)"
OPENS = 1_795_471_200.0
NGINX = "/usr/sbin/nginx"


# -- what a script says ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Pause:
    """Say nothing for so many seconds."""

    seconds: float


class Close:
    """Close the connection."""


class Reset:
    """Break the connection off with a TCP reset."""


Step = bytes | Pause | Close | Reset


@dataclass(frozen=True)
class Asked:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


Script = Callable[[Asked], "Step | Sequence[Step]"]


def http(
    status: int = 200,
    body: bytes | str | None = None,
    *headers: tuple[str, str],
    json_: object = None,
    length: bool = True,
) -> bytes:
    """A well-formed answer."""
    if json_ is not None:
        body, headers = json.dumps(json_), (("Content-Type", "application/json"), *headers)
    content = body.encode() if isinstance(body, str) else body or b""
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    if length:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def refusal(status: int = 503, code: str = "read_only", retry_after: str | None = "600") -> bytes:
    """A refusal as promised."""
    headers = [("Retry-After", retry_after)] if retry_after is not None else []
    return http(status, None, *headers, json_={"error": {"code": code}})


class Server:
    """A thread a connection, blocking sockets: nothing here shares the loop of what is tested."""

    def __init__(
        self, script: Script, *, tls: ssl.SSLContext | None = None, tls_pause: float = 0.0, backlog: int = 512
    ) -> None:
        self._script, self._tls, self._tls_pause = script, tls, tls_pause
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[Asked] = []
        self.connections = 0
        self.most_at_once = self._at_once = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def count(self, method: str) -> int:
        return sum(asked.method == method for asked in self.asked)

    def start(self) -> Server:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Close every open connection, as a server does that has been idle for too long."""
        with self._lock:
            open_now, self._open = self._open, []
        for connection in open_now:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def say_unasked(self, data: bytes) -> None:
        """Send `data` on every open connection, which nobody asked for."""
        for connection in list(self._open):
            connection.sendall(data)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.append(connection)
                number = self.connections
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                self._stopping.wait(self._tls_pause)
                connection = self._tls.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rb")
            while (asked := _read_request(stream, number)) is not None:
                with self._lock:
                    self.asked.append(asked)
                    self._at_once += 1
                    self.most_at_once = max(self.most_at_once, self._at_once)
                said = self._script(asked)
                *before, last = [said] if isinstance(said, bytes | Pause | Close | Reset) else said
                going_on = self._say(connection, before)
                with self._lock:  # once the last of it is said, the next question may come
                    self._at_once -= 1
                if not (going_on and self._say(connection, [last])):
                    return

    def _say(self, connection: socket.socket, steps: Sequence[Step]) -> bool:
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif isinstance(step, Pause):
                self._stopping.wait(step.seconds)
            else:
                if isinstance(step, Reset):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
                with self._lock, contextlib.suppress(ValueError):
                    self._open.remove(connection)
                return False
        return True


def _read_request(stream: object, number: int) -> Asked | None:
    first = stream.readline().decode("latin-1").split()  # type: ignore[attr-defined]
    if len(first) < 2:
        return None
    headers = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):  # type: ignore[attr-defined]
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = stream.read(length) if length else b""  # type: ignore[attr-defined]
    return Asked(method=first[0], target=first[1], headers=headers, body=body, connection=number)


# -- a store to write to --------------------------------------------------------------------------


@dataclass
class Store:
    """A store behind a guard: PUT writes, GET reads back, DELETE undoes, each as told."""

    put: Script = lambda asked: http(201)
    applies: bool = True
    look: Script | None = None
    delete: Script | None = None
    late: int = 0
    """Read-backs that do not show a write yet."""
    items: set[str] = field(default_factory=set)
    looks: dict[str, int] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Step | Sequence[Step]:
        if asked.method == "GET":
            return self._look(asked)
        if asked.method == "DELETE":
            if self.delete is not None:
                return self.delete(asked)
            self.items.discard(asked.target)
            return http(204)
        if self.applies:
            self.items.add(asked.target)
        return self.put(asked)

    def _look(self, asked: Asked) -> Step | Sequence[Step]:
        if self.look is not None:
            return self.look(asked)
        self.looks[asked.target] = self.looks.get(asked.target, 0) + 1
        shown = asked.target in self.items and self.looks[asked.target] > self.late
        return http(200, json_={"id": "it is here"}) if shown else http(404)


def frozen(slot: float = OPENS, *, freezing: bool = False) -> Run:
    return Run(slot=slot, phase="freezing" if freezing else "frozen", frozen=True, freezing=freezing)


def opened(slot: float = OPENS) -> Run:
    return Run(slot=slot, phase="soak", frozen=False)


def said(
    status: int = 503, body: bytes | str = b"", *headers: tuple[str, str], json_: object = None
) -> Answer:
    """An answer as the transport would give it, for the pure functions."""
    if json_ is not None:
        body, headers = json.dumps(json_), (("Content-Type", "application/json"), *headers)
    return Answer(status=status, headers=list(headers), body=body.encode() if isinstance(body, str) else body)


# -- programs -------------------------------------------------------------------------------------


def needed(program: str) -> str:
    """The path of a program, without which the test is skipped here and fails on CI."""
    found = shutil.which(program) or (program if Path(program).is_file() else None)
    if found is None:
        message = f"this test needs the program {program}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-made certificate for `name`, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    kind = "IP" if name[0].isdigit() else "DNS"
    made = ["-keyout", str(key), "-out", str(cert), "-nodes", "-days", "2"]
    named = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={kind}:{name}"]
    how = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        [needed("openssl"), *how, *made, *named],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


@contextlib.contextmanager
def nginx(folder: Path, server: str) -> Iterator[str]:
    """nginx with `server` as the inside of its one server block; gives its address."""
    program, port = needed(NGINX), free_port()
    (folder / "nginx.conf").write_text(
        f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; default_type application/octet-stream;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; {server} }} }}"""
    )
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log")]
    )
    try:
        ends = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > ends:
                pytest.fail(f"nginx did not start: {(folder / 'start.log').read_text()[-500:]}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
