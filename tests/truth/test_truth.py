"""Is everything that the exporter says true? Two real servers are cut, slowed, paused, killed and promoted meanwhile.

Every test drives the same two regions and one exporter, which a thread scrapes three times a second; every scrape is
held against what the test knows (`judge`). What a test states itself is what must be said in time. Here: nothing is
wrong, then the link, then replay; beside this file: nodes that are out of sight, changes of the source, and what befalls
the exporter itself.
"""

from __future__ import annotations

import time

import pytest

from truth import exporter as said
from truth.claims import (
    AGAIN,
    becomes,
    busy,
    fresh,
    healthy,
    lags,
    never,
    point,
)
from truth.exporter import INTERVAL
from truth.observer import SOON, Observer

# ---- nothing is wrong


def test_an_idle_source_has_a_complete_copy_that_gets_no_older(seen: Observer) -> None:
    regions = seen.world
    regions.settle()
    healthy(seen)
    seen.until("nothing is missing", lambda s: s.one(said.BEHIND, replica=regions.replica.name) is None)
    quiet = seen.watch(6)
    assert all(s.state(regions.replica.name) == "streaming" for s in quiet)
    assert all(map(fresh(regions), quiet))
    assert all(s.one(said.BEHIND, replica=regions.replica.name) is None for s in quiet)
    # What the source writes of its own accord may fall between the two looks; that it is lacked no longer, judges the judge.
    assert 0 in {s.one(said.LAG_BYTES, replica=regions.replica.name) for s in quiet}
    assert all(s.of(said.SUCCESS, n) == 1 for s in quiet for n in regions.nodes)


def test_a_busy_source_is_followed_within_two_intervals(seen: Observer) -> None:
    busy(seen.world, 60)
    healthy(seen)
    flow = seen.watch(5)
    assert all(map(fresh(seen.world), flow))
    assert all(s.state(seen.world.replica.name) == "streaming" for s in flow)


# ---- the link


def test_a_link_cut_with_a_reset_is_disconnected_and_both_bounds_stand_still(seen: Observer) -> None:
    busy(seen.world)
    seen.world.link("refuse")
    becomes(seen, seen.world.replica, "disconnected")
    lags(seen)
    seen.watch(3)
    lags(seen)
    seen.world.link("pass")
    healthy(seen)


def test_a_link_into_a_black_hole_never_streams_once_t_is_old(seen: Observer) -> None:
    """Neither end knows: the judge holds `streaming` against the age of T."""
    busy(seen.world)
    seen.world.link("blackhole")
    becomes(seen, seen.world.replica, "catching_up", "disconnected", within=2 * SOON)
    lags(seen)
    never("streaming", seen.watch(3), seen.world.replica)
    seen.world.link("pass")
    healthy(seen)


@pytest.mark.parametrize("end", ["source", "replica"])
def test_a_black_hole_is_disconnected_as_soon_as_either_end_knows(seen: Observer, end: str) -> None:
    regions = seen.world
    who = regions.source if end == "source" else regions.replica
    setting = "wal_sender_timeout" if end == "source" else "wal_receiver_timeout"
    who.server.configure(**{setting: "2s"})
    regions.settle()
    healthy(seen)
    regions.link("blackhole")
    becomes(seen, regions.replica, "disconnected", within=SOON + 3)
    # Until the source writes its first byte, be it of housekeeping, the copy is complete, and T says so.
    for s in seen.watch(1.5):
        assert fresh(regions)(s) or s.one(said.BEHIND, replica=regions.replica.name) is not None
    busy(regions)
    lags(seen)
    regions.link("pass")
    who.server.configure(**{setting: "60s"})
    healthy(seen, AGAIN)


def test_a_slow_link_is_catching_up(seen: Observer) -> None:
    regions = seen.world
    regions.writer.width = 2000
    busy(regions, 40)
    regions.link("slow", 3000)
    becomes(seen, regions.replica, "catching_up", within=SOON + 6)
    # A sample from when the link became slow may still be covered late; after that the distance only grows.
    seen.until("T is old", lambda s: point(s, regions.replica) < s.at - 5 * INTERVAL, 3 * SOON)
    lags(seen)
    never("streaming", seen.watch(2), regions.replica)
    regions.writer.width = 20
    regions.link("pass")
    healthy(seen, AGAIN)


# ---- replay


def test_a_paused_replica_is_paused_however_busy_the_source(seen: Observer) -> None:
    busy(seen.world)
    seen.world.replica.server.pause()
    becomes(seen, seen.world.replica, "paused")
    lags(seen)
    seen.watch(2)
    seen.world.replica.server.resume()
    healthy(seen)


def test_a_paused_replica_whose_link_was_cut_stays_disconnected_until_replay_resumes(seen: Observer) -> None:
    """PostgreSQL starts no receiver while replay is paused."""
    replica = seen.world.replica
    busy(seen.world)
    replica.server.pause()
    becomes(seen, replica, "paused")
    seen.world.link("refuse")
    becomes(seen, replica, "disconnected")
    lags(seen)
    seen.world.link("pass")
    assert all(s.state(replica.name) == "disconnected" for s in seen.watch(2))
    replica.server.resume()
    healthy(seen, AGAIN)


def test_a_delayed_replica_trails_by_its_delay(seen: Observer) -> None:
    replica = seen.world.replica
    busy(seen.world)
    replica.server.configure(recovery_min_apply_delay="3s")
    becomes(seen, replica, "delayed")
    time.sleep(3)
    lags(seen)
    trailing = seen.watch(3)
    assert all(s.state(replica.name) == "delayed" for s in trailing)
    ages = [s.at - point(s, replica) for s in trailing]
    assert min(ages) > 2.9
    assert max(ages) < 3 + 2 * INTERVAL + 0.5 + seen.world.noise()
    replica.server.configure(recovery_min_apply_delay="0")
    healthy(seen)


def test_a_replica_whose_replay_waits_for_a_query_is_catching_up_and_not_paused(seen: Observer) -> None:
    regions = seen.world
    source, replica = regions.source.server, regions.replica.server
    replica.configure(max_standby_streaming_delay="-1")
    source.execute("CREATE TABLE IF NOT EXISTS passing AS SELECT generate_series(1, 100) AS n")
    regions.settle()
    with replica.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM passing")
        source.execute("DELETE FROM passing")
        source.execute("VACUUM passing")
        busy(regions)
        becomes(seen, regions.replica, "catching_up", within=2 * SOON)
        lags(seen)
        never("paused", seen.watch(2), regions.replica)
        reader.execute("ROLLBACK")
    source.execute("DROP TABLE passing")
    healthy(seen)
