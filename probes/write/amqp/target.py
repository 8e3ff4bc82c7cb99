"""A write to an AMQP broker (RabbitMQ).

The default attempt publishes inside a transaction and rolls it back. RabbitMQ checks permissions when it
takes the publish and delivers only at the commit, so that no message ever reaches a queue, whatever the
exchange, and no counter moves. It refuses to take a timeout for a refusal: under an alarm a publish waits,
and lands when the alarm is over.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from probes.answer import ExchangeError, OwnFault, Unreachable
from probes.refusal import Class, Judgement
from probes.stores.amqp import BrokerError, Link
from probes.tools import Tools
from probes.write.amqp.busy import AmqpBusyTarget
from probes.write.amqp.publish import TAKEN, Message, no_answer, rolled_back, transaction
from probes.write.amqp.queue import OwnQueue
from probes.write.amqp.spec import OUR_KEY, AmqpBusyWrite, AmqpWrite, judge_closed
from probes.write.canary import Canary
from probes.write.target import Tried

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

WAITING: Final = 8
"""Publishes without an answer whose connections are kept, the newest."""
WAITS: Final = 900.0
"""Seconds for which such a connection is kept."""
REMEMBERED: Final = 100
"""Canaries of which it is known that the broker confirmed them, the newest."""
ROUTED: Final = (
    "confirmed AND ROUTED: a queue took a key that none should be bound to (a fanout, headers or topic"
    " exchange, or an alternate exchange); use `form: transaction`"
)


@dataclass(slots=True)
class _Waiting:
    """A publish without an answer yet, on the connection that is kept for it."""

    link: Link
    channel: "AbstractChannel"
    confirm: "asyncio.Task[Any]"
    since: float = field(default_factory=time.monotonic)


class AmqpTarget:
    """One exchange to publish to, over a fresh connection for every attempt."""

    one_code = False

    def __init__(self, spec: AmqpWrite, *, timeout: float) -> None:
        self._spec = spec
        self._amqp = spec.amqp
        self._timeout = timeout
        self._waiting: dict[str, _Waiting] = {}
        self._landed: dict[str, None] = {}
        self._traceless = spec.amqp.form == "transaction"
        self._routed = False
        back = spec.read_back
        self._own = None
        if back is not None and back.queue is not None:
            self._own = OwnQueue(back.url or spec.amqp.url, back.queue, timeout)
        self.within = back.within if back is not None and back.queue else 0.0
        self.unread = None if spec.verified else "no read_back is configured"
        self.believed = back is not None and back.waived is not None

    @property
    def tries(self) -> str:
        """`publish to exchange orders, key order.created, rolled back`."""
        amqp = self._amqp
        key = amqp.routing_key if amqp.routing_key is not None else OUR_KEY
        how = {"transaction": "rolled back", "unroutable": "to no queue", "canary": "for real"}[amqp.form]
        return f"publish to exchange {amqp.exchange or '(default)'}, key {key}, {how}"

    @property
    def undoable(self) -> bool:
        """False once a canary that should reach no queue was routed to one."""
        return self._spec.undoable and not self._routed

    async def attempt(self, canary: Canary) -> Tried:
        """Connect, publish once, and say what the broker said."""
        began = time.perf_counter()
        link = Link(self._amqp.url)
        connected = 0.0
        try:
            await link.open(self._timeout)
            connected = time.perf_counter() - began
            left = max(0.001, self._timeout - connected)
            tried = await (self._roll_back if self._traceless else self._confirm)(link, canary, left)
        except OwnFault:
            raise
        except BrokerError as error:
            tried = Tried(judgement=self._judged(error), traceless=self._traceless)
        except ExchangeError as error:
            tried = Tried(
                judgement=None,
                unanswered=error.reason,
                traceless=self._traceless,
                may_land=bool(connected) and not self._traceless,
            )
        spent = time.perf_counter() - began
        connecting = connected or spent
        return replace(
            tried, duration_s=spent, phases={"connect": connecting, "publish": max(0.0, spent - connecting)}
        )

    def _judged(self, error: BrokerError) -> Judgement:
        return judge_closed(error, self._spec.refusal, own_key=self._amqp.routing_key is None)

    async def _roll_back(self, link: Link, canary: Canary, within: float) -> Tried:
        async with link:
            began = time.perf_counter()
            channel = await transaction(link, within)
            left = max(0.001, within - (time.perf_counter() - began))
            await rolled_back(link, channel, Message.of(self._amqp, canary), left)
        return Tried(judgement=TAKEN, traceless=True)

    async def _confirm(self, link: Link, canary: Canary, within: float) -> Tried:
        """Publish for real, and wait for the broker's confirm; without one the connection is kept."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(within):
                channel = await link.channel(confirms=True)
        except TimeoutError:
            link.cut()
            raise Unreachable(no_answer(link, within)) from None
        except Exception as error:
            link.cut()
            raise link.named(error) from None
        confirm = asyncio.ensure_future(Message.of(self._amqp, canary).publish(channel, mandatory=True))
        try:
            await asyncio.wait({confirm}, timeout=max(0.001, within - (time.perf_counter() - began)))
        except asyncio.CancelledError:
            confirm.cancel()
            link.cut(discard=True)
            raise
        waiting = _Waiting(link, channel, confirm)
        if not confirm.done():
            self._keep(canary.text, waiting)
            return Tried(judgement=None, unanswered=no_answer(link, within))
        async with link:
            return await self._confirmed(canary.text, waiting)

    async def _confirmed(self, text: str, waiting: _Waiting) -> Tried:
        """What a confirm says. Raises ExchangeError when there was none."""
        from aiormq.exceptions import DeliveryError, PublishError

        try:
            waiting.confirm.result()
        except PublishError:
            return self._returned()
        except DeliveryError:
            kind = Class.PROPER if self._spec.refusal.nack else Class.OTHER
            return Tried(
                judgement=Judgement(kind=kind, reason="rejected by a queue (basic.nack)", code="nack")
            )
        except Exception as error:
            raise await waiting.link.said(waiting.channel, error) from None
        self._landed[text] = None
        while len(self._landed) > REMEMBERED:
            del self._landed[next(iter(self._landed))]
        self._routed |= self._amqp.form == "unroutable"
        reason = ROUTED if self._amqp.form == "unroutable" else "confirmed by the broker"
        return Tried(judgement=Judgement(kind=Class.ACCEPTED, reason=reason), figures={"routed": True})

    def _returned(self) -> Tried:
        """The broker took it and found no queue for it."""
        kind, reason = Class.OTHER, "returned: no queue is bound for the key"
        if self._amqp.form == "unroutable":
            kind, reason = Class.ACCEPTED, "taken by the broker, and returned: no queue"
        judgement = Judgement(kind=kind, reason=reason, code="312")
        return Tried(judgement=judgement, figures={"routed": False}, traceless=True)

    def _keep(self, text: str, waiting: _Waiting) -> None:
        """Keep a connection on which the broker may confirm yet; the oldest goes when there are too many."""
        self._waiting[text] = waiting
        for old, other in list(self._waiting.items()):
            late = time.monotonic() - other.since > WAITS
            if late or len(self._waiting) > WAITING:
                self._let_go(old)

    def _let_go(self, text: str) -> None:
        """End a kept connection, and with it what the broker has not read: it then lands no more."""
        waiting = self._waiting.pop(text)
        waiting.confirm.cancel()
        waiting.link.cut(discard=True)

    async def look(self, canary: Canary) -> bool | str:
        """Did the broker confirm it, late or not, or does it stand in our queue?"""
        waiting = self._waiting.get(canary.text)
        if waiting is not None and waiting.confirm.done():
            del self._waiting[canary.text]
            await self._learn_late(canary.text, waiting)
            if canary.text in self._landed:
                return True
        if self._own is not None:
            return await self._own.holds(canary.text)
        if canary.text in self._landed:
            return True
        if waiting is None:
            return "the broker's confirm is all there is, and it is not known"
        return False if waiting.confirm.done() else f"no confirm yet ({waiting.link.blocked or 'no answer'})"

    async def _learn_late(self, text: str, waiting: _Waiting) -> None:
        """Take in a confirm that came after the attempt; a connection that was lost tells nothing."""
        with contextlib.suppress(ExchangeError):
            async with waiting.link:
                await self._confirmed(text, waiting)

    async def undo(self, canary: Canary) -> str | None:
        """Take the canary from our queue; None when it is gone or need not go."""
        waiting = self._waiting.get(canary.text)
        if waiting is not None and not waiting.confirm.done():
            self._let_go(canary.text)
        return await self._own.take(canary.text) if self._own is not None else None

    async def aclose(self) -> None:
        """Let go of every connection; what still waits lands no more."""
        for text in list(self._waiting):
            self._let_go(text)


def amqp_write(spec: AmqpWrite, timeout: float, tools: Tools) -> AmqpTarget | AmqpBusyTarget:
    """What is written to, by the specification's kind of channel."""
    if isinstance(spec, AmqpBusyWrite):
        return AmqpBusyTarget(spec, timeout=timeout, opens=tools.opens, now=tools.now)
    return AmqpTarget(spec, timeout=timeout)


__all__ = ["AmqpBusyTarget", "AmqpTarget", "AmqpWrite", "amqp_write"]
