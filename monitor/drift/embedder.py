"""Keeps the embedder's process: starts it early, restarts it, never lets anyone wait for it.

`ask` returns at once; the vector comes by callback on the supervisor's thread, or never. A process that
dies or hangs is replaced after a pause that doubles up to half a minute, and what it had not answered is
asked again.
"""

import base64
import json
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from monitor.drift.delta_s import Vector

BATCH = 16
DEADLINE = 60.0
"""Seconds for one batch before the process counts as hung."""
START_DEADLINE = 180.0
IDLE = 1.0
"""Seconds between looks at a process that nothing is asked of."""
LONGEST_PAUSE = 30.0
QUEUE = 5000
CACHE = 20_000

Receive = Callable[[str, Vector], None]
Note = Callable[[str, dict[str, str]], None]


class _Ended(Exception):
    """The process is gone, hangs, or says what it should not."""


class Embedder:
    """One process that turns texts into vectors, by the id of the text. Safe to use from any thread."""

    def __init__(self, model: str, receive: Receive, note: Note, *, deadline: float = DEADLINE) -> None:
        self._longest = deadline
        self._command = [sys.executable, "-m", "monitor.drift.worker", model]
        self._receive = receive
        self._note = note
        self._cache: OrderedDict[str, Vector] = OrderedDict()
        self._waiting: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="embedder", daemon=True)
        self._ready = False
        self.dropped = 0

    @property
    def up(self) -> bool:
        """It answers."""
        return self._ready

    @property
    def queued(self) -> int:
        """Texts that wait for a vector."""
        return len(self._waiting)

    @property
    def pid(self) -> int | None:
        """The number of the process that runs now."""
        process = self._process
        return process.pid if process is not None else None

    def start(self) -> None:
        """Start the process in the background."""
        self._thread.start()

    def stop(self) -> None:
        """End the process."""
        self._stopped.set()
        self._work.set()
        self._kill()
        if self._thread.is_alive():
            self._thread.join(10)

    def known(self, name: str) -> Vector | None:
        """The vector of a text that was embedded before."""
        with self._lock:
            vector = self._cache.get(name)
            if vector is not None:
                self._cache.move_to_end(name)
            return vector

    def ask(self, name: str, text: str) -> None:
        """Embed `text` when there is time. Beyond the queue's bound it is dropped and counted."""
        with self._lock:
            if name in self._waiting:
                return
            if len(self._waiting) >= QUEUE:
                self.dropped += 1
                return
            self._waiting[name] = text
        self._work.set()

    def _supervise(self) -> None:
        pause = 1.0
        while not self._stopped.is_set():
            try:
                self._run()
            except (_Ended, OSError, ValueError, KeyError, TypeError) as error:
                if not self._stopped.is_set():
                    self._note("embedder ended", {"reason": str(error) or type(error).__name__})
            pause = 1.0 if self._ready else pause
            self._ready = False
            self._kill()
            self._stopped.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def _run(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._stopped.is_set():
            return
        hello = self._line(START_DEADLINE)
        self._ready = True
        self._note("embedder ready", {"model": str(hello["model"])})
        number = 0
        while not self._stopped.is_set():
            if not self._work.wait(IDLE) and self._process is not None and self._process.poll() is not None:
                raise _Ended(f"it ended with {self._process.returncode} while nothing was asked")
            with self._lock:
                batch = dict(list(self._waiting.items())[:BATCH])
                if not batch:
                    self._work.clear()
            if batch:
                number += 1
                self._exchange(number, batch)

    def _exchange(self, number: int, batch: dict[str, str]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise _Ended("it is gone")
        request = json.dumps({"id": number, "texts": list(batch.values())}).encode() + b"\n"
        with self._deadline(self._longest):
            process.stdin.write(request)
            process.stdin.flush()
        answer = self._line(self._longest)
        if "error" in answer:
            self._note("embedder refused answers", {"reason": str(answer["error"])})
        encoded = answer.get("vectors")
        vectors = {
            name: np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)
            for name, text in zip(batch, encoded if isinstance(encoded, list) else [], strict=False)
        }
        with self._lock:
            self._cache.update(vectors)
            for name in batch:
                self._waiting.pop(name, None)
            while len(self._cache) > CACHE:
                self._cache.popitem(last=False)
        for name, vector in vectors.items():
            self._receive(name, vector)

    def _line(self, deadline: float) -> dict[str, object]:
        process = self._process
        if process is None or process.stdout is None:
            raise _Ended("it is gone")
        with self._deadline(deadline):
            line = process.stdout.readline()
        if not line:
            raise _Ended(f"it ended with {process.wait()}, or gave no answer in {deadline:g} s")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise _Ended("it answered something that is no object")
        return answer

    def _deadline(self, seconds: float) -> "_Deadline":
        return _Deadline(seconds, self._kill)

    def _kill(self) -> None:
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        if threading.current_thread() is self._thread:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self._process = None


class _Deadline:
    """Calls `late` from another thread when the block takes longer than `seconds`."""

    def __init__(self, seconds: float, late: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, late)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
