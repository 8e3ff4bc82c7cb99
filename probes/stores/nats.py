"""Sessions to a NATS server: opened, asked and given up within a limit, with every failure named.

A server answers a publish that is not allowed with nothing at all: the violation comes on the side, to the
driver's error callback. So every question listens there too. A connection is never made again by itself.
Names host and port in what it says, never a user, a password or a token. The driver is imported when the
first session is opened.

Errors::

    ExchangeError
    ├── Unreachable          no session, no answer in time, or the session was lost
    │   ├── NotAllowed       the server told of a permissions violation
    │   ├── NoResponders     nobody takes the subject
    │   └── ApiError         JetStream answered with an error; `code` is its err_code
    └── OwnFault             the watchdog itself: no driver, no network, no file descriptors
"""

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from probes.answer import OWN_ERRNOS, ExchangeError, OwnFault, Unreachable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

T = TypeVar("T")

NO_DRIVER: Final = "the driver is not installed: pip install 'freezewatch[nats]'"
NO_ADDRESS: Final = "this is no address of a NATS server: write nats://user:password@host:4222"
SCHEMES: Final = ("nats", "tls", "ws", "wss")
POLITE: Final = 1.0
"""Seconds for a good-bye."""
_VIOLATION = re.compile(r'permissions violation for (\w+) to "((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class NotAllowed(Unreachable):
    """The server told of a permissions violation."""

    def __init__(self, verb: str, subject: str) -> None:
        super().__init__(f'permissions violation for {verb} to "{subject}"')
        self.verb = verb
        """`publish` or `subscription`."""
        self.subject = subject
        """In lower case, as the driver gives it."""


class NoResponders(Unreachable):
    """Nobody takes the subject."""


class ApiError(Unreachable):
    """JetStream answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def _address(url: str) -> str:
    """A URL that can be used. What is wrong is not shown: it may hold the password."""
    try:
        parsed = urlsplit(url)
        usable = parsed.scheme in SCHEMES and bool(parsed.hostname) and (parsed.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", url):
        raise ValueError(NO_ADDRESS)
    return url


def place(url: str) -> str:
    """`nats.example.com:4222`."""
    parsed = urlsplit(url)
    return f"{parsed.hostname}:{parsed.port or 4222}"


class NatsServer(BaseModel):
    """Where the server is and who asks it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_address)] = Field(repr=False)
    """With user and password, or a token in place of the user."""
    credentials: str | None = Field(default=None, min_length=1, repr=False)
    """Path of a credentials file (JWT and seed)."""
    nkey_seed: str | None = Field(default=None, min_length=1, repr=False)
    """Path of a file with an nkey seed."""
    verify: bool | str = True
    """For `tls://`: false to accept any certificate; a path to trust that file's authorities."""
    inbox: str = Field(default="_INBOX", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    """Prefix of the subjects on which answers are awaited; the user must be allowed to subscribe to it."""


class _Failure(BaseModel):
    code: int = 0
    err_code: int = 0
    description: str = ""


class ApiAnswer(BaseModel):
    """What every answer of JetStream may be: an error."""

    error: _Failure | None = None


A = TypeVar("A", bound=ApiAnswer)


class Link:
    """One connection, one question at a time. Used with `async with`."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._client: Client | None = None
        self._troubled = asyncio.Event()
        self._trouble: Exception | None = None
        self._closing: asyncio.Task[None] | None = None
        self._task: asyncio.Future[Any] | None = None
        """What the driver was last asked to do."""

    def __repr__(self) -> str:
        return f"Link({self.place})"

    @property
    def place(self) -> str:
        """`nats.example.com:4222`."""
        return place(self._server.url)

    async def open(self, within: float) -> Self:
        """Connect and log in. Raises Unreachable or OwnFault; ends after `within` seconds."""
        try:
            from nats.aio.client import Client
        except ImportError:
            raise OwnFault(NO_DRIVER) from None
        self._client = Client()
        try:
            await self._bounded(self._connect(self._client, within), within)
        except BaseException:
            self.cut()
            raise
        return self

    async def _connect(self, client: "Client", within: float) -> None:
        server = self._server
        await client.connect(
            servers=[server.url],
            name="freezewatch",
            error_cb=self._hear,
            disconnected_cb=self._lost,
            closed_cb=self._lost,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=max(1, round(within)),
            inbox_prefix=server.inbox,
            tls=self._context(),
            user_credentials=server.credentials,
            nkeys_seed=server.nkey_seed,
        )

    def _context(self) -> ssl.SSLContext | None:
        """How certificates are checked; None for the driver's own way."""
        verify = self._server.verify
        if verify is True:
            return None
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
        if verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _lost(self) -> None:
        """The driver closed the connection; whoever waits for an answer would wait for ever."""
        await self._hear(ConnectionAbortedError())

    async def _hear(self, error: Exception) -> None:
        """What the driver tells on the side. The first of it answers the question that is asked."""
        if self._trouble is None:
            self._trouble = error
            self._troubled.set()

    async def _bounded(self, work: Coroutine[Any, Any, T], within: float) -> T:
        """What the driver gives, or what it tells on the side, or no answer after `within` seconds.

        In a task of its own: the driver swallows cancellations at times, and would lose ours.
        """
        task = asyncio.ensure_future(work)
        self._task = task
        side = asyncio.ensure_future(self._troubled.wait())
        try:
            await asyncio.wait({task, side}, timeout=max(within, 0.0), return_when=asyncio.FIRST_COMPLETED)
            return self._came_of(task, within)
        finally:
            side.cancel()
            task.cancel()
            task.add_done_callback(_looked_at)
            self._trouble = None
            self._troubled.clear()

    def _came_of(self, task: "asyncio.Task[T]", within: float) -> T:
        """What a task gave. Raises what was told on the side, what it raised, or Unreachable."""
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        if self._trouble is not None:
            raise self._named(self._trouble)
        if not task.done():
            raise Unreachable(f"{self.place} gave no answer within {within:.3g} s")
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            raise self._named(error) from None
        raise Unreachable(f"{self.place}: the connection was lost")

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        within: float,
    ) -> bytes:
        """The answer to one request. Raises NotAllowed, NoResponders, Unreachable."""
        from nats.errors import NoRespondersError

        client = self._client
        if client is None or not client.is_connected:
            raise Unreachable(f"{self.place}: the connection was lost")

        async def exchange() -> "Msg | None":
            try:
                # Longer than we wait ourselves: so there is one limit, and it is ours.
                message: Msg = await client.request(
                    subject, payload, timeout=within + 60, headers=dict(headers) if headers else None
                )
            except NoRespondersError:
                return None
            return message

        message = await self._bounded(exchange(), within)
        if message is None:
            raise NoResponders(f"nobody takes {subject}: no stream does, or JetStream is off")
        return bytes(message.data)

    async def api(self, kind: type[A], subject: str, payload: bytes = b"", *, within: float) -> A:
        """What JetStream's API answers. Raises ApiError besides what `ask` raises."""
        answer = parsed(kind, await self.ask(f"$JS.API.{subject}", payload, within=within))
        if answer is None:
            raise Unreachable(f"{self.place}: the answer to {subject} is none of JetStream's")
        if answer.error is not None:
            raise ApiError(answer.error.err_code or answer.error.code, answer.error.description)
        return answer

    def _named(self, error: Exception) -> ExchangeError:
        """Whose failure it is; the driver's words are taken over only where they hold no secret."""
        from nats.errors import AuthorizationError

        said = str(error)
        violation = _VIOLATION.search(said)
        if violation is not None:
            return NotAllowed(violation[1].lower(), _unquoted(violation[2]))
        if isinstance(error, AuthorizationError) or "authorization violation" in said.lower():
            return Unreachable(f"{self.place}: the login was refused")
        if isinstance(error, socket.gaierror):
            if error.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY):
                return OwnFault(f"the name could not be looked up just now: {error.strerror}")
            return Unreachable(f"{self.place}: the name is not known")
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(f"{self.place}: the certificate is not trusted: {error.verify_message}")
        if isinstance(error, ssl.SSLError):
            return Unreachable(f"{self.place}: TLS failed: {error.reason or type(error).__name__}")
        if isinstance(error, OSError) and error.errno in OWN_ERRNOS:
            return OwnFault(f"the watchdog could not ask: {error.strerror or type(error).__name__}")
        if isinstance(error, ConnectionRefusedError):
            return Unreachable(f"{self.place}: connection refused")
        if isinstance(error, ConnectionError) or type(error).__name__ in (
            "UnexpectedEOF",
            "ConnectionClosedError",
        ):
            return Unreachable(f"{self.place}: the connection was lost")
        if isinstance(error, TimeoutError):
            return Unreachable(f"{self.place} gave no answer in time")
        if isinstance(error, FileNotFoundError | PermissionError):
            return OwnFault(f"a file of the credentials cannot be read: {error.strerror}")
        return Unreachable(f"{self.place}: {type(error).__name__}")

    def cut(self) -> None:
        """Close the connection without waiting for it."""
        if self._client is not None and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._end(self._client))

    async def _end(self, client: "Client") -> None:
        """Close, once what the driver was doing has ended: it may go on although it was cancelled."""
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=POLITE)
            if not done:
                self._task.cancel()
        with contextlib.suppress(Exception):  # whatever state the driver is in, it is left
            await client.close()

    async def close(self) -> None:
        """Close the connection. Takes a second at most, raises nothing."""
        self.cut()
        if self._closing is not None:
            await asyncio.wait({self._closing}, timeout=POLITE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _unquoted(text: str) -> str:
    """A text as the server quotes it, which is as JSON does for all that a subject may hold."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _looked_at(task: "asyncio.Task[Any]") -> None:
    """A task that nobody waits for any more: its failure is of no interest."""
    if not task.cancelled():
        task.exception()


def parsed(kind: type[A], data: bytes) -> A | None:
    """An answer of JetStream's, or None where it is none."""
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        return None
