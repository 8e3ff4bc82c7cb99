"""Seven holes in a freeze, opened in one real window over real stores: each is found, soon, and named.

A pooled session, a role with a setting of its own, a prepared transaction, an event scheduler, a promoted
replica, a message that lands after an alarm, a purged stream. The guards are those that users have.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import nats
import pytest

from tests.servers.mariadb import MariaDB
from tests.servers.nats import Nats
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

from .harness import free_port, stamp, until

pytestmark = [pytest.mark.window, pytest.mark.timeout(280), pytest.mark.xdist_group("holes")]

EVERY, SETTLE, LENGTH, BASELINE = 1.0, 4.0, 40.0, 12.0
HOLE = 10.0
"""Seconds into the window at which the holes are opened that are not there from the start."""
OWN_NEED = 1.5
"""Seconds that a reading, a commit and the clock of the test may take themselves."""

WINDOW = """
window:
  id: holes
  opens: {opens}
  closes: {closes}
  baseline: {baseline:g}s
  soak: 0s
  settle: {settle:g}s
defaults: {{every: 1s, timeout: 900ms}}
writes:
  - {{name: pool, postgres: {{dsn: "{pool}", table: public.products}}}}
  - {{name: role, postgres: {{dsn: "{role}", table: public.products}}}}
  - {{name: cache, redis: {{url: "{redis}"}}}}
  - {{name: stream, nats: {{url: "{nats}", stream: orders, subject: orders.new, canary: true}}}}
audits:
  - {{name: catalogue-db, postgres: {{dsn: "{postgres}", tables: ["public.*"]}}, timeout: 3s}}
  - {{name: shop-db, mysql: {{dsn: "{mysql}", tables: ["shop.*"]}}}}
  - {{name: cache-audit, redis: {{url: "{redis}"}}}}
  - {{name: broker, amqp: {{url: "{amqp}", queues: [orders]}}}}
  - {{name: streams, nats: {{url: "{nats}"}}}}
listen: {{port: {port}}}
waive:
"""
WAIVED = ("reads", "meaning", "queue", "notice", "flag", "jobs", "retries", "scope", "reopen")


@dataclass(kw_only=True)
class Stores:
    """The stores, and how each is frozen and opened behind the guard's back."""

    postgres: Postgres
    mariadb: MariaDB
    primary: Redis
    replica: Redis
    rabbitmq: RabbitMQ
    nats: Nats
    opened: dict[str, float] = field(default_factory=dict)
    """When each hole was there (epoch seconds)."""
    publisher: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Tables, queues and streams with something in them; an application that may write."""
        for sql in (
            "CREATE DATABASE shop",
            "CREATE ROLE app LOGIN SUPERUSER",
            "CREATE ROLE etl LOGIN SUPERUSER",
        ):
            self.postgres.run(sql)
        self.postgres.run("CREATE TABLE products (id int PRIMARY KEY, name text)", dbname="shop")
        self.mariadb.run("CREATE DATABASE shop")
        self.mariadb.run("CREATE TABLE shop.stock (id int AUTO_INCREMENT PRIMARY KEY, n int)")
        self.mariadb.run(
            "CREATE EVENT shop.sync ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.stock (n) VALUES (1)"
        )
        self.rabbitmq.api("PUT", "/api/queues/%2F/orders", json={"durable": True, "arguments": {}})
        asyncio.run(self._stream())

    async def _stream(self) -> None:
        async with await nats.connect(self.nats.url()) as link:
            stream = link.jetstream()
            await stream.add_stream(
                name="orders",
                subjects=["orders.*"],
                max_msgs=3,
                discard="new",  # type: ignore[arg-type]
            )
            for number in range(3):
                await stream.publish("orders.new", str(number).encode())

    def prepare_late(self) -> None:
        """Before the window: a transaction that is prepared, and that nobody sees among the sessions."""
        with self.postgres.connect(dbname="shop") as session:
            session.execute("BEGIN")
            session.execute("INSERT INTO products VALUES (7, 'late')")
            session.execute("PREPARE TRANSACTION 'late-order'")

    def freeze(self) -> None:
        """As an operator would: each store by its own switch."""
        now = time.time()
        self.opened |= {"pool": now, "role": now, "fence": now}
        self.postgres.run("ALTER ROLE etl SET default_transaction_read_only = off")
        self.postgres.run("ALTER DATABASE shop SET default_transaction_read_only = on")
        self.mariadb.read_only(True)
        self.rabbitmq.memory_alarm(True)
        self.publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISH, self.rabbitmq.url()], stdout=subprocess.PIPE
        )

    def open_holes(self) -> None:
        """What a freeze does not reach."""
        self._hole("prepared", lambda: self.postgres.run("COMMIT PREPARED 'late-order'", dbname="shop"))
        self._hole("scheduler", lambda: self.mariadb.run("SET GLOBAL event_scheduler = ON"))
        self._hole("promoted", lambda: self.replica.run("REPLICAOF", "NO", "ONE"))
        self._hole("purged", lambda: asyncio.run(self._purge()))
        self.rabbitmq.memory_alarm(False)
        assert self.publisher is not None
        self.publisher.wait(20)
        self.opened["landed"] = time.time()

    def _hole(self, name: str, work: Callable[[], object]) -> None:
        work()
        self.opened[name] = time.time()

    async def _purge(self) -> None:
        async with await nats.connect(self.nats.url()) as link:
            await link.jetstream().purge_stream("orders")


PUBLISH = """
import asyncio, sys
import aiormq
async def main():
    connection = await aiormq.connect(sys.argv[1])
    channel = await connection.channel()
    await channel.basic_publish(b"an order", routing_key="orders", timeout=60)
    await connection.close()
