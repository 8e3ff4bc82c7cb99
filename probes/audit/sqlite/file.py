"""One look into an SQLite database that another process writes: what tables it has and what stands in them.

Reads only, and keeps nothing: no lock and no connection outlives a look. A connection that is kept would
hold a lock in WAL mode even between its transactions: the writer could not change the journal mode, and its
last close would not fold the WAL into the database. Where no WAL stands beside the file, opening it with
`mode=ro` would create one; such a file is read as immutable, and read again if it moved meanwhile.
"""

import hashlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from probes.answer import OwnFault, Unreachable
from probes.audit.sqlite.rows import Reader, TableState

OLDEST_SQLITE = (3, 37, 0)
"""The first with `PRAGMA table_list`, which tells shadow tables."""
SETTLED = 2.0
"""Seconds after which a file's stamps tell a later write for sure: the coarsest clock of a file system."""
PAGE_ROWS, PAGE_SECONDS = 10_000, 0.1
"""One transaction reads no more and no longer: a checkpoint need not wait for us."""
STEPS = 1000
"""Steps of SQLite's machine after which it asks whether to go on."""
PLAIN, SHADOW, VIRTUAL = "table", "shadow", "virtual"


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The database and what stands beside it, by what the file system says of them."""

    inode: int
    stamps: tuple[tuple[str, int, int, int], ...]
    """(which, inode, size, time of the last write in ns). Not that of the last change: a reader that runs
    as root moves it, for SQLite then sets the owner of the WAL anew."""
    settled: bool
    """The stamps are old enough: whoever writes from now on leaves other ones."""

    @property
    def bare(self) -> bool:
        """Neither a WAL nor a journal stands beside it."""
        return len(self.stamps) == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was found."""

    tables: dict[str, TableState]
    schema: dict[str, str]
    """`table products` -> a hash of its definition."""
    left_out: tuple[str, ...]
    """Virtual tables, by name."""


def files(path: str) -> Files:
    """What the file system says. Raises Unreachable. Opens nothing: closing would drop a process' locks."""
    real = os.path.realpath(path)
    now = time.time_ns()
    stamps = []
    inode = 0
    for suffix in ("", "-wal", "-journal"):
        try:
            seen = Path(real + suffix).stat()
        except FileNotFoundError:
            if not suffix:
                raise Unreachable("there is no such file") from None
            continue
        except (OSError, ValueError) as error:
            raise Unreachable(f"the file cannot be looked at: {_why(error)}") from None
        if not suffix:
            inode = seen.st_ino
            if not stat.S_ISREG(seen.st_mode):
                raise Unreachable("it is no regular file")
        stamps.append((suffix, seen.st_ino, seen.st_size, seen.st_mtime_ns))
    newest = max(stamp[3] for stamp in stamps)
    return Files(inode=inode, stamps=tuple(stamps), settled=newest < now - SETTLED * 1e9)


