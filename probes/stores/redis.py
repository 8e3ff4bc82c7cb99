"""One connection to a Redis server, asked word by word, and what its errors are called.

Nothing is repeated: redis-py by default sends a command again after a time-out, a write as well. A connection
that is lost is not opened again either, for a SET that followed a MULTI on another one would be a write.
"""

import importlib.util
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from probes.answer import OWN_ERRNOS, OwnFault, Unreachable

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

MISSING = "the driver is not installed: pip install 'freezewatch[redis]'"
CODE = re.compile(r"[A-Z][A-Z0-9_]*")
"""The first word of an error: what kind it is."""
OPTIONS = frozenset(
    {
        "db",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_cert_reqs",
        "ssl_check_hostname",
    }
)
LONGEST = 200
TRANSIENT = frozenset({"EAI_AGAIN", "EAI_SYSTEM", "EAI_MEMORY"})


class Refused(Exception):
    """The server answered with an error. `code` is its first word: `READONLY`, `NOPERM`, `ERR`."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(f"{code} {said}")
        self.code = code
        self.said = said


class RedisUrl(str):
    """A URL whose repr, which ends in logs and tracebacks, shows where it leads and no more."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.where)

    @property
    def where(self) -> str:
        """Host, port and database."""
        parts = urlsplit(self)
        database = dict(parse_qsl(parts.query)).get("db") or unquote(parts.path).strip("/") or "0"
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}/{database}"


def redis_url(text: str) -> RedisUrl:
    """A URL that leads to one server, or a ValueError that does not show it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("this is no URL: write it like redis://user:password@host:6379/0") from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("write it like redis://user:password@host:6379/0, or rediss:// for TLS")
    if port == 0:
        raise ValueError("0 is no port")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - OPTIONS)
    if unknown or parts.fragment:
        raise ValueError(f"after ? only these are known: {', '.join(sorted(OPTIONS))}")
    database = options.get("db", unquote(parts.path).removeprefix("/")) or "0"
    if not re.fullmatch(r"[0-9]{1,9}", database):
        raise ValueError("the path of the URL is the number of a database: redis://host:6379/0")
    if parts.scheme == "redis" and any(name.startswith("ssl_") for name in options):
        raise ValueError("redis:// knows no ssl_ options: write rediss://")
    return RedisUrl(text)


class RedisSession:
    """One connection, for one command after the other."""

    def __init__(self, connection: "AbstractConnection") -> None:
        self._connection = connection

    async def ask(self, *words: str | int) -> Any:
        """The server's answer: bytes, numbers, lists. Raises Refused, Unreachable or OwnFault."""
        if not self._connection.is_connected:
            raise Unreachable("the connection was lost")
        try:
            await self._connection.send_command(*words, check_health=False)
            return await self._connection.read_response()
        except TimeoutError:
            raise
        except Exception as error:
            raise failed(error) from None


@asynccontextmanager
async def redis_session(url: str) -> AsyncIterator[RedisSession]:
    """A fresh connection, closed afterwards whatever happens. The caller bounds the time.

    Raises Refused (the server lets nobody in), Unreachable or OwnFault.
    """
    connection = _connection(url)
    try:
        try:
            await cast(Any, connection).connect()  # redis-py 8 has no types here
        except TimeoutError:
            raise
        except Exception as error:
            raise failed(error) from None
        yield RedisSession(connection)
    finally:
        await connection.disconnect(nowait=True)


def _connection(url: str) -> "AbstractConnection":
    try:
        from redis.asyncio.connection import Connection, parse_url
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise OwnFault(MISSING) from None
    options = cast(dict[str, Any], dict(parse_url(url)))
    kind = options.pop("connection_class", Connection)
    if url.startswith("rediss:"):
        options.setdefault("ssl_check_hostname", True)
    # One protocol whatever the driver's default is, and no words that the account may not say.
    quiet: dict[str, Any] = {"protocol": 2}
    quiet |= {"driver_info": None} if _newer_driver() else {"lib_name": None, "lib_version": None}
    bounds = {"socket_timeout": None, "socket_connect_timeout": None, "retry": Retry(NoBackoff(), 0)}
    try:
        return cast("AbstractConnection", kind(**options, **quiet, **bounds))
    except Exception as error:
        raise failed(error) from None


def _newer_driver() -> bool:
    """Since 7.1, redis-py names itself to the server by another argument."""
    return importlib.util.find_spec("redis.driver_info") is not None


def failed(error: Exception) -> Refused | Unreachable | OwnFault:
    """Name what went wrong, and say whose it is."""
    from redis import exceptions as known

    system = _system_error(error)
    if system is not None:
        return _of_system(system)
    if isinstance(error, known.ResponseError):
        return _refused(error, str(getattr(error, "status_code", None) or ""))
    if isinstance(error, known.AuthenticationError):
        code = str(getattr(error, "status_code", None) or "NOAUTH")
        return Refused(code if CODE.fullmatch(code) else "NOAUTH", _one_line(str(error)))
    if isinstance(error, known.BusyLoadingError):
        return Refused("LOADING", "it is loading its data")
    if isinstance(error, known.ConnectionError) and "max number of clients" in str(error):
        return Refused("ERR", "it takes no more clients")
    if isinstance(error, known.ConnectionError):
        return Unreachable("the server closed the connection without an answer")
    if isinstance(error, known.InvalidResponse):
        return Unreachable("the answer is no RESP: this is no Redis")
    return Unreachable(f"{type(error).__name__}: {_one_line(str(error))}")


def _refused(error: Exception, code: str) -> Refused:
    """redis-py takes the first word off the errors that it knows, and gives them a class instead."""
    said = _one_line(str(error))
    if not CODE.fullmatch(code):
        code = _BY_CLASS.get(type(error).__name__, "")
    if code:
        return Refused(code, said)
    first, _, rest = said.partition(" ")
    return Refused(first, rest) if CODE.fullmatch(first) and rest else Refused("ERR", said)


_BY_CLASS = {
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ExecAbortError": "EXECABORT",
    "NoScriptError": "NOSCRIPT",
    "AskError": "ASK",
    "MovedError": "MOVED",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "ClusterCrossSlotError": "CROSSSLOT",
    "MasterDownError": "MASTERDOWN",
}


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]


def _system_error(error: BaseException | None) -> OSError | None:
    """The error of the operating system behind one of the driver's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, ssl.SSLError)):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _of_system(error: OSError) -> Unreachable | OwnFault:
    import socket

    said = error.strerror or str(error)
    if isinstance(error, socket.gaierror):
        transient = {getattr(socket, name) for name in TRANSIENT if hasattr(socket, name)}
        if error.errno in transient:
            return OwnFault(f"the name could not be looked up just now: {said}")
        return Unreachable(f"the name is not known: {said}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(f"the certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"TLS failed: {error.reason or 'no TLS'}")
    if error.errno in OWN_ERRNOS:
        return OwnFault(f"the watchdog could not ask: {said}")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("connection refused")
    return Unreachable(_one_line(said))
