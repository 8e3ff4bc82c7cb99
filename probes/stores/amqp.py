"""Sessions to an AMQP 0-9-1 broker (RabbitMQ): opened, asked and given up within a limit, failures named.

A connection is made for one purpose and never made again by itself. Names host, port and vhost in what it
says, never a user, a password or the URL. The driver is imported when the first session is opened.

Errors::

    ExchangeError
    ├── Unreachable          no session, no answer in time, or the session was lost
    │   └── BrokerError      the broker closed channel or connection and said why; `code` is its reply code
    └── OwnFault             the watchdog itself: no driver, no network, no file descriptors
"""

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import AfterValidator
from yarl import URL

from probes.answer import OWN_ERRNOS, ExchangeError, OwnFault, Unreachable

if TYPE_CHECKING:
    from aiormq import Connection
    from aiormq.abc import AbstractChannel

NO_DRIVER: Final = "the driver is not installed: pip install 'freezewatch[amqp]'"
NO_ADDRESS: Final = "this is no address of a broker: write amqp://user:password@host:5672/vhost"
PORTS: Final = {"amqp": 5672, "amqps": 5671}
NOT_FOUND: Final = 404
POLITE: Final = 1.0
"""Seconds for a good-bye; then the connection is cut off."""
LONGEST_SHORT: Final = 255
"""Bytes of a name or key in AMQP."""
_CLOSE, _BLOCKED, _UNBLOCKED = b"\x32", b"\x3c", b"\x3d"
_METHOD_ON_ZERO = re.compile(rb"\x01\x00\x00....\x00\x0a\x00([\x32\x3c\x3d])", re.DOTALL)
"""The head of a frame on channel 0 that holds connection.close, .blocked or .unblocked."""
_NAME = re.compile(r"[A-Za-z0-9\-_.:@#,/+ ]{1,127}")
"""What the driver takes for the name of an exchange or a queue; RabbitMQ takes any text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """A queue at one moment."""

    ready: int
    consumers: int


class BrokerError(Unreachable):
    """The broker closed the channel or the connection, and said why."""

    def __init__(self, code: int | None, text: str, *, at_login: bool = False) -> None:
        super().__init__(" ".join(text.split())[:300] or f"closed with {code}")
        self.code = code
        self.at_login = at_login
        """Said before the session was open: about user, password or vhost, not about a write."""


def _address(url: str) -> str:
    """A URL that can be used. What is wrong is not shown: it may hold the password."""
    try:
        parsed = URL(url)
        usable = parsed.scheme in PORTS and bool(parsed.host) and (parsed.port or 1) > 0
    except (ValueError, TypeError):
        usable = False
    if not usable:
        raise ValueError(NO_ADDRESS)
    return url


def _short(text: str) -> str:
    if len(text.encode()) > LONGEST_SHORT:
        raise ValueError(f"{text[:40]!r}… is longer than {LONGEST_SHORT} bytes, the most that AMQP takes")
    return text


def driver_name(text: str) -> str:
    """A name that the driver takes. Raises ValueError."""
    if text and not _NAME.fullmatch(text):
        raise ValueError(
            f"{text[:40]!r} is no name that the driver takes: at most 127 of A-Z a-z 0-9 - _ . : @ # , / + "
            "and blank"
        )
    return text


AmqpUrl = Annotated[str, AfterValidator(_address)]
"""The broker: `amqp://` or `amqps://`, with user, password and vhost; a field of it is `repr=False`."""
ShortText = Annotated[str, AfterValidator(_short)]
"""A routing key: at most 255 bytes."""
AmqpName = Annotated[str, AfterValidator(driver_name)]
"""The name of an exchange or a queue."""


def vhost(url: str) -> str:
    """The vhost that a URL names, unquoted."""
    path = URL(url).path
    return "/" if path in ("", "/") else path[1:].replace("%2F", "/")


def place(url: str) -> str:
    """`broker.example.com:5672, vhost shop`."""
    parsed = URL(url)
    return f"{parsed.host}:{parsed.port or PORTS[parsed.scheme]}, vhost {vhost(url)}"


class Link:
    """One connection. Used with `async with`; leaves politely unless it was cut off."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._closed_with: tuple[int, str] | None = None
        """The broker's own words when it closed the connection; the driver loses them at times."""
        self.blocked: str | None = None
        """Why the broker holds publishers back just now: `low on memory`."""

    def __repr__(self) -> str:
        return f"Link({self.place})"

    @property
    def place(self) -> str:
        """`broker.example.com:5672, vhost shop`."""
        return place(self._url)

    async def open(self, within: float) -> Self:
        """Connect and log in. Raises Unreachable, BrokerError or OwnFault; ends after `within` seconds."""
        aiormq = driver()
        try:
            async with asyncio.timeout(within):
                self._connection = await aiormq.connect(
                    self._url,
                    transport_factory=self._factory(),
                    client_properties={"connection_name": "freezewatch"},
                )
        except TimeoutError:
            self.cut()
            raise Unreachable(f"{self.place} gave no answer within {within:.3g} s") from None
        except asyncio.CancelledError:
            self.cut()
            raise
        except Exception as error:
            self.cut()
            raise self.named(error, at_login=True) from None
        return self

    def _factory(self) -> Any:
        """The driver's own transports, watched for the broker's word that it holds publishers back."""
        from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory

        link = self

        class Watched(TransportFactory):
            async def create(
                self, url: URL, **settings: Any
            ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                inner = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
                reader, writer = await inner.create(url, **settings)
                link._writer = writer
                feed = reader.feed_data

                def fed(data: Any) -> None:
                    link._overhear(bytes(data))
                    feed(data)

                reader.feed_data = fed  # type: ignore[method-assign]
                return reader, writer

        return Watched()

    def _overhear(self, data: bytes) -> None:
        """Note what the broker says of the connection and the driver only logs, or loses."""
        for found in _METHOD_ON_ZERO.finditer(data):
            rest = data[found.end() :]
            if found[1] == _UNBLOCKED:
                self.blocked = None
            elif found[1] == _BLOCKED:
                self.blocked = _short_text(rest) or "an alarm"
            elif len(rest) > 2:
                self._closed_with = (int.from_bytes(rest[:2], "big"), _short_text(rest[2:]))

    @property
    def connection(self) -> "Connection":
        """The driver's connection, once it is open."""
        if self._connection is None:
            raise RuntimeError("not opened")
        return self._connection

    @property
    def lost(self) -> bool:
        """Nothing can be asked any more."""
        return self._connection is None or not self._connection.is_opened

    async def channel(self, *, confirms: bool) -> "AbstractChannel":
        """A new channel, with publisher confirms or without."""
        return await self.connection.channel(publisher_confirms=confirms)

    async def depth(self, queue: str, *, within: float) -> Depth | None:
        """Ready messages and consumers of a queue, exact at this moment; None when there is none of the name.

        Asks by a passive declare, which changes nothing. Raises Unreachable.
        """
        channel = None
        try:
            async with asyncio.timeout(within):
                channel = await self.channel(confirms=False)
                said = await channel.queue_declare(queue, passive=True)
                await channel.close()
        except TimeoutError:
            raise Unreachable(f"{self.place} gave no answer within {within:.3g} s") from None
        except Exception as error:
            named = self.named(error) if channel is None else await self.said(channel, error)
            if isinstance(named, BrokerError) and named.code == NOT_FOUND:
                return None
            raise named from None
        return Depth(ready=said.message_count or 0, consumers=said.consumer_count or 0)

    async def said(self, channel: "AbstractChannel", error: Exception) -> ExchangeError:
        """Name what ended an exchange on `channel`. The reason stands on the channel at times."""
        from aiormq.exceptions import ChannelInvalidStateError

        if isinstance(error, ChannelInvalidStateError):
            await asyncio.wait({channel.closing}, timeout=POLITE)
            if channel.closing.done() and not channel.closing.cancelled():
                cause = channel.closing.exception()
                error = cause if isinstance(cause, Exception) else error
        return self.named(error)

    def named(self, error: Exception, *, at_login: bool = False) -> ExchangeError:
        """Whose failure it is, and what; the words of the driver that may hold the URL are not taken over."""
        from aiormq.exceptions import AMQPError, AuthenticationError, ProbableAuthenticationError

        if isinstance(error, AuthenticationError | ProbableAuthenticationError):
            text = str(error.args[0]) if error.args else "the login was refused"
            return BrokerError(403, text, at_login=True)
        closed = _closed(error) or self._closed_with
        if closed is not None:
            return BrokerError(closed[0], closed[1], at_login=at_login)
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        found = _of_the_network(cause, self.place)
        if found is not None:
            return found
        if isinstance(error, AMQPError | ConnectionError | RuntimeError):
            return Unreachable(f"{self.place}: the connection was lost ({type(error).__name__})")
        return Unreachable(f"{self.place}: {type(error).__name__}")

    def cut(self, *, discard: bool = False) -> None:
        """Cut the connection off at once. With `discard` what the broker has not read yet is thrown away."""
        if self._writer is None:
            return
        transport = self._writer.transport
        end = transport.get_extra_info("socket")
        if discard and end is not None:
            with contextlib.suppress(OSError):  # it may be gone already
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def close(self) -> None:
        """Say good-bye, or cut off a broker that does not answer. Raises nothing."""
        if self._connection is None:
            self.cut()
            return
        try:
            async with asyncio.timeout(POLITE):
                await self._connection.close()
        except asyncio.CancelledError:
            self.cut()
            raise
        except Exception:  # the broker is gone, or hangs: it is cut off below, and nothing is lost by it
            self.cut()
        if self._writer is not None and not self._writer.transport.is_closing():
            self.cut()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError | TimeoutError):
            self.cut()
            return
        await self.close()


