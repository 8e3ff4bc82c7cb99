"""Write attempts on real PostgreSQL servers: open, frozen in several ways, locked, hung, killed, lying."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from pydantic import ValidationError

from probes.answer import OwnFault
from probes.base import Outcome, Result, Run, Why
from probes.http import Transport
from probes.stores.postgres import Server, Unreachable, named, quoted
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.postgres.spec import table_parts
from probes.write.postgres.sql import shows
from probes.write.postgres.target import PostgresWrite, postgres_write
from tests.servers.fixtures import PostgresDb, fresh_postgres
from tests.servers.machine import free_port, until
from tests.servers.postgres import Postgres

from .leftovers import Held, settled

pytestmark = pytest.mark.xdist_group("postgres")

OPENS = 1_000_000.0
"""When the window opens, by the clock that these tests set."""
ROLES = ("app", "reader", "stubborn", "lone")
TABLE = "CREATE TABLE products (id bigserial PRIMARY KEY, name text, code uuid, amount bigint DEFAULT 1)"
ROW = {"name": "${canary}", "code": "${canary_uuid}", "amount": "${canary_int}"}
STATEMENT = {
    "statement": "INSERT INTO products (name) SELECT ${canary} WHERE 5 % 2 = 1",
    "read_back_sql": "SELECT count(*) FROM products WHERE name = ${canary}",
    "undo_sql": "DELETE FROM products WHERE name = ${canary}",
}
WAYS: dict[str, dict[str, Any]] = {
    "no row": {"table": "products"},
    "canary": {"table": "products", "canary": ROW},
    "statement": STATEMENT,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as started:
        for role in ROLES:
            started.run(f"CREATE ROLE {role} LOGIN")
        yield started


@pytest.fixture
def db(server: Postgres) -> Iterator[PostgresDb]:
    """A fresh database with one table, which the role app may write."""
    with fresh_postgres(server) as database:
        database.run(TABLE)
        database.run("INSERT INTO products (name) VALUES ('a chair')")
        database.run("GRANT ALL ON products, products_id_seq TO app, stubborn, lone")
        database.run("GRANT SELECT ON products TO reader")
        yield database
    for role in ROLES:
        server.run(f"ALTER ROLE {role} RESET ALL")


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each way to write."""
    return WAYS[request.param]


class Clock:
    """The watchdog's clock, set by hand."""

    def __init__(self, now: float = OPENS + 60) -> None:
        self.time = now

    def __call__(self) -> float:
        return self.time


def tools(clock: Callable[[], float] | None = None) -> Tools:
    return Tools(
        window="w", opens=OPENS, closes=OPENS + 3600, agent="t", transport=Transport(), now=clock or Clock()
    )


def attempts(
    dsn: str,
    *,
    timeout: float = 2.0,
    held: bool = False,
    clock: Callable[[], float] | None = None,
    given: Tools | None = None,
    refusal: dict[str, Any] | None = None,
    **options: Any,
) -> WriteAttempts:
    spec = PostgresWrite.model_validate({"postgres": {"dsn": dsn, **options}, "refusal": refusal or {}})
    asked = spec.beside[0][1] if held else spec
    target = postgres_write(asked, timeout, given or tools(clock))  # type: ignore[arg-type]
    return WriteAttempts(name="shop", surface="shop", window="w", target=target, timeout=timeout)


async def once(probe: WriteAttempts, slot: float = 1.0, *, frozen: bool = True) -> Result:
    return await probe.run(Run(slot=slot, phase="frozen" if frozen else "baseline", frozen=frozen))


def sessions(db: PostgresDb) -> int:
    """Sessions of the watchdog in this database."""
    [(number,)] = db.run(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'freezewatch' AND datname = current_database()"
    )
    return int(number)


# -- the matrix: what the server does -> outcome -------------------------------------------------------


