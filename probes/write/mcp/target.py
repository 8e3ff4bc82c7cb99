"""A write by a tool of an MCP server: how it is configured, and the target that calls it.

Every attempt, read-back and undo has a session of its own, over streamable HTTP or with a program that speaks
MCP on its standard input and output. What a reply means stands in `mcp_reply`, how it is got in `mcp_driver`.
"""

import re
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.answer import ExchangeError, OwnFault
from probes.jsonpath import JsonPath, find_all
from probes.refusal import Pattern, says_failed
from probes.request import Headers, Url, bare, filled
from probes.tools import Tools
from probes.write.canary import Canary
from probes.write.command.process import Argument, Argv, Invocation, Variables
from probes.write.mcp.reply import Codes, McpRefusal, Reply, RpcError, judged, words_in
from probes.write.target import Reason, Tried, Within, WithReadBack

NO_READ_BACK = "no read_back is configured"
NO_DRIVER = "the driver is not installed: pip install 'freezewatch[mcp]'"
NOT_FOUND = (-32002, -32602)
"""With these a server says that there is no such resource: by MCP until 2025-11-25, and since."""
ToolName = Annotated[str, Field(min_length=1, max_length=256)]
Arguments = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Model):
    """Where the tool is, and how it is called."""

    url: Url | None = None
    headers: Headers = Field(default={}, repr=False)
    verify: bool | str = True
    """False to accept any certificate; a path to trust that file's authorities."""
    command: Argv | None = Field(default=None, repr=False)
    """The program that is the server, and its arguments."""
    env: Variables = Field(default={}, repr=False)
    cwd: Argument | None = None
    handshake: Literal["auto", "initialize", "none"] = "auto"
    """`auto` asks what the server speaks. `initialize` is for MCP before 2026-07-28, `none` for MCP since."""
    tool: ToolName
    arguments: Arguments = Field(default={}, repr=False)

    @model_validator(mode="after")
    def _one_way(self) -> "Server":
        if (self.url is None) == (self.command is None):
            raise ValueError("give url, or command: one of the two")
        given = self.model_fields_set
        wrong = given & ({"env", "cwd"} if self.command is None else {"headers", "verify"})
        if wrong:
            way = "a url" if self.command is None else "a command"
            raise ValueError(f"{' and '.join(sorted(wrong))} cannot go with {way}")
        return self

    @property
    def verify_as(self) -> str:
        """`yes`, `no`, or a path to a certificate file."""
        if isinstance(self.verify, bool):
            return "yes" if self.verify else "no"
        return self.verify


class Absent(_Model):
    """What a read-back answers when the canary is not there."""

    at: JsonPath | None = None
    """Absent when nothing stands there, or an empty list, object, text, null or false."""
    text: Pattern | None = None
    """Absent when the text of the result matches."""
    error: Pattern | None = None
    """Absent when the text of an error matches."""
    json_rpc: Codes | None = None
    """JSON-RPC errors that say so; for a resource -32002 and -32602 unless others are named."""
    failed: JsonPath | None = None
    """Where a result without `isError` says that it failed: it shows nothing then."""

    @property
    def told(self) -> bool:
        """Something tells absence."""
        return any(each is not None for each in (self.at, self.text, self.error, self.json_rpc))


class _Call(_Model):
    tool: ToolName | None = None
    arguments: Arguments = Field(default={}, repr=False)
    waived: Reason | None = None


class ReadBack(_Call):
    """The tool or the resource that shows the canary, or why there is none."""

    resource: Annotated[str, Field(min_length=1)] | None = None
    absent: Absent = Absent()
    within: Within = 0.0

    @model_validator(mode="after")
    def _one(self) -> "ReadBack":
        if sum(each is not None for each in (self.tool, self.resource, self.waived)) != 1:
            raise ValueError("give tool, resource, or waived with a reason: one of the three")
        if self.tool is not None and not self.absent.told:
            raise ValueError("say by absent what the tool answers when the canary is not there")
        if self.tool is None and self.arguments:
            raise ValueError("arguments go with a tool")
        return self


class Undo(_Call):
    """The tool that takes the canary away, or why it need not be."""

    gone: Pattern | None = None
    """The text of an error that says that there was nothing to take away."""
    failed: JsonPath | None = None
    """Where a result without `isError` says that it failed nevertheless."""

    @model_validator(mode="after")
    def _one(self) -> "Undo":
        if (self.tool is None) == (self.waived is None):
            raise ValueError("give tool, or waived with a reason: one of the two")
        return self


class McpWrite(WithReadBack):
    """One write surface of an MCP server."""

    mcp: Server
    refusal: McpRefusal = McpRefusal()
    read_back: ReadBack | None = None
    undo: Undo | None = None

    @property
    def own_doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        found = []
        if not self.refusal.has_marker:
            found.append("a refusal is known by its words alone; name equals, body or json_rpc in refusal")
        return found


