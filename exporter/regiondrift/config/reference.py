"""What can be configured, for people? Tables of every key, from the definitions that `load` validates by.

``python -m regiondrift.config.reference FILE`` renews the tables between the marks of a Markdown file.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from regiondrift.catalog import Catalog
from regiondrift.config.convert import optional, options_of, required
from regiondrift.config.document import Document
from regiondrift.model import Conninfo, Duration, RegionName, Secret, SecretFile

BEGIN: Final = "<!-- begin: made by python -m regiondrift.config.reference -->"
END: Final = "<!-- end -->"

_WORDS: Final[dict[Any, str]] = {
    str: "text",
    RegionName: "region",
    SecretFile: "path",
    Secret: "secret text",
    Conninfo: "connection string",
    Duration: "duration",
    int: "whole number",
    float: "number",
    bool: "true or false",
}


def reference(catalog: Catalog) -> str:
    """The tables of the document and of every collector of `catalog`, as Markdown; imports them all."""
    parts = [*_tables("Top level", "", Document)]
    for name in catalog.names():
        parts += _tables(f"`{name}`", f"{name}[]", catalog.load(name).options)
    return "\n\n".join(parts)


def renewed(text: str, catalog: Catalog) -> str:
    """`text` with the tables between the marks made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n\n{reference(catalog)}\n\n{END}{after}"


def _tables(title: str, path: str, kind: type) -> Iterator[str]:
    rows = [f"### {title}", ""] if title else []
    rows += ["| key | value | default | what it is |", "|---|---|---|---|"]
    inner: list[tuple[str, type]] = []
    for key, (hint, option) in options_of(kind).items():
        word, nested = _word(hint)
        where = f"{path}.{key}" if path else key
        if nested is not None:
            inner.append((where + ("[]" if word.startswith("list") else ""), nested))
        meaning = option.metadata.get("help", "")
        if example := option.metadata.get("example"):
            meaning += f" Example: `{example}`"
        rows.append(f"| `{key}` | {word} | {_default(option)} | {meaning.replace('|', chr(92) + '|')} |")
    yield "\n".join(rows)
    for where, nested in inner:
        yield from _tables(f"`{where}`", where, nested)


def _default(option: dataclasses.Field[Any]) -> str:
    if required(option):
        return "**required**"
    plain = isinstance(option.default, str | int | float)
    return f"`{str(option.default).lower() if isinstance(option.default, bool) else option.default}`" if plain else ""


def _word(kind: Any) -> tuple[str, type | None]:
    """What to write for a value of `kind`, and the options class within it."""
    if kind in _WORDS:
        return _WORDS[kind], None
    if (inner := optional(kind)) is not None:
        return _word(inner)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments), None
    if origin in (tuple, Mapping):
        word, nested = _word(arguments[0] if origin is tuple else arguments[1])
        return (f"list of {word}s" if origin is tuple else f"{word} by name"), nested
    return "mapping", kind


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renewed(file.read_text(encoding="utf-8"), Catalog()), encoding="utf-8")
