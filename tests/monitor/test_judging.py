"""The judging thread: what follows from evidence is said, and its own failure is not silent."""

import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from monitor.clock import Clock
from monitor.events import Decided, Event, Judged, PhaseBegan
from monitor.judging import Judging, Sink
from monitor.metrics import Metrics
from monitor.model import Phase
from monitor.snapshot import Snapshot

from .builders import ENDS, healthy, plan_in


class Late(Clock):
    """A clock after the end of the builders' window."""

    def now(self) -> float:
        return ENDS + 1


class Broken:
    """A sink of ours that fails."""

    def event(self, event: Event) -> None:
        raise TypeError("a mistake of ours")

    def snapshot(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def trouble(self, reason: str | None) -> None:
        """Nothing."""


def judging(directory: Path, said: list[Event], sinks: list[Sink]) -> Judging:
    plan = plan_in(directory)
    return Judging(
        plan,
        Late(),
        Metrics(plan, CollectorRegistry()),
        sinks,
        append=said.append,
        react=lambda event: None,
        decided=lambda decision, verdicts: None,
    )


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_idle_means_that_everything_that_follows_was_said(tmp_path: Path) -> None:
    """Whoever waits for `idle` after `judge_now` has the phase, the verdicts and the advice."""
    said: list[Event] = []
    court = judging(tmp_path, said, [])
    court.start()
    court.give(list(enumerate(healthy(plan_in(tmp_path)), 1)))
    court.judge_now()

    until(lambda: court.idle)
    seen = list(said)
    court.stop()

    assert [e.phase for e in seen if isinstance(e, PhaseBegan)] == [Phase.CLOSED]
    assert {e.criterion: e.verdict for e in seen if isinstance(e, Judged)}["window"] == "GREEN"
    assert [e.action.value for e in seen if isinstance(e, Decided)] == ["CLOSE"]


def test_judge_that_fails_says_so(tmp_path: Path) -> None:
    """A thread that dies quietly would leave the last verdict standing."""
    court = judging(tmp_path, [], [Broken()])
    court.start()

    court.give(list(enumerate(healthy(plan_in(tmp_path))[:1], 1)))
    until(lambda: court.failed is not None)

    assert isinstance(court.failed, TypeError)
    court.stop()
