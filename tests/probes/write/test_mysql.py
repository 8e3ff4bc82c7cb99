"""Writes to a real MariaDB: what it refuses, what leaks, what hangs, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import resource
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Outcome, Result, Run
from probes.http import Transport
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.mysql.kind import HeldMysql, MysqlTarget, MysqlWrite, mysql_write
from tests.probes.harness import certificate
from tests.servers.fixtures import MariaDbDb
from tests.servers.machine import account, free_port, give, new_folder, until
from tests.servers.mariadb import MariaDB

pytestmark = pytest.mark.xdist_group("mariadb")

TIMEOUT = 1.0
SLACK = 0.35
"""Seconds that an attempt may take beyond its timeout on a busy machine."""


class Writer:
    """One write probe, asked again and again."""

    def __init__(self, spec: dict[str, Any], *, held: bool = False, timeout: float = TIMEOUT) -> None:
        self.tools = Tools(
            window="w", opens=time.time() + 3600, closes=time.time() + 7200, agent="t", transport=Transport()
        )
        parsed = MysqlWrite.model_validate(spec)
        beside = parsed.beside[0][1] if held else parsed
        assert isinstance(beside, HeldMysql if held else MysqlWrite)
        self.target: MysqlTarget = mysql_write(beside, timeout, self.tools)
        self.probe = WriteAttempts(name="n", surface="s", window="w", target=self.target, timeout=timeout)
        self.slot = 0

    async def frozen(self) -> Result:
        """One attempt while frozen; a leak before it is forgotten."""
        return await self._run(frozen=True)

    async def open(self) -> Result:
        """One attempt while writes are open."""
        return await self._run(frozen=False)

    async def _run(self, *, frozen: bool) -> Result:
        self.probe.stopped = None
        self.slot += 1
        began = time.perf_counter()
        result = await self.probe.run(Run(slot=self.slot, phase="frozen", frozen=frozen))
        self.took = time.perf_counter() - began
        return result


@pytest.fixture
def db(mariadb_db: MariaDbDb) -> Iterator[MariaDbDb]:
    """A database with a table, and a user `app` whom read_only binds."""
    mariadb_db.run("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(60), n INT, KEY (v))")
    mariadb_db.run("INSERT INTO t (v, n) VALUES ('x', 1), ('y', 2)")
    mariadb_db.server.create_user("app", "app's: p@ss/word")
    yield mariadb_db
    mariadb_db.run("SET GLOBAL tx_read_only = 0")


def dsn(server: MariaDB, database: str, user: str = "app", password: str = "app%27s%3A+p%40ss%2Fword") -> str:
    return f"mysql://{user}:{password.replace('+', '%20')}@127.0.0.1:{server.port}/{database}"


def spec(db: MariaDbDb, table: str = "t", **more: Any) -> dict[str, Any]:
    outer = {key: more.pop(key) for key in ("refusal", "held") if key in more}
    return {"mysql": {"dsn": dsn(db.server, db.name), "table": table, **more}, **outer}


def writer(db: MariaDbDb, *, held: bool = False, timeout: float = TIMEOUT, **more: Any) -> Writer:
    return Writer(spec(db, **more), held=held, timeout=timeout)


def row(**more: Any) -> dict[str, Any]:
    return {"canary": {"v": "${canary}", "n": 7, **more}}


def sessions(server: MariaDB, user: str = "app") -> int:
    """How many sessions of `user` the server has."""
    return int(server.run("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = %s", user)[0][0])


@asynccontextmanager
async def locked(server: MariaDB, *statements: str) -> AsyncIterator[None]:
    with server.connect() as lock, lock.cursor() as cursor:
        for statement in statements or ("FLUSH TABLES WITH READ LOCK",):
            cursor.execute(statement)
        yield
        cursor.execute("UNLOCK TABLES")


# -- open, refused, refused for another reason ------------------------------------------------------


async def test_a_write_that_is_not_refused_leaks_while_frozen_and_is_accepted_when_open(
    db: MariaDbDb,
) -> None:
    probe = writer(db)

    leaked, accepted = await probe.frozen(), await probe.open()

    assert (leaked.outcome, leaked.figures["trace"]) == (Outcome.LEAKED, "none")
    assert accepted.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("canary_row", [{}, row()], ids=["no row", "canary"])
async def test_read_only_is_a_proper_refusal(db: MariaDbDb, canary_row: dict[str, Any]) -> None:
    probe = writer(db, **canary_row)
    db.server.read_only(True)

    result = await probe.frozen()

    assert (result.outcome, result.figures["refused_by"]) == (Outcome.REFUSED, "1290")
    assert result.figures["verified"] is True
    assert "read-only" in result.reason


async def test_an_account_that_passes_read_only_leaks_and_the_reason_says_so(db: MariaDbDb) -> None:
    probe = Writer({"mysql": {"dsn": db.server.dsn(database=db.name), "table": "t"}})
    db.server.read_only(True)

    result = await probe.frozen()

    assert result.outcome is Outcome.LEAKED
    assert "this account passes it" in result.reason


async def test_tx_read_only_refuses_a_fresh_session_and_leaks_over_a_held_one(db: MariaDbDb) -> None:
    fresh, pooled = writer(db), writer(db, held=True)
    await pooled.probe.hold()
    db.run("SET GLOBAL tx_read_only = 1")

    refused, leaked = await fresh.frozen(), await pooled.frozen()

    assert (refused.outcome, refused.figures["refused_by"]) == (Outcome.REFUSED, "1792")
    assert (leaked.outcome, leaked.figures["from_before"]) == (Outcome.LEAKED, True)
    await pooled.probe.aclose()


async def test_innodb_read_only_is_a_proper_refusal() -> None:
    with MariaDB() as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a INT)")
        server.create_user("app", "secret")
        server.stop()
        frozen = MariaDB(
            port=server.port, folder=server.folder, options={"innodb-read-only": "1", "skip-log-bin": "1"}
        )
        frozen.start()
        try:
            probe = Writer({"mysql": {"dsn": server.dsn("app", "secret", "d"), "table": "t"}})

            result = await probe.frozen()
        finally:
            frozen.stop()

    assert (result.outcome, result.figures["refused_by"]) == (Outcome.REFUSED, "1036")


async def test_a_privilege_that_was_withdrawn_is_a_proper_refusal_without_the_account_in_it(
    db: MariaDbDb,
) -> None:
    probe = writer(db)
    db.run("REVOKE UPDATE ON *.* FROM app")

    result = await probe.frozen()

    assert (result.outcome, result.figures["refused_by"]) == (Outcome.REFUSED, "1142")
    assert "UPDATE command denied" in result.reason
    assert "app" not in result.reason


async def test_a_denied_select_is_no_refusal_of_a_write(db: MariaDbDb) -> None:
    db.run("CREATE OR REPLACE USER narrow")
    db.run(f"GRANT UPDATE (v) ON {db.name}.t TO narrow")
    probe = Writer({"mysql": {"dsn": dsn(db.server, db.name, "narrow", ""), "table": "t", "column": "v"}})

    result = await probe.frozen()

    assert (result.outcome, result.figures["refused_by"]) == (Outcome.UNREACHABLE, "1143")


async def test_1290_of_another_option_is_no_refusal(db: MariaDbDb) -> None:
    from probes.refusal import Class
    from probes.stores.mysql import Answered

    said = "The MariaDB server is running with the --secure-file-priv option so it cannot execute this"

    judgement = MysqlWrite.model_validate(spec(db)).refusal.judge(Answered(1290, said))

    assert judgement.kind is Class.OTHER


async def test_what_is_refused_for_another_reason_is_unreachable(db: MariaDbDb) -> None:
    db.run("CREATE TABLE whole (id INT PRIMARY KEY)")
    cases = {
        "is not there": spec(db, "nowhere"),
        "1366": spec(db, "whole", canary={"id": "${canary}"}),
        "1054": spec(db, canary={"nope": "${canary}"}),
        "1045": {"mysql": {"dsn": dsn(db.server, db.name, "app", "wrong-secret"), "table": "t"}},
        "1044": {"mysql": {"dsn": dsn(db.server, "mysql", "stranger", ""), "table": "t"}},
    }
    db.run("CREATE OR REPLACE USER stranger")

    for said, each in cases.items():
        result = await Writer(each).frozen()

        assert result.outcome is Outcome.UNREACHABLE, said
        assert said in result.reason
        assert "secret" not in result.reason and "stranger" not in result.reason


async def test_a_configured_error_is_a_refusal_where_its_text_matches(db: MariaDbDb) -> None:
    db.run(
        "CREATE TRIGGER frozen BEFORE INSERT ON t FOR EACH ROW SIGNAL SQLSTATE '45000'"
        " SET MESSAGE_TEXT = 'closed for maintenance'"
    )
    matching = writer(db, **row(), refusal={"errno": 1644, "message": "maintenance"})
    other = writer(db, **row(), refusal={"errno": 1644, "message": "lunch"})

    assert (await matching.frozen()).outcome is Outcome.REFUSED
    assert (await other.frozen()).outcome is Outcome.UNREACHABLE


# -- leaks and drops --------------------------------------------------------------------------------


async def test_a_canary_that_leaks_is_read_back_and_deleted(db: MariaDbDb) -> None:
    probe = writer(db, **row())

    result = await probe.frozen()

    assert (result.outcome, result.figures["trace"]) == (Outcome.LEAKED, "none: undone")
    assert db.run("SELECT v FROM t ORDER BY id") == [("x",), ("y",)]


async def test_a_row_that_stays_although_the_insert_was_refused_leaks_behind_it(
    db: MariaDbDb,
) -> None:
    db.run("CREATE TABLE my (v VARCHAR(60) PRIMARY KEY) ENGINE=MyISAM")
    db.run(
        "CREATE TRIGGER too_late AFTER INSERT ON my FOR EACH ROW"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
    )
    probe = writer(db, table="my", canary={"v": "${canary}"}, refusal={"errno": [1644]})

    result = await probe.frozen()

    assert result.outcome is Outcome.LEAKED_BEHIND_REFUSAL
    assert db.run("SELECT * FROM my") == []


async def test_a_row_that_is_accepted_and_not_there_was_dropped(db: MariaDbDb) -> None:
    db.run("CREATE TRIGGER other BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 'other'")
    probe = writer(db, **row())

    result = await probe.frozen()

    assert result.outcome is Outcome.DROPPED


# -- no harm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["InnoDB", "Aria", "MyISAM"])
async def test_200_attempts_on_an_open_store_leave_no_trace(db: MariaDbDb, engine: str) -> None:
    db.run(f"CREATE TABLE e (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(9)) ENGINE={engine}")
    db.run("INSERT INTO e (v) VALUES ('a'), ('b')")
    before = db.dump(), db.run("SELECT @@gtid_binlog_pos"), db.run("CHECKSUM TABLE e")
    probe, pooled = writer(db, table="e"), writer(db, table="e", held=True)

    outcomes = {(await each.frozen()).outcome for _ in range(100) for each in (probe, pooled)}

    assert outcomes == {Outcome.LEAKED}
    assert (db.dump(), db.run("SELECT @@gtid_binlog_pos"), db.run("CHECKSUM TABLE e")) == before
    await pooled.probe.aclose()
    until(lambda: sessions(db.server) == 0, "all sessions are closed")


async def test_an_attempt_touches_no_row_that_others_have_locked(db: MariaDbDb) -> None:
    probe = writer(db)
    with db.connect(autocommit=False) as session, session.cursor() as cursor:
        cursor.execute("SELECT * FROM t FOR UPDATE")

        result = await probe.frozen()

        session.rollback()
    assert result.outcome is Outcome.LEAKED


@pytest.mark.parametrize("logged", ["MIXED", "STATEMENT"])
async def test_an_attempt_is_in_no_binlog_either_that_lists_statements(logged: str) -> None:
    with MariaDB(options={"binlog-format": logged}) as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a INT)")
        before = server.run("SELECT @@gtid_binlog_pos")
        probe = Writer({"mysql": {"dsn": server.dsn(database="d"), "table": "t"}})

        assert (await probe.frozen()).outcome is Outcome.LEAKED

        assert server.run("SELECT @@gtid_binlog_pos") == before
        server.run("UPDATE d.t SET a = a WHERE a = 1")
        assert server.run("SELECT @@gtid_binlog_pos") != before, "other writes of no row are in it"


async def test_what_a_canary_wrote_is_known_as_ours_by_its_gtid_and_its_value(db: MariaDbDb) -> None:
    probe = writer(db, **row())
    before = int(db.run("SELECT @@gtid_binlog_pos")[0][0].rpartition("-")[2])

    result = await probe.frozen()

    identity = ":".join(str(one) for one in db.run("SELECT @@hostname, @@port, @@datadir")[0])
    own = probe.tools.own
    assert all(("mysql", f"{identity}/0-1-{before + each}") in own for each in (1, 2))
    assert ("mysql", result.figures["canary"]) in own


async def test_a_refused_canary_does_not_step_auto_increment_and_an_accepted_one_does(db: MariaDbDb) -> None:
    def following() -> int:
        return int(db.run("SHOW CREATE TABLE t")[0][1].partition("AUTO_INCREMENT=")[2].split()[0])

    probe = writer(db, **row())
    before = following()
    db.server.read_only(True)
    for _ in range(20):
        assert (await probe.frozen()).outcome is Outcome.REFUSED
    db.server.read_only(False)
    assert following() == before

    for _ in range(20):
        assert (await probe.frozen()).outcome is Outcome.LEAKED

    assert following() == before + 20
    assert db.run("SELECT COUNT(*) FROM t") == [(2,)]


async def test_a_text_that_is_0_as_a_number_deletes_no_row_with_a_0(db: MariaDbDb) -> None:
    db.run("CREATE TABLE numbers (id INT, v VARCHAR(60))")
    db.run("INSERT INTO numbers VALUES (0, 'keep'), (0, 'me')")
    probe = writer(db, table="numbers", canary={"id": "${canary}"})
    one = canary("w", "n", 1.0)

    seen, undone = await probe.target.look(one), await probe.target.undo(one)

    assert (seen, undone) == (False, None)
    assert db.run("SELECT COUNT(*) FROM numbers") == [(2,)]


async def test_a_canary_may_be_a_number_or_a_uuid_and_the_row_is_known_by_it(db: MariaDbDb) -> None:
    db.run("CREATE TABLE big (id BIGINT UNSIGNED PRIMARY KEY, u UUID, n INT NOT NULL)")
    probe = writer(db, table="big", canary={"id": "${canary_int}", "u": "${canary_uuid}", "n": 1})

    result = await probe.frozen()

    assert (result.outcome, result.figures["trace"]) == (Outcome.LEAKED, "none: undone")
    assert db.run("SELECT * FROM big") == []


async def test_names_with_quotes_dots_percents_and_unicode_are_names(db: MariaDbDb) -> None:
    db.run(
        "CREATE TABLE `o.d`` d'\"%%s é🦊;--` (`%%(x)s ``'\"` VARCHAR(60), `2` INT)".replace("🦊", "猫") % ()
    )
    name = "`o.d`` d'\"%s é猫;--`"
    plain = writer(db, table=name)
    full = writer(db, table=f"`{db.name}`.{name}", canary={"%(x)s `'\"": "${canary}"})

    for probe in (plain, full):
        assert (await probe.frozen()).outcome is Outcome.LEAKED
    assert db.run(f"SELECT COUNT(*) FROM {name}") == [(0,)]


async def test_a_first_column_that_is_computed_is_passed_over(db: MariaDbDb) -> None:
    db.run("CREATE TABLE g (c INT AS (a + 1) STORED, a INT)")

    assert (await writer(db, table="g").frozen()).outcome is Outcome.LEAKED


# -- hangs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["no row", "canary", "held"])
async def test_a_write_that_waits_for_the_global_lock_is_unreachable_and_never_lands(
    db: MariaDbDb, kind: str
) -> None:
    probe = writer(db, held=kind == "held", **(row() if kind != "no row" else {}))
    await probe.probe.hold()
    before = db.dump()
    async with locked(db.server):
        result = await probe.frozen()
        took = probe.took
    after = db.dump()

    assert result.outcome is Outcome.UNREACHABLE
    assert "waits for a global lock: Waiting for backup lock" in result.reason
    assert result.figures["refused_by"] == "1317", "it was killed"
    assert took < TIMEOUT + SLACK
    assert after == before
    assert (await probe.frozen()).outcome is Outcome.LEAKED
    await probe.probe.aclose()


async def test_a_write_that_waits_for_a_table_says_so(db: MariaDbDb) -> None:
    probe = writer(db)
    async with locked(db.server, f"LOCK TABLES {db.name}.t WRITE"):
        result = await probe.frozen()

    assert "waits for a lock: Waiting for table metadata lock" in result.reason


async def test_a_server_that_hangs_is_unreachable_in_time_and_leaves_no_thread() -> None:
    with MariaDB() as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (v VARCHAR(60) PRIMARY KEY)")
        where = {"dsn": server.dsn(database="d"), "table": "t"}
        probe = Writer({"mysql": where})
        pooled = Writer({"mysql": where | {"canary": {"v": "${canary}"}}}, held=True)
        assert (await pooled.open()).outcome is Outcome.ACCEPTED
        server.pause()

        unanswered = await probe.frozen()
        took = probe.took
        sent = await pooled.frozen()
        server.resume()

        assert unanswered.outcome is sent.outcome is Outcome.UNREACHABLE
        assert took < TIMEOUT + SLACK
        until(lambda: not threads(), "no thread hangs", within=2.0)
        # What was sent to the hanging server is carried out when it goes on: that is found later.
        until(lambda: server.run("SELECT COUNT(*) FROM d.t") == [(1,)], "the write has landed")
        late = await pooled.frozen()
        assert late.outcome is Outcome.LEAKED
        assert "has been applied since" in late.reason
        assert server.run("SELECT COUNT(*) FROM d.t") == [(0,)]
        await pooled.probe.aclose()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("freezewatch-mysql")]


async def test_a_server_that_is_dead_or_dies_is_unreachable_and_is_found_again() -> None:
    with MariaDB() as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a INT)")
        where = {"mysql": {"dsn": server.dsn(database="d"), "table": "t"}}
        fresh, pooled = Writer(where), Writer(where, held=True)
        await pooled.probe.hold()
        assert (await pooled.frozen()).figures["from_before"] is True
        server.kill()

        dead = [await fresh.frozen(), await pooled.frozen(), await pooled.frozen()]
        server.start()
        again = [await fresh.frozen(), await pooled.frozen()]

        assert {each.outcome for each in dead} == {Outcome.UNREACHABLE}
        assert "connection refused" in dead[0].reason
        assert {each.outcome for each in again} == {Outcome.LEAKED}
        await pooled.probe.aclose()


async def test_nobody_listens() -> None:
    probe = Writer({"mysql": {"dsn": f"mysql://a:b@127.0.0.1:{free_port()}/d", "table": "t"}})

    result = await probe.frozen()

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "connection refused")


@pytest.mark.parametrize(
    "greeting",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64, b"\x4a\0\0\0\x0a5.5", secrets.token_bytes(4096)],
    ids=["closes", "http", "zeros", "cut off", "noise"],
)
async def test_what_is_no_mysql_is_unreachable(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        probe = Writer(
            {"mysql": {"dsn": f"mysql://a:b@127.0.0.1:{listener.getsockname()[1]}/d", "table": "t"}}
        )

        result = await probe.frozen()

    assert result.outcome is Outcome.UNREACHABLE
    assert probe.took < TIMEOUT + SLACK


async def test_an_attempt_that_is_cancelled_leaves_no_session_and_no_thread(db: MariaDbDb) -> None:
    probe, pooled = writer(db, timeout=30.0), writer(db, timeout=30.0, held=True)
    await pooled.probe.hold()
    async with locked(db.server):
        running = [asyncio.ensure_future(each.frozen()) for each in (probe, pooled)]
        await asyncio.to_thread(
            until,
            lambda: [row[6] for row in db.run("SHOW PROCESSLIST")].count("Waiting for backup lock") == 2,
            "both wait",
        )

        for each in running:
            each.cancel()
        done = await asyncio.gather(*running, return_exceptions=True)

        assert [type(each) for each in done] == [asyncio.CancelledError] * 2
        until(lambda: not threads(), "the threads have ended", within=1.0)
    until(lambda: sessions(db.server) == 0, "the sessions are gone")


async def test_ten_times_the_load_at_once_is_answered_and_leaves_nothing(db: MariaDbDb) -> None:
    probes = [writer(db, timeout=10.0, **(row() if number % 2 else {})) for number in range(60)]
    for number, each in enumerate(probes):
        each.probe.name = f"n{number}"
    db.server.read_only(True)

    results = await asyncio.gather(*(each.frozen() for each in probes))

    assert {each.outcome for each in results} == {Outcome.REFUSED}
    until(lambda: sessions(db.server) == 0, "all sessions are closed")


async def test_too_many_connections_are_no_refusal() -> None:
    with MariaDB(options={"max-connections": "10"}) as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a INT)")
        server.create_user("app", "secret")
        crowd = [server.connect("app", "secret") for _ in range(10)]

        result = await Writer({"mysql": {"dsn": server.dsn("app", "secret", "d"), "table": "t"}}).frozen()

        assert result.outcome is Outcome.UNREACHABLE
        assert "1040" in result.reason
        for each in crowd:
            each.close()


async def test_without_the_driver_the_module_loads_and_the_attempt_says_what_to_install() -> None:
    program = """
