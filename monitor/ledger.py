"""The evidence: append-only, hash-chained by batch, durable before anything is judged or exported.

One SQLite file in WAL mode with `synchronous=FULL`. A thread of its own writes what has come in every 100
ms at most, in one transaction with the next link of the chain, and only then hands it on. Other processes
append acts with the same chain. A disk that is full stops nothing but the judging: what is not durable is
not evidence, and is kept in memory until there is room.

The chain shows a change, a removal or an insertion in the middle. It cannot show that the newest batches
were cut off as a whole: for that, keep the head that a report names.
"""

import hashlib
import os
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor.errors import LedgerBroken, LedgerError
from monitor.events import Event, Observed, SelfNoted, dumps, loads

COMMIT_EVERY = 0.1
"""Seconds between commits while something is coming in."""
RETRY_EVERY = 0.5
KEPT = 200_000
"""Events kept in memory while the disk takes none; what comes after is lost, and counted."""
GENESIS = hashlib.sha256(b"freezewatch.ledger/1").digest()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, digest BLOB NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    last INTEGER PRIMARY KEY, first INTEGER NOT NULL, link BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (id TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_keep_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


def answer_id(text: str) -> str:
    """The name of an answer's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The newest link: how many records there are, and the hash over all of them."""

    records: int
    link: str


class LedgerFile:
    """The file itself, for one thread at a time. Every write is one transaction and one link."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise LedgerError(f"{path}: there is no ledger yet; `freezewatch watch` begins one")
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            if create:
                self._db.executescript(_SCHEMA)
                for table in ("records", "batches", "answers", "about"):
                    for verb in ("UPDATE", "DELETE"):
                        self._db.execute(_APPEND_ONLY.format(table=table, verb=verb))
        except sqlite3.Error as error:
            raise LedgerError(f"{path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: it cannot be read: {error}") from None

    def about(self, key: str) -> str | None:
        """A fact about the ledger, such as the window it belongs to."""
        with self._reading():
            row = self._db.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def note(self, key: str, value: str) -> None:
        """Write a fact about the ledger, once and for all."""
        with self._transaction():
            self._db.execute("INSERT INTO about VALUES (?, ?)", (key, value))

    def append(self, events: Sequence[Event]) -> int:
        """Append `events` as one batch; returns the number of the last record. Raises sqlite3.Error."""
        with self._transaction():
            last, link = self._last()
            rows = []
            digests = hashlib.sha256(link)
            for seq, event in enumerate(events, last + 1):
                body = dumps(event)
                digest = _digest(seq, body)
                digests.update(digest)
                rows.append((seq, digest, body))
            self._db.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
            texts = {
                str(event.observation.figures["answer"]): _storable(event.observation.answer)
                for event in events
                if isinstance(event, Observed) and event.observation.answer is not None
            }
            self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", texts.items())
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, ?)",
                (last + len(rows), last + 1, digests.digest()),
            )
        return last + len(rows)

    def _last(self) -> tuple[int, bytes]:
        row = self._db.execute("SELECT last, link FROM batches ORDER BY last DESC LIMIT 1").fetchone()
        return (int(row[0]), bytes(row[1])) if row else (0, GENESIS)

    def head(self) -> Head:
        """The newest link."""
        with self._reading():
            last, link = self._last()
        return Head(records=last, link=link.hex())

    def events(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Every event behind record `after`, in order."""
        with self._reading():
            rows = self._db.execute("SELECT seq, body FROM records WHERE seq > ? ORDER BY seq", (after,))
            for seq, body in rows:
                try:
                    event = loads(body)
                except (ValueError, KeyError, TypeError) as error:
                    raise LedgerBroken(int(seq), f"it cannot be read: {error}") from None
                yield int(seq), event

    def answer(self, name: str) -> str | None:
        """The text of an answer by its id."""
        with self._reading():
            row = self._db.execute("SELECT text FROM answers WHERE id = ?", (name,)).fetchone()
        return _stored(row[0]) if row else None

    def verify(self) -> Head:
        """Check every record, link and answer. Raises LedgerBroken with the first that is wrong."""
        with self._reading():
            return self._verified()

    def _verified(self) -> Head:
        named: dict[str, int] = {}
        with closing(self._db.cursor()) as cursor:
            expected, link, digests = 1, GENESIS, b""
            ends = iter(cursor.execute("SELECT first, last, link FROM batches ORDER BY last").fetchall())
            batch = next(ends, None)
            for seq, digest, raw in self._db.execute(_BYTES_OF_RECORDS):
                if seq != expected:
                    raise LedgerBroken(expected, "it is missing")
                if raw is None or _digest_of(seq, raw) != digest:
                    raise LedgerBroken(seq, "its content was changed")
                if batch is None:
                    raise LedgerBroken(seq, "no link of the chain covers it")
                digests += digest
                for name in _NAMES_ANSWER.findall(raw):
                    named.setdefault(name.decode(), seq)
                if seq == batch[1]:
                    link = hashlib.sha256(link + digests).digest()
                    if link != batch[2]:
                        raise LedgerBroken(batch[0], f"the link over records {batch[0]} to {seq} is wrong")
                    digests, batch = b"", next(ends, None)
                expected += 1
            if batch is not None:
                raise LedgerBroken(expected, "it is missing: the chain goes on")
        self._verify_answers(named)
        return Head(records=expected - 1, link=link.hex())

    def _verify_answers(self, named: dict[str, int]) -> None:
        """`named`: the answers that records name, each with the first of these records."""
        broken = []
        kept = set()
        for name, raw in self._db.execute("SELECT id, CAST(text AS BLOB) FROM answers"):
            kept.add(name)
            if raw is None or hashlib.sha256(raw).hexdigest()[:24] != name:
                broken.append((named.get(name, 0), f"the answer {name} that it names was changed"))
        broken += [
            (seq, f"the answer {name} that it names is missing")
            for name, seq in named.items()
            if name not in kept
        ]
        if broken:
            raise LedgerBroken(*min(broken))


_BYTES_OF_RECORDS = "SELECT seq, digest, CAST(body AS BLOB) FROM records ORDER BY seq"
"""As bytes: what was tampered with need not be UTF-8."""
_NAMES_ANSWER = re.compile(rb'"answer":"([0-9a-f]{24})"')
"""Only a key of a record matches: inside a text the quotes are escaped."""


def _digest(seq: int, body: str) -> bytes:
    return _digest_of(seq, body.encode())


def _digest_of(seq: int, raw: bytes) -> bytes:
    return hashlib.sha256(b"%d\n" % seq + raw).digest()


def _storable(text: str) -> str | bytes:
    """`text`, or its bytes where half a character (a lone surrogate) keeps it from being UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _stored(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


class Ledger:
    """The writer of a running watchdog: `append` returns at once, `committed` hears what is durable.

    `committed` is called on the writer's thread with (record, event) pairs in order, those of other
    processes among them. `trouble` is called with a reason when the disk takes nothing, and with
    None when it does again.
    """

    def __init__(
        self,
        path: Path,
        committed: Callable[[list[tuple[int, Event]]], None],
        trouble: Callable[[str | None], None],
        *,
        after: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._committed = committed
        self._trouble = trouble
        self._seen = after
        self._now = now
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._wake = threading.Event()
        self._ending = False
        self._busy = False
        self.failing: str | None = None
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Everything that came in is durable and was handed on."""
        return not self._waiting and not self._busy

    @property
    def backlog(self) -> int:
        """Events that are not durable yet."""
        return len(self._waiting)

    def append(self, event: Event) -> None:
        """Take `event` in. It is durable within 100 ms if the disk takes it."""
        if len(self._waiting) >= KEPT:
            self._lost += 1
            return
        self._waiting.append(event)
        self._wake.set()

    def stop(self, patience: float = 5.0) -> bool:
        """Write what is left. False when that did not succeed within `patience` seconds."""
        self._ending = True
        self._wake.set()
        self._thread.join(patience)
        return not self._thread.is_alive() and not self._waiting

    def _work(self) -> None:
        file: LedgerFile | None = None
        deadline = float("inf")
        while not (self._ending and not self._waiting):
            self._wake.wait(RETRY_EVERY)
            if not self._ending:
                time.sleep(COMMIT_EVERY * 0.8)
            elif self.failing is not None:
                deadline = min(deadline, time.monotonic() + 2.0)
                if time.monotonic() >= deadline:
                    break
                time.sleep(RETRY_EVERY / 2)
            self._wake.clear()
            self._busy = True
            try:
                file = file or LedgerFile(self._path, create=True)
                self._write(file)
                self._hand_on(file)
                self._recovered()
            except Exception as error:  # a writer that ended without a word would lose all that follows
                self._fail(str(error) or type(error).__name__)
                self._wake.set()
                time.sleep(RETRY_EVERY / 2)
            finally:
                self._busy = False
        if file is not None:
            file.close()

    def _write(self, file: LedgerFile) -> None:
        batch = [self._waiting[index] for index in range(min(len(self._waiting), 5000))]
        if not batch:
            return
        taken, lost = len(batch), self._lost
        if lost:
            batch.append(SelfNoted(at=self._now(), what="evidence lost", detail={"events": lost}))
        file.append(batch)
        self._lost -= lost
        for _ in range(taken):
            self._waiting.popleft()
        if self._waiting:
            self._wake.set()

    def _recovered(self) -> None:
        if self.failing is not None:
            self.failing = None
            self._trouble(None)

    def _hand_on(self, file: LedgerFile) -> None:
        fresh = list(file.events(self._seen))
        if fresh:
            self._seen = fresh[-1][0]
            self._committed(fresh)

    def _fail(self, reason: str) -> None:
        if self.failing != reason:
            self.failing = reason
            self._trouble(reason)


@contextmanager
def only_watcher(path: Path) -> Iterator[None]:
    """Hold the right to watch the window of this ledger. Raises LedgerError when another one does."""
    import fcntl

    lock = path.with_name(path.name + ".lock")
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LedgerError(
                f"{path.name}: this window is being watched already, by process {holder}"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
