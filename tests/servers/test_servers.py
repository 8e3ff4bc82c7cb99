"""Servers answer, hang, crash and go, and never outlive the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import keeper, machine
from tests.servers.mariadb import MariaDB
from tests.servers.nats import Nats
from tests.servers.object_store import ObjectStore
from tests.servers.postgres import Postgres
from tests.servers.process import DidNotStart, Server
from tests.servers.redis import Redis

ROOT = Path(__file__).parents[2]
QUICK = [Postgres, MariaDB, Redis, Nats, ObjectStore]


@pytest.mark.parametrize("kind", QUICK)
def test_a_paused_server_hangs_and_goes_on_when_it_is_resumed(kind: type[Server]) -> None:
    with kind() as server, ThreadPoolExecutor(1) as pool:
        assert server.listens_on() == {"127.0.0.1"}
        server.pause()
        asked = pool.submit(server.answers)
        with pytest.raises(TimeoutError):
            asked.result(0.5)
        server.resume()
        assert asked.result(10)


def test_an_open_session_of_a_paused_server_hangs_too() -> None:
    with Postgres() as server, server.connect() as session, ThreadPoolExecutor(1) as pool:
        server.pause()
        asked = pool.submit(session.execute, "SELECT 1")
        with pytest.raises(TimeoutError):
            asked.result(0.5)
        server.resume()
        assert asked.result(10).fetchall() == [(1,)]


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    server = Redis(settings={"no-such-setting": "1"})
    with pytest.raises(DidNotStart, match="no-such-setting"):
        server.open()
    assert server.pid is None
    assert not server.folder.exists()


def test_a_paused_server_can_be_closed() -> None:
    with Postgres() as server:
        assert server.pid is not None
        members = keeper.tree(server.pid)
        server.pause()
    assert len(members) > 3
    assert not keeper.remaining(members)
    assert not server.folder.exists()


STORY = """
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis
postgres, redis = Postgres().open(), Redis().open()
session = postgres.connect()
session.execute("BEGIN")
redis.pause()
print(postgres.pid, redis.pid, postgres.folder.parent, flush=True)
input()
"""


def test_a_killed_test_process_leaves_no_server_and_no_file_behind() -> None:
    machine.needs("postgres")
    machine.needs("redis-server")
    command = [sys.executable, "-c", STORY]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        postgres, redis_, folder = process.stdout.readline().split()
        members = keeper.tree(int(postgres)) | keeper.tree(int(redis_))
        assert len(members) > 4
        os.kill(process.pid, signal.SIGKILL)
    machine.until(lambda: not keeper.remaining(members), "all servers are gone")
    machine.until(lambda: not Path(folder).exists(), "their files are gone")


def test_a_port_is_given_once_and_never_one_that_the_kernel_gives_to_clients() -> None:
    ports = [machine.free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert max(ports) < 32768


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_program_skips_here_and_fails_on_ci(
    ci: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(machine.PACKAGES, "no-such-program", "its-package")
    with pytest.raises(outcome, match="apt-get install its-package"):
        machine.needs("no-such-program")
