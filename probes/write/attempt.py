"""The write probe: try to write, see whether it is refused as promised, and do not believe it.

After every attempt that was answered, the canary is read back: refused yet there is a leak behind a
refusal, accepted yet absent is a silent drop. An attempt without an answer is looked for later as well, for
it may land then. What leaked is undone, and the surface is left alone until writes are open again. At most
one attempt is in flight for each surface; that lock is the caller's.
"""

import asyncio
import time
from dataclasses import dataclass

from probes.answer import OwnFault
from probes.base import LEAKS, Figure, Kind, Outcome, Result, Run, Why, skipped
from probes.refusal import Class, Judgement
from probes.write.canary import Canary, canary
from probes.write.target import Target, Tried

MAY_STAY = LEAKS | {Outcome.ACCEPTED, Outcome.QUEUED, Outcome.DROPPED}
"""Outcomes after which the canary may stand in the store, now or a little later."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two read-backs of one attempt, doubled from the one to the other."""
EXPECTED = 20
"""Attempts without an answer that are looked for later: the newest."""


@dataclass(slots=True)
class _Attempt:
    """What is known of an attempt so far."""

    canary: Canary
    tried: Tried
    present: bool | None = None
    unseen: str | None = None
    """Why the read-back could not tell."""
    undone: bool | None = None


