"""Writes by a program: a folder of files behind a guard that is another file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Outcome, Why
from probes.http import Transport
from probes.refusal import Class
from probes.tools import Tools
from probes.write.attempt import WriteAttempts
from probes.write.canary import canary
from probes.write.command.process import Ended
from probes.write.command.target import CommandTarget, CommandWrite, command_target, judged

from ..harness import AGENT, OPENS, frozen, opened
from .leftovers import Held, gone, settled

ROOT = Path(__file__).resolve().parents[3]
CANARY = canary("w", "files", OPENS)

GUARD = """
case "$(cat rule)" in
  "open") : > "$1" ;;
  "refuse") echo "writes are frozen" >&2; exit 75 ;;
  "refuse in JSON") echo "trying"; echo '{"error": {"code": "writes_frozen"}}'; exit 75 ;;
  "leak behind") : > "$1"; exit 75 ;;
  "drop") ;;
  "fail") echo "no space left" >&2; exit 1 ;;
  "denied") echo "permission denied" >&2; exit 77 ;;
  "hang") sleep 4721 ;;
  "answer lost") : > "$1"; sleep 4721 ;;
  "late") (sleep 0.8; : > "$1") & sleep 4721 ;;
  "die") kill -9 $$ ;;
  "stubborn") trap '' TERM; sleep 4721 & while :; do sleep 4721; done ;;
  "endless") while :; do echo "$1$1$1$1$1$1$1$1"; done ;;
