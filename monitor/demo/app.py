"""The ASGI application: one handler for each declared operation, the guard of its door in front of all.

Fails at start, not at a request, when an operation has no handler or a handler no operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from monitor.demo import reads, window, writes
from monitor.demo.guard import GuardedGateway
from monitor.demo.jobs import at_work
from monitor.demo.metrics import RequestCounter
from monitor.demo.operations import OFFERED, OPERATIONS, Door, Operation, operation_of
from monitor.demo.problems import ReadOnly, RejectedError, problem
from monitor.demo.services import Call, Services

Handler = Callable[[Call], Awaitable[Response]]

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "home": reads.home,
        "ask": reads.ask,
        "search": reads.search,
        "post_document": writes.post_document,
        "get_document": reads.get_document,
        "delete_document": writes.delete_document,
        "put_vector": writes.put_vector,
        "get_vector": writes.get_vector,
        "delete_vector": writes.delete_vector,
        "put_value": writes.put_value,
        "get_value": writes.get_value,
        "delete_value": writes.delete_value,
        "create_ticket": writes.create_ticket,
        "get_ticket": writes.get_ticket,
        "delete_ticket": writes.delete_ticket,
        "post_intent": writes.post_intent,
        "get_intent": writes.get_intent,
        "delete_intent": writes.delete_intent,
        "queue": window.queue,
        "jobs": window.jobs,
        "flag_a": window.flag_a,
        "flag_b": window.flag_b,
        "status_summary": window.status_summary,
        "status_active": window.status_active,
        "status_upcoming": window.status_upcoming,
        "banner": window.banner,
        "openapi": window.openapi,
        "metrics": window.metrics,
        "healthz": window.healthz,
        "read_only": window.read_only,
    }
)


class Doors:
    """ASGI: what comes in by the side door's port reaches the vector store alone, all else the gateway."""

    def __init__(self, *, front: ASGIApp, side: ASGIApp, side_port: int) -> None:
        self._front = front
        self._side = side
        self._side_port = side_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on by the port of the socket, which no header can change."""
        at_side = scope["type"] == "http" and scope["server"][1] == self._side_port
        await (self._side if at_side else self._front)(scope, receive, send)


def build_app(services: Services, *, side_port: int) -> ASGIApp:
    """Both doors over the same services; the background jobs live as long as the application."""
    jobs = {"backfill": services.backfill.work, "stock_sync": services.stock_sync.work}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        async with at_work(jobs):
            yield

    return Doors(
        front=_door(Door.FRONT, services, lifespan=lifespan),
        side=_door(Door.SIDE, services),
        side_port=side_port,
    )


def _door(door: Door, everything: Services, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    services = everything.at(door)
    app = Starlette(
        routes=[_route(operation, services) for operation in OFFERED[door]],
        middleware=[
            Middleware(RequestCounter, metrics=services.metrics),
            Middleware(GuardedGateway, guard=services.guard),
        ],
        exception_handlers=_exception_handlers(services),
        lifespan=lifespan,
    )
    # A redirect from `/kv/x/` would let a look-alike path seem to be guarded when it is not there.
    app.router.redirect_slashes = False
    return app


def _route(operation: Operation, services: Services) -> Route:
    handler = HANDLERS[operation.name]

    async def endpoint(request: Request) -> Response:
        return await handler(Call(request=request, operation=operation, services=services))

    return Route(operation.path, endpoint, methods=[operation.method], name=operation.name)


def _exception_handlers(
    services: Services,
) -> dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]:
    async def read_only(request: Request, error: Exception) -> Response:
        operation = operation_of(request.method, request.scope["path"])
        if operation is None:
            raise error
        return services.guard.refuse(operation)

    return {
        ReadOnly: read_only,
        RejectedError: _rejected,
        HTTPException: _http_error,
        Exception: _crashed,
    }


async def _rejected(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, RejectedError):
        raise error
    return problem(error.status, error.code, error.detail)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.scope["path"]
    offered = ", ".join(op.method for op in OPERATIONS if op.pattern.fullmatch(path))
    codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
    return problem(
        error.status_code,
        codes.get(error.status_code, "HTTP_ERROR"),
        f"{request.method} {path} is not offered",
        headers={"Allow": offered} if error.status_code == 405 else None,
    )


async def _crashed(request: Request, error: Exception) -> Response:
    del request, error
    return problem(500, "INTERNAL_ERROR", "the service failed to answer; its log says why")
