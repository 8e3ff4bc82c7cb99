"""The guard: no write while the service is read-only, held at the gateway and at the store.

The gateway refuses by the declared operation, before a body is read; every mutating store method
asks a WriteGate again, so a request that slips past the gateway still changes nothing. Reads, even
those that are POSTs, and intents that only queue always pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.demo.faults import Faults
from monitor.demo.metrics import Metrics
from monitor.demo.mode import ReadOnlyMode, iso
from monitor.demo.operations import Door, Effect, Operation, operation_of
from monitor.demo.problems import ReadOnly, problem

CODE = "READ_ONLY_WINDOW"

PROXY_PAGE = """<html>
<head><title>503 Service Temporarily Unavailable</title></head>
<body>
<center><h1>503 Service Temporarily Unavailable</h1></center>
<hr><center>nginx</center>
</body>
</html>
"""


@dataclass(frozen=True, kw_only=True)
class WriteGate:
    """What a mutating store method must pass; it asks anew each time."""

    closed: Callable[[], bool]

    def check(self) -> None:
        """Raise ReadOnly when writes are not allowed at this moment."""
        if self.closed():
            raise ReadOnly("writes are paused")


ALWAYS_OPEN = WriteGate(closed=lambda: False)


class Guard:
    """Decides which operations may write now at one door, and words every refusal."""

    def __init__(
        self, *, mode: ReadOnlyMode, faults: Faults, metrics: Metrics, door: Door = Door.FRONT
    ) -> None:
        self.door = door
        self._mode = mode
        self._faults = faults
        self._metrics = metrics
        self._requests_gate = WriteGate(closed=self._shut)
        self.jobs_gate = WriteGate(closed=lambda: mode.frozen)

    def gate_for(self, operation: Operation) -> WriteGate:
        """The gate that a request of this operation carries to the store."""
        leaks = self._lets_through(operation) or self.applies_unseen(operation)
        return ALWAYS_OPEN if leaks else self._requests_gate

    def stops(self, operation: Operation) -> bool:
        """True when the gateway must refuse this operation."""
        if operation.effect is not Effect.WRITE or self._lets_through(operation):
            return False
        return self._shut()

    def applies_unseen(self, operation: Operation) -> bool:
        """True when a refused operation is applied all the same."""
        return self._faults.writes_behind_refusal(operation, self.door)

    def refuse(self, operation: Operation) -> Response:
        """The refusal of one write: 503, Retry-After and a stable code."""
        if operation.surface is not None:
            self._metrics.blocked(operation.surface)
        if self._faults.refuses_as_proxy():
            return HTMLResponse(PROXY_PAGE, 503)
        headers = {"Cache-Control": "no-store", "Retry-After": str(self._mode.retry_after())}
        if self._faults.hides_retry_after(operation):
            del headers["Retry-After"]
        return self._refusal(headers)

    def _refusal(self, headers: dict[str, str]) -> Response:
        closes = self._mode.plan.closes
        until = f"until {iso(closes)}" if closes else "for maintenance"
        return problem(
            503,
            CODE,
            f"Writes are paused {until}; reading keeps working. Nothing was changed.",
            title="Read-only maintenance window",
            kind="read-only",
            headers=headers,
        )

    def _lets_through(self, operation: Operation) -> bool:
        return self._faults.lets_write_through(operation, self.door)

    def _shut(self) -> bool:
        return self._mode.frozen or self._faults.guard_is_stuck()


class GuardedGateway:
    """ASGI middleware: refuses declared mutating operations before they reach the service."""

    def __init__(self, app: ASGIApp, *, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        operation = self._operation(scope) if scope["type"] == "http" else None
        if operation is None or not self._guard.stops(operation):
            await self._app(scope, receive, send)
            return
        if self._guard.applies_unseen(operation):
            await self._app(scope, receive, _discard)
        await self._guard.refuse(operation)(scope, receive, send)

    def _operation(self, scope: Scope) -> Operation | None:
        return operation_of(scope["method"], scope["path"], door=self._guard.door)


async def _discard(message: Message) -> None:
    del message
