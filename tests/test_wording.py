"""Are durations, moments and bytes said as a person would say them?"""

from __future__ import annotations

import pytest

from regiondrift import wording


@pytest.mark.parametrize(
    ("seconds", "down", "up"),
    [
        (0, "0 s", "0 s"),
        (0.04, "0 s", "0.1 s"),
        (0.3, "0.3 s", "0.3 s"),
        (1, "1 s", "1 s"),
        (9.96, "9.9 s", "10 s"),
        (59.4, "59 s", "1 m"),
        (252.4, "4 m 12 s", "4 m 13 s"),
        (3_599.5, "59 m 59 s", "1 h"),
        (3_605, "1 h", "1 h 1 m"),
        (86_399, "23 h 59 m", "1 d"),
        (86_400 * 2 + 7 * 3_600, "2 d 7 h", "2 d 7 h"),
        (86_400 * 400, "400 d", "400 d"),
    ],
)
def test_a_bound_is_never_said_too_tight(seconds: float, down: str, up: str) -> None:
    assert wording.duration(seconds) == down
    assert wording.duration(seconds, up=True) == up


@pytest.mark.parametrize(("seconds", "words"), [(0.0123, "12 ms"), (0.9999, "1 s"), (1.44, "1.4 s"), (10, "10 s")])
def test_took(seconds: float, words: str) -> None:
    assert wording.took(seconds) == words


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (48_730_112, "48.7 MB"),
        (999_600, "1.00 MB"),
        (734_000_000_000, "734 GB"),
    ],
)
def test_size(n: int, words: str) -> None:
    assert wording.size(n) == words


def test_moments_that_no_calendar_holds() -> None:
    assert wording.utc(1e300) is None
    assert wording.utc(float("nan")) is None
