"""The audit of an SQLite database, on real files that another connection or process writes."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.answer import Unreachable
from probes.audit.audit import Audit
from probes.audit.reading import Reading
from probes.audit.sqlite.source import SqliteAudit, SqliteSource
from probes.base import Outcome, Result, Run
from probes.write.canary import canary

CANARY = canary("window", "probe", 1.0).text


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


@pytest.fixture(params=["wal", "delete"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def db(tmp_path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A writer of `shop.db` with three products."""
    writer = connect(tmp_path / "shop.db")
    writer.execute(f"PRAGMA journal_mode={mode}")
    writer.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price REAL)")
    writer.executemany(
        "INSERT INTO products VALUES (?, ?, ?)", [(1, "tent", 9.5), (2, "stove", 3), (3, "", 0)]
    )
    yield writer
    writer.close()


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The same in WAL mode alone."""
    writer = connect(tmp_path / "shop.db")
    writer.execute("PRAGMA journal_mode=wal")
    writer.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price REAL)")
    writer.execute("INSERT INTO products VALUES (1, 'tent', 9.5)")
    yield writer
    writer.close()


def source(path: Path, timeout: float = 5, **options: Any) -> SqliteSource:
    return SqliteSource(SqliteAudit.model_validate({"sqlite": {"path": str(path), **options}}), timeout)


class Auditor:
    """Drives the real audit as the watchdog does; `restart` forgets all but what was recorded."""

    def __init__(
        self, path: Path, timeout: float = 5, exempt: list[dict[str, str]] | None = None, **options: Any
    ):
        self.spec = SqliteAudit.model_validate(
            {"sqlite": {"path": str(path), **options}, "exempt": exempt or []}
        )
        self.timeout = timeout
        self.mark: str | None = None
        self.restart()

    def restart(self) -> None:
        self.audit = Audit(
            name="db",
            source=SqliteSource(self.spec, self.timeout),
            exempt=self.spec.exempt,
            timeout=self.timeout,
            opens=0.0,
        )
        if self.mark is not None:
            self.audit.resume(self.mark, 1.0)

    async def read(self) -> Result:
        result = await self.audit.run(Run(slot=1.0, phase="frozen", frozen=True, started=time.time()))
        mark = result.figures.get("mark")
        if mark is not None:
            self.mark = str(mark)
        return result


def what(result: Result) -> list[str]:
    said = result.figures["what"]
    assert isinstance(said, list)
    return said


def number(result: Result, figure: str) -> int:
    value = result.figures[figure]
    assert isinstance(value, int)
    return value


async def settled(auditor: Auditor, path: Path) -> None:
    """Let the last write be so old that its stamps tell any later one, and read that."""
    old = time.time() - 10
    for suffix in ("", "-wal"):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            os.utime(beside, (old, old))
    await auditor.read()


async def test_each_insert_update_and_delete_is_named_by_its_key(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    assert (await auditor.read()).reason == "first reading (row contents)"

    db.execute("INSERT INTO products VALUES (7, 'rope', 1)")
    db.execute("UPDATE products SET price = 4 WHERE id = 2")
    db.execute("DELETE FROM products WHERE id = 3")
    result = await auditor.read()

    assert result.outcome is Outcome.CHANGED
    assert what(result) == [
        "products: 1 × insert (id=7)",
        "products: 1 × update (id=2)",
        "products: 1 × delete (id=3)",
    ]
    assert result.figures["changes"] == 3
    assert (await auditor.read()).outcome is Outcome.OK


async def test_no_value_of_a_row_but_its_key_stands_in_a_reading(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("INSERT INTO products VALUES (8, 'very-secret-value', 1)")
    result = await auditor.read()

    assert result.outcome is Outcome.CHANGED
    assert "very-secret-value" not in repr(result)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE products SET name = 'TENT' WHERE id = 1",
        "UPDATE products SET price = 9.500000000000002 WHERE id = 1",
        "UPDATE products SET price = '3x' WHERE id = 2",
        "UPDATE products SET name = NULL WHERE id = 3",
        "UPDATE products SET name = X'' WHERE id = 3",
        "UPDATE products SET name = CAST(X'FF00FE' AS TEXT) WHERE id = 3",
        "UPDATE products SET id = 4 WHERE id = 3",
        "REPLACE INTO products VALUES (1, 'tent', 9)",
    ],
)
async def test_the_least_change_of_a_row_is_seen(db: sqlite3.Connection, tmp_path: Path, change: str) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute(change)

    assert (await auditor.read()).outcome is Outcome.CHANGED


@pytest.mark.parametrize(
    "harmless",
    [
        "UPDATE products SET name = name WHERE 0",
        "UPDATE products SET name = name",
        "VACUUM",
        "ANALYZE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "BEGIN; INSERT INTO products VALUES (9, 'x', 1); ROLLBACK",
    ],
)
async def test_what_leaves_every_row_as_it_was_is_no_write(
    db: sqlite3.Connection, tmp_path: Path, harmless: str
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    for statement in harmless.split("; "):
        db.execute(statement)
    result = await auditor.read()

    assert result.outcome is Outcome.OK, result.reason


async def test_a_table_without_key_is_compared_whatever_vacuum_makes_of_its_rowids(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    db.execute("CREATE TABLE log (line)")
    db.executemany("INSERT INTO log VALUES (?)", [(f"line {number // 2}",) for number in range(10)])
    db.execute("DELETE FROM log WHERE rowid IN (1, 4)")
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("VACUUM")
    quiet = await auditor.read()
    db.execute("INSERT INTO log VALUES ('line 4')")
    loud = await auditor.read()

    assert quiet.outcome is Outcome.OK
    assert what(loud) == ["log: 1 × insert (rowid=9)"]


async def test_awkward_tables_are_read_and_named(db: sqlite3.Connection, tmp_path: Path) -> None:
    db.execute('CREATE TABLE "a ""b"" é; --" (k TEXT, n INT, v, PRIMARY KEY (k, n)) WITHOUT ROWID')
    db.execute("CREATE TABLE taken (rowid, _rowid_, oid)")
    db.execute("CREATE TABLE generated (a PRIMARY KEY, b AS (a || 'x'))")
    auditor = Auditor(tmp_path / "shop.db")
    first = await auditor.read()

    db.execute('INSERT INTO "a ""b"" é; --" VALUES (?, 1, 2)', ('it\'s\n"quoted"',))
    db.execute("INSERT INTO taken VALUES (1, 2, 3)")
    db.execute("INSERT INTO generated (a) VALUES (?)", ("k" * 500,))
    result = await auditor.read()

    assert first.outcome is Outcome.OK
    assert what(result) == [
        'a "b" é; --: 1 × insert (k=\'it\\\'s\\n"quoted"\' n=1)',
        "generated: 1 × insert (a=a text of 500 characters)",
        "taken: 1 × insert (rowid=0)",
    ]


async def test_more_rows_than_one_page_are_all_compared(wal: sqlite3.Connection, tmp_path: Path) -> None:
    wal.execute("CREATE TABLE pairs (a, b, v, PRIMARY KEY (a, b)) WITHOUT ROWID")
    wal.execute("BEGIN")
    wal.executemany("INSERT INTO products(name) VALUES (?)", [(f"p{number}",) for number in range(25_000)])
    wal.executemany("INSERT INTO pairs VALUES (?, ?, 0)", [(n // 7, n % 7) for n in range(25_000)])
    wal.execute("COMMIT")
    auditor = Auditor(tmp_path / "shop.db", timeout=20)
    first = await auditor.read()

    wal.execute("UPDATE products SET name = 'other' WHERE id IN (10001, 20001, 25001)")
    wal.execute("UPDATE pairs SET v = 1 WHERE a IN (1428, 2857) AND b = 4")
    result = await auditor.read()

    assert first.figures["rows"] == 50_001
    assert what(result) == [
        "pairs: 2 × update (a=1428 b=4, a=2857 b=4)",
        "products: 3 × update (id=10001, id=20001, id=25001)",
    ]


async def test_a_canary_row_is_ours_and_counts_apart(db: sqlite3.Connection, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("INSERT INTO products VALUES (50, ?, 0)", (f"note: {CANARY}",))
    leaked = await auditor.read()
    db.execute("DELETE FROM products WHERE id = 50")
    undone = await auditor.read()

    assert (leaked.outcome, leaked.figures["own"], leaked.figures["changes"]) == (Outcome.OK, 1, 0)
    assert (undone.outcome, undone.figures["own"], undone.figures["changes"]) == (Outcome.OK, 1, 0)


async def test_a_canary_written_over_a_row_of_production_is_a_row_lost(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("UPDATE products SET name = ? WHERE id = 1", (CANARY,))

    assert what(await auditor.read()) == ["products: 1 × delete (id=1)"]


async def test_a_text_about_freezewatch_is_no_canary(db: sqlite3.Connection, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("INSERT INTO products VALUES (51, 'a freezewatch-branded mug', 0)")

    assert (await auditor.read()).outcome is Outcome.CHANGED


async def test_a_canary_that_came_and_went_between_two_readings_only_touches_the_file(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("INSERT INTO products VALUES (50, ?, 0)", (CANARY,))
    db.execute("DELETE FROM products WHERE id = 50")
    result = await auditor.read()

    assert result.outcome is Outcome.OK
    assert result.figures["touched"] is True


async def test_a_file_whose_stamps_have_not_moved_is_not_read_again(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    auditor = Auditor(path)
    await auditor.read()
    await settled(auditor, path)

    result = await auditor.read()

    assert result.outcome is Outcome.OK
    assert result.figures["touched"] is False
    db.execute("INSERT INTO products VALUES (60, 'after', 1)")
    assert (await auditor.read()).outcome is Outcome.CHANGED


async def test_stamps_that_are_too_young_to_tell_a_later_write_are_not_believed(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    files = [path for path in (tmp_path / "shop.db", tmp_path / "shop.db-wal") if path.exists()]
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()
    stamps = [(path, path.stat()) for path in files]

    db.execute("UPDATE products SET name = 'rope' WHERE id = 1")
    for path, stamp in stamps:
        os.truncate(path, max(stamp.st_size, path.stat().st_size))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    result = await auditor.read()

    assert result.outcome is Outcome.CHANGED


async def test_rows_that_are_equal_are_counted_one_by_one(db: sqlite3.Connection, tmp_path: Path) -> None:
    db.execute("CREATE TABLE log (line)")
    db.executemany("INSERT INTO log(rowid, line) VALUES (?, 'x')", [(5,), (6,), (7,)])
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute("DELETE FROM log WHERE rowid = 6")
    db.execute("VACUUM")
    result = await auditor.read()

    assert result.figures["changes"] == 1
    assert what(result)[0].startswith("log: 1 × delete")


async def test_after_a_restart_the_table_is_named_and_the_count(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    auditor.restart()
    db.execute("INSERT INTO products VALUES (7, 'rope', 1)")
    grown = await auditor.read()
    auditor.restart()
    db.execute("UPDATE products SET price = 2 WHERE id = 7")
    other = await auditor.read()
    auditor.restart()
    quiet = await auditor.read()

    assert what(grown) == ["products: 1 × insert"]
    assert what(other) == ["products: 1 × write"]
    assert quiet.outcome is Outcome.OK


async def test_own_rows_stay_our_own_over_a_restart(db: sqlite3.Connection, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    db.execute("INSERT INTO products VALUES (50, ?, 0)", (CANARY,))
    await auditor.read()

    auditor.restart()
    db.execute("DELETE FROM products WHERE id = 50")
    result = await auditor.read()

    assert (result.outcome, result.figures["own"]) == (Outcome.OK, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("CREATE INDEX by_name ON products(name)", "schema: 1 × insert (index by_name)"),
        ("ALTER TABLE products ADD COLUMN stock", "schema: 1 × update (table products)"),
        ("CREATE TABLE orders (id)", "schema: 1 × insert (table orders)"),
        ("CREATE TRIGGER t AFTER INSERT ON products BEGIN SELECT 1; END", "schema: 1 × insert (trigger t)"),
        ("CREATE VIEW v AS SELECT 1", "schema: 1 × insert (view v)"),
        ("DROP TABLE products", "schema: 1 × delete (table products)"),
    ],
)
async def test_a_changed_schema_is_a_change(
    db: sqlite3.Connection, tmp_path: Path, change: str, said: str
) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    db.execute(change)
    result = await auditor.read()

    assert what(result)[0] == said
    assert "3 × update" not in result.reason


async def test_an_exempt_table_may_be_written(db: sqlite3.Connection, tmp_path: Path) -> None:
    exempt = [{"table": "sess*", "reason": "log-ins go on"}]
    db.execute("CREATE TABLE sessions (id)")
    auditor = Auditor(tmp_path / "shop.db", exempt=exempt)
    await auditor.read()

    db.execute("INSERT INTO sessions VALUES (1)")
    result = await auditor.read()

    assert (result.outcome, result.figures["exempt"]) == (Outcome.OK, 1)


async def test_virtual_tables_and_their_shadows_are_left_out_and_said_so(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    db.execute("CREATE VIRTUAL TABLE docs USING fts5(body)")
    by_default, by_name = (
        Auditor(tmp_path / "shop.db"),
        Auditor(tmp_path / "shop.db", tables=["docs_content"]),
    )
    noted = await by_default.read()
    await by_name.read()

    db.execute("INSERT INTO docs VALUES ('hello')")

    assert noted.figures["notes"] == ["virtual tables are left out, with the tables they keep: docs"]
    assert (await by_default.read()).outcome is Outcome.OK
    assert what(await by_name.read()) == ["docs_content: 1 × insert (id=1)"]


async def test_only_tables_that_match_are_audited(db: sqlite3.Connection, tmp_path: Path) -> None:
    db.execute("CREATE TABLE orders (id)")
    auditor = Auditor(tmp_path / "shop.db", tables=["prod*"])
    await auditor.read()

    db.execute("INSERT INTO orders VALUES (1)")
    db.execute("CREATE INDEX i ON orders(id)")
    beside = await auditor.read()
    db.execute("DELETE FROM products")

    assert beside.outcome is Outcome.OK
    assert (await auditor.read()).figures["changes"] == 3


async def test_a_pattern_that_matches_no_table_is_not_taken_for_silence(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    result = await Auditor(tmp_path / "shop.db", tables=["produkte"]).read()

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "no table matches 'produkte'")


# -- the writer is not disturbed -----------------------------------------------------------------------


async def test_between_readings_no_lock_is_held(wal: sqlite3.Connection, tmp_path: Path) -> None:
    auditor = Auditor(tmp_path / "shop.db")
    await auditor.read()

    changed = wal.execute("PRAGMA journal_mode=delete").fetchone()

    assert changed == ("delete",)


async def test_the_last_close_of_the_writer_still_folds_the_wal_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    writer = connect(path)
    writer.execute("PRAGMA journal_mode=wal")
    writer.execute("CREATE TABLE t (id)")
    auditor = Auditor(path)
    await auditor.read()

    writer.close()

    assert [entry.name for entry in tmp_path.iterdir()] == ["shop.db"]


async def test_a_database_at_rest_is_read_without_leaving_a_wal_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    writer = connect(path)
    writer.execute("PRAGMA journal_mode=wal")
    writer.execute("CREATE TABLE t (id)")
    writer.close()
    old = time.time() - 10
    os.utime(path, (old, old))

    result = await Auditor(path).read()

    assert (result.outcome, result.figures["tables"]) == (Outcome.OK, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["shop.db"]
    assert path.stat().st_mtime == pytest.approx(old, abs=0.001)


async def test_a_writer_at_full_speed_neither_waits_for_the_audit_nor_hides_from_it(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    program = (
        "import sqlite3, sys, time\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)\n"
        "db.execute('PRAGMA journal_mode=wal')\n"
        "db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, x)')\n"
        "print('go', flush=True)\n"
        "worst, ends = 0, time.monotonic() + 2\n"
        "while time.monotonic() < ends:\n"
        "    began = time.monotonic()\n"
        "    db.execute('INSERT INTO t(x) VALUES (1)')\n"
        "    worst = max(worst, time.monotonic() - began)\n"
        "print(worst, db.execute('SELECT count(*) FROM t').fetchone()[0], flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "go\n"
        auditor = Auditor(path)
        found, readings = 0, 0
        while writer.poll() is None:
            result = await auditor.read()
            assert result.outcome in (Outcome.OK, Outcome.CHANGED), result.reason
            first = readings == 0
            found += number(result, "rows") if first else number(result, "changes")
            readings += 1
        found += number(await auditor.read(), "changes")
        said = writer.stdout.read().split()

    assert said, "the writer was locked out"
    assert readings > 5
    assert found == int(said[1])


# -- what cannot be told is not taken for silence ------------------------------------------------------


async def test_a_table_too_large_for_the_time_is_unknown_once_the_file_moves(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    wal.execute("BEGIN")
    wal.executemany("INSERT INTO products(name) VALUES (?)", ((f"p{n}",) for n in range(400_000)))
    wal.execute("COMMIT")
    wal.execute("CREATE TABLE small (id)")
    auditor = Auditor(tmp_path / "shop.db", timeout=1)
    first = await auditor.read()

    wal.execute("UPDATE products SET name = 'other' WHERE id = 150000")
    moved = await auditor.read()

    assert "products by count and highest rowid alone" in str(first.figures["grade"])
    assert first.figures["rows"] == 400_001
    assert moved.outcome is Outcome.UNKNOWN
    assert "products could not be compared within" in moved.reason


async def test_with_large_counts_only_an_insert_or_delete_is_seen_and_the_grade_says_so(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    wal.execute("BEGIN")
    wal.executemany("INSERT INTO products(name) VALUES (?)", ((f"p{n}",) for n in range(400_000)))
    wal.execute("COMMIT")
    auditor = Auditor(tmp_path / "shop.db", timeout=1, large="counts")
    await auditor.read()

    wal.execute("INSERT INTO products(name) VALUES ('one more')")
    grown = await auditor.read()
    wal.execute("UPDATE products SET name = 'other' WHERE id = 150000")
    blind = await auditor.read()

    assert what(grown) == ["products: 1 × insert"]
    assert grown.figures["tells_own"] is False
    assert blind.outcome is Outcome.OK
    assert "products by count and highest rowid alone" in blind.reason
    assert auditor.spec.doubts


async def test_a_slow_reading_is_made_good_by_a_later_one(wal: sqlite3.Connection, tmp_path: Path) -> None:
    wal.execute("BEGIN")
    wal.executemany("INSERT INTO products(name) VALUES (?)", ((f"p{n}",) for n in range(400_000)))
    wal.execute("COMMIT")
    patient = source(tmp_path / "shop.db", timeout=30)
    mark = (await patient.read(None)).mark
    wal.execute("UPDATE products SET name = 'other' WHERE id = 150000")

    with pytest.raises(Unreachable, match="could not be compared"):
        await source(tmp_path / "shop.db", timeout=1).read(mark)
    late = await patient.read(mark)

    assert [change.said for change in late.changes] == ["products: 1 × write"]


async def test_a_large_table_is_compared_with_its_last_full_state_once_there_is_time(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    wal.execute("CREATE TABLE small (id)")
    wal.execute("BEGIN")
    wal.executemany("INSERT INTO products(name) VALUES (?)", ((f"p{n}",) for n in range(400_000)))
    wal.execute("COMMIT")
    patient = source(tmp_path / "shop.db", timeout=30)
    mark = (await patient.read(None)).mark
    wal.execute("UPDATE products SET name = 'other' WHERE id = 150000")
    wal.execute("INSERT INTO small VALUES (1)")

    hasty = await source(tmp_path / "shop.db", timeout=1).read(mark)
    wal.execute("DELETE FROM small")
    late = await patient.read(hasty.mark)

    assert [change.said for change in hasty.changes] == ["small: 1 × insert"]
    assert hasty.unknown is not None
    assert [change.said for change in late.changes] == ["products: 1 × write", "small: 1 × delete"]


async def test_with_room_for_no_rows_the_table_and_the_count_are_named(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    auditor = Auditor(tmp_path / "shop.db", rows=2)
    await auditor.read()

    db.execute("UPDATE products SET price = 4 WHERE id = 2")

    assert what(await auditor.read()) == ["products: 1 × write"]


async def test_another_file_in_its_place_is_unknown_even_with_the_same_rows(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    auditor = Auditor(path)
    await auditor.read()

    wal.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    wal.close()
    (tmp_path / "copy.db").replace(path)
    result = await auditor.read()

    assert result.outcome is Outcome.UNKNOWN
    assert "another file stands in its place" in result.reason


async def test_another_file_with_other_rows_is_changed_and_unknown(tmp_path: Path) -> None:
    path, other = tmp_path / "shop.db", tmp_path / "other.db"
    for each, rows in ((path, 1), (other, 2)):
        with connect(each) as writer:
            writer.execute("CREATE TABLE t (id)")
            writer.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(rows)])
        writer.close()
    auditor = Auditor(path)
    await auditor.read()

    other.replace(path)
    result = await auditor.read()

    assert result.outcome is Outcome.CHANGED
    assert "another file" in str(result.figures["unknown"])


async def test_a_missing_file_is_unreachable_and_made_good_when_it_is_back(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    auditor = Auditor(path)
    await auditor.read()

    path.rename(tmp_path / "away")
    gone = await auditor.read()
    (tmp_path / "away").rename(path)
    back = await auditor.read()

    assert (gone.outcome, gone.reason) == (Outcome.UNREACHABLE, "there is no such file")
    assert not path.with_name("shop.db-journal").exists()
    assert back.outcome is Outcome.OK


@pytest.mark.parametrize("content", [b"no database at all" * 100, os.urandom(8192)])
async def test_a_file_that_is_no_database_is_unreachable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shop.db"
    path.write_bytes(content)

    result = await Auditor(path).read()

    assert result.outcome is Outcome.UNREACHABLE
    assert result.reason.startswith("it is no SQLite database, or it is encrypted")


async def test_a_damaged_database_is_unreachable(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with connect(path) as writer:
        writer.execute("CREATE TABLE t (id, body)")
        writer.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 500) for n in range(1000)])
    writer.close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 20] = b"\xaa" * 4096 * 19
    path.write_bytes(content)

    result = await Auditor(path).read()

    assert result.outcome is Outcome.UNREACHABLE
    assert "damaged" in result.reason


async def test_a_pipe_and_a_directory_are_unreachable_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", tmp_path):
        result = await Auditor(path).read()
        assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "it is no regular file")


async def test_a_locked_database_is_unreachable_within_the_timeout(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "shop.db"
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("INSERT INTO products VALUES (90, 'x', 1)")
    db.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()

    result = await Auditor(path, timeout=1).read()

    assert result.outcome is Outcome.UNREACHABLE
    assert "another process holds it locked" in result.reason
    assert time.monotonic() - began < 1.5


async def test_a_journal_of_a_dead_writer_is_not_rolled_back_by_us(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    program = (
        "import sqlite3, sys, os\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('CREATE TABLE t (id, body)')\n"
        "db.execute('PRAGMA cache_size=1')\n"
        "db.execute('PRAGMA cache_spill=1')\n"
        "db.execute('BEGIN')\n"
        "db.executemany('INSERT INTO t VALUES (?, ?)', [(n, 'x' * 900) for n in range(3000)])\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    journal = tmp_path / "shop.db-journal"
    assert journal.stat().st_size > 0

    result = await Auditor(path).read()

    assert result.outcome is Outcome.UNREACHABLE
    assert "a writer that died left a journal" in result.reason
    assert journal.stat().st_size > 0


async def test_a_wal_left_by_a_killed_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    program = (
        "import sqlite3, sys, os\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA journal_mode=wal')\n"
        "db.execute('CREATE TABLE IF NOT EXISTS t (id)')\n"
        "db.execute('INSERT INTO t VALUES (1)')\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    auditor = Auditor(path)
    first = await auditor.read()

    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    second = await auditor.read()

    assert first.figures["rows"] == 1
    assert what(second) == ["t: 1 × insert (rowid=2)"]


@pytest.mark.parametrize(
    "mark", ["", "{}", "[]", "null", '{"v":1}', '{"v":1,"files":[1,2,3],"tables":{"a":[]}}', "ü"]
)
async def test_a_mark_that_is_none_of_ours_leaves_the_time_before_unknown(
    wal: sqlite3.Connection, tmp_path: Path, mark: str
) -> None:
    reading = await source(tmp_path / "shop.db").read(mark)

    assert reading.unknown is not None
    assert reading.mark.startswith('{"v":1')


async def test_other_tables_configured_since_leave_the_time_before_unknown(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    mark = (await source(tmp_path / "shop.db").read(None)).mark

    reading: Reading = await source(tmp_path / "shop.db", tables=["products"]).read(mark)

    assert reading.unknown is not None
    assert not reading.changes


async def test_thousands_of_tables_are_compared_and_after_a_restart_said_to_be_too_many(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    wal.execute("BEGIN")
    for number in range(1500):
        wal.execute(f"CREATE TABLE t{number} (id)")
    wal.execute("COMMIT")
    auditor = Auditor(tmp_path / "shop.db", timeout=20)
    await auditor.read()

    wal.execute("INSERT INTO t700 VALUES (1)")
    kept = await auditor.read()
    auditor.restart()
    wal.execute("INSERT INTO t700 VALUES (1)")
    lost = await auditor.read()

    assert what(kept) == ["t700: 1 × insert (rowid=1)"]
    assert lost.outcome is Outcome.UNKNOWN
    assert auditor.mark is not None
    assert len(json.dumps(auditor.mark)) < 64 * 1024


async def test_a_reading_that_is_cancelled_ends_its_thread_and_the_next_one_succeeds(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    wal.execute("BEGIN")
    wal.executemany("INSERT INTO products(name) VALUES (?)", ((f"p{n}",) for n in range(400_000)))
    wal.execute("COMMIT")
    reader = source(tmp_path / "shop.db", timeout=30)
    task = asyncio.create_task(reader.read(None))
    await asyncio.sleep(0.05)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ends = time.monotonic() + 5
    reading = None
    while reading is None and time.monotonic() < ends:
        try:
            reading = await reader.read(None)
        except Unreachable:
            await asyncio.sleep(0.01)

    assert reading is not None
    assert wal.execute("PRAGMA journal_mode=delete").fetchone() == ("delete",)


async def test_two_audits_of_one_file_at_once_do_not_disturb_each_other(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    one, two = Auditor(tmp_path / "shop.db"), Auditor(tmp_path / "shop.db")
    await asyncio.gather(one.read(), two.read())

    wal.execute("INSERT INTO products VALUES (70, 'x', 1)")
    found = await asyncio.gather(one.read(), two.read())

    assert [what(result) for result in found] == [["products: 1 × insert (id=70)"]] * 2


async def test_without_file_descriptors_it_is_the_watchdogs_own_fault(
    wal: sqlite3.Connection, tmp_path: Path
) -> None:
    program = (
        "import asyncio, os, resource, sys\n"
        "from tests.probes.audit.test_sqlite import source\n"
        "from probes.answer import OwnFault\n"
        "async def main():\n"
        "    reader = source(sys.argv[1])\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1, 4096))\n"
        "    try:\n"
        "        await reader.read(None)\n"
        "    except OwnFault as error:\n"
        "        print(error.reason)\n"
        "asyncio.run(main())\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "shop.db")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.stdout == "the watchdog has no file descriptors left\n", said.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"path": ""},
        {"path": ":memory:"},
        {"path": "file:x.db?mode=rw"},
        {"path": "a\0b"},
        {"path": 5},
        {"path": "x", "tables": []},
        {"path": "x", "tables": "products"},
        {"path": "x", "tables": [""]},
        {"path": "x", "rows": True},
        {"path": "x", "rows": -1},
        {"path": "x", "rows": 10**9},
        {"path": "x", "large": "ok"},
        {"path": "x", "mode": "rw"},
        {},
    ],
)
def test_a_wrong_configuration_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SqliteAudit.model_validate({"sqlite": options})
