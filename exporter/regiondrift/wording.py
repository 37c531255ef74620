"""How is it said to a person? Durations, moments and bytes, as the status page and the table write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from regiondrift.model import State
from regiondrift.verdict import Verdict

VERDICTS: Final = {
    Verdict.BROKEN: "Broken",
    Verdict.BEHIND: "Behind",
    Verdict.UNPROVEN: "Unproven",
    Verdict.UNKNOWN: "Unknown",
    Verdict.OK: "OK",
    Verdict.UNJUDGED: "No objective",
}
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_STEPS: Final = ((10, 0.1), (3_600, 1.0), (86_400, 60.0), (math.inf, 3_600.0))
"""Below so many seconds, durations are told in steps of so many."""
_BYTES: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def duration(seconds: float, *, up: bool = False) -> str:
    """The two greatest units that count: ``4 m 12 s``, ``0.3 s``, ``2 d 7 h``.

    Rounded down, as an age is told and "at least" is true; `up` is for "at most".
    """
    step = next(step for limit, step in _STEPS if seconds < limit)
    steps = round(seconds / step, 6)  # 0.3 / 0.1 is a little less than 3
    whole = math.ceil(steps) if up else math.floor(steps)
    if step < 1 and whole < 100:
        return f"{whole / 10:.1f}".removesuffix(".0") + " s"
    left = round(whole * step)
    parts: list[str] = []
    for size, unit in _UNITS:
        n, left = divmod(left, size)
        if n:
            parts.append(f"{n} {unit}")
    return " ".join(parts[:2])


def took(seconds: float) -> str:
    """How long a look took: ``12 ms``, ``1.4 s``."""
    return duration(round(seconds, 1)) if seconds >= 0.9995 else f"{seconds * 1000:.0f} ms"


def utc(unix: float) -> datetime | None:
    """The moment in UTC; None for one that no calendar holds."""
    try:
        return datetime.fromtimestamp(unix, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def size(n: int) -> str:
    """Bytes, as decimal multiples with three digits: ``734 B``, ``1.25 MB``."""
    value, unit = float(n), 0
    while abs(value) >= 999.5 and unit < len(_BYTES) - 1:
        value, unit = value / 1000, unit + 1
    if not unit:
        return f"{n} B"
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {_BYTES[unit]}"


def state(state: State) -> str:
    return state.value.replace("_", " ")
