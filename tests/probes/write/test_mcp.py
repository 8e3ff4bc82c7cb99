"""Writes by a tool of an MCP server: one over HTTP, one as a program, each with tickets in a file."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Outcome, Run, Why
from probes.clockwork import ProbeLoop
from probes.http import Transport
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.mcp.target import McpTarget, McpWrite, mcp_target
from tests.servers.process import Server

from ..harness import AGENT, OPENS, frozen, opened
from .leftovers import Held, gone, settled
from .mcp_server import Tickets

pytestmark = pytest.mark.xdist_group("mcp")
SCRIPT = Path(__file__).with_name("mcp_server.py")
ROOT = SCRIPT.parents[3]
TICKET = {"title": "${canary}", "number": "${canary_int}"}
TITLE = {"title": "${canary}"}
READ_BACK = {"tool": "find_tickets", "arguments": TITLE, "absent": {"at": "$.tickets"}}
UNDO = {"tool": "delete_ticket", "arguments": TITLE, "gone": "no such ticket"}
EQUALS = {"equals": "writes_frozen"}


class HttpServer(Server):
    """The tickets' server over streamable HTTP."""

    @property
    def tickets(self) -> Tickets:
        return Tickets(self.folder / "tickets.sqlite")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def prepare(self) -> None:
        self.tickets.create()

    def command(self) -> list[str]:
        return [sys.executable, str(SCRIPT), "http", str(self.tickets.path), str(self.port), "json"]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


@pytest.fixture(scope="module")
def running() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


@pytest.fixture
def server(running: HttpServer) -> HttpServer:
    running.tickets.clear()
    return running


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    made = Tickets(tmp_path / "tickets.sqlite")
    made.create()
    return made


def target(timeout: float = 2.0, **spec: Any) -> McpTarget:
    parts = {"read_back": READ_BACK, "undo": UNDO} | spec
    stated = {name: value for name, value in parts.items() if value is not None}
    tools = Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=Transport())
    return mcp_target(McpWrite.model_validate(stated), timeout, tools)


def over_http(
    server: HttpServer, timeout: float = 2.0, *, mcp: dict[str, Any] | None = None, **spec: Any
) -> McpTarget:
    there = {"url": server.url, "handshake": "none", "tool": "create_ticket", "arguments": TICKET}
    return target(timeout, mcp=there | (mcp or {}), **spec)


def by_program(tickets: Tickets, timeout: float = 10.0, **spec: Any) -> McpTarget:
    program = [sys.executable, str(SCRIPT), "stdio", str(tickets.path)]
    return target(timeout, mcp={"command": program, "tool": "create_ticket", "arguments": TICKET}, **spec)


def by(command: list[str], timeout: float = 0.5, **mcp: Any) -> McpTarget:
    return target(timeout, mcp={"command": command, "tool": "create_ticket"} | mcp)


def probe(target: McpTarget, name: str = "tickets") -> WriteAttempts:
    return WriteAttempts(name=name, surface=name, window="w", target=target, timeout=target._timeout)


# -- outcomes -------------------------------------------------------------------------------------

OUTCOMES = {
    "open": Outcome.LEAKED,
    "refuse": Outcome.REFUSED,
    "refuse in text": Outcome.REFUSED,
    "refuse by exception": Outcome.REFUSED,
    "refuse by JSON-RPC": Outcome.REFUSED,
    "refuse in words": Outcome.REFUSED_BADLY,
    "refuse by number": Outcome.REFUSED,
    "refuse by internal error": Outcome.REFUSED_BADLY,
    "refuse by invalid params": Outcome.UNREACHABLE,
    "denied": Outcome.UNREACHABLE,
    "crash": Outcome.UNREACHABLE,
    "leak behind": Outcome.LEAKED_BEHIND_REFUSAL,
    "drop": Outcome.DROPPED,
    "refuse softly": Outcome.DROPPED,
    "hang": Outcome.UNREACHABLE,
    "answer lost": Outcome.LEAKED,
    "endless": Outcome.UNREACHABLE,
    "calls only: gateway 503": Outcome.REFUSED,
    "calls only: gateway 423": Outcome.REFUSED,
    "calls only: gateway without Retry-After": Outcome.REFUSED_BADLY,
    "calls only: gateway 403": Outcome.REFUSED_BADLY,
    "calls only: gateway 401": Outcome.UNREACHABLE,
    "calls only: gateway down": Outcome.UNREACHABLE,
    "calls only: gateway moved": Outcome.UNREACHABLE,
    "calls only: gateway page": Outcome.UNREACHABLE,
    "calls only: gateway 202": Outcome.UNREACHABLE,
    "gateway 503": Outcome.UNREACHABLE,
}
HANDSHAKEN = ["open", "refuse", "refuse by JSON-RPC", "calls only: gateway 503", "gateway 503", "hang"]
"""The rules that are tried with every handshake."""


