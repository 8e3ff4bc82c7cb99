"""What two readings of a Redis server's counters say was written in between. Pure.

Facts (tried on Redis 7.0): the dirty counter moves with each key that a command changed, and neither with
expiry nor eviction; a save takes off it what had been changed before. The counters of commands move with a
write that changed nothing too, and CONFIG RESETSTAT sets them back, but not the dirty counter. With a
replication backlog, an offset that stayed proves silence, and one that moved proves nothing. On a replica,
what the master sends is counted like any command, a key that expired there as a DEL; a data set that is
loaded as a whole is counted nowhere, but its bytes and the offset no longer agree.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probes.answer import Unreachable
from probes.audit.reading import Change

MARK = 1
"""The form of our marks; one of another form is not read."""
MAY_ONLY_READ = frozenset({"sort", "georadius", "georadiusbymember", "getex", "bitfield", "xreadgroup"})
"""Commands with the flag of a write that mostly change nothing."""
DELETES = frozenset({"del", "unlink"})
"""As which a replica learns that a key has expired."""
RESET = ("total_commands_processed", "total_connections_received", "total_net_input_bytes", "expired_keys")
"""Counters that only ever grow, and that RESETSTAT sets back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """One reading of a server."""

    run: str
    """The identity of its process."""
    role: str
    replid: str
    read_only: bool
    """A replica that takes writes from its master alone."""
    offset: int
    backlog: bool
    """The offset is kept: there is, or was, a replica."""
    dirty: int
    saves: tuple[int, int]
    """When the newest save ended, and how many there were."""
    grown: tuple[int, ...]
    """Counters that only ever grow, until they are set back."""
    stream: int | None
    """Bytes that came from the master; None before Redis 7."""
    loaded: int | None
    """Keys that the newest load of a whole data set brought; None before Redis 7."""
    calls: Mapping[str, int]
    """Write commands that were carried out, by name."""
    expired: int
    evicted: int
    keys: int

    @property
    def replica(self) -> bool:
        """It follows a master."""
        return self.role == "slave"

    def packed(self) -> str:
        """As a mark."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(body | {"v": MARK}, separators=(",", ":"))

    @classmethod
    def unpacked(cls, mark: str) -> "Counters | None":
        """From a mark; None when it is none of ours."""
        try:
            body: dict[str, Any] = json.loads(mark)
            if body.pop("v") != MARK:
                return None
            body |= {"saves": tuple(body["saves"]), "grown": tuple(body["grown"])}
            return cls(**body)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What was written between two readings, and what cannot be told."""

    changes: tuple[Change, ...] = ()
    unknown: str | None = None
    notes: tuple[str, ...] = ()


def counters(info: Mapping[str, str], writes: frozenset[str]) -> Counters:
    """From the answer to INFO; `writes` are the names of write commands. Raises Unreachable."""
    if info.get("loading") == "1":
        raise Unreachable("the server is loading its data")
    try:
        return _counters(info, writes)
    except (KeyError, ValueError) as error:
        raise Unreachable(f"INFO lacks what an audit needs, or the account may not see it: {error}") from None


def _counters(info: Mapping[str, str], writes: frozenset[str]) -> Counters:
    def number(name: str) -> int:
        return int(info[name])

    def maybe(name: str) -> int | None:
        return int(info[name]) if name in info else None

    master = info["role"] == "master"
    return Counters(
        run=info["run_id"],
        role=info["role"],
        replid=info["master_replid"],
        read_only=info.get("slave_read_only") == "1",
        offset=number("master_repl_offset" if master else "slave_repl_offset"),
        backlog=info.get("repl_backlog_active") == "1",
        dirty=number("rdb_changes_since_last_save"),
        saves=(number("rdb_last_save_time"), maybe("rdb_saves") or 0),
        grown=tuple(number(name) for name in RESET),
        stream=maybe("total_net_repl_input_bytes"),
        loaded=maybe("rdb_last_load_keys_loaded"),
        calls=_calls(info, writes),
        expired=number("expired_keys"),
        evicted=number("evicted_keys"),
        keys=sum(_fields(value).get("keys", 0) for name, value in info.items() if _is_database(name)),
    )


def _is_database(name: str) -> bool:
    return name.startswith("db") and name[2:].isdecimal()


def _calls(info: Mapping[str, str], writes: frozenset[str]) -> dict[str, int]:
    """How often each write command was carried out: what failed, changed nothing."""
    found = {}
    for name, value in info.items():
        command = name.removeprefix("cmdstat_").lower()
        if name.startswith("cmdstat_") and command in writes:
            fields = _fields(value)
            done = fields.get("calls", 0) - fields.get("failed_calls", 0)
            if done > 0:
                found[command] = done
    return found