import asyncio, sys, time
sys.modules["pymysql"] = None
sys.modules["pymysqlreplication"] = None
from probes.audit.mysql.source import MysqlAudit, mysql_audit
from probes.answer import OwnFault
from probes.tools import Tools
from probes.write.canary import canary
from probes.write.mysql.kind import MysqlWrite, mysql_write

async def main():
    tools = Tools(window="w", opens=0, closes=1, agent="t", transport=None)
    place = {"dsn": "mysql://a@127.0.0.1:9/d"}
    target = mysql_write(MysqlWrite.model_validate({"mysql": place | {"table": "t"}}), 1.0, tools)
    source = mysql_audit(MysqlAudit.model_validate({"mysql": place}), 1.0, tools)
    for asked in (target.attempt(canary("w", "n", 1.0)), source.read(None)):
        try:
            await asked
        except OwnFault as error:
            print(error.reason)

asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.splitlines() == ["the driver is not installed: pip install 'freezewatch[mysql]'"] * 2


async def test_a_watchdog_without_file_descriptors_blames_itself(db: MariaDbDb) -> None:
    probe = writer(db)
    assert (await probe.frozen()).outcome is Outcome.LEAKED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        result = await probe.frozen()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (result.outcome, result.figures["why"]) == (Outcome.SKIPPED, "own_fault")


