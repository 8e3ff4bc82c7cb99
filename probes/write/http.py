"""The HTTP write probe: try to write, see whether it is refused as promised, and do not believe it.

After every attempt that was answered, the canary is read back: refused yet there is a leak behind a
refusal, accepted yet absent is a silent drop. What leaked is undone, and the surface is left alone until
writes are open again. At most one attempt is in flight for each surface; that lock is the caller's.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.base import LEAKS, Figure, Kind, Outcome, Result, Run, Why, skipped
from probes.http import Answer, ExchangeError, OwnFault, Transport
from probes.jsonpath import JsonPath, find_all
from probes.refusal import Class, Judgement, Refusal, Statuses, judge, parsed
from probes.request import HttpRequest, ask
from probes.units import Duration
from probes.write.canary import Canary, canary

Reason = Annotated[str, Field(min_length=3)]
MAY_STAY = LEAKS | {Outcome.ACCEPTED, Outcome.QUEUED, Outcome.DROPPED}
"""Outcomes after which the canary may stand in the store, now or a little later."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two read-backs of one attempt, doubled from the one to the other."""


class Absent(BaseModel):
    """What a read-back answers when the canary is not there: a status, and what stands in the body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Statuses = [404]
    at: JsonPath | None = None
    """With a path: absent when nothing stands there, or an empty list, object, text or null."""


class ReadBack(BaseModel):
    """How the effect of an attempt is looked for, or why it cannot be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpRequest | None = None
    absent: Absent = Absent()
    within: Annotated[Duration, Field(le=30)] = 0.0
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
    waived: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> "Undo":
        if (self.http is None) == (self.waived is None):
            raise ValueError("give http, or waived with a reason: one of the two")
        return self


