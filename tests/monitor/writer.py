"""Writers that tests start as processes of their own: `python -m tests.monitor.writer NAME LEDGER …`."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from monitor.events import Event, SelfNoted
from monitor.ledger import Ledger, LedgerFile, only_watcher

FILLING = "x" * 900


def endless(path: Path) -> None:
    """Append forever; print the number of every event that was handed on as durable."""

    def committed(batch: list[tuple[int, Event]]) -> None:
        said = "".join(f"{event.detail['n']}\n" for _, event in batch if isinstance(event, SelfNoted))
        os.write(1, said.encode())

    ledger = Ledger(path, committed, lambda reason: None)
    ledger.start()
    number, pause = 0, threading.Event()
    while not pause.wait(0.001):
        number += 1
        ledger.append(SelfNoted(at=1.0, what="endless", detail={"n": f"{os.getpid()}-{number}"}))


def many(path: Path, batches: int) -> None:
    """Append so many batches of three, each in a transaction of its own."""
    with closing(LedgerFile(path)) as file:
        for number in range(batches):
            mark = f"{os.getpid()}-{number}"
            file.append([SelfNoted(at=1.0, what=mark, detail={"part": part}) for part in range(3)])


def limited(path: Path) -> None:
    """Append until the file may not grow, then let it grow again; print what happened, then the total."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = 300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told: list[str | None] = []
    durable: list[int] = []
    changed = threading.Event()

    def trouble(reason: str | None) -> None:
        told.append(reason)
        changed.set()

    ledger = Ledger(path, lambda batch: durable.extend(n for n, _ in batch), trouble)
    ledger.start()
    total = 0
    while not changed.wait(0.002):
        total += 1
        ledger.append(SelfNoted(at=1.0, what=FILLING, detail={"n": total}))
    before = ledger.backlog
    changed.clear()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    recovered = changed.wait(20)
    stopped = ledger.stop(20)
    print(total, len(durable), before > 0, recovered and told[-1] is None, stopped, bool(told[0]))


def watching(path: Path) -> None:
    """Hold the right to watch until standard input ends."""
    with only_watcher(path):
        print("watching", flush=True)
        sys.stdin.read()


WRITERS: dict[str, Callable[..., None]] = {
    "endless": endless,
    "many": lambda path: many(path, 60),
    "limited": limited,
    "watching": watching,
}

if __name__ == "__main__":
    WRITERS[sys.argv[1]](Path(sys.argv[2]))
