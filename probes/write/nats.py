"""A write to a NATS JetStream stream: how it is configured, and the target that makes it.

The default attempt demands a last sequence that no stream has: the server checks permissions, takes the
message in, and turns it down at the sequence (error 10071), so that nothing is stored. It checks the limits
of a stream only afterwards: a freeze by limits is seen by a canary that is really published, and deleted.
"""

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from probes.answer import ExchangeError, OwnFault
from probes.base import Figure
from probes.own import OwnWrites
from probes.refusal import Class, Judgement
from probes.request import PLACEHOLDER
from probes.stores.nats import ApiAnswer, ApiError, Link, NatsServer, NoResponders, NotAllowed, parsed
from probes.tools import Tools
from probes.units import NoBool
from probes.write.canary import Canary
from probes.write.target import Tried, WriteBase

NEVER: Final = str(2**62)
"""A last sequence that no stream reaches. A number above 2**64 would be ignored, and the message stored."""
WRONG_SEQUENCE: Final = 10071
NOT_FOUND: Final = 10037
STORE_FAILED: Final = 10077
"""What a full stream answers, and a full disk as well: the text tells them apart."""
FULL: Final = re.compile(r"^maximum (messages|bytes)\b.* exceeded$")
STEPS: Final = 200
"""Messages that are looked at in search of a canary whose sequence is not known."""
REMEMBERED: Final = 100
ROOM: Final = 1000
"""Bytes that a canary takes in a stream, with its headers, at most."""


def _subject(text: str) -> str:
    if not text or re.search(r"\s|\*|>|^\.|\.$|\.\.", PLACEHOLDER.sub("x", text)):
        raise ValueError(f"{text[:60]!r} is no subject to publish to: no blanks, no wildcards, no empty part")
    return text


def _stream(text: str) -> str:
    if not re.fullmatch(r"[^\s.*>/\\]{1,255}", text):
        raise ValueError(f"{text[:60]!r} is no name of a stream")
    return text


class Nats(NatsServer):
    """Where is written."""

    stream: Annotated[str, AfterValidator(_stream)]
    subject: Annotated[str, AfterValidator(_subject)]
    """One that the stream takes. Plain subscribers to it get the message too, stored or not."""
    canary: bool = False
    """Publish for real, look for the message, and delete it."""


class NatsRefusal(BaseModel):
    """What a proper refusal looks like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    codes: list[Annotated[int, NoBool, Field(ge=1, le=99999)]] = [STORE_FAILED, 10109]
    """JetStream's err_code: a stream that is full and discards the new (10077), a sealed one (10109)."""
    permissions: bool = True
    """A permissions violation for the subject is a refusal."""


class NatsWrite(WriteBase):
    """One write surface on JetStream."""

    nats: Nats
    refusal: NatsRefusal = NatsRefusal()


class _Ack(ApiAnswer):
    stream: str | None = None
    seq: int | None = None
    duplicate: bool = False


class _State(BaseModel):
    first_seq: int = 0
    last_seq: int = 0
    messages: int = 0
    bytes: int = 0


class _Config(BaseModel):
    discard: str = "old"
    max_msgs: int = -1
    max_bytes: int = -1
    max_msgs_per_subject: int = -1


class _Info(ApiAnswer):
    created: str = ""
    config: _Config = _Config()
    state: _State = _State()

    def pushes_out(self, *, own_subject: bool) -> bool:
        """One more message would push out an older one."""
        config, state = self.config, self.state
        if config.max_msgs_per_subject > 0 and not own_subject:
            return config.discard == "old"
        full = 0 < config.max_msgs <= state.messages or 0 < config.max_bytes < state.bytes + ROOM
        return config.discard == "old" and full


class _Message(BaseModel):
    seq: int = 0
    hdrs: str = ""


class _Got(ApiAnswer):
    message: _Message | None = None


