"""Does what was written survive, and does nothing that happens to the file stop the exporter or make it lie?"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regiondrift.state import Change, Key, Remembered, StateFile, StateLockedError, schema
from regiondrift.state.file import KEEP_ASIDE, LOCK, NAME, SET_ASIDE

KEY = Key("postgresql", "orders")
OTHER = Key("postgresql", "users")
WRITTEN = Remembered('{"point": 12.5}', ((1, "a"), (2, "b")))


def write_some(directory: Path) -> None:
    file = StateFile.open(directory)
    file.write([Change(KEY, WRITTEN.document, dict(WRITTEN.rows)), Change(OTHER, "{}")])
    assert file.healthy
    file.close()


def aside(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.glob(f"{NAME}{SET_ASIDE}*"))


def child(source: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may read and write everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_second_process_finds_what_the_first_wrote(tmp_path: Path) -> None:
    write_some(tmp_path / "made" / "when" / "missing")
    again = StateFile.open(tmp_path / "made" / "when" / "missing")
    assert again.load(KEY) == WRITTEN
    assert again.load(Key("postgresql", "never seen")) == Remembered()
    assert again.keys() == {KEY, OTHER}
    assert (again.healthy, again.problem) == (True, None)
    again.close()


def test_without_a_directory_it_is_healthy_and_in_memory() -> None:
    file = StateFile.in_memory()
    file.write([Change(KEY, "{}")])
    assert file.load(KEY) == Remembered("{}")
    assert (file.healthy, file.problem) == (True, None)


def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """The child says a number after its write has returned; it is killed while it goes on."""
    process = child(
        """
        import sys
        from pathlib import Path
        from regiondrift.state import *
        file = StateFile.open(Path(sys.argv[1]))
        for n in range(10**9):
            file.write([Change(Key("postgresql", "orders"), str(n), {n: "x" * 2000}, deletes=(n - 50,))])
            print(n, flush=True)
        """,
        tmp_path,
    )
    assert process.stdout
    said = -1
    for line in process.stdout:
        said = int(line)
        if said >= 2500:  # past several checkpoints
            break
    process.kill()
    process.communicate()
    with_journal = tmp_path / f"{NAME}-wal"
    assert 0 < with_journal.stat().st_size < 2 * schema.JOURNAL_BYTES, "the -wal file is bounded"

    file = StateFile.open(tmp_path)
    document, rows = file.load(KEY).document, file.load(KEY).rows
    assert document is not None
    last = int(document)
    assert last >= said
    assert [n for n, _ in rows] == list(range(last - 49, last + 1))
    assert (file.healthy, file.problem) == (True, None)
    file.close()


# Damage


def set_aside_and_begun_anew(directory: Path, *, why: str) -> None:
    file = StateFile.open(directory)
    assert file.healthy
    assert file.problem
    assert why in file.problem
    assert file.load(KEY) == Remembered()
    file.write([Change(KEY, "new")])
    file.close()
    assert aside(directory)
    again = StateFile.open(directory)
    assert again.load(KEY) == Remembered("new")
    assert again.problem is None
    again.close()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a state file"),
        (b"Once upon a time there was a database. " * 200, "not a database"),
        (os.urandom(8192), "not a database"),
    ],
)
def test_what_is_no_database_is_set_aside(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / NAME).write_bytes(content)
    set_aside_and_begun_anew(tmp_path, why=why)
    (name,) = [n for n in aside(tmp_path) if not n.endswith(("-wal", "-shm"))]
    assert (tmp_path / name).read_bytes() == content


def test_a_directory_or_a_pipe_of_that_name_is_set_aside(tmp_path: Path) -> None:
    for number, make in enumerate((os.mkdir, os.mkfifo)):
        directory = tmp_path / str(number)
        directory.mkdir()
        make(str(directory / NAME))
        set_aside_and_begun_anew(directory, why="not a regular file")


def test_a_database_of_somebody_else_is_set_aside(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("CREATE TABLE wages (name TEXT)")
    db.close()
    set_aside_and_begun_anew(tmp_path, why="not a state file")


def test_a_file_from_the_future_is_set_aside(tmp_path: Path) -> None:
    write_some(tmp_path)
    db = sqlite3.connect(tmp_path / NAME)
    db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    set_aside_and_begun_anew(tmp_path, why="newer")


def test_a_file_from_the_past_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_some(tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (x)",)))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    file = StateFile.open(tmp_path)
    assert file.load(KEY) == WRITTEN
    assert file.problem is None
    file.close()
    with sqlite3.connect(tmp_path / NAME) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert db.execute("SELECT count(*) FROM later").fetchone() == (0,)
    db.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_some(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (x)", "no SQL")))
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(schema.DamagedError):
            schema.open_existing(tmp_path / NAME)
    file = StateFile.open(tmp_path)
    assert file.load(KEY) == WRITTEN
    file.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_change_what_is_loaded_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Random damage is noticed, or did not touch what we read. It never becomes another document or row."""
    directory = tmp_path_factory.mktemp("state")
    file = StateFile.open(directory)
    file.write([Change(KEY, '{"a": 1}' * 100, {n: f"row {n}" for n in range(300)}), Change(OTHER, "{}")])
    file.close()
    content = bytearray((directory / NAME).read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), label="length") :]
    else:
        for _ in range(data.draw(st.integers(1, 8), label="bytes")):
            content[data.draw(st.integers(0, len(content) - 1), label="offset")] = data.draw(st.integers(0, 255))
    (directory / NAME).write_bytes(content)

    file = StateFile.open(directory)
    loaded = file.load(KEY)
    assert loaded.document in (None, '{"a": 1}' * 100)
    assert set(loaded.rows) <= {(n, f"row {n}") for n in range(300)}
    assert file.load(OTHER).document in (None, "{}")
    file.write([Change(KEY, "after")])
    assert file.healthy
    assert file.load(KEY).document == "after"
    file.close()


