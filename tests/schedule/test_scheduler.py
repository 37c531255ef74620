"""When targets are looked at, in virtual time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from regiondrift.clock import Clock
from regiondrift.model import Collector, EntryOptions, Kept, Look, Plan, ProbeError, Reason, Target
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled, Scheduler, offset

pytestmark = pytest.mark.looptime


class Inline:
    """In the place of the bulkhead: virtual time does not wait for real threads."""

    async def run(self, key: str, function: Any, *args: Any) -> Any:
        return function(*args)


class World:
    """A scheduler, what it looked at and when, and how looks are to end."""

    def __init__(self) -> None:
        self.looks: dict[str, list[float]] = defaultdict(list)
        self.ended: list[tuple[str, Ended]] = []
        self.takes: dict[str, float] = {}
        self.fails: dict[str, Reason] = {}
        self.opened: list[str] = []
        collector = Collector("test", EntryOptions, lambda options, objectives: ((), None), self.look)
        self.scheduler = Scheduler(lambda name: collector, self.sink, Clock(), Inline())  # type: ignore[arg-type]

    async def look(self, target: Target, kept: Kept) -> Look:
        name = target.label
        self.looks[name].append(asyncio.get_running_loop().time())
        if kept.value is None:
            self.opened.append(name)
            kept.put("connection", lambda: None)
        await asyncio.sleep(self.takes.get(name, 0.01))
        if name in self.fails:
            raise ProbeError(self.fails[name], "as the test says")
        return Look(())

    def sink(self, scheduled: Scheduled, ended: Ended) -> None:
        self.ended.append((scheduled.target.label, ended))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.scheduler.close(1.0)


def plan(entry: str, n: int, interval: float = 15.0, timeout: float = 10.0, files: tuple[str, ...] = ()) -> Plan:
    return Plan("test", entry, tuple(Target(entry, f"n{i}", "r", None, files) for i in range(n)), interval, timeout)


async def test_the_first_looks_of_a_hundred_targets_start_within_half_a_second(world: World) -> None:
    world.scheduler.apply([plan("e", 100)])
    await asyncio.sleep(0.5)
    assert len(world.looks) == 100


async def test_the_first_looks_of_more_start_at_two_hundred_a_second(world: World) -> None:
    world.scheduler.apply([plan("e", 1000, interval=100)])
    await asyncio.sleep(2.001)
    assert 395 <= len(world.looks) <= 405
    await asyncio.sleep(3)
    assert len(world.looks) == 1000


async def test_later_looks_are_spread_over_the_interval_and_keep_their_rhythm(world: World) -> None:
    world.scheduler.apply([plan("e", 200, interval=10)])
    await asyncio.sleep(60)
    second = [times[1] for times in world.looks.values()]
    assert max(second) - min(second) > 8
    for times in world.looks.values():
        gaps = [b - a for a, b in pairwise(times[1:])]
        assert gaps
        assert all(9.5 < gap < 10.5 for gap in gaps)


async def test_an_offset_is_the_same_after_every_restart() -> None:
    one = Scheduled("postgresql", Target("orders", "ymq-1", "montreal", None), 15.0, 10.0)
    assert offset(one) == offset(Scheduled("postgresql", Target("orders", "ymq-1", "elsewhere", 1), 5.0, 1.0))
    assert 0 <= offset(one) < 1


async def test_a_slow_target_is_never_looked_at_twice_at_once_and_holds_up_nobody(world: World) -> None:
    world.takes["e/n0"] = 7.0
    world.scheduler.apply([plan("e", 2, interval=5)])
    await asyncio.sleep(60)
    slow, quick = world.looks["e/n0"], world.looks["e/n1"]
    assert all(b - a >= 7 for a, b in pairwise(slow))
    assert len(quick) >= 12


async def test_failures_back_off_and_a_success_resets(world: World) -> None:
    world.fails["e/n0"] = Reason.UNREACHABLE
    world.scheduler.apply([plan("e", 1, interval=5)])
    await asyncio.sleep(120)
    gaps = [b - a for a, b in pairwise(world.looks["e/n0"])]
    assert [round(g / 5) for g in gaps[:4]] in ([1, 2, 4, 6], [1, 2, 4, 5])
    assert max(gaps) <= 30.1
    del world.fails["e/n0"]
    await asyncio.sleep(40)
    before = len(world.looks["e/n0"])
    await asyncio.sleep(50)
    assert len(world.looks["e/n0"]) - before >= 9


async def test_a_changed_password_file_ends_the_wait_of_wrong_credentials(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("old")
    world.fails["e/n0"] = Reason.AUTHENTICATION
    world.scheduler.apply([plan("e", 1, interval=5, files=(str(secret),))])
    await asyncio.sleep(60)
    assert len(world.looks["e/n0"]) == 1
    secret.write_text("a new one")
    await asyncio.sleep(5)
    assert len(world.looks["e/n0"]) == 2


async def test_a_reload_keeps_what_did_not_change(world: World) -> None:
    world.scheduler.apply([plan("kept", 1, interval=5), plan("gone", 1, interval=5), plan("slower", 1, interval=5)])
    await asyncio.sleep(12)
    world.scheduler.apply([plan("kept", 1, interval=5), plan("slower", 1, interval=50), plan("new", 1, interval=5)])
    await asyncio.sleep(0.1)
    gone = len(world.looks["gone/n0"])
    await asyncio.sleep(20)
    assert world.opened.count("kept/n0") == 1
    assert world.opened.count("slower/n0") == 2
    assert len(world.looks["gone/n0"]) == gone
    assert len(world.looks["new/n0"]) >= 4


async def test_a_target_whose_task_dies_takes_the_scheduler_with_it(world: World) -> None:
    def broken(scheduled: Scheduled, ended: Ended) -> None:
        raise RuntimeError("a fault of ours")

    world.scheduler._sink = broken
    world.scheduler.apply([plan("e", 3)])
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await world.scheduler.run()


async def test_closing_does_not_wait_for_a_look_that_will_not_end(world: World, looptime: float) -> None:
    async def stubborn(target: Target, kept: Kept) -> Look:
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if asyncio.get_running_loop().time() > 100:
                    raise

    collector = Collector("test", EntryOptions, lambda options, objectives: ((), None), stubborn)
    world.scheduler._collector = lambda name: collector
    world.scheduler.apply([plan("e", 5)])
    await asyncio.sleep(1)
    await world.scheduler.close(1.0)
    assert looptime <= 2.0
    await asyncio.sleep(100)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
