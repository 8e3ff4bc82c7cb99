"""Every metric name of the demo service, on a registry that is passed in.

Measures requests as ASGI middleware. Labels are bounded: a path that is no declared operation
counts as `unmatched`, a method that none of them uses as `other`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.demo.operations import OPERATIONS, Surface, operation_of

_METHODS = frozenset(operation.method for operation in OPERATIONS) | {"HEAD"}


class Metrics:
    """The service's counters and gauges."""

    def __init__(self, *, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "demo_requests_total",
            "Requests answered, by path template, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._applied = _by_surface("demo_writes_applied_total", "Writes that changed stored data.", registry)
        self._blocked = _by_surface(
            "demo_writes_blocked_total", "Writes refused by the read-only guard.", registry
        )
        self._read_only = Gauge("demo_read_only", "1 while the read-only flag is on.", registry=registry)
        self._queue_depth = Gauge(
            "demo_queue_depth", "Intents queued and not yet applied.", registry=registry
        )

    def answered(self, *, route: str, method: str, status: int) -> None:
        """Count one answered request."""
        self._requests.labels(route=route, method=method, status=str(status)).inc()

    def applied(self, surface: Surface, *, count: int = 1) -> None:
        """Count writes that took effect."""
        self._applied.labels(surface=surface).inc(count)

    def blocked(self, surface: Surface) -> None:
        """Count one refused write."""
        self._blocked.labels(surface=surface).inc()

    def show_state(self, *, read_only: bool, queue_depth: int) -> None:
        """Set the gauges before a scrape."""
        self._read_only.set(int(read_only))
        self._queue_depth.set(queue_depth)


class RequestCounter:
    """ASGI middleware: counts every answer, also the one of a handler that crashed."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count the status it was answered with."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            operation = operation_of(scope["method"], scope["path"])
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = operation.path if operation else "unmatched"
            self._metrics.answered(route=route, method=method, status=status)


def _by_surface(name: str, text: str, registry: CollectorRegistry) -> Counter:
    counter = Counter(name, text, ["surface"], registry=registry)
    for surface in Surface:
        counter.labels(surface=surface)
    return counter
