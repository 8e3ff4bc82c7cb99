"""Blocking work beside the loop: one thread at a time, bounded, and never waited for when it hangs.

The pool of the loop is not used: a thread that hangs in a system call (a dead network disk) would keep the
process from ending. Ours is a daemon, and as long as it hangs nothing new is begun.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from probes.answer import OwnFault, Unreachable

T = TypeVar("T")


class Aside:
    """Runs one piece of work at a time in a thread."""

    def __init__(self) -> None:
        self._busy = threading.Event()

    async def run(self, work: Callable[[], T], *, within: float, stop: Callable[[], None]) -> T:
        """What `work` returns or raises; `stop` asks it to end when `within` seconds are over.

        Raises Unreachable when it has not ended by then, or when the work before hangs still.
        """
        if self._busy.is_set():
            raise Unreachable("the reading before has not ended yet")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        thread = threading.Thread(
            target=_reported, args=(work, future, loop, self._busy), name="freezewatch-audit", daemon=True
        )
        self._busy.set()
        try:
            thread.start()
        except RuntimeError as error:
            self._busy.clear()
            raise OwnFault(f"the watchdog could not start a thread: {error}") from None
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError:
            stop()
            raise Unreachable(f"not read within {within:.3g} s") from None
        except asyncio.CancelledError:
            stop()
            raise


def _reported(
    work: Callable[[], T],
    future: "asyncio.Future[T]",
    loop: asyncio.AbstractEventLoop,
    busy: threading.Event,
) -> None:
    """Do the work and tell the loop; the future may be given up by then, and the loop closed."""
    try:
        done = work()
        tell = partial(_tell, future, done)
    except BaseException as error:  # whatever it is, it is raised again where it is awaited
        tell = partial(_fail, future, error)
    busy.clear()
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)


def _tell(future: "asyncio.Future[T]", done: T) -> None:
    if not future.done():
        future.set_result(done)


def _fail(future: "asyncio.Future[T]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
