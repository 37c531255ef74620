"""What if it befalls the exporter itself? Killed, frozen, begun too late, under a wrong clock: nothing false, still."""

from __future__ import annotations

import time
from pathlib import Path

from truth import exporter as said
from truth.claims import (
    AGAIN,
    becomes,
    busy,
    healthy,
    is_failed_over,
    lags,
    point,
    watched,
)
from truth.exporter import INTERVAL
from truth.observer import Observer
from truth.wallclock import WallClock


def test_an_exporter_killed_in_the_middle_of_a_lag_goes_on_where_it_was(seen: Observer) -> None:
    """Its samples survive: they prove positions from before it was killed."""
    regions = seen.world
    replica = regions.replica
    busy(regions)
    healthy(seen)
    replica.server.configure(recovery_min_apply_delay="8s")
    time.sleep(5)
    before = seen.last
    seen.kill()
    killed = time.time()
    time.sleep(1)
    seen.start()
    first = seen.until("T, from the first scrape on", lambda s: True)
    assert point(before, replica) - 1.5 * INTERVAL <= point(first, replica) <= killed
    # Nothing that was sampled since the restart can be on the replica yet.
    later = seen.until("T moves on", lambda s: point(s, replica) > point(before, replica) + INTERVAL)
    assert point(later, replica) < killed
    replica.server.configure(recovery_min_apply_delay="0")
    healthy(seen)


def test_an_exporter_that_begins_in_the_middle_of_a_lag_claims_nothing(seen: Observer) -> None:
    """And two exporters do not disturb each other."""
    regions = seen.world
    replica = regions.replica
    busy(regions)
    healthy(seen)
    regions.link("blackhole")
    time.sleep(2)
    with watched(regions) as second:
        known = second.until(
            "the replica is behind, its state unknown",
            lambda s: s.state(replica.name) == "unknown" and s.one(said.BEHIND, replica=replica.name) is not None,
        )
        assert known.one(said.T, replica=replica.name) is None
        assert known.one(said.SOURCES) == 1
        lags(seen)
        replica.server.pause()
        becomes(second, replica, "paused")
        assert second.last.one(said.T, replica=replica.name) is None
        regions.link("pass")
        replica.server.resume()
        healthy(second)
        healthy(seen)
        regions.link("refuse")
        lags(second)
        lags(seen)
        regions.link("pass")
        healthy(second)
        second.verdict()


def test_a_wall_clock_that_steps_changes_the_age_of_nothing(seen: Observer, tmp_path: Path) -> None:
    """An hour on, two hours back, and a restart under the wrong clock; the judge's clock does not step."""
    regions = seen.world
    replica = regions.replica
    busy(regions)
    clock = WallClock(tmp_path)
    try:
        with watched(regions, clock) as second:
            healthy(second)
            replica.server.pause()
            becomes(second, replica, "paused")
            lags(second)
            stands = point(second.last, replica)
            for shift in (3600, -3600):
                clock.shift = shift
                stepped = second.watch(2)[1:]
                assert all(abs(point(s, replica) - stands) < 0.1 for s in stepped), [point(s, replica) for s in stepped]
                assert all(s.state(replica.name) == "paused" for s in stepped)
            time.sleep(2 * INTERVAL)
            second.kill()
            second.start()
            assert abs(point(second.last, replica) - stands) < 0.1
            replica.server.resume()
            healthy(second)
            second.verdict()
    finally:
        clock.close()
    healthy(seen)


def test_an_exporter_frozen_in_the_middle_of_a_lag_shows_nothing_old_as_new(seen: Observer) -> None:
    """What it had asked before it froze is answered when it goes on: the answer is as old as the question."""
    regions = seen.world
    busy(regions)
    healthy(seen)
    regions.link("refuse")
    lags(seen)
    seen.freeze(4)
    lags(seen)
    regions.link("pass")
    seen.freeze(2)
    healthy(seen)


def test_a_failover_while_the_exporter_is_down_is_counted_when_it_is_back(seen: Observer) -> None:
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    old, new = regions.source, regions.replica
    then = point(seen.last, new)
    seen.kill()
    regions.stop(old, "kill")
    regions.promote(new)
    regions.fail_over()
    seen.start()
    is_failed_over(seen, failovers, then - 1.5 * INTERVAL)
    becomes(seen, old, "unreachable")
    regions.rejoin(old, rewind=True)
    healthy(seen, AGAIN)