esac
"""
READ = 'test -e blind && { echo "cannot read" >&2; exit 1; }; test -e "$1" || exit 4'
UNDO = 'test "$(cat rule)" = "leak behind" && exit 75; rm -f "$1"'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "rule").write_text("open")
    return tmp_path


def rule(store: Path, name: str) -> None:
    (store / "rule").write_text(name)


def items(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()} - {"rule", "blind"}


def shell(store: Path, script: str) -> dict[str, Any]:
    return {"run": ["sh", "-c", script, "sh", "${canary}"], "cwd": str(store)}


def target(store: Path, timeout: float = 2.0, **spec: Any) -> CommandTarget:
    parts = {
        "command": shell(store, GUARD),
        "refusal": {"exit": 75},
        "read_back": shell(store, READ) | {"absent": {"exit": 4}},
        "undo": shell(store, UNDO),
    } | spec
    stated = {name: value for name, value in parts.items() if value is not None}
    tools = Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=Transport())
    return command_target(CommandWrite.model_validate(stated), timeout, tools)


def running(script: str, timeout: float = 2.0, **command: Any) -> CommandTarget:
    """A target whose program is `script` of a shell."""
    spec = {"command": {"run": ["sh", "-c", script]} | command, "refusal": {"exit": 75}}
    tools = Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=Transport())
    return command_target(CommandWrite.model_validate(spec), timeout, tools)


def probe(target: CommandTarget, name: str = "files") -> WriteAttempts:
    return WriteAttempts(name=name, surface=name, window="w", target=target, timeout=target._timeout)


# -- outcomes -------------------------------------------------------------------------------------

OUTCOMES = {
    "open": Outcome.LEAKED,
    "refuse": Outcome.REFUSED,
    "leak behind": Outcome.LEAKED_BEHIND_REFUSAL,
    "drop": Outcome.DROPPED,
    "fail": Outcome.UNREACHABLE,
    "denied": Outcome.UNREACHABLE,
    "hang": Outcome.UNREACHABLE,
    "answer lost": Outcome.LEAKED,
    "die": Outcome.UNREACHABLE,
    "stubborn": Outcome.UNREACHABLE,
    "endless": Outcome.UNREACHABLE,
}


@pytest.mark.parametrize("name", OUTCOMES)
async def test_each_end_of_a_program_has_its_outcome(store: Path, name: str) -> None:
    rule(store, name)

    result = await probe(target(store, 0.5)).run(frozen())

    assert result.outcome is OUTCOMES[name], result.reason
    assert items(store) <= {CANARY.text}


async def test_attempt_while_writes_are_open_is_accepted_read_back_and_undone(store: Path) -> None:
    (store / "somebody's").touch()

    result = await probe(target(store)).run(opened())

    assert (result.outcome, result.figures["trace"], result.figures["exit"]) == (
        Outcome.ACCEPTED,
        "none: undone",
        0,
    )
    assert items(store) == {"somebody's"}


async def test_code_in_what_is_printed_is_the_refusals_code(store: Path) -> None:
    rule(store, "refuse in JSON")
    refusal = {"exit": 75, "code": "$.error.code", "equals": "writes_frozen"}

    result = await probe(target(store, refusal=refusal)).run(frozen())

    assert (result.outcome, result.figures["code"]) == (Outcome.REFUSED, "writes_frozen")


async def test_undo_that_is_refused_is_owed_until_writes_are_open(store: Path) -> None:
    attempts = probe(target(store))
    rule(store, "leak behind")

    leaked = await attempts.run(frozen())
    stopped = await attempts.run(frozen(OPENS + 5))
    rule(store, "open")
    after = await attempts.run(opened(OPENS + 10))

    assert (leaked.figures["owed"], after.figures["owed"]) == (1, 0)
    assert stopped.figures["why"] == Why.STOPPED
    assert items(store) == set()


async def test_write_that_outlives_its_program_is_ended_with_it(store: Path) -> None:
    rule(store, "late")

    await probe(target(store, 0.3)).run(frozen())
    await asyncio.sleep(1.0)

    assert items(store) == set()


async def test_write_without_an_answer_that_lands_late_is_a_leak(store: Path) -> None:
    attempts = probe(target(store, 0.5))
    rule(store, "hang")

    first = await attempts.run(frozen())
    (store / CANARY.text).touch()
    second = await attempts.run(frozen(OPENS + 5))

    assert (first.outcome, first.figures["expected"]) == (Outcome.UNREACHABLE, 1)
    assert (second.outcome, second.figures["canary"]) == (Outcome.LEAKED, CANARY.text)


async def test_read_back_that_fails_shows_nothing(store: Path) -> None:
    rule(store, "refuse")
    (store / "blind").touch()

    result = await probe(target(store)).run(frozen())

    assert (result.outcome, result.figures["verified"]) == (Outcome.UNREACHABLE, False)
    assert "the read-back ended with 1: 'cannot read'" in result.reason


async def test_refusal_without_a_read_back_is_not_believed(store: Path) -> None:
    rule(store, "refuse")

    unread = await probe(target(store, read_back=None)).run(frozen())
    waived = await probe(target(store, read_back={"waived": "nothing can be read"})).run(frozen())

    assert (unread.outcome, waived.outcome) == (Outcome.UNREACHABLE, Outcome.REFUSED)


async def test_nothing_is_run_while_writes_are_open_without_an_undo(store: Path) -> None:
    result = await probe(target(store, undo=None)).run(opened())

    assert (result.figures["why"], items(store)) == (Why.HARMFUL, set())


async def test_two_hundred_leaks_leave_the_store_as_it_was(store: Path) -> None:
    (store / "somebody's").write_text("text")
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    attempts = probe(target(store))

    for number in range(200):
        attempts.stopped = None
        result = await attempts.run(frozen(OPENS + number))
        assert (result.outcome, result.figures["undone"]) == (Outcome.LEAKED, True)

    assert {path.name: path.read_bytes() for path in store.iterdir()} == before


async def test_two_copies_at_once_do_not_meet(store: Path) -> None:
    both = [probe(target(store, 20), name) for name in ("one", "other")]

    results = await asyncio.gather(*(each.run(opened(OPENS + n)) for n in range(10) for each in both))

    assert ({result.outcome for result in results}, items(store)) == ({Outcome.ACCEPTED}, set())


# -- what a program is given ----------------------------------------------------------------------


async def test_program_gets_the_canary_in_every_form_and_nothing_of_the_watchdogs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_PASSWORD", "s3cret")
    seen = tmp_path / "seen"
    code = f"""
