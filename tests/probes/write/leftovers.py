"""What this process holds: programs, sockets, tasks. Taken before and after, it shows what is left."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path


async def settled() -> None:
    """Every other task ends within a second."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, left = await asyncio.wait(others, timeout=1)
        assert left == set()


def children() -> set[int]:
    """The living children of this process and zombies that nobody has asked after."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


def descriptors() -> dict[int, str]:
    """Open descriptors, less the one that is open to read them."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[int(link.name)] = str(link.readlink())
        except OSError:
            continue
    return {number: name for number, name in found.items() if not name.endswith("/fd")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What is held at one moment."""

    children: set[int]
    descriptors: dict[int, str]

    @classmethod
    def now(cls) -> "Held":
        return cls(children=children(), descriptors=descriptors())

    async def assert_no_more_now(self, within: float = 2.0) -> None:
        """Nothing is held that was not held then; what ends in a thread or a callback may take a moment."""
        deadline = time.monotonic() + within
        while True:
            now = Held.now()
            new = (now.children - self.children, now.descriptors.keys() - self.descriptors.keys())
            if new == (set(), set()):
                return
            assert time.monotonic() < deadline, (new, {n: now.descriptors[n] for n in new[1]})
            await asyncio.sleep(0.01)


async def gone(text: str, within: float = 2.0) -> bool:
    """Soon no process is left whose command line contains `text`: a killed one may take a moment."""
    deadline = time.monotonic() + within
    while left := _processes_with(text):
        if time.monotonic() > deadline:
            raise AssertionError(left)
        await asyncio.sleep(0.01)
    return True


def _processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found
