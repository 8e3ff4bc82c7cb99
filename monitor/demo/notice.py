"""What the service tells the public about the window: one maintenance in Statuspage v2 shape.

Pure: built from the mode's announcements, so page, banner and status can never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from monitor.demo.bodies import JSON
from monitor.demo.mode import Announcement, Plan, ReadOnlyMode, Status, iso

NAME = "Rebuild of the help centre's search index"
CONTACT = "search-oncall@harbour-and-pine.example"
ROLLBACK_PLAN = "https://runbooks.harbour-and-pine.example/search-index#rollback"
ROLLBACK_SUMMARY = "the previous index is kept and switched back within 5 minutes"
MAINTENANCE_ID = "hp-search-index"
COMPONENT_ID = "hp-help-centre"


@dataclass(frozen=True, kw_only=True)
class Window:
    """The window as the public sees it."""

    status: Status
    plan: Plan
    announcements: tuple[Announcement, ...]


def current_window(mode: ReadOnlyMode) -> Window | None:
    """The window that is planned, open or over; None when none was ever announced."""
    if not mode.announcements:
        return None
    latest = mode.announcements[-1]
    return Window(status=latest.status, plan=mode.plan, announcements=mode.announcements)


def sentence(announcement: Announcement) -> str:
    """One announcement in words, with its times, the contact and the rollback plan."""
    how_back = f"Rollback plan: {ROLLBACK_SUMMARY}, see {ROLLBACK_PLAN}."
    return f"{headline(announcement)} Contact: {CONTACT}. {how_back}"


def headline(announcement: Announcement) -> str:
    """What one announcement says about the window, with the times known then."""
    opens, closes = announcement.plan.opens, announcement.plan.closes
    times = f"from {_said(opens)} to {_said(closes)}"
    if announcement.status is Status.COMPLETED:
        return f"The read-only window planned {times} is over. Writes are accepted again."
    if announcement.status is Status.SCHEDULED:
        return f"The help centre will be read-only {times}. Asking and searching keep working."
    if announcement.extended:
        return f"The read-only window is extended: it now lasts {times}. Reading keeps working."
    return f"The help centre is read-only {times}. Asking and searching keep working."


def summary(window: Window | None, *, base_url: str, now: datetime) -> dict[str, JSON]:
    """The body of `/api/v2/summary.json`, the one maintenance in it whatever its status."""
    busy = window is not None and window.status is Status.IN_PROGRESS
    maintenances: list[JSON] = [] if window is None else [_maintenance(window)]
    return {
        "page": _page(window, base_url, now),
        "components": [_component(busy=busy)],
        "incidents": [],
        "scheduled_maintenances": maintenances,
        "status": {
            "indicator": "maintenance" if busy else "none",
            "description": "Service Under Maintenance" if busy else "All Systems Operational",
        },
    }


def maintenances(window: Window | None, status: Status, *, base_url: str, now: datetime) -> dict[str, JSON]:
    """The body of `/api/v2/scheduled-maintenances/….json`: those in one status."""
    found: list[JSON] = []
    if window is not None and window.status is status:
        found.append(_maintenance(window))
    return {"page": _page(window, base_url, now), "scheduled_maintenances": found}


def _page(window: Window | None, base_url: str, now: datetime) -> dict[str, JSON]:
    return {
        "id": "harbour-and-pine",
        "name": "Harbour & Pine",
        "url": f"{base_url}/banner",
        "time_zone": "Etc/UTC",
        "updated_at": iso(window.announcements[-1].at if window else now),
    }


def _component(*, busy: bool) -> dict[str, JSON]:
    return {
        "id": COMPONENT_ID,
        "name": "Help centre",
        "status": "under_maintenance" if busy else "operational",
    }


def _maintenance(window: Window) -> dict[str, JSON]:
    first, latest = window.announcements[0], window.announcements[-1]
    started = _first_time(window, Status.IN_PROGRESS)
    resolved = latest.at if window.status is Status.COMPLETED else None
    return {
        "id": MAINTENANCE_ID,
        "name": NAME,
        "status": window.status,
        "impact": "maintenance",
        "page_id": "harbour-and-pine",
        "created_at": iso(first.at),
        "updated_at": iso(latest.at),
        "started_at": _iso_or_none(started),
        "resolved_at": _iso_or_none(resolved),
        "scheduled_for": _iso_or_none(window.plan.opens),
        "scheduled_until": _iso_or_none(window.plan.closes),
        "components": [_component(busy=window.status is Status.IN_PROGRESS)],
        "incident_updates": [
            _update(number, announcement)
            for number, announcement in reversed(list(enumerate(window.announcements, start=1)))
        ],
    }


def _update(number: int, announcement: Announcement) -> JSON:
    at = iso(announcement.at)
    return {
        "id": f"{MAINTENANCE_ID}-{number}",
        "incident_id": MAINTENANCE_ID,
        "status": announcement.status,
        "body": sentence(announcement),
        "created_at": at,
        "display_at": at,
        "updated_at": at,
    }


def _first_time(window: Window, status: Status) -> datetime | None:
    return next((said.at for said in window.announcements if said.status is status), None)


def _said(moment: datetime | None) -> str:
    return "a time to be announced" if moment is None else iso(moment)


def _iso_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)
