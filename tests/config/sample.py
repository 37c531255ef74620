"""What do the tests configure? A small collector with every type of option, and a document that uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from regiondrift.catalog import Catalog
from regiondrift.config import Configuration, ConfigurationError, load
from regiondrift.model import (
    Collector,
    Conninfo,
    Duration,
    EntryOptions,
    Kept,
    Link,
    Look,
    Objectives,
    RegionName,
    Secret,
    SecretFile,
    Target,
    option,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    name: str = option("Name of the member.")
    region: RegionName = option("Region that it stands in.")
    conninfo: Conninfo | None = option("Where to connect to.", default=None, example="host=db")
    password_file: SecretFile | None = option("File with the password.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingOptions(EntryOptions):
    recovery_point: Duration | None = option("Objective.", default=None, example="30s")
    members: tuple[Member, ...] = option("The members.", example="[{name: a, region: here}]")
    note: str | None = option("Any text.", default=None)
    token: Secret | None = option("A secret.", default=None)
    mode: Literal["sync", "async"] = option("How it replicates.", default="async")
    retries: int = option("A number.", default=3)
    weight: float | None = option("Another number.", default=None)
    strict: bool = option("A switch.", default=False)
    labels: Mapping[str, str] | None = option("Texts by name.", default=None)

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        if not self.members:
            yield ("members",), "at least one member is needed"
        for i, member in enumerate(self.members):
            if member.name == "forbidden":
                yield ("members", i, "name"), "this name is taken"
        if self.retries < 0:
            yield ("retries",), "cannot be negative"
        if self.note == "raise":
            raise RuntimeError("hunter2")


def plan(options: Any, objectives: Objectives) -> tuple[tuple[Target, ...], Link | None]:
    targets = tuple(Target(options.name, m.name, m.region, m) for m in options.members)
    return targets, Link("thing", options.recovery_point or objectives.recovery_point)


async def look(target: Target, kept: Kept) -> Look:
    raise NotImplementedError


COLLECTOR = Collector("thing", ThingOptions, plan, look, interval=7.0, timeout=3.0)


class Point:
    """As much of an entry point as the catalog asks for; counts how often it is imported."""

    def __init__(self, collector: Collector | ImportError) -> None:
        self.value = "things:COLLECTOR"
        self.loads = 0
        self._collector = collector

    def load(self) -> Collector:
        self.loads += 1
        if isinstance(self._collector, ImportError):
            raise self._collector
        return self._collector


def catalog(**points: Point) -> Catalog:
    return Catalog(cast("Any", points or {"thing": Point(COLLECTOR)}))


HEAD = "version: 1\nregions: [here, there]\n"
ENTRY = HEAD + "thing:\n  - name: orders\n    members: [{name: a, region: here}]\n"


def read(tmp_path: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> Configuration:
    file = tmp_path / "regiondrift.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file, catalog(), environ or {})


def problems(tmp_path: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with `text`, each as ``LINE:COLUMN: message``; empty if nothing is."""
    try:
        read(tmp_path, text, environ)
    except ConfigurationError as error:
        return [f"{p.line}:{p.column}: {p.message}" for p in error.problems]
    return []


def entry(tmp_path: Path, more: str, environ: Mapping[str, str] | None = None) -> ThingOptions | list[str]:
    """The options of an entry with the lines `more` (from line 6 on), or what is wrong with it."""
    seen: list[ThingOptions] = []

    def remember(options: Any, objectives: Objectives) -> tuple[tuple[Target, ...], Link | None]:
        seen.append(options)
        return plan(options, objectives)

    spy = Collector("thing", ThingOptions, remember, look)
    file = tmp_path / "regiondrift.yaml"
    file.write_text(ENTRY + "".join(f"    {line}\n" for line in more.splitlines()))
    try:
        load(file, catalog(thing=Point(spy)), environ or {})
    except ConfigurationError as error:
        return [f"{p.line}:{p.column}: {p.message}" for p in error.problems]
    return seen[0]
