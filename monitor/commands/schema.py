"""schema: the JSON schemas of `window.yaml` and of everything that is printed for machines."""

import json
from importlib import resources
from typing import Any

from monitor.commands.common import print_json
from monitor.errors import UsageError
from monitor.notify.kinds import NOTIFIERS
from monitor.plan import Common, File
from probes.kinds import KINDS

PRINTED = ("event", "report", "gate", "alert")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> int:
    """Print one schema."""
    print_json(schema_of(name))
    return 0


def schema_of(name: str) -> dict[str, Any]:
    """The schema called `name`. Raises UsageError for an unknown one."""
    if name == "window":
        return _window()
    if name in PRINTED:
        text = resources.files("monitor.schemas").joinpath(f"{name}.json").read_text("utf-8")
        loaded: dict[str, Any] = json.loads(text)
        return loaded
    raise UsageError(f"unknown schema {name!r}; known: window, {', '.join(PRINTED)}")


def _window() -> dict[str, Any]:
    """The file's schema, with every kind of probe and notifier in its section; for editors."""
    whole = File.model_json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = whole.setdefault("$defs", {})

    def take_in(model: Any) -> dict[str, Any]:
        part: dict[str, Any] = model.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
        definitions.update(part.pop("$defs", {}))
        return part

    common = take_in(Common)
    for section, kinds in KINDS.items():
        entries = []
        for kind in kinds.values():
            entry = take_in(kind.spec)
            entry["properties"] = {**common["properties"], **entry["properties"]}
            entry["required"] = [*common["required"], *entry.get("required", [])]
            entries.append(entry)
        whole["properties"][section]["items"] = {"anyOf": entries}
    whole["properties"]["notify"]["items"] = {
        "anyOf": [
            {
                "type": "object",
                "properties": {kind: take_in(spec)},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind, spec in NOTIFIERS.items()
        ]
    }
    return {"$schema": DIALECT, "title": "freezewatch window.yaml", **whole}
