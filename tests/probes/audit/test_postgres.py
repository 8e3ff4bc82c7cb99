"""Audits of real PostgreSQL servers: what was written, by which grade it is seen, and what cannot be told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import ValidationError

from probes.audit.audit import Audit
from probes.audit.postgres.source import PostgresAudit, postgres_audit, size
from probes.audit.reading import Exemption
from probes.base import Outcome, Result, Run, Why
from probes.http import Transport
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.postgres.target import PostgresWrite, postgres_write
from tests.servers.fixtures import PostgresDb, fresh_postgres
from tests.servers.machine import free_port, until
from tests.servers.postgres import Postgres

pytestmark = pytest.mark.xdist_group("postgres-audit")

TABLE = "CREATE TABLE products (id bigserial PRIMARY KEY, name text, amount int)"
ONE = "INSERT INTO products (name) VALUES ('a chair')"
ROLES = {"plain": "LOGIN", "watcher": "LOGIN REPLICATION IN ROLE pg_read_all_stats"}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres(settings={"max_prepared_transactions": "10"}) as started:
        for role, rights in ROLES.items():
            started.run(f"CREATE ROLE {role} {rights}")
        yield started


@pytest.fixture
def db(server: Postgres) -> Iterator[PostgresDb]:
    with fresh_postgres(server) as database:
        database.run(TABLE)
        yield database


def tools(opens: float | None = None) -> Tools:
    opens = time.time() if opens is None else opens
    return Tools(window="w", opens=opens, closes=opens + 3600, agent="t", transport=Transport())


class Watch:
    """One audit, read when the test says so."""

    def __init__(self) -> None:
        self.all: list[Audit] = []

    def __call__(
        self,
        dsn: str,
        *,
        given: Tools | None = None,
        exempt: list[Exemption] | None = None,
        timeout: float = 5.0,
        **options: Any,
    ) -> Audit:
        spec = PostgresAudit.model_validate({"postgres": {"dsn": dsn, **options}})
        given = given or tools()
        audit = Audit(
            name="shop",
            source=postgres_audit(spec, timeout, given),
            exempt=exempt or [],
            timeout=timeout,
            opens=given.opens,
        )
        self.all.append(audit)
        return audit


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Makes audits, and lets go of them."""
    made = Watch()
    yield made
    for audit in made.all:
        await audit.aclose()


async def read(audit: Audit) -> Result:
    now = time.time()
    return await audit.run(Run(slot=now, phase="frozen", frozen=True, started=now))


def what(result: Result) -> list[str]:
    """The changes that were found, without their times."""
    return [said.partition(" at ")[0] for said in result.figures["what"]]  # type: ignore[union-attr]


async def until_found(audit: Audit, within: float = 12.0) -> Result:
    """Read until something was written: a count may be late."""
    deadline = time.monotonic() + within
    while (result := await read(audit)).outcome is not Outcome.CHANGED:
        assert time.monotonic() < deadline, result
        await asyncio.sleep(0.2)
    return result


def slots(server: Postgres) -> int:
    [(number,)] = server.run("SELECT count(*) FROM pg_replication_slots")
    return int(number)


# -- grade 1: the slot ---------------------------------------------------------------------------------


async def test_the_first_reading_finds_nothing_and_a_quiet_table_stays_ok(
    db: PostgresDb, watch: Watch
) -> None:
    db.run(ONE)
    audit = watch(db.dsn())

    first, second = await read(audit), await read(audit)

    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert first.figures["grade"] == second.figures["grade"] == "logical slot"
    assert (second.figures["lag_s"], second.figures["tells_own"]) == (0.0, True)
    assert "max_slot_wal_keep_size is unlimited" in str(second.figures["notes"])


