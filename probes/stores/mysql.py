"""Sessions on a MySQL or MariaDB server: opened and asked in a thread, cut off from outside, errors named.

PyMySQL blocks, so every piece of work has a thread of its own: a daemon, not one of the loop's few pooled
threads, which a hanging server would soon use up. Whoever gives up cuts the connection, and the thread
ends with it. Judges nothing; what the server answers with an error is passed on as `Answered`.

Errors::

    Exception
    ├── Answered             the server's own answer: a number and a text
    └── ExchangeError        (probes.answer)
        ├── Unreachable      no answer, or none that is MySQL's
        └── OwnFault         the watchdog itself: no driver, no network, no file descriptors
"""

import asyncio
import contextlib
import functools
import math
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from probes.answer import OWN_ERRNOS, ExchangeError, OwnFault, Unreachable
from probes.stores.mysql_dsn import Server

T = TypeVar("T")
Row = tuple[Any, ...]

NO_DRIVER = "the driver is not installed: pip install 'freezewatch[mysql]'"
SYSTEM = ("mysql", "information_schema", "performance_schema", "sys")
"""Databases of the server itself."""
CLIENT_ERRORS = range(2000, 3000)
"""Numbers that the driver gives to its own troubles; all others are the server's answers."""
LOCK_ERRORS = frozenset({1205, 1317, 1969, 3024})
"""A statement that was given up: lock wait timeout, interrupted, out of time (MariaDB, MySQL)."""
_ACCOUNT = re.compile(r"(?:user )?'[^']*'@'[^']*'")
_LONGEST = 200


# -- errors ---------------------------------------------------------------------------------------


class Answered(Exception):
    """The server answered with an error. The text bears no account and is one line."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(code, said)
        self.code = code
        self.said = said

    def __str__(self) -> str:
        return f"{self.code}: {self.said}" if self.said else str(self.code)


def _named(error: Exception, server: Server, timeout: float) -> Exception:
    """What a failure of the driver is. No password, user or query is in the name."""
    if isinstance(error, Answered | ExchangeError):
        return error
    cause: BaseException = getattr(error, "original_exception", None) or error.__cause__ or error
    if isinstance(cause, socket.gaierror):
        if cause.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY):
            return OwnFault(f"the name could not be looked up just now: {cause.strerror}")
        return Unreachable(f"the name is not known: {cause.strerror}")
    if isinstance(cause, OSError) and cause.errno in OWN_ERRNOS:
        return OwnFault(f"the watchdog could not ask: {cause.strerror}")
    if isinstance(error, RuntimeError) and "cryptography" in str(error):
        return OwnFault("the account needs TLS, or the package cryptography: pip install cryptography")
    if isinstance(cause, OSError):
        return Unreachable(_of_socket(cause, server, timeout))
    code = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if not code:
        if isinstance(error, AttributeError | TypeError | NameError):
            return error  # a mistake of ours
        return Unreachable(f"what answers at {server.place} is no MySQL ({type(error).__name__})")
    if code not in CLIENT_ERRORS:
        return Answered(code, plain(str(error.args[1]) if len(error.args) > 1 else ""))
    if "timed out" in str(error):
        return Unreachable(f"no answer within {timeout:.3g} s")
    return Unreachable(f"the connection to {server.place} was lost ({code})")


def _of_socket(error: OSError, server: Server, timeout: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:.3g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    return f"{server.place}: {error.strerror or type(error).__name__}"


def plain(said: str) -> str:
    """A server's text in one line, without the account that was refused."""
    return " ".join(_ACCOUNT.sub("the account", said).split())[:_LONGEST]


# -- threads and connections ----------------------------------------------------------------------


