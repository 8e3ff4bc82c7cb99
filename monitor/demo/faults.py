"""The faults that the demo can be started with, and the one place that says when each acts.

A fault sleeps until the read-only mode is turned on for the first time. Each answers a question
that the service asks at the spot it breaks; none of them reaches into another part.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

from monitor.demo.mode import ReadOnlyMode
from monitor.demo.operations import Door, Operation

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "unguarded-endpoint": "PUT /kv/{key} still writes while frozen",
        "writes-behind-refusal": "PUT /v1/vectors/{id} answers a proper 503, yet writes",
        "no-retry-after": "refusals of POST /tools/create_ticket lack Retry-After",
        "read-errors": "from the freeze on, every fourth POST /ask answers 500",
        "slow-reads": "from the freeze on, reads take 400 ms more",
        "wrong-answers": "soon after the freeze, answers come from the wrong documents",
        "flag-off": "while frozen, the replica /flags/b says that writes are open",
        "reopen-broken": "after the window the flag says open, yet writes are still refused",
        "html-error": "while frozen, writes get the plain HTML 503 page of a stock proxy",
        "background-writer": "while frozen, a job with its own connection goes on writing stock levels",
        "side-door": "while frozen, the vector store's direct port lets writes through",
        "watchdog-killed": "the service is sound; whoever runs the demo stops the watchdog",
    }
)

WRONG_ANSWERS_AFTER_S = 0.1
SLOWER_BY_S = 0.4
ASKS_PER_ERROR = 4


class UnknownFaultError(ValueError):
    """A fault that is not in the table."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown fault {name!r}; known: {', '.join(FAULTS)}")


class Faults:
    """The chosen fault, or none, bound to the mode that wakes it."""

    def __init__(self, *, chosen: str | None, mode: ReadOnlyMode) -> None:
        if chosen is not None and chosen not in FAULTS:
            raise UnknownFaultError(chosen)
        self._chosen = chosen
        self._mode = mode
        self._asks = itertools.count(1)

    def lets_write_through(self, operation: Operation, door: Door) -> bool:
        """The guard forgets this operation, or stands at another door."""
        forgotten = self._while_frozen("unguarded-endpoint") and operation.name == "put_value"
        return forgotten or (self._while_frozen("side-door") and door is Door.SIDE)

    def writes_behind_refusal(self, operation: Operation, door: Door) -> bool:
        """The operation is applied and then answered as if it had been refused."""
        fits = operation.name == "put_vector" and door is Door.FRONT
        return fits and self._while_frozen("writes-behind-refusal")

    def hides_retry_after(self, operation: Operation) -> bool:
        """The refusal of this operation lacks the header."""
        return self._awake("no-retry-after") and operation.name == "create_ticket"

    def breaks_this_ask(self) -> bool:
        """Count one ask; True for every fourth since the freeze."""
        return self._awake("read-errors") and next(self._asks) % ASKS_PER_ERROR == 0

    def read_delay_s(self) -> float:
        """Seconds that a read waits before it is answered."""
        return SLOWER_BY_S if self._awake("slow-reads") else 0.0

    def misindexes(self) -> bool:
        """Retrieval maps what it finds to another document."""
        since = self._mode.seconds_since_first_freeze
        return self._awake("wrong-answers") and since is not None and since >= WRONG_ANSWERS_AFTER_S

    def replica_b_says_open(self) -> bool:
        """The second replica of the flag missed the change."""
        return self._while_frozen("flag-off")

    def guard_is_stuck(self) -> bool:
        """The guard missed that writes are open again."""
        return self._awake("reopen-broken")

    def syncs_stock(self) -> bool:
        """The sync of stock levels, which knows nothing of the mode, is at work."""
        return self._while_frozen("background-writer")

    def refuses_as_proxy(self) -> bool:
        """Refusals come from a stock proxy in front of the service."""
        return self._while_frozen("html-error")

    def _awake(self, name: str) -> bool:
        return self._chosen == name and self._mode.seconds_since_first_freeze is not None

    def _while_frozen(self, name: str) -> bool:
        return self._chosen == name and self._mode.frozen