# -- the session from before ------------------------------------------------------------------------


async def test_a_session_that_was_killed_cannot_write_any_more_and_the_next_one_is_not_from_before(
    db: MariaDbDb,
) -> None:
    pooled = writer(db, held=True)
    await pooled.probe.hold()
    opened = time.time()
    pooled.target._held._opens = opened + 0.001  # type: ignore[attr-defined]
    db.run("SET GLOBAL tx_read_only = 1")
    (number,) = db.run("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'app'")[0]
    db.run(f"KILL {number}")
    until(lambda: sessions(db.server) == 0, "it is gone")

    killed, reopened = await pooled.frozen(), await pooled.frozen()

    assert (killed.outcome, killed.figures["from_before"]) == (Outcome.REFUSED, True)
    assert killed.reason == "the server ended the session from before the window"
    assert (reopened.outcome, reopened.figures["from_before"]) == (Outcome.REFUSED, False)
    await pooled.probe.aclose()


async def test_a_session_that_was_lost_in_another_way_is_no_refusal(db: MariaDbDb) -> None:
    pooled = writer(db, held=True)
    await pooled.probe.hold()
    held = pooled.target._held  # type: ignore[attr-defined]
    (await held.get()).run("SET SESSION wait_timeout = 1")
    until(lambda: sessions(db.server) == 0, "the server has closed an idle session")

    lost, reopened = await pooled.frozen(), await pooled.frozen()

    assert lost.outcome is Outcome.UNREACHABLE
    assert reopened.outcome is Outcome.LEAKED
    await pooled.probe.aclose()