class Looking:
    """One look, made in a thread; `stop` and `hurry` may be called from another."""

    def __init__(self, path: str, patterns: tuple[str, ...], *, room: int, seconds: float) -> None:
        self._path = os.path.realpath(path)
        self._patterns = patterns
        self._room = room
        self._seconds = seconds
        self._guard = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._stopped = False
        self._hurried = False
        self._late = 0.0

    def stop(self) -> None:
        """End as soon as you can."""
        self._stopped = True
        self.hurry()

    def hurry(self) -> None:
        """Leave the statement that runs now, and count no more rows."""
        self._hurried = True
        with self._guard, suppress(sqlite3.ProgrammingError):
            if self._db is not None:
                self._db.interrupt()

    def look(self, seen: Files, sizes: dict[str, int]) -> Look:
        """Read what there is, small tables (by `sizes`) first. Raises Unreachable or OwnFault."""
        self._late = time.monotonic() + 0.6 * self._seconds
        try:
            if seen.bare and seen.settled:
                found = self._look("immutable=1", sizes)
                if files(self._path) == seen:
                    return found
            return self._look("mode=ro", sizes)
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            raise failed(error) from None

    def _look(self, how: str, sizes: dict[str, int]) -> Look:
        with self._opened(how) as db:
            listed = db.execute("PRAGMA main.table_list").fetchall()
            kinds = {name: kind for _, name, kind, *_ in listed}
            shapes = [
                _Shape.of(name, db.execute(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall(), bool(bare))
                for _, name, kind, _, bare, *_ in listed
                if self._wanted(name, kind)
            ]
            # Small ones first: a large one that takes all the time must not hide the rest.
            shapes.sort(key=lambda shape: (sizes.get(shape.name) or self._top(db, shape) or 0, shape.name))
            read = {}
            room = self._room
            for shape in shapes:
                read[shape.name], kept = self._table(db, shape, room)
                room -= kept
            left = (name for name, kind in kinds.items() if kind == VIRTUAL and name not in read)
            return Look(tables=read, schema=self._schema(db, kinds), left_out=tuple(sorted(left)))

    @contextmanager
    def _opened(self, how: str) -> Iterator[sqlite3.Connection]:
        patience = min(1.0, self._seconds / 4)
        address = f"{Path(self._path).as_uri()}?{how}"
        with closing(sqlite3.connect(address, uri=True, timeout=patience, isolation_level=None)) as db:
            with self._guard:
                self._db = db
            db.set_progress_handler(self._over, STEPS)
            try:
                yield db
            finally:
                with self._guard:
                    self._db = None

    def _over(self) -> bool:
        return self._stopped or time.monotonic() > self._late

    def _wanted(self, name: str, kind: str) -> bool:
        """By pattern; what SQLite or a virtual table keeps for itself only by its exact name."""
        if name in self._patterns:
            return kind != "view"
        plain = kind == PLAIN and not name.lower().startswith("sqlite_")
        return plain and any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def _schema(self, db: sqlite3.Connection, kinds: dict[str, str]) -> dict[str, str]:
        """Definitions of the tables that are audited, and of all that hangs on them."""
        found = {}
        asked = "SELECT type, name, tbl_name, coalesce(sql, '') FROM main.sqlite_master"
        for kind, name, table, text in db.execute(asked):
            audited = self._wanted(table, kinds.get(table, PLAIN))
            beside = "*" in self._patterns and (kind == "view" or kinds.get(table) == VIRTUAL)
            if (audited or beside) and not name.lower().startswith("sqlite_"):
                found[f"{kind} {name}"] = hashed(text)
        return found

    def _table(self, db: sqlite3.Connection, shape: "_Shape", room: int) -> tuple[TableState, int]:
        """A table's state and how many hashes it keeps; counted only when its rows took too long."""
        reader = Reader(shape.columns, shape.key_names, shape.key_of, max(room, 0))
        try:
            self._rows(db, shape, reader)
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise Unreachable(f"table {shape.name}: {failed(error).reason}") from None
            return self._counted(db, shape), 0
        reader.state.top = self._top(db, shape)
        return reader.state, reader.kept

    def _rows(self, db: sqlite3.Connection, shape: "_Shape", reader: Reader) -> None:
        """All rows, in transactions of one page each."""
        last: tuple[Any, ...] | None = None
        while True:
            sql, values = shape.page(last)
            ends = time.monotonic() + PAGE_SECONDS
            taken, cut = 0, False
            with closing(db.execute(sql, values)) as cursor:
                try:
                    for number, row in enumerate(cursor):
                        reader.add(row[0] if shape.rowid else number, row[1:])
                        last, taken = row, taken + 1
                        if taken % 100 == 0 and shape.paged and time.monotonic() > ends:
                            cut = True
                            break
                except sqlite3.OperationalError as error:
                    if db.text_factory is not str or "decode" not in str(error):
                        raise
                    db.text_factory = _lenient
                    cut = True
                    if not shape.paged:
                        raise Unreachable(f"table {shape.name} holds text that is not UTF-8") from None
            if self._over():
                raise sqlite3.OperationalError("interrupted")
            if not cut and (not shape.paged or taken < PAGE_ROWS):
                return

    def _counted(self, db: sqlite3.Connection, shape: "_Shape") -> TableState:
        """The number of rows and the highest rowid; `hurry` ends the count."""
        if self._stopped:
            raise Unreachable("given up")
        db.set_progress_handler(lambda: self._stopped, STEPS)
        counted = None
        count = f"SELECT count(*) FROM main.{quoted(shape.name)}"  # noqa: S608 - the name is quoted
        with suppress(sqlite3.OperationalError):
            counted = None if self._hurried else db.execute(count).fetchone()[0]
        top = self._top(db, shape)
        db.set_progress_handler(self._over, STEPS)
        return TableState(columns=shape.columns, key_names=shape.key_names, counted=counted, top=top)

    @staticmethod
    def _top(db: sqlite3.Connection, shape: "_Shape") -> int | None:
        if shape.rowid is None:
            return None
        highest = f"SELECT max({shape.rowid}) FROM main.{quoted(shape.name)}"  # noqa: S608 - as above
        top = db.execute(highest).fetchone()[0]
        return top if isinstance(top, int) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """How the rows of a table are read in pages, and what their key is."""

    name: str
    columns: str
    key_names: tuple[str, ...]
    positions: tuple[int, ...]
    """Where the key stands in a row."""
    rowid: str | None
    """A name of the rowid that no column has taken; None in tables without one."""
    paged: bool

    @classmethod
    def of(cls, name: str, columns: list[Any], without_rowid: bool) -> "_Shape":
        """From the rows of `PRAGMA table_xinfo`: (cid, name, type, notnull, default, pk, hidden)."""
        shown = [column for column in columns if column[6] != 1]
        key = sorted((column[5], position) for position, column in enumerate(shown) if column[5])
        positions = tuple(position for _, position in key)
        taken = {column[1].lower() for column in columns}
        free = next((each for each in ("rowid", "_rowid_", "oid") if each not in taken), None)
        return cls(
            name=name,
            columns=hashed(repr([column[1] for column in shown])),
            key_names=tuple(shown[position][1] for position in positions),
            positions=positions,
            rowid=None if without_rowid else free,
            paged=without_rowid or free is not None,
        )

    def key_of(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """The primary key of a row."""
        return tuple(row[position] for position in self.positions)

    def page(self, last: tuple[Any, ...] | None) -> tuple[str, tuple[Any, ...]]:
        """The rows after `last`: the rowid (or NULL) first, then the columns."""
        table = f"main.{quoted(self.name)}"
        if not self.paged:
            return f"SELECT NULL, * FROM {table}", ()  # noqa: S608 - the name is quoted
        if self.rowid is not None:
            order, marks, values = self.rowid, "?", last[:1] if last else ()
        else:
            order = ", ".join(map(quoted, self.key_names))
            marks = ", ".join("?" for _ in self.key_names)
            values = self.key_of(last[1:]) if last else ()
        after = f"WHERE ({order}) > ({marks})" if last else ""
        first = self.rowid or "NULL"
        return f"SELECT {first}, * FROM {table} {after} ORDER BY {order} LIMIT {PAGE_ROWS}", values  # noqa: S608


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it is made of."""
    return '"' + name.replace('"', '""') + '"'


def hashed(text: str) -> str:
    """Eight bytes of a hash, as text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _lenient(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


_SAID = {
    "SQLITE_NOTADB": "it is no SQLite database, or it is encrypted",
    "SQLITE_CANTOPEN": "it cannot be opened: rights on the file, on its folder or on -wal and -shm beside it",
    "SQLITE_BUSY": "another process holds it locked",
    "SQLITE_LOCKED": "another process holds it locked",
    "SQLITE_READONLY": "a writer that died left a journal that must be rolled back first",
    "SQLITE_CORRUPT": "the database is damaged",
    "SQLITE_PERM": "there is no right to read it",
}


def failed(error: Exception) -> Unreachable | OwnFault:
    """Name a failure of SQLite, and say whose it is."""
    if isinstance(error, MemoryError):
        return OwnFault("the watchdog has no memory left")
    name = str(getattr(error, "sqlite_errorname", None) or "")
    family = "_".join(name.split("_")[:2])
    if family == "SQLITE_CANTOPEN" and _no_descriptors():
        return OwnFault("the watchdog has no file descriptors left")
    said = _SAID.get(family) or " ".join(str(error).split())[:200]
    return Unreachable(f"{said} ({name})" if name else said)


def _no_descriptors() -> bool:
    """SQLite does not say why it cannot open a file; whether we can open any is soon tried."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return True
    return False


def _why(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