class Cord:
    """Holds the connections of one piece of work, so that another thread can cut them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tied: list[Any] = []
        self._cut = False

    def tie(self, connection: Any) -> None:
        """Hold a connection. Raises Unreachable when the work was given up already."""
        with self._lock:
            if self._cut:
                raise Unreachable("given up")
            self._tied.append(connection)

    def cut(self) -> None:
        """Shut every connection down: whoever reads or writes on it is woken at once."""
        with self._lock:
            self._cut = True
            tied, self._tied = self._tied, []
        for connection in tied:
            wire: Any = getattr(connection, "_sock", None)
            # Not the method of a TLS socket: that one takes TLS off under the thread that is reading.
            with contextlib.suppress(OSError, TypeError, AttributeError):
                # Its closing resets the connection: a server in the midst of sending would wait to go on.
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


async def in_thread(work: Callable[[], T], cord: Cord) -> T:
    """What `work` returns or raises. When the caller is cancelled the cord is cut, and so the thread ends.

    Raises Unreachable for an answer that is not what was asked for: a number that is none, a row too few.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(done: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(done)  # type: ignore[arg-type]

    def run() -> None:
        try:
            tell = partial(settle, work(), None)
        except (ValueError, LookupError) as error:
            strange = Unreachable(f"the answer could not be understood ({type(error).__name__})")
            tell = partial(settle, None, strange)
        except BaseException as error:  # whatever it is, it is raised again where it is awaited
            tell = partial(settle, None, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(tell)

    try:
        threading.Thread(target=run, name="freezewatch-mysql", daemon=True).start()
    except RuntimeError as error:
        raise OwnFault(f"the watchdog could not start a thread: {error}") from None
    try:
        return await future
    except asyncio.CancelledError:
        cord.cut()
        raise


class Session:
    """One connection, used by one thread at a time; only its cord is for others.

    A statement gives up after `patience` seconds where the server can tell time (MariaDB), and waits for
    locks no longer than that in whole seconds, so that what nobody waits for any more does not land later.
    """

    def __init__(
        self, server: Server, *, timeout: float, patience: float | None = None, cord: Cord | None = None
    ) -> None:
        self.server = server
        self.cord = cord or Cord()
        self._timeout = timeout
        self._patience = patience or timeout
        self._connection: Any = None
        self.id = 0
        self.mariadb = False

    def open(self) -> "Session":
        """Connect. Raises Answered, Unreachable or OwnFault."""
        with self.named():
            self._connection = connect(self.server, timeout=self._timeout, cord=self.cord)
        self.mariadb = "mariadb" in str(self._connection.get_server_info()).lower()
        self.run(self._limits())
        self.id = int(self.run("SELECT CONNECTION_ID()")[0][0])
        return self

    def _limits(self) -> str:
        whole = max(1, math.ceil(self._patience))
        longest = (
            f"max_statement_time = {max(0.05, self._patience):.3f}"
            if self.mariadb
            else f"max_execution_time = {max(50, int(self._patience * 1000))}"
        )
        return (
            f"SET SESSION lock_wait_timeout = {whole}, innodb_lock_wait_timeout = {whole}, {longest}, "
            "sql_safe_updates = 0, sql_mode = 'STRICT_ALL_TABLES'"
        )

    def run(self, sql: str, values: Sequence[object] | None = None) -> list[Row]:
        """The rows of one statement. Raises Answered, Unreachable or OwnFault."""
        with self.named(), self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def one(self, sql: str, values: Sequence[object] | None = None) -> Row:
        """The first row; an empty one where there is none."""
        rows = self.run(sql, values)
        return rows[0] if rows else ()

    def dicts(self, sql: str) -> list[dict[str, Any]]:
        """The rows by the lower-case names of their columns, which differ from version to version."""
        with self.named(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            names = [str(column[0]).lower() for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def named(self) -> Iterator[None]:
        """The driver's boundary: whatever it raises has a name that is safe to show."""
        try:
            yield
        except Exception as error:
            raise _named(error, self.server, self._timeout) from None

    def close(self) -> None:
        """Say goodbye, where the connection lives still. Raises nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # a lost connection is closed all the same
                connection.close()

    def __enter__(self) -> "Session":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def _kind() -> Any:
    """The driver's connection, which takes TLS where the server offers it, with our context."""
    try:
        from pymysql.connections import Connection
    except ImportError:
        raise OwnFault(NO_DRIVER) from None

    class Connecting(Connection):
        def _create_ssl_ctx(self, given: Any) -> ssl.SSLContext:
            return given if isinstance(given, ssl.SSLContext) else _context("prefer", None)

    return Connecting


def connect(server: Server, *, timeout: float, cord: Cord, **options: Any) -> Any:
    """A connection of the driver, in autocommit, tied to `cord`. Raises what sockets and the driver raise."""
    settings: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password.encode(),
        "database": server.database,
        "charset": "utf8mb4",
        "autocommit": True,
        "read_timeout": timeout,
        "write_timeout": timeout,
        "program_name": "freezewatch",
        "defer_connect": True,
        **_tls(server),
        **options,
    }
    connection: Any = _kind()(**settings)
    with contextlib.closing(_dial(server, timeout)) as wire:
        cord.tie(connection)
        connection.connect(wire.dup())
    return connection


@functools.cache
def _context(tls: str, authorities: str | None) -> ssl.SSLContext:
    """One for all connections: loading the system's authorities takes longer than most attempts."""
    if tls == "verify":
        return ssl.create_default_context(cafile=authorities)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _tls(server: Server) -> dict[str, Any]:
    if server.tls in ("off", "prefer"):
        return {"ssl_disabled": server.tls == "off"}
    try:
        return {"ssl": _context(server.tls, server.tls_ca)}
    except OSError as error:
        raise OwnFault(f"tls_ca cannot be read: {error.strerror or type(error).__name__}") from None


def _dial(server: Server, timeout: float) -> socket.socket:
    """A connected socket: the addresses of the name in turn, in one timeout for all."""
    ends = time.monotonic() + timeout
    refused: OSError = TimeoutError()
    for family, kind, protocol, _, address in socket.getaddrinfo(
        server.host, server.port, type=socket.SOCK_STREAM
    ):
        wire = socket.socket(family, kind, protocol)
        try:
            wire.settimeout(max(0.01, ends - time.monotonic()))
            wire.connect(address)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            wire.close()
            refused = error
            continue
        return wire
    raise refused


# -- names ----------------------------------------------------------------------------------------


def quoted(*names: str) -> str:
    """Names as the server takes them: `` `shop`.`products` ``."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def bound(*names: str) -> str:
    """As `quoted`, for a statement that is given values."""
    return quoted(*names).replace("%", "%%")


def status(session: Session, *names: str) -> dict[str, int]:
    """Counters of the whole server, by lower-case name; those that it does not have are left out."""
    listed = ", ".join(f"'{name}'" for name in names)
    rows = session.run(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({listed})")
    return {str(name).lower(): int(value) for name, value in rows}


STARTED_WITHIN = 2
"""Seconds by which the start of one and the same run of a server may seem to differ."""


def started(session: Session) -> int:
    """When the server was started (its own clock, epoch seconds)."""
    now = int(session.one("SELECT UNIX_TIMESTAMP()")[0])
    return now - status(session, "Uptime").get("uptime", 0)


def identity(session: Session) -> str:
    """What tells this server from others, whatever address it is reached by."""
    if session.mariadb:
        return ":".join(str(part) for part in session.one("SELECT @@hostname, @@port, @@datadir"))
    return str(session.one("SELECT @@server_uuid")[0])
