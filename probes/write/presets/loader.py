"""Writes over HTTP that are known by name: path, body, refusal, read-back and undo, from one file each.

A preset is data: `presets/NAME.yaml` holds an entry of `window.yaml` with `${parameter}` in it. An entry that
names one becomes an ordinary write over HTTP, and whatever the user says beside it stands. Knows no store.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)

from probes.jsonpath import JsonPath
from probes.refusal import Pattern, Refusal, Statuses
from probes.request import PLACEHOLDER, Headers, Url
from probes.shown import shown
from probes.tools import Tools
from probes.write.http import HttpTarget, ReadBack, Undo, WriteSpec
from probes.write.target import Target, WriteBase

LARGEST_VECTOR = 65_536
"""Dimensions: Qdrant takes no more, and others take fewer."""
_PARAMETER = re.compile(r"\$\{([a-z_]+)\}")


def _base(url: str) -> str:
    if "?" in url or "#" in url:
        raise ValueError("an address that paths are added to has no query and no fragment")
    return url.rstrip("/")


def _vector(value: object) -> object:
    """A size, a vector, or such by name; the values themselves are left as they are."""
    by_name = value if isinstance(value, Mapping) and value else {"": value}
    for each in by_name.values():
        if isinstance(each, list) and each and all(_is_number(part) for part in each):
            continue
        if isinstance(each, int) and _is_number(each) and 1 <= each <= LARGEST_VECTOR:
            continue
        raise ValueError(
            f"{shown(str(each))} is no vector: give a number of dimensions from 1 to {LARGEST_VECTOR}, "
            "a list of numbers, or such by name"
        )
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SIZE = {"type": "integer", "minimum": 1, "maximum": LARGEST_VECTOR}
_VECTOR = {"anyOf": [_SIZE, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}
_NAMED = {"type": "object", "additionalProperties": _VECTOR, "minProperties": 1}
TYPES: Mapping[str, Any] = {
    "url": Annotated[Url, AfterValidator(_base)],
    "address": Url,
    "text": Annotated[str, Field(min_length=1)],
    "key": str,
    "mapping": dict[str, Any],
    "vector": Annotated[
        Any, BeforeValidator(_vector), WithJsonSchema({"anyOf": [*_VECTOR["anyOf"], _NAMED]})
    ],
    "path": JsonPath,
    "pattern": Pattern,
}
"""`url`: paths are added to it. `address`: asked as it stands. `key`: a text whose slashes stay slashes in a
path. `vector`: a vector, its number of dimensions, or such by name."""


class Parameter(BaseModel):
    """One thing that a preset must be told, or may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["url", "address", "text", "key", "mapping", "vector", "path", "pattern"]
    default: Any = None
    """null: where it is not given, the key whose whole value it is is left out."""
    meaning: Annotated[str, Field(min_length=3)]

    @property
    def required(self) -> bool:
        """No default is stated."""
        return "default" not in self.model_fields_set


class Preset(BaseModel):
    """What a file holds. `http` to `variants` are as in `window.yaml`, with `${parameter}` in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: Annotated[str, Field(min_length=3)]
    parameters: dict[str, Parameter]
    http: dict[str, Any]
    refusal: dict[str, Any]
    read_back: dict[str, Any]
    undo: dict[str, Any]
    variants: bool = True

    def filled(
        self, values: Mapping[str, Any], headers: Mapping[str, str], verify: bool | str
    ) -> dict[str, Any]:
        """The entry, with `values` in it, and the user's headers and authorities on every request."""
        entry = {name: getattr(self, name) for name in ("http", "refusal", "read_back", "undo", "variants")}
        whole: dict[str, Any] = _Filling(self.parameters, values).item(entry, "")
        for request in (whole["http"], whole["read_back"].get("http"), whole["undo"].get("http")):
            if request is not None:
                request["headers"] = _over(request.get("headers", {}), headers)
                request["verify"] = verify
        return whole


