"""Measures answered reads against their baseline: one `meaning` observation for each, in their order.

It waits for the embedder without making anyone else wait. An answer that cannot be measured is said to be
so; it is never left out quietly. Judges nothing.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from monitor.drift.delta_s import Baseline, Vector
from monitor.drift.embedder import Embedder
from monitor.plan import Plan
from probes.base import Figure, Kind, Observation, Outcome

LONGEST = 2000
"""Answers of one question that may wait; the oldest is given up beyond that."""


@dataclass(slots=True)
class _Waiting:
    read: Observation
    answer: str | None
    quiet: bool
    """Measured already, before a restart: learn from it, say nothing."""


@dataclass(slots=True)
class _Question:
    embedded: bool
    baseline: Baseline = field(default_factory=Baseline)
    waiting: deque[_Waiting] = field(default_factory=deque)


class Meter:
    """Takes answered reads, gives measurements."""

    def __init__(self, plan: Plan, emit: Callable[[Observation], None]) -> None:
        self._opens = plan.window.opens
        self._emit = emit
        self._questions = {
            probe.name: _Question(embedded=probe.spec.answer is not None)
            for probe in plan.of(Kind.READ)
            if probe.measured
        }
        self._asking: dict[str, set[str]] = {}
        self.embedder: Embedder | None = None

    @property
    def needs_embedder(self) -> bool:
        """Some answers are compared by their meaning."""
        return any(question.embedded for question in self._questions.values())

    @property
    def waiting(self) -> int:
        """Reads that are not measured yet."""
        return sum(len(question.waiting) for question in self._questions.values())

    def take(self, read: Observation, text: str | None, *, quiet: bool = False) -> None:
        """Measure an answered read now or as soon as its vector is there."""
        question = self._questions.get(read.probe)
        if question is None or read.kind is not Kind.READ or read.outcome is not Outcome.OK:
            return
        name = read.figures.get("answer")
        answer = str(name) if question.embedded and name else None
        question.waiting.append(_Waiting(read=read, answer=answer, quiet=quiet))
        if len(question.waiting) > LONGEST:
            self._give_up(question.waiting.popleft())
        if answer is not None and self.embedder is not None and self.embedder.known(answer) is None:
            self._asking.setdefault(answer, set()).add(read.probe)
            if text is not None:
                self.embedder.ask(answer, text)
        self._drain(question)

    def received(self, name: str, vector: Vector) -> None:
        """The embedder has answered for one text."""
        for probe in self._asking.pop(name, ()):
            self._drain(self._questions[probe])

    def _drain(self, question: _Question) -> None:
        while question.waiting:
            first = question.waiting[0]
            vector = None
            if first.answer is not None:
                vector = self.embedder.known(first.answer) if self.embedder else None
                if vector is None:
                    return
            question.waiting.popleft()
            self._measure(question, first, vector)

    def _measure(self, question: _Question, item: _Waiting, vector: Vector | None) -> None:
        read, baseline = item.read, question.baseline
        figures: dict[str, Figure] = {}
        if item.answer is not None and vector is not None:
            delta = baseline.delta_s(item.answer, vector)
            figures["delta_s"] = None if delta is None else round(delta, 6)
            figures["answer"] = item.answer
        documents = read.figures.get("documents")
        if isinstance(documents, list):
            overlap = baseline.overlap(documents)
            figures["documents_overlap"] = None if overlap is None else round(overlap, 4)
        if "facts_missing" in read.figures:
            figures["facts_missing"] = read.figures["facts_missing"]
        if read.slot < self._opens:
            if item.answer is not None and vector is not None:
                baseline.learn(item.answer, vector)
            if isinstance(documents, list):
                baseline.learn_documents(documents)
        if not item.quiet:
            self._emit(_measurement(read, Outcome.OK, "measured", figures))

    def _give_up(self, item: _Waiting) -> None:
        if not item.quiet:
            reason = "given up: too many answers wait for the embedder"
            self._emit(_measurement(item.read, Outcome.UNREACHABLE, reason, {}))


def _measurement(read: Observation, outcome: Outcome, reason: str, figures: dict[str, Figure]) -> Observation:
    return Observation(
        probe=read.probe,
        kind=Kind.MEANING,
        surface=read.surface,
        outcome=outcome,
        reason=reason,
        slot=read.slot,
        started=read.started,
        phase=read.phase,
        figures=figures,
    )
