"""When is each target looked at? One task per target; a task that dies takes the scheduler, and so the process, with it."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from regiondrift.bulkhead import Bulkhead, BusyError
from regiondrift.clock import Clock
from regiondrift.filestamp import stamps
from regiondrift.model import Collector, Failure, Plan, Target
from regiondrift.schedule.backoff import delay
from regiondrift.schedule.guard import Ended, Guard

START_RATE: Final = 200.0
"""First looks per second."""
JITTER: Final = 0.02
FILES_EVERY: Final = 3.0
"""Seconds between two checks whether a failing target's files have changed."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A target with everything that decides how it is looked at. Equal ones are the same across a reload."""

    collector: str
    target: Target
    interval: float
    timeout: float


def offset(target: Scheduled) -> float:
    """Where in the interval its looks stand, 0 <= x < 1, the same after every restart."""
    name = f"{target.collector}\0{target.target.label}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") / 2**32


class Scheduler:
    """Looks at targets, each on a task of its own, and hands every ended look to `sink`."""

    def __init__(
        self,
        collector: Callable[[str], Collector],
        sink: Callable[[Scheduled, Ended], None],
        clock: Clock,
        bulkhead: Bulkhead,
    ) -> None:
        self._collector, self._sink, self._clock, self._bulkhead = collector, sink, clock, bulkhead
        self._tasks: dict[Scheduled, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._died: asyncio.Future[None] | None = None
        self._chance = random.Random()

    def apply(self, plans: Iterable[Plan]) -> None:
        """Look at these from now on: new targets start, gone ones end, unchanged ones keep task, connection and rhythm."""
        wanted = [Scheduled(p.collector, t, p.interval, p.timeout) for p in plans for t in p.targets]
        for gone in self._tasks.keys() - set(wanted):
            task = self._tasks.pop(gone)
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            task.cancel()
        for i, new in enumerate(w for w in wanted if w not in self._tasks):
            task = asyncio.get_running_loop().create_task(
                self._watch(new, i / START_RATE), name=f"target {new.target.label}"
            )
            task.add_done_callback(self._ended)
            self._tasks[new] = task

    async def run(self) -> None:
        """Returns only by raising: what a target's task died of."""
        self._died = asyncio.get_running_loop().create_future()
        for task in list(self._tasks.values()):
            self._ended(task)
        await self._died

    async def close(self, within: float) -> None:
        """End all tasks; those that do not end in time are left behind."""
        self._leaving |= set(self._tasks.values())
        self._tasks.clear()
        tasks = set(self._leaving)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=within)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.done() or task in self._leaving or self._died is None or self._died.done():
            return
        error = None if task.cancelled() else task.exception()
        self._died.set_exception(error or RuntimeError(f"the task of {task.get_name()} has ended"))

    async def _watch(self, scheduled: Scheduled, start: float) -> None:
        guard = Guard(self._collector(scheduled.collector), scheduled.target, scheduled.timeout, self._clock)
        shift, loop = offset(scheduled) * scheduled.interval, asyncio.get_running_loop()
        failures = 0
        try:
            await asyncio.sleep(start)
            while True:
                # Before, so that a file which changes while we look is worth another look; a connection reads none.
                files = None if guard.keeps else await self._stamps(scheduled.target)
                ended = await guard.look()
                self._sink(scheduled, ended)
                if isinstance(ended.result, Failure):
                    failures += 1
                    pause = delay(failures, ended.result.reason, scheduled.interval, self._chance)
                    await self._pause(scheduled.target, pause, files)
                else:
                    failures = 0
                    await asyncio.sleep(self._until_next(loop.time(), shift, scheduled.interval))
        finally:
            await guard.close()

    def _until_next(self, now: float, shift: float, interval: float) -> float:
        left = interval - (now - shift) % interval
        if left < interval * 2 * JITTER:
            # Jitter brought us here a little early: this point of the grid has had its look.
            left += interval
        return left - self._chance.random() * JITTER * interval

    async def _pause(self, target: Target, pause: float, before: object) -> None:
        """Sleep, unless a file that the target depends on changes."""
        if not target.files or pause <= FILES_EVERY:
            await asyncio.sleep(pause)
            return
        before = await self._stamps(target) if before is None else before
        end = asyncio.get_running_loop().time() + pause
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, FILES_EVERY))
            stamps = await self._stamps(target)
            if before is not None and stamps is not None and stamps != before:
                return
            before = stamps if before is None else before

    async def _stamps(self, target: Target) -> object:
        """What stat says of the target's files; None if that cannot be told now."""
        if not target.files:
            return None
        try:
            return await self._bulkhead.run(f"files of {target.label}", stamps, target.files)
        except BusyError:
            return None
