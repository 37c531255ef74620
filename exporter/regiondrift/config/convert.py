"""What do the nodes mean? Nodes to frozen values, directed by the type hints of the options classes."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, Union

from regiondrift.config import duration, quote
from regiondrift.config.nodes import Mapping as MappingNode
from regiondrift.config.nodes import Node, Place, Scalar
from regiondrift.config.nodes import Sequence as SequenceNode
from regiondrift.config.problem import Problem
from regiondrift.model import Conninfo, Duration, RegionName, Secret, SecretFile

V = TypeVar("V")


class _Bad:
    """What a node with a problem converts to."""


BAD: Final = _Bad()


class FrozenMapping(Mapping[str, V]):
    """A mapping that cannot be changed and can be hashed, so that options that hold one can be compared."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, V]) -> None:
        self._items = dict(items)
        self._hash = hash(frozenset(self._items.items()))

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(slots=True)
class Conversion:
    """One pass over one document: what it may look at, and the problems it finds."""

    file: str
    environ: Mapping[str, str]
    regions: tuple[str, ...] | None = None
    """None: not known, so that no region can be said to be wrong."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def say(self, place: Place, message: str) -> _Bad:
        self.problems.append(Problem(self.file, place.line, place.column, message))
        return BAD

    def warn(self, place: Place, message: str) -> None:
        self.warnings.append(Problem(self.file, place.line, place.column, message))

    def convert(self, node: Node, kind: Any, name: str) -> Any:
        """The value of type `kind` that `node` means, or `BAD` after its problems were said. `name` is for messages."""
        return converter(kind)(self, node, name)

    def path(self, text: str) -> Path:
        """A path as the document means it: a relative one begins where the document lies."""
        return Path(self.file).parent / text


Converter: TypeAlias = Callable[[Conversion, Node, str], Any]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word."""
    known = sorted(known)
    # A letter's case is the likeliest slip, and the ratio does not see it.
    meant = [k for k in known if k.lower() == word.lower()] or difflib.get_close_matches(word, known, 1)
    if meant:
        return f", did you mean {meant[0]!r}?"
    return f"; there are: {', '.join(known)}" if 0 < len(known) <= 12 else ""


def shown(node: Scalar) -> str:
    """A scalar for a message: as it was written, so that no variable's value is told."""
    return repr(node.text if len(node.text) <= 60 else node.text[:57] + "...")


# ---- types, and what converts to them


@functools.cache
def options_of(kind: type) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """The keys of an options class: name to type and field."""
    hints = typing.get_type_hints(kind)
    return {f.name: (hints[f.name], f) for f in dataclasses.fields(kind) if f.init}


def required(option: dataclasses.Field[Any]) -> bool:
    return option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING


