"""What an MCP server replies to a call, and whether that is a proper refusal of a write. Pure.

MCP has no status that means *frozen*: a refusal is a tool's result with `isError`, a JSON-RPC error, or the
HTTP answer of a gateway that lets no call through. An error of a tool proves nothing by itself: an unknown
tool, a bad argument and a lost login come the same way. So a refusal must bear the marks that were
configured, or, where none were, say in its own words that writes are frozen; and a stable code in any case.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.answer import Answer
from probes.jsonpath import JsonPath
from probes.refusal import (
    MARKER,
    Class,
    Judgement,
    Pattern,
    Refusal,
    Statuses,
    code_in,
    judge,
    says_failed,
)
from probes.shown import shown

PROTOCOL = frozenset({-32700, -32600, -32601, -32602, -32000, -32001, -32002, -32020, -32022, -32042})
"""JSON-RPC codes with a meaning of their own in JSON-RPC, MCP or its SDKs, and none of them is *frozen*."""
ANYTHING = frozenset({0, -32603})
"""Codes of an error that nobody named: it may be a refusal by what it says, but its number is no code."""
SEARCHED = 1 << 16
"""Characters of a text that are searched for marks."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no JSON-RPC code")  # noqa: TRY004 - pydantic reads ValueError
    return value


Codes = Annotated[
    list[Annotated[int, BeforeValidator(_no_bool)]], Field(min_length=1), BeforeValidator(_as_list)
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A result: of a tool, or the contents of a resource. `document` is JSON, None where there is none."""

    text: str
    document: Any = None
    is_error: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RpcError:
    """A JSON-RPC error."""

    code: int
    message: str
    data: Any = None

    @property
    def text(self) -> str:
        """All that it says."""
        return self.message if self.data is None else f"{self.message} {_plain(self.data)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back. `http` is the answer of the endpoint where that was no 2xx."""

    said: Said | RpcError
    http: Answer | None = None

    @property
    def of_the_server(self) -> bool:
        """It is MCP, and not what an HTTP answer of a gateway was made into."""
        return self.http is None or _is_rpc(self.http)


class McpRefusal(BaseModel):
    """What a proper refusal looks like on one MCP surface."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool_error: bool = True
    """A tool's result with `isError` may be a refusal."""
    json_rpc: Codes | None = None
    """JSON-RPC errors that are refusals; without it any but those of the protocol may be one."""
    http: Statuses = [423, 503]
    """Statuses of the endpoint itself that are refusals, with Retry-After and a code."""
    code: JsonPath | Literal["auto", "none"] = "auto"
    """Where the stable code stands: in the structured content, in a text that is JSON, in an error's data."""
    equals: str | None = None
    """The code itself, where it is known."""
    body: Pattern | None = None
    """A regular expression that the text of a refusal must match."""
    failed: JsonPath | None = None
    """Where a result without `isError` says that it failed nevertheless."""

    @model_validator(mode="after")
    def _can_tell(self) -> "McpRefusal":
        if self.code == "none" and self.equals is not None:
            raise ValueError("equals names a code, and `code: none` says that there is none: keep one")
        if self.code == "none" and self.body is None and self.json_rpc is None:
            raise ValueError("`code: none` leaves nothing to know a refusal by: name body or json_rpc")
        return self

    @property
    def has_marker(self) -> bool:
        """Something tells the guard from any other error."""
        return self.equals is not None or self.body is not None or self.json_rpc is not None

    @property
    def over_http(self) -> Refusal:
        """The rule for the endpoint's own answers."""
        code: Literal["auto", "none"] = "none" if self.code == "none" else "auto"
        return Refusal(status=self.http, code=code, equals=self.equals)


def judged(
    reply: Reply, rule: McpRefusal, own_words: Iterable[str] = (), closes: float | None = None
) -> Judgement:
    """Judge the reply to a write attempt.

    `own_words` are those of the call itself, which an error may repeat: they do not speak of the freeze.
    `closes` (epoch seconds) lets a Retry-After that is too late be seen.
    """
    if reply.http is not None and (reply.http.status in rule.http or not reply.of_the_server):
        return judge(reply.http, rule.over_http, closes=closes)
    if isinstance(reply.said, RpcError):
        return _of_error(reply.said, rule, own_words)
    said = reply.said
    failed = said.is_error or says_failed(rule.failed, said.document)
    code = code_in(said.document, rule.code)
    if not failed:
        if rule.equals is not None and code == rule.equals:
            reason = "the result bears the code of a refusal, but is not marked as an error"
            return Judgement(kind=Class.BROKEN, reason=reason, code=code)
        return Judgement(kind=Class.ACCEPTED, reason="the tool answered without an error")
    return _of_text(said.text, "tool error", rule, code, listed=rule.tool_error, own_words=own_words)


def _of_error(error: RpcError, rule: McpRefusal, own_words: Iterable[str]) -> Judgement:
    what = f"JSON-RPC error {error.code}"
    named = rule.json_rpc is not None and error.code in rule.json_rpc
    if not named and error.code in PROTOCOL:
        return Judgement(kind=Class.OTHER, reason=_other(what, error.text, own_words))
    data = error.data if isinstance(error.data, Mapping | list) else {"code": error.data}
    code = code_in(data, rule.code)
    if code is None and rule.code == "auto" and (named or error.code not in ANYTHING):
        code = str(error.code)
    listed = named or rule.json_rpc is None
    marked = named and rule.equals is None and rule.body is None
    return _of_text(error.text, what, rule, code, listed=listed, own_words=own_words, marked=marked)


def _of_text(
    text: str,
    what: str,
    rule: McpRefusal,
    code: str | None,
    *,
    listed: bool,
    own_words: Iterable[str],
    marked: bool = False,
) -> Judgement:
    """An error: is it the guard's, and does it keep the contract? `marked` says that it is the guard's."""
    speaks = bool(MARKER.search(_without(text, own_words)))
    if code is not None and code not in what:
        what = f"{what} {shown(code)}"
    if not marked:
        lacks = _lacks(text, rule, code, speaks=speaks)
        if lacks is not None:
            of_the_guard = speaks and rule.body is None
            kind = Class.BROKEN if of_the_guard and rule.equals is not None else Class.OTHER
            reason = f"{what}, but {lacks}" if kind is Class.BROKEN else _other(what, text, own_words, lacks)
            return Judgement(kind=kind, reason=reason, code=code)
    problem = None
    if not listed:
        problem = "which is not one of those that are configured"
    elif rule.code != "none" and code is None:
        problem = "but there is no stable code in it"
    kind = Class.BROKEN if problem else Class.PROPER
    return Judgement(kind=kind, reason=f"{what}, {problem}" if problem else what, code=code)


def _lacks(text: str, rule: McpRefusal, code: str | None, *, speaks: bool) -> str | None:
    """The configured mark of the guard that an error has not; without marks it must speak of the freeze."""
    if rule.body is not None and not re.search(rule.body, text[:SEARCHED]):
        return f"its text does not match /{rule.body}/"
    if rule.equals is not None and code != rule.equals:
        return (
            f"the code is {shown(code)}, not {rule.equals!r}" if code else f"there is no code {rule.equals!r}"
        )
    if rule.body is None and rule.equals is None and not speaks:
        return "nothing in it speaks of a freeze"
    return None


def _other(what: str, text: str, own_words: Iterable[str], lacks: str = "") -> str:
    """The reason for what is no refusal, with the server's words where they are few and not the call's."""
    words = " ".join(text.split())
    few = 0 < len(words) <= 60 and _without(words, own_words) == words
    because = lacks or "another reason than the freeze"
    return f"{what}{f' {shown(words)}' if few else ''}: {because}"


def _without(text: str, words: Iterable[str]) -> str:
    """`text` less what the call itself said."""
    text = text[:SEARCHED]
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, " ")
    return text


def words_in(item: Any) -> Iterator[str]:
    """Every name and every text in the arguments of a call."""
    if isinstance(item, str):
        if len(item) > 2:
            yield item
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from words_in(key)
            yield from words_in(value)
    elif isinstance(item, list):
        for value in item:
            yield from words_in(value)


def document_in(texts: Iterable[str]) -> Any:
    """The first text that is JSON, or has a JSON object in it after some words; None where none has."""
    for text in texts:
        for start in (0, text.find("{")):
            try:
                found, _ = json.JSONDecoder().raw_decode(text[max(start, 0) :].lstrip())
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict | list):
                return found
    return None


def _is_rpc(answer: Answer) -> bool:
    """The body of an HTTP answer is a JSON-RPC error, which says more than the status."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    error = body.get("error") if isinstance(body, dict) else None
    return isinstance(error, dict) and isinstance(error.get("code"), int) and "jsonrpc" in body


def _plain(data: Any) -> str:
    try:
        return data if isinstance(data, str) else json.dumps(data)
    except (TypeError, ValueError, RecursionError):
        return ""