def test_a_flipped_bit_inside_a_row_is_noticed(tmp_path: Path) -> None:
    """SQLite would serve it: only our own sums tell."""
    file = StateFile.open(tmp_path)
    file.write([Change(KEY, "{}", {1: "position 0x1000 at 1700000000"})])
    file.close()
    content = (tmp_path / NAME).read_bytes()
    assert content.count(b"1700000000") == 1
    (tmp_path / NAME).write_bytes(content.replace(b"1700000000", b"1700000004"))
    set_aside_and_begun_anew(tmp_path, why="row")


def test_a_journal_whose_file_is_gone_is_not_applied_to_a_new_one(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(4092))
    set_aside_and_begun_anew(tmp_path, why="missing")


def test_at_most_the_newest_three_are_kept_aside(tmp_path: Path) -> None:
    contents = [f"damage {n} ".encode() * 100 for n in range(KEEP_ASIDE + 2)]
    for content in contents:
        (tmp_path / NAME).write_bytes(content)
        StateFile.open(tmp_path).close()
    kept = [(tmp_path / n).read_bytes() for n in aside(tmp_path) if not n.endswith(("-wal", "-shm"))]
    assert sorted(kept) == contents[-KEEP_ASIDE:]


# The directory


def test_a_directory_that_is_in_use_is_refused_until_its_user_is_dead(tmp_path: Path) -> None:
    holder = child(
        """
        import sys
        from pathlib import Path
        from regiondrift.state import *
        file = StateFile.open(Path(sys.argv[1]))
        file.write([Change(Key("postgresql", "orders"), "theirs")])
        print("open", flush=True)
        sys.stdin.read()
        """,
        tmp_path,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(StateLockedError):
        StateFile.open(tmp_path)
    holder.kill()
    holder.communicate()
    file = StateFile.open(tmp_path)
    assert file.load(KEY) == Remembered("theirs")
    file.close()


def test_it_is_refused_within_one_process_too(tmp_path: Path) -> None:
    first = StateFile.open(tmp_path)
    with pytest.raises(StateLockedError):
        StateFile.open(tmp_path)
    first.close()
    StateFile.open(tmp_path).close()


def test_a_read_only_directory_gives_a_memory_that_knows_what_could_be_read(
    tmp_path: Path, ordinary_user: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.getuid() == 0:
        os.seteuid(0)
    write_some(tmp_path)
    (tmp_path / LOCK).unlink()
    tmp_path.chmod(0o555)
    for parent in list(tmp_path.parents)[:3]:
        if parent.owner() == tmp_path.owner() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / NAME).chmod(0o444)
    if os.getuid() == 0:
        os.seteuid(65534)
    file = StateFile.open(tmp_path)
    assert not file.healthy
    assert file.problem
    assert "kept in memory" in file.problem
    assert file.load(KEY) == WRITTEN
    file.write([Change(KEY, "in memory")])
    assert file.load(KEY).document == "in memory"
    assert not file.healthy, "a write into memory is no recovery"
    file.close()
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_directory_that_is_none_gives_a_memory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    file = StateFile.open(tmp_path / "state")
    assert not file.healthy
    file.write([Change(KEY, "in memory")])
    assert file.load(KEY).document == "in memory"
    file.close()


def test_a_directory_that_can_be_used_later_is_used_and_gets_what_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "regiondrift.state")
    (tmp_path / "state").write_text("a file where the directory should be")
    file = StateFile.open(tmp_path / "state")
    for n in range(3):
        file.write([Change(KEY, WRITTEN.document, {n: str(n)})])
    (tmp_path / "state").unlink()
    monkeypatch.setattr("regiondrift.state.file.REOPEN_AFTER", 0.0)
    file.write([Change(OTHER, "later")])
    assert file.healthy
    file.close()
    again = StateFile.open(tmp_path / "state")
    assert again.load(KEY) == Remembered(WRITTEN.document, ((0, "0"), (1, "1"), (2, "2")))
    assert again.load(OTHER) == Remembered("later")
    again.close()
    errors = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(errors) == 1, "said once on break"
    assert [r.message for r in caplog.records if "again" in r.message] == ["the state file is written again"]