async def test_an_open_server_leaks_and_no_row_is_left(db: PostgresDb, way: dict[str, Any]) -> None:
    rows = db.run("SELECT * FROM products")
    probe = attempts(db.dsn(), **way)

    result = await once(probe)

    assert result.outcome is Outcome.LEAKED, result.reason
    assert result.figures["trace"] in ("none", "none: undone")
    assert set(result.phases) == {"connect", "statement"}
    assert db.run("SELECT * FROM products") == rows
    assert (await once(probe, 2.0)).outcome is Outcome.SKIPPED


async def test_while_writes_are_open_the_same_attempt_is_accepted(
    db: PostgresDb, way: dict[str, Any]
) -> None:
    result = await once(attempts(db.dsn(), **way), frozen=False)

    assert result.outcome is Outcome.ACCEPTED, result.reason
    assert db.run("SELECT count(*) FROM products") == [(1,)]


async def test_a_server_that_is_read_only_by_default_refuses(db: PostgresDb, way: dict[str, Any]) -> None:
    db.server.read_only(True)

    result = await once(attempts(db.dsn(), **way))

    assert result.outcome is Outcome.REFUSED, result.reason
    assert result.figures["refused_by"] == "25006"
    assert result.figures["by"] == "configuration file"
    assert result.figures["verified"] is True
    assert "set for the server" in result.reason


async def test_a_database_that_is_read_only_refuses_fresh_sessions(db: PostgresDb) -> None:
    db.run(f"ALTER DATABASE {db.name} SET default_transaction_read_only = on")

    result = await once(attempts(db.dsn(), table="products"))

    assert (result.outcome, result.figures["by"]) == (Outcome.REFUSED, "database")


async def test_a_hot_standby_refuses(db: PostgresDb, way: dict[str, Any]) -> None:
    with db.server.standby() as standby:
        result = await once(attempts(standby.dsn(dbname=db.name), **way))

    assert result.outcome is Outcome.REFUSED, result.reason
    assert (result.figures["refused_by"], result.figures["by"]) == ("25006", "hot standby")


async def test_a_revoked_privilege_refuses_and_says_what_it_may_mean(
    db: PostgresDb, way: dict[str, Any]
) -> None:
    probe = attempts(db.dsn("app"), **way)
    assert (await once(probe, frozen=False)).outcome is Outcome.ACCEPTED

    db.run("REVOKE INSERT, UPDATE ON products FROM app")
    seen_before = await once(probe, 2.0)
    never_seen = await once(attempts(db.dsn("reader"), **way), 3.0)

    assert (seen_before.outcome, seen_before.figures["refused_by"]) == (Outcome.REFUSED, "42501")
    assert "warnings" not in seen_before.figures
    assert never_seen.outcome is Outcome.REFUSED
    assert "may never have had the privilege" in str(never_seen.figures["warnings"])


async def test_exactly_the_configured_codes_are_refusals(db: PostgresDb) -> None:
    only_read_only = await once(attempts(db.dsn("reader"), table="products", refusal={"sqlstate": 25006}))
    db.server.read_only(True)
    only_privilege = await once(attempts(db.dsn(), table="products", refusal={"sqlstate": [42501]}))

    assert only_read_only.outcome is Outcome.UNREACHABLE
    assert only_privilege.outcome is Outcome.UNREACHABLE
    assert only_privilege.reason.startswith("25006: ")


async def test_a_role_that_overrides_the_setting_leaks(db: PostgresDb) -> None:
    db.server.run("ALTER ROLE stubborn SET default_transaction_read_only = off")
    db.server.read_only(True)

    result = await once(attempts(db.dsn("stubborn"), table="products"))

    assert result.outcome is Outcome.LEAKED


async def test_a_refusal_that_holds_for_one_role_alone_is_told(db: PostgresDb) -> None:
    db.server.run("ALTER ROLE lone SET default_transaction_read_only = on")

    result = await once(attempts(db.dsn("lone"), table="products"))

    assert result.outcome is Outcome.REFUSED
    assert "another role may still write" in str(result.figures["warnings"])


async def test_what_the_sessions_own_options_refuse_proves_nothing(db: PostgresDb) -> None:
    dsn = f"{db.dsn()}?options=-c%20default_transaction_read_only%3Don"

    result = await once(attempts(dsn, table="products"))

    assert result.outcome is Outcome.UNREACHABLE
    assert "own options" in result.reason


