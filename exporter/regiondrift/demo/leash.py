"""How does what we start not outlive us, and not run as root? A launcher that binds a command to its parent's life.

This file is imported for `Account` and `command`, and run as a script (``python -I -S leash.py ...``) between us and
the server: it drops root, asks the kernel for a signal at the death of its parent, and becomes the server. That way
needs no code between fork and exec of a process with threads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_DAC_READ_SEARCH: Final = 2
_DAC_OVERRIDE: Final = 1


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that servers run as when we are root."""

    name: str
    uid: int
    gid: int
    passes: bool = False
    """Keeps the one capability that lets it walk through directories closed to others: a checkout or an interpreter
    below ``/root``, a private TMPDIR. Nothing has to be copied or opened for everyone then."""

    def owns(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)


def account(paths: Iterable[Path]) -> Account | None:
    """Whom servers run as; None: as ourselves, we are not root.

    `paths` are what it must be able to reach: programs, and the directory of its files.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        closed = any(not _reaches(path, user.pw_uid, user.pw_gid) for path in paths)
        return Account(name, user.pw_uid, user.pw_gid, closed)
    return Account("65534", 65534, 65534, any(not _reaches(path, 65534, 65534) for path in paths))


def _reaches(path: Path, uid: int, gid: int) -> bool:
    absolute = path.absolute()
    for parent in {*absolute.parents, *absolute.resolve().parents}:
        status = parent.stat()
        bit = 0o100 if status.st_uid == uid else 0o010 if status.st_gid == gid else 0o001
        if not status.st_mode & bit:
            return False
    return True


def command(argv: list[str], user: Account | None, death: signal.Signals = signal.SIGKILL) -> list[str]:
    """`argv` on the leash: runs as `user` and gets `death` when the thread that starts it ends.

    Start it from a thread that lives as long as the process does: the kernel counts threads.
    """
    who = f"{user.uid}:{user.gid}:{int(user.passes)}" if user else ""
    return [sys.executable, "-I", "-S", "-B", __file__, str(os.getpid()), str(int(death)), who, *argv]


def _drop(uid: int, gid: int, passes: bool) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # Read, and every module imported, before: afterwards the interpreter may be out of our own reach.
    permitted = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("CapPrm:")
    )
    if passes:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if not passes:
        return
    # Containers often lack the one that only reads.
    capability = _DAC_READ_SEARCH if permitted & 1 << _DAC_READ_SEARCH else _DAC_OVERRIDE
    mask = 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if libc.capset(header, sets) or libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot keep the capability to pass closed directories")


def _main(args: list[str]) -> None:
    import ctypes

    parent, death, who, *argv = args
    libc = ctypes.CDLL(None)
    if who:
        uid, gid, passes = map(int, who.split(":"))
        _drop(uid, gid, bool(passes))
    # After the change of user, which clears it; and the parent may have ended before.
    libc.prctl(_PR_SET_PDEATHSIG, int(death), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)
    # The interpreter ignores these two; a server must not inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit(f"{argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _main(sys.argv[1:])
