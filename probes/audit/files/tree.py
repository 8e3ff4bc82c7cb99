"""One look at a directory tree: what stands below it, by what the file system says of each entry.

Follows no symbolic link and opens nothing but directories, unless contents are asked for; those are read
without moving the time of the last access where the system allows it.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from probes.answer import OWN_ERRNOS, OwnFault, Unreachable

BLOCK = 1 << 20
FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
Stamp = tuple[int, int, int, int]


class Entry(NamedTuple):
    """One file, directory, link or something else. Times are in ns."""

    kind: str
    size: int
    inode: int
    written: int
    """The time of the last write: of a directory, when an entry came or went."""
    changed: int
    """The time of the last change of contents or attributes, which nobody can set."""
    owned: tuple[int, int, int]
    """Mode, user and group."""
    links: int
    read: int
    """The time of the last access."""
    content: str = ""
    """The hash of what is in it, where that was asked for; where a link leads."""

    @property
    def identity(self) -> str:
        """What makes it the same entry in the same state, over a restart of the watchdog as well."""
        if self.kind == DIRECTORY:
            return repr((self.kind, self.inode, self.owned))
        return repr((self.kind, self.size, self.inode, self.written, self.owned, self.content))

    def same(self, other: "Entry") -> bool:
        """Nothing was written in between.

        Its time of change moves with a write whose time was set back, but with another link to it, and
        with an access time that a backup has set, as well.
        """
        if self.kind == DIRECTORY == other.kind:
            return self.inode == other.inode and self.owned == other.owned
        if self == other:
            return True
        if self.identity != other.identity:
            return False
        if self.changed == other.changed:
            return True
        explained = self.links != other.links or self.read != other.read
        return explained or (self.content != "" and self.kind == FILE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """What was found. `device` is the file system's number; names are printable."""

    device: int
    entries: dict[str, Entry]


class Walk:
    """One walk, made in a thread; `stop` may be called from another."""

    def __init__(
        self,
        root: str,
        *,
        include: list[str],
        exclude: list[str],
        at_most: int,
        contents: dict[Stamp, str] | None,
    ) -> None:
        self._root = root
        self._include = include
        self._exclude = exclude
        self._at_most = at_most
        self._contents = contents
        """Hashes by inode, size and times; None where they are not asked for. Grows, over walks too."""
        self._stopped = False

    def stop(self) -> None:
        """End as soon as you can."""
        self._stopped = True

    def walk(self) -> Tree | None:
        """What there is; None when nothing is there. Raises Unreachable or OwnFault."""
        try:
            real = os.path.realpath(self._root)
            top = os.lstat(real)
            if not stat.S_ISDIR(top.st_mode):
                entry = self._entry(real, top)
                return Tree(device=top.st_dev, entries={printable(Path(real).name): entry})
            entries: dict[str, Entry] = {}
            for name, found in self._below(real):
                entries[name] = found
                if len(entries) > self._at_most:
                    raise Unreachable(f"more than {self._at_most} entries: exclude some, or raise at_most")
            return Tree(device=top.st_dev, entries=entries)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise Unreachable(f"this is no path: {error}") from None
        except OSError as error:
            raise failed(error, self._root) from None

    def _below(self, root: str) -> Iterator[tuple[str, Entry]]:
        if self._include == ["*"]:
            yield ".", self._entry(root, os.lstat(root))
        waiting = [(root, "")]
        while waiting:
            folder, above = waiting.pop()
            for path, name in self._listed(folder, above):
                if self._stopped:
                    raise Unreachable("given up")
                shown = printable(name)
                if any(fnmatchcase(shown, pattern) for pattern in self._exclude):
                    continue
                try:
                    seen = os.lstat(path)
                    if stat.S_ISDIR(seen.st_mode):
                        if not self._all_below_excluded(shown):
                            waiting.append((path, f"{name}/"))
                        if self._include == ["*"]:
                            yield shown, self._entry(path, seen)
                    elif any(fnmatchcase(shown, pattern) for pattern in self._include):
                        yield shown, self._entry(path, seen)
                except FileNotFoundError:
                    continue  # it went while we looked
                except PermissionError as error:
                    raise failed(error, shown) from None

    def _all_below_excluded(self, name: str) -> bool:
        return any(pattern.endswith("/*") and fnmatchcase(name, pattern[:-2]) for pattern in self._exclude)

    @staticmethod
    def _listed(folder: str, above: str) -> list[tuple[str, str]]:
        """(path, name below the root) of each entry."""
        try:
            with os.scandir(folder) as found:
                return [(each.path, above + each.name) for each in found]
        except (FileNotFoundError, NotADirectoryError):
            if not above:
                raise
            return []
        except PermissionError as error:
            raise failed(error, printable(above) or folder) from None

    def _entry(self, path: str, seen: os.stat_result) -> Entry:
        mode = seen.st_mode
        kind = OTHER
        content = ""
        if stat.S_ISREG(mode):
            kind = FILE
            content = self._content(path, seen) if self._contents is not None else ""
        elif stat.S_ISDIR(mode):
            kind = DIRECTORY
        elif stat.S_ISLNK(mode):
            kind, content = LINK, printable(str(Path(path).readlink()))
        return Entry(
            kind=kind,
            size=seen.st_size,
            inode=seen.st_ino,
            written=seen.st_mtime_ns,
            changed=seen.st_ctime_ns,
            owned=(mode, seen.st_uid, seen.st_gid),
            links=seen.st_nlink,
            read=seen.st_atime_ns,
            content=content,
        )

    def _content(self, path: str, seen: os.stat_result) -> str:
        """The hash of a file, read only when its stamps are new."""
        known = self._contents if self._contents is not None else {}
        stamp = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        if stamp not in known:
            known[stamp] = self._hashed(path)
        return known[stamp]

    def _hashed(self, path: str) -> str:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(path, flags | getattr(os, "O_NOATIME", 0))
        except PermissionError:
            handle = os.open(path, flags)  # only its owner may leave the time of access alone
        with os.fdopen(handle, "rb", buffering=0) as file:
            digest = hashlib.sha256()
            while block := file.read(BLOCK):
                digest.update(block)
                if self._stopped:
                    raise Unreachable("given up")
        return digest.hexdigest()


def printable(name: str) -> str:
    """A name that every disk and screen takes, and no two names the same: the rest is escaped."""
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)


def failed(error: OSError, what: str) -> Unreachable | OwnFault:
    """Name a failure of the file system, and say whose it is."""
    said = error.strerror or type(error).__name__
    if error.errno in OWN_ERRNOS:
        return OwnFault(f"the watchdog could not look: {said}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unreachable(f"there is no right to look at {what}: exclude it, or give the right")
    return Unreachable(f"{what} cannot be looked at: {said}")