asyncio.run(main())
"""
"""An application that publishes while the broker blocks it, and waits."""


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    """Stores of their own, since each is turned read-only as a whole."""
    with ExitStack() as open_:
        primary = open_.enter_context(Redis())
        found = Stores(
            postgres=open_.enter_context(Postgres(settings={"max_prepared_transactions": "5"})),
            mariadb=open_.enter_context(MariaDB()),
            primary=primary,
            replica=open_.enter_context(Redis(replica_of=primary)),
            rabbitmq=open_.enter_context(RabbitMQ()),
            nats=open_.enter_context(Nats()),
        )
        found.prepare()
        yield found
        if found.publisher is not None and found.publisher.poll() is None:
            found.publisher.kill()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What one window said of the stores."""

    report: dict[str, Any]
    opened: dict[str, float]

    def findings(self, criterion: str, probe: str) -> list[dict[str, Any]]:
        found = next(c for c in self.report["criteria"] if c["criterion"] == criterion)
        return [finding for finding in found["findings"] if finding["probe"] == probe]

    def criterion(self, name: str) -> dict[str, Any]:
        return next(c for c in self.report["criteria"] if c["criterion"] == name)


@pytest.fixture(scope="module")
def watched(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """One window from its baseline to its end, with every hole opened in it."""
    folder = tmp_path_factory.mktemp("holes")
    opens = time.time() + BASELINE + 4
    closes = opens + LENGTH
    config = folder / "window.yaml"
    config.write_text(
        WINDOW.format(
            opens=stamp(opens),
            closes=stamp(closes),
            baseline=BASELINE,
            settle=SETTLE,
            pool=stores.postgres.dsn("app", "shop"),
            role=stores.postgres.dsn("etl", "shop"),
            postgres=stores.postgres.dsn("postgres", "shop"),
            mysql=stores.mariadb.dsn(),
            redis=stores.replica.url(),
            amqp=stores.rabbitmq.url(),
            nats=stores.nats.url(),
            port=free_port(),
        )
        + "".join(f"  {name}: not part of this test\n" for name in WAIVED),
        "utf-8",
    )
    with (folder / "watch.log").open("wb") as log:
        watching = subprocess.Popen(
            [sys.executable, "-m", "monitor", "watch", "--config", str(config), "--json"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            until(lambda: time.time() >= opens - 2, "the window is about to open", 60)
            stores.prepare_late()
            until(lambda: time.time() >= opens, "the window opens", 60)
            stores.freeze()
            until(lambda: time.time() >= opens + HOLE, "the freeze has held for a while", 60)
            stores.open_holes()
            watching.wait(LENGTH + 30)
        finally:
            if watching.poll() is None:
                watching.kill()
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "report", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + (folder / "watch.log").read_text("utf-8")[-2000:]
    return Watched(report=json.loads(done.stdout), opened=stores.opened)


HOLES = [
    # hole, criterion, probe, what the finding says, seconds beyond two intervals that finding it may take
    ("pool", "guard", "pool/held", "over a session from before the window", SETTLE),
    ("role", "guard", "role", "was accepted while frozen", SETTLE),
    ("fence", "storage", "catalogue-db", "late-order", SETTLE),
    ("prepared", "storage", "catalogue-db", "public.products: 1 × insert (id=7)", 0.0),
    ("scheduler", "storage", "shop-db", "shop.stock", 1.0),
    ("promoted", "guard", "cache", "SET was queued", 0.0),
    ("landed", "storage", "broker", "orders", 0.0),
    ("purged", "storage", "streams", "orders", 0.0),
]


@pytest.mark.parametrize(("hole", "criterion", "probe", "says", "more"), HOLES, ids=[h[0] for h in HOLES])
def test_hole_is_found_and_named(
    hole: str, criterion: str, probe: str, says: str, more: float, watched: Watched
) -> None:
    """By attempt or by audit, within two intervals and the time that the freeze may take."""
    findings = watched.findings(criterion, probe)
    named = [finding for finding in findings if says in finding["what"]]

    assert named, json.dumps([watched.criterion(criterion), findings], indent=1)
    first = min(datetime.fromisoformat(finding["first"]).timestamp() for finding in named)
    assert first - watched.opened[hole] <= 2 * EVERY + more + OWN_NEED
    assert watched.criterion(criterion)["verdict"] == "FAIL"


def test_window_with_holes_is_red_and_advises_to_roll_back(watched: Watched) -> None:
    assert watched.report["verdict"] == "RED"
    assert watched.report["decision"]["action"] == "ROLL_BACK"


def test_how_each_store_was_read_stands_in_the_report(watched: Watched) -> None:
    """The grade: a reader must know what an audit could see."""
    grades = watched.criterion("storage")["figures"]["grades"]

    assert any(grade.startswith("catalogue-db: logical slot") for grade in grades), grades
    assert any(grade.startswith("shop-db: binlog rows") for grade in grades), grades


def test_fresh_sessions_of_the_pool_were_refused(watched: Watched) -> None:
    """The hole is the pooled session alone; a probe with fresh ones would have passed."""
    assert watched.findings("guard", "pool") == []
