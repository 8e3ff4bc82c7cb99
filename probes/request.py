"""An HTTP request as the configuration states it, and how it becomes one on the wire."""

import json as jsonlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

PLACEHOLDER = re.compile(r"\$\{(canary(?:_uuid|_int)?)\}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _absolute(url: str) -> str:
    bare = PLACEHOLDER.sub("0", url)
    try:
        parsed = httpx.URL(bare)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is no absolute http:// or https:// URL")
    return url


Url = Annotated[str, AfterValidator(_absolute)]


class HttpRequest(BaseModel):
    """One request. `${canary}` in it becomes the attempt's own identity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] | None = None
    headers: dict[str, str] = {}
    json_: Annotated[Any, Field(alias="json")] = None
    body: str | None = None
    params: dict[str, str | int | float] = {}
    verify: bool | str = True
    """False to accept any certificate; a path to trust that file's authorities."""
    follow_redirects: bool = False
    fresh: bool = False
    """True to open a connection for every request."""

    @model_validator(mode="after")
    def _one_body(self) -> "HttpRequest":
        if self.json_ is not None and self.body is not None:
            raise ValueError("json and body are two bodies: keep one")
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

        def fill(item: Any) -> Any:
            return _filled(item, values) if values else item

        sent = {"Accept": "*/*", "Accept-Encoding": "identity"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        sent = {k: v for k, v in sent.items() if k.lower() not in map(str.lower, self.headers)}
        sent |= {name: fill(value) for name, value in self.headers.items()}
        content: bytes | None = None
        if self.json_ is not None:
            content = jsonlib.dumps(fill(self.json_)).encode()
            if not any(name.lower() == "content-type" for name in sent):
                sent["Content-Type"] = "application/json"
        elif self.body is not None:
            content = str(fill(self.body)).encode()
        method = self.method or ("POST" if content and default_method == "GET" else default_method)
        return httpx.Request(
            method,
            fill(self.url),
            params={name: fill(value) for name, value in self.params.items()} or None,
            headers=sent,
            content=content,
        )


def _filled(item: Any, values: Mapping[str, str]) -> Any:
    """`item` with every placeholder replaced; a string that is only `${canary_int}` becomes a number."""
    if isinstance(item, str):
        whole = PLACEHOLDER.fullmatch(item)
        if whole and whole[1] == "canary_int":
            return int(values["canary_int"])
        return PLACEHOLDER.sub(lambda found: values[found[1]], item)
    if isinstance(item, Mapping):
        return {_filled(key, values): _filled(value, values) for key, value in item.items()}
    if isinstance(item, list):
        return [_filled(value, values) for value in item]
    return item
