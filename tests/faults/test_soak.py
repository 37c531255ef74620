"""Does anything grow? Many thousand looks at full speed with faults at random: memory, descriptors, threads and tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from regiondrift.bulkhead import Bulkhead
from regiondrift.clock import Clock
from regiondrift.house import House
from regiondrift.model import (
    Collector,
    EntryOptions,
    History,
    Kept,
    Link,
    LinkState,
    Look,
    Metric,
    Plan,
    ProbeError,
    Reason,
    ReplicaPosition,
    SourcePosition,
    Target,
)
from regiondrift.render.publisher import Publisher
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled, Scheduler
from regiondrift.state import Key, StateFile, StateWriter

THINGS = Metric("regiondrift_soak_things", "Things.", ("name",))
TARGETS, LINKS = 120, 2
INTERVAL, TIMEOUT = 0.004, 0.05
WARM_UP, SOAK = 5.0, float(os.environ.get("REGIONDRIFT_TEST_SOAK", "8"))
"""Seconds; about 8,000 looks each. REGIONDRIFT_TEST_SOAK=60 is a long one."""
REASONS = [r for r in Reason if r is not Reason.AUTHENTICATION]


class World:
    """Everything of the engine but HTTP, looking at nothing at all as fast as it can."""

    def __init__(self, directory: Path) -> None:
        self.chance = random.Random(4)
        self.looks = 0
        self.position = 0
        self.collector = Collector("soak", EntryOptions, lambda options, objectives: ((), None), self.look, (THINGS,))
        self.clock, self.bulkhead = Clock(), Bulkhead()
        self.publisher = Publisher()
        state = StateFile.open(directory)
        self.state = StateWriter(state)
        self.house = House(self.clock, self.publisher, lambda key: state.load(Key(key.collector, key.entry)))
        self.scheduler = Scheduler(lambda name: self.collector, self.ended, self.clock, self.bulkhead)

    def plans(self) -> list[Plan]:
        def targets(entry: str, n: int) -> tuple[Target, ...]:
            return tuple(Target(entry, f"n{i}", "here", None, (__file__,) if i == 0 else ()) for i in range(n))

        alone = [Plan("soak", f"e{i}", targets(f"e{i}", 1), INTERVAL, TIMEOUT) for i in range(TARGETS)]
        links = [
            Plan("soak", f"l{i}", targets(f"l{i}", 3), INTERVAL, TIMEOUT, Link("soak", 30.0)) for i in range(LINKS)
        ]
        return alone + links

    def ended(self, scheduled: Scheduled, ended: Ended) -> None:
        self.looks += 1
        self.house.ended(scheduled, ended)

    async def look(self, target: Target, kept: Kept) -> Look:
        if kept.value is None:
            here, there = socket.socketpair()

            def close() -> None:
                here.close()
                there.close()

            kept.put(here, close)
        fate = self.chance.random()
        if fate < 0.01:
            await asyncio.sleep(60)
        elif fate < 0.02:
            await self.bulkhead.run(target.label, time.sleep, 0.001)
        elif fate < 0.2:
            raise ProbeError(self.chance.choice(REASONS), f"{self.chance.random()}")
        elif fate < 0.22:
            raise ValueError(f"{self.chance.random()}")
        elif fate < 0.24:
            return Look((THINGS(1, name=f"changing {self.looks % 1000}"),), notes={"n": f"{self.looks}"})
        elif fate < 0.26:
            return "junk"  # type: ignore[return-value]
        else:
            await asyncio.sleep(0)
        self.position += 1
        if target.entry.startswith("e"):
            return Look((THINGS(self.position, name=target.label),))
        history = History("7", 1)
        if target.part == "n0":
            return Look((SourcePosition(history, self.position),))
        return Look((ReplicaPosition(history, self.position - self.chance.randrange(3)), LinkState(up=True)))


def used() -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "resident": pages * os.sysconf("SC_PAGESIZE"),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - counting
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }


def written(directory: Path) -> int:
    return sum(p.stat().st_size for p in directory.iterdir())


async def lasts(world: World, seconds: float) -> None:
    """Run, render, write and reload."""
    end = time.monotonic() + seconds
    plans = world.plans()
    n = 0
    while time.monotonic() < end:
        await asyncio.sleep(0.1)
        n += 1
        for change in world.house.persist():
            world.state.put(change)
        await world.publisher.body(bool(n % 2), bool(n % 3))
        if n % 5 == 0:
            # One target goes and comes back.
            some = [p for p in plans if p.entry != f"e{n % TARGETS}"]
            for each in (some, plans):
                world.house.apply(each)
                world.scheduler.apply(each)


@pytest.fixture
def silence() -> Iterator[None]:
    """pytest keeps every record of a test, and that is what would grow."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("silence")
@pytest.mark.timeout(60 + SOAK)
async def test_nothing_grows(tmp_path: Path) -> None:
    before = used()
    world = World(tmp_path)
    world.publisher.start()
    world.house.apply(world.plans())
    world.scheduler.apply(world.plans())
    dying = asyncio.create_task(world.scheduler.run())
    await lasts(world, WARM_UP)
    warm, looks = used(), world.looks
    await lasts(world, SOAK)
    after = used()
    assert not dying.done()
    assert world.looks - looks > 500 * SOAK, "it was worth it"
    assert after["resident"] - warm["resident"] < 6 << 20
    nodes = TARGETS + 3 * LINKS
    assert after["descriptors"] <= before["descriptors"] + 2 * nodes + 10
    assert after["threads"] <= before["threads"] + 5 + nodes, "one that blocks per target at most"
    assert after["tasks"] <= before["tasks"] + 2 * nodes + 10
    assert len(world.publisher._owners) == nodes + LINKS
    # No link's memory passes its bound, and no label that was is kept.
    assert world.publisher.version.series < (5 + len(Reason)) * nodes + 100 * LINKS
    dying.cancel()
    await world.scheduler.close(2.0)
    await world.state.close(2.0)
    world.publisher.close()
    world.bulkhead.close()
    async with asyncio.timeout(5):
        while used()["threads"] > before["threads"] or used()["descriptors"] > before["descriptors"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert used()["tasks"] <= before["tasks"]
    assert written(tmp_path) < 8 << 20
