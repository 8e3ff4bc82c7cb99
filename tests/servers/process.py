"""What all servers share: a process that is started, stopped, crashed and hung on its own data and port."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from tests.servers import keeper, machine


class DidNotStart(Exception):
    """A server ended or stayed silent; the message shows the end of its log."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Server(ABC):
    """A server with a folder and a port of its own; used with `with`, or `open()` and `close()`.

    A stop, a crash and a restart leave the folder and the port as they are.
    """

    port: int = field(default_factory=machine.free_port)
    folder: Path = field(default_factory=machine.new_folder)
    _live: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False, repr=False)

    account: ClassVar[str | None] = None
    """The user it runs as if the tests are root's."""
    polite: ClassVar[signal.Signals] = signal.SIGTERM
    """What makes it shut down in good order."""
    quick: ClassVar[signal.Signals] = signal.SIGKILL
    """What ends it for good: nobody will read its data again."""
    within: ClassVar[float] = 30.0
    """Seconds it may take to start."""

    @abstractmethod
    def prepare(self) -> None:
        """Create its data and settings in its folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask it something only a server that is ready can answer; any exception means not yet."""

    def environment(self) -> Mapping[str, str]:
        """Variables it needs besides those of machine.environment."""
        return {}

    def open(self) -> Self:
        """Prepare and start it."""
        machine.give(self.folder, self.owner)
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End it and remove its folder; again is no error."""
        self._end(self.quick, 5.0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def owner(self) -> str | None:
        """The user it runs as, or None for the tests' own."""
        return machine.account(self.account)

    @property
    def pid(self) -> int | None:
        """Its process while it runs."""
        return self._live[0].pid if self._live else None

    @property
    def log(self) -> str:
        """What it printed since it was opened."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def listens_on(self) -> set[str]:
        """The addresses on which its processes take connections."""
        assert self.pid is not None
        return machine.listening(keeper.tree(self.pid))

    def start(self) -> None:
        """Start it on its data and its port; returns when it is ready."""
        assert not self._live, "it runs already"
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=machine.environment(self.folder, **self.environment()),
                process_group=0,
                **machine.become(self.owner),
            )
        self._live.append(process)
        machine.tell_keeper(f"+{process.pid} {int(self.quick)}")
        deadline = time.monotonic() + self.within
        while not self._ready():
            ended = process.poll()
            if ended is not None or time.monotonic() > deadline:
                why = f"not ready after {self.within:g} s" if ended is None else f"it ended with {ended}"
                raise DidNotStart(f"{type(self).__name__}: {why}: {self.log[-2000:]}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        try:
            return self.answers()
        except Exception:  # drivers have many ways to say that nobody is there yet
            return False

    def stop(self) -> None:
        """Shut it down in good order, or kill it if that takes too long."""
        self._end(self.polite, 20.0)

    def kill(self) -> None:
        """Crash it: nothing is written any more, nobody is told."""
        self._end(signal.SIGKILL, 5.0)

    def restart(self, *, crash: bool = False) -> None:
        """Stop or crash it, then start it on the same data and the same port."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Hang it: connections are accepted by the kernel, and nobody ever answers."""
        assert self.pid is not None
        keeper.freeze(self.pid)

    def resume(self) -> None:
        """Let a hung server go on where it was."""
        assert self.pid is not None
        keeper.send(keeper.tree(self.pid), signal.SIGCONT)

    def _end(self, how: signal.Signals, grace: float) -> None:
        if not self._live:
            return
        process = self._live[0]
        if how is signal.SIGKILL:
            keeper.crash(process.pid)
        else:
            keeper.end(process.pid, how, grace)
        process.wait(10)
        self._live.clear()
        machine.tell_keeper(f"-{process.pid}")
