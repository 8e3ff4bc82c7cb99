"""A write over HTTP: how it is configured, and the target that makes it."""

import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.http import Answer, ExchangeError, OwnFault, Transport
from probes.jsonpath import JsonPath, find_all
from probes.refusal import Class, Refusal, Statuses, judge, parsed, says_failed
from probes.request import HttpRequest, ask
from probes.write.attempt import WriteAttempts
from probes.write.canary import Canary
from probes.write.target import Beside, Reason, Tried, Within, WithReadBack, WriteBase
from probes.write.variants import variants

VARIANTS_SLOWER = 2.0
"""Times as seldom as the write itself; each spelling in its turn, so far more seldom."""
NO_READ_BACK = "no read_back is configured"


class Absent(BaseModel):
    """What a read-back answers when the canary is not there: a status, and what stands in the body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Statuses = [404]
    at: JsonPath | None = None
    """With a path: absent when nothing stands there, or an empty list, object, text or null."""
    failed: JsonPath | None = None
    """Where a 2xx answer says that it failed nevertheless: it tells nothing when something stands there."""


class ReadBack(BaseModel):
    """How the effect of an attempt is looked for, or why it cannot be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpRequest | None = None
    absent: Absent = Absent()
    within: Within = 0.0
    """Time that a write may take to become visible; asked again until then."""
    waived: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> "ReadBack":
        if (self.http is None) == (self.waived is None):
            raise ValueError("give http, or waived with a reason: one of the two")
        return self


class Undo(BaseModel):
    """How a canary is taken away again, or why it need not be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpRequest | None = None
    status: Statuses = [200, 202, 204, 404, 410]
    failed: JsonPath | None = None
    """Where a 2xx answer says that it failed nevertheless: nothing is undone when something stands there."""
    waived: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> "Undo":
        if (self.http is None) == (self.waived is None):
            raise ValueError("give http, or waived with a reason: one of the two")
        return self


class WriteSpec(WithReadBack):
    """One write surface over HTTP."""

    http: HttpRequest
    refusal: Refusal = Refusal()
    read_back: ReadBack | None = None
    undo: Undo | None = None
    queued: Statuses | None = None
    """Statuses with which this surface may accept a write as an intent while frozen."""
    variants_: bool = Field(default=True, alias="variants")
    """Ask other spellings of the same write as well, in turn."""

    @model_validator(mode="after")
    def _stays(self) -> "WriteSpec":
        if self.http.follow_redirects:
            raise ValueError("a write is not followed where it is redirected to: name the URL that takes it")
        return self

    @property
    def own_doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        if not self.refusal.outage_looks_the_same:
            return []
        return ["an outage answers so too; name body, headers or a code by which a refusal is known"]

    @property
    def beside(self) -> list[tuple[str, WriteBase, float]]:
        """The same write in other spellings, where a read-back can tell what they did."""
        looked_for = self.read_back is not None and self.read_back.http is not None
        if not (self.variants_ and looked_for and variants(self.http)):
            return []
        return [("variants", VariantSpec.like(self), VARIANTS_SLOWER)]


class VariantSpec(Beside, WriteSpec):
    """A write that is asked in its other spellings, one at a time."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(variants(self.http))


