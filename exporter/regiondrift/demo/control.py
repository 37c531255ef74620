"""Where does a demo live, and how is it told what to do? One directory per user below TMPDIR, and a socket in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SOCKET: Final = "control"
_LOCK: Final = "lock"
PATIENCE: Final = 60.0
"""Seconds that a command waits for its answer; a rebuild takes a few."""


class RunningError(Exception):
    """A demo of this user runs already, or its directory cannot be ours."""


class AbsentError(Exception):
    """No demo of this user runs."""


def directory() -> Path:
    return Path(tempfile.gettempdir()) / f"regiondrift-demo-{os.getuid()}"


class Claim:
    """The directory, held by a lock that ends with the process. What a killed demo left in it is removed.

    Raises:
        RunningError: somebody holds it.
    """

    def __init__(self) -> None:
        self.path = directory()
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(0o700)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise RunningError(f"{self.path} is somebody else's: set TMPDIR to a directory of your own")
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may just have removed what we opened.
            if (self.path / _LOCK).stat().st_ino != os.fstat(self._lock).st_ino:
                raise BlockingIOError
        except OSError:
            os.close(self._lock)
            raise RunningError(
                f"a demo runs already in {self.path}: drive it with regiondrift demo status, or set another TMPDIR"
            ) from None
        for left in self.path.iterdir():
            if left.name != _LOCK:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    def release(self) -> None:
        """Remove the directory and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's name, short however long TMPDIR is: a Unix address has 107 bytes."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{_SOCKET}"
    finally:
        os.close(folder)


def listen(path: Path) -> socket.socket:
    """The demo's end of the control socket; only its own user can connect."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        with _address(path) as address:
            listener.bind(address)
    finally:
        os.umask(mask)
    listener.listen(8)
    return listener


def receive(listener: socket.socket) -> tuple[str, socket.socket] | None:
    """The next command and where its answer goes; None if who asked went away."""
    connection, _ = listener.accept()
    connection.settimeout(1)
    try:
        return connection.recv(64).decode(errors="replace").strip(), connection
    except OSError:
        connection.close()
        return None


def answer(connection: socket.socket, code: int, text: str) -> None:
    """End a command with its exit code and what it says."""
    with connection, contextlib.suppress(OSError):
        connection.sendall(f"{code}\n{text}".encode())


def ask(command: str) -> tuple[int, str]:
    """Tell the running demo; its exit code and its words.

    Raises:
        AbsentError: none runs.
    """
    path = directory()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            if path.lstat().st_uid != os.getuid():
                raise AbsentError(f"{path} is somebody else's")
            with _address(path) as address:
                connection.connect(address)
            connection.sendall(command.encode())
            said = b""
            while data := connection.recv(65536):
                said += data
        except TimeoutError:
            return 1, f"the demo in {path} did not answer within {PATIENCE:.0f} s"
        except OSError:
            raise AbsentError(f"no demo of yours runs (none in {path}): start one with make demo") from None
    code, _, text = said.decode(errors="replace").partition("\n")
    return (int(code), text) if code.isdigit() else (1, "the demo ended before it answered")
