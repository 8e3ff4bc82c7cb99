"""Where a reading of MySQL or MariaDB left off, as text that survives a restart of the watchdog. Pure."""

import json
from dataclasses import asdict, dataclass, field

FORMAT = 1
MOST_PREPARED = 200
"""Prepared transactions that are remembered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """The state of a server at one reading."""

    server: str
    started: int
    """When it was started (its own clock, epoch seconds)."""
    file: str = ""
    at: int = 0
    """Place in the binary log."""
    born: int = 0
    """When that file was begun: RESET MASTER gives the same name to another file."""
    gtid: str = ""
    counter: str = ""
    """Which counters were read."""
    total: int = 0
    whole: int = 0
    """Statements that change tables as a whole."""
    open_rows: int = 0
    """Rows changed by transactions that were open."""
    ahead: int = 0
    """Rows that the log showed before the counters did."""
    prepared: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        kept = dict(list(self.prepared.items())[:MOST_PREPARED])
        return json.dumps({"mysql": FORMAT, **asdict(self), "prepared": kept}, separators=(",", ":"))


def parsed(text: str) -> Mark | None:
    """The mark that was written as `text`; None when it is none of ours."""
    try:
        known = json.loads(text)
        if not isinstance(known, dict) or known.pop("mysql", None) != FORMAT:
            return None
        mark = Mark(**known)
    except (ValueError, TypeError):
        return None
    kinds = {name: type(value) for name, value in asdict(Mark(server="", started=0)).items()}
    return mark if all(isinstance(getattr(mark, name), kind) for name, kind in kinds.items()) else None


# -- GTIDs ----------------------------------------------------------------------------------------

NAMED = 10_000
"""Transactions that are looked at one by one."""


def mariadb_between(before: str, after: str) -> tuple[int, list[str]] | None:
    """How many transactions lie between two positions, and their GTIDs; None when the log was set back.

    A position is the newest GTID of each domain: `0-1-17,1-4-3`.
    """
    old, new = _by_domain(before), _by_domain(after)
    number, named = 0, []
    for domain, (_, last) in old.items():
        if domain not in new or new[domain][1] < last:
            return None
    for domain, (server, last) in new.items():
        first = old.get(domain, (server, 0))[1]
        number += last - first
        named += [f"{domain}-{server}-{each}" for each in range(first + 1, min(last, first + NAMED) + 1)]
    return number, named


def _by_domain(position: str) -> dict[str, tuple[str, int]]:
    found = {}
    for gtid in filter(None, (part.strip() for part in position.split(","))):
        domain, server, number = gtid.split("-")
        found[domain] = (server, int(number))
    return found


def mysql_count(gtids: str) -> int:
    """How many transactions a set names: `3E11FA47-…:1-5:7,…` has six of the first server's."""
    number = 0
    for source in filter(None, (part.strip() for part in gtids.replace("\n", "").split(","))):
        for interval in source.split(":")[1:]:
            first, _, last = interval.partition("-")
            if first.isdigit():
                number += int(last or first) - int(first) + 1
    return number
