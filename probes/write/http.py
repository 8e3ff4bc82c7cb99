"""The HTTP write probe: try to write, see whether it is refused as promised, and do not believe it.

After every attempt that was answered, the canary is read back: refused yet there is a leak behind a
refusal, accepted yet absent is a silent drop. What leaked is undone, and the surface is left alone until
writes are open again. At most one attempt is in flight for each surface; that lock is the caller's.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.base import LEAKS, Figure, Kind, Outcome, Result, Run, Why, skipped
from probes.http import Answer, ExchangeError, OwnFault, Transport
from probes.jsonpath import JsonPath, find_all
from probes.refusal import Class, Judgement, Refusal, Statuses, judge, parsed
from probes.request import HttpRequest
from probes.write.canary import Canary, canary

Reason = Annotated[str, Field(min_length=3)]


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
    within: float = Field(default=0.0, ge=0, le=30)
    """Seconds that a write may take to become visible; asked again until then."""
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


@dataclass(slots=True)
class _Attempt:
    """What is known of an attempt so far."""

    canary: Canary
    answer: Answer | None = None
    judgement: Judgement | None = None
    present: bool | None = None
    figures: dict[str, Figure] | None = None


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

    async def run(self, run: Run) -> Result:
        """Attempt once, read back, undo what must not stay."""
        if not run.frozen:
            self.stopped = None
            if not self._may_write_while_open():
                return skipped(Why.HARMFUL, "no undo is configured: nothing is written while writes are open")
            await self._undo_what_is_owed()
        elif self.stopped is not None:
            return skipped(Why.STOPPED, self.stopped)
        began = time.perf_counter()
        attempt = _Attempt(canary=canary(self._window, self.name, run.slot), figures={})
        result = await self._attempt(attempt, run)
        if result.outcome in LEAKS and run.frozen and not run.freezing:
            self.stop(f"stopped after a confirmed leak: {result.reason}")
        if not result.duration_s:
            result = replace(result, duration_s=time.perf_counter() - began)
        return result

    def _may_write_while_open(self) -> bool:
        return self._spec.undo is not None

    async def _attempt(self, attempt: _Attempt, run: Run) -> Result:
        request = self._spec.http.build(
            "POST",
            attempt.canary.values,
            User_Agent=self._agent,
            Idempotency_Key=attempt.canary.idempotency_key,
            X_Freezewatch="canary",
        )
        phases: dict[str, float] = {}
        unanswered: str | None = None
        try:
            answer = await self._transport.exchange(
                request, timeout=self._timeout, fresh=True, verify=self._spec.http.verify_as
            )
            attempt.answer = answer
            attempt.judgement = judge(answer, self._spec.refusal, closes=self._closes)
            phases = answer.phases
        except OwnFault as error:
            return skipped(Why.OWN_FAULT, error.reason)
        except ExchangeError as error:
            unanswered, phases = error.reason, error.phases
        problem = await self._read_back(attempt, accepted=self._accepted(attempt))
        outcome, reason = self._outcome(attempt, run, unanswered, problem)
        self._figures(attempt)
        if attempt.present or outcome in LEAKS or outcome in (Outcome.ACCEPTED, Outcome.QUEUED):
            reason = await self._undone(attempt, reason)
        return Result(
            outcome=outcome,
            reason=reason,
            duration_s=attempt.answer.duration_s if attempt.answer else 0.0,
            phases=phases,
            figures=attempt.figures or {},
        )

    def _accepted(self, attempt: _Attempt) -> bool:
        return attempt.judgement is not None and attempt.judgement.kind is Class.ACCEPTED

    def _outcome(
        self, attempt: _Attempt, run: Run, unanswered: str | None, problem: str | None
    ) -> tuple[Outcome, str]:
        """The decision table: what was answered, what was found, what the plan expects."""
        judgement, present = attempt.judgement, attempt.present
        if judgement is None:
            if present:
                return (
                    Outcome.LEAKED if run.frozen else Outcome.ACCEPTED,
                    f"{unanswered}, yet applied",
                )
            return Outcome.UNREACHABLE, unanswered or "no answer"
        if judgement.kind is Class.ACCEPTED:
            return self._outcome_of_accepted(attempt, run, judgement, problem)
        if judgement.kind is Class.OTHER:
            if present:
                leaked = Outcome.LEAKED_BEHIND_REFUSAL if run.frozen else Outcome.ACCEPTED
                return leaked, f"{judgement.reason}, yet applied"
            return Outcome.UNREACHABLE, judgement.reason
        if present:
            return Outcome.LEAKED_BEHIND_REFUSAL, f"{judgement.reason}, yet applied"
        if judgement.kind is Class.BROKEN:
            return Outcome.REFUSED_BADLY, judgement.reason
        if self._code is not None and judgement.code != self._code:
            return (
                Outcome.REFUSED_BADLY,
                f"the code is {judgement.code!r} and was {self._code!r}: not stable",
            )
        if problem is not None:
            return Outcome.UNREACHABLE, f"refused ({judgement.reason}), but not verified: {problem}"
        self._code = self._code or judgement.code
        return Outcome.REFUSED, judgement.reason

    def _outcome_of_accepted(
        self, attempt: _Attempt, run: Run, judgement: Judgement, problem: str | None
    ) -> tuple[Outcome, str]:
        status = attempt.answer.status if attempt.answer else 0
        if run.frozen and self._spec.queued is not None and status in self._spec.queued:
            return Outcome.QUEUED, f"{judgement.reason}: accepted as an intent"
        if attempt.present is False:
            return Outcome.DROPPED, f"{judgement.reason}, yet the read-back does not show it"
        if run.frozen:
            unseen = f" ({problem})" if problem else ""
            return Outcome.LEAKED, f"{judgement.reason} while frozen{unseen}"
        if problem is not None:
            return Outcome.UNREACHABLE, f"{judgement.reason}, but not verified: {problem}"
        return Outcome.ACCEPTED, judgement.reason

    async def _read_back(self, attempt: _Attempt, *, accepted: bool) -> str | None:
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
        while True:
            problem = await self._look(attempt, rule, rule.http)
            settled = attempt.present is True
            if settled or time.perf_counter() >= deadline:
                return problem
            await asyncio.sleep(min(0.1, rule.within / 4))

    async def _look(self, attempt: _Attempt, rule: ReadBack, http: HttpRequest) -> str | None:
        request = http.build("GET", attempt.canary.values, User_Agent=self._agent)
        try:
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
        problem = await self._undo(attempt.canary)
        figures = attempt.figures if attempt.figures is not None else {}
        figures["undone"] = problem is None
        if problem is None:
            return reason
        if problem:
            self._owed[attempt.canary.text] = attempt.canary
        return f"{reason}; not undone: {problem or 'no undo is configured'}"

    async def _undo(self, identity: Canary) -> str | None:
        """None when the canary is gone; otherwise why not, empty when nothing says how."""
        rule = self._spec.undo
        if rule is None:
            return ""
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
        for text, identity in list(self._owed.items()):
            if await self._undo(identity) is None:
                del self._owed[text]

    def _figures(self, attempt: _Attempt) -> None:
        figures = attempt.figures if attempt.figures is not None else {}
        figures["canary"] = attempt.canary.text
        figures["owed"] = len(self._owed)
        if attempt.answer is not None:
            figures["status"] = attempt.answer.status
        if attempt.judgement is not None:
            figures["code"] = attempt.judgement.code
            figures["retry_after_s"] = attempt.judgement.retry_after_s
            if attempt.judgement.warnings:
                figures["warnings"] = list(attempt.judgement.warnings)
        rule = self._spec.read_back
        figures["verified"] = attempt.present is not None or (rule is not None and bool(rule.waived))


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
