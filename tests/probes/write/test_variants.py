"""Other spellings of a write: which there are, and that one which writes while frozen is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from probes.base import Outcome, Result
from probes.http import Transport
from probes.kinds import KINDS
from probes.request import HttpRequest
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.http import VariantSpec, WriteSpec, http_write
from probes.write.variants import variants

from ..harness import AGENT, OPENS, Asked, Pause, Server, Step, frozen, http, refusal

Serve = Callable[..., Server]
PUT = {"url": "https://api.example.com/v1/Vectors/${canary}?x=1", "method": "PUT", "json": {"a": 1}}


def spelled(**request: object) -> dict[str, HttpRequest]:
    return variants(HttpRequest.model_validate(request))


def test_the_spellings_of_a_put() -> None:
    found = spelled(**PUT)

    assert {name: str(each.url) for name, each in found.items()} == {
        "trailing slash": "https://api.example.com/v1/Vectors/${canary}/?x=1",
        "doubled slash": "https://api.example.com//v1/Vectors/${canary}?x=1",
        "other letter case": "https://api.example.com/v1/vectors/${canary}?x=1",
        "method override": PUT["url"],
        "PATCH beside PUT": PUT["url"],
        "batch of one": PUT["url"],
    }
    assert found["method override"].method == "POST"
    assert found["method override"].headers["X-HTTP-Method-Override"] == "PUT"
    assert found["PATCH beside PUT"].method == "PATCH"
    assert found["batch of one"].json_ == [{"a": 1}]


def test_a_lower_case_path_is_asked_in_capitals_and_the_canary_stays() -> None:
    found = spelled(url="http://a.example/kv/${canary}/x${canary_int}", method="PUT")

    assert str(found["other letter case"].url) == "http://a.example/KV/${canary}/X${canary_int}"


def test_a_post_is_asked_under_a_get() -> None:
    found = spelled(url="http://a.example/orders", json={"id": "${canary}"})

    assert found["method override"].method == "GET"
    assert "PATCH beside PUT" not in found


@pytest.mark.parametrize(
    ("query", "aliased"),
    [
        ("mutation { addItem(id: 1) { id } }", "mutation { freezewatch: addItem(id: 1) { id } }"),
        (
            "mutation Add($i: ID!) {\n  addItem(id: $i)}",
            "mutation Add($i: ID!) {\n  freezewatch: addItem(id: $i)}",
        ),
        ("mutation { mine: addItem(id: 1) { id } }", None),
        ("query { items { id } }", None),
    ],
)
def test_a_mutation_gets_an_alias(query: str, aliased: str | None) -> None:
    found = spelled(url="http://a.example/graphql", json={"query": query})

    assert ("GraphQL alias" in found) is (aliased is not None)
    if aliased is not None:
        assert found["GraphQL alias"].json_["query"] == aliased


def test_a_root_path_has_no_slash_to_double() -> None:
    assert set(spelled(url="http://a.example/", method="PUT")) == {"method override", "PATCH beside PUT"}


# -- as probes ------------------------------------------------------------------------------------


def spec(url: str, **others: object) -> WriteSpec:
    item = {"url": f"{url}/items/${{canary}}"}
    return WriteSpec.model_validate(
        {
            "http": {**item, "method": "PUT", "json": {"id": "${canary}"}},
            "read_back": {"http": item},
            "undo": {"http": item},
        }
        | others
    )


def test_they_are_a_probe_of_their_own_on_the_same_surface() -> None:
    write, beside = KINDS["writes"]["http"].expand("vectors", spec("http://127.0.0.1:1"))

    assert (beside.name, beside.surface, beside.slower) == ("vectors/variants", "vectors", 2.0)
    assert len(beside.spec.variants) == 6
    assert write.spec.variants == ()


@pytest.mark.parametrize(
    "without",
    [{"variants": False}, {"read_back": {"waived": "nothing can be read there"}}, {"read_back": None}],
)
def test_they_can_be_turned_off_and_need_a_read_back(without: dict[str, object]) -> None:
    """An answer alone does not say whether a spelling wrote anything."""
    assert len(KINDS["writes"]["http"].expand("vectors", spec("http://127.0.0.1:1", **without))) == 1


class Gateway:
    """A guard that knows PUT below /items/ and nothing else, before a service that knows more."""

    def __init__(self, *holes: str) -> None:
        self.holes = holes
        self.items: set[str] = set()

    def __call__(self, asked: Asked) -> Step | Sequence[Step]:
        path = "/" + asked.target.strip("/").lower()
        if asked.method == "GET" and not asked.header("X-HTTP-Method-Override"):
            return http(200, json_={}) if asked.target in self.items else http(404)
        if asked.method == "DELETE":
            self.items.discard(asked.target)
            return http(204)
        if asked.method == "PUT" and asked.target.startswith("/items/") and not asked.target.endswith("/"):
            return refusal()
        if self._spelling(asked) not in self.holes:
            return http(404)
        self.items.add(path)
        return http(201)

    @staticmethod
    def _spelling(asked: Asked) -> str:
        if asked.method == "PATCH":
            return "PATCH beside PUT"
        if asked.header("X-HTTP-Method-Override"):
            return "method override"
        if asked.target.endswith("/"):
            return "trailing slash"
        return "doubled slash" if asked.target.startswith("//") else "other letter case"


def asking(url: str, transport: Transport, **others: object) -> WriteAttempts:
    sideways = spec(url, **others).beside[0][1]
    assert isinstance(sideways, VariantSpec)
    return http_write(
        name="vectors/variants", window="w", spec=sideways, timeout=1.0, transport=transport, agent=AGENT
    )


async def a_round(probe: WriteAttempts, number: int = 6) -> list[Result]:
    return [await probe.run(frozen(OPENS + slot)) for slot in range(number)]


HOLES = ["PATCH beside PUT", "method override", "trailing slash", "doubled slash", "other letter case"]


@pytest.mark.parametrize("hole", HOLES)
async def test_a_spelling_that_writes_is_a_leak_and_named(
    hole: str, serve: Serve, transport: Transport
) -> None:
    gateway = Gateway(hole)

    results = await a_round(asking(serve(gateway).url, transport))

    leaks = [result for result in results if result.outcome is Outcome.LEAKED]
    assert [leak.figures["variant"] for leak in leaks] == [hole]
    assert leaks[0].reason.startswith(f"{hole}: ")
    assert leaks[0].figures["undone"] is True
    assert gateway.items == set()


async def test_spellings_that_are_no_way_in_are_no_leak(serve: Serve, transport: Transport) -> None:
    """404 for all but the batch, which goes to the known path and is refused."""
    results = await a_round(asking(serve(Gateway()).url, transport))

    assert [result.outcome for result in results].count(Outcome.REFUSED) == 1
    assert [result.outcome for result in results].count(Outcome.UNREACHABLE) == 5
    assert all(result.figures["answered"] is True for result in results)


async def test_an_accepted_spelling_that_writes_nothing_is_no_leak(
    serve: Serve, transport: Transport
) -> None:
    """A GET with an ignored header answers 200 to anybody."""

    def store(asked: Asked) -> Step:
        absent = asked.method == "GET" and asked.target.startswith("/items/")
        return http(404) if absent else http(200)

    results = await a_round(asking(serve(store).url, transport))

    assert {result.outcome for result in results} == {Outcome.UNREACHABLE}
    assert "no way in, nothing was written" in results[0].reason


async def test_a_spelling_without_an_answer_was_not_answered(serve: Serve, transport: Transport) -> None:
    def hung(asked: Asked) -> Step:
        return http(404) if asked.method == "GET" else Pause(30)

    probe = http_write(
        name="v",
        window="w",
        spec=spec(serve(hung).url).beside[0][1],
        timeout=0.2,  # type: ignore[arg-type]
        transport=transport,
        agent=AGENT,
    )

    result = await probe.run(frozen())

    assert (result.outcome, result.figures["answered"]) == (Outcome.UNREACHABLE, False)


def test_the_canary_of_a_spelling_is_its_own() -> None:
    assert canary("w", "vectors", OPENS).text != canary("w", "vectors/variants", OPENS).text