async def test_options_of_the_environment_are_kept_out(
    db: PostgresDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")

    result = await once(attempts(db.dsn(), table="products"))

    assert result.outcome is Outcome.LEAKED


async def test_a_pool_that_looks_for_a_writable_server_finds_the_frozen_one(db: PostgresDb) -> None:
    db.server.read_only(True)
    dsn = f"{db.dsn()}?target_session_attrs=read-write"

    result = await once(attempts(dsn, table="products"))

    assert result.outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "no_such_table"}, "sees no table no_such_table"),
        ({"table": "no_such_schema.products"}, "sees no table no_such_schema.products"),
        ({"table": "products", "column": "nothing"}, "a column 'nothing'"),
        ({"table": "no_such_table", "canary": {"a": "${canary}"}}, "42P01: "),
        ({"table": "products", "canary": {"nothing": "${canary}"}}, "42703: "),
        ({"table": "products", "canary": {"amount": "${canary}"}}, "22P02: "),
        ({"table": "products", "canary": {"name": "${canary}", "id": 1}}, "23505: "),
        ({**STATEMENT, "statement": "INSERT INTO nowhere VALUES (${canary})"}, "42P01: "),
        ({**STATEMENT, "statement": "INSRT ${canary}"}, "42601: "),
        ({**STATEMENT, "statement": "SELECT ${canary}; DELETE FROM products"}, "42601: "),
    ],
)
async def test_an_error_of_another_kind_proves_nothing(
    db: PostgresDb, options: dict[str, Any], said: str
) -> None:
    result = await once(attempts(db.dsn(), **options))

    assert result.outcome is Outcome.UNREACHABLE
    assert said in result.reason
    assert db.run("SELECT count(*) FROM products") == [(1,)]


