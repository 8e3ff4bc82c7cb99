"""Sessions to a PostgreSQL server: opened, asked and given up within a limit, with every failure named.

Refuses to wait longer than it was told: a session whose answer does not come in time is cut off, and lost.
Names host, port and database in what it says, never a user, a password or the DSN. Settings that would
make an attempt be refused by ourselves (PGOPTIONS, `target_session_attrs`) are not taken over. The driver is
imported when the first session is opened.

Errors::

    ExchangeError
    ├── Unreachable          no session, no answer in time, or the session was lost
    │   └── ServerError      the server answered with an error; `code` is its SQLSTATE
    └── OwnFault             the watchdog itself: no driver, no network, no file descriptors
"""

import asyncio
import contextlib
import math
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, Field

from probes.answer import OWN_ERRNOS, ExchangeError, OwnFault, Unreachable

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, object]

NAME: Final = "freezewatch"
"""The application_name of every session of ours."""
STORE: Final = "postgres"
"""The store's name under which own writes are noted, each by `own_token`."""
NO_DRIVER = "the driver is not installed: pip install 'freezewatch[postgres]'"
NO_ADDRESS = (
    "this is no address of a PostgreSQL database: write postgresql://user:password@host:5432/database,"
    " or keywords such as host=… dbname=…"
)
READ_ONLY_OPTION = re.compile(r"transaction[_-]read[_-]only", re.IGNORECASE)
OWN_TEXTS = tuple(os.strerror(number) for number in sorted(OWN_ERRNOS))
"""What libpq says for errors that are the watchdog's own; it gives no number."""
LOOK_UP_FAILED = (
    f"[Errno {socket.EAI_AGAIN}]",
    f"[Errno {socket.EAI_SYSTEM}]",
    f"[Errno {socket.EAI_MEMORY}]",
)


class ServerError(Unreachable):
    """The server answered with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def _address(dsn: str) -> str:
    """`dsn` when the driver can read it. The driver's own words are not shown: they may hold the password."""
    try:
        parameters(dsn)
    except OwnFault:
        return dsn  # said when a session is opened: checking a file needs no driver
    except ValueError:
        raise ValueError(NO_ADDRESS) from None
    return dsn


Dsn = Annotated[str, Field(min_length=1, repr=False), AfterValidator(_address)]
"""A libpq connection string, as a URL or as keywords."""


def parameters(dsn: str) -> dict[str, str]:
    """The parts of a DSN. Raises ValueError when it cannot be read, OwnFault without the driver."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise OwnFault(NO_DRIVER) from None
    try:
        found = conninfo_to_dict(dsn)
    except (ProgrammingError, UnicodeError):
        raise ValueError(NO_ADDRESS) from None
    return {name: str(value) for name, value in found.items() if value is not None}


def sets_read_only(dsn: str) -> bool:
    """The DSN makes its own sessions read-only: what they are refused says nothing of the server."""
    try:
        return bool(READ_ONLY_OPTION.search(parameters(dsn).get("options", "")))
    except OwnFault:
        return False


def quoted(name: str) -> str:
    """An identifier as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def own_token(system: str, transaction: int) -> str:
    """How a transaction of ours is noted: servers count alike, and their records give its lower 32 bits."""
    return f"{system}:{transaction % 2**32}"


class Session:
    """One session in autocommit. After a failure that is no ServerError it is lost."""

    def __init__(self, connection: "psycopg.AsyncConnection[Row]", place: str) -> None:
        self._connection = connection
        self._place = place

    @property
    def lost(self) -> bool:
        """Nothing can be asked any more."""
        return bool(self._connection.closed)

    @property
    def process(self) -> int:
        """The server's process for this session; a pooler gives a number of its own."""
        return self._connection.info.backend_pid

    async def run(self, statement: str, values: Values | None = None, *, within: float) -> list[Row]:
        """Run one statement, parameters as `%(name)s`. Gives its rows; none for one that has none.

        Raises ServerError, or Unreachable with the session lost. Ends after `within` seconds.
        """

        async def ask() -> list[Row]:
            cursor = await self._connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

        return await self._bounded(ask, within)

    async def _bounded(self, ask: Callable[[], Awaitable[T]], within: float) -> T:
        """What `ask` gives, or the session is cut off: the driver's own cancelling may wait for long."""
        task = asyncio.ensure_future(ask())
        try:
            done, _ = await asyncio.wait({task}, timeout=max(within, 0.0))
        except asyncio.CancelledError:
            await self._cut(task)
            raise
        if not done:
            await self._cut(task)
            raise Unreachable(f"{self._place} gave no answer within {within:.3g} s")
        try:
            return task.result()
        except Exception as error:
            raise named(error, self._place) from None

    async def _cut(self, task: "asyncio.Future[T]") -> None:
        """End the exchange: the driver sees the end of the stream and gives up by itself.

        Shut down, not closed: the descriptor stays taken until the driver lets go of it.
        """
        if not self._connection.closed:
            stream = socket.socket(fileno=os.dup(self._connection.fileno()))
            # The other side may have been faster: then it is cut off already.
            with stream, contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        await self.close()

    async def close(self) -> None:
        """End the session. Again is no error."""
        await self._connection.close()


