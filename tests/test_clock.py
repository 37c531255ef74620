"""Does the house clock go on when the wall clock does not?"""

from __future__ import annotations

import time

import pytest

from regiondrift.clock import SMALLEST_STEP, Clock
from regiondrift.model import Moment


class Sources:
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.boot = 5000.0
        self.preempted: list[float] = []
        """Seconds that pass unseen between two readings, one reading after the other."""

    def read_wall(self) -> float:
        self._pass()
        return self.wall

    def read_boot(self, clock: int) -> float:
        self._pass()
        return self.boot

    def _pass(self) -> None:
        if self.preempted:
            self.run(self.preempted.pop(0))

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    made = Sources()
    monkeypatch.setattr("regiondrift.clock.time.time", made.read_wall)
    monkeypatch.setattr("regiondrift.clock.time.clock_gettime", made.read_boot)
    return made


def test_it_begins_at_unix_time_and_goes_with_it(sources: Sources) -> None:
    clock = Clock()
    assert float(clock.now()) == 1_700_000_000
    sources.run(10)
    assert float(clock.now()) == 1_700_000_010
    assert isinstance(clock.now(), Moment)
    assert clock.wall(clock.now()) == sources.wall


@pytest.mark.parametrize("step", [3600.0, -3600.0, 0.006, -1.7e9])
def test_a_step_of_the_wall_clock_moves_moments_and_not_the_house(sources: Sources, step: float) -> None:
    clock = Clock()
    before = clock.now()
    sources.wall += step
    sources.run(1)
    assert clock.now() == pytest.approx(before + 1)
    assert clock.measure()
    assert clock.step == pytest.approx(step, abs=1e-6)
    assert clock.wall(before) == pytest.approx(1_700_000_000 + step)
    assert clock.moment(sources.wall) == pytest.approx(before + 1)
    assert not clock.measure(), "it is told once"


def test_steps_add_up_and_may_be_taken_back(sources: Sources) -> None:
    clock = Clock()
    for step in (100.0, 20.0, -120.0):
        sources.wall += step
        assert clock.measure()
    assert clock.step == pytest.approx(0)


def test_a_smaller_difference_is_the_time_between_two_readings(sources: Sources) -> None:
    clock = Clock()
    sources.wall += SMALLEST_STEP * 0.9
    assert not clock.measure()
    assert clock.step == 0


def test_a_process_that_was_held_up_between_two_readings_sees_no_step(sources: Sources) -> None:
    clock = Clock()
    sources.preempted = [0.0, 0.0, 0.5, 0.0, 0.0, 0.5]
    assert not clock.measure()
    assert clock.step == 0


def test_a_machine_that_slept_has_aged(sources: Sources) -> None:
    """CLOCK_BOOTTIME goes on while the machine sleeps, and so does the wall clock: nothing was stepped."""
    clock = Clock()
    before = clock.now()
    sources.run(8 * 3600)
    assert not clock.measure()
    assert clock.now() - before == 8 * 3600


def test_real_clocks_agree() -> None:
    clock = Clock()
    for _ in range(100):
        assert not clock.measure()
    assert abs(clock.wall(clock.now()) - time.time()) < 0.1
    moments = [clock.now() for _ in range(1000)]
    assert moments == sorted(moments)
