"""A write to Redis: queue a SET in a transaction that is discarded, and see whether it is queued.

The server judges a command when it is queued: what is refused then would be refused outright, and what is
`QUEUED` would have been written. Discarded, it leaves nothing. The SET is one that does nothing to a key that
is not there (XX) as well, so that not even a proxy without transactions lets it leave something behind.
With `canary: true` a key is really written, read back and deleted.
"""

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from probes.answer import OwnFault, Unreachable
from probes.refusal import Class, Judgement, Pattern
from probes.request import PLACEHOLDER, filled
from probes.stores.redis import RedisSession, RedisUrl, Refused, redis_session, redis_url
from probes.tools import Tools
from probes.write.canary import Canary
from probes.write.target import Tried, WriteBase

EXPIRES = 3600
"""Seconds after which a canary goes by itself, should nobody be left to undo it."""
NOT_THE_FREEZE = {
    "OOM": "the server is out of memory",
    "LOADING": "the server is loading its data",
    "MASTERDOWN": "a replica without its master",
    "CLUSTERDOWN": "the cluster is down",
    "MISCONF": "the server cannot save to its disk",
    "MOVED": "the key belongs to another node of the cluster",
    "ASK": "the key is moving to another node of the cluster",
    "NOAUTH": "the account is not let in",
    "WRONGPASS": "the account is not let in",
}
KEY_DENIED = re.compile(r"access (?:a|one of the) keys?|key permissions", re.IGNORECASE)
Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]


class RedisRefusal(BaseModel):
    """Which errors are the freeze's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    errors: Annotated[list[Code], Field(min_length=1)] = ["READONLY", "NOPERM", "NOREPLICAS"]
    """First words of errors."""
    message: Pattern | None = None
    """A regular expression that the error must match as well."""

    @model_validator(mode="after")
    def _tells(self) -> "RedisRefusal":
        if "ERR" in self.errors and self.message is None:
            raise ValueError("ERR stands before most errors: name a message as well")
        return self


def _named_by_canary(key: str) -> str:
    if not PLACEHOLDER.search(key):
        raise ValueError("a key without ${canary} may be one of production's: write it like app:${canary}")
    return key


class RedisPlace(BaseModel):
    """Which server, and what is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(redis_url), Field(repr=False)]
    key: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_named_by_canary)] = "${canary}"
    canary: bool = False
    """Really write the key, read it back and delete it."""


class RedisWrite(WriteBase):
    """One Redis server to write to."""

    redis: RedisPlace
    refusal: RedisRefusal = RedisRefusal()


@dataclass(slots=True)
class _Step:
    """How far an attempt has come."""

    at: str = "connecting"
    how: str = "nothing"
    judgement: Judgement | None = None


