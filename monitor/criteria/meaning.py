"""meaning: ΔS stays in the band that its baseline calibrated, λ stays flat, facts and documents stay.

It does not care where ΔS comes from: it reads the figures of `meaning` observations. An answer that was
not measured is missing evidence, never a small distance.
"""

from collections import deque
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from monitor.criteria.base import Condition, Findings, Tally, grouped, unconfigured
from monitor.drift.lambda_ import WINDOW, Trend, trend
from monitor.model import Status, Timeline, Verdict, count, span
from monitor.plan import Plan
from probes.base import Kind, Observation, Outcome

BASELINE = 5
"""Measured answers of a question before it can be judged."""
ENOUGH = 3
OF = 5
"""A question breaks when `ENOUGH` of its last `OF` answers do."""
OVERLAP = 0.5
"""Least overlap (Jaccard) of the retrieved documents with those of the baseline."""
Said = list[tuple[str, str]]
"""(question, what is wrong with it)."""
PATIENCE = 30.0
"""Seconds that an answer may wait to be measured."""


@dataclass(slots=True)
class _Question:
    """What is known of one question."""

    condition: Condition
    needs: tuple[str, ...]
    """Figures without which an answer was not measured."""
    baseline: list[float] = field(default_factory=list)
    learnt: int = 0
    recent: deque[list[str]] = field(default_factory=lambda: deque(maxlen=OF))
    series: deque[float] = field(default_factory=lambda: deque(maxlen=4 * WINDOW))
    waiting: dict[float, float] = field(default_factory=dict)
    measured: int = 0
    unmeasured: int = 0
    worst: float = 0.0
    unmeasured_why: str = ""