def _over(stated: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` over those that the preset states, whatever the case of their names."""
    taken = {name.lower() for name in headers}
    return {name: value for name, value in stated.items() if name.lower() not in taken} | dict(headers)


class _Filling:
    """Puts values where their placeholders stand: as they are in JSON, quoted in a URL, as text in a body."""

    def __init__(self, parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._values = values

    def item(self, item: Any, key: str) -> Any:
        """`item`, which stands at `key`, with every value in its place."""
        if isinstance(item, Mapping):
            return {
                self.item(name, ""): self.item(inner, str(name))
                for name, inner in item.items()
                if not self._left_out(inner)
            }
        if isinstance(item, list):
            return [self.item(inner, "") for inner in item]
        if not isinstance(item, str):
            return item
        whole = _PARAMETER.fullmatch(item)
        if whole and key not in ("url", "body") and whole[1] in self._parameters:
            return self._plain(whole[1])
        written: Callable[[str], str] = self._in_url if key == "url" else self._as_text
        return _PARAMETER.sub(lambda found: self._known(found, written), item)

    def _left_out(self, item: Any) -> bool:
        whole = _PARAMETER.fullmatch(item) if isinstance(item, str) else None
        return whole is not None and whole[1] in self._parameters and self._values[whole[1]] is None

    def _known(self, found: re.Match[str], written: Callable[[str], str]) -> str:
        return written(found[1]) if found[1] in self._parameters else found[0]

    def _plain(self, name: str) -> Any:
        value = self._values[name]
        return _as_vectors(value) if self._parameters[name].type == "vector" else value

    def _as_text(self, name: str) -> str:
        value = self._plain(name)
        return str(value) if isinstance(value, str) else json.dumps(value)

    def _in_url(self, name: str) -> str:
        text, kind = self._as_text(name), self._parameters[name].type
        if kind in ("url", "address"):
            return text
        parts = PLACEHOLDER.split(text)
        safe = "/" if kind == "key" else ""
        return "".join(
            "${" + part + "}" if number % 2 else quote(part, safe=safe) for number, part in enumerate(parts)
        )


def _as_vectors(value: Any) -> Any:
    """A number of dimensions as a vector of length 1: some stores take no vector of length 0."""
    if isinstance(value, Mapping):
        return {name: _as_vectors(inner) for name, inner in value.items()}
    return [1.0, *[0.0] * (value - 1)] if isinstance(value, int) else value


class PresetSpec(WriteBase):
    """One write surface that a preset describes, and what the user says otherwise."""

    preset: ClassVar[str]
    """Its name, which is that of the field with its parameters."""

    headers: Headers = Field(default={}, repr=False)
    """On each of the preset's requests, over those that it states."""
    verify: bool | str = True
    """False to accept any certificate; a path to trust that file's authorities."""
    refusal: Refusal | None = None
    read_back: ReadBack | None = None
    undo: Undo | None = None
    queued: Statuses | None = None
    variants_: bool | None = Field(default=None, alias="variants")
    _write: WriteSpec = PrivateAttr()

    @model_validator(mode="after")
    def _becomes_a_write(self) -> "PresetSpec":
        preset, told = presets()[self.preset], getattr(self, self.preset)
        values = {name: getattr(told, name) for name in preset.parameters}
        entry = preset.filled(values, self.headers, self.verify)
        own = {name: getattr(self, name) for name in ("refusal", "read_back", "undo", "queued")}
        entry |= {name: value for name, value in own.items() if value is not None}
        if self.variants_ is not None:
            entry["variants"] = self.variants_
        try:
            self._write = WriteSpec(**entry, surface=self.surface, control=self.control)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ValueError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}") from None
        return self

    @property
    def write(self) -> WriteSpec:
        """The write over HTTP that it is."""
        return self._write

    @property
    def verified(self) -> bool:
        """As the write over HTTP."""
        return self._write.verified

    @property
    def undoable(self) -> bool:
        """As the write over HTTP."""
        return self._write.undoable

    @property
    def beside(self) -> list[tuple[str, WriteBase, float]]:
        """As the write over HTTP."""
        return self._write.beside

    @property
    def doubts(self) -> list[str]:
        """As the write over HTTP."""
        return self._write.doubts


@cache
def presets() -> Mapping[str, Preset]:
    """Every preset by name, read from the files beside this module. Raises for one that is no preset."""
    from ruamel.yaml import YAML

    folder = resources.files("probes.write").joinpath("presets")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda f: f.name)
    read = YAML(typ="safe", pure=True)
    return {
        file.name.removesuffix(".yaml"): Preset.model_validate(read.load(file.read_text("utf-8")))
        for file in files
    }


def preset_specs() -> dict[str, type[PresetSpec]]:
    """How an entry of each preset is configured, by the preset's name."""
    return {name: _spec(name, preset) for name, preset in presets().items()}


def _spec(name: str, preset: Preset) -> type[PresetSpec]:
    fields: dict[str, Any] = {key: _field(parameter) for key, parameter in preset.parameters.items()}
    title = name.title().replace("_", "")
    told: Any = create_model(
        f"{title}Parameters",
        __config__=ConfigDict(extra="forbid", frozen=True),
        __doc__=preset.about,
        **fields,
    )
    whole: dict[str, Any] = {name: (told, ...)}
    made = create_model(f"{title}Spec", __base__=PresetSpec, __doc__=preset.about, **whole)
    made.preset = name
    return made


def _field(parameter: Parameter) -> tuple[Any, Any]:
    kind, about = TYPES[parameter.type], parameter.meaning
    shows = parameter.type in ("url", "address", "vector")
    if parameter.required:
        return kind, Field(description=about, repr=shows)
    if parameter.default is None:
        return kind | None, Field(default=None, description=about, repr=shows)
    return kind, Field(default=parameter.default, validate_default=True, description=about, repr=shows)


def preset_target(spec: WriteBase, timeout: float, tools: Tools) -> Target:
    """What a preset writes to: as any write over HTTP, or other spellings of it."""
    write = spec.write if isinstance(spec, PresetSpec) else spec
    if not isinstance(write, WriteSpec):
        raise TypeError(f"{type(write).__name__} is no write over HTTP")
    return HttpTarget(
        write, timeout=timeout, transport=tools.transport, agent=tools.agent, closes=tools.closes
    )