@pytest.mark.parametrize(
    ("handshake", "rule"),
    [
        *(("none", rule) for rule in OUTCOMES),
        *((way, rule) for way in ("initialize", "auto") for rule in HANDSHAKEN),
    ],
)
async def test_each_answer_of_a_server_over_http_has_its_outcome(
    server: HttpServer, handshake: str, rule: str
) -> None:
    server.tickets.rule = rule
    attempts = probe(over_http(server, 1.0, mcp={"handshake": handshake}))

    result = await attempts.run(frozen())

    assert result.outcome is OUTCOMES[rule], result.reason


@pytest.mark.parametrize(
    "rule", ["open", "refuse", "refuse by JSON-RPC", "refuse in words", "denied", "leak behind", "drop"]
)
async def test_each_answer_of_a_server_program_has_its_outcome(tickets: Tickets, rule: str) -> None:
    tickets.rule = rule

    result = await probe(by_program(tickets)).run(frozen())

    assert result.outcome is OUTCOMES[rule], result.reason


async def test_attempt_while_writes_are_open_is_accepted_read_back_and_undone(server: HttpServer) -> None:
    server.tickets.add("somebody's", 7)

    result = await probe(over_http(server)).run(opened())

    assert (result.outcome, result.figures["trace"]) == (Outcome.ACCEPTED, "none: undone")
    assert server.tickets.titles == ["somebody's"]


async def test_number_of_the_canary_arrives_as_a_number(server: HttpServer) -> None:
    attempts = probe(over_http(server, undo={"waived": "the store is a test's"}))

    await attempts.run(frozen())

    [title] = server.tickets.titles
    assert server.tickets.find(title)[0]["number"] == canary("w", "tickets", OPENS).number


async def test_leak_is_undone_and_the_surface_left_alone(server: HttpServer) -> None:
    attempts = probe(over_http(server))

    first = await attempts.run(frozen())
    before = server.tickets.calls
    second = await attempts.run(frozen(OPENS + 5))

    assert (first.outcome, first.figures["undone"]) == (Outcome.LEAKED, True)
    assert (second.outcome, second.figures["why"]) == (Outcome.SKIPPED, Why.STOPPED)
    assert (server.tickets.titles, server.tickets.calls) == ([], before)


async def test_undo_that_the_guard_refuses_is_owed_until_writes_are_open(server: HttpServer) -> None:
    attempts = probe(over_http(server))
    server.tickets.rule = "leak behind"

    leaked = await attempts.run(frozen())
    server.tickets.rule = "open"
    after = await attempts.run(opened(OPENS + 5))

    assert (leaked.figures["owed"], after.figures["owed"]) == (1, 0)
    assert server.tickets.titles == []


async def test_write_without_an_answer_that_lands_late_is_a_leak(server: HttpServer) -> None:
    attempts = probe(over_http(server, 0.5))
    server.tickets.rule = "late"

    first = await attempts.run(frozen())
    server.tickets.rule = "refuse"
    for number in range(1, 30):
        later = await attempts.run(frozen(OPENS + number))
        if later.outcome is not Outcome.REFUSED:
            break
        await asyncio.sleep(0.1)

    assert (first.outcome, first.figures["expected"]) == (Outcome.UNREACHABLE, 1)
    assert (later.outcome, later.figures["canary"]) == (Outcome.LEAKED, first.figures["canary"])


