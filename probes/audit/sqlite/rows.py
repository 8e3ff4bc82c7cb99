"""What is known of a table at one time, and what two such states say was written in between. Pure.

A state holds a count and a digest that does not depend on the order of rows; beside it, as long as memory
allows, the hash of each row by its key. Rows that bear a canary's text are ours and are kept apart. No value
of a row leaves this room, except keys.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from probes.audit.reading import Change
from probes.shown import shown
from probes.write.canary import PREFIX

OURS = re.compile(re.escape(PREFIX) + "[0-9a-f]{20}")
"""The text of a canary. The prefix alone may stand in a text about us."""
NAMED_KEYS = 5
LONGEST_KEY = 80
_MODULUS = 1 << 128

Key = tuple[Any, ...]


@dataclass(slots=True)
class Side:
    """Production's rows of one table, or ours."""

    rows: int = 0
    digest: int = 0
    hashes: dict[Key, bytes] | None = field(default_factory=dict)
    """By key; None once memory did not allow for more, or after a restart."""

    def add(self, key: Key, hashed: bytes) -> None:
        """One more row."""
        self.rows += 1
        self.digest = (self.digest + int.from_bytes(hashed, "big")) % _MODULUS
        if self.hashes is not None:
            self.hashes[key] = hashed

    def same(self, other: "Side") -> bool:
        """The same rows, whatever their order."""
        return self.rows == other.rows and self.digest == other.digest


@dataclass(slots=True)
class TableState:
    """One table as it was found. `production` and `own` are None where it was too large to read."""

    columns: str
    """A hash of the names of its columns: rows of other columns cannot be compared."""
    key_names: tuple[str, ...] = ()
    production: Side | None = None
    own: Side | None = None
    counted: int | None = None
    """Rows, ours among them, where they were counted instead."""
    top: int | None = None
    """The highest rowid."""

    @property
    def whole(self) -> bool:
        """Every row was read."""
        return self.production is not None

    def packed(self) -> list[Any]:
        """As it stands in a mark: without the hashes of rows."""
        if self.production is None or self.own is None:
            return [self.columns, self.counted, self.top]
        ours = [self.own.rows, f"{self.own.digest:x}"] if self.own.rows else []
        return [self.columns, self.production.rows, self.top, f"{self.production.digest:x}", *ours]

    @classmethod
    def unpacked(cls, packed: list[Any]) -> "TableState":
        """From a mark. Raises ValueError, TypeError or IndexError when it is none."""
        columns, counted, top = packed[:3]
        if len(packed) == 3:
            return cls(columns=columns, counted=counted, top=top)
        own = Side(rows=packed[4], digest=int(packed[5], 16), hashes=None) if len(packed) > 4 else Side()
        production = Side(rows=counted, digest=int(packed[3], 16), hashes=None)
        return cls(columns=columns, production=production, own=own, top=top)

    @property
    def rows(self) -> int | None:
        """How many rows it has, ours among them."""
        if self.production is None or self.own is None:
            return self.counted
        return self.production.rows + self.own.rows


class Reader:
    """Takes in the rows of one table. `room` is how many hashes may be kept."""

    def __init__(
        self, columns: str, key_names: tuple[str, ...], key_of: Callable[[tuple[Any, ...]], Key], room: int
    ) -> None:
        self._production, self._own = Side(), Side()
        self.state = TableState(
            columns=columns, key_names=key_names, production=self._production, own=self._own
        )
        self._key_of = key_of
        self._room = room

    def add(self, rowid: int | None, row: tuple[Any, ...]) -> None:
        """One row."""
        said = repr(row)
        ours = PREFIX in said and OURS.search(said) is not None
        side = self._own if ours else self._production
        hashed = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        side.add(short(self._key_of(row)) if self.state.key_names else (rowid,), hashed)
        if side.rows > self._room:
            side.hashes = None

    @property
    def kept(self) -> int:
        """Hashes that are kept."""
        return sum(len(side.hashes) for side in (self._production, self._own) if side.hashes is not None)


@dataclass(frozen=True, slots=True)
class Cut:
    """A long part of a key: how it is shown, and a hash that tells it from others."""

    shown: str
    hashed: bytes


def short(key: Key) -> Key:
    """A key without long values."""
    return tuple(map(_cut, key)) if any(map(_long, key)) else key


def _long(value: object) -> bool:
    return isinstance(value, str | bytes) and len(value) > LONGEST_KEY


def _cut(value: object) -> object:
    if not isinstance(value, str | bytes) or not _long(value):
        return value
    said = shown(value) if isinstance(value, str) else f"{len(value)} bytes"
    raw = repr(value).encode("utf-8", "surrogatepass")
    return Cut(said, hashlib.blake2b(raw, digest_size=12).digest())


def written(table: str, before: TableState, now: TableState) -> Iterator[Change]:
    """What was written to a table of which both states were read in full."""
    for own, old, new in ((False, before.production, now.production), (True, before.own, now.own)):
        if old is None or new is None or old.same(new):
            continue
        if old.hashes is not None and new.hashes is not None:
            yield from _by_key(table, old.hashes, new.hashes, now.key_names or ("rowid",), own)
        else:
            yield from by_count(table, old.rows, new.rows, own=own, otherwise="write")


def by_count(
    table: str, before: int, now: int, *, own: bool = False, otherwise: str | None = None
) -> Iterator[Change]:
    """What two counts say; where they are equal, one change of the kind `otherwise`."""
    if now != before:
        operation = "insert" if now > before else "delete"
        yield Change(what=table, operation=operation, count=abs(now - before), own=own)
    elif otherwise is not None:
        yield Change(what=table, operation=otherwise, own=own)


def _by_key(
    table: str, old: dict[Key, bytes], new: dict[Key, bytes], names: tuple[str, ...], own: bool
) -> Iterator[Change]:
    """Rows that came, went and changed. A row that only moved (VACUUM numbers rows anew) did neither."""
    gone = _without_common(old, new)
    come = _without_common(new, old)
    changed = gone.keys() & come.keys()
    for operation, keys in (
        ("insert", [key for key in come if key not in changed]),
        ("update", [key for key in come if key in changed]),
        ("delete", [key for key in gone if key not in changed]),
    ):
        if keys:
            said = tuple(_said(names, key) for key in keys[:NAMED_KEYS])
            yield Change(what=table, operation=operation, count=len(keys), keys=said, own=own)


def _without_common(these: dict[Key, bytes], those: dict[Key, bytes]) -> dict[Key, bytes]:
    """What of `these` has no equal among `those`, each row counted."""
    differ = {key: hashed for key, hashed in these.items() if those.get(key) != hashed}
    left = Counter(hashed for key, hashed in those.items() if these.get(key) != hashed)
    found = {}
    for key, hashed in differ.items():
        if left[hashed]:
            left[hashed] -= 1
        else:
            found[key] = hashed
    return found


def _said(names: Iterable[str], key: Key) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in zip(names, key, strict=False))


def _value(value: object) -> str:
    if isinstance(value, Cut):
        return value.shown
    if isinstance(value, bytes):
        return f"x'{value.hex()}'" if len(value) <= 30 else f"{len(value)} bytes"
    return shown(value) if isinstance(value, str) else str(value)
