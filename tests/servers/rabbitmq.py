"""A RabbitMQ node of the tests' own: users and permissions, alarms, exact queue depths."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import httpx

from tests.servers import machine
from tests.servers.process import Server


@dataclass(frozen=True, kw_only=True, eq=False)
class Epmd(Server):
    """Erlang's register of node names. A node without one would start one that outlives the tests."""

    def prepare(self) -> None:
        """It has no data."""

    def command(self) -> list[str]:
        """The register in the foreground."""
        return [machine.needs("epmd"), "-port", str(self.port), "-address", "127.0.0.1"]

    def answers(self) -> bool:
        """It takes connections."""
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        return True


@dataclass(frozen=True, kw_only=True, eq=False)
class RabbitMQ(Server):
    """A node with one administrator, guest, whose password is guest. It takes seconds to start: share it."""

    management: bool = True
    """With the HTTP API, which costs about a second."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further lines of rabbitmq.conf."""
    management_port: int = field(default_factory=machine.free_port)
    nodes_port: int = field(default_factory=machine.free_port)
    names: Epmd = field(default_factory=Epmd)

    within: ClassVar[float] = 90.0

    def open(self) -> Self:
        """Start the register of names, then the node."""
        self.names.open()
        return super().open()

    def close(self) -> None:
        """End both."""
        super().close()
        self.names.close()

    def prepare(self) -> None:
        """Write the configuration."""
        settings = {"listeners.tcp.local": f"127.0.0.1:{self.port}"}
        if self.management:
            settings |= {
                "management.tcp.ip": "127.0.0.1",
                "management.tcp.port": str(self.management_port),
                "collect_statistics_interval": "1000",
            }
        lines = [f"{name} = {value}\n" for name, value in (settings | dict(self.settings)).items()]
        (self.folder / "rabbitmq.conf").write_text("".join(lines), encoding="utf-8")
        plugins = "[rabbitmq_management]." if self.management else "[]."
        (self.folder / "plugins").write_text(plugins, encoding="utf-8")
        (self.folder / "env.conf").touch()

    def environment(self) -> Mapping[str, str]:
        """All that tells this node and its tools apart from any other on the machine."""
        return {
            "ERL_EPMD_PORT": str(self.names.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": "freezewatch@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.nodes_port),
            "RABBITMQ_CONFIG_FILE": f"{self.folder}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{self.folder}/env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.folder}/plugins",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{self.folder}/feature_flags",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{self.folder}/generated",
            "RABBITMQ_MNESIA_BASE": f"{self.folder}/mnesia",
            "RABBITMQ_PLUGINS_EXPAND_DIR": f"{self.folder}/expanded",
            "RABBITMQ_LOG_BASE": f"{self.folder}/logs",
            "RABBITMQ_LOGS": "-",
            # Schedulers that spin while they wait would take the processor from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def command(self) -> list[str]:
        """The node."""
        return [machine.needs("rabbitmq-server")]

    def answers(self) -> bool:
        """It greets a client that speaks AMQP, and the HTTP API answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            greets = connection.recv(1) == b"\x01"
        return greets and (not self.management or bool(self.api("GET", "/api/whoami")))

    def ctl(self, *words: str) -> str:
        """What rabbitmqctl answers for this node."""
        program = Path(machine.needs("rabbitmq-server")).with_name("rabbitmqctl")
        return machine.run_to_end([str(program), "--quiet", *words], home=self.folder, **self.environment())

    def api(self, method: str, path: str, json: object = None) -> Any:
        """Ask the HTTP API; the counters and depths in its answers are seconds late."""
        url = f"http://127.0.0.1:{self.management_port}{path}"
        answer = httpx.request(method, url, json=json, auth=("guest", "guest"), timeout=10, trust_env=False)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def url(self, user: str = "guest", password: str = "guest", vhost: str = "/") -> str:
        """The address for aio-pika."""
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def add_user(self, name: str, password: str, vhost: str = "/") -> None:
        """Create a user who may do everything in a vhost."""
        self.ctl("add_user", name, password)
        self.permit(name, vhost=vhost)

    def permit(
        self, name: str, configure: str = ".*", write: str = ".*", read: str = ".*", vhost: str = "/"
    ) -> None:
        """Set what a user may do, as patterns of names."""
        self.ctl("set_permissions", "-p", vhost, name, configure, write, read)

    def read_only(self, on: bool, name: str, vhost: str = "/") -> None:
        """Let a user consume only, or do everything again."""
        self.permit(name, *(("^$", "^$", ".*") if on else (".*", ".*", ".*")), vhost=vhost)

    def memory_alarm(self, on: bool) -> None:
        """Raise or clear the alarm under which publishers wait for an answer; returns when it is so."""
        self.ctl("set_vm_memory_high_watermark", "0" if on else "0.6")
        machine.until(
            lambda: ("memory" in self.ctl("eval", "rabbit_alarm:get_alarms().")) is on,
            f"the memory alarm is {'on' if on else 'off'}",
        )

    def sync(self) -> None:
        """Write all declarations to disk: about one in twelve is acknowledged two seconds before it is."""
        self.ctl("eval", "mnesia:sync_log().")

    def depths(self, vhost: str = "/") -> dict[str, int]:
        """Messages by queue, ready and unacknowledged, exact at this moment."""
        lines = self.ctl("list_queues", "-p", vhost, "--no-table-headers", "name", "messages").splitlines()
        return {name: int(count) for name, count in (line.split("\t") for line in lines)}
