"""Ends whole process trees; run as a script, it does so for a test process that has died.

A tree and not a process group, because servers leave the group they were started in: each PostgreSQL
backend is a session of its own, and so is Erlang's helper for names. A keeper and not PR_SET_PDEATHSIG,
because that signal reaches one process only, and comes when the *thread* that started it ends.

As a script it needs the standard library only, reads `+<pid> <signal>` and `-<pid>` lines from the test
process, and acts when the pipe closes, which the kernel does however that process ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

Members = dict[int, int]
"""Process ids, each with the moment it was born: a number that was given away again is another process."""


def _stat(pid: int) -> tuple[int, int] | None:
    """The parent and the moment of birth of a process, or None once it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, parent, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else (int(parent), int(rest[17]))


def tree(pid: int) -> Members:
    """A process and all its descendants, the oldest generation first; empty once it is gone."""
    found = {
        int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    living = {one: stat for one, stat in found.items() if stat is not None}
    if pid not in living:
        return {}
    members = {pid: living[pid][1]}
    for parent in (queue := [pid]):
        children = [one for one, (its_parent, _) in living.items() if its_parent == parent]
        members |= {one: living[one][1] for one in children}
        queue += children
    return members


def remaining(members: Members) -> Members:
    """Those that still live."""
    return {pid: born for pid, born in members.items() if (stat := _stat(pid)) and stat[1] == born}


def send(members: Members, what: signal.Signals) -> None:
    """Send a signal to those that still live."""
    for pid in remaining(members):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


def freeze(pid: int) -> Members:
    """Stop a tree from the root on, until it has no member that could start another one."""
    frozen: Members = {}
    while fresh := {one: born for one, born in tree(pid).items() if one not in frozen}:
        send(fresh, signal.SIGSTOP)
        frozen |= fresh
    return frozen


def crash(pid: int) -> None:
    """Kill a tree at once, as a power cut would; nobody in it sees another one go."""
    members = freeze(pid)
    send(members, signal.SIGKILL)
    gone(members, 10.0)


def end(pid: int, polite: signal.Signals, grace: float) -> None:
    """Ask the root of a tree to end, give it some time, then kill what is left of the tree."""
    members = tree(pid)
    send(members, signal.SIGCONT)
    send({one: born for one, born in members.items() if one == pid}, polite)
    if not gone(members, grace):
        crash(pid)
        send(members, signal.SIGKILL)
        gone(members, 10.0)


def gone(members: Members, within: float) -> bool:
    """Wait until none of them lives; False if one still does after so many seconds."""
    deadline = time.monotonic() + within
    while remaining(members):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def keep(folder: str) -> None:
    """Follow the lines of the test process to the end of its pipe, then end what it left and its files."""
    kept: dict[int, int] = {}
    for line in sys.stdin:
        pid, _, polite = line[1:].partition(" ")
        if line[0] == "+":
            kept[int(pid)] = int(polite)
        else:
            kept.pop(int(pid), None)
    for pid, polite in kept.items():
        end(pid, signal.Signals(polite), 2.0)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(sys.argv[1])
