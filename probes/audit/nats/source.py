"""Audit of NATS JetStream: what was stored in, and removed from, its streams since the reading before?

Asks the server's API for sequences, counts and consumers, and for the messages that are new, which no
consumer notices. Changes nothing. Key-value buckets and object stores are streams as well.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Annotated

from pydantic import BaseModel, Field

from probes.answer import Unreachable
from probes.audit.deliveries import Deliveries
from probes.audit.nats.streams import (
    Found,
    Stored,
    StreamAnswer,
    StreamInfo,
    StreamList,
    StreamState,
    difference,
    gone,
)
from probes.audit.reading import AuditBase, Change, OpenWriter, Pattern, Reading
from probes.own import OwnWrites
from probes.stores.nats import ApiAnswer, ApiError, Link, NatsServer, NotAllowed
from probes.tools import Tools
from probes.write.canary import PREFIX

GRADE = "stream sequences"
READ = 20
"""New messages of a stream that are read, to tell ours from others."""
COUNTED = 10_000
"""New messages among which ours are looked for by what our attempts have noted."""
NO_STREAM, NO_MESSAGE = 10059, 10037
WITHIN = 0.9
"""Share of the timeout that a reading may take."""


class Streams(NatsServer):
    """Which streams of which server."""

    streams: Annotated[list[Pattern], Field(min_length=1)] | None = None
    """Names, or patterns with `*` and `?`; all by default."""
    kv: list[Pattern] = Field(default=[])
    """Key-value buckets, by their own names."""

    @property
    def patterns(self) -> list[str]:
        """Of the names of streams."""
        named = [*(self.streams or []), *(f"KV_{bucket}" for bucket in self.kv)]
        return named or ["*"]


class NatsAudit(AuditBase):
    """One audit of JetStream."""

    nats: Streams


class _Sequences(BaseModel):
    consumer_seq: int = 0


class _ConsumerConfig(BaseModel):
    ack_policy: str = "explicit"


class _Consumer(BaseModel):
    name: str
    config: _ConsumerConfig = _ConsumerConfig()
    delivered: _Sequences = _Sequences()
    ack_floor: _Sequences = _Sequences()
    num_ack_pending: int = 0


class _Consumers(ApiAnswer):
    total: int = 0
    consumers: list[_Consumer] | None = None


class _Message(BaseModel):
    subject: str = ""
    hdrs: str = ""


class _Got(ApiAnswer):
    message: _Message | None = None


@dataclass(slots=True)
class _Mark:
    """What is kept from one reading to the next."""

    streams: dict[str, StreamState] = field(default_factory=dict)
    deliveries: dict[str, Deliveries] = field(default_factory=dict)

    def packed(self) -> str:
        return json.dumps(
            [
                {name: state.packed() for name, state in self.streams.items()},
                {name: each.packed() for name, each in self.deliveries.items() if each.samples},
            ],
            separators=(",", ":"),
        )

    @classmethod
    def unpacked(cls, mark: str) -> "_Mark | None":
        """None when it cannot be read."""
        try:
            streams, deliveries = json.loads(mark)
            return cls(
                {name: StreamState.unpacked(state) for name, state in streams.items()},
                {name: Deliveries.unpacked(each) for name, each in deliveries.items()},
            )
        except (ValueError, TypeError, AttributeError):
            return None


@dataclass(slots=True)
class _Reading:
    """One reading as it is put together."""

    link: Link
    left: Callable[[], float]
    mark: _Mark = field(default_factory=_Mark)
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    open: list[OpenWriter] | None = field(default_factory=list)
    reads: bool = True
    """Messages may be read."""

    def take(self, found: Found) -> None:
        """Add what was done to one stream."""
        self.changes += found.changes
        self.notes += found.notes
        self.unknown += [found.unknown] if found.unknown else []


class NatsSource:
    """One server's streams."""

    def __init__(self, spec: NatsAudit, *, timeout: float, own: OwnWrites, now: Callable[[], float]) -> None:
        self._spec = spec.nats
        self._within = WITHIN * timeout
        self._own = own
        self._now = now

    async def read(self, mark: str | None) -> Reading:
        """What was done since `mark`. Raises Unreachable or OwnFault."""
        began = perf_counter()

        def left() -> float:
            return max(0.001, self._within - (perf_counter() - began))

        before = _Mark.unpacked(mark) if mark is not None else None
        async with await Link(self._spec).open(self._within) as link:
            reading = _Reading(link=link, left=left)
            if mark is not None and before is None:
                reading.unknown.append("the reading before cannot be read: nothing to compare with")
            infos = await self._streams(reading)
            for info in infos:
                await self._compare(reading, before, info)
        if before is not None:
            for name in sorted(before.streams.keys() - reading.mark.streams.keys()):
                reading.take(gone(name, before.streams[name]))
        return Reading(
            mark=reading.mark.packed(),
            changes=tuple(reading.changes),
            unknown="; ".join(reading.unknown) or None,
            open=None if reading.open is None else tuple(reading.open),
            grade=GRADE,
            tells_own=reading.reads,
            notes=tuple(reading.notes),
            figures={"streams": len(infos), "messages": sum(info.state.messages for info in infos)},
        )

    async def _streams(self, reading: _Reading) -> list[StreamInfo]:
        """The streams that are audited. Those that are named exactly are asked one by one."""
        patterns = self._spec.patterns
        if not any(wild in pattern for pattern in patterns for wild in "*?["):
            asked = [await self._stream(reading, name) for name in dict.fromkeys(patterns)]
            found = [info for info in asked if info is not None]
        else:
            found = [
                info
                for info in await self._listed(reading)
                if any(fnmatchcase(info.config.name, pattern) for pattern in patterns)
            ]
        if not found:
            named = "" if patterns == ["*"] else f" called {' or '.join(patterns[:5])}"
            raise Unreachable(f"there is no stream{named}")
        return found

    @staticmethod
    async def _stream(reading: _Reading, name: str) -> StreamInfo | None:
        try:
            answer = await reading.link.api(StreamAnswer, f"STREAM.INFO.{name}", within=reading.left())
        except ApiError as error:
            if error.code == NO_STREAM:
                return None
            raise
        if answer.config is None:
            raise Unreachable(f"{reading.link.place}: the answer for {name} describes no stream")
        return StreamInfo(
            config=answer.config, created=answer.created, state=answer.state, cluster=answer.cluster
        )

    @staticmethod
    async def _listed(reading: _Reading) -> list[StreamInfo]:
        """All streams, page by page."""
        found: list[StreamInfo] = []
        while True:
            page = await reading.link.api(
                StreamList,
                "STREAM.LIST",
                json.dumps({"offset": len(found)}).encode(),
                within=reading.left(),
            )
            found += page.streams or []
            if not page.streams or len(found) >= page.total:
                return found

    async def _compare(self, reading: _Reading, before: _Mark | None, info: StreamInfo) -> None:
        """One stream: what was done to it, and who may still answer for a delivery of it."""
        name = info.config.name
        state = reading.mark.streams[name] = StreamState.of(info)
        await self._fence(reading, before, name, state)
        if before is None:
            return
        known = before.streams.get(name)
        if known is None:
            count = max(1, state.messages)
            reading.changes.append(Change(what=name, operation="create the stream", count=count))
            return
        stored = Stored()
        if known.created == state.created:
            stored = await self._stored(reading, name, known, state)
        reading.take(difference(name, known, state, info.config, stored, at=self._now()))

    async def _stored(self, reading: _Reading, name: str, before: StreamState, now: StreamState) -> Stored:
        """Whose the new messages are, as far as that can be told, and which canaries still stand there."""
        stored = Stored()
        store = f"nats {name} {now.created}"
        new = range(before.last + 1, now.last + 1)
        read = new if len(new) <= READ else new[:5]
        for seq in read:
            message = await self._message(reading, name, seq)
            if _ours(message):
                stored.own.append(seq)
                now.own.append(seq)
            elif (store, str(seq)) in self._own:
                stored.own.append(seq)
            elif message is not None:
                stored.subjects.append(message.subject)
        rest = [seq for seq in new[len(read) : COUNTED] if (store, str(seq)) in self._own]
        stored.own += rest
        for seq in [*before.own, *rest][:READ]:
            if _ours(await self._message(reading, name, seq)):
                now.own.append(seq)
        return stored

    @staticmethod
    async def _message(reading: _Reading, name: str, seq: int) -> _Message | None:
        """A message, or None where it is gone, or may not be read."""
        if not reading.reads:
            return None
        ask = json.dumps({"seq": seq}).encode()
        try:
            got = await reading.link.api(_Got, f"STREAM.MSG.GET.{name}", ask, within=reading.left())
        except NotAllowed:
            reading.reads = False
            reading.notes.append("messages may not be read (STREAM.MSG.GET): ours cannot be told from others")
            return None
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        return got.message

    async def _fence(self, reading: _Reading, before: _Mark | None, name: str, state: StreamState) -> None:
        """Deliveries that nobody has acknowledged yet, and how long they have waited at least."""
        if reading.open is None:
            return
        try:
            consumers = await self._consumers(reading, name)
        except NotAllowed:
            reading.open = None
            reading.notes.append("consumers may not be listed (CONSUMER.LIST): deliveries are not seen")
            return
        for consumer in consumers:
            waiting, delivered = consumer.num_ack_pending, consumer.delivered.consumer_seq
            state.settled[consumer.name] = delivered - waiting
            if consumer.config.ack_policy == "none":
                continue
            key = f"{name}/{consumer.name}"
            each = before.deliveries.get(key, Deliveries()) if before else Deliveries()
            reading.mark.deliveries[key] = each
            age = each.seen(
                now=self._now(),
                delivered=delivered,
                settled=consumer.ack_floor.consumer_seq,
                waiting=waiting,
            )
            if age is not None:
                who = f"consumer {consumer.name} of {name}: {waiting} unacknowledged"
                reading.open.append(OpenWriter(who=who, age_s=age, what=name))

    @staticmethod
    async def _consumers(reading: _Reading, name: str) -> list[_Consumer]:
        found: list[_Consumer] = []
        while True:
            page = await reading.link.api(
                _Consumers,
                f"CONSUMER.LIST.{name}",
                json.dumps({"offset": len(found)}).encode(),
                within=reading.left(),
            )
            found += page.consumers or []
            if not page.consumers or len(found) >= page.total:
                return found

    async def aclose(self) -> None:
        """Nothing is held between readings."""


def _ours(message: _Message | None) -> bool:
    """Is it a canary? Its headers say so."""
    if message is None:
        return False
    try:
        headers = base64.b64decode(message.hdrs).decode("utf-8", "replace")
    except ValueError:
        return False
    return "X-Freezewatch: canary\r\n" in headers and f"Nats-Msg-Id: {PREFIX}" in headers


def nats_audit(spec: NatsAudit, timeout: float, tools: Tools) -> NatsSource:
    """The source that reads `spec`; `timeout` in seconds bounds each reading."""
    return NatsSource(spec, timeout=timeout, own=tools.own, now=tools.now)


__all__ = ["NatsAudit", "NatsSource", "Streams", "nats_audit"]
