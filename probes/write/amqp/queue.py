"""A queue of the watchdog's own, in which its canaries are looked for.

Every message is fetched without acknowledgement and put back, so that another watchdog still finds its own;
only the canary that is taken is acknowledged. Refuses to read more than a few hundred: a queue that holds
more is not the watchdog's own.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from probes.answer import ExchangeError
from probes.stores.amqp import Link

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

MOST: Final = 500
"""Messages that are looked at."""


class OwnQueue:
    """One queue. `timeout` is in seconds and bounds one search."""

    def __init__(self, url: str, name: str, timeout: float) -> None:
        self._url = url
        self._name = name
        self._timeout = timeout

    async def holds(self, text: str) -> bool | str:
        """Is the canary there? A text says why it cannot be told."""
        return await self._search(text, take=False)

    async def take(self, text: str) -> str | None:
        """Take the canary away; None when it is gone, else why it is not."""
        found = await self._search(text, take=True)
        return found if isinstance(found, str) else None

    async def _search(self, text: str, *, take: bool) -> bool | str:
        link = Link(self._url)
        try:
            async with asyncio.timeout(self._timeout), await link.open(self._timeout):
                channel = await link.channel(confirms=False)
                try:
                    return await self._through(channel, text, take=take)
                except Exception as error:
                    if isinstance(error, TimeoutError):
                        raise
                    raise await link.said(channel, error) from None
        except TimeoutError:
            return f"the queue {self._name} could not be read within {self._timeout:g} s"
        except ExchangeError as error:
            return f"the queue {self._name} could not be read: {error.reason}"

    async def _through(self, channel: "AbstractChannel", text: str, *, take: bool) -> bool | str:
        """Fetch all, acknowledge what is taken, put the rest back."""
        from pamqp.commands import Basic

        found, last = False, 0
        for _ in range(MOST):
            message = await channel.basic_get(self._name)
            tag = message.delivery_tag
            if isinstance(message.delivery, Basic.GetEmpty) or tag is None:
                break
            if message.header.properties.message_id == text:
                found = True
                if take:
                    await channel.basic_ack(tag)
                    continue
            last = tag
            if found and not take:
                break
        else:
            if not found:
                return f"the queue {self._name} holds more than {MOST} messages: it is not the watchdog's own"
        if last:
            await channel.basic_nack(last, multiple=True, requeue=True)
            # The next answer comes after it: only then is everything back in its place.
            await channel.basic_qos(prefetch_count=0)
        return found
