"""YAML with the place of every value. Timestamps stay text, keys are unique, `${NAME}` is the environment's.

Knows nothing of windows; a mistake is reported with the line and column where it stands.
"""

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from monitor.errors import ConfigError, Mistake

Path = tuple[str | int, ...]
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
RESERVED = frozenset({"canary", "canary_uuid", "canary_int"})
_SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST = 100_000
"""Nodes after aliases are followed: a file that grows beyond this is an attack or an accident."""
DEEPEST = 60


@dataclass(slots=True)
class Document:
    """Plain values, where each stands, and the secrets that came in from the environment."""

    file: str
    data: Any = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, path: Path, message: str) -> Mistake:
        """A mistake at the deepest known place along `path`."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        return Mistake(file=self.file, line=line, column=column, message=message)


def load(text: str, file: str, environment: Mapping[str, str] | None = None) -> Document:
    """Read `text`. Raises ConfigError when it is no YAML; other mistakes are left in the document."""
    document = Document(file=file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            node = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError([_at(file, mark, str(error.problem or error.context))]) from None
    except RecursionError:
        raise ConfigError([_at(file, None, "the file is nested too deeply")]) from None
    except (YAMLError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError([_at(file, None, f"no YAML: {said}")]) from None
    reader = _Reader(document, os.environ if environment is None else environment)
    document.data = reader.value(node, ()) if node is not None else None
    return document


def _at(file: str, mark: Any, message: str) -> Mistake:
    if mark is None:
        return Mistake(file=file, line=1, column=1, message=message)
    return Mistake(file=file, line=mark.line + 1, column=mark.column + 1, message=message)


class _Reader:
    """Turns nodes into values and remembers where they stood."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self._read = 0

    def value(self, node: Node, path: Path) -> Any:
        self._read += 1
        mark = node.start_mark
        self._document.places.setdefault(path, (mark.line + 1, mark.column + 1))
        if self._read > LARGEST or len(path) > DEEPEST:
            raise ConfigError(
                [
                    _at(
                        self._document.file,
                        mark,
                        "the file is too large or too deep once aliases are followed",
                    )
                ]
            )
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._complain(key_node, "a key must be a plain text")
                continue
            key = str(key_node.value)
            if key in found:
                self._complain(key_node, f"{key!r} stands here twice")
                continue
            mark = key_node.start_mark
            self._document.places[*path, key] = (mark.line + 1, mark.column + 1)
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: Node) -> Any:
        text = str(node.value)
        kind = str(node.tag).rsplit(":", 1)[-1]
        plain = isinstance(node, ScalarNode) and node.style is None
        if plain and kind == "null":
            return None
        if plain and kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if plain and kind == "int" and re.fullmatch(r"[-+]?[0-9]{1,300}", text):
            return int(text)
        if plain and kind == "float" and re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?", text):
            return float(text)
        if _SURROGATE.search(text):
            self._complain(node, "half a character (a lone surrogate) stands here")
            return ""
        return VARIABLE.sub(lambda found: self._variable(found, node), text)

    def _variable(self, found: re.Match[str], node: Node) -> str:
        name = found[1]
        if name in RESERVED:
            return found[0]
        value = self._environment.get(name)
        if value is None:
            self._complain(node, f"the environment has no variable {name}")
            return ""
        if _SURROGATE.search(value):
            self._complain(node, f"the environment's {name} is no UTF-8")
            return ""
        self._document.secrets[name] = value
        return value

    def _complain(self, node: Node, message: str) -> None:
        self._document.mistakes.append(_at(self._document.file, node.start_mark, message))
