"""Where a MySQL or MariaDB server is, as the configuration names it. No text of ours shows a password."""

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PORT = 3306
TLS = ("prefer", "off", "require", "verify")


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a server is, and who asks it. Only `place` may be shown."""

    host: str
    port: int
    database: str | None
    user: str = field(repr=False)
    password: str = field(repr=False)
    tls: str = "prefer"
    tls_ca: str | None = None

    @property
    def place(self) -> str:
        """Host, port and database, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f"/{self.database}" if self.database else "")


def parsed(dsn: str) -> Server:
    """The parts of `mysql://user:password@host:port/database?tls=verify&tls_ca=/path`.

    Raises ValueError, whose text shows nothing of the value: it may hold a password.
    """
    try:
        parts = urlsplit(dsn)
        port = parts.port
    except ValueError:
        raise ValueError("the dsn is no URL: mysql://user:password@host:port/database") from None
    if parts.scheme not in ("mysql", "mariadb") or not parts.hostname:
        raise ValueError("write the dsn as mysql://user:password@host:port/database, with %40 for @")
    if not parts.username:
        raise ValueError("the dsn names no user: mysql://user:password@host:port/database")
    if port == 0:
        raise ValueError("the dsn names port 0")
    database = unquote(parts.path.removeprefix("/")) or None
    options = parse_qs(parts.query, keep_blank_values=True)
    strange = set(options) - {"tls", "tls_ca"}
    if strange or parts.fragment:
        raise ValueError("the dsn takes the options tls and tls_ca, no others; write ? and # as %3F and %23")
    tls, ca = options.get("tls", ["prefer"])[-1], options.get("tls_ca", [""])[-1] or None
    if tls not in TLS:
        raise ValueError(f"tls in the dsn is one of {', '.join(TLS)}")
    if ca is not None and tls != "verify":
        raise ValueError("tls_ca in the dsn names the authorities that tls=verify trusts: write both")
    return Server(
        host=parts.hostname,
        port=port or PORT,
        database=database,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        tls=tls,
        tls_ca=ca,
    )


def _checked(dsn: str) -> str:
    parsed(dsn)
    return dsn


class Connected(BaseModel):
    """A server, as the configuration names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsn: Annotated[str, AfterValidator(_checked)] = Field(repr=False)
    """`mysql://user:password@host:port/database`."""

    @property
    def server(self) -> Server:
        """Its parts."""
        return parsed(self.dsn)
