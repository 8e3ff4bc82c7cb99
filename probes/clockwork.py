"""An event loop that knows when it noticed things, so that its own delay is never booked as the target's.

Bytes wait in the kernel while the loop runs other callbacks. When they are there as soon as it asks, they
may have arrived at any moment since it last asked; an honest clock takes that earliest moment and books
the rest as `own` time. When it had to wait for them, they arrived just now. The moment is kept for each
descriptor, since the task that wants to know runs an iteration or more later.
"""

import asyncio
import selectors
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any


class StampedSelector(selectors.DefaultSelector):
    """Remembers when `select` last returned, and since when what it returned may have been ready."""

    def __init__(self) -> None:
        super().__init__()
        self.returned = self.ready_since = perf_counter()
        self._since: dict[int, float] = {}
        self._writable: set[int] = set()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As `selectors.BaseSelector.select`, stamped."""
        events: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            self.ready_since = self.returned
            self.returned = perf_counter()
        else:
            events = super().select(timeout)
            self.ready_since = self.returned = perf_counter()
        writable = {key.fd for key, mask in events if mask == selectors.EVENT_WRITE}
        for key, _ in events:
            # A socket that stays writable is reported each time, until somebody stops to look.
            if key.fd not in writable or key.fd not in self._writable:
                self._since[key.fd] = self.ready_since
        self._writable = writable
        return events

    def since(self, descriptor: int | None) -> float:
        """Since when the last thing on `descriptor` may have been there; without one, on any."""
        return self.ready_since if descriptor is None else self._since.get(descriptor, self.ready_since)


class Timeline:
    """The moments of one exchange, each split into the target's share and our own.

    `phases` maps names (`dns`, `connect`, `tls`, `first_byte`, `body`, `own`) to seconds.
    """

    __slots__ = ("_last", "descriptor", "peer", "phases", "reused", "waiting")

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self._last = perf_counter()
        self.descriptor: int | None = None
        """The socket in use, once there is one."""
        self.peer = ""
        self.reused = False
        """True on a connection that was kept alive."""
        self.waiting = "the connection"

    def restart(self) -> None:
        """Begin a phase now: what went before since the last mark was our own doing."""
        now = perf_counter()
        self.phases["own"] = self.phases.get("own", 0.0) + now - self._last
        self._last = now

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

    async def create_connection(self, protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        """As asyncio's; a socket that comes in is connected already, so TLS is what is left."""
        timeline, sock = TIMELINE.get(), kwargs.get("sock")
        if timeline is None or sock is None:
            return await super().create_connection(protocol_factory, *args, **kwargs)
        descriptor = sock.fileno()
        timeline.mark("connect", self.stamps.since(descriptor))
        if not isinstance(kwargs.get("ssl"), ssl.SSLContext):
            return await super().create_connection(protocol_factory, *args, **kwargs)
        timeline.waiting = "the TLS handshake"
        made = await super().create_connection(protocol_factory, *args, **kwargs)
        timeline.mark("tls", self.stamps.since(descriptor))
        return made


def mark(phase: str) -> None:
    """End `phase` on the current timeline, by the running loop's stamps where it has them."""
    loop = asyncio.get_running_loop()
    timeline = TIMELINE.get()
    if timeline is not None:
        stamps = loop.stamps if isinstance(loop, ProbeLoop) else None
        timeline.mark(phase, stamps.since(timeline.descriptor) if stamps else None)