class HttpTarget:
    """One HTTP service to write to."""

    def __init__(
        self,
        spec: WriteSpec,
        *,
        timeout: float,
        transport: Transport,
        agent: str,
        closes: float | None = None,
    ) -> None:
        self._spec = spec
        self._timeout = timeout
        self._transport = transport
        self._agent = agent
        self._closes = closes
        self._spellings = list(variants(spec.http).items()) if spec.variants else []
        self._turn = 0
        self.within = spec.read_back.within if spec.read_back else 0.0
        self.unread = None if spec.read_back is not None else NO_READ_BACK
        self.believed = spec.read_back is not None and spec.read_back.waived is not None
        self.undoable = spec.undo is not None
        self.one_code = not spec.variants

    @property
    def tries(self) -> str:
        """The request line."""
        request = self._spec.http
        return f"{request.method or 'POST'} {str(request.url).partition('?')[0]}"

    async def attempt(self, canary: Canary) -> Tried:
        """One request, no other: the write, or its spelling whose turn it is."""
        variant, http = self._spelling()
        request = http.build(
            "POST",
            canary.values,
            User_Agent=self._agent,
            Idempotency_Key=canary.idempotency_key,
            X_Freezewatch="canary",
        )
        began = time.perf_counter()
        try:
            answer = await self._transport.exchange(
                request, timeout=self._timeout, fresh=True, verify=http.verify_as
            )
        except OwnFault:
            raise
        except ExchangeError as error:
            return Tried(
                judgement=None,
                unanswered=error.reason,
                duration_s=time.perf_counter() - began,
                phases=error.phases,
                variant=variant,
            )
        judgement = judge(answer, self._spec.refusal, closes=self._closes)
        queued = self._spec.queued or []
        return Tried(
            judgement=judgement,
            duration_s=answer.duration_s,
            phases=answer.phases,
            figures={"status": answer.status},
            intent=judgement.kind is Class.ACCEPTED and answer.status in queued,
            variant=variant,
        )

    def _spelling(self) -> tuple[str | None, HttpRequest]:
        if not self._spellings:
            return None, self._spec.http
        self._turn += 1
        return self._spellings[(self._turn - 1) % len(self._spellings)]

    async def look(self, canary: Canary) -> bool | str:
        """Does the read-back show the canary?"""
        rule = self._spec.read_back
        if rule is None or rule.http is None:
            return NO_READ_BACK
        http = rule.http
        request = http.build("GET", canary.values, User_Agent=self._agent)
        try:
            if http.follow_redirects:
                answer = await ask(self._transport, http, request, self._timeout)
            else:
                answer = await self._transport.exchange(
                    request, timeout=self._timeout, fresh=True, verify=http.verify_as
                )
        except ExchangeError as error:
            return f"the read-back failed: {error.reason}"
        there = seen(answer, rule.absent, http_status_ok=not rule.absent.at)
        return f"the read-back answered {answer.status}" if there is None else there

    async def undo(self, canary: Canary) -> str | None:
        """None when the canary is gone, or need not be taken away; otherwise why it is not."""
        rule = self._spec.undo
        if rule is None or rule.http is None:
            return None
        request = rule.http.build("DELETE", canary.values, User_Agent=self._agent, X_Freezewatch="undo")
        try:
            answer = await self._transport.exchange(
                request, timeout=self._timeout, fresh=True, verify=rule.http.verify_as
            )
        except ExchangeError as error:
            return error.reason
        if answer.status not in rule.status:
            return f"the undo answered {answer.status}"
        failed = 200 <= answer.status < 300 and says_failed(rule.failed, parsed(answer))
        return f"the undo answered {answer.status}, and says that it failed" if failed else None

    async def aclose(self) -> None:
        """Nothing is held: the transport is the caller's."""


def http_write(
    *,
    name: str,
    window: str,
    spec: WriteSpec,
    timeout: float,
    transport: Transport,
    agent: str,
    closes: float | None = None,
) -> WriteAttempts:
    """The probe that attempts `spec` under `name`."""
    target = HttpTarget(spec, timeout=timeout, transport=transport, agent=agent, closes=closes)
    return WriteAttempts(
        name=name, surface=spec.surface or name, window=window, target=target, timeout=timeout
    )


def seen(answer: Answer, absent: Absent, *, http_status_ok: bool) -> bool | None:
    """Does a read-back show the canary? None when its answer tells neither. Pure."""
    if 200 <= answer.status < 300 and says_failed(absent.failed, parsed(answer)):
        return None
    if absent.at is not None:
        if answer.status in absent.status and not 200 <= answer.status < 300:
            return False
        if not 200 <= answer.status < 300:
            return None
        document: Any = parsed(answer)
        if document is None:
            return None
        found = find_all(absent.at, document)
        return any(item not in (None, "", [], {}, False) for item in found)
    if answer.status in absent.status:
        return False
    return True if http_status_ok and 200 <= answer.status < 300 else None
