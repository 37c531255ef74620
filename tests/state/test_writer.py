"""Does the event loop stay free, whatever the disk does?"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from regiondrift.state import Change, Key, Remembered, StateFile, StateWriter

KEY = Key("postgresql", "orders")


class StuckFile(StateFile):
    """A file on a disk that hangs until `release` is set."""

    release: threading.Event
    entered: threading.Event

    @classmethod
    def make(cls, directory: Path) -> StuckFile:
        file = cls.open(directory)
        assert isinstance(file, StuckFile)
        file.release, file.entered = threading.Event(), threading.Event()
        return file

    def write(self, changes: Sequence[Change]) -> None:
        if changes and not self.release.is_set():
            self.entered.set()
            self.release.wait()
        super().write(changes)


async def test_what_is_put_down_is_written_without_being_asked(tmp_path: Path) -> None:
    writer = StateWriter(StateFile.open(tmp_path), every=0.01)
    writer.put(Change(KEY, "1", {1: "a"}))
    writer.put(Change(KEY, "2", {2: "b"}, deletes=(1,)))
    async with asyncio.timeout(10):
        while StateFile.read_only(tmp_path).load(KEY) != Remembered("2", ((2, "b"),)):  # noqa: ASYNC110 - another file's view
            await asyncio.sleep(0.01)
    assert (writer.healthy, writer.problem) == (True, None)
    assert await writer.close(5)


async def test_flush_returns_when_it_is_written(tmp_path: Path) -> None:
    writer = StateWriter(StateFile.open(tmp_path), every=3600)
    for n in range(100):
        writer.put(Change(KEY, str(n), {n: "x"}, deletes=(n - 10,)))
        assert await writer.flush(10)
        assert StateFile.read_only(tmp_path).load(KEY).document == str(n)
    assert await writer.close(5)
    writer._thread.join(5)
    assert not writer._thread.is_alive()


async def test_load_knows_what_was_put_down_a_moment_ago(tmp_path: Path) -> None:
    writer = StateWriter(StateFile.open(tmp_path), every=3600)
    writer.put(Change(KEY, "just now"))
    assert await writer.load(KEY) == Remembered("just now")
    assert await writer.purge([KEY], older_than=-60) == 0
    assert await writer.purge([], older_than=-60) == 1
    assert await writer.load(KEY) == Remembered()
    await writer.close(5)


async def test_close_writes_what_waits_and_gives_the_file_back(tmp_path: Path) -> None:
    writer = StateWriter(StateFile.open(tmp_path), every=3600)
    writer.put(Change(KEY, "last word"))
    assert await writer.close(5)
    assert await writer.close(5), "closing twice is closing"
    again = StateFile.open(tmp_path)
    assert again.load(KEY) == Remembered("last word")
    again.close()


async def test_a_disk_that_hangs_delays_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "regiondrift.state")
    now = 0.0
    file = StuckFile.make(tmp_path)
    writer = StateWriter(file, every=0.01, monotonic=lambda: now)
    writer.put(Change(KEY, "0"))
    while not file.entered.is_set():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.001)
    assert writer.healthy, "a write may take a while"
    now = 60.0
    assert not writer.healthy
    assert writer.problem == "the state file hangs: a write has not returned for 60 s"
    started = time.monotonic()
    for n in range(20_000):
        writer.put(Change(KEY, str(n), {n: "x"}, deletes=(n - 1,)))
    assert time.monotonic() - started < 5
    assert len(writer._backlog) == 1, "what waits is merged"
    assert not await writer.flush(0.05)
    assert [r.levelname for r in caplog.records if "begun" not in r.message] == ["ERROR"], "said once"

    file.release.set()
    assert await writer.flush(10)
    assert writer.healthy
    assert StateFile.read_only(tmp_path).load(KEY) == Remembered("19999", ((19999, "x"),))
    assert await writer.close(5)
    assert [r.levelname for r in caplog.records if "begun" not in r.message] == ["ERROR", "INFO"]


def test_a_disk_that_hangs_for_ever_does_not_keep_the_process(tmp_path: Path) -> None:
    source = """
    import asyncio, sys, threading
    from pathlib import Path
    from regiondrift.state import *

    class Stuck(StateFile):
        def write(self, changes):
            threading.Event().wait()

    async def main():
        writer = StateWriter(Stuck.open(Path(sys.argv[1])), every=0.01)
        writer.put(Change(Key("a", "b"), "c"))
        print("written:", await writer.close(0.2))

    asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "written: False\n", "")
