"""Where does a call that blocks wait? On a daemon thread that nobody else needs, one call per key at a time.

asyncio's default executor would not do: getaddrinfo shares it, and a process cannot end while one of its threads hangs.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, TypeVarTuple

THREADS: Final = 256
IDLE: Final = 30.0
"""Seconds after which a thread without work ends."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = logging.getLogger(__name__)


class BusyError(Exception):
    """The previous call of this key has not returned, or there are no more threads."""


class _Call:
    """One call, from the moment a thread has it until it returns."""

    __slots__ = ("abandoned", "future", "key", "work")

    def __init__(self, key: str, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.key = key
        self.work = work
        self.future = future
        self.abandoned = False


class Bulkhead:
    """Threads for calls that block. `run` is for event loops; everything may be read from any thread."""

    def __init__(self, threads: int = THREADS, idle: float = IDLE) -> None:
        self._most = threads
        self._idle_for = idle
        self._lock = threading.Lock()
        self._calls: dict[str, _Call] = {}
        self._resting: list[_Worker] = []
        self._threads = 0
        self._closed = False

    async def run(self, key: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call `function` on a thread. Cancelled, it returns at once and leaves the call alone until it returns by
        itself; until then `key` is busy.

        Raises:
            BusyError: at once; nothing was called.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        call = _Call(key, lambda: function(*args), future)
        with self._lock:
            self._assign(call)
        try:
            return await future
        finally:
            with self._lock:
                call.abandoned = self._calls.get(key) is call

    @property
    def stuck(self) -> int:
        """Calls that nobody waits for any more and that have not returned."""
        with self._lock:
            return sum(call.abandoned for call in self._calls.values())

    @property
    def threads(self) -> int:
        return self._threads

    def close(self) -> None:
        """Take no more calls and let the threads end. Waits for none."""
        with self._lock:
            self._closed = True
            for worker in self._resting:
                worker.give(None)
            self._resting.clear()

    def _assign(self, call: _Call) -> None:
        if self._closed:
            raise BusyError(f"{call.key}: closed")
        if call.key in self._calls:
            raise BusyError(f"{call.key}: the previous call has not returned")
        if self._resting:
            worker = self._resting.pop()
        elif self._threads < self._most:
            worker = _Worker(self)
            threading.Thread(target=worker.work, name="bulkhead", daemon=True).start()
            self._threads += 1
        else:
            raise BusyError(f"{call.key}: all {self._most} threads are in use")
        self._calls[call.key] = call
        worker.give(call)

    # For the workers' threads

    def _returned(self, worker: _Worker, call: _Call) -> None:
        with self._lock:
            del self._calls[call.key]
            if self._closed:
                worker.give(None)
            else:
                self._resting.append(worker)

    def _tired(self, worker: _Worker) -> bool:
        """Whether a worker that found nothing to do may end: not if it was given something meanwhile."""
        with self._lock:
            if worker not in self._resting:
                return False
            self._resting.remove(worker)
            return True

    def _ended(self) -> None:
        with self._lock:
            self._threads -= 1


class _Worker:
    """A thread's side."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead = bulkhead
        self._given: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()

    def give(self, call: _Call | None) -> None:
        self._given.put(call)

    def work(self) -> None:
        try:
            while True:
                try:
                    call = self._given.get(timeout=self._bulkhead._idle_for)
                except queue.Empty:
                    if self._bulkhead._tired(self):
                        return
                    continue
                if call is None:
                    return
                self._do(call)
                del call  # it holds arguments and result, perhaps for as long as nothing else comes
        finally:
            self._bulkhead._ended()

    def _do(self, call: _Call) -> None:
        result: Any = None
        problem: BaseException | None = None
        try:
            result = call.work()
        except StopIteration as error:
            problem = RuntimeError("StopIteration")  # a future refuses it
            problem.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
            problem = error
        # The key is free before the caller can know, so that it may call again at once.
        self._bulkhead._returned(self, call)
        try:
            call.future.get_loop().call_soon_threadsafe(_settle, call.future, result, problem)
        except RuntimeError:
            log.debug("%s returned after its loop was closed", call.key)


def _settle(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if future.done():
        return
    if problem is not None:
        future.set_exception(problem)
    else:
        future.set_result(result)