async def test_hold_raises_nothing_and_opens_one_session(
    db: MariaDbDb,
) -> None:
    nobody = Writer({"mysql": {"dsn": f"mysql://a:b@127.0.0.1:{free_port()}/d", "table": "t"}}, held=True)
    await nobody.probe.hold()
    pooled = writer(db, held=True)

    await pooled.probe.hold()
    await pooled.probe.hold()

    assert sessions(db.server) == 1
    await pooled.probe.aclose()
    until(lambda: sessions(db.server) == 0, "it is closed")


# -- TLS --------------------------------------------------------------------------------------------


async def test_tls_is_taken_and_verified_as_the_dsn_says() -> None:
    folder = give(new_folder(), account("mysql"))
    cert, key = certificate(folder, "127.0.0.1")
    key.chmod(0o644)
    with MariaDB(options={"ssl-cert": str(cert), "ssl-key": str(key)}) as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a INT)")
        server.run("CREATE USER app REQUIRE SSL")
        server.run("GRANT ALL ON d.* TO app")
        outcomes = {}
        for options in ("", "?tls=require", f"?tls=verify&tls_ca={cert}", "?tls=verify", "?tls=off"):
            where = f"mysql://app@127.0.0.1:{server.port}/d{options}"
            outcomes[options.partition("&")[0] + "ca" * ("tls_ca" in options)] = await Writer(
                {"mysql": {"dsn": where, "table": "t"}}
            ).frozen()

    assert outcomes[""].outcome is outcomes["?tls=require"].outcome is Outcome.LEAKED
    assert outcomes["?tls=verifyca"].outcome is Outcome.LEAKED
    assert outcomes["?tls=verify"].outcome is outcomes["?tls=off"].outcome is Outcome.UNREACHABLE
    assert "not trusted" in outcomes["?tls=verify"].reason