class WriteSpec(BaseModel):
    """One write surface over HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpRequest
    surface: str | None = None
    refusal: Refusal = Refusal()
    read_back: ReadBack | None = None
    undo: Undo | None = None
    control: bool = False
    """Try once before the window opens, to see that the very same request is accepted then."""
    queued: Statuses | None = None
    """Statuses with which this surface may accept a write as an intent while frozen."""

    @model_validator(mode="after")
    def _stays(self) -> "WriteSpec":
        if self.http.follow_redirects:
            raise ValueError("a write is not followed where it is redirected to: name the URL that takes it")
        return self


@dataclass(slots=True)
class _Attempt:
    """What is known of an attempt so far."""

    canary: Canary
    answer: Answer | None = None
    unanswered: str | None = None
    judgement: Judgement | None = None
    present: bool | None = None
    unseen: str | None = None
    """Why the read-back could not tell."""
    undone: bool | None = None


class HttpWrite:
    """Attempts one write over HTTP. Stops attempting once a leak is confirmed (`stop`, `resume`)."""

    kind = Kind.WRITE

    def __init__(
        self,
        *,
        name: str,
        window: str,
        spec: WriteSpec,
        timeout: float,
        transport: Transport,
        agent: str,
        closes: float | None = None,
    ) -> None:
        self.name = name
        self.surface = spec.surface or name
        self._window = window
        self._spec = spec
        self._timeout = timeout
        self._transport = transport
        self._agent = agent
        self._closes = closes
        self._code: str | None = None
        self._owed: dict[str, Canary] = {}
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Attempt nothing more while frozen."""
        self.stopped = reason

    def owe(self, slot: float) -> None:
        """The canary of the attempt that was due at `slot` was left behind: undo it when writes are open."""
        left = canary(self._window, self.name, slot)
        self._owed[left.text] = left

    async def run(self, run: Run) -> Result:
        """Attempt once, read back, undo what must not stay."""
        if not run.frozen:
            self.stopped = None
            if self._spec.undo is None:
                return skipped(Why.HARMFUL, "no undo is configured: nothing is written while writes are open")
            await self._undo_what_is_owed()
        elif self.stopped is not None:
            return skipped(Why.STOPPED, self.stopped)
        began = time.perf_counter()
        attempt = _Attempt(canary=canary(self._window, self.name, run.slot))
        try:
            phases = await self._write(attempt)
        except OwnFault as error:
            return skipped(Why.OWN_FAULT, error.reason)
        answered_s = time.perf_counter() - began
        attempt.unseen = await self._read_back(attempt)
        outcome, reason = self._outcome(attempt, run)
        if attempt.present or outcome in MAY_STAY:
            reason = await self._undone(attempt, reason)
        elif attempt.answer is None and attempt.unseen is not None and self._spec.undo is not None:
            self._owed[attempt.canary.text] = attempt.canary
        if outcome in LEAKS and run.frozen and not run.freezing:
            self.stop(f"stopped after a confirmed leak: {reason}")
        return Result(
            outcome=outcome,
            reason=reason,
            duration_s=attempt.answer.duration_s if attempt.answer else answered_s,
            phases=phases,
            figures=self._figures(attempt),
        )

    async def _write(self, attempt: _Attempt) -> Mapping[str, float]:
        """The attempt itself: one request, no other. Returns its phases; raises OwnFault."""
        request = self._spec.http.build(
            "POST",
            attempt.canary.values,
            User_Agent=self._agent,
            Idempotency_Key=attempt.canary.idempotency_key,
            X_Freezewatch="canary",
        )
        try:
            answer = await self._transport.exchange(
                request, timeout=self._timeout, fresh=True, verify=self._spec.http.verify_as
            )
        except OwnFault:
            raise
        except ExchangeError as error:
            attempt.unanswered = error.reason
            return error.phases
        attempt.answer = answer
        attempt.judgement = judge(answer, self._spec.refusal, closes=self._closes)
        return answer.phases

    def _outcome(self, attempt: _Attempt, run: Run) -> tuple[Outcome, str]:
        """The decision table: what was answered, what was found, what the plan expects."""
        judgement, applied = attempt.judgement, attempt.present
        if judgement is None:
            reason = attempt.unanswered or "no answer"
            if applied:
                return Outcome.LEAKED if run.frozen else Outcome.ACCEPTED, f"{reason}, yet applied"
            return Outcome.UNREACHABLE, reason
        if judgement.kind is Class.ACCEPTED:
            return self._outcome_of_accepted(attempt, run, judgement)
        if applied:
            other = judgement.kind is Class.OTHER and not run.frozen
            leaked = Outcome.ACCEPTED if other else Outcome.LEAKED_BEHIND_REFUSAL
            return leaked, f"{judgement.reason}, yet applied"
        if judgement.kind is Class.OTHER:
            return Outcome.UNREACHABLE, judgement.reason
        if judgement.kind is Class.BROKEN:
            return Outcome.REFUSED_BADLY, judgement.reason
        if self._code is not None and judgement.code != self._code:
            unstable = f"the code is {judgement.code!r} and was {self._code!r}: not stable"
            return Outcome.REFUSED_BADLY, unstable
        if attempt.unseen is not None:
            return Outcome.UNREACHABLE, f"refused ({judgement.reason}), but not verified: {attempt.unseen}"
        self._code = self._code or judgement.code
        return Outcome.REFUSED, judgement.reason

    def _outcome_of_accepted(self, attempt: _Attempt, run: Run, judgement: Judgement) -> tuple[Outcome, str]:
        status = attempt.answer.status if attempt.answer else 0
        unseen = f" ({attempt.unseen})" if attempt.unseen else ""
        if run.frozen and self._spec.queued is not None and status in self._spec.queued:
            if attempt.present:
                return Outcome.LEAKED, f"{judgement.reason}: accepted as an intent, yet applied while frozen"
            return Outcome.QUEUED, f"{judgement.reason}: accepted as an intent{unseen}"
        if attempt.present is False:
            return Outcome.DROPPED, f"{judgement.reason}, yet the read-back does not show it"
        if run.frozen:
            return Outcome.LEAKED, f"{judgement.reason} while frozen{unseen}"
        if attempt.unseen is not None:
            return Outcome.UNREACHABLE, f"{judgement.reason}, but not verified: {attempt.unseen}"
        return Outcome.ACCEPTED, judgement.reason

    async def _read_back(self, attempt: _Attempt) -> str | None:
        """Look for the canary; sets `present`. Returns why that could not be told, or None.

        A write that was accepted may take up to `within` to show; one that was refused is looked
        for as long, because it may land late.
        """
        rule = self._spec.read_back
        if rule is None:
            return "no read_back is configured"
        if rule.http is None:
            return None
        deadline = time.perf_counter() + rule.within
        pause = SHORTEST_PAUSE
        while True:
            problem = await self._look(attempt, rule, rule.http)
            left = deadline - time.perf_counter()
            if attempt.present or left <= 0:
                return problem
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _look(self, attempt: _Attempt, rule: ReadBack, http: HttpRequest) -> str | None:
        request = http.build("GET", attempt.canary.values, User_Agent=self._agent)
        try:
            if http.follow_redirects:
                answer = await ask(self._transport, http, request, self._timeout)
            else:
                answer = await self._transport.exchange(
                    request, timeout=self._timeout, fresh=True, verify=http.verify_as
                )
        except ExchangeError as error:
            attempt.present = None
            return f"the read-back failed: {error.reason}"
        attempt.present = seen(answer, rule.absent, http_status_ok=not rule.absent.at)
        if attempt.present is None:
            return f"the read-back answered {answer.status}"
        return None

    async def _undone(self, attempt: _Attempt, reason: str) -> str:
        """Take the canary away; what cannot be taken away now is owed until writes are open."""
        if self._spec.undo is None:
            attempt.undone = False
            return f"{reason}; not undone: no undo is configured"
        problem = await self._undo(attempt.canary, self._spec.undo)
        attempt.undone = problem is None
        if problem is None:
            return reason
        self._owed[attempt.canary.text] = attempt.canary
        return f"{reason}; not undone: {problem}"

    async def _undo(self, identity: Canary, rule: Undo) -> str | None:
        """None when the canary is gone, or need not be taken away; otherwise why it is not."""
        if rule.http is None:
            return None
        request = rule.http.build("DELETE", identity.values, User_Agent=self._agent, X_Freezewatch="undo")
        try:
            answer = await self._transport.exchange(
                request, timeout=self._timeout, fresh=True, verify=rule.http.verify_as
            )
        except ExchangeError as error:
            return error.reason
        return None if answer.status in rule.status else f"the undo answered {answer.status}"

    async def _undo_what_is_owed(self) -> None:
        """Pay what is owed, for no longer than one timeout: the rest waits for the next run."""
        ends = time.perf_counter() + self._timeout
        for text, identity in list(self._owed.items()):
            problem = await self._undo(identity, self._spec.undo) if self._spec.undo else ""
            del self._owed[text]
            if problem is not None:
                self._owed[text] = identity
                return
            if time.perf_counter() >= ends:
                return

    def _figures(self, attempt: _Attempt) -> dict[str, Figure]:
        waived = self._spec.read_back is not None and self._spec.read_back.waived is not None
        figures: dict[str, Figure] = {
            "canary": attempt.canary.text,
            "owed": len(self._owed),
            "verified": attempt.present is not None or waived,
        }
        if attempt.undone is not None:
            figures["undone"] = attempt.undone
        if attempt.answer is not None:
            figures["status"] = attempt.answer.status
        if attempt.judgement is not None:
            figures["code"] = attempt.judgement.code
            figures["retry_after_s"] = attempt.judgement.retry_after_s
            if attempt.judgement.warnings:
                figures["warnings"] = list(attempt.judgement.warnings)
        return figures


def seen(answer: Answer, absent: Absent, *, http_status_ok: bool) -> bool | None:
    """Does a read-back show the canary? None when its answer tells neither. Pure."""
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
