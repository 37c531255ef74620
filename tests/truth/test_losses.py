"""What is lost, and was it promised? Crashes, copies under load, a right taken away, a source brought back from the past."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from regiondrift.schedule.backoff import LONGEST
from truth import exporter as said
from truth.claims import AGAIN, becomes, busy, healthy, is_failed_over, lags, point
from truth.exporter import INTERVAL, Scrape
from truth.judge import MARGIN
from truth.observer import Observer
from truth.witness import Row
from truth.world import Node, World

RATE = 60.0
"""Rows a second, so that there are some to be lost."""
COPIED_AT = "5M"
"""Bytes a second: a copy takes so long that the source is looked at meanwhile."""


def test_what_a_crashed_source_had_not_sent_is_lost_and_was_said_to_be_exposed(seen: Observer) -> None:
    """The source dies with rows that it acknowledged and nobody else has; every other row is on the replica."""
    regions = seen.world
    busy(regions, RATE)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    regions.link("blackhole")
    lags(seen)
    old, new = regions.source, regions.replica
    regions.stop(old, "kill")
    exposed = _exposed(seen, old, new)
    regions.link("refuse")
    regions.promote(new)
    lost = _lost(regions, old, new)
    _was_said(exposed, lost, new)
    assert len(lost) > RATE, "the writer went on for longer than a second after the link was cut"
    regions.fail_over()
    done = is_failed_over(seen, failovers, point(exposed, new))
    assert done.one(said.FAILOVER_POINT) == point(exposed, new), "nothing was proven after the source was gone"
    regions.link("pass")
    regions.rejoin(old, rewind=True)
    healthy(seen, AGAIN)


def test_a_replica_that_lags_is_promoted_and_loses_no_more_than_was_said(seen: Observer) -> None:
    """The link carries less than the source writes: the replica never stands still, and is further behind every second."""
    regions = seen.world
    busy(regions, RATE)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    regions.writer.width = 1000
    regions.link("slow", 20_000)
    old, new = regions.source, regions.replica
    lags(seen)
    moving = seen.watch(4)
    assert point(moving[-1], new) > point(moving[0], new), "it lags, and goes on"
    assert moving[-1].at - point(moving[-1], new) > moving[0].at - point(moving[0], new)
    becomes(seen, new, "catching_up")
    regions.link("refuse")
    regions.stop(old, "kill")
    regions.writer.width = 20
    exposed = _exposed(seen, old, new)
    regions.promote(new)
    lost = _lost(regions, old, new)
    _was_said(exposed, lost, new)
    assert lost, "it lagged"
    regions.fail_over()
    is_failed_over(seen, failovers, point(exposed, new))
    regions.link("pass")
    regions.rejoin(old, rewind=False)
    healthy(seen, AGAIN)


def test_a_replica_rebuilt_under_load_is_one_resync(seen: Observer) -> None:
    """T stands still while it is away, and is true of the new copy from the first word on."""
    regions = seen.world
    busy(regions, RATE)
    replica = regions.replica
    resyncs = healthy(seen).one(said.RESYNCS, replica=replica.name) or 0
    regions.stop(replica)
    away = becomes(seen, replica, "unreachable")
    scrapes = [away]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as others:
        copying = others.submit(regions.copy, replica, COPIED_AT)
        while not copying.done():
            scrapes += seen.watch(INTERVAL / 2)
        copying.result()
    regions.start(replica)
    assert time.monotonic() - began > 3 * INTERVAL, "the copy was meant to be seen"
    away_only = [s for s in scrapes if s.asked < replica.started - INTERVAL]
    assert {point(s, replica) for s in away_only} == {point(away, replica)}
    assert {s.state(replica.name) for s in away_only} == {"unreachable"}
    assert {s.one(said.RESYNCS, replica=replica.name) for s in away_only} == {resyncs}
    back = healthy(seen, LONGEST)
    assert back.one(said.RESYNCS, replica=replica.name) == resyncs + 1
    assert all(s.one(said.RESYNCS, replica=replica.name) == resyncs + 1 for s in seen.watch(3))


def test_a_right_that_is_taken_away_takes_the_sight_and_nothing_else(seen: Observer) -> None:
    """Both nodes are refused as such: nothing is proven, nothing made up, until the role may look again."""
    regions = seen.world
    busy(regions)
    before = healthy(seen)
    failures = {n.name: before.failures(n.name).get("permission", 0) for n in regions.nodes.values()}
    regions.revoke()
    try:
        becomes(seen, regions.replica, "unreachable")
        blind = seen.until(
            "both are refused, for want of permission",
            lambda s: (
                all(
                    s.of(said.SUCCESS, name) == 0 and s.failures(name).get("permission", 0) > n
                    for name, n in failures.items()
                )
                and s.one(said.SOURCES) is None
            ),
        )
        still = seen.watch(3)
        assert {point(s, regions.replica) for s in still} == {point(blind, regions.replica)}
        for scrape in still:
            for name in (said.BEHIND, said.LAG_BYTES, said.REPORTED_LAG):
                assert scrape.one(name, replica=regions.replica.name) is None
    finally:
        regions.grant()
    after = healthy(seen, AGAIN)
    for name in (said.FAILOVERS, said.RESYNCS):
        assert after.one(name) == before.one(name)


@pytest.mark.parametrize("killed", [False, True], ids=["watched", "while-the-exporter-was-dead"])
def test_a_source_brought_back_from_the_past_leaves_its_replica_diverged(seen: Observer, killed: bool) -> None:
    """The replica has rows that its source has lost, on the same timeline; that the source overtakes it changes nothing."""
    regions = seen.world
    busy(regions)
    healthy(seen)
    kept = regions.cold_copy()
    ahead = regions.replica
    then = healthy(seen, AGAIN)
    failovers, resyncs = then.one(said.FAILOVERS), then.one(said.RESYNCS)
    busy(regions, RATE)
    seen.watch(3)
    regions.settle()
    if killed:
        seen.kill()
    regions.restore(kept)
    if killed:
        seen.start()
    diverged = becomes(seen, ahead, "diverged", within=AGAIN)
    busy(regions, RATE)
    overtaken = regions.replica.monitor.glances()[-1].position
    still = [diverged, *seen.watch(2)]
    regions.source.server.execute("SELECT pg_switch_wal()")
    regions.source.server.execute("CREATE TABLE more AS SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n")
    assert regions.source.server.value("SELECT pg_current_wal_flush_lsn() - '0/0'") > overtaken
    regions.source.server.execute("DROP TABLE more")
    still += seen.watch(4)
    assert {point(s, ahead) for s in still} == {point(diverged, ahead)}
    assert {s.state(ahead.name) for s in still} == {"diverged"}
    # Only a copy that is seen to be sent proves that it is another one: its position could as well be the old one's.
    regions.stop(ahead)
    regions.writer.keep(regions.ids(regions.source) or set())
    seen.until("it is unseen", lambda s: s.of(said.SUCCESS, ahead.name) == 0)
    regions.copy(ahead, COPIED_AT)
    regions.start(ahead)
    back = healthy(seen, LONGEST)
    assert (back.one(said.FAILOVERS), back.one(said.RESYNCS)) == (failovers, (resyncs or 0) + 1)


def _exposed(seen: Observer, source: Node, replica: Node) -> Scrape:
    """What is said of the replica when its source is known to be gone: whoever promotes it now decides by that."""
    seen.until("the source is unseen", lambda s: s.of(said.SUCCESS, source.name) == 0)
    first, *rest = seen.watch(2 * INTERVAL)
    assert {point(s, replica) for s in rest} == {point(first, replica)}, "T stands still without a source"
    assert rest[-1].one(said.T, replica=replica.name) is not None
    return rest[-1]


def _lost(regions: World, source: Node, replica: Node) -> list[Row]:
    """The rows that the source had acknowledged, and the promoted replica lacks."""
    have = regions.ids(replica)
    assert have is not None
    return [row for row in regions.writer.rows(source.name) if row.id not in have]


def _was_said(exposed: Scrape, lost: list[Row], replica: Node) -> None:
    """Not one of them was promised."""
    promised = point(exposed, replica) - MARGIN
    assert [row for row in lost if row.acked < promised] == []