async def test_committed_changes_are_shown_once_with_keys_and_without_values(
    db: PostgresDb, watch: Watch
) -> None:
    audit = watch(db.dsn("watcher"))
    await read(audit)

    db.run("INSERT INTO products (name) VALUES ('private words'), ('another')")
    db.run("UPDATE products SET name = 'other private words' WHERE id = 1")
    db.run("DELETE FROM products WHERE id = 2")
    found, after = await read(audit), await read(audit)

    assert found.outcome is Outcome.CHANGED
    assert what(found) == [
        "public.products: 1 × delete (id=2)",
        "public.products: 2 × insert (id=1, id=2)",
        "public.products: 1 × update (id=1)",
    ]
    assert found.figures["changes"] == 4
    assert "private" not in f"{found.reason}{found.figures}"
    assert after.outcome is Outcome.OK


async def test_what_was_rolled_back_is_no_change(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)

    with db.connect(autocommit=False) as session:
        session.execute(ONE)
        session.rollback()
    await asyncio.sleep(1.2)  # the counters have it by now

    assert (await read(audit)).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("TRUNCATE products", "public.products: 1 × truncate"),
        ("CREATE TABLE more (id int)", "public.more: 1 × create"),
        ("DROP TABLE products", "public.products: 1 × drop"),
        ("VACUUM FULL products", "public.products: 1 × rewrite"),
        ("ALTER TABLE products ALTER amount TYPE bigint", "public.products: 1 × rewrite"),
        ("ALTER TABLE products RENAME TO goods", "public.goods: 1 × rename (was public.products)"),
    ],
)
@pytest.mark.parametrize("slot", [True, False])
async def test_tables_that_are_emptied_made_dropped_or_rewritten_are_seen_once(
    db: PostgresDb, watch: Watch, statement: str, found: str, slot: bool
) -> None:
    db.run(ONE)
    db.run("CREATE TABLE others (id int)")
    await asyncio.sleep(0 if slot else 1.2)
    audit = watch(db.dsn(), slot=slot)
    await read(audit)

    db.run(statement)
    result = await read(audit)
    later = [await read(audit) for _ in range(2)]

    assert result.outcome is Outcome.CHANGED
    assert what(result) == [found if slot else found.replace("truncate", "rewrite")]
    assert {each.outcome for each in later} == {Outcome.OK}


async def test_several_tables_truncated_together_are_each_named(db: PostgresDb, watch: Watch) -> None:
    db.run("CREATE TABLE orders (id int); CREATE TABLE parts (id int)")
    audit = watch(db.dsn(), tables=["products", "orders"])
    await read(audit)

    db.run("TRUNCATE products, orders, parts")

    assert what(await read(audit)) == ["public.orders: 1 × truncate", "public.products: 1 × truncate"]


async def test_only_the_named_tables_are_watched(db: PostgresDb, watch: Watch) -> None:
    db.run("CREATE SCHEMA shop; CREATE TABLE shop.orders (id int); CREATE TABLE other (id int)")
    db.run("CREATE TABLE days (d int) PARTITION BY LIST (d)")
    db.run("CREATE TABLE part_of_days PARTITION OF days FOR VALUES IN (1)")
    audit = watch(db.dsn(), tables=["shop.*", "public.days"])
    await read(audit)

    db.run(ONE)
    db.run("INSERT INTO other VALUES (1)")
    unwatched = await read(audit)
    db.run("INSERT INTO shop.orders VALUES (1)")
    db.run("INSERT INTO days VALUES (1)")
    watched = await read(audit)

    assert unwatched.outcome is Outcome.OK
    assert what(watched) == ["public.part_of_days: 1 × insert", "shop.orders: 1 × insert"]


async def test_a_name_that_no_table_has_is_unknown_and_never_fine(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn(), tables=["public.*", "publik.*"])

    result = await read(audit)

    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, "no table is named 'publik.*'")


