"""What comes of one HTTP exchange: an answer, or a named failure. Values only.

Errors::

    ExchangeError            no usable answer
    ├── Unreachable          the target, or the way to it: refused, reset, timed out, TLS, DNS
    └── OwnFault             the watchdog itself: no network, no file descriptors, no memory
"""

import errno
import socket
import ssl
from dataclasses import dataclass, field

import aiohttp

OWN_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "ENETUNREACH",
        "ENETDOWN",
        "EADDRNOTAVAIL",
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOMEM",
    )
    if hasattr(errno, name)
)


class ExchangeError(Exception):
    """No usable answer. `phases` holds the seconds spent until then."""

    def __init__(self, reason: str, phases: dict[str, float] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.phases = phases or {}


class Unreachable(ExchangeError):
    """The target, or the way to it, gave no answer."""


class OwnFault(ExchangeError):
    """The watchdog could not ask: this says nothing about the target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back. `headers` keeps order and repetition; `phases` are seconds."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    truncated: bool = False
    peer: str = ""
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Seconds that the target took, our own delay taken out."""
        return sum(self.phases.values()) - self.phases.get("own", 0.0)

    def header(self, name: str) -> list[str]:
        """All values of a header, in order."""
        wanted = name.lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    @property
    def media_type(self) -> str:
        """The media type without parameters, in lower case; empty when none is stated."""
        stated = self.header("content-type")
        return stated[0].split(";")[0].strip().lower() if stated else ""

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        """A page for people, by what it says it is or by how it begins."""
        if self.media_type in ("text/html", "application/xhtml+xml"):
            return True
        return (
            self.body[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
        )


def failure(error: Exception, phases: dict[str, float]) -> ExchangeError:
    """Name a failure of the transport, and say whose it is. No URL is in the name: it may hold secrets."""
    cause: BaseException = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, socket.gaierror):
        if cause.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY):
            return OwnFault(f"the name could not be looked up just now: {cause.strerror}", phases)
        return Unreachable(f"the name is not known: {cause.strerror}", phases)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return OwnFault(f"the watchdog could not look the name up: {cause}", phases)
    if isinstance(cause, ssl.SSLError):
        return Unreachable(f"TLS failed: {_about_tls(cause)}", phases)
    if isinstance(cause, OSError) and cause.errno in OWN_ERRNOS:
        return OwnFault(f"the watchdog could not ask: {cause.strerror or cause}", phases)
    if isinstance(cause, ConnectionRefusedError):
        return Unreachable("connection refused", phases)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Unreachable("the server closed the connection without an answer", phases)
    if isinstance(error, aiohttp.ClientResponseError):
        return Unreachable(f"the answer is no HTTP: {' '.join(error.message.split())[:200]}", phases)
    if isinstance(error, aiohttp.InvalidURL):
        return Unreachable("the URL cannot be asked over HTTP", phases)
    return Unreachable(f"{type(cause).__name__}: {cause}", phases)


def _about_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    return str(error.reason or error)
