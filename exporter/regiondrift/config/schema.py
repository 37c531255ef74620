"""What may an editor offer? The configuration as JSON Schema, from the definitions that `load` validates by."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal

import yaml

from regiondrift.catalog import Catalog, CatalogError
from regiondrift.config import duration
from regiondrift.config.convert import optional, options_of, required
from regiondrift.config.document import Document
from regiondrift.model import Conninfo, Duration, RegionName, Secret, SecretFile

_VARIABLE: Final = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}
# To an editor an unquoted 1.30 is a number, while we keep it as text.
_TEXT: Final[dict[str, Any]] = {"type": ["string", "number", "boolean"]}

_SCALARS: Final[dict[Any, dict[str, Any]]] = {
    str: _TEXT,
    RegionName: _TEXT,
    SecretFile: {"type": "string", "minLength": 1},
    Secret: _TEXT,
    Conninfo: {"type": "string"},
    Duration: {"type": "string", "pattern": rf"^(?=[0-9])(?:{duration.PATTERN})$|{_VARIABLE['pattern']}"},
    int: {"anyOf": [{"type": "integer"}, _VARIABLE]},
    float: {"anyOf": [{"type": "number"}, _VARIABLE]},
    bool: {"anyOf": [{"type": "boolean"}, _VARIABLE]},
}


def schema(catalog: Catalog) -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of a configuration with the collectors of `catalog`; imports them all.

    It knows the shape; that regions exist or names are unique, only `load` can tell.
    """
    document = _options(Document)
    for name in catalog.names():
        try:
            collector = catalog.load(name)
        except CatalogError as error:
            document["properties"][name] = {"type": "array", "description": f"Not installed: {error}"}
            continue
        entries = {"type": "array", "items": _options(collector.options)}
        document["properties"][name] = {"description": f"What is to be looked at of {name}.", **entries}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of regiondrift",
        **document,
    }


def _options(kind: type) -> dict[str, Any]:
    properties = {}
    for key, (hint, option) in options_of(kind).items():
        properties[key] = {"description": option.metadata.get("help", ""), **_value(hint)}
        if isinstance(option.default, str | int | float | bool):
            properties[key]["default"] = option.default
        if example := option.metadata.get("example"):
            properties[key]["examples"] = [yaml.safe_load(example) if example[0] in "[{" else example]
    needed = [key for key, (_, option) in options_of(kind).items() if required(option)]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }


def _value(kind: Any) -> dict[str, Any]:
    if kind in _SCALARS:
        return dict(_SCALARS[kind])
    if (inner := optional(kind)) is not None:
        return {"anyOf": [_value(inner), {"type": "null"}]}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _value(arguments[1])}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _options(kind)
    raise TypeError(f"{kind} cannot be an option's type")
