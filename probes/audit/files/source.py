"""Audit of files: which were added, changed and removed below a path since the reading before?

Compares what the file system says of each, and its contents on demand. Reading a file is no change. Follows
no symbolic link, changes nothing, and says so when it may not look.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from probes.answer import Unreachable
from probes.audit.aside import Aside
from probes.audit.files.tree import DIRECTORY, FILE, Entry, Stamp, Walk, printable
from probes.audit.reading import AuditBase, Change, Pattern, Reading
from probes.audit.sqlite.rows import OURS, by_count
from probes.tools import Tools
from probes.units import NoBool

MARK = 1
"""The form of our marks; one of another form is not read."""
MODULUS = 1 << 128
MOST = 1000
"""Changes that are given one by one."""
GONE = "nothing is there any more"


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path has no NUL in it")
    if "://" in text:
        raise ValueError(f"{text!r} is a URL, no path")
    return text


class FilesPlace(BaseModel):
    """Which files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, Field(min_length=1), AfterValidator(_path)]
    include: Annotated[list[Pattern], Field(min_length=1)] = ["*"]
    """Patterns for paths below `path`; `*` stands for `/` as well."""
    exclude: list[Pattern] = []
    hash: bool = False
    """Compare what is in files as well."""
    at_most: Annotated[int, NoBool, Field(ge=1, le=5_000_000)] = 100_000
    """Entries beyond which a reading is given up."""


class FilesAudit(AuditBase):
    """One audit of files."""

    files: FilesPlace


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What a reading leaves for the next. `entries` is None after a restart, and the digests are left."""

    asked: str
    device: int
    counts: tuple[int, int]
    """Entries of production and of ours."""
    digests: tuple[str, str]
    entries: dict[str, Entry] | None = None

    def packed(self) -> str:
        """As a mark."""
        body = {"v": MARK, "asked": self.asked, "device": self.device}
        return json.dumps(body | {"counts": self.counts, "digests": self.digests}, separators=(",", ":"))

    @classmethod
    def unpacked(cls, mark: str) -> "_State | None":
        """From a mark; None when it is none of ours."""
        try:
            body: Any = json.loads(mark)
            if body["v"] != MARK:
                return None
            production, ours = map(int, body["counts"])
            first, second = map(str, body["digests"])
            return cls(
                asked=body["asked"],
                device=int(body["device"]),
                counts=(production, ours),
                digests=(first, second),
            )
        except (ValueError, TypeError, KeyError):
            return None


class FilesSource:
    """One directory tree, or one file."""

    def __init__(self, spec: FilesAudit, timeout: float) -> None:
        self._spec = spec.files
        self._exempt = spec.exempt
        self._within = 0.9 * timeout
        self._aside = Aside()
        exempt = [exemption.what for exemption in spec.exempt if exemption.role is None]
        asked = (self._spec.path, self._spec.include, self._spec.exclude, self._spec.hash, exempt)
        self._asked = hashlib.blake2b(repr(asked).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        self._contents: dict[Stamp, str] | None = {} if self._spec.hash else None
        self._kept: tuple[str, _State] | None = None
        """The newest mark that was given out, and what it stands for in full."""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        before = self._before(mark)
        spec = self._spec
        walk = Walk(
            spec.path,
            include=spec.include,
            exclude=spec.exclude,
            at_most=spec.at_most,
            contents=self._contents,
        )
        reading, state = await self._aside.run(
            lambda: self._read(walk, mark, before), within=self._within, stop=walk.stop
        )
        self._kept = (reading.mark, state)
        return reading

    def _read(self, walk: Walk, mark: str | None, before: _State | None) -> tuple[Reading, _State]:
        """In the thread: look, and compare."""
        state, there = self._state(walk, before)
        unknown: str | None = None
        changes: list[Change] = []
        if mark is not None and (before is None or before.asked != self._asked):
            unknown = "the reading before was of another configuration: nothing to compare with"
        elif before is not None:
            changes, unknown = self._since(before, state), self._moved(before, state)
        self._forget_contents(state)
        reading = Reading(
            mark=state.packed(),
            changes=tuple(changes),
            unknown=unknown,
            grade="file contents" if self._spec.hash else "file manifest",
            notes=() if there else (GONE,),
            figures=_figures(before, state),
        )
        return reading, state

    def _before(self, mark: str | None) -> _State | None:
        if mark is None:
            return None
        if self._kept is not None and self._kept[0] == mark:
            return self._kept[1]
        return _State.unpacked(mark)

    def _state(self, walk: Walk, before: _State | None) -> tuple[_State, bool]:
        """What there is, and whether anything is."""
        tree = walk.walk()
        if tree is not None:
            return self._summed(tree.entries, tree.device), True
        if before is None:
            raise Unreachable("there is no such file or directory")
        if _device_above(self._spec.path) != before.device:
            raise Unreachable("nothing is there: its file system is not mounted")
        return self._summed({}, before.device), False

    def _summed(self, entries: dict[str, Entry], device: int) -> _State:
        """Counts and digests; what is exempt by its path is left out, for a digest names nothing."""
        counts, sums = [0, 0], [0, 0]
        for name, entry in entries.items():
            if self._exempt and self._covered(name):
                continue
            side = _ours(name)
            said = f"{name}\0{entry.identity}".encode("utf-8", "surrogatepass")
            counts[side] += 1
            sums[side] += int.from_bytes(hashlib.blake2b(said, digest_size=16).digest(), "big")
        return _State(
            asked=self._asked,
            device=device,
            counts=(counts[0], counts[1]),
            digests=(f"{sums[0] % MODULUS:x}", f"{sums[1] % MODULUS:x}"),
            entries=entries,
        )

    def _covered(self, name: str) -> bool:
        return any(exemption.covers(name, None) for exemption in self._exempt)

    def _since(self, before: _State, state: _State) -> list[Change]:
        """What was written since; by number alone after a restart."""
        if before.entries is not None and state.entries is not None:
            return self._by_name(before.entries, state.entries)
        place = printable(self._spec.path)
        return [
            change
            for own in (False, True)
            if before.digests[own] != state.digests[own]
            for change in by_count(place, before.counts[own], state.counts[own], own=own, otherwise="write")
        ]

    def _by_name(self, old: dict[str, Entry], new: dict[str, Entry]) -> list[Change]:
        """Each file by itself, so that each can be exempt by itself; beyond a thousand, the rest by kind."""
        found = sorted(_differences(old, new))
        changes = [Change(what=name, operation=what, own=_ours(name)) for name, what in found[:MOST]]
        rest: dict[tuple[str, bool, bool], list[str]] = {}
        for name, what in found[MOST:]:
            rest.setdefault((what, _ours(name), self._covered(name)), []).append(name)
        for (what, own, _), names in rest.items():
            more = f"and {len(names) - 1} more"
            changes.append(Change(what=names[0], operation=what, count=len(names), keys=(more,), own=own))
        return changes

    @staticmethod
    def _moved(before: _State, state: _State) -> str | None:
        if before.device != state.device:
            return "another file system stands in its place: what was written before that cannot be told"
        return None

    def _forget_contents(self, state: _State) -> None:
        """Keep the hashes of files that are still there."""
        if self._contents is None or state.entries is None:
            return
        there = {
            (entry.inode, entry.size, entry.written, entry.changed)
            for entry in state.entries.values()
            if entry.kind == FILE
        }
        self._contents = {stamp: known for stamp, known in self._contents.items() if stamp in there}

    async def aclose(self) -> None:
        """Nothing is held between readings."""


def _ours(name: str) -> bool:
    """Is it a canary's?"""
    return OURS.search(name) is not None


