"""Counters that Prometheus has, or that an exporter shows: which of them rose since the reading before?

A query gives what was scraped, so an exporter that died must not look like a store at rest: a sample that is
older than `lag` is none. Newer servers leave such samples out when they are asked to; of others, the time of
each sample is asked too where the query is a plain selector, or where `fresh` says how.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.answer import Answer, Unreachable
from probes.audit.counters import (
    MOST,
    WITHIN,
    Counted,
    Kind,
    Number,
    compared,
    digest,
    gauge_doubts,
    json_in,
)
from probes.audit.reading import AuditBase, Pattern, Reading
from probes.refusal import parsed
from probes.request import Headers, HttpRequest, Url, ask
from probes.shown import shown, writable
from probes.tools import Tools
from probes.units import Duration

LOOKBACK = 300.0
"""Seconds for which Prometheus shows a sample that nothing has followed, unless it is told otherwise."""
QUERY_LAG = 30.0
"""Seconds: twice the interval at which most configurations scrape."""
LONGEST_ERROR = 300
METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SELECTOR = re.compile(
    r"\s*(?:[a-zA-Z_:][a-zA-Z0-9_:]*\s*)?(?:\{(?:[^{}\"'`]|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')*\})?\s*"
)
RATE = re.compile(r"\b(?:i?rate|increase|i?delta|deriv)\s*\(")
Series = tuple[tuple[str, str], ...]
"""The labels of a series, in order."""


class Prometheus(BaseModel):
    """Where the counters are, and which of them tell of writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url | None = None
    """Of a Prometheus server, or of what answers like one."""
    query: Annotated[str, Field(min_length=1)] | None = None
    """PromQL that gives counters; their labels name the places."""
    metrics: Url | None = None
    """Of an exporter, which is asked itself."""
    names: list[Annotated[str, Field(pattern=f"^{METRIC.pattern}$")]] = []
    """Metrics of the exporter."""
    labels: dict[str, Pattern] = {}
    """Only series whose labels match: a name, or a pattern with `*` and `?`."""
    kind: Kind = "counter"
    restart: Annotated[str, Field(min_length=1)] | None = None
    """What changes when the store is started again: a query, or with `metrics` the name of a metric."""
    fresh: Annotated[str, Field(min_length=1)] | None = None
    """A query that gives the times of the samples behind `query` (epoch seconds)."""
    lag: Duration | None = None
    """How old a sample may be: the scrape interval, and some more. 30s with query, 0s with metrics."""
    headers: Headers = Field(default={}, repr=False)
    verify: bool | str = True
    """False to accept any certificate; a path to trust that file's authorities."""

    @model_validator(mode="after")
    def _one_source(self) -> "Prometheus":
        if self.url is not None and re.search(r"[?#]", self.url):
            raise ValueError("url is an address that paths are added to: no query and no fragment")
        if (self.query is None) == (self.metrics is None):
            raise ValueError("give url and query, or metrics and names: one of the two")
        if self.query is not None and (self.url is None or self.names or self.labels):
            raise ValueError("a query needs url, and neither names nor labels: they belong to metrics")
        if self.metrics is not None and (not self.names or self.url is not None or self.fresh is not None):
            raise ValueError("metrics needs names, and neither url nor fresh: they belong to query")
        if self.metrics is not None and self.restart is not None and not METRIC.fullmatch(self.restart):
            raise ValueError(f"with metrics, restart is the name of a metric, and {self.restart!r} is none")
        return self

    @property
    def latest(self) -> float:
        """Seconds that a sample may be old."""
        return self.lag if self.lag is not None else 0.0 if self.metrics else QUERY_LAG


class PrometheusAudit(AuditBase):
    """One audit of counters in Prometheus or of an exporter."""

    prometheus: Prometheus

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        found = gauge_doubts(self.prometheus.kind)
        if self.prometheus.query is not None and RATE.search(self.prometheus.query):
            found.append("the query gives a rate, not a counter: name the counter itself")
        return found