import json, os, sys
out = {{
    "env": dict(os.environ),
    "args": sys.argv[1:],
    "stdin": sys.stdin.read(),
    "fds": os.listdir("/proc/self/fd"),
    "group": os.getpgrp() == os.getpid(),
    "cwd": os.getcwd(),
}}
open({str(seen)!r}, "w").write(json.dumps(out))
"""
    command = {
        "run": [sys.executable, "-c", code, "a ${canary} b", "$HOME `id` *", "${other}"],
        "env": {"ID": "${canary_uuid}"},
        "stdin": "n=${canary_int}\nÜ",
        "cwd": str(tmp_path),
    }
    with (tmp_path / "open").open("w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        await target(tmp_path, 10, command=command).attempt(CANARY)

    found = json.loads(seen.read_text())
    assert found["args"] == [f"a {CANARY.text} b", "$HOME `id` *", "${other}"]
    assert found["stdin"] == f"n={CANARY.number}\nÜ"
    assert set(found["env"]) - {"HOME", "LANG", "LC_CTYPE"} == {
        "PATH",
        "ID",
        "FREEZEWATCH_CANARY",
        "FREEZEWATCH_CANARY_UUID",
        "FREEZEWATCH_CANARY_INT",
    }
    assert (found["env"]["FREEZEWATCH_CANARY"], found["env"]["ID"]) == (CANARY.text, CANARY.uuid)
    assert (len(found["fds"]), found["group"], found["cwd"]) == (4, True, str(tmp_path))


async def test_standard_input_is_closed_unless_something_is_given() -> None:
    tried = await running("cat; exit 75").attempt(CANARY)

    assert tried.judgement is not None and tried.judgement.kind is Class.PROPER


async def test_program_need_not_read_what_it_is_given() -> None:
    tried = await running("exit 75", stdin="x" * 5_000_000).attempt(CANARY)

    assert tried.judgement is not None and tried.judgement.kind is Class.PROPER


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ({"run": ["/no/such/program"]}, "the program cannot be used: No such file or directory"),
        ({"run": ["no such program"]}, "the program cannot be used: No such file or directory"),
        ({"run": ["/etc/passwd"]}, "the program cannot be used: Permission denied"),
        ({"run": ["/"]}, "the program cannot be used: Permission denied"),
        ({"run": ["true"], "cwd": "/no/such"}, "the folder cannot be used: No such file or directory"),
        ({"run": ["true"], "cwd": "/etc/passwd"}, "the folder cannot be used: Not a directory"),
        ({"run": ["true", "x" * 3_000_000]}, "the program cannot be used: Argument list too long"),
    ],
)
async def test_program_that_cannot_be_run_is_unreachable_and_writes_nothing(
    store: Path, command: dict[str, Any], reason: str
) -> None:
    held = Held.now()

    result = await probe(target(store, command=command)).run(frozen())

    assert (result.outcome, result.reason, result.figures["expected"]) == (Outcome.UNREACHABLE, reason, 0)
    await held.assert_no_more_now()


# -- nothing stays --------------------------------------------------------------------------------


async def test_fifty_timeouts_leave_nothing() -> None:
    attempts = running("trap '' TERM; sleep 4722 & sleep 4722; wait", 0.05)
    held = Held.now()

    for _ in range(50):
        tried = await attempts.attempt(CANARY)
        assert tried.unanswered == "not done within 0.05 s, and ended"

    await settled()
    await held.assert_no_more_now()
    assert await gone("sleep 4722")


async def test_program_has_time_to_end_well_and_is_over_in_time(tmp_path: Path) -> None:
    script = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; sleep 4723 & wait"
    began = time.perf_counter()

    tried = await running(script, 1.0).attempt(CANARY)

    assert time.perf_counter() - began < 1.1
    assert (tried.judgement, tried.may_land) == (None, True)
    assert (tmp_path / "bye").exists()


async def test_what_a_program_leaves_running_is_ended() -> None:
    held = Held.now()

    tried = await running("sleep 4724 & exit 75").attempt(CANARY)

    assert tried.judgement is not None and tried.judgement.kind is Class.PROPER
    await held.assert_no_more_now()
    assert await gone("sleep 4724")


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.005, 0.05])
@pytest.mark.parametrize("times", [1, 2])
async def test_attempt_that_is_cancelled_leaves_nothing(moment: float, times: int) -> None:
    attempts = running("trap '' TERM; sleep 4725 & sleep 4725; wait", 30)
    held = Held.now()

    task = asyncio.create_task(attempts.attempt(CANARY))
    await asyncio.sleep(moment)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task

    await settled()
    await held.assert_no_more_now()
    assert await gone("sleep 4725")


async def test_fifty_at_once_are_fifty_programs_and_leave_nothing() -> None:
    attempts = running("sleep 0.1; exit 75", 20)
    held = Held.now()

    tried = await asyncio.gather(*(attempts.attempt(canary("w", "files", n)) for n in range(50)))

    assert {each.judgement.kind for each in tried if each.judgement} == {Class.PROPER}
    assert len([each for each in tried if each.judgement]) == 50
    await held.assert_no_more_now()


async def test_program_that_prints_without_end_is_ended_at_once_and_holds_nothing_up() -> None:
    began = time.perf_counter()

    tried = await running("yes", 20).attempt(CANARY)

    assert time.perf_counter() - began < 5
    assert tried.unanswered == "printed without end, and was ended"


async def test_only_so_much_of_the_output_is_searched() -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo frozen; exit 75"
    short = running(script)
    long = running(script, output_limit=200_000)
    for each in (short, long):
        each._spec = each._spec.model_copy(
            update={"refusal": each._spec.refusal.model_copy(update={"stdout": "frozen"})}
        )

    found = [(await each.attempt(CANARY)).judgement for each in (short, long)]

    assert [each.kind for each in found if each] == [Class.OTHER, Class.PROPER]


async def test_hung_program_is_unreachable() -> None:
    result = await probe(running("kill -STOP $$", 0.3)).run(frozen())

    assert (result.outcome, result.reason) == (
        Outcome.UNREACHABLE,
        "not done within 0.3 s, and ended",
    )


async def test_program_that_a_signal_ends_says_nothing() -> None:
    tried = await running(f"kill -{int(signal.SIGSEGV)} $$").attempt(CANARY)

    assert (tried.judgement, tried.unanswered) == (None, "ended by signal 11")


def test_watchdog_without_descriptors_says_so() -> None:
    code = f"""