async def test_code_that_changes_is_no_stable_code(server: HttpServer) -> None:
    attempts = probe(over_http(server))
    server.tickets.rule = "refuse unsteadily"

    first = await attempts.run(frozen())
    second = await attempts.run(frozen(OPENS + 5))

    assert first.outcome is Outcome.REFUSED
    assert (second.outcome, "not stable" in second.reason) == (Outcome.REFUSED_BADLY, True)


async def test_result_that_says_by_failed_that_it_failed_is_a_refusal(server: HttpServer) -> None:
    server.tickets.rule = "refuse softly"

    result = await probe(over_http(server, refusal=EQUALS | {"failed": "$.error"})).run(frozen())

    assert (result.outcome, result.figures["code"]) == (Outcome.REFUSED, "writes_frozen")


async def test_refusal_without_a_read_back_is_not_believed(server: HttpServer) -> None:
    server.tickets.rule = "refuse"

    unread = await probe(over_http(server, read_back=None)).run(frozen())
    waived = await probe(over_http(server, read_back={"waived": "nothing can be read there"})).run(frozen())

    assert (unread.outcome, waived.outcome) == (Outcome.UNREACHABLE, Outcome.REFUSED)


@pytest.mark.parametrize("rule", ["leak behind", "refuse"])
@pytest.mark.parametrize("handshake", ["none", "initialize"])
async def test_resource_can_be_the_read_back(server: HttpServer, rule: str, handshake: str) -> None:
    server.tickets.rule = rule
    read_back = {"resource": "ticket://${canary}"}
    attempts = probe(over_http(server, mcp={"handshake": handshake}, read_back=read_back))

    result = await attempts.run(frozen())

    assert result.outcome is OUTCOMES[rule], result.reason
    assert any(call.startswith("read freezewatch-") for call in server.tickets.calls)


@pytest.mark.parametrize(
    ("absent", "outcome"),
    [
        ({"text": "No ticket"}, Outcome.REFUSED),
        ({"at": "$.tickets[?@.title == '${canary}']"}, Outcome.REFUSED),
        ({"error": "nothing"}, Outcome.LEAKED_BEHIND_REFUSAL),
        ({"at": "$.tickets", "failed": "$.tickets"}, Outcome.REFUSED),
    ],
)
async def test_absence_is_what_the_file_says_it_is(
    server: HttpServer, absent: dict[str, str], outcome: Outcome
) -> None:
    server.tickets.rule = "refuse"

    result = await probe(over_http(server, read_back=READ_BACK | {"absent": absent})).run(frozen())

    assert result.outcome is outcome, result.reason


async def test_read_back_that_fails_shows_nothing(server: HttpServer) -> None:
    server.tickets.rule = "refuse"
    wrong = [{"tool": "no_such_tool"}, {"arguments": {}}]

    for each in wrong:
        result = await probe(over_http(server, read_back=READ_BACK | each)).run(frozen())

        assert (result.outcome, "not verified" in result.reason) == (Outcome.UNREACHABLE, True)


@pytest.mark.parametrize(
    "mcp",
    [
        {"tool": "set_read_only_maintenance"},
        {"arguments": {"title": "${canary}", "number": "maintenance"}},
        {"arguments": {"title": "${canary}", "read_only": "frozen"}},
        {"arguments": {}},
    ],
    ids=["tool", "type", "name", "missing"],
)
async def test_wrong_call_is_no_refusal_whatever_it_is_called(
    server: HttpServer, mcp: dict[str, Any]
) -> None:
    result = await probe(over_http(server, mcp=mcp)).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE, result.reason


# -- a server that hangs, dies or is not there ----------------------------------------------------