class McpTarget:
    """One tool to write with."""

    one_code = True

    def __init__(self, spec: McpWrite, timeout: float, tools: Tools) -> None:
        self._spec = spec
        self._timeout = timeout
        self._agent = tools.agent
        self._closes = tools.closes
        self._words = (spec.mcp.tool, *words_in(spec.mcp.arguments))
        self.within = spec.read_back.within if spec.read_back else 0.0
        self.unread = None if spec.read_back is not None else NO_READ_BACK
        self.believed = spec.read_back is not None and spec.read_back.waived is not None
        self.undoable = spec.undo is not None
        _load()  # it takes a second, which no attempt should pay for

    @property
    def tries(self) -> str:
        """The tool, and where it is."""
        where = bare(self._spec.mcp.url) if self._spec.mcp.url else "a program"
        return f"tools/call {self._spec.mcp.tool} of {where}"

    async def attempt(self, canary: Canary) -> Tried:
        """Call the tool once."""
        began = time.perf_counter()
        asked = (self._spec.mcp.tool, self._spec.mcp.arguments, "")
        try:
            reply, spent = await self._ask(canary, *asked)
        except OwnFault:
            raise
        except ExchangeError as error:
            return Tried(
                judgement=None,
                unanswered=error.reason,
                duration_s=time.perf_counter() - began,
                may_land=getattr(error, "asked", True),
            )
        own_words = (*self._words, *canary.values.values())
        judgement = judged(reply, self._spec.refusal, own_words, closes=self._closes)
        return Tried(
            judgement=judgement,
            duration_s=spent,
            figures={} if reply.http is None else {"status": reply.http.status},
        )

    async def look(self, canary: Canary) -> bool | str:
        """Does the read-back show the canary?"""
        rule = self._spec.read_back
        if rule is None or rule.waived is not None:
            return NO_READ_BACK
        try:
            reply, _ = await self._ask(canary, rule.tool, rule.arguments, rule.resource or "")
        except ExchangeError as error:
            return f"the read-back failed: {error.reason}"
        return seen(reply, rule, canary)

    async def undo(self, canary: Canary) -> str | None:
        """None when the canary is gone, or need not be taken away; otherwise why it is not."""
        rule = self._spec.undo
        if rule is None or rule.tool is None:
            return None
        try:
            reply, _ = await self._ask(canary, rule.tool, rule.arguments, "")
        except ExchangeError as error:
            return error.reason
        return not_undone(reply, rule)

    async def aclose(self) -> None:
        """Nothing is held between attempts."""

    async def _ask(
        self, canary: Canary, tool: str | None, arguments: Arguments, resource: str
    ) -> tuple[Reply, float]:
        """One session. Raises NoReply or OwnFault."""
        if not _load():
            raise OwnFault(NO_DRIVER)
        from probes.write.mcp.driver import Door, Question, ask

        server, values = self._spec.mcp, canary.values
        program = None
        if server.command is not None:
            program = Invocation(argv=tuple(server.command), env=server.env, cwd=server.cwd)
        door = Door(
            url=server.url,
            headers=server.headers,
            verify=server.verify_as,
            program=program,
            handshake=server.handshake,
            agent=self._agent,
        )
        question = Question(
            tool=tool, arguments=filled(arguments, values), resource=str(filled(resource, values))
        )
        return await ask(door, question, timeout=self._timeout)


def _load() -> bool:
    """Import the driver; False where it is not installed."""
    try:
        import probes.write.mcp.driver  # noqa: F401
    except ImportError as error:
        if (error.name or "").startswith("probes"):
            raise
        return False
    return True


def mcp_target(spec: McpWrite, timeout: float, tools: Tools) -> McpTarget:
    """The target of an `mcp` surface."""
    return McpTarget(spec, timeout, tools)


def seen(reply: Reply, rule: ReadBack, canary: Canary) -> bool | str:
    """Does a read-back show the canary? A text when its reply tells neither. Pure."""
    absent, said = rule.absent, reply.said
    if isinstance(said, RpcError) or said.is_error:
        code = said.code if isinstance(said, RpcError) else None
        codes = absent.json_rpc or (NOT_FOUND if rule.resource is not None else ())
        says = code in codes or (absent.error is not None and re.search(absent.error, said.text))
        return False if says and reply.of_the_server else _failed("the read-back", reply)
    if says_failed(absent.failed, said.document):
        return "the read-back says that it failed"
    if absent.text is not None and re.search(absent.text, said.text):
        return False
    if absent.at is None:
        return True
    if said.document is None:
        return "the read-back is no JSON"
    path = str(filled(absent.at, canary.values))
    return any(item not in (None, "", [], {}, False) for item in find_all(path, said.document))


def not_undone(reply: Reply, rule: Undo) -> str | None:
    """Why an undo was none; None when the canary is gone. Pure."""
    said = reply.said
    if isinstance(said, RpcError) or said.is_error:
        gone = rule.gone is not None and reply.of_the_server and re.search(rule.gone, said.text)
        return None if gone else _failed("the undo", reply)
    return "the undo says that it failed" if says_failed(rule.failed, said.document) else None


def _failed(what: str, reply: Reply) -> str:
    if reply.http is not None and not reply.of_the_server:
        return f"{what} answered {reply.http.status}"
    if isinstance(reply.said, RpcError):
        return f"{what} answered with JSON-RPC error {reply.said.code}"
    return f"{what} answered with an error"
