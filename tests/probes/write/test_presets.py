"""Every preset against an imitation of its store, in every state; what a file holds; what the page says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Outcome, Run
from probes.http import Transport
from probes.kinds import KINDS, Each
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.presets.loader import Parameter, Preset, PresetSpec, presets
from tests.servers.object_store import ObjectStore

from ..harness import AGENT, OPENS, Pause, Reset, Server, free_port, frozen, http, opened
from .stores import STORES, Imitation, S3Presigned, entry

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "surfaces.md"
Serve = Callable[..., Server]


def spec_of(name: str, item: dict[str, Any]) -> PresetSpec:
    made = KINDS["writes"][name].spec.model_validate(item)
    assert isinstance(made, PresetSpec)
    return made


def probe(transport: Transport, name: str, url: str, *, timeout: float = 1.0, **beside: Any) -> WriteAttempts:
    """The probe that the table of kinds makes of an entry."""
    kind = KINDS["writes"][name]
    (each, *_) = kind.expand("p", spec_of(name, entry(name, url) | beside))
    made = kind.make(each, timeout, tools(transport))
    assert isinstance(made, WriteAttempts)
    return made


def tools(transport: Transport) -> Tools:
    return Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=transport)


STATES: dict[str, tuple[Callable[..., Run], Outcome]] = {
    "frozen": (frozen, Outcome.REFUSED),
    "partial": (frozen, Outcome.LEAKED_BEHIND_REFUSAL),
    "open": (frozen, Outcome.LEAKED),
    "dropped": (frozen, Outcome.DROPPED),
    "other": (frozen, Outcome.UNREACHABLE),
}


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("state", STATES)
async def test_state_of_a_store_has_its_outcome(
    serve: Serve, transport: Transport, name: str, state: str
) -> None:
    store = STORES[name](state)
    run, outcome = STATES[state]

    result = await probe(transport, name, serve(store).url).run(run())

    assert (result.outcome, result.reason) == (outcome, result.reason)
    assert store.items == {}, "what leaked was undone"


@pytest.mark.parametrize("name", STORES)
async def test_open_store_accepts_and_nothing_is_left(serve: Serve, transport: Transport, name: str) -> None:
    store = STORES[name]()
    attempts = probe(transport, name, serve(store).url)

    results = [await attempts.run(opened(OPENS + slot)) for slot in range(200)]

    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    assert {result.figures["trace"] for result in results} == {"none: undone"}
    assert store.items == {}


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("qdrant", "locked", "403"),
        ("elasticsearch", "cluster", "403 cluster_block_exception"),
        ("elasticsearch", "flood", "200 cluster_block_exception"),
        ("opensearch", "cluster", "403 cluster_block_exception"),
        ("opensearch", "flood", "200 cluster_block_exception"),
    ],
)
async def test_further_ways_to_be_frozen_are_refusals(
    serve: Serve, transport: Transport, name: str, state: str, reason: str
) -> None:
    result = await probe(transport, name, serve(STORES[name](state)).url).run(frozen())

    assert (result.outcome, result.reason) == (Outcome.REFUSED, reason)


async def test_refusal_that_is_hidden_in_a_200_and_applied_is_a_leak_behind_it(
    serve: Serve, transport: Transport
) -> None:
    result = await probe(transport, "elasticsearch", serve(STORES["elasticsearch"]("partial")).url).run(
        frozen()
    )

    assert result.outcome is Outcome.LEAKED_BEHIND_REFUSAL
    assert result.figures["status"] == 200


@pytest.mark.parametrize("name", STORES)
async def test_outage_is_no_refusal(serve: Serve, transport: Transport, name: str) -> None:
    page = http(503, "<html>Service Unavailable", ("Content-Type", "text/html"))

    result = await probe(transport, name, serve(lambda asked: page).url).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize("name", STORES)
async def test_store_that_hangs_or_breaks_off_or_is_not_there_is_unreachable(
    serve: Serve, transport: Transport, name: str
) -> None:
    hangs = probe(transport, name, serve(lambda asked: [Pause(30)]).url, timeout=0.2)
    breaks = probe(transport, name, serve(lambda asked: [Reset()]).url)
    dead = probe(transport, name, f"http://127.0.0.1:{free_port()}")

    outcomes = {(await each.run(frozen())).outcome for each in (hangs, breaks, dead)}

    assert outcomes == {Outcome.UNREACHABLE}


async def test_undo_that_the_freeze_refuses_is_owed_until_writes_are_open(
    serve: Serve, transport: Transport
) -> None:
    store = STORES["graphql"]("open")
    attempts = probe(transport, "graphql", serve(store).url)
    take_away, store.answer = store.answer, lambda *asked: _freezes(store, take_away, *asked)  # type: ignore[method-assign]

    leaked = await attempts.run(frozen())
    store.state = "open"
    store.answer = take_away  # type: ignore[method-assign]
    await attempts.run(opened(OPENS + 1))

    assert leaked.figures["undone"] is False
    assert "says that it failed" in leaked.reason
    assert store.items == {}


def _freezes(store: Imitation, answer: Callable[..., Any], *asked: Any) -> Any:
    """The store freezes right after the first write."""
    said = answer(*asked)
    store.state = "frozen"
    return said


async def test_read_back_that_answers_errors_verifies_nothing(serve: Serve, transport: Transport) -> None:
    result = await probe(transport, "graphql", serve(STORES["graphql"]("blind")).url).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE
    assert "not verified" in result.reason


async def test_answer_that_repeats_the_canary_is_no_refusal(serve: Serve, transport: Transport) -> None:
    result = await probe(transport, "graphql", serve(STORES["graphql"]("other")).url).run(frozen())

    assert (result.outcome, "BAD_USER_INPUT" in result.reason) == (Outcome.UNREACHABLE, True)


# -- what stands beside a preset ------------------------------------------------------------------


async def test_headers_beside_a_preset_are_on_each_of_its_requests(
    serve: Serve, transport: Transport
) -> None:
    store = STORES["elasticsearch"]("partial")

    attempts = probe(
        transport, "elasticsearch", serve(store).url, headers={"Authorization": "ApiKey c2VjcmV0"}
    )
    await attempts.run(frozen())

    assert [asked.method for asked in store.asked] == ["POST", "GET", "DELETE"]
    assert {tuple(asked.header("Authorization")) for asked in store.asked} == {("ApiKey c2VjcmV0",)}
    assert store.asked[0].header("Content-Type") == ["application/x-ndjson"]


def test_what_is_said_beside_a_preset_stands_in_its_place() -> None:
    item = entry("qdrant", "http://127.0.0.1:1") | {
        "surface": "vectors",
        "control": True,
        "queued": [202],
        "refusal": {"status": 423},
        "undo": {"waived": "the collection is thrown away"},
        "read_back": {"waived": "nobody may read there"},
        "headers": {"api-key": "k"},
        "verify": "/etc/ssl/own.pem",
        "variants": False,
    }

    spec = spec_of("qdrant", item)

    write = spec.write
    assert (write.surface, write.control, write.queued, write.refusal.status) == (
        "vectors",
        True,
        [202],
        [423],
    )
    assert write.undo is not None
    assert write.undo.waived is not None
    assert write.http.headers == {"api-key": "k"}
    assert (write.http.verify, spec.beside) == ("/etc/ssl/own.pem", [])


async def test_other_spellings_of_a_preset_are_asked_beside_it(serve: Serve, transport: Transport) -> None:
    kind = KINDS["writes"]["graphql"]
    store = STORES["graphql"]()
    (_, spelled) = kind.expand("p", spec_of("graphql", entry("graphql", serve(store).url)))
    made = kind.make(spelled, 1.0, tools(transport))
    assert isinstance(made, WriteAttempts)

    results = [await made.run(frozen(OPENS + slot)) for slot in range(len(spelled.spec.variants))]
    found = next(result for result in results if result.figures.get("variant") == "GraphQL alias")

    assert (spelled.name, found.outcome) == ("p/variants", Outcome.LEAKED)


@pytest.mark.parametrize("name", ["s3", "s3_presigned"])
def test_no_other_spelling_of_a_key_is_written(name: str) -> None:
    assert len(KINDS["writes"][name].expand("p", spec_of(name, entry(name, "http://127.0.0.1:1")))) == 1


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("qdrant", {"url": "qdrant:6333"}, "is no absolute http:// or https:// URL"),
        ("qdrant", {"url": "http://q/?a=1"}, "no query and no fragment"),
        ("qdrant", {"size": True}, "is no vector"),
        ("qdrant", {"size": 0}, "is no vector"),
        ("qdrant", {"size": [1, "2"]}, "is no vector"),
        ("qdrant", {"size": {"image": {}}}, "is no vector"),
        ("qdrant", {"collection": ""}, "at least 1 character"),
        ("qdrant", {"refused": "("}, "no regular expression"),
        ("qdrant", {"collektion": "x"}, "Extra inputs"),
        ("weaviate", {"properties": []}, "valid dictionary"),
        ("graphql", {"at": "data.item"}, "no JSONPath"),
    ],
)
def test_wrong_parameter_is_a_mistake_that_is_named(name: str, parameters: dict[str, Any], said: str) -> None:
    item = entry(name, "http://127.0.0.1:1")
    item[name] |= parameters

    with pytest.raises(ValidationError, match=re.escape(said)):
        spec_of(name, item)


def test_what_the_parts_together_get_wrong_is_a_mistake_of_the_entry() -> None:
    item = entry("qdrant", "http://user:pw@127.0.0.1:1") | {"headers": {"Authorization": "Bearer hush"}}

    with pytest.raises(ValidationError, match="two credentials") as raised:
        spec_of("qdrant", item)

    assert "hush" not in raised.value.errors()[0]["msg"]


def test_repr_shows_no_secret() -> None:
    item = entry("s3_presigned", "http://user:hush@127.0.0.1:1") | {"headers": {"X-Key": "quiet"}}
    variables = entry("graphql", "http://127.0.0.1:1")
    variables["graphql"]["variables"] = {"token": "silence"}

    shown = repr(spec_of("s3_presigned", item)) + repr(spec_of("graphql", variables))

    assert {word for word in ("hush", "quiet", "silence", "5e2f") if word in shown} == set()


def test_hostile_names_stay_where_they_are_put() -> None:
    item = {
        "elasticsearch": {"url": "http://e", "index": '../_all?x="}\n#', "document": {"a": '"}\n{"delete":1'}}
    }

    write = spec_of("elasticsearch", item).write

    assert write.http.url == "http://e/..%2F_all%3Fx%3D%22%7D%0A%23/_bulk"
    assert write.http.body is not None
    assert len(write.http.body.splitlines()) == 2


# -- S3, as moto has it ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        yield store


SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20261124/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}
"""A token, as far as moto is concerned: it checks no signature, and shows nothing to those who have none."""


def presigned(store: ObjectStore) -> dict[str, Any]:
    client, about = store.client(), {"Bucket": store.bucket, "Key": "imports/freezewatch-canary"}
    verbs = {"put": "put_object", "get": "get_object", "delete": "delete_object"}
    return {
        "s3_presigned": {k: client.generate_presigned_url(verb, Params=about) for k, verb in verbs.items()}
    }


@pytest.mark.xdist_group("s3")
@pytest.mark.parametrize("name", ["s3", "s3_presigned"])
async def test_bucket_of_moto_takes_a_canary_and_is_left_as_it_was(
    bucket: ObjectStore, transport: Transport, name: str
) -> None:
    plain = {"s3": {"url": f"{bucket.url}/{bucket.bucket}", "prefix": "imports/"}, "headers": SIGNED}
    spec = spec_of(name, plain if name == "s3" else presigned(bucket))
    kind = KINDS["writes"][name]
    made = kind.make(Each(name="p", surface="p", spec=spec), 5.0, tools(transport))
    before = bucket.dump()

    accepted = await made.run(opened())
    leaked = await made.run(frozen(OPENS + 1))
    left = bucket.dump()

    assert (accepted.outcome, leaked.outcome) == (Outcome.ACCEPTED, Outcome.LEAKED)
    assert left == before


def test_expired_signature_is_no_refusal() -> None:
    rule = spec_of("s3_presigned", entry("s3_presigned", "http://127.0.0.1:1")).write.refusal
    store = S3Presigned()

    assert rule.body is not None
    assert not re.search(rule.body, store.other().decode())  # type: ignore[union-attr]
    assert re.search(rule.body, store.refused().decode())  # type: ignore[union-attr]


# -- the files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets())
def test_file_holds_a_preset_that_uses_each_parameter_and_no_other(name: str) -> None:
    preset = presets()[name]

    parts = [preset.http, preset.refusal, preset.read_back, preset.undo]
    used = set(re.findall(r"\$\{([a-z_]+)\}", str(parts))) - {"canary", "canary_uuid", "canary_int"}
    assert used == set(preset.parameters)


@pytest.mark.parametrize("name", presets())
def test_preset_reads_back_undoes_and_leaves_no_doubt(name: str) -> None:
    spec = spec_of(name, entry(name, "http://127.0.0.1:1"))

    assert (spec.verified, spec.undoable, spec.doubts) == (True, True, [])
    assert "${canary" in str(spec.write.model_dump()["read_back"]) or name == "s3_presigned"


@pytest.mark.parametrize("name", presets())
def test_file_says_where_it_is_from(name: str) -> None:
    text = resources.files("probes.write").joinpath("presets", f"{name}.yaml").read_text("utf-8")

    assert "# Sources: " in text
    assert max(map(len, text.splitlines())) <= 120


def test_every_preset_has_an_imitation_and_a_kind() -> None:
    assert set(presets()) == set(STORES)
    assert set(presets()) <= set(KINDS["writes"])


def test_placeholder_that_is_no_parameter_is_left_for_the_attempt() -> None:
    preset = Preset.model_validate(
        {
            "about": "for this test",
            "parameters": {"url": {"type": "url", "meaning": "where"}},
            "http": {"url": "${url}/${canary}", "json": {"${canary}": "${canary_int}", "x": "${unknown}"}},
            "refusal": {},
            "read_back": {},
            "undo": {},
        }
    )

    filled = preset.filled({"url": "http://a"}, {}, True)

    assert filled["http"]["url"] == "http://a/${canary}"
    assert filled["http"]["json"] == {"${canary}": "${canary_int}", "x": "${unknown}"}


@pytest.mark.parametrize("name", presets())
def test_page_has_each_preset_with_each_parameter_and_its_default(name: str) -> None:
    text = PAGE.read_text("utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]

    for key, parameter in presets()[name].parameters.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        kind, default, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:5])
        assert (kind, meaning) == (parameter.type, parameter.meaning)
        assert default == _as_on_the_page(parameter)


def _as_on_the_page(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None:
        return "none"
    if isinstance(parameter.default, str):
        return "`" + (parameter.default.replace("|", "\\|") or '""') + "`"
    return f"`{json.dumps(parameter.default)}`"


@pytest.mark.skipif(os.environ.get("FREEZEWATCH_NO_BUILD") == "1", reason="no build here")
def test_wheel_holds_the_files(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")

    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)

    (wheel,) = tmp_path.glob("*.whl")
    held = {
        name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".yaml") and "presets" in name
    }
    assert held == {f"probes/write/presets/{name}.yaml" for name in presets()}


@pytest.mark.xdist_group("s3")
async def test_bucket_of_moto_that_hangs_is_unreachable(transport: Transport) -> None:
    with ObjectStore() as store:
        spec = spec_of("s3", {"s3": {"url": f"{store.url}/{store.bucket}"}})
        made = KINDS["writes"]["s3"].make(Each(name="p", surface="p", spec=spec), 0.5, tools(transport))
        assert store.pid is not None
        os.kill(store.pid, signal.SIGSTOP)

        hung = await made.run(frozen())
        os.kill(store.pid, signal.SIGCONT)
        store.kill()
        dead = await made.run(frozen(OPENS + 1))

    assert (hung.outcome, dead.outcome) == (Outcome.UNREACHABLE, Outcome.UNREACHABLE)
