"""Audit of a Redis server: which write commands were carried out since the reading before?

Reads INFO over a connection of its own, and changes nothing. Counters name commands, no keys, and count for
the whole server. What was reset, restarted, promoted or loaded anew in between is not guessed at.
"""

import asyncio
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from probes.answer import Unreachable
from probes.audit.reading import AuditBase, Reading
from probes.audit.redis.counters import Counters, Difference, counters, difference
from probes.stores.redis import RedisSession, Refused, redis_session, redis_url
from probes.tools import Tools

GRADE = "command counters"


class RedisServer(BaseModel):
    """Which server."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(redis_url), Field(repr=False)]


class RedisAudit(AuditBase):
    """One audit of a Redis server."""

    redis: RedisServer


class RedisSource:
    """One server."""

    def __init__(self, spec: RedisAudit, timeout: float) -> None:
        self._url = spec.redis.url
        self._within = 0.9 * timeout
        self._writes: tuple[str, frozenset[str]] | None = None
        """Of which process, and its write commands: asked once, for modules come and go with it."""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        try:
            async with asyncio.timeout(self._within), redis_session(self._url) as session:
                info = _parsed(await session.ask("INFO", "everything"))
                writes = await self._write_commands(session, info)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._within:.3g} s") from None
        except Refused as refused:
            raise Unreachable(f"{refused.code} {refused.said} (an audit asks INFO and COMMAND)") from None
        now = counters(info, writes)
        found = Difference()
        if mark is not None:
            before = Counters.unpacked(mark)
            if before is None:
                found = Difference(unknown="the reading before cannot be read: nothing to compare with")
            else:
                found = difference(before, now)
        return Reading(
            mark=now.packed(),
            changes=found.changes,
            unknown=found.unknown,
            grade=GRADE,
            tells_own=False,
            notes=(*found.notes, *_standing(now, info)),
            figures={"role": now.role, "keys": now.keys, "expired": now.expired, "evicted": now.evicted},
        )

    async def _write_commands(self, session: RedisSession, info: dict[str, str]) -> frozenset[str]:
        """Names of commands with the flag of a write, `xgroup|create` among them."""
        run = info.get("run_id", "")
        known = self._writes[1] if self._writes is not None and self._writes[0] == run else None
        if known is None:
            known = frozenset(await self._ask_commands(session))
            if "set" not in known:
                raise Unreachable("COMMAND names no write commands")
            self._writes = (run, known)
        return known

    @staticmethod
    async def _ask_commands(session: RedisSession) -> set[str]:
        """A list of names since Redis 7, before that the whole table, which takes long to read."""
        try:
            listed = await session.ask("COMMAND", "LIST", "FILTERBY", "ACLCAT", "write")
        except Refused as refused:
            if refused.code != "ERR":
                raise
            return _write_commands(await session.ask("COMMAND"))
        return {_text(name).lower() for name in listed} if isinstance(listed, list) else set()

    async def aclose(self) -> None:
        """Nothing is held between readings."""


def _parsed(answer: Any) -> dict[str, str]:
    """INFO's lines as names and values."""
    if not isinstance(answer, bytes):
        raise Unreachable("the answer to INFO is no text")
    lines = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon and not name.startswith("#")}


def _write_commands(answer: Any) -> set[str]:
    """From the answer to COMMAND: [name, arity, flags, …, subcommands]."""
    found: set[str] = set()
    for command in answer if isinstance(answer, list) else []:
        if not isinstance(command, list) or len(command) < 3:
            continue
        if any(_text(flag) == "write" for flag in command[2]):
            found.add(_text(command[0]).lower())
        if len(command) > 9:
            found |= _write_commands(command[9])
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _standing(now: Counters, info: dict[str, str]) -> list[str]:
    """What an operator should know about the server as it is."""
    notes = []
    if info.get("redis_mode") == "cluster":
        notes.append("one node of a cluster: each node has counters of its own")
    if now.replica and info.get("master_link_status") != "up":
        notes.append("the replica has lost its master: it may be behind")
    if now.replica and not now.read_only:
        notes.append("the replica takes writes of its own (replica-read-only no)")
    return notes


def redis_audit(spec: RedisAudit, timeout: float, tools: Tools) -> RedisSource:
    """The source that reads `spec`; `timeout` in seconds bounds each reading."""
    return RedisSource(spec, timeout)
