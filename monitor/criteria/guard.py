"""guard: every surface refuses every attempt as promised, and the read-back shows no effect."""

from dataclasses import dataclass, field

from monitor.criteria.base import Findings, Tally, grouped, unconfigured
from monitor.freeze import Freeze
from monitor.model import Status, Timeline, Verdict, count
from monitor.plan import Plan
from probes.base import LEAKS, Kind, Observation, Outcome

ENOUGH = 3
"""Verified refusals of a surface before it counts as guarded."""
BLIND = 3
"""Attempts in a row without a usable answer after which a stretch of the window stays unproven."""
TOLERATED = 0.05
"""Share of attempts that may go unanswered."""

BROKEN = LEAKS | {Outcome.REFUSED_BADLY, Outcome.DROPPED}


@dataclass(slots=True)
class _Surface:
    """What is known of one write probe while frozen."""

    name: str
    """The surface that it asks."""
    variants: frozenset[str] = frozenset()
    """Other spellings that it must have asked."""
    needs_session: bool = False
    """It must have asked over a session from before the window."""
    spelled: set[str] = field(default_factory=set)
    from_before: bool = False
    asked: int = 0
    held: int = 0
    unanswered: int = 0
    in_a_row: int = 0
    blind: str | None = None
    unverified: str | None = None
    last_reason: str = ""
    landed: int = 0
    codes: dict[str, int] = field(default_factory=dict)


