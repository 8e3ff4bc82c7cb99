"""The evidence holds: against tampering, crashes, full disks and several writers."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.errors import LedgerBroken, LedgerError
from monitor.events import (
    Acted,
    Alerted,
    Decided,
    Event,
    Judged,
    Observed,
    PhaseBegan,
    SelfNoted,
    dumps,
    loads,
)
from monitor.ledger import GENESIS, Ledger, LedgerFile, answer_id, only_watcher
from monitor.model import Act, Action, Phase
from probes.base import Kind, Observation, Outcome

from .builders import OPENS, observation, seen

ROOT = Path(__file__).parents[2]


def writer(name: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.monitor.writer", name, str(path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)


def note(number: int) -> SelfNoted:
    return SelfNoted(at=OPENS + number, what="noted", detail={"n": number})


def answered(text: str, slot: float = OPENS) -> Observed:
    o = observation(probe="ask", kind=Kind.READ, outcome=Outcome.OK, slot=slot)
    return seen(replace(o, answer=text, figures={"answer": answer_id(text)}))


def filled(path: Path) -> Path:
    """A ledger of three batches with four records each; record 6 is the first to name an answer."""
    with closing(LedgerFile(path, create=True)) as file:
        file.append([note(n) for n in (1, 2, 3, 4)])
        file.append([note(5), answered("thirty days"), answered("forty days"), note(8)])
        file.append([note(9), answered("thirty days", OPENS + 5), note(11), note(12)])
    return path


@contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """The file without its triggers, for somebody who may write to it."""
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        db.commit()


def digest(seq: int, body: str) -> bytes:
    return hashlib.sha256(f"{seq}\n{body}".encode()).digest()


# -- tampering ------------------------------------------------------------------------------------

Tamper = Callable[[sqlite3.Connection], Any]


def sql(*statements: str) -> Tamper:
    return lambda db: [db.execute(statement) for statement in statements]


def forged(db: sqlite3.Connection) -> None:
    """A record changed together with its digest: only the link shows it."""
    body = dumps(note(77))
    db.execute("UPDATE records SET body = ?, digest = ? WHERE seq = 7", (body, digest(7, body)))


def forged_insertion(db: sqlite3.Connection) -> None:
    """A record inserted in the middle, everything behind it moved and digested anew."""
    rows = db.execute("SELECT seq, body FROM records ORDER BY seq").fetchall()
    bodies = [body for _, body in rows]
    bodies.insert(5, dumps(note(99)))
    db.execute("DELETE FROM records")
    for seq, body in enumerate(bodies, 1):
        db.execute("INSERT INTO records VALUES (?, ?, ?)", (seq, digest(seq, body), body))


def forged_removal(db: sqlite3.Connection) -> None:
    """A record removed, what is behind it moved up and digested anew."""
    rows = db.execute("SELECT body FROM records WHERE seq != 3 ORDER BY seq").fetchall()
    db.execute("DELETE FROM records")
    for seq, (body,) in enumerate(rows, 1):
        db.execute("INSERT INTO records VALUES (?, ?, ?)", (seq, digest(seq, body), body))


def reordered(db: sqlite3.Connection) -> None:
    rows = dict(db.execute("SELECT seq, body FROM records WHERE seq IN (10, 11)").fetchall())
    for seq, other in ((10, 11), (11, 10)):
        body = rows[other]
        db.execute("UPDATE records SET body = ?, digest = ? WHERE seq = ?", (body, digest(seq, body), seq))


TAMPERED: dict[str, tuple[Tamper, int]] = {
    "a changed record": (sql("UPDATE records SET body = replace(body, '5', '6') WHERE seq = 5"), 5),
    "a changed record with its digest": (forged, 5),
    "a record of bytes that are no text": (sql("UPDATE records SET body = x'ff00fe' WHERE seq = 4"), 4),
    "a record that is text but no UTF-8": (
        sql("UPDATE records SET body = CAST(x'ff00fe' AS TEXT) WHERE seq = 4"),
        4,
    ),
    "a record that is a number": (sql("UPDATE records SET body = 5 WHERE seq = 4"), 4),
    "a changed digest": (sql("UPDATE records SET digest = 'x' WHERE seq = 8"), 8),
    "a removed record": (sql("DELETE FROM records WHERE seq = 2"), 2),
    "the first record removed": (sql("DELETE FROM records WHERE seq = 1"), 1),
    "the last record removed": (sql("DELETE FROM records WHERE seq = 12"), 12),
    "a removal covered up": (forged_removal, 1),
    "an insertion covered up": (forged_insertion, 5),
    "an insertion at the end": (
        lambda db: db.execute("INSERT INTO records VALUES (13, ?, ?)", (digest(13, "{}"), "{}")),
        13,
    ),
    "two records that changed places": (reordered, 9),
    "a changed link": (sql("UPDATE batches SET link = zeroblob(32) WHERE last = 8"), 5),
    "a link that is text": (sql("UPDATE batches SET link = 'x' WHERE last = 8"), 5),
    "a removed link": (sql("DELETE FROM batches WHERE last = 4"), 5),
    "the last link removed": (sql("DELETE FROM batches WHERE last = 12"), 9),
    "a link too many": (sql("INSERT INTO batches VALUES (99, 13, zeroblob(32))"), 13),
    "a changed answer": (sql("UPDATE answers SET text = 'sixty days' WHERE text = 'thirty days'"), 6),
    "another changed answer": (sql("UPDATE answers SET text = 'x' WHERE text = 'forty days'"), 7),
    "an answer that is no text": (sql("UPDATE answers SET text = x'ff' WHERE text = 'forty days'"), 7),
    "a removed answer": (sql("DELETE FROM answers WHERE text = 'forty days'"), 7),
    "two answers that changed places": (
        sql(
            "UPDATE answers SET text = text || '!'",
            "UPDATE answers SET text = CASE text "
            "WHEN 'thirty days!' THEN 'forty days' ELSE 'thirty days' END",
        ),
        6,
    ),
}


@pytest.mark.parametrize(("tamper", "first"), TAMPERED.values(), ids=list(TAMPERED))
def test_verify_names_the_first_record_that_is_wrong(tamper: Tamper, first: int, tmp_path: Path) -> None:
    """Whoever can write to the file cannot change it unseen, except cut off its newest end as a whole."""
    path = filled(tmp_path / "x.ledger")
    with closing(LedgerFile(path)) as file:
        assert file.verify().records == 12
    with tampering(path) as db:
        tamper(db)

    with closing(LedgerFile(path)) as file, pytest.raises(LedgerBroken) as caught:
        file.verify()

    assert caught.value.record == first
    assert str(caught.value).startswith(f"record {first}: ")


def test_an_end_cut_off_as_a_whole_shows_in_the_head(tmp_path: Path) -> None:
    """The chain alone cannot know; whoever kept the head of a report can."""
    path = filled(tmp_path / "x.ledger")
    with closing(LedgerFile(path)) as file:
        kept = file.verify()
    with tampering(path) as db:
        sql("DELETE FROM records WHERE seq > 8", "DELETE FROM batches WHERE last > 8")(db)

    with closing(LedgerFile(path)) as file:
        cut = file.verify()

    assert (cut.records, kept.records) == (8, 12)
    assert cut.link != kept.link


@pytest.mark.parametrize("table", ["records", "batches", "answers", "about"])
@pytest.mark.parametrize("verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}"])
def test_the_file_refuses_updates_and_deletes(table: str, verb: str, tmp_path: Path) -> None:
    """Append-only is the file's own rule, whoever opens it."""
    path = filled(tmp_path / "x.ledger")
    with closing(LedgerFile(path)) as file:
        file.note("window", "reindex")
    column = {"records": "body", "batches": "link", "answers": "text", "about": "value"}[table]

    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(verb.format(table, column))


