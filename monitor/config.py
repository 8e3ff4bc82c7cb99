"""`window.yaml` -> Plan. Every mistake is named with file, line, column, the rule and the way out.

Reads the file and the environment; asks no target.
"""

import difflib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from monitor.errors import ConfigError, Mistake
from monitor.notify.kinds import NOTIFIERS, NotifierSpec
from monitor.plan import Common, Defaults, File, Plan, Planned
from monitor.yamlfile import Document, load
from monitor.yamlfile import Path as At
from probes.base import Kind
from probes.kinds import KINDS
from probes.secrets import SENSITIVE, Redactor

SECTION_KIND = {"reads": Kind.READ, "writes": Kind.WRITE, "audits": Kind.AUDIT, "flags": Kind.FLAG}
LATER = {
    "queues": "queue",
    "notices": "notice",
    "jobs": "jobs",
    "retries": "retries",
    "scope": "scope",
}
"""Sections that the design has and this version has not, each with the criterion it would serve."""
COMMON = frozenset(Common.model_fields)
M = TypeVar("M", bound=BaseModel)


def read_plan(path: Path, environment: Mapping[str, str] | None = None) -> Plan:
    """The plan in `path`. Raises ConfigError with every mistake that was found."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _whole(path, "there is no such file; `freezewatch init` writes one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _whole(path, f"it cannot be read: {error}") from None
    document = load(text, str(path), environment)
    if not isinstance(document.data, dict):
        raise _whole(path, "it must be a mapping with at least `window:`")
    file = _validated(File, document.data, (), document)
    probes = [
        probe
        for section in KINDS
        for probe in _entries(section, document, file.defaults if file else Defaults())
    ]
    notify = _notifiers(document)
    _unique_names(probes, document)
    redactor = _redactor(document)
    if document.mistakes or file is None:
        raise ConfigError(
            [
                replace(mistake, message=redactor.text(mistake.message))
                for mistake in sorted(set(document.mistakes), key=lambda m: (m.line, m.column))
            ]
        )
    return Plan(
        file=path,
        window=file.window.window(),
        probes=tuple(probe for _, probe in probes),
        objectives=file.objectives,
        notify=tuple(notify),
        waive=file.waive,
        embedder=file.embedder,
        listen=None if file.listen == "off" else file.listen,
        ledger=path.parent / (file.ledger or f"{file.window.id}.ledger"),
        digest=_digest(text, str(path)),
        redactor=redactor,
        warnings=tuple(_warnings(probes, file, document)),
    )


class _AsWritten(dict[str, str]):
    """An environment in which every variable stands for itself."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """`${name}`."""
        return "${" + name + "}"


def _digest(text: str, file: str) -> str:
    """What names this configuration: its values as written, so that no secret is in it."""
    written = load(text, file, _AsWritten()).data
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]


def _whole(path: Path, message: str) -> ConfigError:
    return ConfigError([Mistake(file=str(path), line=1, column=1, message=message)])


def _validated(model: type[M], data: Any, at: At, document: Document) -> M | None:
    """`data` as `model`, or None with every mistake written into the document."""
    try:
        return model.model_validate(data, strict=None)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            document.mistakes.append(_mistake(model, detail, at, document))
        return None


def _mistake(model: type[BaseModel], detail: Any, at: At, document: Document) -> Mistake:
    where: At = (*at, *_known_steps(detail["loc"], at, document))
    loc = [step for step in detail["loc"] if step != "[key]"]
    kind, key = detail["type"], str(loc[-1]) if loc else ""
    if kind == "extra_forbidden" and model is File and key in LATER:
        waive = f"take it out, and waive {LATER[key]!r} with the reason"
        return document.mistake(where, f"this version cannot watch {key!r} yet: {waive}")
    if kind == "extra_forbidden":
        known = sorted(_keys_beside(model, detail["loc"]))
        return document.mistake(where, f"unknown key {key!r}{_hint(key, known)}")
    if kind == "missing":
        return document.mistake(where, f"{key!r} is missing")
    message = str(detail["msg"]).removeprefix("Value error, ")
    if len(loc) > 1 and isinstance(loc[-1], int):
        key = f"{loc[-2]}[{loc[-1]}]"
    shown = f"{key}: " if key and kind != "value_error" else ""
    return document.mistake(where, shown + message[0].lower() + message[1:])


def _known_steps(loc: tuple[str | int, ...], at: At, document: Document) -> At:
    """The part of pydantic's location that stands in the file; union members do not."""
    steps: At = ()
    for step in loc:
        if (*at, *steps, step) in document.places:
            steps = (*steps, step)
    return steps


def _keys_beside(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    """The keys that are known where an unknown one stands."""
    current: Any = model
    for step in loc[:-1]:
        fields = getattr(current, "model_fields", {})
        found = next((f for name, f in fields.items() if step in (name, f.alias)), None)
        inner = [found.annotation, *getattr(found.annotation, "__args__", ())] if found else []
        current = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), current)
    return {field.alias or name for name, field in getattr(current, "model_fields", {}).items()}


