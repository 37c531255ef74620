"""How long is ``1h30m``? Text to seconds."""

from __future__ import annotations

import re
from typing import Final

PATTERN: Final = "([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?"
LONGEST: Final = 3650 * 86400.0

_UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile(PATTERN)
_PART: Final = re.compile("([0-9]+)(ms|[dhms])")
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_LONG_UNITS: Final = {
    **dict.fromkeys(("day", "days", "D"), "d"),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "H"), "h"),
    **dict.fromkeys(("minute", "minutes", "min", "mins", "M"), "m"),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "S"), "s"),
    **dict.fromkeys(("millisecond", "milliseconds", "msec", "MS"), "ms"),
}
_NEARLY: Final = re.compile(r"([0-9]+) *([A-Za-z]+)")


def seconds(text: str) -> float:
    """Seconds that `text` means.

    Raises:
        ValueError: it is no duration, not positive or beyond ten years; the text says so without repeating `text`.
    """
    if text and _DURATION.fullmatch(text):
        total = sum(float(number[:20]) * _UNITS[unit] for number, unit in _PART.findall(text))
        if total <= 0:
            raise ValueError("a duration must be longer than nothing")
        if total > LONGEST:
            raise ValueError("a duration of more than ten years")
        return total
    if _NUMBER.fullmatch(text):
        raise ValueError("a duration needs its unit, such as 30s, 5m or 500ms")
    if text.startswith("-"):
        raise ValueError("a duration cannot be negative")
    if (nearly := _NEARLY.fullmatch(text)) and (unit := _LONG_UNITS.get(nearly[2], nearly[2])) in _UNITS:
        raise ValueError(f"not a duration, did you mean {nearly[1][:20] + unit!r}?")
    raise ValueError("not a duration such as 30s, 5m, 1h30m, 500ms or 2d")
