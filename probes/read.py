"""The HTTP read probe: ask a question as a user would, and take the answer out of the body.

It says whether the question was answered, in what time, with what text. Whether that text still means
the same is not its business, and neither is whether the time is acceptable.
"""

import hashlib
import json
import time
from typing import Any

from pydantic import BaseModel, ConfigDict

from probes.base import Figure, Kind, Outcome, Result, Run, Why, skipped
from probes.http import Answer, ExchangeError, OwnFault, Transport
from probes.jsonpath import JsonPath, find_all
from probes.refusal import Class, Refusal, Statuses, judge, parsed
from probes.request import HttpRequest, ask
from probes.shown import writable

IDS_KEPT = 50
ID_LONGEST = 200


class ReadSpec(BaseModel):
    """What a read asks and where its answer stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpRequest
    status: Statuses | None = None
    """Statuses that count as answered; any 2xx by default."""
    answer: JsonPath | None = None
    documents: JsonPath | None = None
    must_contain: list[str] = []


class HttpRead:
    """Asks one question over HTTP."""

    kind = Kind.READ

    def __init__(
        self, *, name: str, spec: ReadSpec, timeout: float, transport: Transport, agent: str
    ) -> None:
        self.name = self.surface = name
        self._spec = spec
        self._timeout = timeout
        self._transport = transport
        self._request = spec.http.build("GET", User_Agent=agent)
        self._request.read()

    async def run(self, run: Run) -> Result:
        """Ask once: ok, failed, refused (by a guard that blocks reads), unreachable or skipped."""
        spec = self._spec
        began = time.perf_counter()
        try:
            answer = await ask(self._transport, spec.http, self._request, self._timeout)
        except OwnFault as error:
            return skipped(Why.OWN_FAULT, error.reason)
        except ExchangeError as error:
            return Result(
                outcome=Outcome.UNREACHABLE,
                reason=error.reason,
                duration_s=time.perf_counter() - began,
                phases=error.phases,
            )
        outcome, reason, text, figures = read_answer(answer, spec)
        return Result(
            outcome=outcome,
            reason=reason,
            duration_s=answer.duration_s,
            phases=answer.phases,
            figures=figures,
            answer=text,
        )


def read_answer(answer: Answer, spec: ReadSpec) -> tuple[Outcome, str, str | None, dict[str, Figure]]:
    """What an answer to a read says: outcome, reason, text of the answer, figures. Pure."""
    figures: dict[str, Figure] = {"status": answer.status}
    if not _answered(answer.status, spec):
        if judge(answer, Refusal()).kind in (Class.PROPER, Class.BROKEN):
            return (
                Outcome.REFUSED,
                f"the write guard refused a read: {answer.status}",
                None,
                figures,
            )
        return Outcome.FAILED, f"answered {answer.status}", None, figures
    if answer.truncated:
        return Outcome.FAILED, f"the answer is longer than {len(answer.body)} bytes", None, figures
    if spec.answer is None and spec.documents is None:
        text = answer.text if spec.must_contain else None
        return Outcome.OK, "answered", text, figures | _facts(text, spec)
    document = parsed(answer)
    if document is None:
        return Outcome.FAILED, f"answered {answer.status}, but not with JSON", None, figures
    text = None
    if spec.answer is not None:
        text = as_text(find_all(spec.answer, document))
        if text is None:
            return Outcome.FAILED, f"there is no answer at {spec.answer}", None, figures
    if spec.documents is not None:
        found = find_all(spec.documents, document)
        figures["documents"] = [_identity(item) for item in found[:IDS_KEPT]]
    return Outcome.OK, "answered", text, figures | _facts(text, spec)


def _answered(status: int, spec: ReadSpec) -> bool:
    return status in spec.status if spec.status is not None else 200 <= status < 300


def _identity(item: Any) -> str:
    """A document's id as text; one that is too long to keep is known by its digest."""
    text = writable(item if isinstance(item, str) else json.dumps(item))
    return text if len(text) <= ID_LONGEST else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def as_text(found: list[Any]) -> str | None:
    """The text of the values at a path, or None where there is none, or only blanks."""
    text = "\n".join(writable(item) for item in found if isinstance(item, str))
    return text if text.strip() else None


def _facts(text: str | None, spec: ReadSpec) -> dict[str, Figure]:
    """The stated facts that the answer lacks, by name."""
    if not spec.must_contain:
        return {}
    folded = (text or "").casefold()
    return {"facts_missing": [fact for fact in spec.must_contain if fact.casefold() not in folded]}
