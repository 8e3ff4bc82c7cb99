"""The reference is complete: every key, option, outcome and schema stands in it, and no other."""

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from monitor.cli import app
from monitor.commands.schema import PRINTED
from monitor.model import CRITERIA
from monitor.notify.kinds import NOTIFIERS
from monitor.plan import (
    Common,
    CoverageObjective,
    Defaults,
    Embedder,
    Extend,
    File,
    Listen,
    MeaningObjective,
    ReadObjective,
    WindowSection,
)
from probes.audit.reading import AuditBase, Exemption
from probes.base import Outcome, Why
from probes.flag import FlagSpec
from probes.kinds import KINDS
from probes.read import ReadSpec
from probes.refusal import Refusal
from probes.request import HttpRequest
from probes.write.http import Absent, ReadBack, Undo, WriteSpec
from probes.write.target import WriteBase

from .pages import REFERENCE, anchors, section

PAGE = REFERENCE / "window-yaml.md"
COMMANDS_PAGE = REFERENCE / "commands.md"
OUTPUTS_PAGE = REFERENCE / "outputs.md"
KIND_PAGES = {"writes": REFERENCE / "surfaces.md", "audits": REFERENCE / "audits.md"}
"""Where each kind of a section has a heading of its own."""
SHARED = {WriteBase: "writes", AuditBase: "audits"}
"""What every kind of a section may say stands once, under the section's heading."""

TABLES: dict[str, tuple[type[BaseModel], ...]] = {
    "window": (WindowSection,),
    "defaults": (Defaults, Common),
    "reads": (ReadSpec,),
    "writes": (WriteSpec, Refusal, ReadBack, Undo),
    "audits": (AuditBase, Exemption),
    "refusal": (Refusal,),
    "read_back": (ReadBack,),
    "undo": (Undo,),
    "flags": (FlagSpec,),
    "a request": (HttpRequest,),
    "objectives.reads": (ReadObjective,),
    "objectives.meaning": (MeaningObjective,),
    "objectives.coverage": (CoverageObjective,),
    "embedder": (Embedder,),
    "listen": (Listen,),
    **{name: (spec,) for name, spec in NOTIFIERS.items()},
}
"""Heading of the page -> the models whose keys stand in the tables below it."""
SAID_IN_WORDS = {"window": Extend, "read_back": Absent}
"""Models whose keys stand in a sentence below a heading."""


def keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def rows(text: str) -> dict[str, str]:
    """First cells in code -> the whole rows, of every table that has a column `key`."""
    found = {}
    for table in re.split(r"\n(?!\|)", text):
        if re.match(r"\| key", table.strip()):
            for line in table.strip().splitlines()[2:]:
                for key in re.findall(r"`([^`]+)`", line.split("|")[1]):
                    found[key] = found.get(key, "") + line
    return found


def models(root: Any) -> Iterator[type[BaseModel]]:
    """`root` and every model in its fields."""
    yield root
    for field in root.model_fields.values():
        for inner in _models_in(field.annotation):
            yield from models(inner)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        if not isinstance(part, types.NoneType):
            yield from _models_in(part)


@pytest.mark.parametrize("heading", TABLES)
def test_tables_under_a_heading_hold_its_keys_and_no_other(heading: str) -> None:
    wanted = set().union(*(keys(model) for model in TABLES[heading]))

    assert set(rows(section(PAGE, heading))) == wanted


def of_kinds() -> list[tuple[str, str, Path]]:
    """(section, kind, page) of every kind that has a heading on a page of its section."""
    return [
        (section, kind, page)
        for section, page in KIND_PAGES.items()
        for kind in KINDS[section]
        if (section, kind) != ("writes", "http")
    ]


def own_keys(section_name: str, kind: str) -> set[str]:
    """The keys of a kind that are not those of every kind of its section."""
    spec = KINDS[section_name][kind].spec
    shared = next(base for base in SHARED if issubclass(spec, base))
    said_elsewhere = {shared, Refusal, HttpRequest, ReadBack, Undo, Absent, Exemption}
    wanted = {key for model in models(spec) if model not in said_elsewhere for key in keys(model)}
    return wanted - keys(shared)