class QueriedCounters:
    """Counters behind the query API of a Prometheus server."""

    def __init__(self, spec: Prometheus, *, timeout: float, tools: Tools) -> None:
        self._spec = spec
        self._within = WITHIN * timeout
        self._transport, self._agent = tools.transport, tools.agent
        self._asked = digest(str(spec.url), spec.query, spec.restart)
        self._leaves_out: bool | None = None
        """The server leaves old samples out when it is told to."""

    async def read(self, mark: str | None) -> Reading:
        """What the counters say was written since `mark`. Raises Unreachable or OwnFault."""
        spec, ends = self._spec, perf_counter() + self._within
        if self._leaves_out is None:
            self._leaves_out = await self._understands_lookback(ends)
        query = str(spec.query)
        at, found = await self._vector(query, ends)
        _must_be_some(found, query)
        aged = await self._check_ages(query, at, ends)
        started: dict[Series, Number] = {}
        if spec.restart is not None:
            _, started = await self._vector(spec.restart, ends)
            _must_be_some(started, spec.restart)
        known = aged or self._leaves_out
        reading = compared(
            mark,
            Counted(values=_by_name(found, query), started=_by_name(started, str(spec.restart))),
            asked=self._asked,
            kind=spec.kind,
            grade=f"{spec.kind}s in Prometheus",
            lag_s=spec.latest if known else max(LOOKBACK, spec.latest),
        )
        return reading if known else _with_note(reading)

    async def _understands_lookback(self, ends: float) -> bool:
        """Does the server know `lookback_delta`? One that does refuses nonsense in its place."""
        answer = await self._ask({"query": "vector(1)", "lookback_delta": "nonsense"}, ends)
        if answer.status == 400:
            return True
        _data(answer)
        return False

    async def _check_ages(self, query: str, at: float, ends: float) -> bool:
        """Raises Unreachable when a sample is too old. False where the times of samples cannot be asked."""
        fresh = self._spec.fresh
        if fresh is None and not SELECTOR.fullmatch(query):
            return False
        asked = fresh if fresh is not None else f"timestamp({query})"
        _, times = await self._vector(asked, ends)
        _must_be_some(times, asked)
        series, oldest = min(times.items(), key=lambda item: item[1])
        if at - oldest > self._spec.latest:
            said = f"{_name(series, query)} was last seen {at - oldest:.0f} s ago"
            raise Unreachable(f"{said}: its exporter or Prometheus itself has stopped")
        return True

    async def _vector(self, query: str, ends: float) -> tuple[float, dict[Series, Number]]:
        """When `query` was evaluated, by the server's clock, and what it gives."""
        answer = await self._ask(
            {"query": query, "lookback_delta": f"{max(self._spec.latest, 0.001):.3f}"}, ends
        )
        data = _data(answer)
        kind, result = data.get("resultType"), data.get("result")
        if kind == "scalar":
            result = [{"metric": {}, "value": result}]
        elif kind != "vector":
            raise Unreachable(f"the query gives a {shown(kind)}, not numbers of now: {shown(query)}")
        if not isinstance(result, list) or len(result) > MOST:
            raise Unreachable(f"the query gives {len(result or [])} series, more than {MOST}: sum them")
        at, found = 0.0, {}
        for item in result:
            series, at, value = _sample(item, query)
            found[series] = value
        return at, found

    async def _ask(self, params: Mapping[str, str], ends: float) -> Answer:
        spec = self._spec
        http = HttpRequest(
            url=f"{str(spec.url).rstrip('/')}/api/v1/query",
            params=dict(params),
            headers=spec.headers,
            verify=spec.verify,
        )
        left = max(0.01, ends - perf_counter())
        return await ask(self._transport, http, http.build("GET", User_Agent=self._agent), left)

    async def aclose(self) -> None:
        """Nothing is held: the transport is the caller's."""


def _data(answer: Answer) -> dict[str, Any]:
    """What a good answer of the API holds. Raises Unreachable for any other, and for one that is partial."""
    if answer.status in (400, 422, 503):
        document = parsed(answer)
        if isinstance(document, dict) and isinstance(document.get("error"), str):
            raise Unreachable(f"answered {answer.status}: {_said(document['error'])}")
    document = json_in(answer)
    if not isinstance(document, dict) or document.get("status") != "success":
        raise Unreachable("the answer is none of Prometheus's API")
    warnings = document.get("warnings")
    if warnings:
        first = warnings[0] if isinstance(warnings, list) else warnings
        raise Unreachable(f"the answer may be partial: {_said(str(first))}")
    data = document.get("data")
    if not isinstance(data, dict):
        raise Unreachable("the answer is none of Prometheus's API")
    return data


def _said(error: str) -> str:
    """What the server says is wrong, on one line; whole, or not at all: a part might end within a secret."""
    line = " ".join(writable(error).split())
    return line if len(line) <= LONGEST_ERROR else f"an error of {len(line)} characters"


def _sample(item: Any, query: str) -> tuple[Series, float, Number]:
    """(series, time of evaluation, value) of one element of a vector. Raises Unreachable for what is none."""
    try:
        metric: dict[str, str] = item["metric"]
        at, text = item["value"]
        series = tuple(sorted((str(k), writable(str(v))) for k, v in metric.items()))
        value = float(text)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unreachable(f"the query gives something that is no number: {shown(query)}") from None
    if not math.isfinite(value):
        raise Unreachable(f"{_name(series, query)} is {text}")
    return series, float(at), int(value) if value.is_integer() and abs(value) < 2**53 else value


def _must_be_some(found: Mapping[Series, Number], query: str) -> None:
    if not found:
        raise Unreachable(f"no series for {shown(query)}")


