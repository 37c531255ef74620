"""What does the file say, and where? YAML text to nodes that keep line, column and the text as it was written.

Scalars stay text: what ``no`` or ``1.30`` means is decided by the type that is wanted (`regiondrift.config.convert`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

MAX_DEPTH: Final = 50
MAX_ALIASED: Final = 100_000
"""Nodes that aliases may stand for, all together."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node begins; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    plain: bool
    """Written without quotes, and not as a block."""
    place: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: dict[str, tuple[Scalar, Node]]
    """Key to the key's own node and the value, in the order of the file."""
    place: Place


Node: TypeAlias = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is no proper YAML, or YAML that is refused here."""

    message: str
    place: Place


class UnreadableError(Exception):
    """There is no document to go on with."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.fault = Fault(message, place)


_NOT_TEXT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SURROGATE: Final = re.compile(r"\\u[dD][89abAB]")
_NEEDS_PAIRS: Final = re.compile("[\ud800-\udfff]")


def parse(text: str) -> tuple[Node, list[Fault]]:
    """The one document of `text`, and what is wrong with it but does not keep the rest from being read.

    Raises:
        UnreadableError: no YAML, no or several documents, or beyond the limits.
    """
    if wrong := _NOT_TEXT.search(text):
        before = text[: wrong.start()]
        place = Place(before.count("\n") + 1, wrong.start() - before.rfind("\n"))
        raise UnreadableError(f"the character U+{ord(wrong[0]):04X} is not allowed in YAML", place)
    composer = _Composer(text)
    try:
        node = composer.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark) if mark else Place(1, 1)
        raise UnreadableError(_what(error, text, place), place) from None
    return node, composer.faults


def _what(error: yaml.MarkedYAMLError, text: str, place: Place) -> str:
    lines = text.split("\n")
    if place.line <= len(lines) and lines[place.line - 1][place.column - 1 : place.column] == "\t":
        return "a tab: YAML is indented with spaces"
    said = ", ".join(str(part) for part in (error.context, error.problem) if part)
    if error.context_mark and error.problem_mark and error.context_mark.line != error.problem_mark.line:
        said += f" (it begins in line {error.context_mark.line + 1})"
    return f"not YAML: {said}"


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


class _Composer:
    """Nodes from parser events. PyYAML's own composer resolves types, forgets duplicates and expands without limit."""

    def __init__(self, text: str) -> None:
        # libyaml is ten times as fast, but refuses the surrogate pairs that JSON writes.
        fast = yaml.__with_libyaml__ and not _SURROGATE.search(text)
        self._parser: Any = yaml.CBaseLoader(text) if fast else yaml.BaseLoader(text)
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._aliased = 0
        self.faults: list[Fault] = []

    def document(self) -> Node:
        self._parser.get_event()
        first = self._parser.get_event()
        if isinstance(first, yaml.StreamEndEvent):
            raise UnreadableError("the file is empty", Place(1, 1))
        node, _ = self._node(self._parser.get_event(), 1)
        self._parser.get_event()
        after = self._parser.get_event()
        if not isinstance(after, yaml.StreamEndEvent):
            raise UnreadableError("a second document begins here; a configuration is one", _place(after.start_mark))
        if isinstance(node, Scalar) and node.plain and not node.text:
            raise UnreadableError("the file is empty", node.place)
        return node

    def _node(self, event: Any, depth: int) -> tuple[Node, int]:
        """The node that begins with `event`, and how many nodes it is."""
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, place)
        if depth > MAX_DEPTH:
            raise UnreadableError(f"nested more than {MAX_DEPTH} deep", place)
        # What looks like a tag or an anchor may be a password that lacks its quotes: it is not repeated.
        if event.tag is not None and event.tag != "!":
            self.faults.append(Fault("tags (!…) are not used here; put quotes around text that begins with '!'", place))
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node, size = Scalar(self._text(event.value, place), not event.style, place), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            node, size = self._sequence(place, depth)
        else:
            node, size = self._mapping(place, depth)
        if anchor is not None:
            self._anchors[anchor] = node, size
        return node, size

    def _text(self, text: str, place: Place) -> str:
        if not _NEEDS_PAIRS.search(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.faults.append(Fault("half of a surrogate pair: not a character", place))
            return ""

    def _alias(self, anchor: Any, place: Place) -> tuple[Node, int]:
        known = self._anchors.get(anchor)
        if known is None:
            what = (
                "an alias to what it stands in" if anchor in self._anchors else "an alias (*…) to no anchor before it"
            )
            raise UnreadableError(f"{what}; put quotes around text that begins with '*'", place)
        self._aliased += known[1]
        if self._aliased > MAX_ALIASED:
            raise UnreadableError(f"aliases that stand for more than {MAX_ALIASED} nodes", place)
        return known

    def _sequence(self, place: Place, depth: int) -> tuple[Sequence, int]:
        items, size = [], 1
        while not isinstance(event := self._parser.get_event(), yaml.SequenceEndEvent):
            item, n = self._node(event, depth + 1)
            items.append(item)
            size += n
        return Sequence(tuple(items), place), size

    def _mapping(self, place: Place, depth: int) -> tuple[Mapping, int]:
        entries: dict[str, tuple[Scalar, Node]] = {}
        size = 1
        while not isinstance(event := self._parser.get_event(), yaml.MappingEndEvent):
            key, k = self._node(event, depth + 1)
            value, v = self._node(self._parser.get_event(), depth + 1)
            size += k + v
            where = _place(event.start_mark)
            if not isinstance(key, Scalar):
                self.faults.append(Fault("a key must be text, this is a list or a mapping", where))
            elif key.text == "<<" and key.plain:
                self.faults.append(Fault("merge keys (<<) are not part of YAML 1.2", where))
            elif key.text in entries:
                first = entries[key.text][0].place.line
                self.faults.append(Fault(f"duplicate key {key.text!r}, it stands already in line {first}", where))
            else:
                entries[key.text] = key, value
        return Mapping(entries, place), size