def test_a_file_that_is_removed_while_it_is_used_is_written_anew(tmp_path: Path) -> None:
    """SQLite would go on writing into the file that has no name any more."""
    file = StateFile.open(tmp_path)
    file.write([Change(KEY, WRITTEN.document, dict(WRITTEN.rows))])
    for path in tmp_path.glob(f"{NAME}*"):
        path.unlink()
    file.write([Change(OTHER, "{}")])
    assert file.healthy
    file.close()
    again = StateFile.open(tmp_path)
    assert again.load(KEY) == WRITTEN
    assert again.load(OTHER) == Remembered("{}")
    again.close()


# The disk


def test_a_full_disk_delays_what_is_written_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As an ordinary user's quota: no file may grow beyond a limit, then it may."""
    caplog.set_level(logging.INFO, "regiondrift.state")
    file = StateFile.open(tmp_path)
    file.write([Change(KEY, "before", {1: "a"})])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        for n in range(2, 6):
            file.write([Change(KEY, f"while full {n}", {n: "x" * 40_000}, deletes=(n - 1,))])
        assert not file.healthy
        assert file.problem
        assert "waits in memory" in file.problem
        assert file.load(KEY) == Remembered("while full 5", ((5, "x" * 40_000),)), "what waits is already known"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    file.write([])
    assert [file.healthy, file.problem] == [True, None]
    file.close()
    again = StateFile.open(tmp_path)
    assert again.load(KEY) == Remembered("while full 5", ((5, "x" * 40_000),))
    again.close()
    assert [r.levelname for r in caplog.records if "begun" not in r.message] == ["ERROR", "INFO"], "said once each"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_file_system_too(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        file = StateFile.open(tmp_path)
        file.write([Change(KEY, "before")])
        ballast = tmp_path / "ballast"
        with ballast.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):  # noqa: PT012
            while True:
                stream.write(bytes(4096))
        file.write([Change(KEY, "while full", {1: "x" * 20_000})])
        assert not file.healthy
        file.close()

        opened_full = StateFile.open(tmp_path)
        assert opened_full.load(KEY).document == "before"
        opened_full.write([Change(KEY, "again", {1: "x" * 20_000})])
        assert not opened_full.healthy
        ballast.unlink()
        opened_full.write([])
        assert opened_full.healthy
        opened_full.close()
        again = StateFile.open(tmp_path)
        assert again.load(KEY) == Remembered("again", ((1, "x" * 20_000),))
        again.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# Forgetting


def test_what_left_the_configuration_is_forgotten_in_time(tmp_path: Path) -> None:
    write_some(tmp_path)
    file = StateFile.open(tmp_path)
    assert file.purge([], older_than=60) == 0, "too young"
    assert file.purge([KEY], older_than=-60) == 1, "configured keys stay, however old"
    assert file.keys() == {KEY}
    assert file.load(KEY) == WRITTEN
    assert file.load(OTHER) == Remembered()
    file.close()
