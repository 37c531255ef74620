"""Is this a configuration, and what is to be looked at? The document as a whole: file to `Configuration`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from regiondrift.catalog import Catalog, CatalogError
from regiondrift.config import convert, quote
from regiondrift.config.convert import BAD, Conversion, did_you_mean, options_of, required, shown
from regiondrift.config.nodes import Mapping as MappingNode
from regiondrift.config.nodes import Node, Place, Scalar, UnreadableError, parse
from regiondrift.config.nodes import Sequence as SequenceNode
from regiondrift.config.problem import ConfigurationError, Problem
from regiondrift.model import Collector, Duration, Objectives, Plan, option

MAX_BYTES: Final = 4 << 20
MAX_NAME: Final = 200
"""Characters of an entry's or a region's name; both become label values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectivesOptions:
    """What holds where an entry names no objective of its own."""

    recovery_point: Duration | None = option(
        "Recovery point objective: how much may be lost, as time.", default=None, example="30s"
    )
    recovery_time: Duration | None = option(
        "Recovery time objective: how long it may take until clients follow.", default=None, example="5m"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The keys of the top level beside those of the collectors."""

    version: Literal[1] = option("Version of the configuration's format.")
    regions: tuple[str, ...] = option("Names of the regions, each once.", example="[montreal, amsterdam]")
    objectives: ObjectivesOptions = option(
        "Objectives where an entry names none.", default=ObjectivesOptions(), example="{recovery_point: 30s}"
    )
    state_dir: str | None = option(
        "Directory in which recovery points outlive a restart. Default: they are kept in memory.",
        default=None,
        example="/var/lib/regiondrift",
    )


@dataclass(frozen=True, slots=True)
class Configuration:
    """A valid configuration. Equal parts of two of them are equal values, so that a reload sees what changed."""

    path: Path
    regions: tuple[str, ...]
    objectives: Objectives
    state_dir: Path | None
    plans: tuple[Plan, ...]
    digest: str
    """SHA-256 of the file, in hexadecimal."""
    warnings: tuple[Problem, ...]
    """What is allowed, but will not work as it stands: secret files that cannot be read."""


def load(path: Path, catalog: Catalog, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read and validate the file. Imports the collectors that it names, and no others.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    c = Conversion(str(path), environ)
    content = _read(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        raise _only(c, f"byte 0x{content[error.start]:02x} is not UTF-8", before.count(b"\n") + 1, column) from None
    try:
        root, faults = parse(text)
    except UnreadableError as error:
        raise _only(c, str(error), error.fault.place.line, error.fault.place.column) from None
    for fault in faults:
        c.say(fault.place, fault.message)
    configuration = _configuration(c, root, path, catalog, hashlib.sha256(content).hexdigest())
    if c.problems or configuration is None:
        raise ConfigurationError(c.problems)
    return configuration


def _only(c: Conversion, message: str, line: int = 1, column: int = 1) -> ConfigurationError:
    return ConfigurationError([Problem(c.file, line, column, message)])


def _read(path: Path) -> bytes:
    c = Conversion(str(path), {})
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _only(c, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise _only(c, f"larger than {MAX_BYTES >> 20} MiB")
    return content


def _configuration(c: Conversion, root: Node, path: Path, catalog: Catalog, digest: str) -> Configuration | None:
    if not isinstance(root, MappingNode):
        c.say(root.place, "a configuration is a mapping that begins with 'version: 1'")
        return None
    top = _top_level(c, root, catalog)
    if top["regions"] is not BAD:
        c.regions = top["regions"]
    objectives = top["objectives"]
    general = Objectives() if objectives is BAD else Objectives(objectives.recovery_point, objectives.recovery_time)
    plans: list[Plan] = []
    systems = frozenset(catalog.names())
    for key, (key_node, node) in root.entries.items():
        if key in systems and key not in options_of(Document):
            plans += _plans(c, key_node, node, catalog, general)
    if any(top[key] is BAD for key in options_of(Document)):
        return None
    return Configuration(
        path=path,
        regions=top["regions"],
        objectives=general,
        state_dir=None if top["state_dir"] is None else c.path(top["state_dir"]),
        plans=tuple(plans),
        digest=digest,
        warnings=tuple(sorted(c.warnings, key=lambda p: (p.line, p.column))),
    )


def _top_level(c: Conversion, root: MappingNode, catalog: Catalog) -> dict[str, Any]:
    keys = options_of(Document)
    known = {*keys, *catalog.names()}
    hints = ""
    for key, (key_node, _) in root.entries.items():
        if key not in known:
            hint = did_you_mean(key, known)
            c.say(key_node.place, f"unknown key {shown(key_node)}{hint}")
            hints += hint
    values: dict[str, Any] = {}
    for key, (kind, field) in keys.items():
        if key in root.entries:
            values[key] = c.convert(root.entries[key][1], kind, key)
        elif not required(field):
            values[key] = field.default
        else:
            values[key] = BAD
            if f" {key!r}?" not in hints:
                c.say(root.place, f"the key {key!r} is missing")
    if values["regions"] is not BAD and not _regions_are_sound(c, root.entries["regions"][1], values["regions"]):
        values["regions"] = BAD
    if values["state_dir"] == "":
        values["state_dir"] = c.say(
            root.entries["state_dir"][1].place, "state_dir: a directory is needed, found nothing"
        )
    return values


def _regions_are_sound(c: Conversion, node: Node, regions: tuple[str, ...]) -> bool:
    assert isinstance(node, SequenceNode)
    before = len(c.problems)
    if not regions:
        c.say(node.place, "regions: at least one region is needed")
    for i, (region, item) in enumerate(zip(regions, node.items, strict=True)):
        if wrong := _wrong_name(region):
            c.say(item.place, f"regions[{i}]: a region's name {wrong}")
        elif region in regions[:i]:
            c.say(item.place, f"regions[{i}]: a region stands in the list twice")
    return len(c.problems) == before


def _wrong_name(name: str) -> str | None:
    if not name.strip():
        return "cannot be empty"
    if len(name) > MAX_NAME:
        return f"cannot be longer than {MAX_NAME} characters"
    if any(not character.isprintable() for character in name):
        return "cannot hold control characters"
    return None


# ---- the entries of one collector


def _plans(c: Conversion, key: Scalar, node: Node, catalog: Catalog, objectives: Objectives) -> Iterable[Plan]:
    try:
        collector = catalog.load(key.text)
        options_type: Any = collector.options
        converter = convert.converter(options_type)
    except (CatalogError, TypeError) as error:
        c.say(key.place, str(error))
        return
    if not isinstance(node, SequenceNode):
        c.say(node.place, f"{key.text}: a list of entries is needed")
        return
    names: dict[str, Place] = {}
    for i, item in enumerate(node.items):
        named_twice = _named_twice(c, item, key.text, names)
        options = converter(c, item, f"{key.text}[{i}]")
        if options is BAD or named_twice:
            continue
        assert isinstance(item, MappingNode)
        before = len(c.problems)
        _check_entry(c, collector, item, options)
        if len(c.problems) == before and (plan := _plan(c, collector, item, options, objectives)):
            yield plan


def _named_twice(c: Conversion, item: Node, collector: str, names: dict[str, Place]) -> bool:
    """Looked at before the rest, so that it is said of entries with other mistakes, too."""
    name = item.entries["name"][1] if isinstance(item, MappingNode) and "name" in item.entries else None
    if not isinstance(name, Scalar) or convert.is_null(name):
        return False
    try:
        text = quote.replace(name.text, c.environ)
    except quote.ReplacementError:
        return False
    if text not in names:
        names[text] = name.place
        return False
    c.say(name.place, f"name: {collector} has an entry {shown(name)} already, in line {names[text].line}")
    return True


def _check_entry(c: Conversion, collector: Collector, item: MappingNode, options: Any) -> None:
    name = item.entries["name"][1]
    wrong = _wrong_name(options.name) or ("cannot hold '/'" if "/" in options.name else None)
    if wrong:
        c.say(name.place, f"name: an entry's name {wrong}")
    check = getattr(options, "problems", None)
    if check is None:
        return
    try:
        found = list(check())
    except Exception as error:  # noqa: BLE001  a third party's fault is this entry's problem, not a crash
        c.say(item.place, f"{collector.name} cannot check this entry: {type(error).__name__}")
        return
    for path, message in found:
        place, last = _locate(item, path)
        c.say(place, f"{last}: {message}" if last else message)


def _locate(node: Node, path: Iterable[str | int]) -> tuple[Place, str]:
    """Where a path within an entry leads, or as far as it does; and the last key on it."""
    last = ""
    for step in path:
        if isinstance(step, str):
            last = step
            if isinstance(node, MappingNode) and step in node.entries:
                node = node.entries[step][1]
                continue
        elif isinstance(node, SequenceNode) and 0 <= step < len(node.items):
            node = node.items[step]
            continue
        break
    return node.place, last


def _plan(c: Conversion, collector: Collector, item: MappingNode, options: Any, objectives: Objectives) -> Plan | None:
    try:
        targets, link = collector.plan(options, objectives)
    except Exception as error:  # noqa: BLE001  as above
        c.say(item.place, f"{collector.name} cannot plan this entry: {type(error).__name__}")
        return None
    for label, count in Counter(target.label for target in targets).items():
        if count > 1:
            c.say(item.place, f"{count} targets of this entry are called {label!r}")
    return Plan(
        collector=collector.name,
        entry=options.name,
        targets=tuple(targets),
        interval=collector.interval if options.interval is None else options.interval,
        timeout=collector.timeout if options.timeout is None else options.timeout,
        link=link,
    )
