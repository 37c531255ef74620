"""How does the event loop get things written? It puts them down and goes on; a thread of its own waits for the disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from regiondrift.state.change import Backlog, Change, Key, Remembered
from regiondrift.state.file import StateFile

FLUSH_EVERY: Final = 1.0
STUCK_AFTER: Final = 10.0
"""Seconds after which a write that has not returned is said to hang."""

log = logging.getLogger(__name__)


class StateWriter:
    """Writes a `StateFile` about once a second from a daemon thread, which nobody waits for longer than they say.

    All methods are for the event loop. A disk that hangs makes `healthy` false and changes wait, merged.
    """

    def __init__(
        self, file: StateFile, *, every: float = FLUSH_EVERY, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._every = every
        self._monotonic = monotonic
        self._backlog = Backlog()
        self._jobs: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._busy_since: float | None = None
        self._said_stuck = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._thread.start()

    def put(self, change: Change) -> None:
        """To be written within about a second. Never blocks."""
        stuck = self._is_stuck()
        if stuck and not self._said_stuck:
            self._said_stuck = True
            log.error("%s", self.problem)
        with self._changed:
            self._backlog.add(change, bounded=stuck)

    @property
    def healthy(self) -> bool:
        return not self._is_stuck() and self._file.healthy

    @property
    def problem(self) -> str | None:
        since = self._busy_since
        if since is not None and self._is_stuck():
            return f"the state file hangs: a write has not returned for {self._monotonic() - since:.0f} s"
        return self._file.problem

    async def load(self, key: Key) -> Remembered:
        """What is remembered of `key`, with what was put down and not written yet. Takes as long as the disk does."""
        remembered: list[Remembered] = []

        def job() -> None:
            self._write_now()
            remembered.append(self._file.load(key))

        await self._do(job)
        return remembered[0]

    async def purge(self, keep: Collection[Key], older_than: float) -> int:
        """See `StateFile.purge`. Takes as long as the disk does."""
        count: list[int] = []
        await self._do(lambda: count.append(self._file.purge(keep, older_than)))
        return count[0]

    async def flush(self, within: float) -> bool:
        """Write now what was put down so far; whether it is written, at the latest after `within` seconds."""
        return await self._do_within(self._write_now, within) and self._file.healthy

    async def close(self, within: float) -> bool:
        """Write what was put down, end the thread and give the file back; whether all that was done after `within`
        seconds. A thread that hangs is left behind."""

        def job() -> None:
            self._write_now()
            self._file.close()
            self._ended = True

        if not self._ended:
            await self._do_within(job, within)
        return self._ended and self._file.healthy

    # The thread

    def _run(self) -> None:
        while not self._ended:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs), timeout=self._every)
                jobs, self._jobs = self._jobs, []
            self._busy_since = self._monotonic()
            try:
                for job in jobs or [self._write_now]:
                    job()
            except Exception:
                log.exception("writing the state file failed")
            self._busy_since = None
            if self._said_stuck:
                self._said_stuck = False
                log.info("the state file answers again")

    def _write_now(self) -> None:
        with self._changed:
            backlog, self._backlog = self._backlog, Backlog()
        self._file.write(backlog.changes())

    async def _do_within(self, job: Callable[[], None], seconds: float) -> bool:
        """Whether it was done in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._do(job)
        except TimeoutError:
            return False
        return True

    async def _do(self, job: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def run() -> None:
            problem: Exception | None = None
            try:
                job()
            except Exception as error:  # noqa: BLE001 - it is raised where the job was asked for
                problem = error
            try:
                loop.call_soon_threadsafe(settle, problem)
            except RuntimeError:
                log.debug("nobody waits any more: the loop is closed")

        with self._changed:
            if self._ended:
                raise RuntimeError("the state writer is closed")
            self._jobs.append(run)
            self._changed.notify()
        await done

    def _is_stuck(self) -> bool:
        since = self._busy_since
        return since is not None and self._monotonic() - since > STUCK_AFTER
