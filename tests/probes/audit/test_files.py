"""The audit of files, on real trees."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.answer import Unreachable
from probes.audit.audit import Audit
from probes.audit.files.source import FilesAudit, FilesSource
from probes.audit.files.tree import printable
from probes.base import Outcome, Result, Run
from probes.write.canary import canary

CANARY = canary("window", "probe", 1.0).text


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`index` with three files, a directory and a link out of it."""
    root = tmp_path / "index"
    (root / "segments").mkdir(parents=True)
    (tmp_path / "outside").write_text("outside")
    (root / "meta.json").write_text("{}")
    (root / "segments" / "0.bin").write_bytes(b"\0" * 1000)
    (root / "segments" / "1.bin").write_bytes(b"\1" * 1000)
    (root / "link").symlink_to(tmp_path / "outside")
    return root


class Auditor:
    """Drives the real audit as the watchdog does; `restart` forgets all but what was recorded."""

    def __init__(
        self, path: Path, timeout: float = 5, exempt: list[dict[str, str]] | None = None, **options: Any
    ) -> None:
        self.spec = FilesAudit.model_validate(
            {"files": {"path": str(path), **options}, "exempt": exempt or []}
        )
        self.timeout = timeout
        self.mark: str | None = None
        self.restart()

    def restart(self) -> None:
        source = FilesSource(self.spec, self.timeout)
        self.audit = Audit(
            name="files", source=source, exempt=self.spec.exempt, timeout=self.timeout, opens=0.0
        )
        if self.mark is not None:
            self.audit.resume(self.mark, 1.0)

    async def read(self) -> Result:
        result = await self.audit.run(Run(slot=1.0, phase="frozen", frozen=True, started=time.time()))
        mark = result.figures.get("mark")
        self.mark = str(mark) if mark is not None else self.mark
        return result


def what(result: Result) -> list[str]:
    said = result.figures["what"]
    assert isinstance(said, list)
    return [each for each in said if not each.startswith(".:")]


async def test_files_that_were_added_changed_and_removed_are_named(tree: Path) -> None:
    auditor = Auditor(tree)
    first = await auditor.read()

    (tree / "segments" / "2.bin").write_bytes(b"2")
    (tree / "segments" / "0.bin").write_bytes(b"\0" * 1001)
    (tree / "meta.json").unlink()
    result = await auditor.read()
    quiet = await auditor.read()

    assert first.reason == "first reading (file manifest)"
    assert first.figures["entries"] == 6
    assert what(result) == [
        "meta.json: 1 × delete",
        "segments/0.bin: 1 × update",
        "segments/2.bin: 1 × insert",
    ]
    assert (quiet.outcome, quiet.reason) == (
        Outcome.OK,
        "nothing written since the reading before (file manifest)",
    )


def rewritten(root: Path) -> None:
    (root / "meta.json").write_text("[]")