import asyncio, resource, socket, sys
sys.path.insert(0, {str(ROOT)!r})
from probes.answer import OwnFault
from probes.write.command.process import Invocation, run

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(socket.socket())
    except OSError:
        pass
    try:
        print(await run(Invocation(argv=("true",)), seconds=1.0, limit=1024))
    except OwnFault as error:
        print(error.reason)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout == "no program can be started: Too many open files\n", done.stderr


async def test_secrets_stand_in_no_reason_and_no_representation() -> None:
    secret = "s3cret-value"
    script = f"echo $KEY; echo $KEY >&2; echo {secret} >&2; exit 3"
    attempts = running(script, env={"KEY": secret}, stdin=secret)
    broken = running("exit 0", env={"KEY": secret}).attempt(CANARY)

    shown = [
        repr(attempts._spec),
        attempts.tries,
        (await probe(attempts).run(frozen())).reason,
        str(await broken),
    ]

    assert [text for text in shown if secret in text] == []


async def test_long_line_of_a_program_is_not_repeated() -> None:
    result = await probe(
        running("echo password=hunter2 is what I was given, and that does not fit in here >&2; exit 3")
    ).run(frozen())

    assert result.reason == "ended with 3, neither the configured refusal nor accepted"


# -- judging --------------------------------------------------------------------------------------


def ended(status: int | None, stdout: str = "", stderr: str = "") -> Ended:
    return Ended(status=status, stdout=stdout.encode(), stderr=stderr.encode())


CODED = {"exit": 75, "code": "$.code"}


@pytest.mark.parametrize(
    ("end", "refusal", "accepted", "kind"),
    [
        (ended(75), {"exit": 75}, {}, Class.PROPER),
        (ended(69), {"exit": [75, 69]}, {}, Class.PROPER),
        (ended(0), {"exit": 75}, {}, Class.ACCEPTED),
        (ended(3), {"exit": 75}, {"exit": [0, 3]}, Class.ACCEPTED),
        (ended(3), {"exit": 75}, {}, Class.OTHER),
        (ended(0), {"exit": 75}, {"exit": 0, "stdout": "done"}, Class.OTHER),
        (ended(0, "done"), {"exit": 75}, {"exit": 0, "stdout": "done"}, Class.ACCEPTED),
        (ended(1, stderr="x frozen"), {"exit": 1, "stderr": "frozen"}, {}, Class.PROPER),
        (ended(1, stdout="x frozen"), {"exit": 1, "stderr": "frozen"}, {}, Class.OTHER),
        (ended(0, "frozen"), {"exit": 0, "stdout": "frozen"}, {}, Class.PROPER),
        (ended(0, "done"), {"exit": 0, "stdout": "frozen"}, {}, Class.ACCEPTED),
        (ended(75, '{"code": "E7"}'), CODED, {}, Class.PROPER),
        (ended(75, 'trying\n{"code": "E7"}\n'), CODED, {}, Class.PROPER),
        (ended(75, '{"code": 7}'), CODED | {"equals": "7"}, {}, Class.PROPER),
        (ended(75, '{"code": "E8"}'), CODED | {"equals": "E7"}, {}, Class.OTHER),
        (ended(75, "no JSON"), CODED, {}, Class.BROKEN),
        (ended(75, "[" * 60_000), CODED, {}, Class.BROKEN),
        (ended(1, "no JSON"), CODED | {"exit": 1}, {}, Class.OTHER),
        (ended(1, "no JSON", "frozen"), CODED | {"exit": 1, "stderr": "frozen"}, {}, Class.BROKEN),
        (ended(0, '{"code": "ok"}'), CODED | {"exit": 0, "equals": "E7"}, {}, Class.ACCEPTED),
        (ended(0, '{"code": "E7"}'), CODED | {"exit": 0, "equals": "E7"}, {}, Class.PROPER),
    ],
)
def test_end_of_a_program_is_taken_for(
    end: Ended, refusal: dict[str, Any], accepted: dict[str, Any], kind: Class
) -> None:
    spec = {"command": {"run": ["x"]}, "refusal": refusal} | ({"accepted": accepted} if accepted else {})

    found = judged(end, CommandWrite.model_validate(spec))

    assert found.kind is kind, found.reason


