"""What an alert is, and what a notifier does with it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One cause, firing or resolved. `since` and `resolved_at` are epoch seconds."""

    cause: str
    """The criterion that broke, or `watchdog`."""
    state: str
    """`firing` or `resolved`."""
    since: float
    action: str
    """The advised action: EXTEND, ROLL_BACK, or HOLD once resolved."""
    summary: str
    window_id: str
    window_title: str
    evidence: list[dict[str, Any]] = field(default_factory=list)
    resolved_at: float | None = None
    contact: str | None = None
    runbook: str | None = None
    fired_as: str = ""
    """The action with which it fires, or fired last."""
    formerly: str | None = None
    """The action with which it fired before, where that has changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """How telling went. `again` is true when trying again may help."""

    problem: str | None = None
    again: bool = False


class NotifierSpec(BaseModel):
    """The settings of one notifier; each kind has its own below it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def notifier(self, client: httpx.AsyncClient) -> "Notifier":
        """The notifier with these settings."""
        raise TypeError(f"{type(self).__name__} makes no notifier")


class Notifier(Protocol):
    """One way to tell people."""

    @property
    def name(self) -> str:
        """How it is called in records: kind and host, never a secret."""
        ...

    async def tell(self, alert: Alert) -> Delivery:
        """Tell once. Raises nothing that the other side can cause."""
        ...