class Meaning:
    """Judges answers from `opens` to the end of the soak against those before it."""

    name = "meaning"

    def __init__(self, plan: Plan) -> None:
        self._band = plan.objectives.meaning.band
        self._questions = {
            probe.name: _Question(condition=Condition(hold=plan.window.hold), needs=_needs(probe.spec))
            for probe in plan.of(Kind.READ)
            if probe.measured
        }
        self._tally = Tally()
        self._findings = Findings()

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from an answered read (it waits to be measured) or from its measurement."""
        question = self._questions.get(observation.probe)
        if question is None or observation.slot >= timeline.ends:
            return
        if observation.kind is Kind.READ:
            if observation.outcome is Outcome.OK:
                question.waiting[observation.slot] = observation.started
            return
        if observation.kind is not Kind.MEANING:
            return
        question.waiting.pop(observation.slot, None)
        if observation.outcome is not Outcome.OK:
            question.unmeasured += 1
            question.unmeasured_why = observation.reason
            return
        if observation.slot < timeline.window.opens:
            self._learn(question, observation)
        else:
            self._compare(question, observation)

    @staticmethod
    def _learn(question: _Question, observation: Observation) -> None:
        lacking = _lacking(question, observation)
        if question.learnt and lacking:
            return  # only the first has nothing to be compared with
        question.learnt += 1
        delta = observation.figures.get("delta_s")
        if isinstance(delta, float | int) and isfinite(delta):
            question.baseline.append(float(delta))

    def _compare(self, question: _Question, observation: Observation) -> None:
        lacking = _lacking(question, observation)
        if lacking:
            question.unmeasured += 1
            question.unmeasured_why = f"the measurement has no {' and no '.join(lacking)}"
            return
        self._tally.add(observation.started)
        question.measured += 1
        wrong = []
        delta = observation.figures.get("delta_s")
        if isinstance(delta, float | int):
            question.series.append(float(delta))
            question.worst = max(question.worst, float(delta))
            if delta > self.limit(question):
                wrong.append(f"ΔS {delta:.2f}, the band ends at {self.limit(question):.2f}")
        missing = observation.figures.get("facts_missing")
        if isinstance(missing, list) and missing:
            wrong.append(f"lacks {', '.join(repr(fact) for fact in missing[:3])}")
        overlap = observation.figures.get("documents_overlap")
        if isinstance(overlap, float | int) and overlap < OVERLAP:
            wrong.append(f"{overlap:.0%} of the documents are those of the baseline")
        if wrong:
            self._findings.add(observation, _kind_of(wrong[0]), "drifted")
        question.recent.append(wrong)
        broken = [kinds for kinds in question.recent if kinds]
        what = broken[-1][0] if broken else ""
        question.condition.update(observation.started, len(broken) >= ENOUGH, what)

    def limit(self, question: _Question) -> float:
        """Where the band of a question ends."""
        return max(question.baseline, default=0.0) + self._band

    def trends(self) -> dict[str, tuple[float | None, Trend, float]]:
        """(newest ΔS, λ, slope) of every question."""
        found = {}
        for name, question in self._questions.items():
            state, rate = trend(question.series, question.baseline)
            found[name] = (question.series[-1] if question.series else None, state, rate)
        return found

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """FAIL while a question breaks, INCONCLUSIVE where answers were not measured."""
        if not self._questions:
            return unconfigured(self.name, "no read says where its answer stands")
        failing, questions = self._states(now, timeline)
        status = Status.PASS
        if failing:
            status = Status.FAIL
        elif questions:
            status = Status.INCONCLUSIVE
        trends = [state for _, state, _ in self.trends().values()]
        since = min(
            (
                q.condition.breached_since
                for q in self._questions.values()
                if q.condition.breached_since is not None
            ),
            default=self._tally.first,
        )
        return Verdict(
            criterion=self.name,
            status=status,
            reason=grouped(failing or questions)
            or f"{count(self._tally.count, 'answer')} to {count(len(self._questions), 'question')} as before",
            since=since,
            figures={
                "questions": len(self._questions),
                "measured": self._tally.count,
                "unmeasured": sum(q.unmeasured for q in self._questions.values()),
                "delta_s_worst": round(max(q.worst for q in self._questions.values()), 4),
                **{f"lambda_{state.value}": trends.count(state) for state in Trend},
            },
            findings=self._findings.all,
            evidence=self._tally.evidence,
        )

    def _states(self, now: float, timeline: Timeline) -> tuple[Said, Said]:
        failing: Said = []
        open_questions: Said = []
        for name, question in self._questions.items():
            condition = question.condition
            state, _ = trend(question.series, question.baseline)
            if condition.status is Status.FAIL:
                failing.append((name, condition.reason))
            elif condition.status is Status.INCONCLUSIVE:
                open_questions.append((name, condition.reason))
            elif state in (Trend.DIVERGENT, Trend.CHAOTIC):
                open_questions.append((name, f"λ is {state.value}"))
            else:
                missing = self._missing(question, now, timeline)
                if missing:
                    open_questions.append((name, missing))
        return failing, open_questions

    @staticmethod
    def _missing(question: _Question, now: float, timeline: Timeline) -> str | None:
        overdue = [began for began in question.waiting.values() if now - began > PATIENCE]
        if now < timeline.window.opens:
            return "the window has not opened: no answer was compared yet"
        if question.learnt < BASELINE:
            return f"{question.learnt} of {BASELINE} answers measured in the baseline"
        if overdue:
            waited = span(now - min(overdue))
            return f"{len(overdue)} answers wait to be measured, for {waited}: is the embedder alive?"
        if question.unmeasured > 0.05 * (question.measured + question.unmeasured):
            return f"{question.unmeasured} answers were not measured: {question.unmeasured_why}"
        if question.measured < ENOUGH:
            return f"{question.measured} of {ENOUGH} answers measured in the window"
        return None


def _needs(spec: Any) -> tuple[str, ...]:
    """The figures that a measurement of this read must have."""
    asked = {"delta_s": spec.answer, "documents_overlap": spec.documents, "facts_missing": spec.must_contain}
    return tuple(figure for figure, wanted in asked.items() if wanted)


def _lacking(question: _Question, observation: Observation) -> list[str]:
    """The needed figures that are not there, or are no numbers."""
    found = observation.figures
    return [name for name in question.needs if not _usable(found.get(name))]


def _usable(figure: object) -> bool:
    return isinstance(figure, list) or (isinstance(figure, float | int) and isfinite(figure))


def _kind_of(what: str) -> str:
    """The sort of what is wrong, without figures, so that it is counted once."""
    return "ΔS beyond the band of the baseline" if what.startswith("ΔS") else what
