"""Two listings of a bucket: which objects were written, overwritten or deleted in between? Pure.

A listing is kept as a short hash for each object, so that it fits into a mark; no content and no tag of an
object leaves this room.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.audit.audit import LONGEST_MARK
from probes.audit.reading import Change
from probes.audit.sqlite.rows import OURS
from probes.shown import writable

FORM = 1
"""The form of our marks; one of another form is not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One object, one version of it, or one delete marker, as it is listed."""

    key: str
    version: str = ""
    """Empty where the bucket keeps no versions."""
    etag: str = ""
    size: int = 0
    modified: str = ""
    """By the store's clock (ISO 8601, UTC)."""
    marker: bool = False

    @property
    def identity(self) -> str:
        """Its key and version; a key may hold anything, a version no line break."""
        return f"{self.key}\n{self.version}"

    @property
    def hashed(self) -> str:
        """What differs when it was overwritten."""
        return _hash(self.etag, self.size, self.modified, self.marker)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A bucket at one time. `hashes` is None where it was too long for a mark, after a restart."""

    asked: str
    """What was listed, and how: another listing cannot be compared."""
    count: int
    digest: str
    newest: str
    """The last time at which one of its objects was written."""
    hashes: Mapping[str, str] | None
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """Empty where it comes from a mark."""
    cut: str | None = None
    """The last key that was listed, where there are more."""

    def packed(self) -> str:
        """As a mark; without the objects where they would not fit."""
        body = {
            "v": FORM,
            "asked": self.asked,
            "count": self.count,
            "digest": self.digest,
            "newest": self.newest,
            "cut": self.cut,
        }
        whole = json.dumps(body | {"hashes": self.hashes}, separators=(",", ":"))
        if len(whole) <= LONGEST_MARK:
            return whole
        return json.dumps(body | {"hashes": None}, separators=(",", ":"))


def listed(entries: list[Entry], asked: str, cut: str | None) -> Listing:
    """The listing of what a store answered."""
    hashes = {entry.identity: entry.hashed for entry in entries}
    others = [item for item in sorted(hashes.items()) if not OURS.search(item[0])]
    return Listing(
        asked=asked,
        count=len(others),
        digest=_hash(others),
        newest=max((entry.modified for entry in entries), default=""),
        hashes=hashes,
        entries={entry.identity: entry for entry in entries},
        cut=cut,
    )


def unpacked(mark: str) -> Listing | None:
    """The listing of a mark; None when it is none of ours."""
    try:
        body: Any = json.loads(mark)
        if body["v"] != FORM:
            return None
        hashes = body["hashes"]
        return Listing(
            asked=str(body["asked"]),
            count=int(body["count"]),
            digest=str(body["digest"]),
            newest=str(body["newest"]),
            hashes=None if hashes is None else {str(k): str(v) for k, v in hashes.items()},
            cut=None if body["cut"] is None else str(body["cut"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def between(before: Listing, now: Listing) -> tuple[list[Change], str | None]:
    """What was written between two listings of the same bucket, and why not all of it can be told."""
    if before.hashes is None:
        return _since_a_restart(before, now)
    limits = [cut.encode("utf-8", "surrogatepass") for cut in (before.cut, now.cut) if cut is not None]
    upto = min(limits) if limits else None
    return list(_written(before.hashes, now, upto)), None


def _since_a_restart(before: Listing, now: Listing) -> tuple[list[Change], str | None]:
    """The objects of before are not known any more, only what they were together."""
    if (before.count, before.digest) == (now.count, now.digest):
        return [], None
    newer = [entry for entry in now.entries.values() if entry.modified > before.newest]
    changes = [_change(entry, "delete" if entry.marker else "write") for entry in newer]
    what = f"{before.count} objects are too many for a record"
    return changes, f"{what}: after a restart of the watchdog, what was overwritten or deleted cannot be told"


def _written(before: Mapping[str, str], now: Listing, upto: bytes | None) -> Iterator[Change]:
    keys = {_key(identity) for identity in before}
    for identity, entry in now.entries.items():
        if before.get(identity) == entry.hashed or _beyond(entry.key, upto):
            continue
        known = entry.key in keys
        yield _change(entry, "delete" if entry.marker else "update" if known else "insert")
    for identity in before:
        key = _key(identity)
        if identity not in now.entries and not _beyond(key, upto):
            yield _change(Entry(key=key), "delete")


def _key(identity: str) -> str:
    return identity.rpartition("\n")[0]


def _beyond(key: str, upto: bytes | None) -> bool:
    """Is it behind the last key that both listings reach? Stores list keys in the order of their bytes."""
    return upto is not None and key.encode("utf-8", "surrogatepass") > upto


def _change(entry: Entry, operation: str) -> Change:
    return Change(
        what=writable(entry.key),
        operation=operation,
        when=entry.modified or None,
        own=OURS.search(entry.key) is not None,
    )
