"""Runs the demo service as a process of its own: `python -m monitor.demo.service`.

Binds to two ports of 127.0.0.1 only, the gateway's and the vector store's direct one, says where in
one line of JSON on stdout once it serves, and leaves nothing behind: a data directory that it made
itself is removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType

import uvicorn

from monitor.demo.app import build_app
from monitor.demo.faults import FAULTS, UnknownFaultError
from monitor.demo.mode import Plan, parse_moment
from monitor.demo.services import build_services

HOST = "127.0.0.1"
GRACE_S = 2


class AnnouncedServer(uvicorn.Server):
    """A server that says on stdout when it is ready to serve."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start on two sockets, then print `{"url", "vectors_url", "pid"}`."""
        await super().startup(sockets)
        if self.started and sockets:
            url, vectors_url = (f"http://{HOST}:{_port_of(listener)}" for listener in sockets)
            print(json.dumps({"url": url, "vectors_url": vectors_url, "pid": os.getpid()}), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or, when asked, the end of stdin."""
    parser = _parser()
    options = parser.parse_args(arguments)
    plan = Plan(opens=options.opens, closes=options.closes)
    if plan.opens and plan.closes and plan.closes <= plan.opens:
        parser.error(f"--closes {options.closes} must come after --opens {options.opens}")
    if options.port and options.port == options.vectors_port:
        parser.error(f"--vectors-port {options.vectors_port} must be another one than --port")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with (
        _data_directory(options.data) as data,
        _bound_socket(parser, "--port", options.port) as front,
        _bound_socket(parser, "--vectors-port", options.vectors_port) as side,
    ):
        services = build_services(data=data, fault=options.fault, plan=plan)
        try:
            server = AnnouncedServer(
                uvicorn.Config(
                    build_app(services, side_port=_port_of(side)),
                    access_log=False,
                    log_level="warning",
                    server_header=False,
                    timeout_graceful_shutdown=GRACE_S,
                )
            )
            if options.exit_with_stdin:
                threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
            server.run(sockets=[front, side])
        finally:
            services.database.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monitor.demo.service",
        description="A question-answering service to freeze, to break and to watch.",
        epilog="faults: " + "; ".join(f"{name}: {what}" for name, what in FAULTS.items()),
    )
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free port (default)")
    parser.add_argument(
        "--vectors-port", type=_port, default=0, help="the vector store's direct port; 0 takes a free one"
    )
    parser.add_argument("--fault", type=_fault, metavar="NAME", help="break one thing, see below")
    parser.add_argument("--data", type=Path, metavar="DIR", help="default: a temporary directory")
    parser.add_argument("--opens", type=_moment, metavar="ISO", help="planned start of the window")
    parser.add_argument("--closes", type=_moment, metavar="ISO", help="planned end of the window")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when stdin closes")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port: 0 to 65535")
    return port


def _fault(name: str) -> str:
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(str(UnknownFaultError(name)))
    return name


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _leave(number: int, frame: FrameType | None) -> None:
    # uvicorn raises the signal again once it has shut down; without a handler that leaves through
    # the stack, the process would end there and keep its temporary directory.
    del number, frame
    sys.exit(0)


@contextlib.contextmanager
def _data_directory(asked: Path | None) -> Iterator[Path]:
    if asked is not None:
        asked.mkdir(parents=True, exist_ok=True)
        yield asked
        return
    with tempfile.TemporaryDirectory(prefix="freezewatch-demo-") as made:
        yield Path(made)


@contextlib.contextmanager
def _bound_socket(parser: argparse.ArgumentParser, option: str, port: int) -> Iterator[socket.socket]:
    # Named as TCP, or asyncio would not set TCP_NODELAY and each answer would wait 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            parser.error(f"cannot listen on port {port}: {error.strerror}; take {option} 0")
        yield listener


def _port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    while sys.stdin is not None and os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True


if __name__ == "__main__":
    main()