def optional(kind: Any) -> Any:
    """X of ``X | None``; None if `kind` is something else."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return None
    inner = [k for k in typing.get_args(kind) if k is not types.NoneType]
    if len(inner) != 1 or len(typing.get_args(kind)) != 2:
        raise TypeError(f"{kind} cannot be an option's type: of unions, only X | None can")
    return inner[0]


@functools.cache
def converter(kind: Any) -> Converter:
    """What converts nodes to `kind`.

    Raises:
        TypeError: options of this type are not supported.
    """
    if kind in _SCALARS:
        return _SCALARS[kind]
    if (inner := optional(kind)) is not None:
        return _optional(converter(inner))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return _literal(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(converter(arguments[0]))
    if origin is Mapping and arguments[0] is str:
        return _mapping(converter(arguments[1]))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _options(kind)
    raise TypeError(f"{kind} cannot be an option's type")


_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and node.text in _NULLS


def _found(node: Node) -> str:
    if is_null(node):
        return "found nothing"
    return {Scalar: "found text or a number", SequenceNode: "found a list", MappingNode: "found a mapping"}[type(node)]


def _optional(inner: Converter) -> Converter:
    def convert(c: Conversion, node: Node, name: str) -> Any:
        return None if is_null(node) else inner(c, node, name)

    return convert


def _list(inner: Converter) -> Converter:
    def convert(c: Conversion, node: Node, name: str) -> Any:
        if not isinstance(node, SequenceNode):
            return c.say(node.place, f"{name}: a list is needed, {_found(node)}")
        values = [inner(c, item, f"{name}[{i}]") for i, item in enumerate(node.items)]
        return BAD if any(v is BAD for v in values) else tuple(values)

    return convert


def _mapping(inner: Converter) -> Converter:
    def convert(c: Conversion, node: Node, name: str) -> Any:
        if not isinstance(node, MappingNode):
            return c.say(node.place, f"{name}: a mapping is needed, {_found(node)}")
        values = {key: inner(c, value, f"{name}.{key}") for key, (_, value) in node.entries.items()}
        return BAD if any(v is BAD for v in values.values()) else FrozenMapping(values)

    return convert


def _options(kind: type) -> Converter:
    keys = options_of(kind)
    converters = {key: converter(hint) for key, (hint, _) in keys.items()}
    needed = [key for key, (_, option) in keys.items() if required(option)]

    def convert(c: Conversion, node: Node, name: str) -> Any:
        if not isinstance(node, MappingNode):
            return c.say(node.place, f"{name}: a mapping is needed, {_found(node)}")
        missing = [key for key in needed if key not in node.entries]
        values = {}
        for key, (key_node, value) in node.entries.items():
            if key in converters:
                values[key] = converters[key](c, value, key)
                continue
            hint = did_you_mean(key, keys)
            values[key] = c.say(key_node.place, f"unknown key {shown(key_node)}{hint}")
            # A required key that was only misspelt is one mistake, not two.
            missing = [m for m in missing if f" {m!r}?" not in hint]
        for key in missing:
            c.say(node.place, f"{name}: the key {key!r} is missing")
        bad = any(v is BAD for v in values.values()) or not values.keys() >= set(needed)
        return BAD if bad else kind(**values)

    return convert


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    plain: bool
    """Not quoted, or made by a variable, whose value has no quotes: may be a number or a truth value."""


def _text(c: Conversion, node: Node, name: str, what: str = "text") -> _Text | _Bad:
    if not isinstance(node, Scalar):
        return c.say(node.place, f"{name}: {what} is needed, {_found(node)}")
    if is_null(node):
        hint = f" (quote it if the text {node.text!r} is meant)" if node.text else ""
        return c.say(node.place, f"{name}: {what} is needed, found nothing{hint}")
    try:
        text = quote.replace(node.text, c.environ)
    except quote.ReplacementError as error:
        for message in error.messages:
            c.say(node.place, f"{name}: {message}")
        return BAD
    return _Text(text, node.plain or text != node.text)


def _as_text(make: Callable[[str], Any]) -> Converter:
    def convert(c: Conversion, node: Node, name: str) -> Any:
        found = _text(c, node, name)
        return make(found.text) if isinstance(found, _Text) else BAD

    return convert


def _parsed(parse: Callable[[str], Any], what: str, *, quoted_too: bool = False) -> Converter:
    """Of scalars that `parse` takes, which raises ValueError with what is wrong."""

    def convert(c: Conversion, node: Node, name: str) -> Any:
        found = _text(c, node, name, what)
        if not isinstance(found, _Text) or not isinstance(node, Scalar):
            return BAD
        if not (found.plain or quoted_too):
            return c.say(node.place, f"{name}: {what} is needed, without quotes")
        try:
            return parse(found.text)
        except ValueError as error:
            return c.say(node.place, f"{name}: {shown(node)}: {error}")

    return convert


def _literal(allowed: tuple[Any, ...]) -> Converter:
    words = {str(a): a for a in allowed}

    def convert(c: Conversion, node: Node, name: str) -> Any:
        found = _text(c, node, name)
        if not isinstance(found, _Text) or not isinstance(node, Scalar):
            return BAD
        if not found.plain and not isinstance(words.get(found.text, ""), str):
            return c.say(node.place, f"{name}: {found.text} is needed without quotes")
        if found.text not in words:
            return c.say(node.place, f"{name}: {shown(node)} is not possible{did_you_mean(found.text, words)}")
        return words[found.text]

    return convert


def _conninfo(c: Conversion, node: Node, name: str) -> Any:
    if not isinstance(node, Scalar) or is_null(node):
        return c.say(node.place, f"{name}: a connection string is needed, {_found(node)}")
    try:
        return Conninfo(quote.conninfo(node.text, c.environ))
    except quote.ReplacementError as error:
        for message in error.messages:
            c.say(node.place, f"{name}: {message}")
        return BAD


def _region(c: Conversion, node: Node, name: str) -> Any:
    found = _text(c, node, name, "a region")
    if not isinstance(found, _Text) or not isinstance(node, Scalar):
        return BAD
    if c.regions is not None and found.text not in c.regions:
        hint = did_you_mean(found.text, c.regions)
        return c.say(node.place, f"{name}: {shown(node)} is none of the regions{hint}")
    return RegionName(found.text)


def _secret_file(c: Conversion, node: Node, name: str) -> Any:
    found = _text(c, node, name, "a path")
    if not isinstance(found, _Text):
        return BAD
    if not found.text:
        return c.say(node.place, f"{name}: a path is needed, found nothing")
    path = c.path(found.text)
    # Only asked for, never opened: it may be a pipe, and opening would wait for the other end.
    if not path.exists():
        c.warn(node.place, f"{name}: the file does not exist")
    elif path.is_dir() or not os.access(path, os.R_OK):
        c.warn(node.place, f"{name}: the file cannot be read")
    return SecretFile(str(path))


_INTEGER: Final = re.compile("[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("not a number")
    return float(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false") or text not in (text.lower(), text.upper(), text.capitalize()):
        raise ValueError("true or false is needed" + (", and nothing else stands for them" if text else ""))
    return text.lower() == "true"


_SCALARS: Final[dict[Any, Converter]] = {
    str: _as_text(str),
    int: _parsed(_integer, "a whole number"),
    float: _parsed(_float, "a number"),
    bool: _parsed(_boolean, "true or false"),
    Duration: _parsed(lambda text: Duration(duration.seconds(text)), "a duration", quoted_too=True),
    RegionName: _region,
    Secret: _as_text(Secret),
    Conninfo: _conninfo,
    SecretFile: _secret_file,
}
