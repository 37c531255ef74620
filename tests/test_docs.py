"""Is everything that users can meet written down, and is everything that is written down true?"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from regiondrift import cli, metric_table
from regiondrift.catalog import GROUP, Catalog
from regiondrift.config import load, schema
from regiondrift.metric_table import declared, markdown
from regiondrift.model import Kept, ProbeError, Reason, Sample, State

REPOSITORY: Final = Path(__file__).parent.parent
README: Final = REPOSITORY / "README.md"
CONTRIBUTING: Final = REPOSITORY / "CONTRIBUTING.md"
ENDPOINTS: Final = ("/metrics", "/-/healthy", "/-/ready", "/-/reload", "/api/v1/status")
HINT: Final = "not in README.md or docs/"


def documents() -> list[Path]:
    """What tells users: the README and docs/, without the decisions."""
    return [README, *(p for p in sorted((REPOSITORY / "docs").rglob("*.md")) if p.parent.name != "adr")]


def everything_written() -> list[Path]:
    """All that speaks of metrics. Names with a colon are those of recording rules."""
    places = [REPOSITORY / place for place in ("docs", "alerts", "dashboards", "deploy")]
    written = [
        p for place in places for kind in ("*.md", "*.yaml", "*.yml", "*.json") for p in sorted(place.rglob(kind))
    ]
    return [README, CONTRIBUTING, REPOSITORY / "CHANGELOG.md", *written]


@pytest.fixture(scope="module")
def told() -> str:
    return "\n".join(p.read_text("utf-8") for p in documents())


def missing(words: Iterator[str] | list[str], told: str) -> list[str]:
    return [w for w in dict.fromkeys(words) if not re.search(rf"(?<![\w.-]){re.escape(w)}(?![\w-])", told)]


# What users can type


def flags() -> Iterator[str]:
    def of(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    yield name
                    yield from of(command)
            yield from (o for o in action.option_strings if o.startswith("--") and o != "--help")

    return of(cli._parser())


def configuration_keys(part: Any = None) -> Iterator[str]:
    part = schema(Catalog()) if part is None else part
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict):
            yield from part["properties"]
            yield from (key for p in part["properties"].values() for key in configuration_keys(p))
        yield from (key for name, p in part.items() if name != "properties" for key in configuration_keys(p))
    elif isinstance(part, list):
        yield from (key for p in part for key in configuration_keys(p))


def test_every_command_and_flag_is_documented(told: str) -> None:
    assert {"serve", "--config.file", "check", "probe", "schema", "demo"} <= set(flags()), "the parser is read rightly"
    absent = missing(flags(), told)
    assert not absent, f"{HINT}: {absent}"


def test_every_endpoint_is_documented(told: str) -> None:
    absent = missing(list(ENDPOINTS), told)
    assert not absent, f"{HINT}: {absent}"


def test_the_endpoints_are_those_that_the_server_has() -> None:
    source = (REPOSITORY / "exporter/regiondrift/web/server.py").read_text("utf-8")
    assert set(re.findall(r'^ +"(/[^"]*)": ', source, re.MULTILINE)) - {"/"} == set(ENDPOINTS)


def test_every_configuration_key_is_documented(told: str) -> None:
    assert {"version", "regions", "state_dir", "postgresql", "nodes", "conninfo"} <= set(configuration_keys())
    absent = missing(configuration_keys(), told)
    assert not absent, f"{HINT}: {absent}"


# What users can see


def test_every_metric_is_documented(told: str) -> None:
    absent = missing([m.name for m in declared(Catalog())], told)
    assert not absent, f"{HINT}: {absent}"


def test_the_metric_table_is_the_one_made_from_the_declarations() -> None:
    table = metric_table.between_markers(README.read_text("utf-8"))
    assert table is not None, f"README.md has no {metric_table.BEGIN} … {metric_table.END}"
    assert table == markdown(), "run: python -m regiondrift.metric_table README.md"


def test_every_state_and_reason_is_documented(told: str) -> None:
    absent = missing([s.value for s in State] + [r.value for r in Reason], told)
    assert not absent, f"{HINT}: {absent}"


def test_no_document_names_a_metric_that_does_not_exist() -> None:
    known = {m.name for m in declared(Catalog())} | set(
        re.findall(r'^ +"(regiondrift_\w+)",$', CONTRIBUTING.read_text(), re.MULTILINE)
    )
    known |= {"regiondrift_collectors"}
    wrong = [
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in everything_written()
        for name in re.findall(r"(?<![\w/.:-])regiondrift_[a-z0-9_]*[a-z0-9](?![\w*…:])", path.read_text("utf-8"))
        if name not in known
    ]
    assert not wrong, f"no such metric: {wrong}"


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = [
        f"{path.relative_to(REPOSITORY)}: {link}"
        for path in everything_written()
        if path.suffix == ".md"
        for link in re.findall(
            r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
        )
        if "://" not in link and not (path.parent / link).exists()
    ]
    assert not broken, f"lead nowhere: {broken}"


def test_the_table_has_one_row_per_family_and_survives_its_own_replacement() -> None:
    metrics = declared(Catalog())
    table = markdown(metrics)
    assert len(table.splitlines()) == len(metrics) + 2
    document = metric_table.replaced("before\n<!-- metrics -->\nold\n<!-- /metrics -->\nafter\n", table)
    assert metric_table.between_markers(document) == table
    assert document.startswith("before\n")
    assert document.endswith("\nafter\n")
    with pytest.raises(ValueError, match="there is no"):
        metric_table.replaced("no markers", table)


# The collector of CONTRIBUTING.md


def block(marker: str, language: str) -> str:
    found = re.search(
        rf"<!-- {marker} -->\n( *)```{language}\n(.*?)\n\1```", CONTRIBUTING.read_text("utf-8"), re.DOTALL
    )
    assert found, f"CONTRIBUTING.md has no {language} block after <!-- {marker} -->"
    return "\n".join(line.removeprefix(found[1]) for line in found[2].splitlines()) + "\n"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "collector_of_contributing.py").write_text(block("collector", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("collector_of_contributing")
    del sys.modules["collector_of_contributing"]


async def test_the_collector_of_the_contributors_guide_works(theirs: ModuleType, tmp_path: Path) -> None:
    point = EntryPoint("backup", f"{theirs.__name__}:COLLECTOR", GROUP)
    catalog = Catalog({"backup": point})
    (tmp_path / "latest").write_text("a backup")
    document = block("collector configuration", "yaml").replace("/srv/backup", str(tmp_path))
    (tmp_path / "regiondrift.yaml").write_text(document)

    (plan,) = load(tmp_path / "regiondrift.yaml", catalog).plans
    assert (plan.collector, plan.entry, plan.interval) == ("backup", "nightly", 60.0)
    here, there = plan.targets
    assert (here.label, there.label) == ("nightly/montreal", "nightly/amsterdam")

    look = await catalog.load("backup").look(here, Kept())
    (sample,) = look.observations
    assert isinstance(sample, Sample)
    assert sample.labels == {"backup": "nightly", "target_region": "montreal"}
    assert sample.value == (tmp_path / "latest").stat().st_mtime
    with pytest.raises(ProbeError) as raised:
        await catalog.load("backup").look(there, Kept())
    assert raised.value.failure.reason is Reason.UNREACHABLE
    assert "regiondrift_backup_arrived_timestamp_seconds" in markdown(declared(catalog))
    theirs._disks.close()


def test_the_guides_configuration_is_in_the_schema_too(theirs: ModuleType) -> None:
    catalog = Catalog({"backup": EntryPoint("backup", f"{theirs.__name__}:COLLECTOR", GROUP)})
    assert {"copies", "path", "region"} <= set(configuration_keys(schema(catalog)))
