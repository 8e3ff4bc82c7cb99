"""Fixtures: each server once for a test process, started by the first test that asks, and fresh databases.

The servers are shared, so a test leaves them as it found them; one that crashes, hangs or configures a
server starts its own with `with Postgres() as server:`. To have these fixtures everywhere, tests/conftest.py
says `pytest_plugins = ["tests.servers.fixtures"]`.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import pymysql
import pytest
from psycopg import sql

from tests.servers.machine import needs
from tests.servers.mariadb import MariaDB
from tests.servers.nats import Nats
from tests.servers.object_store import ObjectStore
from tests.servers.postgres import Postgres
from tests.servers.process import Server
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

S = TypeVar("S", bound=Server)


@functools.cache
def _opened(kind: type[S]) -> S:
    """The one server of a kind: a fixture that two modules import is two fixtures to pytest."""
    return kind().open()


def _shared(kind: type[S], *programs: str) -> Iterator[S]:
    for program in programs:
        needs(program)
    server = _opened(kind)
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL with logical WAL."""
    yield from _shared(Postgres, "postgres")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    """A MariaDB with a binary log by row."""
    yield from _shared(MariaDB, "mariadbd", "mariadb-dump")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis master."""
    yield from _shared(Redis, "redis-server")


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQ]:
    """A RabbitMQ node with the HTTP API. Its tests belong to xdist_group("rabbitmq"): it starts slowly."""
    yield from _shared(RabbitMQ, "rabbitmq-server", "epmd")


@pytest.fixture(scope="session")
def nats_server() -> Iterator[Nats]:
    """A NATS server with JetStream."""
    yield from _shared(Nats, "nats-server")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStore]:
    """An S3 with one bucket."""
    yield from _shared(ObjectStore)


@dataclass(frozen=True, kw_only=True)
class PostgresDb:
    """A database in a shared server. Roles are the server's: give them names of their own."""

    server: Postgres
    name: str

    def dsn(self, user: str = "postgres") -> str:
        """The address for psycopg."""
        return self.server.dsn(user, self.name)

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """A session in autocommit, unless `options` say otherwise."""
        return self.server.connect(user, self.name, **options)

    def run(self, sql: str, *values: object, user: str = "postgres") -> list[tuple[Any, ...]]:
        """Run SQL in a session of its own."""
        return self.server.run(sql, *values, user=user, dbname=self.name)

    def dump(self) -> str:
        """pg_dump of it."""
        return self.server.dump(self.name)


@contextmanager
def fresh_postgres(server: Postgres) -> Iterator[PostgresDb]:
    """A fresh database; afterwards the server writes again, and the database is dropped."""
    database = PostgresDb(server=server, name=f"t_{secrets.token_hex(4)}")
    server.run(f"CREATE DATABASE {database.name}")
    yield database
    server.read_only(False)
    # A prepared transaction is no session: it would keep the database from being dropped, even by force.
    for (gid,) in database.run("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        database.run(f"ROLLBACK PREPARED {sql.quote(gid)}")
    server.run(f"DROP DATABASE {database.name} WITH (FORCE)")


@pytest.fixture
def postgres_db(postgres_server: Postgres) -> Iterator[PostgresDb]:
    """A fresh database in the shared PostgreSQL."""
    with fresh_postgres(postgres_server) as database:
        yield database


@dataclass(frozen=True, kw_only=True)
class MariaDbDb:
    """A database in a shared server. Users are the server's: give them names of their own."""

    server: MariaDB
    name: str

    def connect(
        self, user: str = "root", password: str = "", **options: Any
    ) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A session in autocommit, unless `options` say otherwise."""
        return self.server.connect(user, password, self.name, **options)

    def run(self, sql: str, *values: object, user: str = "root", password: str = "") -> list[tuple[Any, ...]]:
        """Run one statement in a session of its own."""
        return self.server.run(sql, *values, user=user, password=password, database=self.name)

    def dump(self) -> str:
        """mariadb-dump of it."""
        return self.server.dump(self.name)


@pytest.fixture
def mariadb_db(mariadb_server: MariaDB) -> Iterator[MariaDbDb]:
    """A fresh database; afterwards it is dropped and the server writes again."""
    database = MariaDbDb(server=mariadb_server, name=f"t_{secrets.token_hex(4)}")
    mariadb_server.run(f"CREATE DATABASE {database.name}")
    yield database
    mariadb_server.read_only(False)
    mariadb_server.run(f"DROP DATABASE {database.name}")


@pytest.fixture
def redis_db(redis_server: Redis) -> Iterator[Redis]:
    """The shared Redis without any key."""
    redis_server.run("FLUSHALL")
    yield redis_server
    redis_server.run("FLUSHALL")