def _differences(old: dict[str, Entry], new: dict[str, Entry]) -> Iterator[tuple[str, str]]:
    """(name, operation) of what came, changed or went."""
    for name, now in new.items():
        before = old.get(name)
        if before is None:
            yield name, "insert"
        elif not before.same(now):
            yield name, "update"
    for name in old:
        if name not in new:
            yield name, "delete"


def _figures(before: _State | None, state: _State) -> dict[str, Any]:
    """`touched`: directories in which something came and went that is not there any more, or is no file."""
    entries = state.entries or {}
    known = before.entries if before is not None and before.entries is not None else {}
    touched = [
        name
        for name, entry in entries.items()
        if entry.kind == DIRECTORY and name in known and known[name].written != entry.written
    ]
    return {
        "entries": len(entries),
        "bytes": sum(entry.size for entry in entries.values() if entry.kind == FILE),
        "touched": len(touched),
    }


def _device_above(path: str) -> int | None:
    """The number of the file system of the nearest directory above that is there."""
    for folder in Path(os.path.realpath(path)).parents:
        try:
            return folder.stat().st_dev
        except OSError:
            continue
    return None


def files_audit(spec: FilesAudit, timeout: float, tools: Tools) -> FilesSource:
    """The source that reads `spec`; `timeout` in seconds bounds each reading."""
    where = spec.files.model_copy(update={"path": str(tools.folder / spec.files.path)})
    return FilesSource(spec.model_copy(update={"files": where}), timeout)
