"""An event loop that knows when it noticed things, so that its own delay is never booked as the target's.

Bytes wait in the kernel while the loop runs other callbacks. When `select` returns at once, they may
have arrived at any moment since the previous return; an honest clock takes that earliest moment and
books the rest as `own` time. When `select` had to wait, they arrived just now.
"""

import asyncio
import selectors
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any

WAITED = 20e-6
"""A `select` that took longer than this (seconds) had to wait: nothing was ready before it."""


class StampedSelector(selectors.DefaultSelector):
    """Remembers when `select` last returned, and since when what it returned may have been ready."""

    def __init__(self) -> None:
        super().__init__()
        self.returned = self.ready_since = perf_counter()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As `selectors.BaseSelector.select`, stamped."""
        asked = perf_counter()
        events: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        now = perf_counter()
        self.ready_since = now if now - asked > WAITED else self.returned
        self.returned = now
        return events


class Timeline:
    """The moments of one exchange, each split into the target's share and our own.

    `phases` maps names (`dns`, `connect`, `tls`, `first_byte`, `body`, `own`) to seconds.
    """

    __slots__ = ("_last", "phases")

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self._last = perf_counter()

    def restart(self) -> None:
        """Begin a phase now: what went before since the last mark was our own doing."""
        self._last = perf_counter()

    def mark(self, phase: str, ready_since: float | None) -> None:
        """End `phase` now. `ready_since` is the selector's stamp, None when it is not known."""
        now = perf_counter()
        arrived = now if ready_since is None else min(now, max(self._last, ready_since))
        self.phases[phase] = self.phases.get(phase, 0.0) + arrived - self._last
        if now > arrived:
            self.phases["own"] = self.phases.get("own", 0.0) + now - arrived
        self._last = now

    @property
    def target_s(self) -> float:
        """Seconds that the target and the way to it took."""
        return sum(self.phases.values()) - self.phases.get("own", 0.0)


TIMELINE: ContextVar[Timeline | None] = ContextVar("TIMELINE", default=None)


class ProbeLoop(asyncio.SelectorEventLoop):
    """The loop on which probes run. It marks connect and TLS on the timeline of whoever connects."""

    def __init__(self) -> None:
        self.stamps = StampedSelector()
        super().__init__(self.stamps)

    def mark(self, phase: str) -> None:
        """End `phase` on the current timeline, if there is one."""
        timeline = TIMELINE.get()
        if timeline is not None:
            timeline.mark(phase, self.stamps.ready_since)

    async def create_connection(self, protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        """As asyncio's; a socket that comes in is connected already, so TLS is what is left."""
        secured = isinstance(kwargs.get("ssl"), ssl.SSLContext)
        if kwargs.get("sock") is not None:
            self.mark("connect")
        made = await super().create_connection(protocol_factory, *args, **kwargs)
        if secured:
            self.mark("tls")
        return made


def mark(phase: str) -> None:
    """End `phase` on the current timeline, by the running loop's stamps where it has them."""
    loop = asyncio.get_running_loop()
    timeline = TIMELINE.get()
    if timeline is not None:
        timeline.mark(phase, loop.stamps.ready_since if isinstance(loop, ProbeLoop) else None)
