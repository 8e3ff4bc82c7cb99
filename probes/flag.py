"""The HTTP flag probe: what does one replica of the read-only flag say? Never guesses."""

import time
from typing import Any

from pydantic import BaseModel, ConfigDict

from probes.base import Kind, Outcome, Result, Run, Why, skipped
from probes.http import Answer, ExchangeError, OwnFault, Transport
from probes.jsonpath import JsonPath, find_all
from probes.refusal import parsed
from probes.request import HttpRequest, Urls, ask
from probes.shown import shown


class FlagSpec(BaseModel):
    """Where a flag is read, and at what path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpRequest
    at: JsonPath
    replicas: Urls = []
    """The same question to further replicas: each is a probe of its own."""

    def each_replica(self, name: str) -> list[tuple[str, "FlagSpec"]]:
        """One (probe name, spec) for every replica, in the order of the configuration."""
        if not self.replicas:
            return [(name, self)]
        urls = [self.http.url, *self.replicas]
        return [
            (
                f"{name}/{number}",
                self.model_copy(update={"http": self.http.model_copy(update={"url": url})}),
            )
            for number, url in enumerate(urls, 1)
        ]


class HttpFlag:
    """Asks one replica of a flag over HTTP. `surface` is the flag's name, `name` the replica's."""

    kind = Kind.FLAG

    def __init__(
        self,
        *,
        name: str,
        surface: str,
        spec: FlagSpec,
        timeout: float,
        transport: Transport,
        agent: str,
    ) -> None:
        self.name = name
        self.surface = surface
        self._spec = spec
        self._timeout = timeout
        self._transport = transport
        self._request = spec.http.build("GET", User_Agent=agent)
        self._request.read()

    async def run(self, run: Run) -> Result:
        """Ask once: on, off, unknown (no boolean there), unreachable or skipped."""
        began = time.perf_counter()
        try:
            answer = await ask(self._transport, self._spec.http, self._request, self._timeout)
        except OwnFault as error:
            return skipped(Why.OWN_FAULT, error.reason)
        except ExchangeError as error:
            return Result(
                outcome=Outcome.UNREACHABLE,
                reason=error.reason,
                duration_s=time.perf_counter() - began,
                phases=error.phases,
            )
        outcome, reason = read_flag(answer, self._spec.at)
        return Result(
            outcome=outcome,
            reason=reason,
            duration_s=answer.duration_s,
            phases=answer.phases,
            figures={"status": answer.status},
        )


def read_flag(answer: Answer, path: str) -> tuple[Outcome, str]:
    """On or off only for exactly one JSON boolean at `path` of a 2xx answer. Pure."""
    if not 200 <= answer.status < 300:
        return Outcome.UNKNOWN, f"answered {answer.status}"
    found = find_all(path, parsed(answer))
    if len(found) != 1:
        return Outcome.UNKNOWN, f"{len(found)} values at {path}"
    if found[0] is True:
        return Outcome.ON, "reads true"
    if found[0] is False:
        return Outcome.OFF, "reads false"
    return Outcome.UNKNOWN, f"{_named(found[0])} at {path} is neither true nor false"


def _named(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return "null" if value is None else shown(value) if isinstance(value, str) else str(value)