async def test_a_trigger_that_swallows_the_row_is_a_silent_drop(db: PostgresDb) -> None:
    db.run("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    db.run("CREATE TRIGGER swallow BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION swallow()")

    result = await once(attempts(db.dsn(), table="products", canary=ROW))

    assert result.outcome is Outcome.DROPPED


async def test_a_row_that_was_written_behind_a_refusal_is_found_and_undone(db: PostgresDb) -> None:
    db.run("CREATE EXTENSION dblink")
    db.run(
        "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.amount = 7 THEN PERFORM"
        " dblink_exec(format('host=127.0.0.1 port=%s user=postgres dbname=%s', current_setting('port'),"
        " current_database()), format('INSERT INTO products (name, amount) VALUES (%L, 8)', NEW.name));"
        " RAISE EXCEPTION 'the shop is read-only' USING ERRCODE = '25006'; END IF; RETURN NEW; END $$"
    )
    db.run("CREATE TRIGGER lie BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION lie()")

    result = await once(attempts(db.dsn(), table="products", canary={"name": "${canary}", "amount": 7}))

    assert result.outcome is Outcome.LEAKED_BEHIND_REFUSAL, result.reason
    assert result.figures["undone"] is True
    assert db.run("SELECT count(*) FROM products") == [(1,)]


async def test_a_row_that_cannot_be_deleted_is_owed(db: PostgresDb) -> None:
    db.run("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    db.run("CREATE TRIGGER keep BEFORE DELETE ON products FOR EACH ROW EXECUTE FUNCTION keep()")
    probe = attempts(db.dsn(), table="products", canary=ROW)

    kept = await once(probe)
    db.run("DROP TRIGGER keep ON products")
    await once(probe, 2.0, frozen=False)

    assert (kept.outcome, kept.figures["owed"]) == (Outcome.LEAKED, 1)
    assert "still there" in kept.reason
    assert db.run("SELECT count(*) FROM products") == [(1,)]


async def test_a_lock_is_no_refusal_and_ends_within_the_timeout(db: PostgresDb, way: dict[str, Any]) -> None:
    with db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE products")
        began = time.monotonic()
        result = await once(attempts(db.dsn(), timeout=1.0, **way))
        took = time.monotonic() - began
        waiting = db.run("SELECT count(*) FROM pg_locks WHERE NOT granted")

    assert result.outcome is Outcome.UNREACHABLE, result.reason
    assert "lock" in result.reason
    assert waiting == [(0,)], "nobody of ours is left in the queue for the lock"
    assert took < 2.5  # the attempt and its read-back, each within the timeout


async def test_a_server_that_hangs_is_unreachable_within_the_timeout(way: dict[str, Any]) -> None:
    with Postgres() as own:
        own.run(TABLE)
        own.pause()
        began = time.monotonic()
        result = await once(attempts(own.dsn(), timeout=1.0, **way))
        took = time.monotonic() - began
        own.resume()

        assert result.outcome is Outcome.UNREACHABLE
        assert "within 1 s" in result.reason
        assert took < (1.3 if "canary" not in way and "statement" not in way else 2.3)


async def test_a_session_that_hangs_after_it_was_opened_is_cut_off(db: PostgresDb) -> None:
    own = Server(db.dsn(), 30.0)
    session = await own.connect(2.0)
    began = time.monotonic()

    with pytest.raises(Unreachable, match=r"gave no answer within 0\.3 s"):
        await session.run("SELECT pg_sleep(20)", within=0.3)

    assert time.monotonic() - began < 1.0
    assert session.lost
    await session.close()


async def test_a_killed_or_absent_server_is_unreachable(way: dict[str, Any]) -> None:
    with Postgres() as own:
        own.run(TABLE)
        own.kill()
        killed = await once(attempts(own.dsn(), **way))
    absent = await once(attempts(f"postgresql://app@127.0.0.1:{free_port()}/shop", **way))

    for result in (killed, absent):
        assert result.outcome is Outcome.UNREACHABLE
        assert "Connection refused" in result.reason


async def test_a_server_that_is_killed_midway_is_unreachable(way: dict[str, Any]) -> None:
    with Postgres() as own:
        own.run(TABLE)
        with own.connect(autocommit=False) as holder:
            holder.execute("LOCK TABLE products")
            running = asyncio.ensure_future(once(attempts(own.dsn(), timeout=5.0, **way)))
            await asyncio.to_thread(
                until,
                lambda: own.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)],
                "the attempt waits for the lock",
            )
            await asyncio.to_thread(own.kill)
            result = await running
            holder.close()

        assert result.outcome is Outcome.UNREACHABLE, result.reason


async def test_reasons_hold_neither_password_nor_user(server: Postgres) -> None:
    for dsn in (
        f"postgresql://mallory:s3cr3t-word@127.0.0.1:{server.port}/postgres",
        f"postgresql://postgres:s3cr3t-word@127.0.0.1:{server.port}/nowhere",
        "postgresql://mallory:s3cr3t-word@127.0.0.1:1/postgres",
        "postgresql://mallory:s3cr3t-word@no-such-host.invalid/postgres",
    ):
        probe = attempts(dsn, table="products")
        result = await once(probe)

        said = f"{result.reason} {probe.target!r} {Server(dsn, 1.0)!r}"
        assert result.outcome in (Outcome.UNREACHABLE, Outcome.SKIPPED), said
        assert "s3cr3t" not in said
        assert "mallory" not in said


# -- a session from before the window --------------------------------------------------------------------


async def test_a_pooled_session_leaks_where_fresh_ones_are_refused(
    db: PostgresDb, way: dict[str, Any]
) -> None:
    clock = Clock(OPENS - 60)
    held, fresh = attempts(db.dsn(), held=True, clock=clock, **way), attempts(db.dsn(), **way)
    await held.hold()
    db.run(f"ALTER DATABASE {db.name} SET default_transaction_read_only = on")
    clock.time = OPENS + 60

    over_fresh, over_held = await once(fresh), await once(held)
    await held.aclose()

    assert over_fresh.outcome is Outcome.REFUSED
    assert over_held.outcome is Outcome.LEAKED, over_held.reason
    assert "was accepted over a session from before the window while frozen" in over_held.reason
    assert over_held.figures["from_before"] is True
    assert over_held.figures["session_since"] == "1970-01-12T13:45:40Z"
    assert "not undone" not in over_held.reason
    assert db.run("SELECT count(*) FROM products") == [(1,)], "undone over the session that let it in"


