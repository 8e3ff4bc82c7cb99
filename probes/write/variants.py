"""Other spellings of an HTTP write that a guard may not know. Pure: a request in, requests out.

Guards match paths and verbs badly: a slash more, another case, an overridden verb, PATCH where they know PUT,
a list of one, an alias. Each spelling is asked in turn, and only what the read-back shows as applied counts:
one that the service does not know is no way in.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit, urlunsplit

from probes.request import PLACEHOLDER, HttpRequest

Respelled = HttpRequest | None
"""None where a spelling does not apply to a request."""

_FIELD = re.compile(r"(\bmutation\b[^{]*\{\s*)([A-Za-z_]\w*)(?!\w)(?!\s*:)")
"""The first field of a GraphQL mutation, unless it has an alias."""


def _with_path(request: HttpRequest, change: Callable[[str], str]) -> Respelled:
    """`request` with its path changed; None where that changes nothing."""
    scheme, host, path, query, fragment = urlsplit(str(request.url))
    changed = change(path)
    if changed == path:
        return None
    return request.model_copy(update={"url": urlunsplit((scheme, host, changed, query, fragment))})


def _trailing_slash(request: HttpRequest) -> Respelled:
    def change(path: str) -> str:
        return path if len(path) < 2 else path[:-1] if path.endswith("/") else path + "/"

    return _with_path(request, change)


def _doubled_slash(request: HttpRequest) -> Respelled:
    return _with_path(request, lambda path: "/" + path if len(path) > 1 else path)


def _other_case(request: HttpRequest) -> Respelled:
    """The path in the other case; the canary in it stays as it is."""

    def change(path: str) -> str:
        fixed = PLACEHOLDER.split(path)[::2]
        names = PLACEHOLDER.findall(path)
        upper = "".join(fixed) == "".join(fixed).lower()
        turned = [part.upper() if upper else part.lower() for part in fixed]
        return turned[0] + "".join(
            "${" + name + "}" + part for name, part in zip(names, turned[1:], strict=True)
        )

    return _with_path(request, change)


def _method_override(request: HttpRequest) -> Respelled:
    """A harmless-looking verb that asks the framework for the real one."""
    verb = request.method or "POST"
    carrier = "GET" if verb == "POST" else "POST"
    headers = {**request.headers, "X-HTTP-Method-Override": verb}
    return request.model_copy(update={"method": carrier, "headers": headers})


def _patch(request: HttpRequest) -> Respelled:
    return request.model_copy(update={"method": "PATCH"}) if request.method == "PUT" else None


def _batch_of_one(request: HttpRequest) -> Respelled:
    """The body as a list of one."""
    if not isinstance(request.json_, dict):
        return None
    return request.model_copy(update={"json_": [request.json_]})


def _graphql_alias(request: HttpRequest) -> Respelled:
    query = request.json_.get("query") if isinstance(request.json_, dict) else None
    if not isinstance(query, str):
        return None
    aliased, found = _FIELD.subn(r"\1freezewatch: \2", query, count=1)
    return request.model_copy(update={"json_": {**request.json_, "query": aliased}}) if found else None


SPELLINGS: Mapping[str, Callable[[HttpRequest], Respelled]] = {
    "trailing slash": _trailing_slash,
    "doubled slash": _doubled_slash,
    "other letter case": _other_case,
    "method override": _method_override,
    "PATCH beside PUT": _patch,
    "batch of one": _batch_of_one,
    "GraphQL alias": _graphql_alias,
}


def variants(request: HttpRequest) -> dict[str, HttpRequest]:
    """Every other spelling of `request` that there is, by name."""
    spelled = {name: respell(request) for name, respell in SPELLINGS.items()}
    return {name: found for name, found in spelled.items() if found is not None}
