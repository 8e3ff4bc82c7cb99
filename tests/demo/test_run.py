"""What a run of the demo writes before its window begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.config import read_plan
from monitor.demo.run import MARK, SHORTEST, Service, prepare, write_window
from monitor.errors import UsageError
from probes.base import Kind


def a_service(out: Path) -> Service:
    return Service(
        url="http://127.0.0.1:8099",
        vectors_url="http://127.0.0.1:8100",
        database=out / "data" / "harbour-and-pine.sqlite",
    )


def test_run_begins_without_the_database_of_an_earlier_one(tmp_path: Path) -> None:
    """What a killed service left would be found in the new one; what a user put there stays."""
    data = tmp_path / "data"
    data.mkdir()
    old = [data / f"harbour-and-pine.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]
    for path in [*old, data / "notes.txt", tmp_path / MARK, tmp_path / "demo.ledger"]:
        path.touch()

    prepare(tmp_path)

    assert {path.name for path in tmp_path.rglob("*")} == {MARK, "data", "notes.txt"}


def test_folder_that_is_not_from_a_demo_is_left_alone(tmp_path: Path) -> None:
    """Nothing is taken away from a folder that lacks the mark."""
    (tmp_path / "demo.ledger").touch()

    with pytest.raises(UsageError, match="not from a demo"):
        prepare(tmp_path)

    assert (tmp_path / "demo.ledger").exists()


@pytest.mark.parametrize("name", ["out", "an 'out' of: \"mine\" {{#1}}"])
def test_window_is_sound_and_audits_the_services_database(tmp_path: Path, name: str) -> None:
    """No mistake, no warning, and `storage` stands in the verdict, whatever the folder is called."""
    out = tmp_path / name
    out.mkdir()

    config, _ = write_window(out, a_service(out), 20.0, 1.0)

    plan = read_plan(config)
    (audit,) = plan.of(Kind.AUDIT)
    assert plan.warnings == ()
    assert audit.spec.sqlite.path == str(a_service(out).database)
    assert "storage" not in plan.waive
    assert {probe.surface for probe in plan.of(Kind.WRITE)} >= {"vector-upsert", "vectors-direct"}


def test_every_spelling_has_its_turn_in_the_shortest_window(tmp_path: Path) -> None:
    """In a third of the usual one as well: after that, the watchdog of a fault is killed."""
    config, _ = write_window(tmp_path, a_service(tmp_path), SHORTEST, 1.0)

    spelled = [probe for probe in read_plan(config).of(Kind.WRITE) if probe.spec.variants]

    assert len(spelled) == 5
    for probe in spelled:
        assert probe.every * len(probe.spec.variants) < min(SHORTEST, 20.0 / 3)