@pytest.mark.parametrize(("section_name", "kind", "page"), of_kinds())
def test_every_kind_has_a_heading_and_a_table_with_its_keys(section_name: str, kind: str, page: Path) -> None:
    stated = set(rows(section(page, kind)))

    assert own_keys(section_name, kind) - stated - {kind} == set()


@pytest.mark.parametrize("heading", SAID_IN_WORDS)
def test_keys_that_are_said_in_words_are_said(heading: str) -> None:
    text = section(PAGE, heading)

    assert {key for key in keys(SAID_IN_WORDS[heading]) if f"`{key}`" not in text} == set()


def test_no_model_is_forgotten() -> None:
    known = {model for group in TABLES.values() for model in group} | set(SAID_IN_WORDS.values())
    elsewhere = {id(kind.spec) for section, kind, _ in of_kinds() for kind in [KINDS[section][kind]]}
    specs = [k.spec for kinds in KINDS.values() for k in kinds.values() if id(k.spec) not in elsewhere]
    roots = [File, Common, *NOTIFIERS.values(), *specs, AuditBase]
    used = {model for root in roots for model in models(root)}

    forgotten = {model.__name__ for model in used - known}
    assert forgotten == {"File", "Objectives"}, "give each a table, and a line in TABLES"


def test_every_section_of_the_file_has_a_heading() -> None:
    assert keys(File) <= anchors(PAGE)


def plain_default(value: Any) -> str | None:
    """A default as it is written in the file, where that is plain."""
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel | dict | list | tuple):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


LENGTHS = {600.0: "10m", 300.0: "5m", 5.0: "5s", 2.0: "2s", 60.0: "60s", 0.025: "25ms", 0.0: "0s"}
SHARES = {0.999: "99.9%", 0.95: "95%", 0.15: "0.15", 1.5: "1.5"}


@pytest.mark.parametrize("heading", TABLES)
def test_defaults_in_the_tables_are_those_of_the_code(heading: str) -> None:
    table = rows(section(PAGE, heading))

    for model in TABLES[heading]:
        for name, field in model.model_fields.items():
            default = plain_default(field.default)
            if default is None or default == "":
                continue
            written = default
            if isinstance(field.default, float):
                written = LENGTHS.get(field.default) or SHARES[field.default]
            assert f"`{written}`" in table[field.alias or name], f"{heading}.{name} is {written} by default"


def test_waive_names_every_criterion() -> None:
    text = section(PAGE, "waive")

    assert {name for name in CRITERIA if f"`{name}`" not in text} == set()


def command_line() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("name", sorted(command_line().commands))
def test_command_and_its_options_stand_in_the_reference(name: str) -> None:
    command = command_line().commands[name]
    acts = "extend, close, roll-back, accept"
    text = section(COMMANDS_PAGE, acts if name in acts.split(", ") else name)
    head = COMMANDS_PAGE.read_text("utf-8").split("\n## ")[0]

    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert f"{parameter.name.upper()}`" in text
            continue
        for option in parameter.opts:
            common = option in ("--config", "-c", "--json") and f"`{option}" in head
            assert f"`{option}" in text or common, f"{name} {option}"


def test_reference_names_no_option_that_is_not_there() -> None:
    known = {o for c in command_line().commands.values() for p in c.params for o in p.opts}
    known |= {"--help", "--version"}

    named = set(re.findall(r"`(--[a-z-]+)", COMMANDS_PAGE.read_text("utf-8")))
    assert named - known == set()


def test_every_command_has_its_heading_and_no_other_has() -> None:
    headings = re.findall(r"^## (.+)$", COMMANDS_PAGE.read_text("utf-8"), re.MULTILINE)

    named = [name for heading in headings for name in heading.split(", ")]
    assert sorted(named) == sorted(command_line().commands)


def test_outcomes_and_reasons_to_skip_stand_in_the_reference() -> None:
    text = section(OUTPUTS_PAGE, "Outcomes")

    assert {o.value for o in (*Outcome, *Why) if f"`{o.value}`" not in text} == set()


@pytest.mark.parametrize("name", PRINTED)
def test_schema_has_its_heading(name: str) -> None:
    assert name in anchors(OUTPUTS_PAGE)
