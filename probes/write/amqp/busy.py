"""A write over a channel that was never idle since before the window, as a busy publisher's is.

RabbitMQ remembers for each channel what it may do, and forgets only when the channel is idle for about a
second or closed: after `set_permissions` a busy publisher goes on writing for as long as it is busy. So one
channel is kept busy, by publishes that are rolled back, and asked in its turn. Once it is lost it is opened
again for the next attempt and says nothing of those from before.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from probes.answer import ExchangeError, OwnFault
from probes.refusal import Class, Judgement
from probes.stores.amqp import BrokerError, Link
from probes.write.amqp.publish import TAKEN, Message, rolled_back, transaction
from probes.write.amqp.spec import AmqpBusyWrite, judge_closed
from probes.write.canary import Canary, canary
from probes.write.session import HeldSession
from probes.write.target import Tried

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

BEAT: Final = 0.4
"""Seconds between two publishes on the channel; RabbitMQ takes it for idle after one second."""
LEASE: Final = 600.0
"""Seconds for which it is kept busy without being asked."""
CUT: Final = 320
"""The broker's reply code when an operator, or its own end, closes a connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Channel:
    link: Link
    channel: "AbstractChannel"


class AmqpBusyTarget:
    """One exchange, over one channel. `opens` and `now()` are epoch seconds."""

    within = 0.0
    unread = None
    believed = False
    undoable = True
    one_code = False

    def __init__(
        self, spec: AmqpBusyWrite, *, timeout: float, opens: float, now: Callable[[], float]
    ) -> None:
        self._spec = spec
        self._amqp = spec.amqp
        self._timeout = timeout
        self._session: HeldSession[_Channel] = HeldSession(
            connect=self._connect, close=self._close, opens=opens, now=now
        )
        self._alone = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._asked = 0.0
        self._lost: Tried | None = None
        """What ended the channel from before the window, until an attempt has told it."""
        self._cut_off: str | None = None

    @property
    def tries(self) -> str:
        """`publish to exchange orders on a busy channel, rolled back`."""
        return f"publish to exchange {self._amqp.exchange or '(default)'} on a busy channel, rolled back"

    async def hold(self) -> None:
        """Open the channel where there is none, and keep it busy. Raises nothing."""
        self._asked = time.monotonic()
        self._lost = None
        if self._beating is None or self._beating.done():
            self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        """Publish and roll back, until that fails or nobody asks any more."""
        own = canary("busy channel", self._amqp.exchange, 0.0)
        while time.monotonic() - self._asked < LEASE:
            async with self._alone:
                if self._lost is not None:
                    return
                try:
                    tried = await self._publish(own)
                except OwnFault:  # the attempt that is due meets it too, and says so
                    return
                if tried.judgement is not TAKEN:
                    self._lost = tried if tried.figures["from_before"] else None
                    return
            await asyncio.sleep(BEAT)
        await self._session.drop()

    async def attempt(self, canary: Canary) -> Tried:
        """Publish once on the channel, or tell what ended it since the attempt before."""
        self._asked = time.monotonic()
        async with self._alone:
            tried, self._lost = self._lost, None
            if tried is None:
                tried = await self._publish(canary)
            if self._cut_by_the_broker(tried):
                self._cut_off = tried.judgement.reason if tried.judgement else None
                tried = await self._publish(canary)
            return self._told(tried)

    @staticmethod
    def _cut_by_the_broker(tried: Tried) -> bool:
        said = tried.judgement
        return said is not None and said.code == str(CUT) and tried.figures["from_before"] is True

    def _told(self, tried: Tried) -> Tried:
        """With the broker's own end of the channel from before the window, which is as good as a refusal."""
        if self._cut_off is None or tried.judgement is None or tried.judgement.kind is not Class.PROPER:
            return tried
        ended, self._cut_off = self._cut_off, None
        reason = f"{tried.judgement.reason}; the channel from before was cut by the broker: {ended}"
        judgement = Judgement(kind=Class.PROPER, reason=reason, code=tried.judgement.code)
        return Tried(
            judgement=judgement,
            duration_s=tried.duration_s,
            phases=tried.phases,
            figures={**tried.figures, "from_before": True},
            traceless=True,
            may_land=False,
        )

    async def _publish(self, canary: Canary) -> Tried:
        """One publish that is rolled back, on the channel that there is or on a new one."""
        began = time.perf_counter()
        judgement, unanswered, keep = None, "", False
        from_before = self._session.from_before
        try:
            open_now = await self._session.get()
            left = max(0.001, self._timeout - (time.perf_counter() - began))
            await rolled_back(open_now.link, open_now.channel, Message.of(self._amqp, canary), left)
            judgement, keep = TAKEN, True
            from_before = self._session.from_before
        except OwnFault:
            raise
        except BrokerError as error:
            own_key = self._amqp.routing_key is None
            judgement = judge_closed(error, self._spec.refusal, own_key=own_key)
        except ExchangeError as error:
            unanswered = error.reason
        finally:
            if not keep:
                await self._session.drop()
        return Tried(
            judgement=judgement,
            unanswered=unanswered,
            duration_s=time.perf_counter() - began,
            figures={"from_before": from_before},
            traceless=True,
            may_land=False,
        )

    async def _connect(self) -> _Channel:
        began = time.perf_counter()
        link = await Link(self._amqp.url).open(self._timeout)
        left = max(0.001, self._timeout - (time.perf_counter() - began))
        try:
            return _Channel(link=link, channel=await transaction(link, left))
        except BaseException:
            link.cut()
            raise

    @staticmethod
    async def _close(open_now: _Channel) -> None:
        if open_now.link.lost:
            open_now.link.cut()
        else:
            await open_now.link.close()

    async def look(self, canary: Canary) -> bool | str:
        """A publish that was rolled back is nowhere."""
        return False

    async def undo(self, canary: Canary) -> str | None:
        """Nothing to take away."""
        return None

    async def aclose(self) -> None:
        """Let go of the channel."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
        await self._session.drop()