def _fields(value: str) -> dict[str, int]:
    """`calls=3,usec=18,usec_per_call=6.00` without what is no whole number."""
    pairs = (pair.partition("=") for pair in value.split(","))
    return {name: int(number) for name, _, number in pairs if number.isdecimal()}


def difference(before: Counters, now: Counters) -> Difference:
    """What was written between two readings of one server."""
    if before.run != now.run:
        reason = "the server was started again, or is another one: its counters began anew"
        return Difference(unknown=f"{reason}; it holds {now.keys} keys and held {before.keys}")
    unknown = _reshaped(before, now)
    notes = _notes(before, now)
    if unknown is None and _silent(before, now):
        return Difference(notes=notes)
    back = _set_back(before, now)
    called = {} if back else _called(before, now)
    changes, doubt = _written(before, now, called, back)
    return Difference(changes=changes, unknown=unknown or doubt, notes=notes)


def _reshaped(before: Counters, now: Counters) -> str | None:
    """Why another data set may stand there now, with no command that says so."""
    if before.replica and not now.replica:
        return "the replica was promoted: it takes writes of its own now, and takes none from its master"
    if not before.replica and now.replica:
        return "the server was made a replica: its data were replaced by its master's"
    if before.replica and before.replid != now.replid:
        return "the replica follows another history now: its master failed over, or is another one"
    if before.replica and now.replica and _loaded(before, now):
        return "the replica loaded its master's data as a whole: what was written to them is not counted"
    return None


def _loaded(before: Counters, now: Counters) -> bool:
    """Bytes of the stream and offset move alike, unless a whole data set came in between."""
    if before.stream is None or now.stream is None or _set_back(before, now):
        return before.loaded != now.loaded
    return before.loaded != now.loaded or now.stream - before.stream != now.offset - before.offset


def _silent(before: Counters, now: Counters) -> bool:
    """Does something prove that nothing at all was written?"""
    same_stream = before.backlog and now.backlog and before.replid == now.replid
    if same_stream and before.offset == now.offset and (now.read_only or not now.replica):
        return True
    return before.dirty == now.dirty and not _saved(before, now)


def _saved(before: Counters, now: Counters) -> bool:
    """Did a save set back the dirty counter? RESETSTAT sets back the number of saves, not their time."""
    once_more = before.saves[1] != now.saves[1] and not _set_back(before, now)
    return before.saves[0] != now.saves[0] or once_more or now.dirty < before.dirty


def _set_back(before: Counters, now: Counters) -> bool:
    """Were the counters of commands set back?"""
    if any(new < old for old, new in zip(before.grown, now.grown, strict=False)):
        return True
    return any(now.calls.get(name, 0) < old for name, old in before.calls.items())


def _called(before: Counters, now: Counters) -> dict[str, int]:
    more = {name: calls - before.calls.get(name, 0) for name, calls in now.calls.items()}
    return {name: calls for name, calls in sorted(more.items()) if calls > 0}


def _written(
    before: Counters, now: Counters, called: dict[str, int], back: bool
) -> tuple[tuple[Change, ...], str | None]:
    """Changes by command; by the dirty counter where no command is known; or why neither can tell."""
    saved = _saved(before, now)
    role = "replication" if now.replica and now.read_only else None
    if not saved and now.dirty == before.dirty:
        return (), None
    if not saved and not called:
        moved = Change(what="keyspace", operation="write", count=now.dirty - before.dirty, role=role)
        return (moved,), None
    if back:
        return (), "the counters of commands were set back (RESETSTAT), and a save set back the dirty counter"
    if saved and set(called) <= MAY_ONLY_READ:
        if not called:
            return (), None
        named = ", ".join(called)
        return (), f"a save set back the dirty counter, and {named} may or may not have changed something"
    if role is not None and set(called) <= DELETES:
        return (), "keys were deleted on the master, or expired there: a replica cannot tell which"
    found = [Change(what=name, operation="write", count=calls, role=role) for name, calls in called.items()]
    return tuple(found), None


def _notes(before: Counters, now: Counters) -> tuple[str, ...]:
    """Keys that went with no request."""
    notes = []
    if not _set_back(before, now):
        for what, old, new in (
            ("expired", before.expired, now.expired),
            ("were evicted for want of memory", before.evicted, now.evicted),
        ):
            if new > old:
                notes.append(f"keys {what}, which no request asked for")
    return tuple(notes)