class WriteAttempts:
    """Attempts one write on one target. Stops attempting once a leak is confirmed."""

    kind = Kind.WRITE

    def __init__(self, *, name: str, surface: str, window: str, target: Target, timeout: float) -> None:
        self.name = name
        self.surface = surface
        self.target = target
        self._window = window
        self._timeout = timeout
        self._code: str | None = None
        self._owed: dict[str, Canary] = {}
        self._expected: dict[str, Canary] = {}
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Attempt nothing more while frozen."""
        self.stopped = reason

    def owe(self, slot: float) -> None:
        """The canary of the attempt that was due at `slot` was left behind: undo it when writes are open."""
        left = canary(self._window, self.name, slot)
        self._owed[left.text] = left

    def expect(self, slot: float) -> None:
        """The attempt that was due at `slot` had no answer: look for it, it may land yet."""
        self._expect(canary(self._window, self.name, slot))

    async def hold(self) -> None:
        """Keep the target's session from before the window, where it has one."""
        keep = getattr(self.target, "hold", None)
        if keep is not None:
            await keep()

    async def aclose(self) -> None:
        """Let go of the target."""
        await self.target.aclose()

    async def run(self, run: Run) -> Result:
        """Attempt once, read back, undo what must not stay."""
        if not run.frozen:
            self.stopped = None
            if not self.target.undoable:
                return skipped(Why.HARMFUL, "no undo is configured: nothing is written while writes are open")
            self._owed.update(self._expected)
            self._expected.clear()
            await self._undo_what_is_owed()
        elif self.stopped is not None:
            return skipped(Why.STOPPED, self.stopped)
        else:
            late = await self._landed_late(run)
            if late is not None:
                return late
        identity = canary(self._window, self.name, run.slot)
        try:
            attempt = _Attempt(canary=identity, tried=await self.target.attempt(identity))
        except OwnFault as error:
            return skipped(Why.OWN_FAULT, error.reason)
        await self._read_back(attempt)
        outcome, reason = self._outcome(attempt, run)
        return await self._concluded(attempt, run, outcome, reason)

    async def _concluded(self, attempt: _Attempt, run: Run, outcome: Outcome, reason: str) -> Result:
        """Undo, owe, expect or stop, as the outcome asks for."""
        tried = attempt.tried
        if not tried.traceless and (attempt.present or outcome in MAY_STAY):
            reason = await self._undone(attempt, reason)
        elif tried.judgement is None and tried.may_land:
            if run.frozen:
                self._expect(attempt.canary)
            if attempt.unseen is not None and self.target.undoable:
                self._owed[attempt.canary.text] = attempt.canary
        if outcome in LEAKS and run.frozen and not run.freezing:
            self.stop(f"stopped after a confirmed leak: {reason}")
        return Result(
            outcome=outcome,
            reason=f"{tried.variant}: {reason}" if tried.variant else reason,
            duration_s=tried.duration_s,
            phases=tried.phases,
            figures=self._figures(attempt),
        )

    def _expect(self, identity: Canary) -> None:
        self._expected[identity.text] = identity
        while len(self._expected) > EXPECTED:
            del self._expected[next(iter(self._expected))]

    async def _landed_late(self, run: Run) -> Result | None:
        """A leak when an attempt that had no answer has taken effect since. Takes one timeout at most."""
        began = time.perf_counter()
        for text, identity in list(self._expected.items()):
            if time.perf_counter() - began >= self._timeout:
                return None
            del self._expected[text]
            if await self.target.look(identity) is not True:
                self._expected[text] = identity  # last in turn, so that each has its turn
                continue
            tried = Tried(judgement=None, duration_s=time.perf_counter() - began)
            attempt = _Attempt(canary=identity, tried=tried, present=True)
            said = f"{text}, which had no answer when it was tried, has been applied since"
            return await self._concluded(attempt, run, Outcome.LEAKED, said)
        return None

    def _outcome(self, attempt: _Attempt, run: Run) -> tuple[Outcome, str]:
        """The decision table: what was answered, what was found, what the plan expects."""
        judgement, applied = attempt.tried.judgement, attempt.present
        if judgement is None:
            reason = attempt.tried.unanswered
            if applied:
                return Outcome.LEAKED if run.frozen else Outcome.ACCEPTED, f"{reason}, yet applied"
            return Outcome.UNREACHABLE, reason
        if attempt.tried.variant is not None and not applied:
            return self._outcome_of_variant(attempt, judgement)
        if judgement.kind is Class.ACCEPTED:
            return self._outcome_of_accepted(attempt, run)
        if applied:
            other = judgement.kind is Class.OTHER and not run.frozen
            leaked = Outcome.ACCEPTED if other else Outcome.LEAKED_BEHIND_REFUSAL
            return leaked, f"{judgement.reason}, yet applied"
        if judgement.kind is Class.OTHER:
            return Outcome.UNREACHABLE, judgement.reason
        if judgement.kind is Class.BROKEN:
            return Outcome.REFUSED_BADLY, judgement.reason
        if self.target.one_code and self._code is not None and judgement.code != self._code:
            unstable = f"the code is {judgement.code!r} and was {self._code!r}: not stable"
            return Outcome.REFUSED_BADLY, unstable
        if attempt.unseen is not None:
            return Outcome.UNREACHABLE, f"refused ({judgement.reason}), but not verified: {attempt.unseen}"
        self._code = self._code or judgement.code
        return Outcome.REFUSED, judgement.reason

    @staticmethod
    def _outcome_of_variant(attempt: _Attempt, judgement: Judgement) -> tuple[Outcome, str]:
        """Another spelling of the write that wrote nothing: refused, or no way in at all."""
        if attempt.unseen is not None:
            return Outcome.UNREACHABLE, f"{judgement.reason}, but not verified: {attempt.unseen}"
        if judgement.kind in (Class.PROPER, Class.BROKEN):
            return Outcome.REFUSED, judgement.reason
        return Outcome.UNREACHABLE, f"{judgement.reason}; no way in, nothing was written"

    def _outcome_of_accepted(self, attempt: _Attempt, run: Run) -> tuple[Outcome, str]:
        tried = attempt.tried
        said = tried.judgement.reason if tried.judgement else ""
        unseen = f" ({attempt.unseen})" if attempt.unseen else ""
        if run.frozen and tried.intent:
            if attempt.present:
                return Outcome.LEAKED, f"{said}: accepted as an intent, yet applied while frozen"
            return Outcome.QUEUED, f"{said}: accepted as an intent{unseen}"
        if tried.traceless:
            return (Outcome.LEAKED, f"{said} while frozen") if run.frozen else (Outcome.ACCEPTED, said)
        if attempt.present is False:
            return Outcome.DROPPED, f"{said}, yet the read-back does not show it"
        if run.frozen:
            return Outcome.LEAKED, f"{said} while frozen{unseen}"
        if attempt.unseen is not None:
            return Outcome.UNREACHABLE, f"{said}, but not verified: {attempt.unseen}"
        return Outcome.ACCEPTED, said

    async def _read_back(self, attempt: _Attempt) -> None:
        """Look for the canary; sets `present`, and `unseen` where it cannot be told.

        A write that was accepted may take up to `within` to show; one that was refused is looked
        for as long, because it may land late.
        """
        if attempt.tried.traceless or self.target.believed:
            return
        if self.target.unread is not None:
            attempt.unseen = self.target.unread
            return
        deadline = time.perf_counter() + self.target.within
        pause = SHORTEST_PAUSE
        while True:
            seen = await self.target.look(attempt.canary)
            attempt.present, attempt.unseen = (seen, None) if isinstance(seen, bool) else (None, seen)
            left = deadline - time.perf_counter()
            if attempt.present or left <= 0:
                return
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _undone(self, attempt: _Attempt, reason: str) -> str:
        """Take the canary away; what cannot be taken away now is owed until writes are open."""
        if not self.target.undoable:
            attempt.undone = False
            return f"{reason}; not undone: no undo is configured"
        problem = await self.target.undo(attempt.canary)
        attempt.undone = problem is None
        if problem is None:
            return reason
        self._owed[attempt.canary.text] = attempt.canary
        return f"{reason}; not undone: {problem}"

    async def _undo_what_is_owed(self) -> None:
        """Pay what is owed, for no longer than one timeout: the rest waits for the next run."""
        ends = time.perf_counter() + self._timeout
        for text, identity in list(self._owed.items()):
            problem = await self.target.undo(identity)
            del self._owed[text]
            if problem is not None:
                self._owed[text] = identity
                return
            if time.perf_counter() >= ends:
                return

    def _figures(self, attempt: _Attempt) -> dict[str, Figure]:
        tried, judgement = attempt.tried, attempt.tried.judgement
        figures: dict[str, Figure] = {
            "canary": attempt.canary.text,
            "owed": len(self._owed),
            "expected": len(self._expected),
            "verified": tried.traceless or attempt.present is not None or self.target.believed,
            "trace": self._trace(attempt),
        }
        if attempt.undone is not None:
            figures["undone"] = attempt.undone
        if tried.variant is not None:
            figures["variant"] = tried.variant
            figures["answered"] = judgement is not None
        figures.update(tried.figures)
        if judgement is not None:
            figures["code" if self.target.one_code else "refused_by"] = judgement.code
            figures["retry_after_s"] = judgement.retry_after_s
            if judgement.warnings:
                figures["warnings"] = list(judgement.warnings)
        return figures

    @staticmethod
    def _trace(attempt: _Attempt) -> str:
        """What the attempt has left in the store, as far as is known."""
        if attempt.tried.traceless or attempt.present is False:
            return "none"
        if attempt.undone:
            return "none: undone"
        return "left" if attempt.present or attempt.undone is False else "unknown"