def driver() -> Any:
    """The driver's module. Raises OwnFault where it is not installed."""
    try:
        import aiormq
    except ImportError:
        raise OwnFault(NO_DRIVER) from None
    # What it logs is what we find out and say ourselves, and it would end on the operator's screen.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    return aiormq


def _short_text(data: bytes) -> str:
    """The text that begins with its own length."""
    return data[1 : 1 + data[0]].decode("utf-8", "replace") if data else ""


def _closed(error: Exception) -> tuple[int | None, str] | None:
    """Reply code and text where the broker said why it closed; the driver keeps the code in the type."""
    from aiormq import channel, connection
    from aiormq.exceptions import ChannelClosed, ConnectionClosed

    for mapping in (channel.EXCEPTION_MAPPING, connection.EXCEPTION_MAPPING):
        for code, kind in mapping.items():
            if type(error) is kind:
                return code, str(error.args[0] if error.args else "")
    if isinstance(error, ChannelClosed | ConnectionClosed) and len(error.args) == 2 and error.args[0]:
        code, text = error.args
        return int(code), str(text)
    return None


def _of_the_network(error: BaseException | None, where: str) -> ExchangeError | None:
    """A failure below AMQP, by whose it is."""
    if isinstance(error, socket.gaierror):
        if error.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY):
            return OwnFault(f"the name could not be looked up just now: {error.strerror}")
        return Unreachable(f"{where}: the name is not known")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(f"{where}: the certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"{where}: TLS failed: {error.reason or type(error).__name__}")
    if not isinstance(error, OSError):
        return None
    if error.errno in OWN_ERRNOS:
        return OwnFault(f"the watchdog could not ask: {error.strerror or type(error).__name__}")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{where}: connection refused")
    if error.strerror:
        return Unreachable(f"{where}: {error.strerror}")
    return None
