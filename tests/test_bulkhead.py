"""Does a call that blocks cost only the one who made it?"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator

import pytest

from regiondrift.bulkhead import Bulkhead, BusyError


class Blocking:
    """A function that returns when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.returned = threading.Event()
        self.calls = 0

    def __call__(self, result: str = "done") -> str:
        self.calls += 1
        self.entered.set()
        self.release.wait(30)
        self.returned.set()
        return result


@pytest.fixture
def bulkhead() -> Iterator[Bulkhead]:
    bulkhead = Bulkhead(threads=8, idle=0.05)
    yield bulkhead
    bulkhead.close()


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    blocking = Blocking()
    yield blocking
    blocking.release.set()


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.002)


async def test_it_returns_what_the_function_returns(bulkhead: Bulkhead) -> None:
    assert await bulkhead.run("a", divmod, 7, 3) == (2, 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, StopIteration])
async def test_it_raises_what_the_function_raises(bulkhead: Bulkhead, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("why")

    caught: BaseException | None = None
    try:
        await bulkhead.run("a", fail)
    except (ValueError, RuntimeError) as raised:
        caught = raised
    except BaseException as raised:  # noqa: BLE001 - pytest would end on these
        caught = raised
    assert isinstance(caught, RuntimeError if error is StopIteration else error)
    assert await bulkhead.run("a", str, 1) == "1", "the thread goes on"


async def test_it_runs_on_a_daemon_thread_of_its_own(bulkhead: Bulkhead) -> None:
    thread = await bulkhead.run("a", threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon


async def test_a_key_whose_call_has_not_returned_is_refused_at_once(bulkhead: Bulkhead, blocking: Blocking) -> None:
    first = asyncio.create_task(bulkhead.run("a", blocking))
    await until(blocking.entered.is_set)
    with pytest.raises(BusyError):
        await bulkhead.run("a", blocking)
    assert await bulkhead.run("b", str, 1) == "1", "other keys are not concerned"
    assert bulkhead.stuck == 0, "somebody waits for it"
    blocking.release.set()
    assert await first == "done"
    assert blocking.calls == 1


async def test_a_caller_may_call_again_as_soon_as_it_has_its_result(bulkhead: Bulkhead) -> None:
    for n in range(2000):
        assert await bulkhead.run("a", int, n) == n
    assert bulkhead.threads == 1


async def test_a_cancelled_caller_is_free_at_once_and_its_key_is_busy_until_the_call_returns(
    bulkhead: Bulkhead, blocking: Blocking
) -> None:
    task = asyncio.create_task(bulkhead.run("a", blocking))
    await until(blocking.entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not blocking.returned.is_set()
    assert bulkhead.stuck == 1
    with pytest.raises(BusyError):
        await bulkhead.run("a", str)
    blocking.release.set()
    await until(lambda: bulkhead.stuck == 0)
    assert await bulkhead.run("a", str, "again") == "again"


async def test_a_deadline_holds(bulkhead: Bulkhead, blocking: Blocking) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bulkhead.run("a", blocking)
    assert bulkhead.stuck == 1


async def test_no_more_threads_than_allowed(bulkhead: Bulkhead, blocking: Blocking) -> None:
    tasks = [asyncio.create_task(bulkhead.run(str(n), blocking)) for n in range(8)]
    await until(lambda: blocking.calls == 8)
    with pytest.raises(BusyError, match="all 8 threads"):
        await bulkhead.run("one more", str)
    blocking.release.set()
    assert await asyncio.gather(*tasks) == ["done"] * 8
    assert await bulkhead.run("one more", str, 1) == "1"


async def test_idle_threads_end(bulkhead: Bulkhead) -> None:
    await asyncio.gather(*(bulkhead.run(str(n), str) for n in range(8)))
    assert bulkhead.threads > 0
    await until(lambda: bulkhead.threads == 0)
    assert await bulkhead.run("a", str, 1) == "1"


async def test_close_waits_for_nobody(bulkhead: Bulkhead, blocking: Blocking) -> None:
    task = asyncio.create_task(bulkhead.run("a", blocking))
    await until(blocking.entered.is_set)
    bulkhead.close()
    with pytest.raises(BusyError):
        await bulkhead.run("b", str)
    blocking.release.set()
    assert await task == "done", "who waits gets an answer still"
    await until(lambda: bulkhead.threads == 0)


async def test_nothing_of_ten_thousand_calls_is_kept() -> None:
    class Big:
        pass

    bulkhead = Bulkhead(idle=30)
    before = threading.active_count()
    seen = weakref.WeakSet[Big]()

    def touch(big: Big) -> Big:
        seen.add(big)
        return big

    for n in range(10_000):
        await bulkhead.run(f"key {n % 100}", touch, Big())
    await asyncio.sleep(0)  # the loop itself holds the future that it woke us with
    gc.collect()
    await until(lambda: len(seen) == 0)
    assert bulkhead.threads == 1
    assert threading.active_count() <= before + 1
    assert bulkhead._calls == {}
    bulkhead.close()
    await until(lambda: threading.active_count() <= before)


def test_the_process_ends_while_a_call_hangs() -> None:
    source = """
    import asyncio, threading
    from regiondrift.bulkhead import Bulkhead

    async def main():
        bulkhead = Bulkhead()
        try:
            async with asyncio.timeout(0.1):
                await bulkhead.run("a", threading.Event().wait)
        except TimeoutError:
            print("stuck:", bulkhead.stuck)
        bulkhead.close()

    asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stuck: 1\n", "")