# -- configuration ----------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"mysql": {"dsn": "mysql://app:hush-hush@db/shop", "table": "t"}}


def changed(path: str, value: Any) -> dict[str, Any]:
    first, _, second = path.partition(".")
    return GOOD | {first: (GOOD.get(first) or {}) | {second: value} if second else value}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mysql", None),
        ("mysql", "mysql://app:hush-hush@db/shop"),
        ("mysql.dsn", 1),
        ("mysql.dsn", "hush-hush"),
        ("mysql.dsn", "postgres://app:hush-hush@db/shop"),
        ("mysql.dsn", "mysql://db/shop"),
        ("mysql.dsn", "mysql://app:hush-hush@db:99999/shop"),
        ("mysql.dsn", "mysql://app:hush-hush@db:0/shop"),
        ("mysql.dsn", "mysql://app:hush-hush@db"),
        ("mysql.dsn", "mysql://app:hush-hush@db/shop?ssl=1"),
        ("mysql.dsn", "mysql://app:hush-hush@db/shop?tls=maybe"),
        ("mysql.dsn", "mysql://app:hush-hush@db/shop?tls_ca=/x"),
        ("mysql.dsn", "mysql://app:hush#hush@db/shop"),
        ("mysql.table", ""),
        ("mysql.table", 5),
        ("mysql.table", "a.b.c"),
        ("mysql.table", "a."),
        ("mysql.table", ".a"),
        ("mysql.table", "`a"),
        ("mysql.table", "a`b"),
        ("mysql.table", "x" * 65),
        ("mysql.column", ""),
        ("mysql.column", ["a"]),
        ("mysql.canary", {}),
        ("mysql.canary", {"v": 1}),
        ("mysql.canary", {"v": ["${canary}"]}),
        ("mysql.canary", "${canary}"),
        ("mysql.hostname", "db"),
        ("held", "perhaps"),
        ("refusal.errno", []),
        ("refusal.errno", [True]),
        ("refusal.errno", ["many"]),
        ("refusal.errno", [200]),
        ("refusal.message", "("),
        ("refusal.status", [423]),
        ("read_back", {}),
    ],
)
def test_a_mistake_in_the_configuration_is_one_and_its_text_shows_no_secret(path: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        MysqlWrite.model_validate(changed(path, value))

    told = "; ".join(str(error["msg"]) for error in refused.value.errors())
    assert "hush" not in told


def test_a_configuration_shows_no_password_and_has_its_defaults() -> None:
    good = MysqlWrite.model_validate(GOOD)

    assert "hush" not in repr(good) and "hush" not in repr(good.mysql.server)
    assert good.mysql.server.place == "db:3306/shop"
    assert good.refusal.errno == [1036, 1142, 1143, 1290, 1792, 1874, 3989]
    [(suffix, held, slower)] = good.beside
    assert (suffix, held.held, held.beside, slower) == ("held", True, [], 1.0)
    assert MysqlWrite.model_validate(GOOD | {"held": False}).beside == []


def test_column_and_canary_exclude_each_other() -> None:
    both = {"column": "v", "canary": {"v": "${canary}"}}
    with pytest.raises(ValidationError, match="give column or canary"):
        MysqlWrite.model_validate(GOOD | {"mysql": GOOD["mysql"] | both})
