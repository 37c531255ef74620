"""The delays after failures, as data."""

from __future__ import annotations

import random

import pytest

from regiondrift.model import Reason
from regiondrift.schedule.backoff import JITTER, delay


class Never(random.Random):
    def random(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("interval", "delays"),
    [(5.0, [5, 10, 20, 30, 30]), (1.0, [1, 2, 4, 8, 16, 30, 30]), (60.0, [60, 60]), (15.0, [15, 30, 30])],
)
def test_doubling_from_the_interval_to_thirty_seconds_or_the_interval(interval: float, delays: list[float]) -> None:
    assert [delay(n + 1, Reason.UNREACHABLE, interval, Never()) for n in range(len(delays))] == delays


def test_wrong_credentials_wait_five_minutes_at_once() -> None:
    assert delay(1, Reason.AUTHENTICATION, 5.0, Never()) == 300


def test_jitter_only_shortens() -> None:
    chance = random.Random(1)
    seen = [delay(1, Reason.TIMEOUT, 10.0, chance) for _ in range(1000)]
    assert all(10 * (1 - JITTER) <= d <= 10 for d in seen)
    assert max(seen) - min(seen) > 0.9


def test_a_year_of_failures_does_not_overflow() -> None:
    assert delay(10**9, Reason.TIMEOUT, 5.0, Never()) == 30
