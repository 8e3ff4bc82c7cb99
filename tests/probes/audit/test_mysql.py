"""The audit of a real MariaDB: what it finds, what it says it cannot tell, and that it leaves nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from probes.audit.audit import Audit
from probes.audit.mysql.source import MysqlAudit, MysqlSource
from probes.base import Outcome, Result, Run
from probes.http import Transport
from probes.tools import Tools
from probes.write.canary import canary
from probes.write.mysql.kind import MysqlTarget, MysqlWrite
from tests.servers.fixtures import MariaDbDb
from tests.servers.machine import free_port, until
from tests.servers.mariadb import MariaDB

pytestmark = pytest.mark.xdist_group("mariadb-audit")

TIMEOUT = 5.0
NO_LOG = {"skip-log-bin": "1"}
AUDITOR = "SELECT, REPLICATION SLAVE, BINLOG MONITOR, PROCESS, EVENT ON *.*"
"""What the documentation asks for."""


class Reader:
    """One audit, read again and again in the frozen phase of a window that opened an hour ago."""

    def __init__(
        self,
        server: MariaDB,
        user: str = "auditor",
        *,
        timeout: float = TIMEOUT,
        tools: Tools | None = None,
        exempt: list[dict[str, str]] | None = None,
        opened: float = 3600.0,
        **store: Any,
    ) -> None:
        self.tools = tools or new_tools(opened)
        spec = MysqlAudit.model_validate(
            {
                "mysql": {"dsn": server.dsn(user, "secret" if user != "root" else ""), **store},
                "exempt": exempt or [],
            }
        )
        self.probe = Audit(
            name="a",
            source=MysqlSource(spec, timeout=timeout, tools=self.tools),
            exempt=spec.exempt,
            timeout=timeout,
            opens=self.tools.opens,
        )

    async def read(self) -> Result:
        return await self.probe.run(Run(slot=1, phase="frozen", frozen=True, started=time.time()))


def new_tools(opened: float = 3600.0) -> Tools:
    now = time.time()
    return Tools(window="w", opens=now - opened, closes=now + 3600, agent="t", transport=Transport())


def auditors(server: MariaDB) -> None:
    server.create_user("auditor", "secret", AUDITOR)
    server.create_user("reader", "secret", "SELECT ON *.*")


@pytest.fixture
def db(mariadb_db: MariaDbDb) -> MariaDbDb:
    """A database with a table, and accounts to audit it."""
    mariadb_db.run("CREATE TABLE t (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, v VARCHAR(60))")
    mariadb_db.run("INSERT INTO t (v) VALUES ('first')")
    auditors(mariadb_db.server)
    return mariadb_db


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[MariaDbDb]:
    """A server of its own, with the options that the test names."""
    with MariaDB(options=getattr(request, "param", {})) as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(60))")
        auditors(server)
        yield MariaDbDb(server=server, name="d")


def unlogged(db: MariaDbDb, sql: str) -> None:
    with db.connect() as session, session.cursor() as cursor:
        cursor.execute("SET sql_log_bin = 0")
        cursor.execute(sql)


def dumps(server: MariaDB) -> list[Any]:
    rows = server.run("SHOW PROCESSLIST")
    return [row for row in rows if row[1] in ("auditor", "reader") or row[4] == "Binlog Dump"]


# -- rows of the binary log -------------------------------------------------------------------------


async def test_rows_are_named_by_table_operation_number_and_key_and_by_nothing_else(db: MariaDbDb) -> None:
    audit = Reader(db.server, tables=[f"{db.name}.*"])
    first = await audit.read()
    db.run("INSERT INTO t (v) VALUES ('hush-hush'), ('hush-hush'), ('hush-hush'), ('hush-hush')")
    db.run("UPDATE t SET v = 'hush' WHERE id IN (1, 2)")
    db.run("DELETE FROM t WHERE id = 3")

    found = await audit.read()

    assert (first.outcome, first.figures["grade"]) == (Outcome.OK, "binlog rows")
    assert found.outcome is Outcome.CHANGED
    what = [str(one).partition(" at ")[0] for one in found.figures["what"]]  # type: ignore[union-attr]
    assert what == [
        f"{db.name}.t: 4 × insert (id='2', id='3', id='4') by server 1",
        f"{db.name}.t: 2 × update (id='1', id='2') by server 1",
        f"{db.name}.t: 1 × delete (id='3') by server 1",
    ]
    assert "hush" not in repr(found)
    assert (await audit.read()).outcome is Outcome.OK
    assert dumps(db.server) == []


async def test_keys_are_unsigned_composite_and_readable(db: MariaDbDb) -> None:
    db.run("CREATE TABLE `k.é 'q'` (b BIGINT UNSIGNED, s VARCHAR(20), d DATE, x INT, PRIMARY KEY (b, s))")
    audit = Reader(db.server)
    await audit.read()
    db.run("INSERT INTO `k.é 'q'` VALUES (18446744073709551615, 'ü', '2026-01-01', 1)")

    found = await audit.read()

    assert "k.é 'q': 1 × insert (b='18446744073709551615', s='ü')" in found.reason


async def test_statements_about_tables_are_named_without_their_text(db: MariaDbDb) -> None:
    audit = Reader(db.server)
    await audit.read()
    db.run("TRUNCATE t")
    db.run("ALTER TABLE t ADD COLUMN hush INT DEFAULT 4711")

    found = await audit.read()

    assert f"{db.name}.t: 1 × truncate" in found.reason
    assert f"{db.name}.t: 1 × alter table" in found.reason
    assert "hush" not in repr(found) and "4711" not in repr(found)


async def test_upkeep_and_accounts_are_no_writes(db: MariaDbDb) -> None:
    audit = Reader(db.server)
    await audit.read()
    db.run("FLUSH TABLES")
    db.run("ANALYZE TABLE t")
    db.server.create_user("somebody", "hush")
    db.run("REVOKE INSERT ON *.* FROM somebody")
    with db.connect() as session, session.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE tt (a INT) ENGINE=MEMORY")

    found = await audit.read()

    assert found.figures["changes"] == 0


async def test_databases_of_others_do_not_count_when_tables_are_named(db: MariaDbDb) -> None:
    audit = Reader(db.server, tables=["elsewhere.*", f"{db.name}.t?"])
    await audit.read()
    db.run("INSERT INTO t (v) VALUES ('x')")
    assert (await audit.read()).figures["changes"] == 0
    db.run("CREATE TABLE t2 (a INT)")

    assert (await audit.read()).outcome is Outcome.CHANGED


async def test_an_exemption_by_table_or_by_server_holds(db: MariaDbDb) -> None:
    by_table = Reader(db.server, exempt=[{"table": f"{db.name}.t", "reason": "a heartbeat"}])
    by_server = Reader(db.server, exempt=[{"role": "server 1", "reason": "the primary"}])
    for each in (by_table, by_server):
        await each.read()
    db.run("INSERT INTO t (v) VALUES ('x')")

    for each in (by_table, by_server):
        found = await each.read()
        assert (found.outcome, found.figures["exempt"]) == (Outcome.OK, 1)


async def test_what_our_own_attempts_write_is_told_from_production(db: MariaDbDb) -> None:
    audit, restarted = Reader(db.server), Reader(db.server)
    restarted.probe.resume(str((await audit.read()).figures["mark"]), time.time())
    spec = MysqlWrite.model_validate(
        {"mysql": {"dsn": db.server.dsn(database=db.name), "table": "t", "canary": {"v": "${canary}"}}}
    )
    target = MysqlTarget(spec, timeout=TIMEOUT, tools=audit.tools)
    one = canary("w", "n", 1.0)
    await target.attempt(one)
    await target.undo(one)

    known, recognised = await audit.read(), await restarted.read()

    for found in (known, recognised):
        assert (found.outcome, found.figures["own"], found.figures["changes"]) == (Outcome.OK, 2, 0)
    db.run("INSERT INTO t (v) VALUES ('freezewatch-is-down')")
    assert (await audit.read()).outcome is Outcome.CHANGED, "a text about us is not ours"


async def test_an_account_without_the_privilege_gets_less_and_the_notes_say_why(db: MariaDbDb) -> None:
    audit = Reader(db.server, "reader")
    assert (await audit.read()).outcome is Outcome.OK
    db.run("INSERT INTO t (v) VALUES ('x')")

    found = await audit.read()

    assert (found.figures["grade"], found.figures["what"]) == (
        "binlog position",
        ["the binlog: 1 × transaction"],
    )
    notes = " ".join(found.figures["notes"])  # type: ignore[arg-type]
    assert "BINLOG MONITOR" in notes and "PROCESS" in notes
    assert found.figures["open"] is None
    assert "reader" not in notes


async def test_without_binlog_the_position_is_read_though_the_rows_might_be(db: MariaDbDb) -> None:
    audit = Reader(db.server, binlog=False)
    await audit.read()
    db.run("INSERT INTO t (v) VALUES ('x')")

    assert (await audit.read()).figures["grade"] == "binlog position"


# -- holes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{}, {"userstat": "1"}, {"performance-schema": "ON"}], indirect=True)
async def test_a_write_that_is_kept_out_of_the_binlog_is_not_passed_over(own: MariaDbDb) -> None:
    audit, poor = Reader(own.server), Reader(own.server, "reader")
    await audit.read()
    await poor.read()
    unlogged(own, "INSERT INTO t (v) VALUES ('hidden'), ('hidden')")

    for each in (audit, poor):
        found = await each.read()
        assert found.outcome is Outcome.UNKNOWN
        assert "2 × changed row that the binlog does not show: written with sql_log_bin=0" in found.reason
        assert (await each.read()).outcome is Outcome.OK


@pytest.mark.parametrize("own", [{"userstat": "1"}], indirect=True)
async def test_counters_by_table_name_the_hidden_write_and_pass_over_temporary_tables(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    await audit.read()
    with own.connect() as session, session.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE tt (a INT)")
        cursor.execute("INSERT INTO tt VALUES (1)")
    assert (await audit.read()).outcome is Outcome.OK
    unlogged(own, "INSERT INTO t (v) VALUES ('hidden')")

    assert (await audit.read()).reason.endswith("in d.t")


async def test_a_transaction_in_flight_is_no_hidden_write(own: MariaDbDb) -> None:
    own.run("INSERT INTO t (v) VALUES ('InnoDB counts the first rows of an empty table as one')")
    audit = Reader(own.server)
    await audit.read()
    with own.connect(autocommit=False) as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO t (v) VALUES ('a'), ('b')")
        open_now = await audit.read()
        session.rollback()
        until(lambda: not innodb_knows(own, session.thread_id()), "InnoDB shows that it is over")
        rolled_back = await audit.read()
        cursor.execute("INSERT INTO t (v) VALUES ('a'), ('b')")
        again = await audit.read()
        session.commit()

    assert {each.outcome for each in (open_now, rolled_back, again)} == {Outcome.OK}
    committed = await audit.read()
    assert (committed.outcome, committed.figures["changes"]) == (Outcome.CHANGED, 2)
    assert committed.figures.get("unknown") is None


@pytest.mark.parametrize("own", [{"event-scheduler": "ON"}], indirect=True)
async def test_an_event_that_writes_in_spite_of_read_only_is_found_and_the_scheduler_is_named(
    own: MariaDbDb,
) -> None:
    own.run("CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO d.t (v) VALUES ('tick')")
    own.server.read_only(True)
    audit = Reader(own.server)
    first = await audit.read()
    rows = own.run("SELECT COUNT(*) FROM t")
    until(lambda: own.run("SELECT COUNT(*) FROM t") != rows, "the event has run")

    found = await audit.read()

    assert "the event scheduler is on, with enabled events: d.tick" in first.figures["notes"]  # type: ignore[operator]
    assert found.outcome is Outcome.CHANGED
    assert "d.t: " in found.reason


async def test_a_prepared_transaction_is_seen_as_open_and_its_commit_as_a_write(own: MariaDbDb) -> None:
    with own.connect() as session, session.cursor() as cursor:
        for statement in ("XA START 'a\x01'", "INSERT INTO t (v) VALUES ('xa')", "XA END 'a\x01'"):
            cursor.execute(statement)
        cursor.execute("XA PREPARE 'a\x01'")
    audit = Reader(own.server, opened=0.0)

    waiting = await audit.read()
    own.run("XA COMMIT 'a\x01'")
    committed = await audit.read()

    assert waiting.figures["open"] == 1
    assert "prepared XA transaction" in str(waiting.figures["open_what"])
    assert committed.outcome is Outcome.CHANGED
    assert "a prepared XA transaction: 1 × xa commit" in committed.reason
    assert committed.figures["open"] == 0


async def test_a_transaction_from_before_the_window_is_open_until_it_ends(db: MariaDbDb) -> None:
    audit = Reader(db.server, opened=0.0)
    db.server.create_user("app", "secret")
    with db.connect("app", "secret", autocommit=False) as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO t (v) VALUES ('x')")
        until(lambda: innodb_knows(db, session.thread_id()), "InnoDB shows it")
        waiting = await audit.read()
        session.rollback()
        cursor.execute("SELECT * FROM t")
        until(lambda: not innodb_knows(db, session.thread_id()), "InnoDB shows that it is over")
        reading = await audit.read()

    assert waiting.figures["open"] == 1
    assert f"session {session.thread_id()} of app from 127.0.0.1" in str(waiting.figures["open_what"])
    assert reading.figures["open"] == 0


def innodb_knows(db: MariaDbDb, session: int) -> bool:
    """InnoDB's list of those that have written; it is renewed when nobody has read it for 0.1 s."""
    time.sleep(0.12)
    rows = db.run("SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0")
    return (session,) in rows