async def test_server_that_hangs_is_unreachable_in_time() -> None:
    with HttpServer() as hung:
        attempts = probe(over_http(hung, 0.5, mcp={"handshake": "auto"}))
        hung.pause()
        began = time.perf_counter()

        tried = await attempts.target.attempt(canary("w", "tickets", OPENS))
        spent = time.perf_counter() - began
        hung.resume()

    assert tried.judgement is None
    assert tried.unanswered == "no reply within 0.5 s in the handshake"
    assert 0.45 < spent < 0.8


async def test_server_that_is_not_there_is_unreachable() -> None:
    with HttpServer() as gone:
        attempts = probe(over_http(gone))
        gone.kill()

        result = await attempts.run(frozen())

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, "connection refused")
    assert result.figures["expected"] == 0


@pytest.mark.parametrize(
    ("rule", "outcome"), [("die", Outcome.UNREACHABLE), ("die after", Outcome.UNREACHABLE)]
)
async def test_server_that_dies_over_the_call_is_unreachable_and_may_have_written(
    rule: str, outcome: Outcome
) -> None:
    with HttpServer() as mortal:
        mortal.tickets.rule = rule

        result = await probe(over_http(mortal)).run(frozen())

    assert (result.outcome, result.figures["expected"]) == (outcome, 1)


async def test_leak_of_a_server_that_died_over_the_call_is_found_once_it_is_back() -> None:
    with HttpServer() as mortal:
        mortal.tickets.rule = "die after"
        attempts = probe(over_http(mortal))
        first = await attempts.run(frozen())
        mortal.tickets.rule = "refuse"
        mortal.restart(crash=True)

        second = await attempts.run(frozen(OPENS + 5))

    assert (second.outcome, second.figures["canary"]) == (Outcome.LEAKED, first.figures["canary"])


@pytest.mark.parametrize(
    ("command", "reason", "expected"),
    [
        (["/no/such/server"], "the program cannot be used: No such file or directory", 0),
        (["/etc/passwd"], "the program cannot be used: Permission denied", 0),
        (["false"], "the server program ended with 1", 0),
        (["sh", "-c", "kill -9 $$"], "the server program ended by signal 9", 0),
        (["sh", "-c", "exec >&-; sleep 60"], "the server program closed its output", 0),
        (["sleep", "60"], "no reply within 0.5 s in the handshake", 0),
        (
            ["sh", "-c", "while :; do echo '{\"jsonrpc\": 7}'; sleep 0.01; done"],
            "no reply within 0.5 s in the handshake",
            0,
        ),
    ],
    ids=["missing", "no program", "fails", "killed", "silent", "hangs", "talks nonsense"],
)
async def test_program_that_is_no_server_is_unreachable(
    command: list[str], reason: str, expected: int
) -> None:
    held = Held.now()

    result = await probe(by(command)).run(frozen())

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, reason)
    assert result.figures["expected"] == expected
    await settled()
    await held.assert_no_more_now()


async def test_program_that_prints_without_end_does_not_hold_up_the_loop() -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    for line in ("y", "{", '{"jsonrpc": "2.0", "id": 99, "result": {}}', "x" * 100_000):
        await by(["yes", line]).attempt(canary("w", "tickets", OPENS))
    watching.cancel()

    assert longest < 1.0


async def test_program_that_prints_without_end_is_ended() -> None:
    result = await probe(by(["yes"], 20)).run(frozen())

    said = "the server program printed without end, and was ended"
    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, said)


async def test_program_that_repeats_what_it_is_told_is_no_server() -> None:
    result = await probe(by(["cat"])).run(frozen())

    assert result.outcome is Outcome.UNREACHABLE


