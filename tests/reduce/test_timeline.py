"""The position samples: bounded, honest about what they do not know, the same for every kind of position."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiondrift.model import Moment
from regiondrift.reduce.timeline import CAPACITY, Timeline


@dataclass(frozen=True)
class Sets:
    """A partially ordered position, as a GTID set is one."""

    held: frozenset[int]

    def __le__(self, other: Sets) -> bool:
        return self.held <= other.held


def samples(*rows: tuple[float, float, int]) -> Timeline:
    timeline = Timeline()
    for row in rows:
        timeline.add(*row)
    return timeline


def test_a_replica_that_holds_the_newest_sample_is_proven_up_to_it() -> None:
    timeline = samples((10, 10.1, 100), (20, 20.1, 200))
    assert timeline.recovery_point(200, look=21) == Moment(20)
    assert timeline.behind_since(200, look=21) is None


def test_a_replica_between_two_samples_lies_between_two_bounds() -> None:
    timeline = samples((10, 10.1, 100), (20, 20.1, 200))
    assert timeline.recovery_point(150, look=21) == Moment(10)
    assert timeline.behind_since(150, look=21) == 20.1


def test_a_sample_after_the_look_proves_the_look_and_no_more() -> None:
    timeline = samples((10, 10.1, 100), (20, 20.1, 100))
    assert timeline.recovery_point(100, look=15) == Moment(15)


def test_what_the_source_got_after_the_look_is_not_yet_known_to_be_missing() -> None:
    timeline = samples((10, 10.1, 100), (20, 20.1, 200))
    assert timeline.behind_since(150, look=15) is None


def test_a_replica_older_than_every_sample_is_proven_of_nothing() -> None:
    timeline = samples((10, 10.1, 100))
    assert timeline.recovery_point(99, look=11) is None
    assert timeline.behind_since(99, look=11) == 10.1


def test_an_idle_source_costs_one_sample() -> None:
    timeline = samples(*[(t, t + 0.1, 100) for t in range(1000)])
    assert len(timeline) == 1
    assert timeline.recovery_point(100, look=2000) == Moment(999)
    assert timeline.behind_since(99, look=2000) == 0.1


def test_a_source_that_lost_its_newest_writes_voids_the_samples_of_them() -> None:
    timeline = samples((10, 10.1, 100), (20, 20.1, 200), (30, 30.1, 150))
    assert timeline.recovery_point(160, look=31) == Moment(30)
    assert list(timeline.positions) == [100, 150]


def test_positions_need_only_a_partial_order() -> None:
    timeline = Timeline()
    for t in range(1, 9):
        timeline.add(t, t + 0.1, Sets(frozenset(range(t))))
    errant = Sets(frozenset({0, 1, 2, 99}))
    assert timeline.recovery_point(errant, look=20) == Moment(3)
    assert timeline.behind_since(errant, look=20) == 4.1


@pytest.mark.timeout(60)
def test_seven_days_of_a_busy_source_fit_with_one_percent_of_uncertainty() -> None:
    timeline, interval, end = Timeline(), 5.0, 7 * 86400.0
    position = 0
    t = 0.0
    while t < end:
        timeline.add(t, t + 0.05, position)
        position += 1000
        t += interval
        assert len(timeline) <= CAPACITY
    widths = [(timeline.answered[i + 1] - timeline.asked[i], end - timeline.asked[i]) for i in range(len(timeline) - 1)]
    assert all(width <= max(0.01 * age, interval + 0.1) for width, age in widths)
    assert timeline.asked[0] == 0.0


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 3)), min_size=1, max_size=200), st.integers(0, 400))
def test_the_rows_of_all_changes_rebuild_the_timeline(steps: list[tuple[float, int]], position: int) -> None:
    timeline, now, at = Timeline(), 0.0, 0
    rows: dict[int, tuple[float, float, int]] = {}
    for i, (pause, growth) in enumerate(steps):
        now, at = now + pause, at + growth if i % 50 else max(0, at - 20)
        timeline.add(now, now + 0.001, at)
        if i % 3 == 0:
            changed, removed = timeline.take_changes()
            assert not changed.keys() & removed
            rows = {n: r for n, r in {**rows, **changed}.items() if n not in removed}
    changed, removed = timeline.take_changes()
    rows = {n: r for n, r in {**rows, **changed}.items() if n not in removed}
    again = Timeline()
    for number in sorted(rows):
        again.restore(number, *rows[number])
    assert again.recovery_point(position, now) == timeline.recovery_point(position, now)
    assert list(again.positions) == list(timeline.positions)
