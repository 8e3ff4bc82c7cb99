"""The table of what can be asked: section of `window.yaml` -> kind -> its specification and its maker.

A new kind is one file, one line here and one test file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from probes.base import Probe
from probes.flag import FlagSpec, HttpFlag
from probes.http import Transport
from probes.read import HttpRead, ReadSpec
from probes.write.http import HttpWrite, WriteSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What every probe is made with."""

    window: str
    closes: float
    agent: str
    transport: Transport


@dataclass(frozen=True, kw_only=True, slots=True)
class KindOf:
    """One kind: how it is configured, what its probes are called, and how they are made.

    `expand` gives (probe name, surface, spec) for every probe of an entry.
    """

    spec: type[BaseModel]
    expand: Callable[[str, Any], list[tuple[str, str, Any]]]
    make: Callable[[str, str, Any, float, Tools], Probe]


def _one(name: str, spec: ReadSpec) -> list[tuple[str, str, ReadSpec]]:
    return [(name, name, spec)]


def _read(name: str, surface: str, spec: ReadSpec, timeout: float, tools: Tools) -> Probe:
    return HttpRead(name=name, spec=spec, timeout=timeout, transport=tools.transport, agent=tools.agent)


def _surface(name: str, spec: WriteSpec) -> list[tuple[str, str, WriteSpec]]:
    return [(name, spec.surface or name, spec)]


def _write(name: str, surface: str, spec: WriteSpec, timeout: float, tools: Tools) -> Probe:
    return HttpWrite(
        name=name,
        window=tools.window,
        spec=spec,
        timeout=timeout,
        transport=tools.transport,
        agent=tools.agent,
        closes=tools.closes,
    )


def _replicas(name: str, spec: FlagSpec) -> list[tuple[str, str, FlagSpec]]:
    return [(probe, name, each) for probe, each in spec.each_replica(name)]


def _flag(name: str, surface: str, spec: FlagSpec, timeout: float, tools: Tools) -> Probe:
    return HttpFlag(
        name=name,
        surface=surface,
        spec=spec,
        timeout=timeout,
        transport=tools.transport,
        agent=tools.agent,
    )


KINDS: Mapping[str, Mapping[str, KindOf]] = {
    "reads": {"http": KindOf(spec=ReadSpec, expand=_one, make=_read)},
    "writes": {"http": KindOf(spec=WriteSpec, expand=_surface, make=_write)},
    "flags": {"http": KindOf(spec=FlagSpec, expand=_replicas, make=_flag)},
}
