"""A MariaDB of the tests' own: a binary log by row with GTIDs, a read-only switch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pymysql
from pymysql.cursors import Cursor

from tests.servers import machine
from tests.servers.process import Server

_SIZES = {"innodb-log-file-size": "8M", "innodb-buffer-pool-size": "32M"}
_OPTIONS = {
    "bind-address": "127.0.0.1",
    "server-id": "1",
    "log-bin": "binlog",
    "binlog-format": "ROW",
    "event-scheduler": "OFF",
    "character-set-server": "utf8mb4",
    # A crash here is a killed process: what it gave to the kernel is kept, so nothing is synced.
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-flush-method": "nosync",
    "sync-binlog": "0",
}
_OWN = ("information_schema", "mysql", "performance_schema", "sys")
"""Databases of the server itself."""
_GRANTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, EXECUTE, LOCK TABLES ON *.*"


@functools.cache
def _template() -> Path:
    """A data folder made once for all servers of this process; root comes over TCP without a password."""
    program, owner = machine.needs("mariadb-install-db"), machine.account(MariaDB.account)
    folder = machine.give(machine.new_folder(), owner)
    options = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
    sizes = [f"--{name}={value}" for name, value in _SIZES.items()]
    machine.run_to_end([program, *options, f"--datadir={folder}/data", *sizes], owner=owner, home=folder)
    return folder / "data"


@dataclass(frozen=True, kw_only=True, eq=False)
class MariaDB(Server):
    """A MariaDB server."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Options of mariadbd that differ from the fast ones, as `{"binlog-format": "MIXED"}`."""

    account: ClassVar[str | None] = "mysql"

    def prepare(self) -> None:
        """Copy the template."""
        machine.copied(_template(), self.folder / "data")

    def command(self) -> list[str]:
        """The server itself, without mariadbd-safe, which would start it again after a crash."""
        own = {
            "datadir": f"{self.folder}/data",
            "socket": f"{self.folder}/socket",
            "pid-file": f"{self.folder}/pid",
            "port": str(self.port),
        }
        options = _SIZES | _OPTIONS | own | dict(self.options)
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return [machine.needs("mariadbd"), "--no-defaults", "--skip-name-resolve", *arguments]

    def answers(self) -> bool:
        """A session can be opened."""
        return self.run("SELECT 1") == [(1,)]

    def parameters(
        self, user: str = "root", password: str = "", database: str | None = None
    ) -> dict[str, Any]:
        """The arguments of pymysql.connect."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": user,
            "password": password,
            "database": database,
        }

    def dsn(self, user: str = "root", password: str = "", database: str = "") -> str:
        """The address as a URL."""
        secret = f":{password}" if password else ""
        return f"mysql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def connect(
        self, user: str = "root", password: str = "", database: str | None = None, **options: Any
    ) -> pymysql.Connection[Cursor]:
        """A session in autocommit, unless `options` say otherwise."""
        # Without a limit on reading, pymysql waits for ever for the greeting of a server that hangs.
        defaults = {"autocommit": True, "connect_timeout": 5, "read_timeout": 10, "write_timeout": 10}
        return pymysql.connect(**self.parameters(user, password, database), **(defaults | options))

    def run(
        self, sql: str, *values: object, user: str = "root", password: str = "", database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement in a session of its own; gives the rows, if there are any."""
        with self.connect(user, password, database) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def create_user(self, name: str, password: str = "", grants: str = _GRANTS) -> None:
        """Create a user that read_only binds; with ALL ON *.* it would be READ ONLY ADMIN, and pass."""
        self.run(f"CREATE OR REPLACE USER '{name}'@'%%' IDENTIFIED BY %s", password)
        self.run(f"GRANT {grants} TO '{name}'@'%'")

    def databases(self) -> list[str]:
        """The databases that are not the server's own."""
        return sorted(name for (name,) in self.run("SHOW DATABASES") if name not in _OWN)

    def dump(self, *databases: str) -> str:
        """mariadb-dump of these databases, or all; equal if and only if nothing in them changed.

        It shows the next AUTO_INCREMENT of each table, routines, triggers and events.
        """
        chosen = list(databases) or self.databases()
        if not chosen:
            return ""
        where = ["--no-defaults", "--host=127.0.0.1", f"--port={self.port}", "--user=root"]
        what = ["--routines", "--events", "--triggers", "--hex-blob", "--order-by-primary"]
        # A transaction instead of locks: FLUSH TABLES would move the GTID of a server with MIXED format.
        how = ["--skip-comments", "--skip-dump-date", "--single-transaction", "--skip-lock-tables"]
        program = machine.needs("mariadb-dump")
        return machine.run_to_end([program, *where, *what, *how, "--databases", *chosen])

    def read_only(self, on: bool) -> None:
        """Switch read_only, which binds everybody but root."""
        self.run(f"SET GLOBAL read_only = {int(on)}")