def _name(series: Series, query: str) -> str:
    """`n_tup_ins{table="orders"}`; the query itself where there are no labels."""
    labels = ",".join(f"{name}={json.dumps(value)}" for name, value in series if name != "__name__")
    metric = dict(series).get("__name__", "")
    return f"{metric}{{{labels}}}" if labels else metric or shown(query).strip("'\"")


def _by_name(found: Mapping[Series, Number], query: str) -> dict[str, Number]:
    return {_name(series, query): value for series, value in found.items()}


def _with_note(reading: Reading) -> Reading:
    note = (
        f"the server may show a counter for {LOOKBACK / 60:.0f} min after its exporter died, and does not "
        "say how old it is: give `fresh`"
    )
    return replace(reading, notes=(*reading.notes, note))


class ExposedCounters:
    """Counters on the page of an exporter."""

    def __init__(self, spec: Prometheus, *, timeout: float, tools: Tools) -> None:
        self._spec = spec
        self._within = WITHIN * timeout
        self._transport = tools.transport
        self._now: Callable[[], float] = tools.now
        self._http = HttpRequest(url=str(spec.metrics), headers=spec.headers, verify=spec.verify)
        accept = "text/plain;version=0.0.4"
        self._request = self._http.build("GET", User_Agent=tools.agent, Accept=accept)
        self._request.read()
        self._asked = digest(str(spec.metrics), sorted(spec.names), sorted(spec.labels.items()), spec.restart)

    async def read(self, mark: str | None) -> Reading:
        """What the counters say was written since `mark`. Raises Unreachable or OwnFault."""
        spec = self._spec
        answer = await ask(self._transport, self._http, self._request, self._within)
        text = _page(answer)
        found = self._series(text, spec.names, spec.labels)
        missing = [name for name in spec.names if not any(dict(s)["__name__"] == name for s in found)]
        if missing:
            raise Unreachable(f"no series of {', '.join(missing[:3])} on the page")
        started: dict[Series, Number] = {}
        if spec.restart is not None:
            started = self._series(text, [spec.restart], {})
            _must_be_some(started, spec.restart)
        return compared(
            mark,
            Counted(values=_by_name(found, ""), started=_by_name(started, "")),
            asked=self._asked,
            kind=spec.kind,
            grade=f"{spec.kind}s of an exporter",
            lag_s=spec.latest,
        )

    def _series(self, text: str, names: list[str], labels: Mapping[str, str]) -> dict[Series, Number]:
        """The series of `names` whose labels match. Raises Unreachable for one that is old or no number."""
        found: dict[Series, Number] = {}
        for name, of, value, moment in _samples(text, names):
            if not all(fnmatchcase(of.get(label, ""), pattern) for label, pattern in labels.items()):
                continue
            series = tuple(sorted({"__name__": name, **of}.items()))
            if not math.isfinite(value):
                raise Unreachable(f"{_name(series, '')} is {value}")
            if moment is not None and self._now() - moment > max(self._spec.latest, 1.0):
                raise Unreachable(
                    f"{_name(series, '')} is from {self._now() - moment:.0f} s ago, more than lag"
                )
            found[series] = int(value) if float(value).is_integer() and abs(value) < 2**53 else value
        if len(found) > MOST:
            raise Unreachable(f"the page has {len(found)} such series, more than {MOST}: choose with labels")
        return found

    async def aclose(self) -> None:
        """Nothing is held: the transport is the caller's."""


def _page(answer: Answer) -> str:
    """The text of a good page. Raises Unreachable for any other."""
    if not 200 <= answer.status < 300:
        raise Unreachable(f"answered {answer.status}")
    if answer.truncated:
        raise Unreachable(f"the page is longer than {len(answer.body)} bytes: ask for fewer collectors")
    return answer.text


def _samples(text: str, names: list[str]) -> list[tuple[str, dict[str, str], float, float | None]]:
    """(name, labels, value, epoch seconds or None) of the samples of `names`, and of no other line."""
    from prometheus_client.parser import text_string_to_metric_families

    wanted = re.compile(rf"(?:{'|'.join(map(re.escape, names))})[{{ \t]")
    lines = [line for line in text.split("\n") if wanted.match(line)]
    try:
        return [
            (sample.name, sample.labels, float(sample.value), _moment(sample.timestamp))
            for family in text_string_to_metric_families("\n".join(lines) + "\n")
            for sample in family.samples
        ]
    except (ValueError, KeyError, IndexError) as error:
        raise Unreachable(f"the page cannot be read: {shown(writable(str(error)))}") from None


def _moment(stated: Any) -> float | None:
    return None if stated is None else float(stated)


def prometheus_audit(
    spec: PrometheusAudit, timeout: float, tools: Tools
) -> QueriedCounters | ExposedCounters:
    """What an audit of the kind `prometheus` reads."""
    counters = ExposedCounters if spec.prometheus.metrics is not None else QueriedCounters
    return counters(spec.prometheus, timeout=timeout, tools=tools)