def _hint(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _entries(section: str, document: Document, defaults: Defaults) -> Iterator[tuple[At, Planned]]:
    """Every probe of a section, with the place of its entry."""
    entries = document.data.get(section)
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield from _entry(section, entry, (section, index), document, defaults)


def _entry(
    section: str, entry: dict[str, Any], at: At, document: Document, defaults: Defaults
) -> Iterator[tuple[At, Planned]]:
    kinds = KINDS[section]
    named = [key for key in entry if key in kinds]
    common = _validated(Common, {k: v for k, v in entry.items() if k in COMMON}, at, document)
    if len(named) != 1:
        document.mistakes.append(document.mistake(at, _which_kind(section, entry, named)))
        return
    kind = kinds[named[0]]
    rest = {key: value for key, value in entry.items() if key not in COMMON}
    spec = _validated(kind.spec, rest, at, document)
    if common is None or spec is None:
        return
    for each in kind.expand(common.name, spec):
        yield (
            at,
            Planned(
                kind=SECTION_KIND[section],
                store=named[0],
                every=(common.every or defaults.every) * each.slower,
                timeout=common.timeout or defaults.timeout,
                each=each,
                maker=kind,
            ),
        )


def _which_kind(section: str, entry: dict[str, Any], named: list[str]) -> str:
    known = list(KINDS[section])
    if named:
        return f"{' and '.join(named)} are {len(named)} kinds in one entry: make it {len(named)} entries"
    one = section.removesuffix("s")
    fields = {name for kind in KINDS[section].values() for name in kind.spec.model_fields}
    odd = [key for key in entry if key not in COMMON and key not in fields]
    if odd:
        return f"unknown {one} probe kind {odd[0]!r}; known: {', '.join(known)}"
    return f"this entry says nothing of what to ask; known: {', '.join(known)}"


def _notifiers(document: Document) -> list[NotifierSpec]:
    entries = document.data.get("notify")
    found: list[NotifierSpec] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        at: At = ("notify", index)
        if not isinstance(entry, dict) or len(entry) != 1:
            document.mistakes.append(
                document.mistake(at, f"one notifier an entry; known: {', '.join(NOTIFIERS)}")
            )
            continue
        kind, settings = next(iter(entry.items()))
        if kind not in NOTIFIERS:
            hint = _hint(kind, list(NOTIFIERS))
            document.mistakes.append(document.mistake((*at, kind), f"unknown notifier {kind!r}{hint}"))
            continue
        spec = _validated(NOTIFIERS[kind], settings, (*at, kind), document)
        if spec is not None:
            found.append(spec)
    return found


def _unique_names(probes: list[tuple[At, Planned]], document: Document) -> None:
    seen: dict[str, At] = {}
    for at, probe in probes:
        if probe.name in seen:
            line = document.places.get(seen[probe.name], (1, 1))[0]
            message = f"the name {probe.name!r} is taken by the entry in line {line}"
            document.mistakes.append(document.mistake((*at, "name"), message))
        seen.setdefault(probe.name, at)


def _redactor(document: Document) -> Redactor:
    """Every value from the environment, secret headers, user names in URLs, secret query fields."""
    redactor = Redactor(document.secrets)

    def visit(value: Any, key: str) -> None:
        if isinstance(value, dict):
            if key == "headers":
                redactor.learn_headers({str(k): str(v) for k, v in value.items()})
            for name, item in value.items():
                visit(item, str(name))
        elif isinstance(value, list):
            for item in value:
                visit(item, key)
        elif isinstance(value, str):
            if SENSITIVE.search(key):
                redactor.learn(key, value)
            _learn_url(redactor, value)

    for section in (*KINDS, "notify"):
        visit(document.data.get(section), section)
    return redactor


def _learn_url(redactor: Redactor, text: str) -> None:
    if "://" not in text:
        return
    try:
        parts = urlsplit(text)
        secrets = [("password", parts.password), ("user", parts.username)]
    except ValueError:
        return
    for field in re.split("[&;]", parts.query):
        name, _, value = field.partition("=")
        if SENSITIVE.search(name):
            secrets.append((name, value))
    for name, secret in secrets:
        if secret and (name != "user" or parts.scheme in ("http", "https")):
            redactor.learn(name, secret)


def _warnings(probes: list[tuple[At, Planned]], file: File, document: Document) -> Iterator[Mistake]:
    """What can be run, but will not turn out as the user hopes."""
    for at, probe in probes:
        if probe.timeout > 3 * probe.every:
            times = f"timeout is {probe.timeout:g} s, every {probe.every:g} s"
            message = f"{probe.name}: {times}: a hanging target costs most runs"
            yield document.mistake(at, message)
        if probe.kind in (Kind.WRITE, Kind.AUDIT):
            for doubt in probe.spec.doubts:
                yield document.mistake(at, f"{probe.name}: {doubt}")
    if file.window.closes + file.window.soak < time.time():
        message = "the window is over: nothing would be asked"
        yield document.mistake(("window", "closes"), message)
    if file.window.baseline == 0 and file.reads:
        message = "baseline is 0: reads and meaning have nothing to compare with"
        yield document.mistake(("window",), message)