def judged(data: bytes, refusal: NatsRefusal) -> tuple[Judgement, int | None]:
    """What an answer to a publish is, and the sequence under which it was stored, where it was. Pure."""
    ack = parsed(_Ack, data)
    if ack is None:
        return _other("answered by something that is no JetStream"), None
    if ack.error is None:
        if ack.seq is None:
            return _other("answered without a sequence: no acknowledgement of JetStream's"), None
        again = " (it was there already)" if ack.duplicate else ""
        return Judgement(kind=Class.ACCEPTED, reason=f"stored as {ack.stream} #{ack.seq}{again}"), ack.seq
    code, text = ack.error.err_code or ack.error.code, ack.error.description
    if code == WRONG_SEQUENCE:
        reason = "let through to the stream, and turned down at the sequence that was demanded"
        return Judgement(kind=Class.ACCEPTED, reason=reason, code=str(code)), None
    listed = code in refusal.codes and (code != STORE_FAILED or FULL.search(text) is not None)
    kind = Class.PROPER if listed else Class.OTHER
    return Judgement(kind=kind, reason=f"{code}: {text}", code=str(code)), None


def _other(reason: str) -> Judgement:
    return Judgement(kind=Class.OTHER, reason=reason)


@dataclass(slots=True)
class _Known:
    """What is known of a canary that was published for real."""

    start: int | None = None
    """It stands at this sequence or after it."""
    seq: int | None = None
    created: str | None = None
    """When the stream was created: tells it from one of the same name."""