async def test_a_switch_of_the_whole_server_reaches_the_session_from_before(db: PostgresDb) -> None:
    clock = Clock(OPENS - 60)
    held = attempts(db.dsn(), held=True, clock=clock, table="products")
    await held.hold()
    db.server.read_only(True)
    clock.time = OPENS + 60

    result = await once(held)
    await held.aclose()

    assert (result.outcome, result.figures["from_before"]) == (Outcome.REFUSED, True)


async def test_a_session_that_the_server_ended_is_shut_out_and_the_next_is_not_from_before(
    db: PostgresDb, way: dict[str, Any]
) -> None:
    clock = Clock(OPENS - 60)
    held = attempts(db.dsn(), held=True, clock=clock, **way)
    await held.hold()
    clock.time = OPENS + 60
    db.server.read_only(True)
    db.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'freezewatch'")

    ended, reopened = await once(held, 1.0), await once(held, 2.0)
    await held.aclose()

    assert (ended.outcome, ended.figures["from_before"]) == (Outcome.REFUSED, True), ended.reason
    assert "the server ended the session from before the window" in ended.reason
    assert ended.figures["refused_by"] == "57P01"
    assert (reopened.outcome, reopened.figures["from_before"]) == (Outcome.REFUSED, False)


async def test_a_session_from_the_window_that_is_ended_proves_nothing(db: PostgresDb) -> None:
    held = attempts(db.dsn(), held=True, table="products", canary=ROW)
    assert (await once(held, frozen=False)).outcome is Outcome.ACCEPTED
    db.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'freezewatch'")

    result = await once(held, 2.0)
    await held.aclose()

    assert result.outcome is Outcome.UNREACHABLE


async def test_a_session_that_is_lost_in_another_way_proves_nothing() -> None:
    with Postgres() as own:
        own.run(TABLE)
        clock = Clock(OPENS - 60)
        held = attempts(own.dsn(), held=True, clock=clock, table="products")
        await held.hold()
        clock.time = OPENS + 60
        own.restart(crash=True)

        lost, reopened = await once(held, 1.0), await once(held, 2.0)
        await held.aclose()

    assert lost.outcome is Outcome.UNREACHABLE, lost.reason
    assert (reopened.outcome, reopened.figures["from_before"]) == (Outcome.LEAKED, False)


async def test_holding_leaves_no_transaction_open_and_reopens_what_was_lost(db: PostgresDb) -> None:
    held = attempts(db.dsn(), held=True, clock=Clock(OPENS - 60), table="products")
    await held.hold()
    db.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'freezewatch'")
    await held.hold()

    [(state, begun)] = db.run(
        "SELECT state, xact_start FROM pg_stat_activity WHERE application_name = 'freezewatch'"
    )
    await held.aclose()

    assert (state, begun) == ("idle", None)
    until(lambda: sessions(db) == 0, "the session is gone")


async def test_holding_raises_nothing_when_nobody_listens() -> None:
    held = attempts(f"postgresql://app@127.0.0.1:{free_port()}/shop", held=True, table="products")

    await held.hold()
    result = await once(held)

    assert (result.outcome, result.figures["from_before"]) == (Outcome.UNREACHABLE, False)


async def test_a_failed_statement_leaves_the_held_session_usable(db: PostgresDb) -> None:
    held = attempts(db.dsn(), held=True, table="products", canary={"name": "${canary}", "id": 1})

    first, second = await once(held, 1.0), await once(held, 2.0)
    [(state,)] = db.run("SELECT state FROM pg_stat_activity WHERE application_name = 'freezewatch'")
    await held.aclose()

    assert first.reason == second.reason
    assert first.reason.startswith("23505: ")
    assert state == "idle"


# -- no harm -------------------------------------------------------------------------------------------


