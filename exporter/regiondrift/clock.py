"""What time is it? A clock that never steps, and how far the wall clock stands from it.

Everything remembered is a `Moment` on the house clock: it advances with ``CLOCK_BOOTTIME`` (which, unlike
``CLOCK_MONOTONIC``, also counts while the machine is suspended) and agrees with Unix time when the process starts.
When the wall clock is stepped, only `step` changes, and with it every exported moment.
"""

from __future__ import annotations

import time
from typing import Final

from regiondrift.model import Moment

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SMALLEST_STEP: Final = 0.005
"""Seconds; below it a difference is the time between two reads of two clocks."""


class Clock:
    """The house clock. Tests pass one with other sources of time."""

    def __init__(self) -> None:
        self._origin = time.time() - time.clock_gettime(_BOOTTIME)
        self.step = 0.0
        """Seconds to add to a `Moment` to get Unix time, as last measured."""

    def now(self) -> Moment:
        return Moment(time.clock_gettime(_BOOTTIME) + self._origin)

    def wall(self, moment: float) -> float:
        """Unix time of a moment."""
        return moment + self.step

    def moment(self, wall: float) -> Moment:
        """The moment of a Unix time, by the wall clock as it stands."""
        return Moment(wall - self.step)

    def measure(self) -> bool:
        """Look whether the wall clock was stepped; True if so, and `step` is what it should be now."""
        apart = self._apart()
        if abs(apart - self.step) < SMALLEST_STEP:
            return False
        # Preempted between the two reads? The smallest of some readings cannot all be.
        apart = min((self._apart() for _ in range(5)), key=lambda x: abs(x - self.step))
        if abs(apart - self.step) < SMALLEST_STEP:
            return False
        self.step = apart
        return True

    def _apart(self) -> float:
        before = time.clock_gettime(_BOOTTIME)
        wall = time.time()
        after = time.clock_gettime(_BOOTTIME)
        return wall - (before + after) / 2 - self._origin
