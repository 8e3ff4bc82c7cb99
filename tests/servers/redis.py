"""A Redis of the tests' own: a master, a replica, or one whose users may not write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import machine
from tests.servers.process import Server

_SETTINGS = {
    "bind": "127.0.0.1",
    "save": '""',
    # Each command is given to the kernel before it is answered: a killed server keeps it.
    "appendonly": "yes",
    "appendfsync": "no",
    "repl-diskless-sync-delay": "0",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Redis(Server):
    """A Redis server, or with `replica_of` a replica of that one."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """Lines of redis.conf that differ from the fast ones."""
    users: Mapping[str, str] = field(default_factory=dict)
    """ACL rules by user, as `{"app": "on >secret ~* &* +@all -@write"}`."""
    replica_of: Redis | None = None

    def prepare(self) -> None:
        """Write redis.conf."""
        settings = _SETTINGS | {"port": str(self.port), "dir": str(self.folder)} | dict(self.settings)
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [f"user {name} {rules}" for name, rules in self.users.items()]
        if self.replica_of is not None:
            lines.append(f"replicaof 127.0.0.1 {self.replica_of.port}")
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def command(self) -> list[str]:
        """The server in the foreground."""
        return [machine.needs("redis-server"), str(self.folder / "redis.conf")]

    def answers(self) -> bool:
        """It has loaded its data, and a replica has that of its master."""
        with self.client() as client:
            return bool(client.ping()) and (
                self.replica_of is None or client.info("replication")["master_link_status"] == "up"
            )

    def url(self, user: str = "", password: str = "", db: int = 0) -> str:
        """The address as a URL."""
        secret = f"{user}:{password}@" if user or password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/{db}"

    def client(self, user: str | None = None, password: str | None = None, **options: Any) -> redis.Redis:
        """A client that asks once; by default redis-py repeats a command, a write too, after a timeout."""
        defaults: dict[str, Any] = {
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "retry": Retry(NoBackoff(), 0),
        }
        return redis.Redis(
            host="127.0.0.1", port=self.port, username=user, password=password, **(defaults | options)
        )

    def run(self, *words: Any, user: str | None = None, password: str | None = None, db: int = 0) -> Any:
        """Run one command on a connection of its own."""
        with self.client(user, password, db=db) as client:
            return client.execute_command(*words)

    def dump(self) -> str:
        """A line a key: database, key, expiry and serialised value; equal if and only if none changed.

        A restart may change the order within a large set or hash, and with it the serialised value.
        """
        lines = []
        with self.client() as asked:
            databases = [int(name.removeprefix("db")) for name in asked.info("keyspace")]
        for db in databases:
            with self.client(db=db) as client:
                for key in client.scan_iter():
                    expires, value = client.pexpiretime(key), client.dump(key)
                    if value is not None:
                        lines.append(f"{db} {key!r} {expires} {value.hex()}")
        return "\n".join(sorted(lines))

    def caught_up(self) -> None:
        """Wait until a replica has applied all that its master has written by now."""
        assert self.replica_of is not None
        written = self.replica_of.run("INFO", "replication")["master_repl_offset"]
        machine.until(
            lambda: self.run("INFO", "replication")["slave_repl_offset"] >= written,
            f"the replica has applied everything up to {written}",
        )