async def test_names_with_everything_in_them_are_told(db: PostgresDb, watch: Watch) -> None:
    db.run('CREATE SCHEMA "Sché%ma"')
    db.run('CREATE TABLE "Sché%ma"."We""ird: INSERT: .%s" ("K]e%y" text PRIMARY KEY, "a[]" text[])')
    audit = watch(db.dsn())
    await read(audit)

    db.run("INSERT INTO \"Sché%ma\".\"We\"\"ird: INSERT: .%s\" VALUES ('x''y [z]: w', '{1,2}')")

    assert what(await read(audit)) == ["Sché%ma.We\"ird: INSERT: .%s: 1 × insert (K]e%y=x'y [z]: w)"]


async def test_exempt_tables_are_set_aside(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn(), exempt=[Exemption(table="public.prod*", reason="the nightly job")])
    await read(audit)

    db.run(ONE)
    result = await read(audit)

    assert (result.outcome, result.figures["exempt"]) == (Outcome.OK, 1)


async def test_unlogged_tables_are_watched_by_their_counters(db: PostgresDb, watch: Watch) -> None:
    db.run("CREATE UNLOGGED TABLE carts (id int)")
    audit = watch(db.dsn())
    quiet = await read(audit)

    db.run("INSERT INTO carts VALUES (1), (2)")
    result = await until_found(audit)

    assert "public.carts" in str(quiet.figures["notes"])
    assert what(result) == ["public.carts: 2 × insert"]
    assert (result.figures["lag_s"], result.figures["tells_own"]) == (11.0, False)


async def test_a_large_transaction_is_counted_on_the_server(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn(), timeout=30.0)
    await read(audit)

    db.run("INSERT INTO products (name) SELECT repeat('x', 200) FROM generate_series(1, 50000)")
    result = await read(audit)

    assert what(result) == ["public.products: 50000 × insert (id=1, id=2, id=3, id=4, id=5)"]
    assert len(str(result)) < 5000


async def test_commits_that_wait_for_no_disk_are_each_shown_once(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)

    found = 0
    with db.connect() as session:
        session.execute("SET synchronous_commit = off")
        for _ in range(20):
            session.execute(ONE)
            found += int(str((await read(audit)).figures["changes"]))
    until(lambda: db.run("SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()"), "it is on disk")
    await asyncio.sleep(1)  # the writer of the log comes round every 0.2 s
    found += int(str((await read(audit)).figures["changes"]))

    assert found == 20


async def test_our_own_canary_is_told_from_others(db: PostgresDb, watch: Watch) -> None:
    given = tools()
    audit = watch(db.dsn(), given=given)
    entry = {
        "postgres": {"dsn": db.dsn(), "table": "products", "canary": {"name": "x", "amount": "${canary_int}"}}
    }
    db.run("ALTER TABLE products ALTER amount TYPE bigint")
    target = postgres_write(PostgresWrite.model_validate(entry), 2.0, given)
    probe = WriteAttempts(name="shop", surface="shop", window="w", target=target, timeout=2.0)
    await read(audit)

    leaked = await probe.run(Run(slot=1.0, phase="frozen", frozen=True))
    ours = await read(audit)
    db.run(ONE)
    theirs = await read(audit)

    assert leaked.outcome is Outcome.LEAKED
    assert (ours.outcome, ours.figures["own"]) == (Outcome.OK, 2)
    assert (theirs.outcome, theirs.figures["own"]) == (Outcome.CHANGED, 0)


async def test_a_row_with_a_canarys_text_is_ours_even_when_its_transaction_is_forgotten(
    db: PostgresDb, watch: Watch
) -> None:
    audit = watch(db.dsn())
    await read(audit)

    db.run("INSERT INTO products (name) VALUES ('freezewatch-0123456789abcdef0123')")
    db.run("INSERT INTO products (name) VALUES ('freezewatch-mail'), ('x')")
    result = await read(audit)

    assert (result.figures["own"], result.figures["changes"]) == (1, 2)


