"""A NATS server of the tests' own: JetStream on disk, users whose permissions change while it runs."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers import machine
from tests.servers.process import Server


@dataclass(frozen=True, kw_only=True, eq=False)
class Nats(Server):
    """A NATS server with JetStream."""

    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Permissions by user at the start, as `{"app": {"publish": {"deny": ["orders.>"]}}}`.

    The password is the name. Without users nobody has to say who he is.
    """
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the configuration file."""

    def prepare(self) -> None:
        """Write the configuration."""
        self._configure(self.users)

    def _configure(self, users: Mapping[str, Mapping[str, Any]]) -> None:
        named = [{"user": name, "password": name, "permissions": may} for name, may in users.items()]
        settings = {
            # Its own name: a name that changes cannot be reloaded.
            "server_name": "freezewatch-test",
            "listen": f"127.0.0.1:{self.port}",
            "jetstream": {"store_dir": str(self.folder / "jetstream")},
            **({"authorization": {"users": named}} if named else {}),
            **self.settings,
        }
        (self.folder / "nats.conf").write_text(json.dumps(settings), encoding="utf-8")

    def command(self) -> list[str]:
        """The server; its configuration file is JSON, which it reads as well as its own format."""
        return [machine.needs("nats-server"), "-c", str(self.folder / "nats.conf")]

    def answers(self) -> bool:
        """It greets a client, which it does once its streams are restored."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            return connection.recv(4) == b"INFO"

    def url(self, user: str | None = None) -> str:
        """The address for nats-py."""
        return f"nats://{f'{user}:{user}@' if user else ''}127.0.0.1:{self.port}"

    def set_users(self, users: Mapping[str, Mapping[str, Any]]) -> None:
        """Give users other permissions while it runs."""
        self._configure(users)
        self.reload()

    def reload(self) -> None:
        """Read the configuration again; returns when it is in force, fails when it was turned down."""
        assert self.pid is not None
        before = len(self.log)
        os.kill(self.pid, signal.SIGHUP)

        def told() -> str:
            lines = self.log[before:].splitlines()
            return next((line for line in lines if "server configuration" in line), "")

        said = machine.until(told, "nats-server told of its reload")
        assert "Reloaded" in said, said
