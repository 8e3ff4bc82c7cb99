"""The embedder's process: vectors come, a dead or hanging one is replaced, nobody waits for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from monitor.drift.delta_s import Baseline, Vector
from monitor.drift.embedder import Embedder
from monitor.drift.meter import Meter
from monitor.ledger import answer_id
from monitor.plan import Embedder as Settings
from probes.base import Kind, Observation, Outcome

from .builders import OPENS, observation, plan_in

pytestmark = pytest.mark.xdist_group("embedder")
PATIENCE = 120.0


@dataclass
class Heard:
    """What an embedder has said, on its own thread."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    notes: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def receive(self, name: str, vector: Vector) -> None:
        with self.news:
            self.vectors[name] = vector
            self.news.notify_all()

    def note(self, what: str, detail: dict[str, str]) -> None:
        with self.news:
            self.notes.append((what, detail))
            self.news.notify_all()

    def wait(self, condition: Callable[[], bool], within: float = PATIENCE) -> bool:
        with self.news:
            return self.news.wait_for(condition, within)

    def count(self, what: str) -> int:
        return sum(said == what for said, _ in self.notes)


@contextmanager
def running(model: str, deadline: float) -> Iterator[tuple[Embedder, Heard]]:
    heard = Heard()
    embedder = Embedder(model, heard.receive, heard.note, deadline=deadline)
    embedder.start()
    try:
        yield embedder, heard
    finally:
        embedder.stop()


@pytest.fixture(scope="module")
def embedder() -> Iterator[tuple[Embedder, Heard]]:
    """One real process for all tests here; it is replaced by some of them."""
    with running(Settings().model, 5.0) as (made, heard):
        assert heard.wait(lambda: heard.count("embedder ready") == 1)
        yield made, heard


def vector_of(text: str, made: Embedder, heard: Heard) -> Vector:
    name = answer_id(text)
    made.ask(name, text)
    assert heard.wait(lambda: name in heard.vectors)
    return heard.vectors[name]


def gone(pid: int) -> bool:
    """Is there no such process, or only what is left of it?"""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_vectors_have_length_one_and_the_same_text_is_no_distance(
    embedder: tuple[Embedder, Heard],
) -> None:
    """ΔS of identical text is 0, of a paraphrase small, of another topic large."""
    first = vector_of("You may return an item within 30 days.", *embedder)
    close = vector_of("Items can be returned for thirty days.", *embedder)
    far = vector_of("The moon orbits the earth.", *embedder)
    baseline = Baseline()
    baseline.learn("a", first)

    assert [float(np.linalg.norm(v)) for v in (first, close, far)] == pytest.approx([1.0] * 3, abs=1e-5)
    assert baseline.delta_s("a", first) == 0.0
    assert baseline.delta_s("same text, other id", first) == pytest.approx(0.0, abs=1e-6)
    near, distant = baseline.delta_s("b", close), baseline.delta_s("c", far)
    assert near is not None
    assert distant is not None
    assert 0.0 < near < 0.5 < distant <= 2.0


def test_an_odd_answer_keeps_no_other_from_its_vector(embedder: tuple[Embedder, Heard]) -> None:
    """Half a character, NUL, nothing at all and a very long text are embedded beside healthy ones."""
    made, heard = embedder
    texts = ["\ud800 half", "\x00", "", "word " * 50_000, "a healthy answer"]

    for text in texts:
        made.ask(answer_id(text), text)

    assert heard.wait(lambda: all(answer_id(text) in heard.vectors for text in texts))
    assert all(np.isfinite(heard.vectors[answer_id(text)]).all() for text in texts)
    assert heard.count("embedder refused answers") == 0


def test_a_process_that_is_killed_is_replaced_and_what_waited_is_answered(
    embedder: tuple[Embedder, Heard],
) -> None:
    """kill -9 while it is idle: it is noticed without a question, and the next is answered."""
    made, heard = embedder
    before = made.pid
    ready = heard.count("embedder ready")
    assert before is not None

    os.kill(before, signal.SIGKILL)
    assert heard.wait(lambda: heard.count("embedder ended") >= 1, within=10)
    made.ask("waits", "asked while nobody is there")
    assert made.queued == 1

    assert heard.wait(lambda: "waits" in heard.vectors)
    assert heard.count("embedder ready") == ready + 1
    assert made.pid != before
    assert gone(before)


def test_a_process_that_hangs_is_replaced(embedder: tuple[Embedder, Heard]) -> None:
    """Stopped in its tracks, it is given its deadline and no more; the text is answered by the next."""
    made, heard = embedder
    before = made.pid
    assert before is not None

    os.kill(before, signal.SIGSTOP)
    made.ask("hangs", "asked of one that hangs")

    assert heard.wait(lambda: "hangs" in heard.vectors)
    assert made.pid != before
    assert gone(before)


def test_a_model_that_does_not_exist_is_said_and_tried_again_later(tmp_path: Path) -> None:
    """Nobody waits for it, and `stop` ends even that."""
    with running(str(tmp_path / "no-model"), 5.0) as (made, heard):
        made.ask("a", "text")

        assert heard.wait(lambda: heard.count("embedder ended") == 1)
        assert not made.up
        assert made.queued == 1


def test_stop_leaves_no_process() -> None:
    """Neither of one that is still loading."""
    with running(Settings().model, 5.0) as (made, heard):
        made.ask("a", "text")
        deadline = threading.Event()
        while made.pid is None:
            assert not deadline.wait(0.01)
        pid = made.pid

    assert pid is not None
    assert gone(pid)
    assert heard.count("embedder ended") == 0


def read(number: int, text: str) -> Observation:
    figures = {"answer": answer_id(text), "documents": ["d1"], "facts_missing": []}
    return observation(
        probe="returns-policy",
        kind=Kind.READ,
        outcome=Outcome.OK,
        slot=OPENS - 100 + number,
        figures=figures,
    )


def test_without_an_embedder_answers_wait_and_nothing_is_made_up(tmp_path: Path) -> None:
    """No measurement is emitted; beyond the bound the oldest is said to be given up."""
    emitted: list[Observation] = []
    meter = Meter(plan_in(tmp_path), emitted.append)

    for number in range(2001):
        meter.take(read(number, "text"), "text")

    assert meter.waiting == 2000
    assert [(o.outcome, o.slot) for o in emitted] == [(Outcome.UNREACHABLE, OPENS - 100)]


def test_answers_are_measured_in_their_order(embedder: tuple[Embedder, Heard], tmp_path: Path) -> None:
    """The first has nothing to be compared with; the same text again is 0."""
    made, heard = embedder
    emitted: list[Observation] = []
    meter = Meter(plan_in(tmp_path), emitted.append)
    meter.embedder = made
    texts = ["thirty days to return", "thirty days to return", "the shop is closed on Sundays"]

    for number, text in enumerate(texts):
        meter.take(read(number, text), text)
    assert heard.wait(lambda: all(made.known(answer_id(text)) is not None for text in texts))
    for text in texts:
        meter.received(answer_id(text), heard.vectors[answer_id(text)])

    assert [o.slot for o in emitted] == [OPENS - 100 + n for n in range(3)]
    first, second, third = (o.figures["delta_s"] for o in emitted)
    assert first is None
    assert second == 0.0
    assert isinstance(third, float)
    assert third > 0.3