async def test_server_program_gets_no_secret_of_the_watchdog(
    tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_PASSWORD", "s3cret")
    seen = tmp_path / "seen"

    await probe(by(["sh", "-c", f"env > {seen}"], env={"MINE": "yes"})).run(frozen())

    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_", "HOME", "LANG"} == {"PATH", "MINE"}


# -- nothing stays --------------------------------------------------------------------------------


async def test_fifty_timeouts_of_a_server_program_leave_nothing() -> None:
    attempts = by(["sh", "-c", "trap '' TERM; sleep 4711 & sleep 4711; wait"], 0.05)
    held = Held.now()

    for number in range(50):
        await attempts.attempt(canary("w", "tickets", number))

    await settled()
    await held.assert_no_more_now()
    assert await gone("sleep 4711")


@pytest.mark.parametrize("handshake", ["none", "auto", "initialize"])
async def test_fifty_timeouts_of_a_server_over_http_leave_nothing(server: HttpServer, handshake: str) -> None:
    server.tickets.rule = "hang"
    attempts = over_http(server, 0.1, mcp={"handshake": handshake})
    await attempts.attempt(canary("w", "tickets", OPENS))
    held = Held.now()

    for number in range(50):
        tried = await attempts.attempt(canary("w", "tickets", number))
        assert tried.judgement is None

    await settled()
    await held.assert_no_more_now()


async def test_fifty_timeouts_of_a_port_that_never_answers_leave_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        attempts = target(0.05, mcp={"url": f"http://127.0.0.1:{port}/mcp", "tool": "create_ticket"})
        held = Held.now()

        for number in range(50):
            await attempts.attempt(canary("w", "tickets", number))

        await settled()
        await held.assert_no_more_now()


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("way", ["http", "program"])
async def test_attempt_that_is_cancelled_leaves_nothing(server: HttpServer, way: str, moment: float) -> None:
    server.tickets.rule = "hang"
    mcp = {"handshake": "initialize"}
    attempts = over_http(server, 30, mcp=mcp) if way == "http" else by(["sleep", "4712"], 30)
    await over_http(server, 0.2).attempt(canary("w", "tickets", OPENS))
    held = Held.now()

    task = asyncio.create_task(attempts.attempt(canary("w", "tickets", OPENS)))
    await asyncio.sleep(moment)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await settled()
    await held.assert_no_more_now()
    assert await gone("sleep 4712")


async def test_attempt_that_is_cancelled_twice_leaves_nothing() -> None:
    attempts = by(["sh", "-c", "trap '' TERM; sleep 4713; sleep 4713"], 30)
    held = Held.now()

    task = asyncio.create_task(attempts.attempt(canary("w", "tickets", OPENS)))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await settled()
    await held.assert_no_more_now()


async def test_every_session_that_a_server_opened_is_closed_again(server: HttpServer) -> None:
    attempts = probe(over_http(server, mcp={"handshake": "initialize"}))

    await attempts.run(frozen())

    calls = server.tickets.calls
    assert sum(call.startswith("DELETE") for call in calls) == 3  # the attempt, its read-back, its undo
    assert {call.rpartition(" by ")[2] for call in calls if " by " in call} == {AGENT}


async def test_two_hundred_leaks_leave_the_store_as_it_was(server: HttpServer) -> None:
    server.tickets.add("somebody's", 7)
    before = [line for line in server.tickets.dump().splitlines() if "sqlite_sequence" not in line]
    attempts = probe(over_http(server, read_back={"waived": "what stays is seen in the end"}))

    for number in range(200):
        attempts.stopped = None
        result = await attempts.run(frozen(OPENS + number))
        assert (result.outcome, result.figures["undone"]) == (Outcome.LEAKED, True)

    after = [line for line in server.tickets.dump().splitlines() if "sqlite_sequence" not in line]
    assert after == before


async def test_two_copies_at_once_do_not_meet(server: HttpServer) -> None:
    both = [probe(over_http(server, 10), name) for name in ("one", "other")]

    results = await asyncio.gather(*(each.run(opened(OPENS + n)) for n in range(5) for each in both))

    assert {result.outcome for result in results} == {Outcome.ACCEPTED}
    assert server.tickets.titles == []


# -- the watchdog's own side ----------------------------------------------------------------------


def test_these_tests_run_on_the_probes_own_loop() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=ProbeLoop) as runner:
        assert isinstance(runner.run(loop()), ProbeLoop)


