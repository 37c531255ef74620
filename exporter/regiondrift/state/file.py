"""What is remembered, and can it be written? The state file, used by one process, never fatal."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from regiondrift.state import schema
from regiondrift.state.change import Backlog, Change, Key, Remembered
from regiondrift.state.snapshot import snapshot

NAME: Final = "regiondrift.sqlite"
LOCK: Final = "regiondrift.lock"
SET_ASIDE: Final = ".set-aside-"
KEEP_ASIDE: Final = 3
REOPEN_AFTER: Final = 30.0
"""Seconds between two attempts to use a directory that could not be used."""

_UNUSABLE: Final = (OSError, sqlite3.Error, schema.DamagedError)

log = logging.getLogger(__name__)


class StateLockedError(Exception):
    """Another process uses the state directory."""


class StateFile:
    """The memory of the process, in a file where there can be one.

    `problem` says why it is not kept, or, with `healthy`, that earlier memory was set aside. Methods may be called
    from any thread, one at a time, and block as long as the disk does.
    """

    def __init__(self, db: sqlite3.Connection, directory: Path | None = None, lock: int | None = None) -> None:
        """Not for callers: see `open`, `in_memory` and `read_only`."""
        self._db = db
        self._directory = directory
        self._lock_file = lock
        self._inode: int | None = None
        """Of the file that `_db` is; None while it is in memory."""
        self._backlog = Backlog()
        self._failure: str | None = None
        self._notice: str | None = None
        self._last_attempt = time.monotonic()
        self._writable = True
        self._turn = threading.RLock()

    @classmethod
    def open(cls, directory: Path) -> StateFile:
        """The state in `directory`, which is made if it is missing. A damaged file, or one from the future, is set
        aside under a new name; a directory that cannot be used gives a memory that holds what could be read of it.

        Raises:
            StateLockedError: another process uses it.
        """
        self = cls(schema.open_memory(), directory)
        try:
            self._use_directory()
        except _UNUSABLE as error:
            self._fail(f"{directory} cannot be used, what is proven is kept in memory: {error}")
            self._remember_what_can_be_read()
        return self

    @classmethod
    def in_memory(cls) -> StateFile:
        """For a configuration without ``state_dir``."""
        return cls(schema.open_memory())

    @classmethod
    def read_only(cls, directory: Path) -> StateFile:
        """What is in `directory` now, without lock and without a write, also beside a running exporter."""
        self = cls(schema.open_memory())
        self._writable = False
        self._directory = directory
        self._remember_what_can_be_read()
        return self

    @property
    def healthy(self) -> bool:
        """Whether what is written is kept as well as it was asked for."""
        return self._failure is None

    @property
    def problem(self) -> str | None:
        return self._failure or self._notice

    def load(self, key: Key) -> Remembered:
        with self._turn:
            try:
                remembered = schema.read(self._db, key)
            except sqlite3.Error as error:
                self._fail(f"the state file cannot be read: {error}")
                remembered = Remembered()
            return self._backlog.over(key, remembered)

    def keys(self) -> frozenset[Key]:
        with self._turn:
            try:
                return schema.keys(self._db) | self._backlog.keys()
            except sqlite3.Error as error:
                self._fail(f"the state file cannot be read: {error}")
                return self._backlog.keys()

    def write(self, changes: Sequence[Change]) -> None:
        """Write in one transaction, with what could not be written before. Never raises for the disk's sake: what
        cannot be written now waits for the next call, which may have no changes of its own."""
        if not self._writable:
            raise TypeError("opened for reading")
        with self._turn:
            for change in changes:
                self._backlog.add(change, bounded=self._failure is not None)
            self._return_to_directory()
            if not self._backlog:
                return
            error = self._try_to_write()
            if error is not None:
                self._fail(f"the state file cannot be written, what is proven waits in memory: {error}")
                if self._begin_anew(error):
                    error = self._try_to_write()
            if error is None:
                self._backlog.clear()
                self._recovered()

    def _try_to_write(self) -> Exception | None:
        try:
            self._check_still_there()
            schema.apply(self._db, self._backlog.changes(), time.time())
        except _UNUSABLE as error:
            return error
        return None

    def purge(self, keep: Collection[Key], older_than: float) -> int:
        """Forget keys that are not in `keep` and were not written for `older_than` seconds. How many there were."""
        with self._turn:
            try:
                return schema.purge(self._db, schema.keys(self._db) - set(keep), time.time() - older_than)
            except sqlite3.Error as error:
                self._fail(f"the state file cannot be written: {error}")
                return 0

    def close(self) -> None:
        """Give the file and the lock back. What waits is tried once more."""
        with self._turn:
            if self._backlog and self._writable:
                self.write(())
            try:
                self._db.close()
            except sqlite3.Error as error:
                log.warning("closing the state file failed: %s", error)
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    # The directory

    @property
    def _path(self) -> Path:
        assert self._directory is not None
        return self._directory / NAME

    def _use_directory(self) -> None:
        """Lock, check, and go over from memory to the file, taking along what memory holds."""
        assert self._directory is not None
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        if self._lock_file is None:
            self._lock_file = _lock(self._directory)
        path = self._path
        if not os.path.lexists(path):
            if any(os.path.lexists(c) for c in schema.companions(path)):
                # Frames of a file that is gone would be applied to a new one of that name.
                self._set_aside("the file itself is missing")
            schema.create(path)
            log.info("state file %s begun", path)
        try:
            db = schema.open_existing(path)
        except schema.DamagedError as error:
            self._set_aside(str(error))
            schema.create(path)
            db = schema.open_existing(path)
        try:
            inode = path.stat().st_ino
            ours = [_whole(key, schema.read(self._db, key)) for key in schema.keys(self._db)]
            if ours:
                schema.apply(db, ours, time.time())
        except BaseException:
            db.close()
            raise
        self._db.close()
        self._db, self._inode = db, inode

    def _set_aside(self, why: str) -> None:
        path = self._path
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        taken = [number for earlier, number in map(_aside_order, self._aside()) if earlier == stamp]
        name = f"{path.name}{SET_ASIDE}{stamp}" + (f".{max(taken) + 1}" if taken else "")
        for part in (path, *schema.companions(path)):
            if os.path.lexists(part):
                part.rename(path.with_name(name + part.name.removeprefix(path.name)))
        self._notice = f"{path} was set aside as {name} and a new one begun: {why}"
        log.error("%s", self._notice)
        self._drop_oldest_aside()

    def _aside(self) -> dict[str, list[Path]]:
        """What was set aside: the files by the name of the first of each."""
        parts: dict[str, list[Path]] = {}
        for part in self._path.parent.glob(f"{NAME}{SET_ASIDE}*"):
            stem = part.name
            for suffix in schema.COMPANIONS:
                stem = stem.removesuffix(suffix)
            parts.setdefault(stem, []).append(part)
        return parts

    def _drop_oldest_aside(self) -> None:
        parts = self._aside()
        for stem in sorted(parts, key=_aside_order)[:-KEEP_ASIDE]:
            for part in parts[stem]:
                try:
                    part.unlink()
                except OSError as error:
                    log.warning("%s cannot be removed: %s", part, error)

    def _remember_what_can_be_read(self) -> None:
        """Take the file's content into memory, as far as it can be had."""
        try:
            memory = snapshot(self._path)
        except _UNUSABLE as error:
            if self._failure is None:
                self._fail(f"{self._path} cannot be read: {error}")
            return
        if memory is not None:
            self._db.close()
            self._db = memory

    def _check_still_there(self) -> None:
        """SQLite goes on writing into a file that was removed or replaced under it."""
        if self._inode is not None and self._path.stat().st_ino != self._inode:
            raise FileNotFoundError(errno.ENOENT, "replaced under us", str(self._path))

    def _begin_anew(self, error: Exception) -> bool:
        """If the file itself is damaged or gone: leave it and use another."""
        if self._inode is None or (isinstance(error, sqlite3.Error) and not schema.is_damage(error)):
            return False
        self._leave_file()
        self._return_to_directory()
        return True

    def _leave_file(self) -> None:
        """Go back to memory, with what the open file still gives."""
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._db.backup(memory)
            schema.check(memory)
        except (sqlite3.Error, schema.DamagedError):
            memory.close()
            memory = schema.open_memory()
        try:
            self._db.close()
        except sqlite3.Error as error:
            log.debug("closing a lost state file: %s", error)
        self._db, self._inode = memory, None
        self._last_attempt = time.monotonic() - REOPEN_AFTER

    def _return_to_directory(self) -> None:
        if self._directory is None or self._inode is not None:
            return
        if time.monotonic() - self._last_attempt < REOPEN_AFTER:
            return
        self._last_attempt = time.monotonic()
        try:
            self._use_directory()
        except (*_UNUSABLE, StateLockedError) as error:
            self._fail(f"{self._directory} cannot be used, what is proven is kept in memory: {error}")
        else:
            self._recovered()

    # What is said

    def _fail(self, why: str) -> None:
        if self._failure is None:
            log.error("%s", why)
        self._failure = why

    def _recovered(self) -> None:
        if self._directory is not None and self._inode is None:
            return  # written to the memory that stands in for the file
        if self._failure is not None:
            log.info("the state file is written again")
        self._failure = None


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StateLockedError(f"{directory} is in use by another process") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _whole(key: Key, remembered: Remembered) -> Change:
    return Change(key, remembered.document, dict(remembered.rows), clear=True)


def _aside_order(name: str) -> tuple[str, int]:
    stamp, _, number = name.rpartition(SET_ASIDE)[2].partition(".")
    return stamp, int(number) if number.isdecimal() else 1
