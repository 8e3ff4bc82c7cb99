"""An HTTP request as the configuration states it, and how it becomes one on the wire."""

import json as jsonlib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from probes.answer import Answer
from probes.http import LAST_PORT, Transport, follow

PLACEHOLDER = re.compile(r"\$\{(canary(?:_uuid|_int)?)\}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"[\t\x20-\x7e]*")


class _Url(str):
    """A URL whose repr, which ends in logs and tracebacks, shows no user, password or query."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(bare(self))


def bare(url: str) -> str:
    """`url` without user, password, query and fragment."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url).partition("?")[0].partition("#")[0]


def _absolute(url: str) -> str:
    try:
        parsed = httpx.URL(PLACEHOLDER.sub("0", url))
    except httpx.InvalidURL as error:
        raise ValueError(f"{bare(url)!r} is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{bare(url)!r} is no absolute http:// or https:// URL")
    if (parsed.port or 80) > LAST_PORT:
        raise ValueError(f"{bare(url)!r} names a port above {LAST_PORT}")
    return _Url(url)


def _headers(headers: dict[str, str]) -> dict[str, str]:
    """What can go into a header. The value is not shown: it may be a secret."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a header")
        if not _FIELD.fullmatch(value):
            raise ValueError(f"the header {name} holds a line break, or a character that is not ASCII")
    return headers


Url = Annotated[str, AfterValidator(_absolute)]
Urls = list[Url]
Headers = Annotated[dict[str, str], AfterValidator(_headers)]


class HttpRequest(BaseModel):
    """One request. `${canary}` in it becomes the attempt's own identity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] | None = None
    headers: Headers = Field(default={}, repr=False)
    json_: Annotated[Any, Field(alias="json", repr=False)] = None
    body: str | None = Field(default=None, repr=False)
    params: dict[str, str | int | float] = Field(default={}, repr=False)
    verify: bool | str = True
    """False to accept any certificate; a path to trust that file's authorities."""
    follow_redirects: bool = False
    fresh: bool = False
    """True to open a connection for every request."""

    @model_validator(mode="after")
    def _one_of_each(self) -> "HttpRequest":
        if self.json_ is not None and self.body is not None:
            raise ValueError("json and body are two bodies: keep one")
        named = httpx.URL(PLACEHOLDER.sub("0", self.url)).userinfo
        if named and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("the URL's user and the header Authorization are two credentials: keep one")
        return self

    @property
    def verify_as(self) -> str:
        """`yes`, `no`, or a path to a certificate file."""
        if isinstance(self.verify, bool):
            return "yes" if self.verify else "no"
        return self.verify

    def build(
        self, default_method: str, values: Mapping[str, str] | None = None, **headers: str
    ) -> httpx.Request:
        """The request with `${…}` filled in from `values` and `headers` added under the user's own."""

        def fill(text: str) -> str:
            return PLACEHOLDER.sub(lambda found: values[found[1]], str(text)) if values else str(text)

        content, media_type = self._content(values or {})
        own = {"Accept": "*/*", "Accept-Encoding": "identity"} | media_type
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        stated = {name: fill(value) for name, value in self.headers.items()}
        url = httpx.URL(fill(self.url))
        if self.params:
            added = str(httpx.QueryParams({name: fill(str(value)) for name, value in self.params.items()}))
            url = url.copy_with(query=b"&".join(filter(None, [url.query, added.encode()])))
        return httpx.Request(
            self.method or ("POST" if content and default_method == "GET" else default_method),
            url,
            headers=_without(own, stated) | stated,
            content=content,
        )

    def _content(self, values: Mapping[str, str]) -> tuple[bytes | None, dict[str, str]]:
        if self.json_ is not None:
            document = filled(self.json_, values) if values else self.json_
            return jsonlib.dumps(document).encode(), {"Content-Type": "application/json"}
        if self.body is None:
            return None, {}
        return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), self.body).encode(), {}


async def ask(transport: Transport, http: HttpRequest, request: httpx.Request, timeout: float) -> Answer:
    """The answer to `request`, made of `http`, by the rules that `http` states."""
    fresh = http.fresh or None
    if http.follow_redirects:
        return await follow(transport, request, timeout=timeout, verify=http.verify_as, fresh=fresh)
    return await transport.exchange(request, timeout=timeout, verify=http.verify_as, fresh=fresh)


def _without(headers: Mapping[str, str], taken: Iterable[str]) -> dict[str, str]:
    """The headers whose names, in any case, are not taken."""
    lowered = {name.lower() for name in taken}
    return {name: value for name, value in headers.items() if name.lower() not in lowered}


def filled(item: Any, values: Mapping[str, str]) -> Any:
    """`item` with every placeholder replaced; a string that is only `${canary_int}` becomes a number."""
    if isinstance(item, str):
        whole = PLACEHOLDER.fullmatch(item)
        if whole and whole[1] == "canary_int":
            return int(values["canary_int"])
        return PLACEHOLDER.sub(lambda found: values[found[1]], str(item))
    if isinstance(item, Mapping):
        return {filled(key, values): filled(value, values) for key, value in item.items()}
    if isinstance(item, list):
        return [filled(value, values) for value in item]
    return item