def test_two_statuses_of_a_refusal_are_one_refusal(store: Path) -> None:
    assert not target(store, refusal={"exit": [75, 69]}).one_code
    assert target(store, refusal=CODED).one_code


# -- configuration --------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "command": {"run": ["put", "${canary}"]},
    "refusal": {"exit": 75},
    "accepted": {"exit": 0},
    "read_back": {"run": ["get", "${canary}"], "absent": {"exit": 4}},
    "undo": {"run": ["remove", "${canary}"]},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("command", "put it"),
        ("command", ["put"]),
        ("command.run", "put ${canary}"),
        ("command.run", []),
        ("command.run", [" "]),
        ("command.run", ["put", 7]),
        ("command.run", ["put", "a\0b"]),
        ("command.env", {"A=B": "c"}),
        ("command.env", {"": "c"}),
        ("command.env", {"A": "\0"}),
        ("command.env", {"A": 7}),
        ("command.env", ["A=b"]),
        ("command.cwd", 7),
        ("command.stdin", {"a": 1}),
        ("command.output_limit", 0),
        ("command.output_limit", 1 << 30),
        ("command.shell", True),
        ("refusal", {}),
        ("refusal", None),
        ("refusal.exit", None),
        ("refusal.exit", []),
        ("refusal.exit", True),
        ("refusal.exit", [True]),
        ("refusal.exit", 256),
        ("refusal.exit", -9),
        ("refusal.exit", "75"),
        ("refusal.exit", 0),
        ("refusal.exit", [0, 75]),
        ("refusal.stdout", "("),
        ("refusal.code", "auto"),
        ("refusal.code", "$["),
        ("refusal.equals", "E7"),
        ("refusal.status", 423),
        ("accepted.exit", 75),
        ("accepted.exit", []),
        ("read_back.run", None),
        ("read_back.absent", None),
        ("read_back.absent", {}),
        ("read_back.absent", {"exit": 0}),
        ("read_back.present", {"exit": [0, 4]}),
        ("read_back.within", "31s"),
        ("read_back.waived", "nothing can be read"),
        ("undo.run", None),
        ("undo.exit", None),
        ("undo.waived", "there is no need"),
        ("queued", [0]),
    ],
)
def test_mistake_in_the_configuration_is_named(path: str, value: Any) -> None:
    spec = {name: dict(part) for name, part in GOOD.items()}
    CommandWrite.model_validate(spec)
    section, _, key = path.partition(".")
    if key:
        spec[section][key] = value
    else:
        spec[section] = value

    with pytest.raises(ValidationError):
        CommandWrite.model_validate(spec)


def test_doubts_say_what_is_missing_and_what_means_too_much() -> None:
    bare = CommandWrite.model_validate({"command": GOOD["command"], "refusal": {"exit": [1, 75]}})
    vague = CommandWrite.model_validate(GOOD | {"read_back": {"run": ["get"], "absent": {"exit": [1, 2]}}})
    marked = {"exit": 1, "stderr": "frozen"}

    assert CommandWrite.model_validate(GOOD | {"refusal": marked}).doubts == []
    assert [doubt.partition(";")[0] for doubt in (*bare.doubts, *vague.doubts)] == [
        "a program that fails for any reason exits with 1 too",
        "without read_back a refusal is not verified",
        "without undo nothing is written while writes are open",
        "a read-back that fails exits with 1 or 2 too, and counts as absent then",
    ]
