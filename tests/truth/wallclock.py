"""What if somebody sets the clock? A wall clock that one process alone sees stepped; no other clock moves."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest

# Debian's libfaketime moves more than the realtime clock, and a Python under it cannot sleep.
_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *seconds;

__attribute__((constructor)) static void map_shift(void)
{
    const char *name = getenv("WALL_CLOCK_SHIFT");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        seconds = page;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, which, now);
    if (result == 0 && seconds && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        now->tv_sec += *seconds;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec fine;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &fine))
        return -1;
    now->tv_sec = fine.tv_sec;
    now->tv_usec = fine.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec fine;
    clock_gettime(CLOCK_REALTIME, &fine);
    if (where)
        *where = fine.tv_sec;
    return fine.tv_sec;
}
"""


class WallClock:
    """The realtime clock of whatever is started with `environment`, `shift` seconds away from ours."""

    def __init__(self, home: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no C compiler to make the shim with")
        (home / "wallclock.c").write_text(_SOURCE, encoding="utf-8")
        library, shift = home / "wallclock.so", home / "shift"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, home / "wallclock.c"], check=True)
        shift.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(shift)}
        with shift.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)

    @property
    def shift(self) -> float:
        return float(struct.unpack("q", self._page[:8])[0])

    @shift.setter
    def shift(self, seconds: int) -> None:
        self._page[:8] = struct.pack("q", seconds)

    def close(self) -> None:
        self._page.close()
