"""flag: the read-only flag reads true on every replica throughout, and false after."""

from monitor.criteria.base import Condition, Findings, Tally, grouped, unconfigured
from monitor.freeze import Freeze
from monitor.model import Status, Timeline, Verdict, count, span
from monitor.plan import Plan
from probes.base import Kind, Observation, Outcome

ENOUGH = 3
BLIND = 3
"""Readings in a row that say nothing, after which a stretch of the window stays unproven."""
Said = list[tuple[str, str]]
"""(replica, what is wrong with it)."""


class Flag:
    """Judges what each replica said while frozen, and whether it let go afterwards."""

    name = "flag"

    def __init__(self, plan: Plan, freeze: Freeze) -> None:
        self._freeze = freeze
        planned = plan.of(Kind.FLAG)
        self._held = {probe.name: Condition(hold=plan.window.hold) for probe in planned}
        self._counts = dict.fromkeys(self._held, 0)
        self._unknown: dict[str, str] = {}
        self._in_a_row = dict.fromkeys(self._held, 0)
        self._blind: dict[str, str] = {}
        self._after: dict[str, Observation] = {}
        self._findings = Findings()
        self._tally = Tally()

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one reading."""
        condition = self._held.get(observation.probe)
        if condition is None or observation.outcome is Outcome.SKIPPED:
            return
        began, ended = observation.started, observation.started + observation.duration_s
        if began >= timeline.closes:
            self._after[observation.probe] = observation
            return
        if began < timeline.window.opens or ended >= timeline.closes:
            return
        off = observation.outcome is Outcome.OFF
        if off and self._freeze.settling(observation.probe, began, timeline):
            return
        self._tally.add(began)
        if observation.outcome in (Outcome.UNKNOWN, Outcome.UNREACHABLE):
            self._not_known(observation)
            return
        self._unknown.pop(observation.probe, None)
        self._in_a_row[observation.probe] = 0
        self._counts[observation.probe] += 1
        condition.update(began, off, "reads false while frozen")
        if off:
            self._findings.add(observation, "reads false while frozen")

    def _not_known(self, observation: Observation) -> None:
        name = observation.probe
        self._unknown[name] = observation.reason
        self._in_a_row[name] += 1
        if self._in_a_row[name] >= BLIND:
            self._blind.setdefault(name, observation.reason)

    def forget_what_came_after(self) -> None:
        """The window was extended: readings after the old end no longer count."""
        self._after.clear()

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """FAIL while a replica reads false in the window or true after it."""
        if not self._held:
            return unconfigured(self.name, "no flag has a probe")
        failing, open_questions = self._while_frozen(now, timeline)
        stuck, unsure = self._afterwards(now, timeline)
        failing += stuck
        open_questions += unsure
        status = Status.PASS
        if failing:
            status = Status.FAIL
        elif open_questions:
            status = Status.INCONCLUSIVE
        replicas = len(self._held)
        since = min(
            (c.breached_since for c in self._held.values() if c.breached_since is not None),
            default=self._tally.first,
        )
        return Verdict(
            criterion=self.name,
            status=status,
            reason=grouped(failing or open_questions)
            or f"true on {count(replicas, 'replica')}, {count(self._tally.count, 'reading')}",
            since=since,
            figures={
                "replicas": replicas,
                "readings": self._tally.count,
                "reads_false": [n for n, c in self._held.items() if c.breached_since is not None],
            },
            findings=self._findings.all,
            evidence=self._tally.evidence,
        )

    def _while_frozen(self, now: float, timeline: Timeline) -> tuple[Said, Said]:
        if now < timeline.window.opens:
            return [], [("", "the window has not opened: no flag was read in it yet")]
        failing: Said = []
        questions: Said = []
        for name, condition in self._held.items():
            if condition.status is Status.FAIL:
                failing.append((name, condition.reason))
            elif condition.status is Status.INCONCLUSIVE:
                questions.append((name, condition.reason))
            elif name in self._blind:
                questions.append((name, f"not known for a stretch: {self._blind[name]}"))
            elif name in self._unknown:
                questions.append((name, f"unknown: {self._unknown[name]}"))
            elif self._counts[name] < ENOUGH:
                questions.append((name, f"read {self._counts[name]} of the {ENOUGH} times needed"))
        return failing, questions

    def _afterwards(self, now: float, timeline: Timeline) -> tuple[Said, Said]:
        if now < timeline.closes or not timeline.window.soak:
            return [], []
        patience = timeline.closes + min(timeline.window.settle, timeline.window.soak / 2)
        failing: Said = []
        questions: Said = []
        for name in self._held:
            last = self._after.get(name)
            if last is None or last.outcome in (Outcome.UNKNOWN, Outcome.UNREACHABLE):
                questions.append((name, "not seen to read false after the end"))
            elif last.outcome is Outcome.ON:
                late = span(max(0.0, last.started - timeline.closes))
                said = (name, f"still reads true {late} after the end")
                (failing if last.started > patience else questions).append(said)
        return failing, questions if now > patience else []
