"""Counters in a real Prometheus that scrapes a real exporter, which dies; and the exporter asked itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from probes.base import Outcome, Result, Run
from probes.http import Transport
from probes.kinds import KINDS, Each
from probes.tools import Tools
from tests.prometheus.harness import Prometheus, prometheus

from ..harness import AGENT, OPENS, Asked, Server, Step, free_port, http
from .exporter import Exporter

Serve = Callable[..., Server]
pytestmark = pytest.mark.xdist_group("prometheus")


PORTS = [free_port() for _ in range(14)]
"""Of exporters: Prometheus waits for five seconds after its start, so one scrapes for all tests."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    targets = [f"127.0.0.1:{port}" for port in PORTS]
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets) as running:
        yield running


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter(PORTS.pop())
    made.tell("add/orders/5")
    yield made
    made.kill()


def of(exporter: Exporter) -> str:
    return f'writes_total{{instance="127.0.0.1:{exporter.port}"}}'


@pytest.fixture
def scraped(exporter: Exporter, server: Prometheus) -> Exporter:
    _until(lambda: server.now(f"sum({of(exporter)})") == 5)
    return exporter


def _until(condition: Callable[[], bool], *, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def audit(transport: Transport, *, timeout: float = 2.0, now: float | None = None, **spec: Any) -> Any:
    kind = KINDS["audits"]["prometheus"]
    made = kind.spec.model_validate({"prometheus": spec})
    tools = Tools(
        window="w",
        opens=OPENS,
        closes=OPENS + 3600,
        agent=AGENT,
        transport=transport,
        now=time.time if now is None else lambda: now,
    )
    return kind.make(Each(name="a", surface="a", spec=made), timeout, tools)


def queried(
    transport: Transport, server: Prometheus, exporter: Exporter, query: str = "W", **more: Any
) -> Any:
    """An audit whose query has the exporter's counters for its W."""
    spec: dict[str, Any] = {"url": str(server.http.base_url), "query": query, "lag": "4s"} | more
    filled = {key: spec[key].replace("W", of(exporter)) for key in ("query", "fresh") if key in spec}
    return audit(transport, **(spec | filled))


async def read(made: Any) -> Result:
    result: Result = await made.run(Run(slot=OPENS, phase="frozen", frozen=True, started=OPENS))
    return result


async def read_until(made: Any, outcome: Outcome, *, within: float = 20.0) -> Result:
    """Readings until one has the outcome: Prometheus scrapes once a second."""
    deadline = time.monotonic() + within
    while (result := await read(made)).outcome is not outcome:
        assert time.monotonic() < deadline, result
        await asyncio.sleep(0.2)
    return result


# -- a query --------------------------------------------------------------------------------------


async def test_write_is_seen_and_named_by_its_labels(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    made = queried(transport, server, scraped, "sum by (table) (W)", fresh="min(timestamp(W))")
    first, second = await read(made), await read(made)
    scraped.tell("add/orders/2")

    found = await read_until(made, Outcome.CHANGED)

    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert found.figures["what"] == ['{table="orders"}: 2 × write']
    assert (found.figures["lag_s"], found.figures["notes"]) == (4.0, [])


async def test_exporter_that_died_is_not_a_store_at_rest(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    made = queried(transport, server, scraped)
    await read(made)
    scraped.kill()

    gone = await read_until(made, Outcome.UNREACHABLE)
    scraped.start()
    scraped.tell("add/orders/5")
    back = await read_until(made, Outcome.OK)

    assert "no series" in gone.reason
    assert back.outcome is Outcome.OK, "the same counter again, and nothing was written"


async def test_sample_that_lingers_after_its_exporter_died_is_too_old(
    exporter: Exporter, server: Prometheus, transport: Transport
) -> None:
    exporter.tell("stamp")
    made = queried(transport, server, exporter)
    await read_until(made, Outcome.OK)
    exporter.kill()

    gone = await read_until(made, Outcome.UNREACHABLE)

    assert "was last seen" in gone.reason or "no series" in gone.reason
    assert server.now(f"sum({of(exporter)})") == 5, "Prometheus shows it still"


async def test_query_of_unknown_age_says_so_and_is_late_by_the_lookback(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    result = await read(queried(transport, server, scraped, "sum(W)"))

    known = result.figures["lag_s"] == 4.0
    assert known or (result.figures["lag_s"] == 300.0 and "give `fresh`" in str(result.figures["notes"]))


async def test_restart_of_the_exporter_cannot_be_told(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    made = queried(transport, server, scraped, restart="process_start_time_seconds{job='freezewatch'}")
    fell = queried(transport, server, scraped)
    await read(made)
    await read(fell)
    scraped.tell("restart")
    scraped.tell("add/orders/9")

    result = await read_until(made, Outcome.UNKNOWN)
    after = await read(made)

    assert ("started again" in result.reason, after.outcome) == (True, Outcome.OK)


async def test_new_counter_is_unknown_until_it_rises_again(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    made = queried(transport, server, scraped)
    await read(made)
    scraped.tell("add/carts/3")

    new = await read_until(made, Outcome.UNKNOWN)
    scraped.tell("add/carts/1")
    risen = await read_until(made, Outcome.CHANGED)

    assert "is new, at 3" in new.reason
    assert 'table="carts"' in str(risen.figures["what"])


async def test_counter_that_is_gone_leaves_the_rest_unread(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    scraped.tell("add/carts/3")
    _until(lambda: server.now(f"sum({of(scraped)})") == 8)
    made = queried(transport, server, scraped)
    await read(made)
    scraped.tell("forget/carts")

    gone = await read_until(made, Outcome.UNREACHABLE)
    scraped.tell("add/orders/1")
    found = await read_until(made, Outcome.CHANGED)

    assert "no value any more of" in gone.reason
    assert "no value any more of" in str(found.figures["unknown"])


NO_COUNTERS = {
    "nothing_of_the_sort": "no series for",
    "W{": "parse error",
    "W[1m]": "gives a 'matrix'",
    "'text'": "gives a 'string'",
    "W / 0": "is +Inf",
    "0 * W / 0": "is NaN",
    "label_replace(vector(1), '9', 'x', '', '')": "answered 4",
}


async def test_query_that_gives_no_counters_is_unread(
    scraped: Exporter, server: Prometheus, transport: Transport
) -> None:
    for query, reason in NO_COUNTERS.items():
        result = await read(queried(transport, server, scraped, query))

        assert (result.outcome, reason in result.reason) == (Outcome.UNREACHABLE, True), result.reason


async def test_scalar_is_a_counter_too(scraped: Exporter, server: Prometheus, transport: Transport) -> None:
    made = queried(transport, server, scraped, "scalar(sum(W))")
    name = "scalar(sum(W))".replace("W", of(scraped))
    await read(made)
    scraped.tell("add/orders/1")

    found = await read_until(made, Outcome.CHANGED)

    assert found.figures["what"] == [f"{name}: 1 × write"]


async def test_server_that_hangs_or_died_is_unreachable(tmp_path: Path, transport: Transport) -> None:
    with prometheus(tmp_path, []) as server:
        made = audit(transport, timeout=3.0, url=str(server.http.base_url), query="vector(1)")
        first = await read(made)
        (pid,) = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _is_of(p, server)]

        os.kill(pid, signal.SIGSTOP)
        hung = await read(made)
        os.kill(pid, signal.SIGKILL)
        dead = await read(made)

    outcomes = (first.outcome, hung.outcome, dead.outcome)
    assert outcomes == (Outcome.OK, Outcome.UNREACHABLE, Outcome.UNREACHABLE)


def _is_of(process: Path, server: Prometheus) -> bool:
    """Is it the process that listens on the server's port? It is ours, since the port is."""
    port = f":{server.http.base_url.port:04X}"
    try:
        held = {str(file.readlink()) for file in (process / "fd").iterdir()}
        rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[1].endswith(port) and row[3] == "0A" and f"socket:[{row[9]}]" in held for row in rows)


# -- servers that answer otherwise ----------------------------------------------------------------


class Api:
    """What answers like the query API of a newer server, or of one that is none."""

    def __init__(self, *, lookback: bool = True) -> None:
        self.lookback = lookback
        self.vectors: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []

    def __call__(self, asked: Asked) -> Step:
        params = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        self.asked.append(params)
        if params.get("lookback_delta") == "nonsense":
            if self.lookback:
                return http(400, json_={"status": "error", "errorType": "bad_data", "error": "cannot parse"})
            return self._vector([{"metric": {}, "value": [100.0, "1"]}])
        return self._vector(self.vectors.get(params["query"], []))

    def _vector(self, result: Any) -> bytes:
        data = {"resultType": "vector", "result": result}
        return http(200, json_={"status": "success", "data": data, **self.more})


def one(value: object, at: float = 1000.0, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [at, value]}


def asking(serve: Serve, transport: Transport, api: Any, query: str = "sum(x)", **more: Any) -> Any:
    return audit(transport, **({"url": serve(api).url + "/prefix/", "query": query} | more))


async def test_newer_server_is_told_to_leave_old_samples_out(serve: Serve, transport: Transport) -> None:
    api = Api()
    api.vectors["sum(x)"] = [one("3")]

    result = await read(asking(serve, transport, api, lag="15s"))

    assert (result.outcome, result.figures["lag_s"], result.figures["notes"]) == (Outcome.OK, 15.0, [])
    assert [params["lookback_delta"] for params in api.asked] == ["nonsense", "15.000"]


async def test_old_sample_of_an_older_server_is_too_old(serve: Serve, transport: Transport) -> None:
    api = Api(lookback=False)
    api.vectors = {"x": [one("3", table="a")], "timestamp(x)": [one("960", table="a")]}

    result = await read(asking(serve, transport, api, "x"))

    assert (result.outcome, result.reason) == (
        Outcome.UNREACHABLE,
        '{table="a"} was last seen 40 s ago: its exporter or Prometheus itself has stopped',
    )


@pytest.mark.parametrize(
    "query",
    ["x", ' x {a="}", b=~\'{.*"\'} ', "{__name__=~'a|b'}", "ns:x"],
)
async def test_time_of_a_plain_selector_is_asked(serve: Serve, transport: Transport, query: str) -> None:
    api = Api()
    api.vectors = {query: [one("3")], f"timestamp({query})": [one("999")]}

    result = await read(asking(serve, transport, api, query))

    assert (result.outcome, len(api.asked)) == (Outcome.OK, 3), result.reason


@pytest.mark.parametrize(
    ("result", "more", "reason"),
    [
        ([one("1")], {"warnings": ["store 10.0.0.7 is down"]}, "may be partial: store 10.0.0.7 is down"),
        ([one("x")], {}, "no number"),
        ([one(None)], {}, "no number"),
        ([{"metric": {}, "histogram": [1, {}]}], {}, "no number"),
        ([7], {}, "no number"),
        ("many", {}, "more than 500"),
        ([one("1", n=str(n)) for n in range(501)], {}, "501 series, more than 500"),
        ([one("1")], {"status": "error", "error": "x"}, "none of Prometheus's API"),
        ([one("1")], {"data": []}, "none of Prometheus's API"),
    ],
)
async def test_answer_that_cannot_be_used_is_unread(
    serve: Serve, transport: Transport, result: Any, more: dict[str, Any], reason: str
) -> None:
    api = Api()
    made = asking(serve, transport, api)
    api.vectors["sum(x)"] = [one("1")]
    await read(made)
    api.vectors["sum(x)"], api.more = (None if result == "many" else result), more

    found = await read(made)

    assert found.outcome is Outcome.UNREACHABLE
    assert reason in found.reason or result == "many"


async def test_page_of_something_else_is_unread(serve: Serve, transport: Transport) -> None:
    for said in (http(200, "<html>"), http(404, b""), http(200, json_=[]), http(401, b"")):
        result = await read(asking(serve, transport, lambda asked, said=said: said))

        assert result.outcome is Outcome.UNREACHABLE


async def test_part_that_was_away_is_not_taken_for_writes(serve: Serve, transport: Transport) -> None:
    """One of two instances is not scraped for a while: the sum falls, and comes back."""
    api = Api()
    made = asking(serve, transport, api)
    outcomes = []

    for value in ("150", "100", "103", "153"):
        api.vectors["sum(x)"] = [one(value)]
        outcomes.append((await read(made)).outcome)

    assert outcomes == [Outcome.OK, Outcome.UNKNOWN, Outcome.CHANGED, Outcome.UNKNOWN]


# -- an exporter's own page -----------------------------------------------------------------------


def exposed(transport: Transport, url: str, **more: Any) -> Any:
    return audit(transport, **({"metrics": f"{url}/metrics", "names": ["writes_total"]} | more))


async def test_exporter_is_asked_itself(exporter: Exporter, transport: Transport) -> None:
    made = exposed(transport, exporter.url, restart="process_start_time_seconds")
    first = await read(made)
    exporter.tell("add/orders/2")
    found = await read(made)
    exporter.tell("restart")
    exporter.tell("add/orders/99")
    again = await read(made)
    exporter.kill()
    dead = await read(made)

    assert (first.outcome, first.figures["grade"]) == (Outcome.OK, "counters of an exporter")
    assert found.figures["what"] == ['writes_total{table="orders"}: 2 × write']
    assert (again.outcome, dead.outcome) == (Outcome.UNKNOWN, Outcome.UNREACHABLE)


async def test_only_series_whose_labels_match_are_read(exporter: Exporter, transport: Transport) -> None:
    exporter.tell("add/sessions/1")
    made = exposed(transport, exporter.url, labels={"table": "ord*"})
    await read(made)
    exporter.tell("add/sessions/1")

    result = await read(made)

    assert (result.outcome, result.figures["counters"]) == (Outcome.OK, 1)


PAGES: dict[str, tuple[str, str]] = {
    "missing": ("other 3\n", "no series of writes_total"),
    "a longer name": ("writes_total_more 3\n", "no series of writes_total"),
    "NaN": ("writes_total NaN\n", "is nan"),
    "infinity": ('writes_total{a="b"} +Inf\n', 'writes_total{a="b"} is inf'),
    "not a number": ("writes_total many\n", "cannot be read"),
    "broken labels": ('writes_total{a="b 3\n', "cannot be read"),
    "an old sample": ("writes_total 3 1000\n", "more than lag"),
    "too many": ("".join(f'writes_total{{n="{n}"}} 1\n' for n in range(501)), "501 such series"),
    "too long": ("# " + "x" * (1 << 20) + "\nwrites_total 3\n", "longer than"),
}


@pytest.mark.parametrize(("page", "reason"), PAGES.values(), ids=PAGES)
async def test_page_that_cannot_be_used_is_unread(
    serve: Serve, transport: Transport, page: str, reason: str
) -> None:
    result = await read(exposed(transport, serve(lambda asked: http(200, page)).url))

    assert (result.outcome, reason in result.reason) == (Outcome.UNREACHABLE, True), result.reason


async def test_labels_of_any_kind_are_read(serve: Serve, transport: Transport) -> None:
    page = 'writes_total{a="x\\"y\\\\z\\nü\u2028}",b="{1}"} 9007199254740993 \nwrites_total{a=""}\t2e3\n'

    result = await read(exposed(transport, serve(lambda asked: http(200, page.encode())).url))

    assert (result.outcome, result.figures["counters"]) == (Outcome.OK, 2), result.reason


async def test_large_page_does_not_hold_the_loop_up(serve: Serve, transport: Transport) -> None:
    noise = "".join(f'other_metric_{n}{{label="value"}} {n}\n' for n in range(24_000))
    made = exposed(transport, serve(lambda asked: http(200, noise + "writes_total 3\n")).url)
    await read(made)

    began = time.process_time()
    result = await read(made)

    assert result.outcome is Outcome.OK
    assert time.process_time() - began < 0.5, "24,000 lines are looked at, one is parsed"


Q = {"url": "http://p:9090", "query": "x"}
M = {"metrics": "http://e:9187/metrics", "names": ["x"]}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"url": "http://p"},
        {"query": "x"},
        Q | M,
        Q | {"names": ["x"]},
        Q | {"labels": {"a": "b"}},
        Q | {"url": "http://p?x=1"},
        Q | {"url": "p:9090"},
        Q | {"query": ""},
        Q | {"kind": "rate"},
        Q | {"lag": 5},
        Q | {"headers": {"a": "b\nc"}},
        Q | {"step": "1m"},
        M | {"names": []},
        M | {"names": ["x y"]},
        M | {"names": "x"},
        M | {"fresh": "x"},
        M | {"restart": "min(x)"},
        M | {"labels": {"a": ""}},
    ],
    ids=str,
)
def test_wrong_key_is_a_mistake(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KINDS["audits"]["prometheus"].spec.model_validate({"prometheus": spec})


def test_rate_and_gauge_are_doubted() -> None:
    spec = KINDS["audits"]["prometheus"].spec
    rate: Any = spec.model_validate({"prometheus": Q | {"query": "sum(rate(x[1m]))", "kind": "gauge"}})
    sound: Any = spec.model_validate({"prometheus": Q | {"query": "sum(rated_total)"}})

    assert (len(rate.doubts), sound.doubts) == (2, [])
