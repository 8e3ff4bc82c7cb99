"""One publish to an AMQP broker, for real or rolled back."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from probes.answer import Unreachable
from probes.refusal import Class, Judgement
from probes.request import PLACEHOLDER
from probes.stores.amqp import Link
from probes.write.amqp.spec import OUR_KEY, Amqp
from probes.write.canary import Canary

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

TAKEN: Final = Judgement(kind=Class.ACCEPTED, reason="the publish was taken, then rolled back")


async def rolled_back(link: Link, channel: "AbstractChannel", message: "Message", within: float) -> None:
    """Publish inside a transaction and roll it back. Raises ExchangeError when it was not taken."""
    try:
        async with asyncio.timeout(within):
            await message.publish(channel, mandatory=False)
            await channel.tx_rollback()
    except TimeoutError:
        raise Unreachable(no_answer(link, within)) from None
    except Exception as error:
        raise await link.said(channel, error) from None


def no_answer(link: Link, within: float) -> str:
    """Why there was no answer: an alarm of the broker, or nobody knows."""
    if link.blocked is not None:
        return f"blocked: {link.blocked}"
    return f"{link.place} gave no answer within {within:.3g} s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What is published. Never empty: an alarm lets a message without a body pass on a new connection."""

    canary: str
    exchange: str
    routing_key: str
    expires_ms: int

    @classmethod
    def of(cls, amqp: Amqp, canary: Canary) -> "Message":
        """The message of one attempt."""
        key = amqp.routing_key if amqp.routing_key is not None else OUR_KEY
        return cls(
            canary=canary.text,
            exchange=amqp.exchange,
            routing_key=PLACEHOLDER.sub(lambda found: canary.values[found[1]], key),
            expires_ms=round(1000 * amqp.expires),
        )

    async def publish(self, channel: "AbstractChannel", *, mandatory: bool) -> Any:
        """Publish it; what comes back depends on the channel."""
        from pamqp.commands import Basic

        return await channel.basic_publish(
            self.canary.encode(),
            exchange=self.exchange,
            routing_key=self.routing_key,
            mandatory=mandatory,
            properties=Basic.Properties(
                message_id=self.canary,
                expiration=str(self.expires_ms),
                headers={"x-freezewatch": "canary"},
                delivery_mode=1,
            ),
        )


async def transaction(link: Link, within: float) -> "AbstractChannel":
    """A channel in transaction mode. Raises ExchangeError."""
    channel = None
    try:
        async with asyncio.timeout(within):
            channel = await link.channel(confirms=False)
            await channel.tx_select()
            return channel
    except TimeoutError:
        raise Unreachable(no_answer(link, within)) from None
    except Exception as error:
        raise (link.named(error) if channel is None else await link.said(channel, error)) from None