def footprint(db: PostgresDb) -> tuple[object, ...]:
    """What a write of any kind would move: contents, sequences, log, transaction ids."""
    return (
        db.dump(),
        db.run("SELECT last_value, is_called FROM products_id_seq"),
        db.run("SELECT pg_snapshot_xmax(pg_current_snapshot())"),
        db.run("SELECT n_tup_ins, n_tup_upd, n_tup_del, n_dead_tup FROM pg_stat_user_tables"),
    )


async def test_two_hundred_attempts_on_an_open_server_leave_nothing(db: PostgresDb) -> None:
    target = attempts(db.dsn(), table="products").target
    db.run("VACUUM ANALYZE")
    before = footprint(db)

    for number in range(200):
        tried = await target.attempt(canary("w", "shop", float(number)))
        assert tried.judgement is not None
        assert (tried.judgement.kind, tried.traceless) == ("accepted", True)

    assert footprint(db) == before


async def test_refused_attempts_leave_nothing(db: PostgresDb, way: dict[str, Any]) -> None:
    probe = attempts(db.dsn(), **way)
    db.run("VACUUM ANALYZE")
    db.server.read_only(True)
    before = footprint(db)

    outcomes = {(await once(probe, float(number))).outcome for number in range(40)}

    assert outcomes == {Outcome.REFUSED}
    assert footprint(db) == before


@pytest.mark.parametrize("name", ["canary", "statement"])
async def test_leaks_of_rows_are_all_undone(db: PostgresDb, name: str) -> None:
    probe = attempts(db.dsn(), **WAYS[name])
    rows = db.run("SELECT * FROM products")

    for number in range(20):
        probe.stopped = None
        assert (await once(probe, float(number))).outcome is Outcome.LEAKED

    assert db.run("SELECT * FROM products") == rows


async def test_own_transactions_are_noted_by_server_and_number(db: PostgresDb) -> None:
    given = tools()
    [(system,)] = db.run("SELECT system_identifier::text FROM pg_control_system()")
    [(before,)] = db.run("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int")

    await once(attempts(db.dsn(), given=given, table="products", canary=ROW))

    assert given.own.tokens("postgres") == [f"{system}:{before}", f"{system}:{before + 1}"]


async def test_a_statement_trigger_that_fires_is_told(db: PostgresDb) -> None:
    db.run("CREATE TABLE log (at timestamptz)")
    db.run(
        "CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN INSERT INTO log VALUES (now()); RETURN NULL; END'"
    )
    db.run('CREATE TRIGGER "on change" AFTER UPDATE ON products EXECUTE FUNCTION logged()')

    result = await once(attempts(db.dsn(), table="products"))

    assert result.outcome is Outcome.LEAKED
    assert result.figures["trace"] == "unknown: statement triggers fire: on change"
    assert db.run("SELECT count(*) FROM log") == [(1,)]


# -- tables and values of every kind -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ['"We""ird: %s"', "größe", '"Sché%ma"."t"', '"a.b"."c.d"', '"x; DROP TABLE products; --"']
)
async def test_names_of_every_kind_are_quoted(db: PostgresDb, name: str) -> None:
    sql_name = ".".join(map(quoted, table_parts(name)))
    for schema in table_parts(name)[:-1]:
        db.run(f"CREATE SCHEMA {quoted(schema)}")
    db.run(f'CREATE TABLE {sql_name} ("Näm%e ""q"" ${{x}}" text)')

    no_row = await once(attempts(db.dsn(), table=name))
    a_row = await once(attempts(db.dsn(), table=name, canary={'Näm%e "q" ${x}': "x-${canary}'; --"}))

    assert no_row.outcome is Outcome.LEAKED, no_row.reason
    assert a_row.outcome is Outcome.LEAKED, a_row.reason
    assert a_row.figures["undone"] is True
    assert db.run("SELECT count(*) FROM products") == [(1,)]


def test_a_table_is_read_as_sql_reads_it() -> None:
    assert table_parts("Public.Products") == ("public", "products")
    assert table_parts('"Public"."a.""b"') == ("Public", 'a."b')
    assert table_parts("größe") == ("größe",)


