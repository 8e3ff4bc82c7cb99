"""Audit of RabbitMQ queues: what was published to them, and removed, since the reading before?

With the management API by its counters, seconds late; without it by the depth that a passive declare gives,
exact, and blind to what came and went. Changes nothing: nothing is fetched, nothing declared. An AMQP message
bears no mark that counters show, so a canary of ours is not told from others.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yarl import URL

from probes.answer import Unreachable
from probes.audit.amqp.counts import Books, Found, by_counters, by_depth
from probes.audit.deliveries import Deliveries
from probes.audit.reading import AuditBase, Change, OpenWriter, Pattern, Reading
from probes.http import Transport
from probes.request import Url
from probes.stores.amqp import AmqpUrl, Depth, Link, driver_name, vhost
from probes.tools import Tools
from probes.units import Duration

BY_DEPTH, BY_COUNTERS = "queue depth", "publish counters"
WITHIN = 0.9
"""Share of the timeout that a reading may take."""
COLUMNS = (
    "name,node,messages,messages_unacknowledged,message_stats,arguments,effective_policy_definition,state"
)
DROPS = frozenset({"x-message-ttl", "message-ttl", "x-max-length", "max-length", "max-length-bytes"})
"""Settings by which a queue lets messages go by itself."""
M = TypeVar("M", bound=BaseModel)


class Queues(BaseModel):
    """Which queues of which broker."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: AmqpUrl = Field(repr=False)
    queues: Annotated[list[Pattern], Field(min_length=1)]
    """Names; with `management` patterns with `*` and `?` as well."""
    management: Url | None = Field(default=None, repr=False)
    """Of the HTTP API. Its user and password are those of `url` unless it has its own."""
    verify: bool | str = True
    """False to accept any certificate of `management`; a path to trust that file's authorities."""
    lag: Duration = 10.0
    """How late a counter may be: twice the broker's `collect_statistics_interval`."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> "Queues":
        for name in self.queues if self.management is None else []:
            if _wild(name):
                raise ValueError(f"{name!r} is a pattern: without management, queues are asked by name")
            driver_name(name)
        return self


class AmqpAudit(AuditBase):
    """One audit of queues."""

    amqp: Queues

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        if self.amqp.management is not None:
            return []
        return ["without management a queue that has consumers, or is consumed from, cannot be audited"]


class DepthSource:
    """Queues, by passive declares."""

    def __init__(self, spec: Queues, *, timeout: float) -> None:
        self._spec = spec
        self._within = WITHIN * timeout

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        now = await self._depths()
        before, found = _before(mark, _depth)
        for name, depth in now.items() if before is not None else ():
            known = (before or {}).get(name)
            if depth is None or known is None:
                _came_or_went(found, name, known, depth, depth.ready if depth else 0)
                continue
            _add(found, by_depth(name, known, depth))
        there = {name: depth for name, depth in now.items() if depth is not None}
        if not there:
            raise Unreachable(f"no queue is called {' or '.join(self._spec.queues[:5])}")
        return Reading(
            mark=json.dumps({name: [depth.ready, depth.consumers] for name, depth in there.items()}),
            changes=tuple(found.changes),
            unknown=found.unknown,
            grade=BY_DEPTH,
            tells_own=False,
            figures={"queues": len(there), "messages": sum(depth.ready for depth in there.values())},
        )

    async def _depths(self) -> dict[str, Depth | None]:
        """By queue, None for one that is not there."""
        ends = perf_counter() + self._within
        found: dict[str, Depth | None] = {}
        async with await Link(self._spec.url).open(self._within) as link:
            for name in dict.fromkeys(self._spec.queues):
                found[name] = await link.depth(name, within=max(0.001, ends - perf_counter()))
        return found

    async def aclose(self) -> None:
        """Nothing is held between readings."""


class _Stats(BaseModel):
    publish: int = 0
    ack: int = 0
    deliver_no_ack: int = 0
    get_no_ack: int = 0
    deliver_get: int = 0


class _Queue(BaseModel):
    name: str
    node: str = ""
    messages: int | None = None
    messages_unacknowledged: int | None = None
    message_stats: _Stats = _Stats()
    arguments: dict[str, object] = {}
    effective_policy_definition: dict[str, object] | list[object] | None = None

    def books(self, starts: Mapping[str, float]) -> Books:
        """What is kept of it."""
        stats = self.message_stats
        policy = self.effective_policy_definition
        named = {*self.arguments, *(policy if isinstance(policy, dict) else ())}
        books = Books(
            messages=self.messages or 0,
            published=stats.publish,
            settled=stats.ack + stats.deliver_no_ack + stats.get_no_ack,
            delivered=stats.deliver_get,
            node=self.node,
            started=starts.get(self.node),
            drops=bool(DROPS & named),
        )
        books.balance = books.counted
        return books


class _Queues(BaseModel):
    queues: list[_Queue]


class _Node(BaseModel):
    name: str
    uptime: int | None = None


class _Nodes(BaseModel):
    nodes: list[_Node]


class _Overview(BaseModel):
    disable_stats: bool = False


class CounterSource:
    """Queues, by the counters of the management API."""

    def __init__(
        self, spec: Queues, *, timeout: float, transport: Transport, agent: str, now: Callable[[], float]
    ) -> None:
        self._spec = spec
        self._within = WITHIN * timeout
        self._transport = transport
        self._agent = agent
        self._now = now
        self._counts: bool | None = None

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        ends = perf_counter() + self._within
        if self._counts is None:
            overview = _model(_Overview, await self._get("overview", ends))
            if overview.disable_stats:
                raise Unreachable("the broker keeps no counters (management_agent.disable_metrics_collector)")
            self._counts = True
        starts, notes = await self._starts(ends)
        queues = await self._queues(ends)
        if not queues:
            raise Unreachable(f"no queue is called {' or '.join(self._spec.queues[:5])}")
        late = [queue.name for queue in queues if queue.messages is None]
        if late:
            raise Unreachable(f"the broker has not counted {', '.join(late[:3])} yet")
        return self._reading(mark, queues, starts, notes)

    def _reading(
        self, mark: str | None, queues: list[_Queue], starts: Mapping[str, float], notes: list[str]
    ) -> Reading:
        at = self._now()
        before, found = _before(mark, _Kept.unpacked)
        now = {queue.name: _Kept(queue.books(starts)) for queue in queues}
        waiting: list[OpenWriter] = []
        for queue in queues:
            kept, known = now[queue.name], (before or {}).get(queue.name)
            if known is not None:
                _add(found, by_counters(queue.name, known.books, kept.books, at=at, lag=self._spec.lag))
                kept.deliveries = known.deliveries
            elif before is not None:
                _came_or_went(found, queue.name, None, kept, kept.books.messages)
            unsettled = queue.messages_unacknowledged or 0
            settled = kept.books.settled
            age = kept.deliveries.seen(
                now=at, delivered=settled + unsettled, settled=settled, waiting=unsettled
            )
            if age is not None:
                who = f"queue {queue.name}: {unsettled} unacknowledged"
                waiting.append(OpenWriter(who=who, age_s=age, what=queue.name))
        for name in (before or {}).keys() - now.keys():
            _came_or_went(found, name, True, None, 0)
        return Reading(
            mark=json.dumps({name: kept.packed() for name, kept in now.items()}, separators=(",", ":")),
            changes=tuple(found.changes),
            unknown=found.unknown,
            open=tuple(waiting),
            grade=BY_COUNTERS,
            lag_s=self._spec.lag,
            tells_own=False,
            notes=(*notes, *found.notes),
            figures={"queues": len(now), "messages": sum(kept.books.messages for kept in now.values())},
        )

    async def _queues(self, ends: float) -> list[_Queue]:
        """The queues that are audited. Those that are named exactly are asked one by one."""
        of_vhost = f"queues/{quote(vhost(self._spec.url), safe='')}"
        if not any(map(_wild, self._spec.queues)):
            found = []
            for name in dict.fromkeys(self._spec.queues):
                answer = await self._get(f"{of_vhost}/{quote(name, safe='')}", ends, none=(404,))
                found += [] if answer is None else [_model(_Queue, answer)]
            return found
        listed = _model(_Queues, {"queues": await self._get(f"{of_vhost}?columns={COLUMNS}", ends)})
        return [
            queue
            for queue in listed.queues
            if any(fnmatchcase(queue.name, pattern) for pattern in self._spec.queues)
        ]

    async def _starts(self, ends: float) -> tuple[dict[str, float], list[str]]:
        """When each node was started (epoch seconds), where the user may ask."""
        answer = await self._get("nodes?columns=name,uptime", ends, none=(401, 403))
        if answer is None:
            return {}, ["nodes may not be read (tag `monitoring`): a restart shows by its counters alone"]
        at = self._now()
        nodes = _model(_Nodes, {"nodes": answer}).nodes
        return {node.name: at - node.uptime / 1000 for node in nodes if node.uptime is not None}, []

    async def _get(self, path: str, ends: float, *, none: tuple[int, ...] = ()) -> Any:
        """A document of the API; None for the statuses `none`."""
        request = _request(self._spec, path, self._agent)
        answer = await self._transport.exchange(
            request, timeout=max(0.001, ends - perf_counter()), verify=_verify(self._spec.verify)
        )
        if answer.status in none:
            return None
        if answer.status == 401:
            raise Unreachable("management: the login was refused, or the user has no tag `management`")
        if answer.status != 200 or answer.truncated:
            cut = ", and more than is read" if answer.truncated else ""
            raise Unreachable(f"management answered {answer.status}{cut} to /api/{path.partition('?')[0]}")
        try:
            return json.loads(answer.body)
        except ValueError:
            raise Unreachable("management answered without JSON") from None

    async def aclose(self) -> None:
        """The transport is the caller's."""


