"""Which configuration is in force, and what does it take to replace it?"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regiondrift import reload as module
from regiondrift.bulkhead import Bulkhead
from regiondrift.catalog import Catalog
from regiondrift.clock import Clock
from regiondrift.config import Configuration, load
from regiondrift.filestamp import stamp
from regiondrift.reload import Reloader

GOOD = "version: 1\nregions: [montreal, amsterdam]\n"


class World:
    """A reloader of a file, and what it made effective."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.applied: list[Configuration] = []
        self.bulkhead = Bulkhead()
        catalog = Catalog()
        self.reloader = Reloader(catalog, load(file, catalog), stamp(file), self.apply, Clock(), self.bulkhead)

    async def apply(self, configuration: Configuration) -> None:
        self.applied.append(configuration)

    def write(self, text: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.file)

    def regions(self) -> tuple[str, ...]:
        return self.reloader.loaded.configuration.regions


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    file = tmp_path / "regiondrift.yaml"
    file.write_text(GOOD, encoding="utf-8")
    made = World(file)
    yield made
    made.bulkhead.close()


async def test_a_good_file_is_made_effective_and_then_in_force(world: World) -> None:
    before = world.reloader.loaded
    world.write("version: 1\nregions: [tokyo]\n")
    assert await world.reloader.reload() is None
    assert [c.regions for c in world.applied] == [("tokyo",)]
    assert world.regions() == ("tokyo",)
    assert world.reloader.loaded.at >= before.at
    assert world.reloader.loaded.error is None


@pytest.mark.parametrize(
    "text", ["", "{", "version: 2\n", GOOD + "postgresql: [{}]\n", GOOD + "nonsense: 1\n", GOOD + "mysql: []\n"]
)
async def test_a_bad_file_changes_nothing_and_says_where_it_is_wrong(world: World, text: str) -> None:
    before = world.reloader.loaded.at
    world.write(text)
    why = await world.reloader.reload()
    assert why is not None
    assert f"{world.file}:" in why
    assert world.applied == []
    assert world.regions() == ("montreal", "amsterdam")
    assert world.reloader.loaded.at == before
    assert world.reloader.loaded.error == why


async def test_a_file_that_is_gone_changes_nothing(world: World) -> None:
    world.file.unlink()
    why = await world.reloader.reload()
    assert why is not None
    assert "No such file" in why
    assert world.applied == []


async def test_a_good_file_after_a_bad_one_forgives(world: World) -> None:
    world.write("{")
    assert await world.reloader.reload()
    world.write(GOOD)
    assert await world.reloader.reload() is None
    assert world.reloader.loaded.error is None


async def test_the_same_mistake_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write("{")
    for _ in range(3):
        await world.reloader.reload()
    world.write("version: 2\n")
    await world.reloader.reload()
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 2


async def test_a_new_state_directory_waits_for_the_next_start_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(GOOD + "state_dir: /somewhere/else\n")
    assert await world.reloader.reload() is None
    assert "at the next start" in caplog.text


async def follows(world: World, monkeypatch: pytest.MonkeyPatch) -> asyncio.Task[None]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    return asyncio.create_task(world.reloader.follow())


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.005)


async def test_a_changed_file_is_followed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    following = await follows(world, monkeypatch)
    world.write("version: 1\nregions: [tokyo]\n")
    await until(lambda: world.regions() == ("tokyo",))
    world.file.write_text("version: 1\nregions: [lima]\n", encoding="utf-8")
    await until(lambda: world.regions() == ("lima",))
    assert len(world.applied) == 2
    following.cancel()


async def test_a_swapped_symlink_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes swaps ConfigMaps: the file is a link through a directory that is a link."""
    for name, region in (("one", "montreal"), ("two", "lima")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "regiondrift.yaml").write_text(f"version: 1\nregions: [{region}]\n", encoding="utf-8")
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "regiondrift.yaml").symlink_to("data/regiondrift.yaml")
    world = World(tmp_path / "regiondrift.yaml")
    following = await follows(world, monkeypatch)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    await until(lambda: world.regions() == ("lima",))
    following.cancel()
    world.bulkhead.close()


async def test_a_file_that_did_not_change_is_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(path: Path, *rest: Any) -> Configuration:
        reads.append(path)
        return load(path, *rest)

    monkeypatch.setattr(module, "load", counted)
    following = await follows(world, monkeypatch)
    await asyncio.sleep(0.1)
    assert reads == []
    world.write("{")
    await until(lambda: reads)
    await asyncio.sleep(0.1)
    assert len(reads) == 1, "a bad file is not tried again until it changes"
    following.cancel()


async def test_reading_that_hangs_is_said_and_hangs_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration on a file system that does not answer."""
    release = threading.Event()

    def hang(path: Path, *rest: Any) -> Configuration:
        release.wait(10)
        return load(path, *rest)

    monkeypatch.setattr(module, "load", hang)
    first = asyncio.create_task(world.reloader.reload())
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    why = await world.reloader.reload()
    assert why is not None
    assert "has not returned yet" in why
    assert world.regions() == ("montreal", "amsterdam")
    release.set()


async def test_two_reloads_at_once_come_one_after_the_other(world: World) -> None:
    world.write("version: 1\nregions: [tokyo]\n")
    assert await asyncio.gather(*(world.reloader.reload() for _ in range(10))) == [None] * 10
    assert len(world.applied) == 10