def test_a_fact_about_the_ledger_is_written_once(tmp_path: Path) -> None:
    """The window it belongs to cannot be changed afterwards."""
    with closing(LedgerFile(tmp_path / "x.ledger", create=True)) as file:
        file.note("window", "a")

        with pytest.raises(sqlite3.IntegrityError):
            file.note("window", "b")

        assert file.about("window") == "a"
        assert file.about("other") is None


def test_what_is_no_ledger_is_said_to_be_none(tmp_path: Path) -> None:
    """A text file, an empty database, a file cut off in the middle and no file: never a traceback."""
    text = tmp_path / "text.ledger"
    text.write_text("not a database, but long enough to be one" * 100)
    empty = tmp_path / "empty.ledger"
    empty.touch()
    cut = filled(tmp_path / "cut.ledger")
    with closing(sqlite3.connect(cut)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(cut, 6000)

    for path in (text, empty, cut, tmp_path / "none.ledger"):
        with pytest.raises(LedgerError), closing(LedgerFile(path)) as file:
            file.verify()


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Events are not skipped silently."""
    path = filled(tmp_path / "x.ledger")
    with tampering(path) as db:
        db.execute("UPDATE records SET body = '{}' WHERE seq = 3")

    with closing(LedgerFile(path)) as file, pytest.raises(LedgerBroken, match="record 3"):
        list(file.events())


def test_an_empty_ledger_holds(tmp_path: Path) -> None:
    """Its head is the genesis."""
    with closing(LedgerFile(tmp_path / "x.ledger", create=True)) as file:
        assert file.verify() == file.head()
        assert file.head().link == GENESIS.hex()


# -- what goes in comes out -----------------------------------------------------------------------

TEXTS = st.text(
    st.characters(exclude_categories=()) | st.sampled_from(["\x00", "\ud800", "\udfff", "\u2028", '"', "\\"]),
    max_size=30,
)
MOMENTS = st.integers(0, 4_000_000_000_000).map(lambda n: n / 1000)
LENGTHS = st.integers(0, 10**9).map(lambda n: round(n / 1e6, 6))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FIGURES = st.dictionaries(
    TEXTS,
    TEXTS | FLOATS | st.integers(-(10**20), 10**20) | st.booleans() | st.none() | st.lists(TEXTS, max_size=3),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OBSERVATIONS = st.builds(
    Observation,
    probe=TEXTS,
    kind=st.sampled_from(Kind),
    surface=TEXTS,
    outcome=st.sampled_from(Outcome),
    reason=TEXTS,
    slot=MOMENTS,
    started=MOMENTS,
    phase=TEXTS,
    lateness_s=LENGTHS,
    duration_s=LENGTHS,
    phases=st.dictionaries(TEXTS, LENGTHS, max_size=3),
    figures=FIGURES,
)


@st.composite
def acts(draw: st.DrawFn) -> Acted:
    at = draw(MOMENTS)
    return Acted(
        at=at,
        act=Act(
            at=at,
            act=draw(st.sampled_from(["extend", "close", "roll-back", "accept"])),
            who=draw(TEXTS),
            reason=draw(TEXTS),
            by=draw(LENGTHS),
            criterion=draw(st.none() | TEXTS),
        ),
    )


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Observed, at=MOMENTS, observation=OBSERVATIONS),
    st.builds(PhaseBegan, at=MOMENTS, phase=st.sampled_from(Phase), closes=MOMENTS, ends=MOMENTS),
    st.builds(Judged, at=MOMENTS, criterion=TEXTS, verdict=TEXTS, reason=TEXTS),
    st.builds(
        Decided,
        at=MOMENTS,
        action=st.sampled_from(Action),
        causes=st.lists(TEXTS, max_size=3).map(tuple),
        reason=TEXTS,
    ),
    st.builds(
        Alerted,
        at=MOMENTS,
        cause=TEXTS,
        state=TEXTS,
        since=MOMENTS,
        to=st.lists(TEXTS, max_size=3).map(tuple),
        action=st.sampled_from(Action),
        summary=TEXTS,
    ),
    acts(),
    st.builds(SelfNoted, at=MOMENTS, what=TEXTS, detail=st.dictionaries(TEXTS, JSON, max_size=3)),
)
SHARED = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SHARED
@given(event=EVENTS)
def test_every_event_reads_back_as_it_was(event: Event) -> None:
    """`loads(dumps(event)) == event`, on one line of UTF-8, whatever text is in it."""
    line = dumps(event)

    assert loads(line) == event
    assert "\n" not in line
    assert line.encode()


@settings(SHARED, max_examples=15)
@given(
    batches=st.lists(st.lists(EVENTS, min_size=1, max_size=5), max_size=4), texts=st.lists(TEXTS, max_size=3)
)
def test_a_ledger_gives_back_every_event_and_answer(
    batches: list[list[Event]], texts: list[str], tmp_path: Path
) -> None:
    """Through SQLite too: NUL, half characters and all; and the chain holds."""
    path = tmp_path / f"{uuid.uuid4()}.ledger"  # hypothesis seeds `random`
    answers = [answered(text) for text in texts]
    with closing(LedgerFile(path, create=True)) as file:
        for batch in batches:
            file.append(batch)
        if answers:
            file.append(answers)

    with closing(LedgerFile(path)) as file:
        back = [event for _, event in file.events()]
        head = file.verify()
        kept = [file.answer(answer_id(text)) for text in texts]

    assert back[: len(back) - len(texts)] == [event for batch in batches for event in batch]
    assert kept == texts
    assert head.records == len(back)


# -- the writer of a running watchdog -------------------------------------------------------------


@dataclass
class Told:
    """Who listens to a ledger, on whatever thread."""

    durable: list[tuple[int, Event]] = field(default_factory=list)
    troubles: list[str | None] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def committed(self, batch: list[tuple[int, Event]]) -> None:
        with self.news:
            self.durable += batch
            self.news.notify_all()

    def trouble(self, reason: str | None) -> None:
        with self.news:
            self.troubles.append(reason)
            self.news.notify_all()

    def wait(self, condition: Callable[[], bool], within: float = 20.0) -> bool:
        with self.news:
            return self.news.wait_for(condition, within)


@contextmanager
def running(path: Path, **options: Any) -> Iterator[tuple[Ledger, Told]]:
    told = Told()
    ledger = Ledger(path, told.committed, told.trouble, **options)
    ledger.start()
    try:
        yield ledger, told
    finally:
        ledger.stop()


def test_an_event_is_durable_soon_and_then_handed_on(tmp_path: Path) -> None:
    """Group commits come about ten times a second; what is handed on stands in the file already."""
    with running(tmp_path / "x.ledger") as (ledger, told):
        ledger.append(note(0))
        assert told.wait(lambda: len(told.durable) == 1)
        took = []
        for number in range(1, 6):
            began = time.monotonic()
            ledger.append(note(number))
            assert told.wait(lambda: len(told.durable) == number + 1)  # noqa: B023
            took.append(time.monotonic() - began)
            with closing(LedgerFile(tmp_path / "x.ledger")) as file:
                assert file.head().records == number + 1

    assert min(took) < 0.25
    assert [number for number, _ in told.durable] == [1, 2, 3, 4, 5, 6]


def test_what_comes_in_together_is_one_transaction(tmp_path: Path) -> None:
    """A thousand events at once are a handful of commits, in their order."""
    with running(tmp_path / "x.ledger") as (ledger, told):
        for number in range(1000):
            ledger.append(note(number))
        assert told.wait(lambda: len(told.durable) == 1000)

    with closing(sqlite3.connect(tmp_path / "x.ledger")) as db:
        batches = db.execute("SELECT count(*) FROM batches").fetchone()[0]
    assert batches <= 5
    assert [event for _, event in told.durable] == [note(number) for number in range(1000)]


def test_stop_writes_what_is_left(tmp_path: Path) -> None:
    """Nothing that was taken in is lost by a clean end."""
    told = Told()
    ledger = Ledger(tmp_path / "x.ledger", told.committed, told.trouble)
    ledger.start()
    for number in range(12_000):
        ledger.append(note(number))

    stopped = ledger.stop(30)

    assert stopped
    assert ledger.backlog == 0
    assert len(told.durable) == 12_000


def test_an_act_of_another_process_is_handed_on_too(tmp_path: Path) -> None:
    """Whoever appends to the file is heard, once and in the chain's order."""
    path = tmp_path / "x.ledger"
    with running(path) as (ledger, told):
        ledger.append(note(1))
        assert told.wait(lambda: len(told.durable) == 1)
        with closing(LedgerFile(path)) as other:
            other.append([note(2)])
        assert told.wait(lambda: len(told.durable) == 2)
        ledger.append(note(3))
        assert told.wait(lambda: len(told.durable) == 3)

    assert told.durable == [(1, note(1)), (2, note(2)), (3, note(3))]


def test_a_writer_that_is_started_again_hands_on_only_what_is_new(tmp_path: Path) -> None:
    """`after` is where the last one stopped."""
    path = filled(tmp_path / "x.ledger")

    with running(path, after=12) as (ledger, told):
        ledger.append(note(13))
        assert told.wait(lambda: bool(told.durable))

    assert told.durable == [(13, note(13))]


def test_an_answer_from_outside_cannot_stop_the_writer(tmp_path: Path) -> None:
    """Half a character, as a target may send, is written like everything else."""
    hostile = answered("\ud800\x00\udfff")
    odd = replace(hostile.observation, figures={**hostile.observation.figures, "code": "\ud83d"})

    with running(tmp_path / "x.ledger") as (ledger, told):
        ledger.append(Observed(at=OPENS, observation=odd))
        ledger.append(note(2))
        assert told.wait(lambda: len(told.durable) == 2)

    assert told.troubles == []


def test_an_event_that_cannot_be_written_is_trouble_and_no_silence(tmp_path: Path) -> None:
    """The writer's thread outlives whatever is thrown at it, and says so."""
    with running(tmp_path / "x.ledger") as (ledger, told):
        ledger.append(SelfNoted(at=float("inf"), what="out of time"))

        assert told.wait(lambda: bool(told.troubles))
        assert ledger.failing


# -- several processes, and their ends ------------------------------------------------------------


def test_two_processes_that_append_at_once_keep_the_chain_whole(tmp_path: Path) -> None:
    """Each batch is one transaction with its link: none is torn, none is lost."""
    path = filled(tmp_path / "x.ledger")
    with writer("many", path) as one, writer("many", path) as two:
        assert one.wait(60) == two.wait(60) == 0

    with closing(LedgerFile(path)) as file:
        head = file.verify()
        marks = [event.what for _, event in file.events(12) if isinstance(event, SelfNoted)]
    assert head.records == 12 + 2 * 60 * 3
    assert len(set(marks)) == 120
    assert all(marks[n] == marks[n + 1] == marks[n + 2] for n in range(0, len(marks), 3))


def test_nothing_that_was_handed_on_is_lost_by_a_kill(tmp_path: Path) -> None:
    """kill -9 at 24 moments: every event that was said to be durable is in the file, and the chain holds."""
    path = tmp_path / "x.ledger"
    dice = random.Random(4711)
    durable: set[str] = set()
    for _ in range(24):
        with writer("endless", path) as process:
            assert process.stdout is not None
            for _ in range(dice.choice([0, 1, 1, dice.randrange(2, 150)])):
                durable.add(process.stdout.readline().strip())
            process.kill()
            durable |= {line.strip() for line in process.stdout if line.endswith("\n")}

        if path.exists():
            with closing(LedgerFile(path, create=True)) as file:
                file.verify()
    with closing(LedgerFile(path)) as file:
        kept = {event.detail["n"] for _, event in file.events() if isinstance(event, SelfNoted)}
    assert len(durable) > 200
    assert durable <= kept


def test_a_second_watcher_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """It is told who watches; a watcher that was killed holds nothing."""
    path = tmp_path / "x.ledger"
    with writer("watching", path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"

        with (
            pytest.raises(LedgerError, match=f"watched already, by process {process.pid}"),
            only_watcher(path),
        ):
            pass

        process.kill()
    with only_watcher(path):
        assert path.with_name("x.ledger.lock").read_text() == str(os.getpid())


# -- a disk that is full --------------------------------------------------------------------------


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """EFBIG in the middle: trouble is reported, events are kept, all are written when there is room."""
    path = tmp_path / "x.ledger"

    with writer("limited", path) as process:
        said, _ = process.communicate(timeout=60)

    total, durable, kept, recovered, stopped, reason = said.split()
    assert (kept, recovered, stopped, reason) == ("True", "True", "True", "True")
    assert total == durable
    with closing(LedgerFile(path)) as file:
        assert file.verify().records == int(total)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount; the test with a limit on the file's size says the same")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_stops_nothing_for_good(small_disk: Path) -> None:
    """ENOSPC: trouble with a reason, events wait, and with room they are all there in one whole chain."""
    path = small_disk / "x.ledger"
    with running(path) as (ledger, told):
        number = 0
        while not told.wait(lambda: bool(told.troubles), within=0.005):
            number += 1
            ledger.append(SelfNoted(at=OPENS, what="x" * 900, detail={"n": number}))
        assert number < 5000
        for _ in range(100):
            number += 1
            ledger.append(SelfNoted(at=OPENS, what="waits", detail={"n": number}))
        assert ledger.failing
        assert ledger.backlog >= 100

        subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)

        assert told.wait(lambda: told.troubles[-1] is None and len(told.durable) == number)
        assert ledger.failing is None

    assert "full" in str(told.troubles[0])
    assert [event.detail["n"] for _, event in told.durable if isinstance(event, SelfNoted)] == [
        *range(1, number + 1)
    ]
    with closing(LedgerFile(path)) as file:
        assert file.verify().records == number


def test_a_disk_that_stays_full_does_not_keep_the_watchdog_from_ending(tmp_path: Path) -> None:
    """`stop` gives up in time and says that something was left."""
    path = tmp_path / "missing" / "x.ledger"
    told = Told()
    ledger = Ledger(path, told.committed, told.trouble)
    ledger.start()
    ledger.append(note(1))
    assert told.wait(lambda: bool(told.troubles))

    began = time.monotonic()
    stopped = ledger.stop(10)

    assert not stopped
    assert time.monotonic() - began < 9
    assert ledger.backlog == 1


def test_a_ledger_whose_folder_comes_later_recovers(tmp_path: Path) -> None:
    """The evidence waits for a mount that is late."""
    path = tmp_path / "later" / "x.ledger"
    with running(path) as (ledger, told):
        ledger.append(note(1))
        assert told.wait(lambda: bool(told.troubles))
        with suppress(FileExistsError):
            path.parent.mkdir()

        assert told.wait(lambda: len(told.durable) == 1)
        assert told.wait(lambda: told.troubles[-1] is None)