async def test_the_transaction_of_another_server_is_not_taken_for_ours(db: PostgresDb, watch: Watch) -> None:
    given = tools()
    audit = watch(db.dsn(), given=given)
    await read(audit)
    [(number,)] = db.run("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int")
    for each in range(number, number + 10):
        given.own.note("postgres", f"7000000000000000000:{each}")

    db.run(ONE)

    assert (await read(audit)).outcome is Outcome.CHANGED


async def test_the_slot_ends_with_the_audit(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)
    assert slots(db.server) == 1

    await audit.aclose()

    until(lambda: slots(db.server) == 0, "the slot is gone")


async def test_two_watchdogs_each_see_everything(db: PostgresDb, watch: Watch) -> None:
    one, other = watch(db.dsn()), watch(db.dsn())
    await asyncio.gather(read(one), read(other))

    db.run(ONE)
    results = await asyncio.gather(read(one), read(other))

    assert [what(result) for result in results] == [["public.products: 1 × insert (id=1)"]] * 2


# -- from one grade to another ---------------------------------------------------------------------------


async def test_a_restart_of_the_watchdog_is_bridged_by_counters(db: PostgresDb, watch: Watch) -> None:
    before = watch(db.dsn())
    mark = str((await read(before)).figures["mark"])
    await before.aclose()
    db.run(ONE)

    after = watch(db.dsn())
    after.resume(mark, time.time())
    result = await until_found(after)

    assert what(result) == ["public.products: 1 × insert"]
    assert result.figures["tells_own"] is False
    assert "unknown" not in result.figures


async def test_what_the_slot_has_shown_is_not_counted_again_when_its_count_comes_late(
    db: PostgresDb, watch: Watch
) -> None:
    before = watch(db.dsn())
    await read(before)
    writer = db.connect()
    for _ in range(2):  # so shortly after each other that their counts wait for up to 10 s
        writer.execute(ONE)
    shown = await read(before)
    await before.aclose()

    after = watch(db.dsn())
    after.resume(str(shown.figures["mark"]), time.time())
    later = [await read(after)]
    [(counted,)] = db.run("SELECT n_tup_ins FROM pg_stat_user_tables")
    while db.run("SELECT n_tup_ins FROM pg_stat_user_tables") != [(2,)]:
        await asyncio.sleep(0.5)
        later.append(await read(after))
    later.append(await read(after))
    writer.close()

    assert shown.figures["changes"] == 2
    assert counted < 2
    assert {result.outcome for result in later} == {Outcome.OK}
    assert later[0].figures["grade"] == "logical slot, bridged by row counters"