@dataclass(slots=True)
class _Kept:
    """What is kept of one queue from one reading to the next."""

    books: Books
    deliveries: Deliveries = field(default_factory=Deliveries)

    def packed(self) -> list[Any]:
        return [self.books.packed(), self.deliveries.packed()]

    @classmethod
    def unpacked(cls, packed: list[Any]) -> "_Kept":
        books, deliveries = packed
        return cls(Books.unpacked(books), Deliveries.unpacked(deliveries))


K = TypeVar("K")


def _before(mark: str | None, unpacked: Callable[[list[Any]], K]) -> tuple[dict[str, K] | None, Found]:
    """The state of the reading before; one that cannot be read is unknown."""
    if mark is None:
        return None, Found()
    try:
        return {str(name): unpacked(packed) for name, packed in json.loads(mark).items()}, Found()
    except (ValueError, TypeError, AttributeError):
        return None, Found(unknown="the reading before cannot be read: nothing to compare with")


def _depth(packed: list[Any]) -> Depth:
    ready, consumers = packed
    return Depth(ready=int(ready), consumers=int(consumers))


def _add(found: Found, more: Found) -> None:
    found.changes += more.changes
    found.notes += more.notes
    found.unknown = "; ".join(filter(None, [found.unknown, more.unknown])) or None


