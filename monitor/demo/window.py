"""Handlers about the window: flag, notices, queue, jobs, metrics and the operator's switch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import HTMLResponse, JSONResponse, Response

from monitor.demo import notice
from monitor.demo.bodies import JSON, json_object
from monitor.demo.mode import Flag, Status, iso, parse_moment
from monitor.demo.openapi import document
from monitor.demo.pages import SHORT_LIVED, banner_page
from monitor.demo.problems import bad_request
from monitor.demo.services import Call

NO_STORE: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store"})
FIVE_SECONDS: Mapping[str, str] = MappingProxyType({"Cache-Control": "max-age=5"})


async def read_only(call: Call) -> Response:
    """`{"on", "closes"?}`: turns the mode, or moves the end of a window that is open."""
    body = await json_object(call.request)
    on = body.get("on")
    if not isinstance(on, bool):
        raise bad_request("'on' must be true or false")
    closes = _moment_of(body.get("closes"))
    mode = call.services.mode
    if on:
        mode.turn_on(closes=closes)
    else:
        mode.turn_off()
    known_end = None if mode.plan.closes is None else iso(mode.plan.closes)
    return JSONResponse({**_flag(mode.flag), "closes": known_end}, headers=NO_STORE)


async def flag_a(call: Call) -> Response:
    """`{"read_only", "version", "updated_at"}`."""
    return JSONResponse(_flag(call.services.mode.flag), headers=NO_STORE)


async def flag_b(call: Call) -> Response:
    """The same flag, from the second replica."""
    shown = _flag(call.services.mode.flag)
    if call.services.faults.replica_b_says_open():
        shown["read_only"] = False
    return JSONResponse(shown, headers=NO_STORE)


async def queue(call: Call) -> Response:
    """`{"depth", "oldest_seconds"}`; 0 seconds when nothing waits."""
    waiting = call.services.store.queue()
    now = call.services.clock.now().timestamp()
    oldest = 0.0 if waiting.oldest_at is None else max(0.0, now - waiting.oldest_at)
    body = {"depth": waiting.depth, "oldest_seconds": round(oldest, 3)}
    return JSONResponse(body, headers=NO_STORE)


async def jobs(call: Call) -> Response:
    """`{"embeddings_backfill": {"running": 0|1, "last_run": moment or null}}`."""
    job = call.services.backfill
    last_run = None if job.last_run is None else iso(job.last_run)
    shown = {"running": int(job.running), "last_run": last_run}
    return JSONResponse({"embeddings_backfill": shown}, headers=NO_STORE)


async def status_summary(call: Call) -> Response:
    """Statuspage v2 summary."""
    window = notice.current_window(call.services.mode)
    body = notice.summary(window, base_url=_base_url(call), now=call.services.clock.now())
    return JSONResponse(body, headers=FIVE_SECONDS)


async def status_active(call: Call) -> Response:
    """Statuspage v2 maintenances in progress."""
    return _maintenances(call, Status.IN_PROGRESS)


async def status_upcoming(call: Call) -> Response:
    """Statuspage v2 maintenances to come."""
    return _maintenances(call, Status.SCHEDULED)


async def banner(call: Call) -> Response:
    """The notice as a page."""
    page = banner_page(window=notice.current_window(call.services.mode))
    return HTMLResponse(page, headers=SHORT_LIVED)


async def openapi(call: Call) -> Response:
    """The OpenAPI document."""
    del call
    return JSONResponse(document())


async def metrics(call: Call) -> Response:
    """Prometheus text."""
    services = call.services
    depth = services.store.queue().depth
    services.metrics.show_state(read_only=services.mode.frozen, queue_depth=depth)
    return Response(generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def healthz(call: Call) -> Response:
    """`{"status": "ok"}` when the database answers."""
    call.services.store.queue()
    return JSONResponse({"status": "ok"}, headers=NO_STORE)


def _flag(flag: Flag) -> dict[str, JSON]:
    return {
        "read_only": flag.read_only,
        "version": flag.version,
        "updated_at": iso(flag.updated_at),
    }


def _moment_of(value: JSON) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad_request("'closes' must be an ISO 8601 moment")
    try:
        return parse_moment(value)
    except ValueError as error:
        raise bad_request(f"'closes': {error}") from error


def _maintenances(call: Call, status: Status) -> Response:
    window = notice.current_window(call.services.mode)
    body = notice.maintenances(window, status, base_url=_base_url(call), now=call.services.clock.now())
    return JSONResponse(body, headers=FIVE_SECONDS)


def _base_url(call: Call) -> str:
    # From the socket, not from the Host header, which anyone may write.
    host, port = call.request.scope["server"]
    return f"http://{host}:{port}"
