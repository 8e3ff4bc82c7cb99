"""What two states of a queue say was done to it in between. Pure.

Two kinds of records. *Depth* alone, asked over AMQP: exact at the moment, and blind to what came and went.
*Counters*, from the management API: they count every publish and acknowledgement, seconds late, and begin
anew with the node. With counters the books can be balanced: messages minus publishes plus acknowledgements
stays the same, unless messages came without a publish or went without an acknowledgement.
"""

from dataclasses import dataclass, field
from typing import Any

from probes.audit.reading import Change
from probes.stores.amqp import Depth


@dataclass(slots=True)
class Found:
    """What was done to one queue."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: str | None = None


def by_depth(name: str, before: Depth, now: Depth) -> Found:
    """Growth is a write. With consumers, or after a fall, what was written in between cannot be told."""
    if now.ready > before.ready:
        return Found(changes=[Change(what=name, operation="message", count=now.ready - before.ready)])
    if now.ready < before.ready:
        fell = before.ready - now.ready
        return Found(
            unknown=f"{name}: {fell} fewer messages: consumed, purged or expired, and what was written in the"
            " meantime is hidden by it; name `management`, which counts both"
        )
    consumers = max(before.consumers, now.consumers)
    if consumers:
        return Found(
            unknown=f"{name} has consumers ({consumers}): what was written and consumed between two readings"
            " is not seen in its depth; name `management`, which counts it"
        )
    return Found()


@dataclass(slots=True)
class Books:
    """A queue as the management API counts it."""

    messages: int
    published: int
    settled: int
    """Acknowledged, or delivered to somebody who need not acknowledge."""
    delivered: int
    node: str = ""
    started: float | None = None
    """When its node was started (epoch seconds), where that may be asked."""
    drops: bool = False
    """It lets messages expire, or drops the oldest when it is full."""
    balance: int = 0
    """Of the books, as they were last found to be at rest."""
    off: int | None = None
    """Another balance, which may be nothing but counters that come late."""
    off_since: float = 0.0

    @property
    def counted(self) -> int:
        """The balance by the counts of this reading."""
        return self.messages - self.published + self.settled

    def packed(self) -> list[Any]:
        """As it stands in a mark."""
        counts = [self.messages, self.published, self.settled, self.delivered]
        return [*counts, self.node, self.started, self.balance, self.off, self.off_since]

    @classmethod
    def unpacked(cls, packed: list[Any]) -> "Books":
        """From a mark. Raises TypeError or ValueError when it is none."""
        messages, published, settled, delivered, node, started, balance, off, off_since = packed
        return cls(
            messages=int(messages),
            published=int(published),
            settled=int(settled),
            delivered=int(delivered),
            node=str(node),
            started=None if started is None else float(started),
            balance=int(balance),
            off=None if off is None else int(off),
            off_since=float(off_since),
        )


JITTER = 10.0
"""Seconds by which a start that is worked out from an uptime may vary."""


def by_counters(name: str, before: Books, now: Books, *, at: float, lag: float) -> Found:
    """What the counters say; sets the balance of `now`. `at` is epoch seconds, `lag` seconds."""
    restarted = _restarted(before, now)
    if restarted is not None:
        now.balance = now.counted
        return Found(unknown=f"{name}: {restarted}")
    if min(now.published - before.published, now.settled - before.settled) < 0:
        now.balance = now.counted
        if now.started is not None and before.started is not None:
            return Found(changes=[Change(what=name, operation="delete and create the queue")])
        return Found(unknown=f"{name}: its counters went back: created again, or its node was restarted")
    found = Found()
    published = now.published - before.published
    if published:
        found.changes.append(Change(what=name, operation="publish", count=published))
    _balanced(name, before, now, found, at=at, lag=lag)
    return found


def _restarted(before: Books, now: Books) -> str | None:
    if before.node != now.node:
        return f"it moved from node {before.node} to {now.node}, where counters begin anew"
    if before.started is None or now.started is None or abs(now.started - before.started) <= JITTER:
        return None
    return f"node {now.node} was started again, and counts from the beginning"


def _balanced(name: str, before: Books, now: Books, found: Found, *, at: float, lag: float) -> None:
    """Depth and counters come at different times, so only a difference that stays is one."""
    now.balance = before.balance
    difference = now.counted - before.balance
    if difference == 0:
        return
    now.off, now.off_since = now.counted, at
    if before.off == now.counted:
        now.off_since = before.off_since
    if at - now.off_since < lag:
        return
    now.balance, now.off, now.off_since = now.counted, None, 0.0
    if difference > 0:
        found.changes.append(
            Change(what=name, operation="message without a publish (dead-lettered, moved)", count=difference)
        )
        return
    if now.drops:
        found.notes.append(
            f"{name}: {-difference} messages expired or were dropped, or purged: it cannot be told"
        )
    elif now.delivered != before.delivered:
        found.notes.append(
            f"{name}: {-difference} messages went without an acknowledgement: rejected or purged"
        )
    else:
        operation = "purge (or expiry of single messages)"
        found.changes.append(Change(what=name, operation=operation, count=-difference))
