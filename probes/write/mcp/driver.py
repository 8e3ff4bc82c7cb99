"""One question to one MCP server, over the official SDK: a session of its own, which leaves nothing behind.

Imported where it is used alone, for it needs the SDK (`freezewatch[mcp]`). The session runs in a task of its
own, which is only ever cancelled anyio's way: cancelled asyncio's way in its clean-up, the SDK leaves tasks,
connections and programs behind. It tells nothing that it did not hear: a reply is one that the server sent.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import TypeAdapter, ValidationError

from probes.answer import OwnFault, Unreachable
from probes.write.command.process import Invocation, NotStarted
from probes.write.mcp.pipes import over_pipes
from probes.write.mcp.reply import SEARCHED, Reply, RpcError, Said, document_in
from probes.write.mcp.wire import Course, Wire, trusted

for _loud in ("mcp", "httpx2", "httpcore2"):
    # What they would print are addresses with their queries and bodies of answers; failures reach us as data.
    logging.getLogger(_loud).setLevel(logging.CRITICAL + 1)

MODES = {"auto": "auto", "initialize": "legacy", "none": LATEST_MODERN_VERSION}
HEADER_MISMATCH = -32020
PAGES = 10
"""Pages of a server's list of tools that are read, when it wants parameters as headers."""
SLACK = 0.2
"""Seconds for the clean-up after a session whose time is over."""
MADE_UP = (
    "Connection closed",
    "SSE stream",
    "Failed to parse SSE message",
    "server answered a request with 202 Accepted",
    "Unexpected content type",
)
"""How errors begin that the SDK puts in the place of a reply that did not come."""
_TOOL: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Where a server is: at a URL, or behind a program."""

    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: str = "yes"
    program: Invocation | None = None
    handshake: str = "auto"
    agent: str = "freezewatch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A call of a tool, or a resource that is read."""

    tool: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    resource: str = ""


class NoReply(Unreachable):
    """Nothing came that could be judged. `asked` is true when the question itself was sent."""

    def __init__(self, reason: str, *, asked: bool) -> None:
        super().__init__(reason)
        self.asked = asked


async def ask(door: Door, question: Question, *, timeout: float) -> tuple[Reply, float]:
    """The reply, and after how many seconds it came. Ends within `timeout` and a little clean-up.

    Raises NoReply or OwnFault.
    """
    began = time.perf_counter()
    course = Course(deadline=began + timeout)
    await _confined(lambda: _session(door, question, course), course)
    if course.said is not None and not (isinstance(course.said, RpcError) and _made_up(course)):
        return Reply(said=course.said, http=course.http), course.replied - began
    if course.fault is not None:
        if isinstance(course.fault, OwnFault):
            raise course.fault
        raise NoReply(course.fault.reason, asked=course.asked)
    raise NoReply(_why(course, timeout), asked=course.asked)


def _made_up(course: Course) -> bool:
    said = course.said
    return isinstance(said, RpcError) and course.http is None and said.message.startswith(MADE_UP)


def _why(course: Course, timeout: float) -> str:
    """Why there is no reply."""
    if isinstance(course.said, RpcError):
        return f"no reply: {course.said.message[:100]}"
    if course.error is None:
        return f"no reply within {timeout:g} s {course.stage}"
    if isinstance(course.error, NotStarted):
        return course.error.reason
    if isinstance(course.error, ValidationError):
        return "the reply is no MCP"
    return f"no reply {course.stage}: {type(course.error).__name__}"


# -- a task of its own ----------------------------------------------------------------------------


async def _confined(work: Callable[[], Awaitable[None]], course: Course) -> None:
    """Run `work` until it is done or its time is over, whatever becomes of whoever waits for it."""
    scope = anyio.CancelScope()

    async def inside() -> None:
        with scope:
            try:
                await work()
            except Exception as error:  # the driver's boundary: any of its failures is a missing reply
                course.error = first = _first(error)
                if isinstance(first, MCPError) and course.said is None:
                    course.hear(_error(first))

    task = asyncio.create_task(inside())
    try:
        await asyncio.wait({task}, timeout=course.left)
    finally:
        if not task.done():
            scope.cancel()
            await asyncio.wait({task}, timeout=SLACK)
    if isinstance(course.error, OwnFault):
        raise course.error


def _first(error: BaseException) -> Exception:
    """The first failure in groups of failures."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)


# -- the session ----------------------------------------------------------------------------------


async def _session(door: Door, question: Question, course: Course) -> None:
    """Connect, agree on a protocol, ask, and take leave."""
    name, _, version = door.agent.partition("/")
    async with contextlib.AsyncExitStack() as stack:
        client = Client(
            await _transport(door, course, stack),
            mode=MODES[door.handshake],
            cache=None,
            client_info=types.Implementation(name=name, version=version.split()[0] if version else "0"),
        )
        course.stage = "in the handshake"
        async with client:
            course.stage, course.asked = "to the call", True
            course.http = None
            course.hear(await _asked(client, question))


async def _asked(client: Client, question: Question) -> Said | RpcError:
    try:
        if question.tool is None:
            return _contents(await client.session.read_resource(question.resource))
        return _result(await _called(client, question.tool, question.arguments))
    except MCPError as error:
        return _error(error)


def _error(error: MCPError) -> RpcError:
    return RpcError(code=error.code, message=error.message, data=error.data)


async def _called(
    client: Client, tool: str, arguments: Mapping[str, Any]
) -> types.CallToolResult | types.InputRequiredResult:
    """One call. The SDK's own `call_tool` lists all tools after it, and fails where a schema is wrong."""
    params = types.CallToolRequestParams(name=tool, arguments=dict(arguments))
    request = types.CallToolRequest(params=params)
    try:
        return await client.session.send_request(request, _TOOL)
    except MCPError as error:
        if error.code != HEADER_MISMATCH:
            raise
    # The server wants some arguments as headers as well, and did nothing: the list of tools says which.
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        cursor = page.next_cursor
        if cursor is None or any(each.name == tool for each in page.tools):
            break
    return await client.session.send_request(request, _TOOL)


def _result(result: types.CallToolResult | types.InputRequiredResult) -> Said:
    if isinstance(result, types.InputRequiredResult):
        return Said(text="the tool asks for more input", is_error=True)
    texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
    document = result.structured_content
    return Said(
        text=_joined(texts, document),
        document=document_in(texts) if document is None else document,
        is_error=result.is_error,
    )


def _contents(result: types.ReadResourceResult) -> Said:
    texts = [each.text for each in result.contents if isinstance(each, types.TextResourceContents)]
    return Said(text=_joined(texts, None), document=document_in(texts))


def _joined(texts: list[str], document: Any) -> str:
    """All that was said, structured content included, as far as it is searched."""
    parts = texts if document is None else [*texts, json.dumps(document)]
    return "\n".join(parts)[:SEARCHED]


async def _transport(
    door: Door, course: Course, stack: contextlib.AsyncExitStack
) -> AbstractAsyncContextManager[Any]:
    """What carries the messages, as the SDK takes it."""
    if door.program is not None:
        return over_pipes(door.program, course)
    http = await stack.enter_async_context(
        httpx2.AsyncClient(
            transport=Wire(httpx2.AsyncHTTPTransport(verify=trusted(door.verify), trust_env=False), course),
            headers={
                "User-Agent": door.agent,
                "Accept-Encoding": "identity",
                "X-Freezewatch": "canary",
                **door.headers,
            },
            timeout=None,
            trust_env=False,
        )
    )
    return streamable_http_client(door.url or "", http_client=http)
