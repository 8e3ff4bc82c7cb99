"""What two states of a JetStream stream say was done to it in between. Pure.

The last sequence counts what was stored, for ever. What went away is told by the number of messages; why it
went the server does not say: limits, age, acknowledgements, deletes and purges all look alike. So everything
that the configuration explains is set aside first, and what is left was deleted or purged.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from probes.audit.reading import Change
from probes.stores.nats import ApiAnswer

SLACK = 60.0
"""Seconds by which the server's clock and ours may differ."""
PLAIN = "limits"
"""The retention under which acknowledgements remove nothing."""


class StreamConfig(BaseModel):
    """The part of a stream's configuration by which messages go away of themselves; the rest is kept too."""

    model_config = ConfigDict(extra="allow")

    name: str
    retention: str = PLAIN
    storage: str = "file"
    discard: str = "old"
    discard_new_per_subject: bool = False
    max_age: int = 0
    """Nanoseconds."""
    max_msgs: int = -1
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    allow_rollup_hdrs: bool = False
    allow_msg_ttl: bool = False
    mirror: object = None

    @property
    def digest(self) -> str:
        """A short hash of all of it, without what a server adds for itself."""
        said = self.model_dump(mode="json")
        metadata = said.get("metadata")
        if isinstance(metadata, dict):
            said["metadata"] = {k: v for k, v in metadata.items() if not k.startswith("_nats.")}
        said = {name: value for name, value in said.items() if value not in (None, {}, [])}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def pushed_out_by_one(self) -> float:
        """How many older messages one write may push out; a stream that discards the new pushes out none."""
        old = self.discard == "old"
        if self.allow_rollup_hdrs or (old and self.max_bytes > 0):
            return math.inf
        by_subject = self.max_msgs_per_subject > 0 and (old or not self.discard_new_per_subject)
        return 1.0 if by_subject or (old and self.max_msgs > 0) else 0.0


class _Counts(BaseModel):
    messages: int = 0
    last_seq: int = 0
    first_ts: str = ""
    last_ts: str = ""


class _Cluster(BaseModel):
    leader: str | None = None


class StreamInfo(BaseModel):
    """A stream as the server describes it."""

    config: StreamConfig
    created: str = ""
    state: _Counts = _Counts()
    cluster: _Cluster = _Cluster()


class StreamAnswer(ApiAnswer):
    """Of STREAM.INFO."""

    config: StreamConfig | None = None
    created: str = ""
    state: _Counts = _Counts()
    cluster: _Cluster = _Cluster()


class StreamList(ApiAnswer):
    """Of STREAM.LIST: one page."""

    total: int = 0
    streams: list[StreamInfo] | None = None


@dataclass(slots=True)
class StreamState:
    """One stream at one reading. `first_at` and `last_at` are epoch seconds."""

    created: str
    last: int
    messages: int
    first_at: float | None
    last_at: float | None
    config: str
    memory: bool = False
    """It is kept in memory alone, and goes with a server."""
    leader: str | None = None
    own: list[int] = field(default_factory=list)
    """Sequences of canaries of ours that stand in it."""
    settled: dict[str, int] = field(default_factory=dict)
    """Deliveries that are settled, by consumer."""

    @classmethod
    def of(cls, info: StreamInfo) -> "StreamState":
        """What is kept of a description."""
        counts = info.state
        return cls(
            created=info.created,
            last=counts.last_seq,
            messages=counts.messages,
            first_at=_moment(counts.first_ts) if counts.messages else None,
            last_at=_moment(counts.last_ts) if counts.last_seq else None,
            config=info.config.digest,
            memory=info.config.storage == "memory",
            leader=info.cluster.leader,
        )

    def packed(self) -> list[Any]:
        """As it stands in a mark."""
        times = [self.first_at, self.last_at]
        kept = [self.config, self.memory]
        return [self.created, self.last, self.messages, *times, *kept, self.own, self.settled]

    @classmethod
    def unpacked(cls, packed: list[Any]) -> "StreamState":
        """From a mark. Raises TypeError or ValueError when it is none."""
        created, last, messages, first_at, last_at, config, memory, own, settled = packed
        return cls(
            created=str(created),
            last=int(last),
            messages=int(messages),
            first_at=first_at,
            last_at=last_at,
            config=str(config),
            memory=bool(memory),
            own=[int(seq) for seq in own],
            settled={str(name): int(count) for name, count in settled.items()},
        )