async def test_a_write_that_waits_for_a_lock_is_open_too(db: MariaDbDb) -> None:
    audit = Reader(db.server, opened=0.0)
    db.server.create_user("app", "secret")
    with db.connect() as lock, lock.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        waiting = threading.Thread(
            target=db.run,
            args=("INSERT INTO t (v) VALUES ('x')",),
            kwargs={"user": "app", "password": "secret"},
        )
        waiting.start()
        until(
            lambda: any(row[5] >= 1 and row[1] == "app" for row in db.run("SHOW PROCESSLIST")),
            "it waits a second",
        )

        found = await audit.read()

        cursor.execute("UNLOCK TABLES")
    waiting.join(10)
    assert "of app from 127.0.0.1 (Waiting for backup lock)" in str(found.figures["open_what"])


# -- what cannot be told ----------------------------------------------------------------------------


async def test_a_restart_makes_the_time_before_it_unknown_and_what_is_logged_is_found(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    await audit.read()
    time.sleep(3)  # the server tells its start to the second
    own.server.restart(crash=True)
    own.run("INSERT INTO t (v) VALUES ('x')")

    found = await audit.read()

    assert (found.outcome, found.figures["changes"]) == (Outcome.CHANGED, 1)
    assert found.figures["unknown"] == "the server was started again since the reading before"
    assert (await audit.read()).outcome is Outcome.OK


@pytest.mark.parametrize("writes", [1, 4, 30])
async def test_a_binlog_that_was_begun_anew_is_unknown(own: MariaDbDb, writes: int) -> None:
    audit, poor = Reader(own.server), Reader(own.server, "reader")
    own.run("INSERT INTO t (v) VALUES ('x')")
    for each in (audit, poor):
        await each.read()
    own.run("RESET MASTER")
    for _ in range(writes):
        own.run("INSERT INTO t (v) VALUES ('x')")

    found, less = [await each.read() for each in (audit, poor)]

    assert found.outcome is Outcome.UNKNOWN
    assert "begun anew" in found.reason
    assert writes > 1 or found.reason.endswith("since the reading before (RESET MASTER)")
    assert less.outcome is not Outcome.OK
    assert {(await each.read()).outcome for each in (audit, poor)} == {Outcome.OK}


async def test_a_new_binlog_that_looks_like_the_old_one_is_known_by_when_it_was_begun(own: MariaDbDb) -> None:
    own.run("RESET MASTER")
    own.run("INSERT INTO t (v) VALUES ('x')")
    audit = Reader(own.server)
    await audit.read()
    time.sleep(1.1)  # the log tells when it was begun to the second
    own.run("RESET MASTER")
    for _ in range(3):
        own.run("INSERT INTO t (v) VALUES ('x')")

    found = await audit.read()

    assert found.reason == "the binlog was begun anew since the reading before (RESET MASTER)"


async def test_a_binlog_that_was_purged_past_the_mark_is_unknown(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    await audit.read()
    for _ in range(3):
        own.run("INSERT INTO t (v) VALUES ('x')")
        own.run("FLUSH LOGS")
    until(
        lambda: (
            own.run("PURGE BINARY LOGS TO 'binlog.000003'") == []
            and own.run("SHOW BINARY LOGS")[0][0] == "binlog.000003"
        ),
        "it is purged",
    )

    found = await audit.read()

    assert (found.outcome, found.reason) == (
        Outcome.UNKNOWN,
        "the binlog of the reading before is gone: purged, or begun anew",
    )
    assert (await audit.read()).outcome is Outcome.OK


async def test_another_server_at_the_same_address_is_unknown(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    first = await audit.read()
    with MariaDB() as other:
        auditors(other)
        moved = Reader(other)
        moved.probe.resume(str(first.figures["mark"]), time.time())

        found = await moved.read()

    assert (found.outcome, found.reason) == (
        Outcome.UNKNOWN,
        "another server answers than at the reading before",
    )


@pytest.mark.parametrize(
    "mark", ["", "{}", "[]", "nonsense", '{"mysql":1}', '{"mysql":1,"server":1,"started":"x"}']
)
async def test_a_mark_that_cannot_be_read_is_unknown_and_replaced(db: MariaDbDb, mark: str) -> None:
    audit = Reader(db.server)
    audit.probe.resume(mark, time.time())

    found = await audit.read()

    assert found.outcome is (Outcome.UNKNOWN if mark else Outcome.OK)
    assert (await audit.read()).outcome is Outcome.OK


@pytest.mark.parametrize("own", [{}, NO_LOG | {"userstat": "1"}], indirect=True)
async def test_a_restart_of_the_watchdog_loses_nothing(own: MariaDbDb) -> None:
    before = Reader(own.server)
    mark = str((await before.read()).figures["mark"])
    own.run("INSERT INTO t (v) VALUES ('while we were away')")
    after = Reader(own.server)
    after.probe.resume(mark, time.time())

    found = await after.read()

    assert (found.outcome, found.figures["changes"]) == (Outcome.CHANGED, 1)
    assert (await after.read()).outcome is Outcome.OK


async def test_more_than_can_be_read_is_said_and_the_next_reading_starts_afresh(db: MariaDbDb) -> None:
    from probes.audit.mysql import binlog

    audit = Reader(db.server, timeout=30.0)
    await audit.read()
    db.run("CREATE TABLE many (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))")
    for _ in range(2):
        db.run("INSERT INTO many (v) SELECT REPEAT('x', 100) FROM seq_1_to_60000")

    found = await audit.read()

    assert found.outcome is Outcome.CHANGED
    assert f"stopped after {found.figures['changes'] - 1} rows" in str(found.figures["unknown"])  # type: ignore[operator]
    assert binlog.ROWS <= found.figures["changes"] - 1 < 120_000  # type: ignore[operator]
    assert (await audit.read()).outcome is Outcome.OK
    assert dumps(db.server) == []


async def test_a_short_timeout_bounds_the_reading_of_a_long_log(db: MariaDbDb) -> None:
    audit = Reader(db.server, timeout=0.5)
    await audit.read()
    db.run("CREATE TABLE many (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))")
    db.run("INSERT INTO many (v) SELECT REPEAT('x', 100) FROM seq_1_to_90000")
    began = time.perf_counter()

    found = await audit.read()

    assert time.perf_counter() - began < 0.9
    assert found.outcome in (Outcome.CHANGED, Outcome.UNREACHABLE)
    until(lambda: dumps(db.server) == [], "no dump is left")


# -- other logs, other counters ---------------------------------------------------------------------


@pytest.mark.parametrize("own", [{"binlog-format": "MIXED"}], indirect=True)
async def test_a_log_of_statements_names_the_table_and_not_the_statement(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    await audit.read()
    own.run("INSERT INTO t (v) VALUES ('hush')")

    found = await audit.read()

    assert found.figures["grade"] == "binlog statements"
    assert "d.t: 1 × insert (statement)" in found.reason
    assert "hush" not in repr(found)


@pytest.mark.parametrize("own", [{"log-bin-compress": "1", "log-bin-compress-min-len": "10"}], indirect=True)
async def test_compressed_rows_are_found_though_not_counted(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    await audit.read()
    own.run("INSERT INTO t (v) VALUES (REPEAT('x', 50))")

    assert "d.t: 1 × insert (compressed)" in (await audit.read()).reason


@pytest.mark.parametrize(
    ("own", "grade", "what"),
    [
        (
            {"skip-log-bin": "1"},
            "row counters of the server",
            "a table that the counters do not name: 2 × write",
        ),
        (NO_LOG | {"userstat": "1"}, "row counters (userstat)", "d.t: 2 × write"),
        (
            NO_LOG | {"performance-schema": "ON"},
            "row counters (performance_schema)",
            "d.t: 2 × insert",
        ),
    ],
    indirect=["own"],
)
async def test_without_a_binlog_counters_are_read(own: MariaDbDb, grade: str, what: str) -> None:
    audit = Reader(own.server)
    first = await audit.read()
    assert (await audit.read()).outcome is Outcome.OK
    own.run("INSERT INTO t (v) VALUES ('a'), ('b')")

    found = await audit.read()
    own.run("TRUNCATE t")
    emptied = await audit.read()

    assert first.figures["grade"] == grade
    assert (found.outcome, found.figures["what"]) == (Outcome.CHANGED, [what])
    assert found.figures["tells_own"] is False
    assert emptied.outcome is Outcome.UNKNOWN
    assert "TRUNCATE" in emptied.reason


@pytest.mark.parametrize("own", [NO_LOG | {"performance-schema": "ON"}], indirect=True)
async def test_counters_that_were_set_back_are_unknown(own: MariaDbDb) -> None:
    audit = Reader(own.server)
    own.run("INSERT INTO t (v) VALUES ('a'), ('b')")
    await audit.read()
    own.run("TRUNCATE performance_schema.table_io_waits_summary_by_table")

    assert (await audit.read()).outcome is Outcome.UNKNOWN


# -- no harm, no answer -----------------------------------------------------------------------------


async def test_200_readings_change_nothing_and_leave_no_session(db: MariaDbDb) -> None:
    before = db.dump(), db.run("SELECT @@gtid_binlog_pos"), db.run("SHOW MASTER STATUS")
    audit = Reader(db.server)

    outcomes = {(await audit.read()).outcome for _ in range(200)}

    assert outcomes == {Outcome.OK}
    assert (db.dump(), db.run("SELECT @@gtid_binlog_pos"), db.run("SHOW MASTER STATUS")) == before
    until(lambda: dumps(db.server) == [], "all sessions are closed")


async def test_two_audits_at_once_do_not_throw_each_other_out(db: MariaDbDb) -> None:
    audits = [Reader(db.server) for _ in range(12)]
    await asyncio.gather(*(each.read() for each in audits))
    db.run("INSERT INTO t (v) VALUES ('x')")

    found = await asyncio.gather(*(each.read() for each in audits))

    assert {each.outcome for each in found} == {Outcome.CHANGED}


async def test_a_server_that_hangs_or_is_dead_is_unreachable_and_then_told_in_full() -> None:
    with MariaDB() as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a INT)")
        auditors(server)
        audit = Reader(server, timeout=1.0)
        await audit.read()
        server.run("INSERT INTO d.t VALUES (1)")
        server.pause()
        hanging = await audit.read()
        server.resume()
        resumed = await audit.read()
        server.kill()
        dead = await audit.read()

    assert hanging.outcome is dead.outcome is Outcome.UNREACHABLE
    assert hanging.duration_s < 1.3
    assert resumed.outcome is Outcome.CHANGED
    assert dead.reason == "connection refused"


async def test_a_wrong_password_and_nobody_there_are_unreachable(db: MariaDbDb) -> None:
    wrong = Reader(db.server, "auditor")
    db.run("SET PASSWORD FOR auditor = PASSWORD('other')")

    refused = await wrong.read()

    assert refused.outcome is Outcome.UNREACHABLE
    assert "1045" in refused.reason and "auditor" not in refused.reason and "secret" not in refused.reason
    nobody = Reader(MariaDB(port=free_port()))
    assert (await nobody.read()).reason == "connection refused"


async def test_a_reading_that_is_cancelled_leaves_no_session(db: MariaDbDb) -> None:
    audit = Reader(db.server, timeout=30.0)
    await audit.read()
    db.run("CREATE TABLE many (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100))")
    db.run("INSERT INTO many (v) SELECT REPEAT('x', 100) FROM seq_1_to_90000")
    running = asyncio.ensure_future(audit.read())
    await asyncio.sleep(0.1)

    running.cancel()

    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], asyncio.CancelledError)
    until(lambda: dumps(db.server) == [], "all sessions are closed")
    assert (await audit.read()).figures["changes"] == 90_001


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dsn", "hush"),
        ("dsn", 5),
        ("tables", "shop.*"),
        ("tables", [""]),
        ("tables", [5]),
        ("binlog", "perhaps"),
        ("slot", "x"),
    ],
)
def test_a_mistake_in_the_configuration_is_one(key: str, value: Any) -> None:
    good = {"dsn": "mysql://a:hush@db/"}
    assert "hush" not in repr(MysqlAudit.model_validate({"mysql": good}))

    with pytest.raises(ValidationError) as refused:
        MysqlAudit.model_validate({"mysql": good | {key: value}})

    assert "hush" not in "; ".join(str(error["msg"]) for error in refused.value.errors())
