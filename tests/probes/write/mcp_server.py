"""A real MCP server with tickets in an SQLite file; how it treats a new one is a row in that file.

python mcp_server.py stdio tickets.sqlite
python mcp_server.py http tickets.sqlite 8080 [json] [stateless]
"""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE ticket (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, number INTEGER, note TEXT);
CREATE TABLE rule (name TEXT);
CREATE TABLE call (what TEXT);
INSERT INTO rule VALUES ('open');
"""
FROZEN = {"code": "writes_frozen", "message": "Writes are frozen until 23:00"}


class Tickets:
    """The file, from either side of the server."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def create(self) -> None:
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(SCHEMA)

    def _do(self, statement: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(self.path, timeout=10)) as db, db:
            return db.execute(statement, values).fetchall()

    @property
    def rule(self) -> str:
        return str(self._do("SELECT name FROM rule")[0][0])

    @rule.setter
    def rule(self, name: str) -> None:
        self._do("UPDATE rule SET name = ?", name)

    def add(self, title: str, number: int) -> None:
        self._do("INSERT INTO ticket (title, number) VALUES (?, ?)", title, number)

    def find(self, title: str) -> list[dict[str, Any]]:
        found = self._do("SELECT id, title, number FROM ticket WHERE title = ?", title)
        return [{"id": one[0], "title": one[1], "number": one[2]} for one in found]

    def remove(self, title: str) -> int:
        found = self.find(title)
        self._do("DELETE FROM ticket WHERE title = ?", title)
        return len(found)

    def note(self, what: str) -> None:
        self._do("INSERT INTO call VALUES (?)", what)

    @property
    def calls(self) -> list[str]:
        return [str(one[0]) for one in self._do("SELECT what FROM call")]

    @property
    def titles(self) -> list[str]:
        return [str(one[0]) for one in self._do("SELECT title FROM ticket ORDER BY id")]

    def clear(self, rule: str = "open") -> None:
        for statement in ("DELETE FROM ticket", "DELETE FROM call"):
            self._do(statement)
        self.rule = rule

    def dump(self) -> str:
        with closing(sqlite3.connect(self.path)) as db:
            return "\n".join(line for line in db.iterdump() if '"call"' not in line)


def serve(arguments: list[str]) -> None:
    from mcp.server.mcpserver import MCPServer

    way, path, *rest = arguments
    tickets = Tickets(path)
    server = MCPServer("tickets", log_level="CRITICAL")
    _tools(server, tickets)
    if way == "stdio":
        server.run("stdio")
        return
    import uvicorn

    app = server.streamable_http_app(json_response="json" in rest, stateless_http="stateless" in rest)
    uvicorn.run(_gateway(app, tickets), host="127.0.0.1", port=int(rest[0]), log_level="critical")


def _result(text: str, structured: dict[str, Any] | None = None, *, error: bool = True) -> Any:
    from mcp_types import CallToolResult, TextContent

    content = [TextContent(type="text", text=text)]
    return CallToolResult(content=content, structured_content=structured, is_error=error)


def _raise(error: Exception) -> Any:
    raise error


def _answers(tickets: Tickets) -> dict[str, Callable[[], Any]]:
    """What a new ticket is answered with, by the rule."""
    from mcp import MCPError
    from mcp.server.mcpserver.exceptions import ToolError

    frozen = "Writes are frozen"
    coded = {"code": "writes_frozen"}
    invalid = "Invalid params: the store is read-only"
    return {
        "refuse": lambda: _result(frozen, FROZEN),
        "leak behind": lambda: _result(frozen, FROZEN),
        "refuse in text": lambda: _result(json.dumps({"error": FROZEN})),
        "refuse by exception": lambda: _raise(ToolError(json.dumps(FROZEN))),
        "refuse in words": lambda: _result("The ticket system is read-only just now"),
        "refuse by JSON-RPC": lambda: _raise(MCPError(-32050, frozen, coded)),
        "refuse by number": lambda: _raise(MCPError(-32050, frozen)),
        "refuse by internal error": lambda: _raise(MCPError(-32603, "The database is read-only")),
        "refuse by invalid params": lambda: _raise(MCPError(-32602, invalid, coded)),
        "refuse unsteadily": lambda: _result(frozen, FROZEN | {"code": f"frozen_{len(tickets.calls)}"}),
        "refuse softly": lambda: _result("no", {"ok": False, "error": FROZEN}, error=False),
        "denied": lambda: _result("You may not", {"code": "forbidden", "message": "You may not do that"}),
        "crash": lambda: _raise(RuntimeError("division by zero in the maintenance job")),
        "die": lambda: os._exit(3),
        "die after": lambda: os._exit(3),
        "endless": lambda: _result("x" * 3_000_000, error=False),
    }