@dataclass(slots=True)
class Stored:
    """What is known of the messages that were stored since the reading before."""

    own: list[int] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    """Of some of the others."""


@dataclass(slots=True)
class Found:
    """What was done to one stream."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: str | None = None


def gone(name: str, before: StreamState) -> Found:
    """A stream that is there no more."""
    if before.memory:
        return Found(unknown=f"{name}: gone with the memory of a server, or deleted: it cannot be told")
    return Found(changes=[Change(what=name, operation="delete the stream")])


def difference(
    name: str, before: StreamState, now: StreamState, config: StreamConfig, stored: Stored, *, at: float
) -> Found:
    """What was done to a stream between two readings; the later one was taken `at` (epoch seconds)."""
    found = Found()
    if before.created != now.created:
        found.changes.append(Change(what=name, operation="delete and create the stream"))
        return found
    if now.last < before.last:
        found.unknown = (
            f"{name}: the sequence went back from {before.last} to {now.last}: restored from a backup, or"
            " lost with the memory of a server"
        )
        return found
    if now.config != before.config:
        found.changes.append(Change(what=name, operation="change the configuration"))
    _written(name, before, now, config, stored, found)
    _removed(name, before, now, config, stored, found, at)
    if before.leader and now.leader and before.leader != now.leader:
        found.notes.append(f"{name}: led by {now.leader} now, by {before.leader} before")
    return found


def _written(
    name: str, before: StreamState, now: StreamState, config: StreamConfig, stored: Stored, found: Found
) -> None:
    """Messages that were stored."""
    written = now.last - before.last
    others = written - len(stored.own)
    when = (
        datetime.fromtimestamp(now.last_at, UTC).isoformat(timespec="milliseconds") if now.last_at else None
    )
    if others > 0:
        operation = "replicated message" if config.mirror else "message"
        subjects = tuple(dict.fromkeys(stored.subjects))
        found.changes.append(
            Change(what=name, operation=operation, count=others, keys=subjects[:5], when=when)
        )
    if stored.own:
        keys = tuple(f"#{seq}" for seq in stored.own[:5])
        found.changes.append(
            Change(what=name, operation="message", count=len(stored.own), keys=keys, own=True)
        )


def _removed(
    name: str,
    before: StreamState,
    now: StreamState,
    config: StreamConfig,
    stored: Stored,
    found: Found,
    at: float,
) -> None:
    """Messages that went away, and are not explained by what the stream does of itself."""
    written = now.last - before.last
    gone = before.messages + written - now.messages
    ours = len({*before.own, *stored.own} - {*now.own})
    if ours:
        found.changes.append(Change(what=name, operation="delete", count=ours, own=True))
    others = gone - ours
    pushed_out = written * config.pushed_out_by_one if written else 0
    if others <= pushed_out:
        return
    if config.retention != PLAIN:
        consumed = min(others, _settled_since(before, now))
        if consumed:
            found.notes.append(f"{name}: {consumed} messages were acknowledged and so removed")
            others -= int(consumed)
    if others > 0 and _may_have_expired(before, now, config, at):
        found.notes.append(
            f"{name}: {others} messages expired by their age, or were purged: it cannot be told"
        )
        return
    if others > 0:
        found.changes.append(Change(what=name, operation="purge or delete", count=others))


def _settled_since(before: StreamState, now: StreamState) -> float:
    """Acknowledgements between two readings at most; without limit when a consumer went away."""
    if before.settled.keys() - now.settled.keys():
        return math.inf
    return sum(max(0, count - before.settled.get(name, 0)) for name, count in now.settled.items())


def _may_have_expired(before: StreamState, now: StreamState, config: StreamConfig, at: float) -> bool:
    """Can age alone explain that messages went away?

    Not when the oldest was too young, nor when the stream is empty although the youngest was.
    """
    if config.allow_msg_ttl:
        return True
    if config.max_age <= 0:
        return False
    expired_before = at - config.max_age / 1e9 + SLACK
    if before.first_at is not None and before.first_at > expired_before:
        return False
    emptied = now.messages == 0 and now.last_at is not None
    return not (emptied and now.last_at is not None and now.last_at > expired_before)


def _moment(text: str) -> float | None:
    """Epoch seconds of the server's times, which go to the nanosecond; None for its zero, the year 1."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.year > 1 else None
