"""`/metrics`, `/healthz`, `/api/v1/gate` and `/api/v1/status` of a running watchdog. Reads only.

Runs in a thread with a loop of its own, so that a slow reader delays no probe. A closed gate answers 409,
so that even a client that looks at nothing but the status is held.
"""

import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from monitor.model import iso
from monitor.snapshot import STALLED, Snapshot


def application(
    registry: CollectorRegistry, snapshot: Callable[[], Snapshot], now: Callable[[], float]
) -> Starlette:
    """The ASGI application."""

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    def healthz(request: Request) -> Response:
        current = snapshot()
        age = now() - current.now
        if current.ledger_failing:
            return PlainTextResponse(f"the ledger takes no evidence: {current.ledger_failing}\n", 503)
        if age > STALLED:
            return PlainTextResponse(f"nothing was judged for {age:.0f} s\n", 503)
        return PlainTextResponse("ok\n")

    def gate(request: Request) -> Response:
        at = request.query_params.get("at", "close")
        if at not in ("close", "end"):
            return JSONResponse({"error": "at is close or end"}, 400)
        answer = snapshot().gate("close" if at == "close" else "end", now())
        return JSONResponse(
            answer.as_json(), 200 if answer.open else 409, headers={"Cache-Control": "no-store"}
        )

    def status(request: Request) -> Response:
        return JSONResponse(_status(snapshot()), headers={"Cache-Control": "no-store"})

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/api/v1/gate", gate),
            Route("/api/v1/status", status),
        ]
    )


def _status(current: Snapshot) -> dict[str, Any]:
    return {
        "at": iso(current.now),
        "phase": current.phase.value,
        "closes": iso(current.timeline.closes),
        "verdict": current.colour.value,
        "decision": current.decision.action.value,
        "criteria": {
            name: "WAIVED" if verdict.waived else verdict.status.value
            for name, verdict in current.verdicts.items()
        },
    }


class Server:
    """Serves an application in a thread of its own until `stop`."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._config = uvicorn.Config(
            app, host=host, port=port, log_level="critical", access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(self._config)
        self._socket: Any = None
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self.url: str | None = None

    def start(self) -> str | None:
        """Start; returns why it could not, or None. Never ends the watchdog."""
        try:
            self._socket = self._bind()
        except OSError as error:
            return f"{self._config.host}:{self._config.port}: {error.strerror or error}"
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._thread.start()
        return None

    def _bind(self) -> Any:
        import socket

        family = socket.AF_INET6 if ":" in self._config.host else socket.AF_INET
        # asyncio sets TCP_NODELAY only on a socket that says it is TCP
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((self._config.host, self._config.port))
        except OSError:
            made.close()
            raise
        return made

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Stop, and wait for it."""
        if self._thread.is_alive():
            self._server.should_exit = True
            self._thread.join(5)
        if self._socket is not None:
            self._socket.close()
