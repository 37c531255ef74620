"""Can the state be read while another process writes it, or where nothing may be written?"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from regiondrift.state import Change, Key, Remembered, StateFile
from regiondrift.state.file import NAME

KEY = Key("postgresql", "orders")


def fingerprint(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.iterdir()}


def test_a_running_writer_is_read_and_not_disturbed(tmp_path: Path) -> None:
    writer = StateFile.open(tmp_path)
    writer.write([Change(KEY, "committed", {1: "a"})])
    before = fingerprint(tmp_path)
    reader = StateFile.read_only(tmp_path)
    assert reader.load(KEY) == Remembered("committed", ((1, "a"),))
    assert reader.keys() == {KEY}
    assert (reader.healthy, reader.problem) == (True, None)
    reader.close()
    assert fingerprint(tmp_path) == before
    writer.write([Change(KEY, "goes on")])
    assert writer.healthy
    writer.close()


def test_after_the_writer_ended_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    writer = StateFile.open(tmp_path)
    writer.write([Change(KEY, "committed")])
    writer.close()
    before = fingerprint(tmp_path)
    reader = StateFile.read_only(tmp_path)
    assert reader.load(KEY).document == "committed"
    reader.close()
    assert fingerprint(tmp_path) == before


def test_a_copy_is_one_moment_of_the_writer_also_during_checkpoints(tmp_path: Path) -> None:
    """Every transaction writes the same number twice, far apart; no reader may see two."""
    far = Key("zfs", "far")
    writer = StateFile.open(tmp_path)
    writer.write([Change(KEY, "0"), Change(far, "0")])
    end = threading.Event()

    def write() -> None:
        n = 0
        while not end.is_set():
            n += 1
            writer.write([Change(KEY, str(n), {n % 40: "x" * 30_000}), Change(far, str(n))])

    thread = threading.Thread(target=write)
    thread.start()
    seen: list[int] = []
    try:
        while len(seen) < 15:
            reader = StateFile.read_only(tmp_path)
            if reader.healthy:  # a writer without pause may outrun every attempt, and that is said
                assert reader.load(KEY).document == reader.load(far).document
                seen.append(int(reader.load(KEY).document or -1))
            reader.close()
    finally:
        end.set()
        thread.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
    writer.close()


def test_no_file_and_no_directory_are_an_empty_memory(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        reader = StateFile.read_only(directory)
        assert reader.load(KEY) == Remembered()
        assert (reader.healthy, reader.problem) == (True, None)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_said_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database" * 1000)
    reader = StateFile.read_only(tmp_path)
    assert not reader.healthy
    assert reader.load(KEY) == Remembered()
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        StateFile.read_only(tmp_path).write([Change(KEY, "no")])
