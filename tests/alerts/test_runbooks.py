"""Do the commands of the runbooks work? Their SQL runs on a real pair, their amtool lines on a real Alertmanager."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.alertmanager import alertmanager, amtool
from servers.postgresql import Pair, Server, pair

RUNBOOKS = Path(__file__).parents[2] / "alerts" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))

pytestmark = pytest.mark.servers


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


WITH_SQL = [page for page in PAGES if _blocks(page, "sql")]
SILENCES = {
    page.stem: line
    for page in PAGES
    for block in _blocks(page, "sh")
    for line in block.splitlines()
    if "silence add" in line
}


@pytest.fixture(scope="module")
def regions() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.mark.parametrize("page", WITH_SQL, ids=lambda page: page.stem)
def test_the_sql_of_a_runbook_runs_where_it_says(page: Path, regions: Pair) -> None:
    where: dict[str, tuple[Server, ...]] = {
        "-- on the source": (regions.primary,),
        "-- on the replica": (regions.standby,),
        "-- on each node": regions.servers,
    }
    for block in _blocks(page, "sql"):
        place, *statements = block.strip().splitlines()
        for server in where[place]:
            for statement in statements:
                if statement == "SELECT pg_wal_replay_resume();":
                    server.pause()
                server.execute(statement)


def test_every_page_but_the_watchdogs_tells_how_to_silence_it() -> None:
    assert {page.stem for page in PAGES} - SILENCES.keys() == {"RegiondriftWatchdog"}


def test_the_silences_of_the_runbooks_are_understood() -> None:
    with alertmanager("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n") as running:
        for name, line in SILENCES.items():
            _, *arguments = shlex.split(line)
            added = amtool(f"--alertmanager.url={running.url}", *arguments, "--author=test")
            assert added.returncode == 0, f"{name}: {added.stdout}{added.stderr}"
