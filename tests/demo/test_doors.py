"""The demo service has two doors, the gateway and the vector store's direct port, and no third."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monitor.demo.operations import OFFERED, OPERATIONS, Door, Operation, Surface
from probes.request import HttpRequest
from probes.write.variants import variants

from .harness import AT_THE_SIDE, BODIES, CANARY, READ_BACKS, ROOT, Demo, assert_proper_refusal, named


@pytest.mark.parametrize("operation", AT_THE_SIDE, ids=lambda operation: operation.name)
def test_frozen_service_refuses_at_the_vector_stores_direct_port_as_well(
    demo: Demo, operation: Operation
) -> None:
    """The same contract, the same counter, and what stands there can still be read."""
    demo.attempt(named("put_vector"), Door.SIDE)
    demo.freeze()

    assert_proper_refusal(demo.attempt(operation, Door.SIDE))

    assert demo.side.get(READ_BACKS[Surface.VECTORS]).status_code == 200
    assert demo.metric('demo_writes_blocked_total{surface="vectors"}') == 1


def test_direct_port_offers_vectors_and_nothing_else(open_demo: Demo) -> None:
    """It writes and deletes the same vectors as the gateway, and is no way to anything else."""
    assert open_demo.attempt(named("put_vector"), Door.SIDE).status_code == 200
    assert open_demo.http.get(READ_BACKS[Surface.VECTORS]).json()["values"] == [0.5, 1.0]
    assert open_demo.attempt(named("delete_vector"), Door.SIDE).status_code == 204

    for operation in OPERATIONS:
        if operation not in OFFERED[Door.SIDE]:
            assert open_demo.attempt(operation, Door.SIDE).status_code == 404
    assert not open_demo.http.get("/flags/a").json()["read_only"]


def test_frozen_direct_port_does_not_refuse_what_it_does_not_offer(demo: Demo) -> None:
    """A 503 there would say that something stands behind it."""
    demo.freeze()

    assert demo.attempt(named("put_value"), Door.SIDE).status_code == 404


@pytest.mark.parametrize(
    ("door", "name"), [*((Door.FRONT, name) for name in BODIES), (Door.SIDE, "put_vector")]
)
def test_no_other_spelling_of_a_write_is_a_way_in(demo: Demo, door: Door, name: str) -> None:
    """Whatever the watchdog tries beside the write itself is refused or unknown, and never a crash."""
    operation = named(name)
    assert operation.surface is not None
    url = str(demo.at(door).base_url).rstrip("/") + operation.path.format(id=CANARY, key=CANARY)
    write = HttpRequest.model_validate({"method": operation.method, "url": url, "json": BODIES[name]})
    demo.freeze()

    answers = {
        spelling: demo.at(door).request(
            other.method or "POST", str(other.url), json=other.json_, headers=other.headers
        )
        for spelling, other in variants(write).items()
    }

    assert len(answers) >= 5
    for spelling, answer in answers.items():
        assert answer.status_code in {404, 405, 503}, spelling
        if answer.status_code == 503:
            assert_proper_refusal(answer)
    assert demo.http.get(READ_BACKS[operation.surface]).status_code == 404


def test_both_doors_on_one_port_are_a_usage_error() -> None:
    """The message names the option to change."""
    command = [sys.executable, "-m", "monitor.demo.service", "--port", "8099", "--vectors-port", "8099"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "--vectors-port 8099 must be another one" in ended.stderr
