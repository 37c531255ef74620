"""How long to wait after a failure? Delays as data."""

from __future__ import annotations

import random
from typing import Final

from regiondrift.model import Reason

LONGEST: Final = 30.0
LONGEST_AUTHENTICATION: Final = 300.0
"""Seconds. Wrong credentials rarely mend themselves, and every try may count towards a lockout."""
JITTER: Final = 0.1


def delay(failures: int, reason: Reason, interval: float, chance: random.Random) -> float:
    """Seconds until the next look after `failures` in a row: doubling from the interval, shortened by up to a tenth."""
    if reason is Reason.AUTHENTICATION:
        whole = max(LONGEST_AUTHENTICATION, interval)
    else:
        whole = min(interval * 2.0 ** min(failures - 1, 32), max(LONGEST, interval))
    return whole * (1 - JITTER * chance.random())
