"""A PostgreSQL of the tests' own: logical WAL, prepared transactions, standbys, a read-only switch."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from tests.servers import machine
from tests.servers.process import Server

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_prepared_transactions": "10",
    "max_wal_senders": "5",
    "max_replication_slots": "10",
    "max_connections": "60",
    "shared_buffers": "16MB",
    # A crash here is a killed process: what it gave to the kernel is kept, so nothing is synced.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_retrieve_retry_interval": "200ms",
    "timezone": "UTC",
    # Shared memory in the data folder goes with it, also when nobody could clean up.
    "dynamic_shared_memory_type": "mmap",
}


@functools.cache
def _template() -> Path:
    """A data folder made once for all servers of this process; superuser postgres, no passwords."""
    program = Path(machine.needs("postgres")).with_name("initdb")
    owner = machine.account(Postgres.account)
    folder = machine.give(machine.new_folder(), owner)
    options = ["--no-sync", "--auth=trust", "--username=postgres", "--no-locale", "--encoding=UTF8"]
    # Small segments: less to write for initdb, and to copy for each server.
    machine.run_to_end([str(program), "-D", f"{folder}/data", *options, "--wal-segsize=1"], owner=owner)
    return folder / "data"


@dataclass(frozen=True, kw_only=True, eq=False)
class Postgres(Server):
    """A PostgreSQL server, or with `primary` a hot standby of that one."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ from the fast ones; kept in postgresql.conf, so ALTER SYSTEM overrides them."""
    primary: Postgres | None = None

    account: ClassVar[str | None] = "postgres"
    polite: ClassVar[signal.Signals] = signal.SIGINT
    quick: ClassVar[signal.Signals] = signal.SIGQUIT

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def prepare(self) -> None:
        """Copy the template, or the primary."""
        if self.primary is None:
            machine.copied(_template(), self.data)
        else:
            options = ["-R", "--checkpoint=fast", "--no-sync", "-D", str(self.data)]
            machine.run_to_end(
                [_tool("pg_basebackup"), *options, "-d", self.primary.dsn(dbname="replication")],
                owner=self.owner,
            )
        settings = _SETTINGS | {"port": str(self.port)} | dict(self.settings)
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def command(self) -> list[str]:
        """The server itself, without pg_ctl in between."""
        return [machine.needs("postgres"), "-D", str(self.data)]

    def answers(self) -> bool:
        """A session can be opened."""
        return self.run("SELECT true") == [(True,)]

    def close(self) -> None:
        """End it, and remove the System V segment that a killed server leaves: there is room for 4096."""
        segment = None
        with suppress(OSError, IndexError):
            segment = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        super().close()
        if segment:
            subprocess.run(["ipcrm", "-m", segment], stderr=subprocess.DEVNULL, check=False)

    def dsn(self, user: str = "postgres", dbname: str = "postgres") -> str:
        """The address for psycopg; nobody needs a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{dbname}"

    def connect(
        self, user: str = "postgres", dbname: str = "postgres", **options: Any
    ) -> psycopg.Connection[Any]:
        """A session in autocommit, unless `options` say otherwise."""
        return psycopg.connect(
            self.dsn(user, dbname), **({"autocommit": True, "connect_timeout": 5} | options)
        )

    def run(
        self, sql: str, *values: object, user: str = "postgres", dbname: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run SQL in a session of its own; gives the rows, if there are any."""
        with self.connect(user, dbname) as connection:
            # Without values the text may hold several statements, which then are one transaction.
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def dump(self, dbname: str = "postgres") -> str:
        """pg_dump of a database, sequences included; equal if and only if nothing in it changed."""
        text = machine.run_to_end([_tool("pg_dump"), "-d", self.dsn(dbname=dbname)])
        # Newer versions frame a dump with a token that is drawn anew each time.
        return re.sub(r"(?m)^\\(un)?restrict .*\n", "", text)

    def read_only(self, on: bool) -> None:
        """Switch default_transaction_read_only for the whole server; returns when new sessions show it."""
        value = "on" if on else "off"
        self.run(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        self.run("SELECT pg_reload_conf()")
        machine.until(
            lambda: self.run("SHOW default_transaction_read_only") == [(value,)],
            f"new sessions have default_transaction_read_only = {value}",
        )

    @contextmanager
    def standby(self, **settings: str) -> Iterator[Postgres]:
        """A hot standby on a port of its own, which has replayed all that was written so far."""
        with Postgres(primary=self, settings=settings) as standby:
            standby.caught_up()
            yield standby

    def caught_up(self) -> None:
        """Wait until a standby has replayed what its primary has written by now."""
        assert self.primary is not None
        [(written,)] = self.primary.run("SELECT pg_current_wal_lsn()")
        machine.until(
            lambda: self.run("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written) == [(True,)],
            f"the standby has replayed {written}",
        )


def _tool(name: str) -> str:
    """A program that comes with the server."""
    return str(Path(machine.needs("postgres")).with_name(name))