class NatsTarget:
    """One subject to publish to, over a fresh connection for every attempt."""

    within = 0.0
    unread = None
    believed = False
    undoable = True
    one_code = False

    def __init__(self, spec: NatsWrite, *, timeout: float, own: OwnWrites) -> None:
        self._nats = spec.nats
        self._refusal = spec.refusal
        self._timeout = timeout
        self._own = own
        self._known: dict[str, _Known] = {}

    @property
    def tries(self) -> str:
        """`publish to orders.new, with a sequence that never comes`."""
        how = "for real" if self._nats.canary else "with a sequence that never comes"
        return f"publish to {self._nats.subject}, {how}"

    async def attempt(self, canary: Canary) -> Tried:
        """Connect, publish once, and say what the server said."""
        began = time.perf_counter()
        sent, harmless = False, not self._nats.canary
        connected: float | None = None
        try:
            async with await Link(self._nats).open(self._timeout) as link:
                connected = time.perf_counter() - began
                left = self._left(began)
                hindered = await self._hindered(link, canary, left) if self._nats.canary else None
                sent, harmless = True, harmless or hindered is not None
                data = await self._publish(link, canary, left(), harmless=harmless)
                tried = self._answered(canary, data, hindered)
        except OwnFault:
            raise
        except NotAllowed as error:
            tried = Tried(judgement=self._not_allowed(error, canary), traceless=harmless)
        except NoResponders as error:
            tried = Tried(judgement=_other(error.reason), traceless=harmless)
        except ExchangeError as error:
            tried = Tried(
                judgement=None,
                unanswered=error.reason,
                traceless=harmless,
                may_land=sent and not harmless,
            )
        spent = time.perf_counter() - began
        connecting = spent if connected is None else connected
        phases = {"connect": connecting, "publish": max(0.0, spent - connecting)}
        return replace(tried, duration_s=spent, phases=phases)

    def _left(self, began: float) -> Callable[[], float]:
        return lambda: max(0.001, self._timeout - (time.perf_counter() - began))

    async def _hindered(self, link: Link, canary: Canary, left: Callable[[], float]) -> str | None:
        """Why a canary is not published for real; None with the end of the stream noted."""
        try:
            info = await link.api(_Info, f"STREAM.INFO.{self._nats.stream}", within=left() / 2)
        except (NotAllowed, ApiError, NoResponders) as error:
            return f"the stream could not be asked whether a canary does harm: {error.reason}"
        if info.pushes_out(own_subject=bool(PLACEHOLDER.search(self._nats.subject))):
            return "the stream discards the old: a canary would push out a message of yours"
        self._known[canary.text] = _Known(start=info.state.last_seq + 1, created=info.created)
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return None

    async def _publish(self, link: Link, canary: Canary, within: float, *, harmless: bool) -> bytes:
        headers = {"X-Freezewatch": "canary", "Nats-Expected-Stream": self._nats.stream}
        headers |= {"Nats-Expected-Last-Sequence": NEVER} if harmless else {"Nats-Msg-Id": canary.text}
        return await link.ask(self._subject(canary), canary.text.encode(), headers=headers, within=within)

    def _subject(self, canary: Canary) -> str:
        return PLACEHOLDER.sub(lambda found: canary.values[found[1]], self._nats.subject)

    def _answered(self, canary: Canary, data: bytes, hindered: str | None) -> Tried:
        judgement, seq = judged(data, self._refusal)
        if hindered is not None and seq is None and judgement.kind is Class.ACCEPTED:
            reason = f"let through to the stream, and not published for real: {hindered}"
            return Tried(judgement=_other(reason), traceless=True)
        figures: dict[str, Figure] = {}
        if seq is not None:
            known = self._known.setdefault(canary.text, _Known())
            known.seq = figures["seq"] = seq
            self._note(known)
        traceless = seq is None and (hindered is not None or not self._nats.canary)
        return Tried(judgement=judgement, figures=figures, traceless=traceless)

    def _note(self, known: _Known, prefix: str = "") -> None:
        """Tell an audit of the same stream which message is ours."""
        if known.created is not None:
            self._own.note(f"nats {self._nats.stream} {known.created}", f"{prefix}{known.seq}")

    def _not_allowed(self, error: NotAllowed, canary: Canary) -> Judgement:
        ours = error.verb == "publish" and error.subject == self._subject(canary).lower()
        if ours and self._refusal.permissions:
            return Judgement(kind=Class.PROPER, reason=error.reason, code="permissions violation")
        if error.verb == "subscription":
            return _other(f"{error.reason}: the answer cannot be heard; name an `inbox` that is allowed")
        return _other(error.reason)

    async def look(self, canary: Canary) -> bool | str:
        """Does the stream hold the canary?"""
        if not self._nats.canary and canary.text not in self._known:
            return False
        began = time.perf_counter()
        try:
            async with await Link(self._nats).open(self._timeout) as link:
                return await self._find(link, canary, self._left(began)) is not None
        except ExchangeError as error:
            return f"the stream could not be read: {error.reason}"

    async def _find(self, link: Link, canary: Canary, left: Callable[[], float]) -> int | None:
        """The sequence of the canary, or None where it is not there. Raises ExchangeError."""
        known = self._known.setdefault(canary.text, _Known())
        if known.seq is not None:
            found = await self._get(link, {"seq": known.seq}, left())
            return known.seq if found is not None and _is(found, canary) else None
        if known.start is None or known.created is None:
            info = await link.api(_Info, f"STREAM.INFO.{self._nats.stream}", within=left())
            known.start = max(info.state.first_seq, info.state.last_seq - STEPS + 1)
            known.created = info.created
        at = known.start
        for _ in range(STEPS):
            found = await self._get(link, {"seq": max(at, 1), "next_by_subj": self._subject(canary)}, left())
            if found is None:
                return None
            if _is(found, canary):
                known.seq = found.seq
                self._note(known)
                return found.seq
            at = found.seq + 1
        raise ApiError(0, f"not among {STEPS} messages on its subject")

    async def _get(self, link: Link, what: dict[str, object], within: float) -> _Message | None:
        try:
            got = await link.api(
                _Got, f"STREAM.MSG.GET.{self._nats.stream}", json.dumps(what).encode(), within=within
            )
        except ApiError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        return got.message

    async def undo(self, canary: Canary) -> str | None:
        """Delete the canary; None when it is gone."""
        if not self._nats.canary and canary.text not in self._known:
            return None
        began = time.perf_counter()
        left = self._left(began)
        try:
            async with await Link(self._nats).open(self._timeout) as link:
                seq = await self._find(link, canary, left)
                if seq is None:
                    return None
                self._note(self._known[canary.text], "undone ")
                delete = json.dumps({"seq": seq, "no_erase": True}).encode()
                await link.api(ApiAnswer, f"STREAM.MSG.DELETE.{self._nats.stream}", delete, within=left())
        except ExchangeError as error:
            return f"the canary could not be deleted: {error.reason}"
        return None

    async def aclose(self) -> None:
        """Nothing is held between attempts."""


def _is(message: _Message, canary: Canary) -> bool:
    """Is this message the canary? Its identity stands in its headers."""
    try:
        headers = base64.b64decode(message.hdrs).decode("utf-8", "replace")
    except ValueError:
        return False
    return f"Nats-Msg-Id: {canary.text}\r\n" in headers


def nats_write(spec: NatsWrite, timeout: float, tools: Tools) -> NatsTarget:
    """What is written to."""
    return NatsTarget(spec, timeout=timeout, own=tools.own)