def _tools(server: Any, tickets: Tickets) -> None:
    from mcp.server.mcpserver.exceptions import ResourceNotFoundError
    from mcp_types import CallToolResult

    answers = _answers(tickets)

    @server.tool()
    async def create_ticket(title: str, number: int = 0, read_only: bool = False) -> CallToolResult:
        """Open a ticket."""
        rule = tickets.rule
        tickets.note(f"create {title}")
        if rule in ("open", "leak behind", "die after", "answer lost"):
            tickets.add(title, number)
        if rule == "late":
            asyncio.get_running_loop().call_later(0.8, tickets.add, title, number)
        if rule in ("hang", "answer lost", "late"):
            await asyncio.sleep(3600)
        said = answers.get(rule, lambda: _result("done", {"ok": True, "title": title}, error=False))
        return said()

    @server.tool()
    async def find_tickets(title: str) -> CallToolResult:
        """Find tickets by title."""
        tickets.note(f"find {title}")
        found = tickets.find(title)
        return _result(json.dumps(found) if found else "No ticket found", {"tickets": found}, error=False)

    @server.tool()
    async def delete_ticket(title: str) -> CallToolResult:
        """Remove tickets by title."""
        tickets.note(f"delete {title}")
        if tickets.rule in ("refuse", "leak behind"):
            return _result("Writes are frozen", FROZEN)
        removed = tickets.remove(title)
        if not removed:
            return _result("There is no such ticket", {"code": "not_found"})
        return _result("removed", {"removed": removed}, error=False)

    @server.resource("ticket://{title}")
    async def ticket(title: str) -> str:
        """One ticket."""
        tickets.note(f"read {title}")
        found = tickets.find(title)
        if not found:
            raise ResourceNotFoundError("there is no such ticket")
        return json.dumps(found[0])


def _gateway(app: Any, tickets: Tickets) -> Any:
    """What stands before the server: it may answer by itself."""
    refused = json.dumps({"code": "gateway_frozen", "message": "Writes are frozen"}).encode()
    page = b"<!doctype html><h1>Service Unavailable</h1>"
    answers: dict[str, tuple[int, bytes, list[tuple[bytes, bytes]]]] = {
        "gateway 503": (503, refused, [(b"retry-after", b"120"), (b"content-type", b"application/json")]),
        "gateway 423": (423, refused, [(b"retry-after", b"120"), (b"content-type", b"application/json")]),
        "gateway without Retry-After": (503, refused, [(b"content-type", b"application/json")]),
        "gateway down": (503, page, [(b"content-type", b"text/html")]),
        "gateway 401": (401, b"{}", [(b"content-type", b"application/json")]),
        "gateway 403": (403, refused, [(b"content-type", b"application/json")]),
        "gateway moved": (302, b"", [(b"location", b"http://127.0.0.1:1/elsewhere?token=s3cret")]),
        "gateway page": (200, page, [(b"content-type", b"text/html")]),
        "gateway 202": (202, b"", []),
    }

    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        said = None
        if scope["type"] == "http":
            agent = dict(scope["headers"]).get(b"user-agent", b"").decode()
            tickets.note(f"{scope['method']} by {agent}")
            rule = tickets.rule
            if scope["method"] == "POST":
                said = answers.get(rule)
                if rule.startswith("calls only: "):
                    body = (await _body(receive)).decode()
                    said = answers[rule.removeprefix("calls only: ")] if '"create_ticket"' in body else None
                    receive = _again(body.encode(), receive)
        if said is None:
            await app(scope, receive, send)
            return
        status, body_bytes, headers = said
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body_bytes})

    return gateway


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Any) -> Any:
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return first.pop() if first else await receive()

    return again


if __name__ == "__main__":
    serve(sys.argv[1:])