class RedisTarget:
    """One key that does not exist, asked to be written."""

    within = 0.0
    unread: str | None = None
    undoable = True
    one_code = False

    def __init__(self, spec: RedisWrite, timeout: float) -> None:
        self._place = spec.redis
        self._rule = spec.refusal
        self._timeout = timeout
        self._where = RedisUrl(spec.redis.url).where
        self.believed = not spec.redis.canary

    @property
    def tries(self) -> str:
        """The commands."""
        key = self._place.key
        if self._place.canary:
            return f"SET {key} … NX EX {EXPIRES}, GET, DEL on {self._where}"
        return f"MULTI, SET {key} … XX, DISCARD on {self._where}"

    async def attempt(self, canary: Canary) -> Tried:
        """Try to write once, over a connection of its own."""
        began = time.perf_counter()
        step = _Step()
        harmless = not self._place.canary
        try:
            async with asyncio.timeout(0.7 * self._timeout), redis_session(self._place.url) as session:
                await (self._queue if harmless else self._set)(session, canary, step)
        except TimeoutError:
            reason = "" if step.judgement else await self._why_silent(step)
        except Unreachable as error:
            reason = f"{error.reason} (at {step.at})"
        except Refused as refused:
            reason = _said(refused)
        else:
            reason = "no answer"
        return Tried(
            judgement=step.judgement,
            unanswered=reason,
            duration_s=time.perf_counter() - began,
            traceless=harmless,
            may_land=not harmless and step.at == "SET",
            figures={"asked": step.how},
        )

    async def _queue(self, session: RedisSession, canary: Canary, step: "_Step") -> None:
        """The SET in a transaction; bare where the account may not have one, which says nothing of writes."""
        step.at, step.how = "MULTI", "MULTI, SET XX, DISCARD"
        within = True
        try:
            await session.ask("MULTI")
        except Refused as refused:
            if refused.code not in ("NOPERM", "ERR"):
                step.judgement = self._judged(refused)
                return
            within, step.how = False, "SET XX"
        step.at = "SET"
        key = self._key(canary)
        try:
            answer = await session.ask("SET", key, canary.text, "XX")
        except Refused as refused:
            step.judgement = self._judged(refused)
            if refused.code == "NOPERM" and KEY_DENIED.search(refused.said):
                step.judgement = await self._judged_by_key(refused, session, key, within)
            return
        said = "SET was queued" if answer == b"QUEUED" else "SET was taken"
        step.judgement = Judgement(kind=Class.ACCEPTED, reason=said)
        step.at = "DISCARD"
        with contextlib.suppress(Refused):  # closing the connection discards it as well
            await session.ask("DISCARD")

    async def _set(self, session: RedisSession, canary: Canary, step: "_Step") -> None:
        """A key of our own that was not there."""
        step.at, step.how = "SET", "SET NX EX"
        key = self._key(canary)
        try:
            answer = await session.ask("SET", key, canary.text, "NX", "EX", EXPIRES)
        except Refused as refused:
            step.judgement = self._judged(refused)
            if refused.code == "NOPERM" and KEY_DENIED.search(refused.said):
                step.judgement = await self._judged_by_key(refused, session, key, False)
            return
        if answer == b"OK":
            step.judgement = Judgement(kind=Class.ACCEPTED, reason="SET was taken")
        else:
            step.judgement = Judgement(kind=Class.OTHER, reason="the canary's key was there already")

    async def _judged_by_key(
        self, refused: Refused, session: RedisSession, key: str, within: bool
    ) -> Judgement:
        """An account that may not even read such a key was never meant to write it."""
        try:
            if within:
                await session.ask("DISCARD")
            await session.ask("EXISTS", key)
        except Refused as unread:
            if unread.code == "NOPERM" and KEY_DENIED.search(unread.said):
                reason = f"{_said(refused)}, nor may it read them"
                return Judgement(kind=Class.OTHER, reason=reason, code=refused.code)
        return self._judged(refused)

    def _judged(self, refused: Refused) -> Judgement:
        """The freeze's error, or another one."""
        text = f"{refused.code} {refused.said}"
        rule = self._rule
        if refused.code in rule.errors and (rule.message is None or re.search(rule.message, text)):
            return Judgement(kind=Class.PROPER, reason=text, code=refused.code)
        return Judgement(kind=Class.OTHER, reason=_said(refused), code=refused.code)

    async def _why_silent(self, step: "_Step") -> str:
        """No answer in time. Where others are answered, writes are held back, to be applied later."""
        waited = f"no answer within {0.7 * self._timeout:.3g} s (at {step.at})"
        if step.at != "SET":
            return waited
        try:
            async with asyncio.timeout(0.2 * self._timeout), redis_session(self._place.url) as session:
                await session.ask("PING")
        except (TimeoutError, Unreachable, OwnFault):
            return waited
        except Refused:
            pass  # an answer, whatever it is
        return f"{waited}, while others are answered: CLIENT PAUSE holds writes back and applies them later"

    async def look(self, canary: Canary) -> bool | str:
        """Is the canary there?"""
        try:
            async with asyncio.timeout(self._timeout), redis_session(self._place.url) as session:
                return bool(await session.ask("GET", self._key(canary)) == canary.text.encode())
        except TimeoutError:
            return f"the read-back had no answer within {self._timeout:g} s"
        except Refused as refused:
            return f"the read-back was refused: {_said(refused)}"
        except (Unreachable, OwnFault) as error:
            return f"the read-back failed: {error.reason}"

    async def undo(self, canary: Canary) -> str | None:
        """Delete the canary's key, if it holds the canary."""
        key = self._key(canary)
        try:
            async with asyncio.timeout(self._timeout), redis_session(self._place.url) as session:
                if await session.ask("GET", key) == canary.text.encode():
                    await session.ask("DEL", key)
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except Refused as refused:
            return _said(refused)
        except (Unreachable, OwnFault) as error:
            return error.reason
        return None

    def _key(self, canary: Canary) -> str:
        return str(filled(self._place.key, canary.values))

    async def aclose(self) -> None:
        """Nothing is held between attempts."""


def _said(refused: Refused) -> str:
    meaning = NOT_THE_FREEZE.get(refused.code)
    return f"{meaning}: {refused.code} {refused.said}" if meaning else f"{refused.code} {refused.said}"


def _shown(answer: object) -> str:
    return answer.decode("utf-8", "replace")[:60] if isinstance(answer, bytes) else type(answer).__name__


def redis_write(spec: RedisWrite, timeout: float, tools: Tools) -> RedisTarget:
    """The target that `spec` names; `timeout` in seconds bounds each of its methods."""
    return RedisTarget(spec, timeout)
