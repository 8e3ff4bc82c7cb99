"""The table of what can be asked: section of `window.yaml` -> kind -> its specification and its maker.

A new kind is one file, one line here and one test file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from probes.audit.amqp.source import AmqpAudit, amqp_audit
from probes.audit.audit import Audit
from probes.audit.counters import CountersAudit, counters_audit
from probes.audit.files.source import FilesAudit, files_audit
from probes.audit.mysql.source import MysqlAudit, mysql_audit
from probes.audit.nats.source import NatsAudit, nats_audit
from probes.audit.object.source import ObjectAudit, object_audit
from probes.audit.postgres.source import PostgresAudit, postgres_audit
from probes.audit.prometheus import PrometheusAudit, prometheus_audit
from probes.audit.reading import AuditBase, Source
from probes.audit.redis.source import RedisAudit, redis_audit
from probes.audit.sqlite.source import SqliteAudit, sqlite_audit
from probes.base import Probe
from probes.flag import FlagSpec, HttpFlag
from probes.read import HttpRead, ReadSpec
from probes.tools import Tools
from probes.write.amqp.target import AmqpWrite, amqp_write
from probes.write.attempt import WriteAttempts
from probes.write.command.target import CommandWrite, command_target
from probes.write.http import HttpTarget, WriteSpec
from probes.write.mcp.target import McpWrite, mcp_target
from probes.write.mysql.kind import MysqlWrite, mysql_write
from probes.write.nats import NatsWrite, nats_write
from probes.write.postgres.target import PostgresWrite, postgres_write
from probes.write.presets.loader import preset_specs, preset_target
from probes.write.redis import RedisWrite, redis_write
from probes.write.target import Target, WriteBase

__all__ = ["KINDS", "Each", "KindOf", "Tools", "audits", "writes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Each:
    """One probe of an entry. It asks `slower` times as seldom as the entry says."""

    name: str
    surface: str
    spec: Any
    slower: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KindOf:
    """One kind: how it is configured, what its probes are called, and how they are made."""

    spec: type[BaseModel]
    expand: Callable[[str, Any], list[Each]]
    make: Callable[[Each, float, Tools], Probe]


def _one(name: str, spec: Any) -> list[Each]:
    return [Each(name=name, surface=name, spec=spec)]


def _read(each: Each, timeout: float, tools: Tools) -> Probe:
    return HttpRead(
        name=each.name, spec=each.spec, timeout=timeout, transport=tools.transport, agent=tools.agent
    )


def _surface(name: str, spec: WriteBase) -> list[Each]:
    """The write itself, and what is asked beside it on the same surface."""
    surface = spec.surface or name
    beside = [
        Each(name=f"{name}/{suffix}", surface=surface, spec=other, slower=slower)
        for suffix, other, slower in spec.beside
    ]
    return [Each(name=name, surface=surface, spec=spec), *beside]


def writes(spec: type[WriteBase], target: Callable[[Any, float, Tools], Target]) -> KindOf:
    """A kind of write surface: `target(spec, timeout in seconds, tools)` makes what is written to."""

    def make(each: Each, timeout: float, tools: Tools) -> Probe:
        return WriteAttempts(
            name=each.name,
            surface=each.surface,
            window=tools.window,
            target=target(each.spec, timeout, tools),
            timeout=timeout,
        )

    return KindOf(spec=spec, expand=_surface, make=make)


def audits(spec: type[AuditBase], source: Callable[[Any, float, Tools], Source]) -> KindOf:
    """A kind of storage audit: `source(spec, timeout in seconds, tools)` makes what is read."""

    def make(each: Each, timeout: float, tools: Tools) -> Probe:
        return Audit(
            name=each.name,
            source=source(each.spec, timeout, tools),
            exempt=each.spec.exempt,
            timeout=timeout,
            opens=tools.opens,
        )

    return KindOf(spec=spec, expand=_one, make=make)


def _http(spec: WriteSpec, timeout: float, tools: Tools) -> Target:
    return HttpTarget(
        spec, timeout=timeout, transport=tools.transport, agent=tools.agent, closes=tools.closes
    )


def _replicas(name: str, spec: FlagSpec) -> list[Each]:
    return [Each(name=probe, surface=name, spec=each) for probe, each in spec.each_replica(name)]


def _flag(each: Each, timeout: float, tools: Tools) -> Probe:
    return HttpFlag(
        name=each.name,
        surface=each.surface,
        spec=each.spec,
        timeout=timeout,
        transport=tools.transport,
        agent=tools.agent,
    )


KINDS: Mapping[str, Mapping[str, KindOf]] = {
    "reads": {"http": KindOf(spec=ReadSpec, expand=_one, make=_read)},
    "writes": {
        "http": writes(WriteSpec, _http),
        "postgres": writes(PostgresWrite, postgres_write),
        "mysql": writes(MysqlWrite, mysql_write),
        "redis": writes(RedisWrite, redis_write),
        "amqp": writes(AmqpWrite, amqp_write),
        "nats": writes(NatsWrite, nats_write),
        "mcp": writes(McpWrite, mcp_target),
        "command": writes(CommandWrite, command_target),
        **{name: writes(spec, preset_target) for name, spec in preset_specs().items()},
    },
    "audits": {
        "postgres": audits(PostgresAudit, postgres_audit),
        "mysql": audits(MysqlAudit, mysql_audit),
        "redis": audits(RedisAudit, redis_audit),
        "amqp": audits(AmqpAudit, amqp_audit),
        "nats": audits(NatsAudit, nats_audit),
        "sqlite": audits(SqliteAudit, sqlite_audit),
        "files": audits(FilesAudit, files_audit),
        "object": audits(ObjectAudit, object_audit),
        "prometheus": audits(PrometheusAudit, prometheus_audit),
        "http": audits(CountersAudit, counters_audit),
    },
    "flags": {"http": KindOf(spec=FlagSpec, expand=_replicas, make=_flag)},
}