async def test_the_sdk_prints_nothing(
    server: HttpServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    for rule in ("open", "hang", "calls only: gateway moved", "calls only: gateway page", "endless"):
        server.tickets.rule = rule
        await probe(over_http(server, 0.5, mcp={"handshake": "auto"})).run(frozen())
    await probe(by(["sh", "-c", "echo loud >&2; echo nonsense"])).run(frozen())

    assert capfd.readouterr() == ("", "")
    assert [record.name for record in caplog.records if not record.name.startswith("asyncio")] == []


def test_module_can_be_imported_and_configured_without_the_driver() -> None:
    code = """
import asyncio, sys
sys.modules["mcp"] = sys.modules["httpx2"] = sys.modules["mcp_types"] = None
from probes.answer import OwnFault
from probes.base import Run
from probes.http import Transport
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.mcp.target import McpWrite, mcp_target

async def main():
    tools = Tools(window="w", opens=0, closes=1, agent="a/1", transport=Transport())
    spec = McpWrite.model_validate({"mcp": {"url": "http://127.0.0.1:1/mcp", "tool": "t"}})
    attempts = WriteAttempts(
        name="n", surface="n", window="w", target=mcp_target(spec, 1.0, tools), timeout=1.0
    )
    result = await attempts.run(Run(slot=0, phase="frozen", frozen=True))
    print(result.figures["why"], result.reason)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    said = "own_fault the driver is not installed: pip install 'freezewatch[mcp]'\n"
    assert (done.stdout, done.stderr) == (said, "")


def test_loading_the_module_does_not_load_the_driver() -> None:
    code = "import sys, probes.write.mcp.target; print([m for m in ('mcp', 'httpx2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.stdout == "[]\n"


async def test_name_that_cannot_be_looked_up_just_now_is_no_word_about_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    attempts = target(mcp={"url": "http://tools.example.com/mcp", "tool": "create_ticket"})
    monkeypatch.setattr(socket, "getaddrinfo", busy)

    result = await probe(attempts).run(frozen())

    assert (result.outcome, result.figures["why"]) == (Outcome.SKIPPED, Why.OWN_FAULT)


def test_watchdog_without_descriptors_says_so() -> None:
    code = f"""
import asyncio, resource, socket, sys
sys.path.insert(0, {str(ROOT)!r})
from probes.http import Transport
from probes.answer import OwnFault
from probes.tools import Tools
from probes.write.canary import canary
from probes.write.mcp.target import McpWrite, mcp_target

async def main():
    tools = Tools(window="w", opens=0, closes=1, agent="a/1", transport=Transport())
    made = [
        mcp_target(McpWrite.model_validate({{"mcp": mcp | {{"tool": "t"}}}}), 1.0, tools)
        for mcp in ({{"url": "http://127.0.0.1:9/mcp"}}, {{"command": ["sleep", "9"]}})
    ]
    await made[0].attempt(canary("w", "n", 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(socket.socket())
    except OSError:
        pass
    for each in made:
        try:
            print(await each.attempt(canary("w", "n", 1)))
        except OwnFault as error:
            print(error.reason)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines() == [
        "the watchdog could not ask: Too many open files",
        "no program can be started: Too many open files",
    ], done.stderr


async def test_secrets_stand_in_no_reason_and_no_representation(server: HttpServer) -> None:
    secret = "s3cret-value"
    mcp = {
        "url": server.url.replace("//", f"//{secret}:{secret}@") + f"?token={secret}",
        "headers": {"X-Key": secret},
        "arguments": {"title": secret},
    }
    shown = [repr(McpWrite.model_validate({"mcp": {"tool": "t", "handshake": "none"} | mcp}))]

    for rule in ("open", "calls only: gateway 401", "calls only: gateway moved", "crash", "hang"):
        server.tickets.rule = rule
        attempts = probe(over_http(server, 0.3, mcp=mcp))
        shown += [(await attempts.run(frozen())).reason, attempts.target.tries]
    by_hand = by(["no-such", secret], env={"KEY": secret})
    shown += [repr(by_hand._spec), (await probe(by_hand).run(frozen())).reason, by_hand.tries]

    assert [text for text in shown if secret in text] == []


async def test_hostile_names_and_values_arrive_as_they_are(server: HttpServer) -> None:
    title = 'Ünï "quoted" \\ \u2028 \0 <b> ${canary} \U0001f9ca ' + "x" * 50_000
    attempts = over_http(server, mcp={"arguments": {"title": title}}, undo={"waived": "a test's"})

    tried = await attempts.attempt(canary("w", "tickets", OPENS))

    assert tried.judgement is not None and tried.judgement.kind == "accepted"
    assert server.tickets.titles == [title.replace("${canary}", canary("w", "tickets", OPENS).text)]


async def test_half_a_character_does_not_break_the_watchdog(server: HttpServer) -> None:
    attempts = over_http(server, mcp={"arguments": {"title": "\ud800"}})

    tried = await attempts.attempt(canary("w", "tickets", OPENS))

    assert tried.judgement is None or tried.judgement.kind != "proper"


# -- configuration --------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "mcp": {"url": "http://127.0.0.1/mcp", "tool": "create_ticket", "arguments": TICKET},
    "read_back": READ_BACK,
    "undo": UNDO,
    "refusal": EQUALS,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = {name: dict(part) for name, part in GOOD.items()}
    section, _, key = path.partition(".")
    if key:
        spec[section][key] = value
    else:
        spec[section] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mcp", "http://127.0.0.1/mcp"),
        ("mcp.url", None),
        ("mcp.url", "ftp://x/"),
        ("mcp.url", "no url"),
        ("mcp.url", 7),
        ("mcp.command", ["server"]),
        ("mcp.env", {"A": "b"}),
        ("mcp.cwd", "/"),
        ("mcp.tool", ""),
        ("mcp.tool", 7),
        ("mcp.tool", None),
        ("mcp.arguments", ["title"]),
        ("mcp.handshake", "modern"),
        ("mcp.headers", {"X": "a\nb"}),
        ("mcp.headers", {"X Y": "a"}),
        ("mcp.retries", 3),
        ("refusal.code", "$["),
        ("refusal.code", "none"),
        ("refusal.body", "("),
        ("refusal.json_rpc", []),
        ("refusal.json_rpc", True),
        ("refusal.json_rpc", "-32050"),
        ("refusal.http", 42),
        ("refusal.tool_error", "sometimes"),
        ("refusal.status", 423),
        ("read_back.tool", None),
        ("read_back.absent", {}),
        ("read_back.absent", {"at": "tickets"}),
        ("read_back.absent", {"status": 404}),
        ("read_back.resource", "ticket://x"),
        ("read_back.within", "31s"),
        ("read_back.within", 5),
        ("read_back.waived", "no"),
        ("undo.tool", None),
        ("undo.waived", "there is no need"),
        ("undo.gone", "["),
        ("undo", {}),
        ("queued", [202]),
    ],
)
def test_mistake_in_the_configuration_is_named(path: str, value: Any) -> None:
    McpWrite.model_validate(GOOD)

    with pytest.raises(ValidationError):
        McpWrite.model_validate(changed(path, value))


@pytest.mark.parametrize("key", ["headers", "verify"])
def test_program_takes_nothing_that_is_http(key: str) -> None:
    mcp = {"command": ["server"], "tool": "create_ticket", key: {} if key == "headers" else False}

    with pytest.raises(ValidationError, match="cannot go with a command"):
        McpWrite.model_validate({"mcp": mcp})


def test_doubts_say_what_is_missing() -> None:
    bare = McpWrite.model_validate({"mcp": GOOD["mcp"]})

    assert McpWrite.model_validate(GOOD).doubts == []
    assert [doubt.partition(";")[0] for doubt in bare.doubts] == [
        "a refusal is known by its words alone",
        "without read_back a refusal is not verified",
        "without undo nothing is written while writes are open",
    ]


async def test_nothing_is_attempted_while_writes_are_open_without_an_undo(server: HttpServer) -> None:
    result = await probe(over_http(server, undo=None)).run(Run(slot=OPENS, phase="soak", frozen=False))

    assert result.figures["why"] == Why.HARMFUL
    assert server.tickets.calls == []
