"""What the pages show works: windows are sound, commands parse, outputs fit their schemas."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator, FormatChecker

from monitor.cli import app
from monitor.commands.schema import schema_of
from monitor.config import read_plan
from monitor.events import dumps, loads
from monitor.plan import Plan

from .pages import REFERENCE, Block, blocks

FRAME = """
window: {id: example, opens: 2026-11-23T22:00:00Z, closes: 2026-11-23T23:00:00Z}
"""
OF_PROMETHEUS = re.compile(r"^(scrape_configs|inhibit_rules):", re.MULTILINE)
WINDOWS = [
    block for block in blocks("yaml") if block.mark != "not a window" and not OF_PROMETHEUS.search(block.text)
]
COMMANDS = typer.main.get_command(app)


def _value(name: str) -> str:
    """What a variable of that name might hold."""
    if name.endswith("_DSN"):
        return f"postgresql://app:value-of-{name}@db.example.com/shop"
    if name == "REDIS_URL":
        return f"redis://app:value-of-{name}@cache.example.com:6379/0"
    return f"value-of-{name}"


def plan_of(block: Block, folder: Path) -> Plan:
    """The plan in an example; a fragment is given the window that it lacks."""
    text = FRAME + block.text if block.mark == "fragment" else block.text
    config = folder / "window.yaml"
    config.write_text(text, encoding="utf-8")
    named = {name: _value(name) for name in re.findall(r"\$\{([A-Z_]+)\}", text)}
    return read_plan(config, named)


@pytest.mark.parametrize("block", WINDOWS, ids=str)
def test_window_in_the_pages_is_sound(block: Block, tmp_path: Path) -> None:
    plan = plan_of(block, tmp_path)

    assert plan.window.closes > plan.window.opens


def test_there_are_windows_to_check() -> None:
    assert len(WINDOWS) >= 8


def test_whole_example_of_the_reference_has_no_warning(tmp_path: Path) -> None:
    whole = max((b for b in WINDOWS if b.page == REFERENCE / "window-yaml.md"), key=lambda b: len(b.text))

    warnings = [w.message for w in plan_of(whole, tmp_path).warnings]
    assert [message for message in warnings if "the window is over" not in message] == []


def commands_in(block: Block) -> list[list[str]]:
    """The words of every `freezewatch …` in a block of shell."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;"):
                if command and command[0].rpartition("/")[2] == "freezewatch":
                    found.append(command[1:])
                command = []
            else:
                command.append(word)
    return found


def of_a_pipeline(block: Block) -> Block:
    """The commands of a pipeline's YAML, as a block of shell."""
    lines = [re.sub(r"^\s*(?:- )?(?:run: )?", "", line) for line in block.text.splitlines()]
    commands = [line for line in lines if re.search(r"(?:^|&& )freezewatch ", line)]
    return replace(block, text="\n".join(commands))


SHELL = [
    *blocks("sh"),
    *(of_a_pipeline(block) for block in blocks("yaml") if block.mark == "not a window"),
]
LINES = [
    pytest.param(words, id=f"{block}: {' '.join(words)}") for block in SHELL for words in commands_in(block)
]


def parses(words: list[str]) -> None:
    """Parse as the command line would, without running anything. Raises click's errors."""
    context = COMMANDS.make_context("freezewatch", list(words), resilient_parsing=False)
    with context:
        group: Any = COMMANDS
        rest = [*getattr(context, "_protected_args", getattr(context, "protected_args", [])), *context.args]
        name, command, arguments = group.resolve_command(context, rest)
        assert command is not None
        command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("words", LINES)
def test_command_line_in_the_pages_parses(words: list[str]) -> None:
    parses(words)


def test_there_are_command_lines_to_check() -> None:
    assert len(LINES) >= 30


def test_a_wrong_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parses(["gate", "--at", "close", "--patience", "3m"])


def outputs() -> list[Any]:
    found = []
    for block in blocks("json"):
        documents = [block.text] if block.text.startswith("{\n") else block.text.splitlines()
        found += [pytest.param(block, text, id=f"{block} {text[:60]}") for text in documents]
    return found


@pytest.mark.parametrize(("block", "text"), outputs())
def test_output_in_the_pages_fits_its_schema(block: Block, text: str) -> None:
    document = json.loads(text)
    name = document["schema"].removeprefix("freezewatch.").split("/")[0]
    schema = schema_of(name)
    if block.mark.startswith("shortened: criteria"):
        schema["properties"]["criteria"] |= {"minItems": 1}

    Draft202012Validator(schema, format_checker=FormatChecker()).validate(document)


@pytest.mark.parametrize(
    "text", [p.values[1] for p in outputs() if '"freezewatch.event/1"' in str(p.values[1])[:60]]
)
def test_event_in_the_pages_can_be_read_by_the_ledger(text: str) -> None:
    event = loads(text)

    assert json.loads(dumps(event)) == json.loads(text)


def test_every_schema_has_an_example() -> None:
    shown = {json.loads(p.values[1])["schema"] for p in outputs()}  # type: ignore[arg-type]

    assert shown == {f"freezewatch.{name}/1" for name in ("event", "report", "gate", "alert")}


def test_every_event_has_an_example() -> None:
    shown = {json.loads(p.values[1]).get("event") for p in outputs()}  # type: ignore[arg-type]

    kinds = schema_of("event")["properties"]["event"]["enum"]
    assert set(kinds) <= shown
