"""PostgreSQL, MariaDB and Redis refuse while they are read-only, and their dumps tell what changed."""

from __future__ import annotations

import psycopg
import pymysql
import pytest
import redis.exceptions

from tests.servers.fixtures import MariaDbDb, PostgresDb, fresh_postgres
from tests.servers.mariadb import MariaDB
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

# -- PostgreSQL -----------------------------------------------------------------------------------


def test_postgres_refuses_writes_with_25006_while_it_is_read_only(postgres_db: PostgresDb) -> None:
    postgres_db.run("CREATE TABLE t (a int)")
    postgres_db.server.read_only(True)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refused:
        postgres_db.run("INSERT INTO t VALUES (1)")
    assert refused.value.sqlstate == "25006"
    postgres_db.server.read_only(False)
    postgres_db.run("INSERT INTO t VALUES (1)")


def test_a_dump_of_postgres_shows_a_row_and_a_step_of_a_sequence(postgres_db: PostgresDb) -> None:
    postgres_db.run("CREATE TABLE t (a serial)")
    empty = postgres_db.dump()
    assert postgres_db.dump() == empty
    postgres_db.run("INSERT INTO t DEFAULT VALUES")
    one = postgres_db.dump()
    assert one != empty
    postgres_db.run("SELECT nextval('t_a_seq')")
    assert postgres_db.dump() != one


def test_postgres_keeps_what_was_committed_when_it_crashes() -> None:
    with Postgres() as server:
        server.run("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        server.restart(crash=True)
        assert server.run("SELECT a FROM t") == [(1,)]
        server.restart()
        assert server.run("SELECT a FROM t") == [(1,)]


def test_a_standby_of_postgres_follows_and_refuses_with_25006() -> None:
    with Postgres() as primary:
        primary.run("CREATE TABLE t (a int)")
        with primary.standby() as standby:
            primary.run("INSERT INTO t VALUES (1)")
            standby.caught_up()
            assert standby.run("SELECT a FROM t") == [(1,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                standby.run("INSERT INTO t VALUES (2)")
            assert standby.dump() == primary.dump()


def test_a_database_of_postgres_is_dropped_with_all_that_holds_on_to_it(postgres_server: Postgres) -> None:
    with fresh_postgres(postgres_server) as database:
        session, prepared = database.connect(), database.connect(autocommit=False)
        database.run("SELECT pg_create_logical_replication_slot('slot', 'test_decoding')")
        database.run("CREATE TABLE t (a int)")
        prepared.execute("INSERT INTO t VALUES (1)")
        prepared.execute("PREPARE TRANSACTION 'it''s'")
        database.server.read_only(True)
    for left in (session, prepared):
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")
        left.close()
    assert (database.name,) not in postgres_server.run("SELECT datname FROM pg_database")


# -- MariaDB --------------------------------------------------------------------------------------


def test_mariadb_refuses_writes_with_1290_while_it_is_read_only(mariadb_db: MariaDbDb) -> None:
    mariadb_db.run("CREATE TABLE t (a int)")
    mariadb_db.server.create_user("refused", "secret")
    mariadb_db.server.read_only(True)
    with pytest.raises(pymysql.err.OperationalError) as refused:
        mariadb_db.run("INSERT INTO t VALUES (1)", user="refused", password="secret")
    assert refused.value.args[0] == 1290
    mariadb_db.server.read_only(False)
    mariadb_db.run("INSERT INTO t VALUES (1)", user="refused", password="secret")


def test_a_dump_of_mariadb_shows_a_row_and_a_step_of_auto_increment(mariadb_db: MariaDbDb) -> None:
    mariadb_db.run("CREATE TABLE t (a int PRIMARY KEY AUTO_INCREMENT)")
    empty = mariadb_db.dump()
    assert mariadb_db.dump() == empty
    mariadb_db.run("INSERT INTO t VALUES ()")
    one = mariadb_db.dump()
    assert one != empty
    with mariadb_db.connect(autocommit=False) as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES ()")
        session.rollback()
    assert mariadb_db.dump() != one


def test_mariadb_keeps_what_was_committed_when_it_crashes() -> None:
    with MariaDB() as server:
        server.run("CREATE DATABASE d")
        server.run("CREATE TABLE d.t (a int)")
        server.run("INSERT INTO d.t VALUES (1)")
        before = server.dump(), server.run("SELECT @@gtid_binlog_pos")
        server.restart(crash=True)
        assert server.run("SELECT a FROM d.t") == [(1,)]
        server.restart()
        assert (server.dump(), server.run("SELECT @@gtid_binlog_pos")) == before


# -- Redis ----------------------------------------------------------------------------------------


def test_a_replica_of_redis_refuses_with_readonly(redis_db: Redis) -> None:
    redis_db.run("SET", "a", "1")
    with Redis(replica_of=redis_db) as replica:
        replica.caught_up()
        assert replica.dump() == redis_db.dump() != ""
        with pytest.raises(redis.exceptions.ReadOnlyError):
            replica.run("SET", "a", "2")


def test_a_user_of_redis_without_writes_is_refused_with_noperm() -> None:
    with Redis(users={"app": "on >secret ~* &* +@all -@write"}) as server:
        assert server.run("GET", "a", user="app", password="secret") is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.run("SET", "a", "1", user="app", password="secret")


def test_a_dump_of_redis_shows_a_value_and_an_expiry(redis_db: Redis) -> None:
    assert redis_db.dump() == ""
    redis_db.run("SET", "a", "1")
    redis_db.run("HSET", "h", "f", "1", db=3)
    one = redis_db.dump()
    assert redis_db.dump() == one
    redis_db.run("PEXPIRE", "a", "100000")
    assert redis_db.dump() != one


def test_redis_keeps_what_it_acknowledged_when_it_crashes() -> None:
    with Redis() as server:
        server.run("SET", "a", "1", "PX", "100000")
        before = server.dump()
        server.restart(crash=True)
        assert server.dump() == before
        server.restart()
        assert server.dump() == before