def _came_or_went(found: Found, name: str, before: object, now: object, messages: int) -> None:
    if before is None and now is not None:
        found.changes.append(Change(what=name, operation="create the queue", count=max(1, messages)))
    elif before is not None and now is None:
        found.changes.append(Change(what=name, operation="delete the queue"))


def _wild(name: str) -> bool:
    return bool({"*", "?", "["} & {*name})


def _model(kind: type[M], document: Any) -> M:
    try:
        return kind.model_validate(document)
    except ValidationError:
        raise Unreachable("management's answer is none of RabbitMQ's") from None


def _request(spec: Queues, path: str, agent: str) -> httpx.Request:
    """A request to the API, with the user of its own address or of the broker's."""
    base, broker = URL(str(spec.management)), URL(spec.url)
    named = base if base.user else broker
    word = f"{named.user or 'guest'}:{named.password or ('guest' if not named.user else '')}"
    headers = {
        "Authorization": f"Basic {base64.b64encode(word.encode()).decode()}",
        "User-Agent": agent,
        "Accept": "application/json",
        "Cache-Control": "no-cache",
    }
    bare = str(base.with_user(None).with_query(None).with_fragment(None)).rstrip("/")
    return httpx.Request("GET", f"{bare.removesuffix('/api')}/api/{path}", headers=headers)


def _verify(verify: bool | str) -> str:
    return verify if isinstance(verify, str) else "yes" if verify else "no"


def amqp_audit(spec: AmqpAudit, timeout: float, tools: Tools) -> DepthSource | CounterSource:
    """The source that reads `spec`; `timeout` in seconds bounds each reading."""
    if spec.amqp.management is None:
        return DepthSource(spec.amqp, timeout=timeout)
    return CounterSource(
        spec.amqp, timeout=timeout, transport=tools.transport, agent=tools.agent, now=tools.now
    )