def renamed_over(root: Path) -> None:
    (root / "new").write_text("{}")
    stamp = (root / "meta.json").stat()
    os.utime(root / "new", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (root / "new").replace(root / "meta.json")


def set_back(root: Path) -> None:
    stamp = (root / "meta.json").stat()
    (root / "meta.json").write_text("[]")
    os.utime(root / "meta.json", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def in_the_past(root: Path) -> None:
    (root / "meta.json").write_text("[]")
    os.utime(root / "meta.json", (1, 1))


def in_the_future(root: Path) -> None:
    os.utime(root / "meta.json", (2**33, 2**33))


def made_writable(root: Path) -> None:
    (root / "meta.json").chmod(0o666)


def pointed_elsewhere(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")


def became_a_link(root: Path) -> None:
    (root / "meta.json").unlink()
    (root / "meta.json").symlink_to("segments/0.bin")


def new_directory(root: Path) -> None:
    (root / "empty").mkdir()


def moved(root: Path) -> None:
    (root / "segments").rename(root / "segments-2")


def new_pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")


@pytest.mark.parametrize(
    "change",
    [
        rewritten,
        renamed_over,
        set_back,
        in_the_past,
        in_the_future,
        made_writable,
        pointed_elsewhere,
        became_a_link,
        new_directory,
        moved,
        new_pipe,
    ],
    ids=lambda change: str(change.__name__),
)
@pytest.mark.parametrize("hashed", [False, True])
async def test_the_least_change_is_seen(tree: Path, change: Callable[[Path], None], hashed: bool) -> None:
    auditor = Auditor(tree, hash=hashed)
    await auditor.read()

    change(tree)
    result = await auditor.read()

    assert result.outcome is Outcome.CHANGED, result.reason
    assert what(result)


def read_through(root: Path) -> None:
    (root / "meta.json").read_text()


def access_time_set(root: Path) -> None:
    stamp = (root / "meta.json").stat()
    os.utime(root / "meta.json", ns=(1, stamp.st_mtime_ns))


def linked_from_a_backup(root: Path) -> None:
    (root.parent / "backup").hardlink_to(root / "meta.json")


def target_of_the_link_written(root: Path) -> None:
    (root.parent / "outside").write_text("changed")


@pytest.mark.parametrize(
    "harmless",
    [read_through, access_time_set, linked_from_a_backup, target_of_the_link_written],
    ids=lambda harmless: str(harmless.__name__),
)
@pytest.mark.parametrize("hashed", [False, True])
async def test_what_writes_nothing_is_no_change(
    tree: Path, harmless: Callable[[Path], None], hashed: bool
) -> None:
    auditor = Auditor(tree, hash=hashed)
    await auditor.read()

    harmless(tree)
    result = await auditor.read()

    assert result.outcome is Outcome.OK, result.reason


async def test_with_hash_a_write_behind_set_times_is_seen_even_where_a_backup_linked_the_file(
    tree: Path,
) -> None:
    by_stamps, by_content = Auditor(tree), Auditor(tree, hash=True)
    await by_stamps.read()
    await by_content.read()

    set_back(tree)
    linked_from_a_backup(tree)

    assert (await by_stamps.read()).outcome is Outcome.OK
    assert what(await by_content.read()) == ["meta.json: 1 × update"]


async def test_reading_contents_leaves_the_time_of_access(tree: Path) -> None:
    os.utime(tree / "meta.json", (1, 2))

    await Auditor(tree, hash=True).read()

    assert (tree / "meta.json").stat().st_atime == 1


async def test_a_file_that_came_and_went_between_two_readings_touches_its_directory(tree: Path) -> None:
    auditor = Auditor(tree)
    await auditor.read()

    (tree / "segments" / "brief").write_text("x")
    (tree / "segments" / "brief").unlink()
    result = await auditor.read()

    assert (result.outcome, result.figures["touched"]) == (Outcome.OK, 1)


async def test_a_canary_file_is_ours(tree: Path) -> None:
    auditor = Auditor(tree)
    await auditor.read()

    (tree / "segments" / f"{CANARY}.json").write_text("{}")
    leaked = await auditor.read()
    auditor.restart()
    (tree / "segments" / f"{CANARY}.json").unlink()
    undone = await auditor.read()
    (tree / "freezewatch-notes.txt").write_text("somebody's")
    somebody = await auditor.read()

    assert (leaked.outcome, leaked.figures["own"]) == (Outcome.OK, 1)
    assert (undone.outcome, undone.figures["own"]) == (Outcome.OK, 1)
    assert what(somebody) == ["freezewatch-notes.txt: 1 × insert"]


async def test_one_file_is_audited_by_itself(tree: Path) -> None:
    auditor = Auditor(tree / "meta.json")
    await auditor.read()

    (tree / "other").write_text("x")
    beside = await auditor.read()
    (tree / "meta.json").write_text("[]")

    assert beside.outcome is Outcome.OK
    assert what(await auditor.read()) == ["meta.json: 1 × update"]


async def test_a_link_as_the_path_leads_to_the_tree_of_the_moment(tree: Path) -> None:
    current = tree.parent / "current"
    current.symlink_to(tree)
    (tree.parent / "next").mkdir()
    auditor = Auditor(current)
    await auditor.read()

    (tree / "meta.json").write_text("[]")
    through = await auditor.read()
    current.unlink()
    current.symlink_to(tree.parent / "next")
    swapped = await auditor.read()

    assert what(through) == ["meta.json: 1 × update"]
    assert "meta.json: 1 × delete" in what(swapped)


async def test_only_what_is_included_and_not_excluded_is_compared(tree: Path) -> None:
    some = Auditor(tree, include=["*.bin"])
    without = Auditor(tree, exclude=["segments/*", "*.tmp"])
    for auditor in (some, without):
        await auditor.read()

    (tree / "meta.json").write_text("[]")
    (tree / "deep.tmp").write_text("")
    (tree / "segments" / "1.bin").write_bytes(b"9")

    assert what(await some.read()) == ["segments/1.bin: 1 × update"]
    assert what(await without.read()) == ["meta.json: 1 × update"]


async def test_a_directory_that_is_excluded_is_not_looked_into(tree: Path) -> None:
    deep = tree / "cache" / "deep"
    deep.mkdir(parents=True)
    auditor = Auditor(tree, exclude=["cache"])
    await auditor.read()

    (deep / "x").write_text("x")

    assert (await auditor.read()).outcome is Outcome.OK


async def test_thousands_of_changes_are_all_counted_and_exempt_ones_apart(tree: Path) -> None:
    auditor = Auditor(tree, exempt=[{"path": "*.log", "reason": "logs are written on"}])
    await auditor.read()

    for number in range(1200):
        (tree / f"a{number}").touch()
        (tree / f"b{number}.log").touch()
    result = await auditor.read()

    assert (result.figures["changes"], result.figures["exempt"]) == (1200, 1200)


async def test_a_file_may_be_exempt_by_its_path_over_a_restart_too(tree: Path) -> None:
    exempt = [{"path": "*.log", "reason": "logs are written on"}]
    auditor = Auditor(tree, exempt=exempt)
    (tree / "app.log").write_text("1")
    await auditor.read()

    (tree / "app.log").write_text("12")
    kept = await auditor.read()
    auditor.restart()
    (tree / "app.log").write_text("123")
    restarted = await auditor.read()

    assert (kept.outcome, kept.figures["exempt"]) == (Outcome.OK, 1)
    assert restarted.outcome is Outcome.OK


async def test_after_a_restart_the_number_is_named(tree: Path) -> None:
    auditor = Auditor(tree)
    await auditor.read()

    auditor.restart()
    quiet = await auditor.read()
    auditor.restart()
    (tree / "meta.json").write_text("[]")
    changed = await auditor.read()
    auditor.restart()
    (tree / "more").write_text("")
    grown = await auditor.read()

    assert quiet.outcome is Outcome.OK
    assert what(changed) == [f"{tree}: 1 × write"]
    assert what(grown) == [f"{tree}: 1 × insert"]


async def test_awkward_names_are_printable_and_told_apart(tree: Path) -> None:
    names = [
        b"new\nline",
        b"\xff\xfe",
        b"back\\slash",
        "naïve ✓ 'q\"".encode(),
        b"\x1b[31m",
        b"-rf *",
        b"\\udcff\\udcfe",
    ]
    auditor = Auditor(tree)
    await auditor.read()

    for name in names:
        (tree / os.fsdecode(name)).write_text("x")
    result = await auditor.read()

    assert len(what(result)) == len(names)
    assert all(each.isprintable() for each in what(result))
    assert len({printable(os.fsdecode(name)) for name in names}) == len(names)


# -- what cannot be told is not taken for silence ------------------------------------------------------


async def test_a_path_that_was_never_there_is_unreachable(tmp_path: Path) -> None:
    result = await Auditor(tmp_path / "absent").read()

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "there is no such file or directory")


async def test_a_tree_that_vanished_is_a_change_and_so_is_its_return(tree: Path) -> None:
    auditor = Auditor(tree)
    await auditor.read()

    tree.rename(tree.parent / "away")
    gone = await auditor.read()
    still = await auditor.read()
    (tree.parent / "away").rename(tree)
    back = await auditor.read()

    assert gone.outcome is Outcome.CHANGED
    assert gone.figures["changes"] == 6
    assert gone.figures["notes"] == ["nothing is there any more"]
    assert (still.outcome, back.outcome) == (Outcome.OK, Outcome.CHANGED)


async def test_a_file_system_that_is_not_mounted_any_more_is_unreachable(tree: Path) -> None:
    auditor = Auditor(tree)
    first = await auditor.read()
    mark = str(first.figures["mark"])
    device = tree.stat().st_dev

    tree.rename(tree.parent / "away")
    auditor.audit.resume(mark.replace(f'"device":{device}', f'"device":{device + 1}'), 1.0)
    result = await auditor.read()

    assert (result.outcome, result.reason) == (
        Outcome.UNREACHABLE,
        "nothing is there: its file system is not mounted",
    )


async def test_another_file_system_in_its_place_is_unknown(tree: Path) -> None:
    auditor = Auditor(tree)
    mark = str((await auditor.read()).figures["mark"])
    device = tree.stat().st_dev

    auditor.audit.resume(mark.replace(f'"device":{device}', f'"device":{device + 1}'), 1.0)
    result = await auditor.read()

    assert result.outcome is Outcome.UNKNOWN
    assert "another file system" in result.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
async def test_without_the_right_to_look_the_reading_is_unreachable_and_names_the_place(
    tmp_path: Path,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # others close pytest's own folder
        await _asked_by_nobody(Path(name))


async def _asked_by_nobody(place: Path) -> None:
    place.chmod(0o755)
    (place / "closed").mkdir(mode=0o700)
    (place / "secret").write_text("x")
    (place / "secret").chmod(0o600)
    program = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from tests.probes.audit.test_files import Auditor\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "async def main():\n"
        "    for options in ({}, {'exclude': ['closed/*']}, {'exclude': ['closed'], 'hash': True}):\n"
        "        print((await Auditor(Path(sys.argv[1]), **options).read()).reason)\n"
        "asyncio.run(main())\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program, str(place)], capture_output=True, text=True, check=False
    )

    assert said.stdout.splitlines() == [
        "there is no right to look at closed/: exclude it, or give the right",
        "first reading (file manifest)",
        "there is no right to look at secret: exclude it, or give the right",
    ], said.stderr


async def test_more_entries_than_allowed_are_unreachable(tree: Path) -> None:
    result = await Auditor(tree, at_most=5).read()

    assert result.outcome is Outcome.UNREACHABLE
    assert "more than 5 entries" in result.reason


async def test_contents_that_take_too_long_are_unreachable_and_read_on_later(tree: Path) -> None:
    for number in range(40):
        with (tree / f"large-{number}").open("wb") as file:
            file.truncate(30_000_000)
    auditor = Auditor(tree, timeout=0.3, hash=True)

    first = await auditor.read()
    outcomes = [first.outcome]
    deadline = time.monotonic() + 60
    while outcomes[-1] is Outcome.UNREACHABLE and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        outcomes.append((await auditor.read()).outcome)

    assert first.outcome is Outcome.UNREACHABLE
    assert outcomes[-1] is Outcome.OK


async def test_a_pipe_in_the_tree_does_not_hang_a_reading_of_contents(tree: Path) -> None:
    os.mkfifo(tree / "pipe")

    assert (await Auditor(tree, hash=True, timeout=2).read()).outcome is Outcome.OK


async def test_a_tree_that_is_written_all_the_time_is_read_without_a_fault(tree: Path) -> None:
    program = (
        "import sys, pathlib, time\n"
        "root = pathlib.Path(sys.argv[1]); ends = time.monotonic() + 2; n = 0\n"
        "while time.monotonic() < ends:\n"
        "    n += 1\n"
        "    folder = root / f'd{n % 7}'\n"
        "    folder.mkdir(exist_ok=True)\n"
        "    (folder / 'f').write_text(str(n))\n"
        "    (folder / 'f').unlink(); folder.rmdir()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tree)]) as writer:
        auditor = Auditor(tree, hash=True)
        outcomes = []
        while writer.poll() is None:
            outcomes.append((await auditor.read()).outcome)

    assert writer.returncode == 0
    assert set(outcomes) <= {Outcome.OK, Outcome.CHANGED}
    assert len(outcomes) > 10


async def test_a_reading_that_is_cancelled_leaves_the_next_one_able_to_read(tree: Path) -> None:
    for number in range(3000):
        (tree / f"f{number}").touch()
    spec = FilesAudit.model_validate({"files": {"path": str(tree)}})
    source = FilesSource(spec, 5)
    task = asyncio.create_task(source.read(None))
    await asyncio.sleep(0.001)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reading = None
    deadline = time.monotonic() + 5
    while reading is None and time.monotonic() < deadline:
        try:
            reading = await source.read(None)
        except Unreachable:
            await asyncio.sleep(0.01)

    assert reading is not None
    assert reading.figures is not None
    assert reading.figures["entries"] == 3006


@pytest.mark.parametrize(
    "mark", ["", "{}", "[]", "null", '{"v":1}', '{"v":1,"asked":"","device":1,"counts":[1],"digests":[]}']
)
async def test_a_mark_that_is_none_of_ours_leaves_the_time_before_unknown(tree: Path, mark: str) -> None:
    spec = FilesAudit.model_validate({"files": {"path": str(tree)}})

    assert (await FilesSource(spec, 5).read(mark)).unknown is not None


async def test_other_files_configured_since_leave_the_time_before_unknown(tree: Path) -> None:
    before = Auditor(tree)
    await before.read()
    after = Auditor(tree, exclude=["*.bin"])
    after.mark = before.mark
    after.restart()

    result = await after.read()

    assert (result.outcome, result.figures["changes"]) == (Outcome.UNKNOWN, 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": ""},
        {"path": "a\0b"},
        {"path": "file:///srv"},
        {"path": 5},
        {"path": "/srv", "include": []},
        {"path": "/srv", "include": "*.bin"},
        {"path": "/srv", "exclude": [""]},
        {"path": "/srv", "at_most": 0},
        {"path": "/srv", "at_most": True},
        {"path": "/srv", "hash": "sha256"},
        {"path": "/srv", "depth": 3},
    ],
)
def test_a_wrong_configuration_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilesAudit.model_validate({"files": options})
