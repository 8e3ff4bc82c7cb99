"""What tests need of the machine: programs, ports, folders, users, and a keeper that outlives them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest

from tests.servers import keeper

T = TypeVar("T")


# -- programs -------------------------------------------------------------------------------------

PACKAGES = {
    "postgres": "postgresql",
    "mariadbd": "mariadb-server",
    "redis-server": "redis-server",
    "rabbitmq-server": "rabbitmq-server",
    "nats-server": "nats-server",
}
"""The Debian package of each server program."""


@functools.cache
def find(program: str) -> Path | None:
    """The path of a program, which Debian may keep where the PATH of an ordinary user does not lead."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    path = os.environ.get("PATH", os.defpath)
    # The rabbitmq-server that is on PATH drops the environment by which a node is told from another.
    places = [*map(str, reversed(versions)), "/usr/lib/rabbitmq/bin", path, "/usr/local/sbin", "/usr/sbin"]
    found = shutil.which(program, path=os.pathsep.join(places))
    return Path(found) if found else None


def needs(program: str) -> str:
    """The path of a server program, without which a test is skipped here and fails on CI."""
    found = find(program)
    if found is None:
        why = f"{program} is not installed: apt-get install {PACKAGES.get(program, program)}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return str(found)


# -- ports, waiting, files ------------------------------------------------------------------------

_given: set[int] = set()
_PORTS = range(10240, 32768)


def free_port() -> int:
    """A port of 127.0.0.1 that is free and was not given to anybody in this process before.

    It lies below the range from which the kernel takes ports of its own accord: a server that is down
    for a moment must find its port again, and no client may meet itself on it.
    """
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def listening(pids: Iterable[int]) -> set[str]:
    """The addresses on which processes take connections; those of IPv6 as the kernel writes them."""
    opened = set()
    for descriptor in (one for pid in pids for one in Path(f"/proc/{pid}/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            opened.add(str(descriptor.readlink()))
    tables = [Path(f"/proc/net/{name}").read_text().splitlines() for name in ("tcp", "tcp6")]
    sockets = [line.split() for table in tables for line in table]
    found = {one[1].split(":")[0] for one in sockets if one[3] == "0A" and f"socket:[{one[9]}]" in opened}
    return {socket.inet_ntoa(bytes.fromhex(one)[::-1]) if len(one) == 8 else one for one in found}


def until(what: Callable[[], T], why: str, within: float = 10.0) -> T:
    """Ask `what` until it is true; fail with `why` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {why}")
        time.sleep(0.02)


@functools.cache
def _keeper() -> tuple[Path, IO[str]]:
    """The folder of this process's servers, and the pipe to the one that removes it in any case.

    The folder may be entered by everyone, since some servers refuse to run as root.
    """
    folder = Path(tempfile.mkdtemp(prefix="freezewatch-"))
    folder.chmod(0o755)
    # A session of its own: an interrupt from the keyboard is for the tests, not for the keeper.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(keeper.__file__)), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    atexit.register(process.communicate)
    return folder, process.stdin


def tell_keeper(line: str) -> None:
    """Announce a process (`+<pid> <signal>`) or take it back (`-<pid>`)."""
    pipe = _keeper()[1]
    pipe.write(line + "\n")
    pipe.flush()


def new_folder() -> Path:
    """A path for a server's files, short enough for a socket in it; nothing is created yet."""
    return _keeper()[0] / secrets.token_hex(4)


def give(folder: Path, owner: str | None) -> Path:
    """Create a folder that belongs to the user a server runs as."""
    folder.mkdir(parents=True, exist_ok=True)
    if owner is not None:
        shutil.chown(folder, owner)
    return folder


def account(name: str | None) -> str | None:
    """The user to become for a server: root becomes `name`, anybody else stays who he is."""
    return pwd.getpwnam(name).pw_name if name and os.geteuid() == 0 else None


def environment(home: Path | None = None, **added: str) -> dict[str, str]:
    """A clean environment: PGHOST, RABBITMQ_NODENAME and the like of whoever runs the tests do not count.

    A server has a folder of its own for temporary files too: a MariaDB that starts deletes the temporary
    tables that it finds, also those of another one that is at work.
    """
    own = {"HOME": str(home), "TMPDIR": str(home)} if home else {}
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC"} | own | added


def become(owner: str | None) -> dict[str, Any]:
    """The arguments with which subprocess runs a program as that user."""
    if owner is None:
        return {}
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}


def run_to_end(
    command: Sequence[str], *, owner: str | None = None, home: Path | None = None, **variables: str
) -> str:
    """Run a program as `owner` and give what it printed; fail with what it complained about."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env=environment(home, **variables),
        check=False,
        **become(owner),
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {said[-2000:]}"
    return str(done.stdout)


def copied(template: Path, to: Path) -> None:
    """Copy a prepared data folder with its owners; where the file system can, without copying its blocks."""
    run_to_end(["cp", "-a", "--reflink=auto", str(template), str(to)])