class Budget:
    """The time that is left, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Never below 0."""
        return max(0.0, self._ends - time.perf_counter())


class Server:
    """Where sessions are opened. `timeout` is in seconds and bounds what the server does for us as well."""

    def __init__(self, dsn: str, timeout: float, options: str = "") -> None:
        self._dsn = dsn
        self._timeout = timeout
        self._options = options
        self._bare = False
        """A pooler took no start-up options: statements are bounded from this side alone."""

    def __repr__(self) -> str:
        return f"Server({self.place})"

    @property
    def place(self) -> str:
        """`db.example.com:5432/catalogue`."""
        try:
            parts = parameters(self._dsn)
        except (ValueError, ExchangeError):
            return "the server"
        host = parts.get("host") or parts.get("hostaddr") or "localhost"
        return f"{host}:{parts.get('port', '5432')}/{parts.get('dbname', '')}".rstrip("/")

    async def connect(self, within: float) -> Session:
        """A fresh session. Raises Unreachable (ServerError where the server said why) or OwnFault."""
        budget = Budget(within)
        try:
            return await self._connect(within)
        except Unreachable as error:
            if self._bare or "startup parameter" not in error.reason:
                raise
        self._bare = True
        return await self._connect(budget.left)

    async def _connect(self, within: float) -> Session:
        try:
            from psycopg import AsyncConnection
            from psycopg.conninfo import make_conninfo
        except ImportError:
            raise OwnFault(NO_DRIVER) from None
        try:
            async with asyncio.timeout(max(within, 0.0)):
                connection = await AsyncConnection.connect(
                    make_conninfo("", **self._settings()), autocommit=True, prepare_threshold=None
                )
        except TimeoutError:
            raise Unreachable(f"{self.place} opened no session within {within:.3g} s") from None
        except Exception as error:
            raise _without_descriptors() or named(error, self.place, self._secrets()) from None
        return Session(connection, self.place)

    def _settings(self) -> dict[str, str]:
        """The DSN's, with ours over them. An empty `options` keeps PGOPTIONS out."""
        found = parameters(self._dsn)
        if found.get("target_session_attrs") == "read-write":
            # A frozen primary is what we want to ask, and libpq would turn away from it.
            found["target_session_attrs"] = "primary"
        else:
            found.setdefault("target_session_attrs", "any")
        limits = "" if self._bare else self._limits()
        found["options"] = f"{found.get('options', '')} {limits}".strip()
        found["application_name"] = NAME
        found["client_encoding"] = "UTF8"
        found["connect_timeout"] = str(max(2, math.ceil(self._timeout)))
        return found

    def _limits(self) -> str:
        """Time limits that the server keeps: a little shorter than ours, so that it is the one to say so."""
        limit = max(1, int(self._timeout * 900))
        lock = max(1, int(self._timeout * 800))
        idle = max(1000, int(self._timeout * 2000))
        return (
            f"-c statement_timeout={limit} -c lock_timeout={lock}"
            f" -c idle_in_transaction_session_timeout={idle} {self._options}"
        )

    def _secrets(self) -> list[str]:
        parts = parameters(self._dsn)
        return [parts[name] for name in ("password", "sslpassword", "user") if parts.get(name)]


def named(error: Exception, place: str, secrets: Sequence[str] = ()) -> ExchangeError:
    """What went wrong with a session, and whose fault it is. A mistake of ours is raised as it is."""
    import psycopg

    if isinstance(error, ExchangeError):
        return error
    if isinstance(error, OSError):
        text = error.strerror or type(error).__name__
        kind = OwnFault if error.errno in OWN_ERRNOS else Unreachable
        return kind(f"{place}: {text}")
    if isinstance(error, UnicodeError):
        return Unreachable(f"{place} answered with a text that is not UTF-8")
    if not isinstance(error, psycopg.Error):
        raise error
    if error.sqlstate is not None:
        return ServerError(error.sqlstate, _one_line(error.diag.message_primary or type(error).__name__))
    text = _without(_one_line(str(error)), secrets)
    if any(text_of_errno in text for text_of_errno in LOOK_UP_FAILED):
        return OwnFault("the name could not be looked up just now")
    if "FATAL" not in text and "fork" not in text and any(own in text for own in OWN_TEXTS):
        return OwnFault(f"the watchdog could not ask: {text}")
    return Unreachable(f"{place}: {text}")


def _without_descriptors() -> OwnFault | None:
    """The watchdog can open nothing more: libpq fails then without a word."""
    try:
        socket.socket().close()
    except OSError as error:
        return OwnFault(f"the watchdog could not ask: {error.strerror}")
    return None


def _one_line(text: str) -> str:
    """libpq's message without its advice and its repetition of the address."""
    first = text.strip().partition("\n")[0]
    return re.sub(r"^.*?\bport \S+ failed: |^(?:connection failed|connection is bad): ", "", first)[:300]


def _without(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
    return text
