"""What does another exporter's state file hold right now? A consistent copy, without lock and without a write."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

from regiondrift.state import schema

ATTEMPTS: Final = 20
_WAL_HEADER: Final = 32


def snapshot(path: Path) -> sqlite3.Connection | None:
    """The committed content of the file at `path` as a database in memory; None if there is no file.

    Opening the file itself would not do: even a read-only connection makes or changes files beside it, and cannot
    on a read-only directory. So the two files are copied. The copy is whole if the -wal file was not started anew
    meanwhile: a checkpoint changes only pages that the -wal file, copied afterwards, still holds, and a frame cut
    off by the copy fails its checksum.

    Raises:
        schema.DamagedError: see there; here also a file that never held still.
        OSError, sqlite3.Error: it could not be read.
    """
    wal = path.with_name(path.name + "-wal")
    with tempfile.TemporaryDirectory(prefix="regiondrift-") as place:
        copy = Path(place, path.name)
        copied_wal = Path(place, wal.name)
        for _ in range(ATTEMPTS):
            before = _generation(path, wal)
            if before is None:
                return None
            try:
                shutil.copyfile(path, copy)
                copied_wal.unlink(missing_ok=True)
                if before[1]:
                    shutil.copyfile(wal, copied_wal)
            except FileNotFoundError:
                continue
            if _generation(path, wal) == before:
                return _in_memory(copy)
            time.sleep(0.05)
    raise schema.DamagedError("it changed under every attempt to copy it")


def _generation(path: Path, wal: Path) -> tuple[object, bytes] | None:
    """What stays the same while the pair can be copied: the -wal file's header (with its random salts) if there is
    one with content, else the file's own last change."""
    try:
        with wal.open("rb") as stream:
            header = stream.read(_WAL_HEADER)
    except FileNotFoundError:
        header = b""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_ino, None if header else (status.st_mtime_ns, status.st_size)), header


def _in_memory(copy: Path) -> sqlite3.Connection:
    db = schema.open_existing(copy)
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        db.backup(memory)
    except BaseException:
        memory.close()
        raise
    finally:
        db.close()
    return memory
