"""A vhost of its own on a RabbitMQ, with an application user whose writes can be frozen."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiormq
from pamqp.commands import Basic

from tests.servers.rabbitmq import RabbitMQ


@dataclass(frozen=True, kw_only=True)
class Shop:
    """One vhost. `app` may do everything in it until it is frozen."""

    server: RabbitMQ
    vhost: str
    app: str

    def path(self, what: str, *rest: str) -> str:
        return "/".join([f"/api/{what}", *(quote(part, safe="") for part in (self.vhost, *rest))])

    @property
    def url(self) -> str:
        return self.server.url(self.app, "s3cr3t-word", self.vhost)

    @property
    def admin(self) -> str:
        return self.server.url(vhost=self.vhost)

    def permit(self, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        may = {"configure": configure, "write": write, "read": read}
        self.server.api("PUT", self.path("permissions", self.app), json=may)

    def freeze(self) -> None:
        self.permit("^$", "^$", ".*")

    def queue(self, name: str, **arguments: object) -> None:
        self.server.api("PUT", self.path("queues", name), json={"durable": True, "arguments": arguments})

    def exchange(self, name: str, kind: str = "direct", **settings: object) -> None:
        self.server.api("PUT", self.path("exchanges", name), json={"type": kind, "durable": True, **settings})

    def bind(self, exchange: str, queue: str, key: str = "") -> None:
        way = self.path("bindings", "e", exchange, "q", queue)
        self.server.api("POST", way, json={"routing_key": key})

    def policy(self, name: str, pattern: str, **definition: object) -> None:
        rule = {"pattern": pattern, "definition": definition, "apply-to": "queues"}
        self.server.api("PUT", self.path("policies", name), json=rule)

    def no_policy(self, name: str) -> None:
        self.server.api("DELETE", self.path("policies", name))

    def definitions(self) -> dict[str, Any]:
        found = self.server.api("GET", self.path("definitions"))
        return {part: found[part] for part in ("queues", "exchanges", "bindings", "policies")}

    async def publish(self, queue: str, *bodies: bytes) -> None:
        connection = await aiormq.connect(self.admin)
        channel = await connection.channel()
        for body in bodies:
            named = Basic.Properties(message_id=body.decode())
            await channel.basic_publish(body, routing_key=queue, properties=named)
        await connection.close()

    async def depth(self, queue: str) -> int:
        """Ready messages, exact at this moment."""
        connection = await aiormq.connect(self.admin)
        declared = await (await connection.channel()).queue_declare(queue, passive=True)
        await connection.close()
        return declared.message_count or 0

    async def drain(self, queue: str) -> list[str]:
        """The ids, or the bodies, of all messages of a queue, which is empty afterwards."""
        connection = await aiormq.connect(self.admin)
        channel = await connection.channel()
        found = []
        while True:
            message = await channel.basic_get(queue, no_ack=True)
            if isinstance(message.delivery, Basic.GetEmpty):
                break
            found.append(message.header.properties.message_id or message.body.decode())
        await connection.close()
        return found


@contextmanager
def shop(server: RabbitMQ, vhost: str | None = None) -> Iterator[Shop]:
    """A fresh vhost and user, removed afterwards."""
    made = Shop(server=server, vhost=vhost or f"v-{secrets.token_hex(4)}", app=f"app-{secrets.token_hex(4)}")
    server.api("PUT", made.path("vhosts"))
    server.api("PUT", f"/api/users/{made.app}", json={"password": "s3cr3t-word", "tags": "management"})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    server.api("PUT", made.path("permissions", "guest"), json=everything)
    made.permit()
    yield made
    server.api("DELETE", made.path("vhosts"))
    server.api("DELETE", f"/api/users/{made.app}")