async def test_generated_and_identity_columns_are_left_alone(db: PostgresDb) -> None:
    db.run(
        "CREATE TABLE odd (id int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (1) STORED,"
        " plain text)"
    )

    assert (await once(attempts(db.dsn(), table="odd"))).outcome is Outcome.LEAKED


async def test_partitioned_tables_and_views_can_be_asked(db: PostgresDb) -> None:
    db.run("CREATE TABLE parts (id int) PARTITION BY RANGE (id)")
    db.run("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    db.run("CREATE VIEW named AS SELECT name FROM products")

    for table in ("parts", "named"):
        assert (await once(attempts(db.dsn(), table=table))).outcome is Outcome.LEAKED


async def test_a_column_that_was_dropped_is_looked_for_again(db: PostgresDb) -> None:
    db.run("CREATE TABLE changing (a int, b int)")
    probe = attempts(db.dsn(), table="changing")
    assert (await once(probe)).outcome is Outcome.LEAKED
    db.run("ALTER TABLE changing DROP COLUMN a")

    outcomes = []
    for slot in (2.0, 3.0):
        probe.stopped = None
        outcomes.append((await once(probe, slot)).outcome)

    assert outcomes == [Outcome.UNREACHABLE, Outcome.LEAKED]


def test_what_a_read_back_shows() -> None:
    assert [shows(rows) for rows in ([], [(None,)], [(False,)], [(0,)])] == [False] * 4
    assert [shows(rows) for rows in ([(1,)], [(True,)], [(0, 0)], [(0,), (0,)], [("",)])] == [True] * 5


# -- load, cancelling, two at once, what is ours ----------------------------------------------------------


async def test_many_at_once_each_have_their_own_answer(db: PostgresDb) -> None:
    probes = [attempts(db.dsn(), timeout=10.0, table="products", canary=ROW) for _ in range(20)]

    results = await asyncio.gather(*(once(probe, float(n)) for n, probe in enumerate(probes)))

    assert {result.outcome for result in results} == {Outcome.LEAKED}
    assert db.run("SELECT count(*) FROM products") == [(1,)]


@pytest.mark.parametrize("held", [False, True])
async def test_a_cancelled_attempt_leaves_no_session_and_no_row(db: PostgresDb, held: bool) -> None:
    await once(attempts(db.dsn(), table="products"))  # the driver is loaded, and what it keeps is open
    before = Held.now()
    probe = attempts(db.dsn(), held=held, timeout=5.0, table="products", canary=ROW)

    with db.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE products")
        for wait in (0.0, 0.002, 0.005, 0.01, 0.05, 0.2):
            running = asyncio.ensure_future(once(probe, wait))
            await asyncio.sleep(wait)
            running.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert time.monotonic() - began < 0.5
    await probe.aclose()
    await settled()

    await before.assert_no_more_now()
    until(lambda: sessions(db) == 0, "no session of ours is left")
    assert db.run("SELECT count(*) FROM products") == [(1,)]


async def test_a_server_without_room_for_sessions_is_unreachable_and_not_ours(db: PostgresDb) -> None:
    db.run(f"ALTER DATABASE {db.name} CONNECTION LIMIT 0")

    result = await once(attempts(db.dsn("app"), table="products"))

    assert result.outcome is Outcome.UNREACHABLE
    assert "too many connections" in result.reason


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Every descriptor is taken."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(Held.now().descriptors) + 1, limits[1]))
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


async def test_want_of_descriptors_is_our_own_fault(db: PostgresDb) -> None:
    probe = attempts(db.dsn(), table="products")
    await once(probe)

    with no_descriptors():
        result = await once(attempts(db.dsn(), table="products"))

    assert result.outcome is Outcome.SKIPPED, result.reason
    assert result.figures["why"] == Why.OWN_FAULT


async def test_a_missing_driver_is_our_own_fault_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe = attempts("postgresql://app@127.0.0.1:1/shop", table="products")
    monkeypatch.setitem(sys.modules, "psycopg", None)

    result = await once(probe)

    assert result.outcome is Outcome.SKIPPED
    assert "pip install 'freezewatch[postgres]'" in result.reason


def test_failed_look_ups_and_networks_are_ours_and_a_server_that_cannot_fork_is_not() -> None:
    import psycopg

    ours = [
        "failed to resolve host 'db': [Errno -3] Temporary failure in name resolution",
        'connection failed: connection to server at "10.0.0.1", port 5432 failed: Network is unreachable',
        "connection failed: could not create socket: Too many open files",
    ]
    theirs = [
        "failed to resolve host 'db': [Errno -2] Name or service not known",
        'connection to server at "10.0.0.1", port 5432 failed: could not fork new process for connection:'
        " Cannot allocate memory",
        'connection to server at "10.0.0.1", port 5432 failed: FATAL:  out of shared memory',
    ]

    assert {type(named(psycopg.OperationalError(text), "db")) for text in ours} == {OwnFault}
    assert {type(named(psycopg.OperationalError(text), "db")) for text in theirs} == {Unreachable}


# -- configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "table is missing"),
        ({"table": "a.b.c"}, "is no table"),
        ({"table": "a b"}, "is no table"),
        ({"table": ""}, "is no table"),
        ({"table": 5}, "string"),
        ({"table": "t", "dsn": "host=h secretword"}, "no address"),
        ({"table": "t", "dsn": "postgresql://h:notaport/x?secretword"}, "no address"),
        ({"table": "t", "dsn": ""}, "at least 1 character"),
        ({"table": "t", "column": ""}, "at least 1 character"),
        ({"table": "t", "column": "a\x00b"}, "pattern"),
        ({"table": "t", "canary": {}}, "at least 1 item"),
        ({"table": "t", "canary": {"a": 5}}, "holds no ${canary}"),
        ({"table": "t", "canary": {"a": ["${canary}"]}}, "one text, number"),
        ({"table": "t", "canary": "${canary}"}, "dictionary"),
        ({"table": "t", "canary": {"a": "${canary}"}, "column": "a"}, "leave it out beside canary"),
        ({**STATEMENT, "table": "t"}, "statement says it all"),
        ({"table": "t", "undo_sql": "DELETE FROM t WHERE a = ${canary}"}, "come together"),
        ({**STATEMENT, "statement": "INSERT INTO t VALUES ('${canary}')"}, "without quotes"),
        ({**STATEMENT, "undo_sql": "DELETE FROM products"}, "names no ${canary}"),
        ({"table": "t", "tabel": "t"}, "Extra inputs"),
    ],
)
def test_mistakes_are_named_and_show_no_secret(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PostgresWrite.model_validate({"postgres": {"dsn": "postgresql://u:secretword@h/db", **entry}})

    messages = " ".join(str(error["msg"]) for error in caught.value.errors())
    assert said in messages
    assert "secretword" not in messages


@pytest.mark.parametrize("code", ["00000", "57014", "55P03", "42", "2500x", [], [None], True, 1.5])
def test_codes_that_can_be_no_refusal_are_mistakes(code: object) -> None:
    entry = {"postgres": {"dsn": "host=h", "table": "t"}, "refusal": {"sqlstate": code}}

    with pytest.raises(ValidationError):
        PostgresWrite.model_validate(entry)


def test_doubts_say_what_a_missing_privilege_proves_and_who_is_asked_beside() -> None:
    base = {"dsn": "host=h options='-c default_transaction_read_only=on'", "table": "t"}

    doubtful = PostgresWrite.model_validate({"postgres": base})
    sound = PostgresWrite.model_validate(
        {"postgres": {**base, "dsn": "host=h"}, "control": True, "held": False}
    )

    assert [("own options" in d, "42501" in d) for d in doubtful.doubts] == [(True, False), (False, True)]
    assert [(suffix, spec.held) for suffix, spec, _ in doubtful.beside] == [("held", True)]
    assert (sound.doubts, sound.beside, sound.held) == ([], [], False)
    assert "host=h" not in repr(doubtful)