class Guard:
    """Judges attempts between `opens` and the end of the freeze."""

    name = "guard"

    def __init__(self, plan: Plan, freeze: Freeze) -> None:
        self._freeze = freeze
        self._planned = plan.of(Kind.WRITE)
        self._surfaces = {
            probe.name: _Surface(
                name=probe.surface,
                variants=frozenset(probe.spec.variants),
                needs_session=probe.spec.held,
            )
            for probe in self._planned
        }
        self._unverifiable = [p.name for p in self._planned if not p.spec.verified]
        self._accepts_when_open: set[str] = set()
        self._findings = Findings()
        self._tally = Tally()
        self._edge = 0
        self._since: float | None = None

    def observe(self, observation: Observation, timeline: Timeline) -> None:
        """Learn from one attempt."""
        surface = self._surfaces.get(observation.probe)
        if surface is None:
            self._removed(observation, timeline)
            return
        if observation.outcome is Outcome.SKIPPED:
            return
        if observation.outcome is Outcome.ACCEPTED:
            self._accepts_when_open.add(observation.probe)
        began, ended = observation.started, observation.started + observation.duration_s
        if began < timeline.window.opens or began >= timeline.closes:
            return
        if ended >= timeline.closes:
            self._edge += 1
            return
        self._learn(surface, observation, timeline)

    def _removed(self, observation: Observation, timeline: Timeline) -> None:
        """A leak stays a leak when its probe is taken out of the configuration."""
        within = timeline.window.opens <= observation.started < timeline.closes
        if observation.kind is Kind.WRITE and observation.outcome in LEAKS and within:
            self._break(observation, f"{observation.reason} (not configured any more)")

    def _learn(self, surface: _Surface, observation: Observation, timeline: Timeline) -> None:
        outcome = observation.outcome
        if outcome in (Outcome.LEAKED, Outcome.ACCEPTED, Outcome.DROPPED) and self._freeze.settling(
            observation.probe, observation.started, timeline
        ):
            surface.landed += 1
            return
        self._tally.add(observation.started)
        surface.asked += 1
        surface.last_reason = observation.reason
        if surface.variants:
            self._spelled(surface, observation)
            if outcome is Outcome.UNREACHABLE:
                return
        if outcome is Outcome.UNREACHABLE:
            self._unanswered(surface, observation)
            return
        surface.in_a_row = 0
        if outcome in BROKEN or outcome is Outcome.ACCEPTED:
            self._break(observation)
            return
        surface.held += 1
        surface.from_before |= observation.figures.get("from_before") is True
        code = observation.figures.get("code")
        if isinstance(code, str) and outcome is Outcome.REFUSED:
            surface.codes[code] = surface.codes.get(code, 0) + 1
            if len(surface.codes) > 1 and surface.codes[code] == 1:
                self._break(observation, f"the code changed: {', '.join(surface.codes)}")

    @staticmethod
    def _spelled(surface: _Surface, observation: Observation) -> None:
        """Another spelling was asked and answered; that it is no way in is as good as a refusal."""
        variant = observation.figures.get("variant")
        if isinstance(variant, str) and observation.figures.get("answered") is True:
            surface.spelled.add(variant)

    def _break(self, observation: Observation, what: str | None = None) -> None:
        self._findings.add(observation, what)
        if self._since is None:
            self._since = observation.started

    def _unanswered(self, surface: _Surface, observation: Observation) -> None:
        surface.unanswered += 1
        surface.in_a_row += 1
        if surface.in_a_row >= BLIND:
            surface.blind = observation.reason

    def verdict(self, now: float, timeline: Timeline) -> Verdict:
        """FAIL on any broken attempt, INCONCLUSIVE until every surface is proven."""
        if not self._planned:
            return unconfigured(self.name, "no write surface has a probe")
        open_questions = self._open_questions(now, timeline)
        otherwise = (
            Status.INCONCLUSIVE if open_questions else Status.PASS,
            grouped(open_questions) or self._fine(),
        )
        broken = bool(self._findings)
        return Verdict(
            criterion=self.name,
            status=Status.FAIL if broken else otherwise[0],
            reason=self._worst() if broken else otherwise[1],
            otherwise=otherwise,
            since=self._since if broken else self._tally.first,
            figures=self._figures(),
            findings=self._findings.all,
            evidence=self._tally.evidence,
            final=broken,
        )

    def _fine(self) -> str:
        left_alone = {finding.surface for finding in self._findings.all}
        held = [s for s in self._surfaces.values() if s.name not in left_alone]
        attempts, surfaces = sum(s.held for s in held), len({s.name for s in held})
        said = f"{count(attempts, 'attempt')} on {count(surfaces, 'surface')} refused as promised"
        return said + (f", left alone since: {', '.join(sorted(left_alone))}" if left_alone else "")

    def _worst(self) -> str:
        findings = self._findings.all
        leaks = [f for f in findings if f.outcome in (*map(str, LEAKS), "dropped", "accepted")]
        first = (leaks or findings)[0]
        more = len({f.surface for f in findings}) - 1
        also = f", and {more} more surfaces" if more else ""
        return f"{first.surface}: {first.outcome.replace('_', ' ')}: {first.what}{also}"

    def _open_questions(self, now: float, timeline: Timeline) -> list[tuple[str, str]]:
        if now < timeline.window.opens:
            return [("", "the window has not opened: nothing was refused yet")]
        questions = []
        broken = {finding.surface for finding in self._findings.all}
        for name, surface in self._surfaces.items():
            if surface.name in broken:
                continue
            if not surface.asked:
                questions.append((name, "never asked while frozen"))
            elif surface.variants:
                asked = f"asked {len(surface.spelled)} of {len(surface.variants)} other spellings"
                questions += [(name, asked)] if surface.spelled < surface.variants else []
            elif surface.blind:
                questions.append((name, f"not proven for a stretch: {surface.blind}"))
            elif surface.in_a_row:
                questions.append((name, surface.last_reason))
            elif surface.unanswered > TOLERATED * surface.asked:
                share = f"{surface.unanswered} of {surface.asked}"
                questions.append((name, f"{share} attempts without a usable answer"))
            elif surface.held < ENOUGH:
                questions.append((name, f"refused {surface.held} of the {ENOUGH} times needed"))
            elif surface.needs_session and not surface.from_before:
                questions.append((name, "no session from before the window was there to be asked"))
        questions += [
            (name, "refusals are believed, not verified: no read_back") for name in self._unverifiable
        ]
        return questions

    def _figures(self) -> dict[str, str | float | int | bool | None | list[str]]:
        surfaces = self._surfaces.values()
        unseen = [
            name
            for name, surface in self._surfaces.items()
            if name not in self._accepts_when_open and not surface.variants
        ]
        return {
            "attempts": sum(s.asked for s in surfaces),
            "blocked": sum(s.held for s in surfaces),
            "unanswered": sum(s.unanswered for s in surfaces),
            "landed_while_freezing": sum(s.landed for s in surfaces),
            "at_the_edge": self._edge,
            "codes": sorted({code for s in surfaces for code in s.codes}),
            "never_seen_to_succeed": unseen,
        }