async def test_a_slot_that_is_lost_is_bridged_and_made_again(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)

    db.run("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
    until(lambda: slots(db.server) == 0, "the slot is gone")
    db.run(ONE)
    lost = await read(audit)
    result = lost if lost.outcome is Outcome.CHANGED else await until_found(audit)
    again = await read(audit)

    assert "the logical slot was dropped: 57P01" in str(lost.figures["notes"])
    assert what(result) == ["public.products: 1 × insert"]
    assert "logical slot" in str(again.figures["grade"])


async def test_a_slot_that_keeps_too_much_log_is_dropped_and_bridged(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn(), limit="1MiB")
    await read(audit)

    db.run("INSERT INTO products (name) SELECT repeat('x', 200) FROM generate_series(1, 20000)")
    full = await read(audit)
    kept = slots(db.server)
    result = full if full.outcome is Outcome.CHANGED else await until_found(audit)
    after = await read(audit)

    assert "more write-ahead log than its limit" in str(full.figures["notes"])
    assert kept == 0, "nothing is kept any more"
    assert what(result) == ["public.products: 20000 × insert"]
    assert after.figures["grade"] == "row counters"
    assert "no logical slot: the last one was dropped" in str(after.figures["notes"])


async def test_an_open_transaction_delays_the_slot_and_not_the_reading(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn(), timeout=3.0)
    with db.connect(autocommit=False) as session:
        session.execute(ONE)
        began = time.monotonic()
        waiting = await read(audit)
        took = time.monotonic() - began
        session.commit()
    later = await read(audit)

    assert waiting.figures["grade"] == "row counters"
    assert "no logical slot: it waits for transactions that are open" in str(waiting.figures["notes"])
    assert took < 2.5
    assert later.figures["grade"] == "logical slot, bridged by row counters"


async def test_an_account_without_replication_reads_counters_and_says_so(
    db: PostgresDb, watch: Watch
) -> None:
    audit = watch(db.dsn("plain"))
    first = await read(audit)

    db.run(ONE)
    result = await until_found(audit)

    assert first.figures["grade"] == "row counters"
    assert "no logical slot: 42501" in str(first.figures["notes"])
    assert what(result) == ["public.products: 1 × insert"]
    assert (result.figures["lag_s"], result.figures["tells_own"]) == (11.0, False)
    assert first.figures["open"] is None
    assert "pg_read_all_stats" in str(first.figures["notes"])


async def test_analyze_and_vacuum_are_no_writes(db: PostgresDb, watch: Watch) -> None:
    db.run("INSERT INTO products (name) SELECT 'x' FROM generate_series(1, 1000)")
    db.run("DELETE FROM products WHERE id % 2 = 0")
    await asyncio.sleep(1.2)
    audit = watch(db.dsn(), slot=False)
    await read(audit)

    db.run("ANALYZE")
    db.run("VACUUM products")
    db.run("CHECKPOINT")
    await asyncio.sleep(1.2)

    assert (await read(audit)).outcome is Outcome.OK


async def test_counters_see_each_kind_of_write(db: PostgresDb, watch: Watch) -> None:
    db.run(ONE)
    await asyncio.sleep(1.2)
    audit = watch(db.dsn(), slot=False)
    await read(audit)

    with db.connect() as session:
        session.execute(ONE)
        session.execute("UPDATE products SET amount = 2")
        session.execute("DELETE FROM products WHERE id = 1")
    until(
        lambda: db.run("SELECT n_tup_del FROM pg_stat_user_tables") == [(1,)], "the counters have caught up"
    )

    assert what(await read(audit)) == [
        "public.products: 1 × insert",
        "public.products: 2 × update",
        "public.products: 1 × delete",
    ]


async def test_without_statistics_rows_are_counted(db: PostgresDb, watch: Watch) -> None:
    db.run("INSERT INTO products (name) SELECT 'x' FROM generate_series(1, 10)")
    db.run(f"ALTER DATABASE {db.name} SET track_counts = off")
    audit = watch(db.dsn(), slot=False)
    results = [await read(audit)]

    for statement in (
        ONE,
        "UPDATE products SET amount = 3 WHERE id = 1",
        "DELETE FROM products WHERE id < 4",
        "DELETE FROM products WHERE id = 5; INSERT INTO products (name) VALUES ('y')",
        "SELECT 1",
    ):
        db.run(statement)
        results.append(await read(audit))

    assert results[0].figures["grade"] == "row count and xmin"
    assert "track_counts is off" in str(results[0].figures["notes"])
    assert [what(result) for result in results] == [
        [],
        ["public.products: 1 × write"],
        ["public.products: 1 × write"],
        ["public.products: 3 × write"],
        ["public.products: 1 × write"],
        [],
    ]


async def test_a_table_that_cannot_be_counted_is_unknown(db: PostgresDb, watch: Watch) -> None:
    db.run(f"ALTER DATABASE {db.name} SET track_counts = off")

    result = await read(watch(db.dsn("plain"), slot=False))

    assert result.outcome is Outcome.UNKNOWN
    assert "not allowed to be counted: public.products" in result.reason


async def test_a_hidden_row_is_not_taken_for_none(db: PostgresDb, watch: Watch) -> None:
    db.run(f"ALTER DATABASE {db.name} SET track_counts = off")
    db.run("ALTER TABLE products ENABLE ROW LEVEL SECURITY; GRANT SELECT ON products TO plain")

    result = await read(watch(db.dsn("plain"), slot=False))

    assert result.outcome is Outcome.UNKNOWN


async def test_the_slot_needs_no_statistics(db: PostgresDb, watch: Watch) -> None:
    db.run(f"ALTER DATABASE {db.name} SET track_counts = off")
    audit = watch(db.dsn())
    await read(audit)
    db.run(ONE)

    found = await read(audit)
    mark = str(found.figures["mark"])
    await audit.aclose()
    restarted = watch(db.dsn())
    restarted.resume(mark, time.time())
    unbridged = await read(restarted)

    assert what(found) == ["public.products: 1 × insert (id=1)"]
    assert unbridged.outcome is Outcome.UNKNOWN
    assert "neither a slot nor a counter" in unbridged.reason


# -- the fence -----------------------------------------------------------------------------------------


async def test_writers_from_before_the_window_are_named_and_their_commit_is_shown(
    db: PostgresDb, watch: Watch
) -> None:
    """The holes: transactions that were opened, or prepared, before the switch still commit."""
    opens = time.time() + 2.5
    audit = watch(db.dsn("watcher"), given=tools(opens))
    await read(audit)  # the slot is there before they begin
    writer, idle = db.connect(autocommit=False), db.connect(autocommit=False)
    writer.execute(ONE)
    idle.execute("SELECT 1")
    with db.connect(autocommit=False) as session:
        session.execute(ONE)
        session.execute("PREPARE TRANSACTION 'gid ''1'")
    await asyncio.sleep(opens - time.time())
    db.server.read_only(True)

    fence = await read(audit)
    named = " ".join(fence.figures["open_what"])  # type: ignore[arg-type]
    notes = " ".join(fence.figures["notes"])  # type: ignore[arg-type]
    pids = [session.info.backend_pid for session in (writer, idle)]
    writer.commit()
    idle.execute(ONE)
    idle.commit()
    db.run("COMMIT PREPARED 'gid ''1'")
    after = await read(audit)
    for session in (writer, idle):
        session.close()

    assert (fence.outcome, fence.figures["open"]) == (Outcome.OK, 2)
    assert f"session {pids[0]} of postgres from 127.0.0.1, for " in named
    assert 'prepared transaction "gid \'1" of postgres, for ' in named
    assert f"session {pids[1]} of postgres from 127.0.0.1 has a transaction open since " in notes
    assert "wrote nothing yet, and still may" in notes
    assert (after.outcome, after.figures["open"]) == (Outcome.CHANGED, 0)
    assert after.figures["changes"] == 3


async def test_a_writer_of_another_database_or_of_the_window_holds_no_fence(
    db: PostgresDb, watch: Watch
) -> None:
    audit = watch(db.dsn(), given=tools(time.time() - 60))
    await read(audit)
    with db.connect(autocommit=False) as session, db.server.connect(autocommit=False) as elsewhere:
        session.execute(ONE)
        elsewhere.execute("SELECT pg_current_xact_id()")

        result = await read(audit)

    assert result.figures["open"] == 0


# -- holes -----------------------------------------------------------------------------------------------


async def test_a_pooled_session_that_writes_on_is_shown(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)
    with db.connect() as pooled:
        db.run(f"ALTER DATABASE {db.name} SET default_transaction_read_only = on")
        pooled.execute(ONE)

    assert what(await read(audit)) == ["public.products: 1 × insert (id=1)"]


@pytest.mark.parametrize("slot", [True, False])
async def test_counters_that_were_set_back_are_unknown_unless_a_slot_saw_all(
    db: PostgresDb, watch: Watch, slot: bool
) -> None:
    db.run(ONE)
    await asyncio.sleep(1.2)
    audit = watch(db.dsn(), slot=slot)
    await read(audit)

    db.run("SELECT pg_stat_reset()")
    result, after = await read(audit), await read(audit)

    assert result.outcome is (Outcome.OK if slot else Outcome.UNKNOWN), result.reason
    assert slot or "the counters were set back at" in result.reason
    assert after.outcome is Outcome.OK


@pytest.mark.parametrize("crash", [False, True])
async def test_a_restart_is_unknown(watch: Watch, crash: bool) -> None:
    with Postgres() as own:
        own.run(TABLE)
        audit = watch(own.dsn())
        await read(audit)

        own.restart(crash=crash)
        result, after = await read(audit), await read(audit)
        await audit.aclose()

    assert result.outcome is Outcome.UNKNOWN
    assert "was started again at" in result.reason
    assert after.outcome is Outcome.OK


async def test_the_crash_of_one_backend_is_unknown_though_the_server_was_not_started_again(
    watch: Watch,
) -> None:
    with Postgres() as own:
        own.run(TABLE)
        own.run(ONE)
        audit = watch(own.dsn(), slot=False)
        await read(audit)
        started = own.run("SELECT pg_postmaster_start_time()")
        victim = own.connect()

        os.kill(victim.info.backend_pid, signal.SIGKILL)
        await asyncio.to_thread(until, _answers(own), "it has recovered")
        result = await read(audit)

        assert own.run("SELECT pg_postmaster_start_time()") == started
        assert result.outcome is Outcome.UNKNOWN
        assert "crashed and set its counters to zero" in result.reason
        victim.close()


def _answers(server: Postgres) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            return server.answers()
        except Exception:  # not yet
            return False

    return answers


async def test_a_promoted_standby_is_unknown_and_a_standby_is_read_by_its_rows(watch: Watch) -> None:
    with Postgres() as own:
        own.run(TABLE)
        own.run(ONE)
        with own.standby() as standby:
            audit = watch(standby.dsn())
            first = await read(audit)
            own.run(ONE)
            standby.caught_up()
            replayed = await read(audit)

            standby.run("SELECT pg_promote()")
            promoted, after = await read(audit), await read(audit)
            await audit.aclose()

    assert first.figures["grade"] == "row count and xmin"
    assert "hot standby" in str(first.figures["notes"])
    assert what(replayed) == ["public.products: 1 × write"]
    assert (promoted.outcome, "promoted" in promoted.reason) == (Outcome.UNKNOWN, True)
    assert after.outcome is Outcome.OK


async def test_another_server_at_the_same_address_is_unknown(db: PostgresDb, watch: Watch) -> None:
    with Postgres() as other:
        other.run(TABLE)
        first = watch(db.dsn())
        mark = str((await read(first)).figures["mark"])
        moved = watch(other.dsn())
        moved.resume(mark, time.time())

        result = await read(moved)
        await moved.aclose()

    assert result.outcome is Outcome.UNKNOWN
    assert "another server" in result.reason


@pytest.mark.parametrize(
    "mark", ["", "{}", "[]", "null", '{"version": 1}', '{"version": 2}', "\x00", "x" * 99]
)
async def test_a_mark_that_is_none_of_ours_is_unknown(db: PostgresDb, watch: Watch, mark: str) -> None:
    audit = watch(db.dsn())
    audit.resume(mark, time.time())

    result, after = await read(audit), await read(audit)

    assert result.outcome is Outcome.UNKNOWN
    assert "cannot be read" in result.reason
    assert after.outcome is Outcome.OK


async def test_other_tables_in_the_configuration_are_unknown_once(db: PostgresDb, watch: Watch) -> None:
    first = watch(db.dsn(), tables=["public.*"])
    mark = str((await read(first)).figures["mark"])
    changed = watch(db.dsn(), tables=["*"])
    changed.resume(mark, time.time())

    assert (await read(changed)).outcome is Outcome.UNKNOWN
    assert (await read(changed)).outcome is Outcome.OK


# -- a server that does not answer, load, cancelling ---------------------------------------------------------


async def test_a_server_that_hangs_or_is_gone_is_unreachable_and_bridged_afterwards(watch: Watch) -> None:
    with Postgres() as own:
        own.run(TABLE)
        audit = watch(own.dsn(), timeout=1.0)
        await read(audit)

        own.pause()
        began = time.monotonic()
        hung = await read(audit)
        took = time.monotonic() - began
        own.resume()
        own.run(ONE)
        result = await until_found(audit)
        await audit.aclose()
        own.stop()
        gone = await read(watch(own.dsn(), timeout=1.0))

    assert hung.outcome is Outcome.UNREACHABLE
    assert took < 1.3
    assert what(result)[0].startswith("public.products: 1 × insert")
    assert gone.outcome is Outcome.UNREACHABLE


async def test_cancelled_readings_lose_nothing_and_leave_no_session(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)
    db.run(ONE)

    found = 0
    for wait in (0.0, 0.001, 0.003, 0.006, 0.01, 0.015, 0.02, 0.03):
        running = asyncio.ensure_future(read(audit))
        await asyncio.sleep(wait)
        running.cancel()
        with suppress(asyncio.CancelledError):
            found += int(str((await running).figures["changes"]))
    if not found:
        found = int(str((await until_found(audit)).figures["changes"]))
    await audit.aclose()

    assert found == 1
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'freezewatch'"
    until(lambda: db.run(ours) == [(0,)], "no session of ours is left")
    assert slots(db.server) == 0


async def test_a_thousand_tables_fit_into_a_mark_and_a_reading(db: PostgresDb, watch: Watch) -> None:
    db.run(
        "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (id int)', n); END LOOP; END $$"
    )
    audit = watch(db.dsn())
    first = await read(audit)
    db.run("INSERT INTO t777 VALUES (1)")
    mark = str(first.figures["mark"])
    await audit.aclose()

    restarted = watch(db.dsn())
    restarted.resume(mark, time.time())
    result = await until_found(restarted)

    assert first.figures["tables"] == 1001
    assert len(mark) < 30_000
    assert what(result) == ["public.t777: 1 × insert"]


async def test_a_missing_driver_is_our_own_fault(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    audit = watch(f"postgresql://app@127.0.0.1:{free_port()}/shop")
    monkeypatch.setitem(sys.modules, "psycopg", None)

    result = await read(audit)

    assert (result.outcome, result.figures["why"]) == (Outcome.SKIPPED, Why.OWN_FAULT)
    assert "pip install 'freezewatch[postgres]'" in result.reason


async def test_an_audit_writes_nothing(db: PostgresDb, watch: Watch) -> None:
    audit = watch(db.dsn())
    await read(audit)
    before = (db.dump(), db.run("SELECT pg_snapshot_xmax(pg_current_snapshot())"))

    for _ in range(20):
        await read(audit)

    assert (db.dump(), db.run("SELECT pg_snapshot_xmax(pg_current_snapshot())")) == before


# -- configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [("256MiB", 256 * 2**20), ("1GiB", 2**30), ("5KiB", 5120), ("7B", 7), (1048576, 2**20)],
)
def test_sizes_are_read(text: object, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize(
    "entry",
    [
        *({"limit": each} for each in ("5MB", "5 MiB", "", "-1MiB", "0B", 0, -1, True, 1.5, None, "١MiB")),
        {"tables": []},
        {"tables": "public.*"},
        {"tables": [""]},
        {"slot": "sometimes"},
        {"dsn": "host=h secretword"},
        {"table": "products"},
    ],
)
def test_mistakes_are_named_and_show_no_secret(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        PostgresAudit.model_validate({"postgres": {"dsn": "postgresql://u:secretword@h/db", **entry}})

    assert "secretword" not in " ".join(str(error["msg"]) for error in caught.value.errors())


def test_doubts_are_said_of_counters_alone() -> None:
    base = {"dsn": "host=h"}

    assert PostgresAudit.model_validate({"postgres": base}).doubts == []
    assert "rolled back" in PostgresAudit.model_validate({"postgres": {**base, "slot": False}}).doubts[0]
