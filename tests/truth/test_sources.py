"""Who accepts writes? Failovers, split brains, divergence, and no source at all."""

from __future__ import annotations

import time

import pytest

from truth import exporter as said
from truth.claims import (
    AGAIN,
    becomes,
    busy,
    healthy,
    is_failed_over,
    lags,
    point,
)
from truth.exporter import INTERVAL
from truth.observer import Observer


@pytest.mark.parametrize("rewind", [True, False], ids=["rewound", "copied"])
def test_a_replica_promoted_after_its_source_died(seen: Observer, rewind: bool) -> None:
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    # What is committed now is lost: the link is cut before the source dies.
    regions.link("refuse")
    lags(seen)
    old, new = regions.source, regions.replica
    regions.stop(old, "kill")
    becomes(seen, new, "disconnected")
    seen.until("the source is unseen", lambda s: s.one(said.SOURCES) is None)
    then = point(seen.last, new)
    regions.promote(new)
    regions.fail_over()
    is_failed_over(seen, failovers, then)
    seen.until("the promoted node is no replica", lambda s: s.state(new.name) is None and point(s, new) < 0)
    becomes(seen, old, "unreachable")
    assert all(s.one(said.SOURCES) is None for s in seen.watch(1)), "the old source may accept writes, for all we know"
    regions.link("pass")
    regions.rejoin(old, rewind=rewind)
    assert healthy(seen, AGAIN).one(said.FAILOVERS) == failovers + 1


def test_a_source_shut_down_in_order_follows_its_promoted_replica_as_it_is(seen: Observer) -> None:
    """Nothing was lost and nothing has to be rewound: it is never diverged."""
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    then = point(seen.last, regions.replica)
    regions.switch()
    is_failed_over(seen, failovers, then)
    healthy(seen, AGAIN)


def test_a_switch_in_no_time_never_looks_like_two_sources(seen: Observer) -> None:
    """Source killed and replica promoted between two looks: what was seen writing before may write no more."""
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    old, new = regions.source, regions.replica
    then = point(seen.last, new)
    looked = seen.last.of(said.LAST, old.name) or 0
    seen.until("a look at the source", lambda s: (s.of(said.LAST, old.name) or 0) > looked)
    regions.stop(old, "kill")
    regions.promote(new)
    regions.fail_over()
    is_failed_over(seen, failovers, then)
    becomes(seen, old, "unreachable")
    regions.rejoin(old, rewind=True)
    healthy(seen, AGAIN)


def test_a_replica_promoted_beside_its_living_source_splits_the_brain(seen: Observer) -> None:
    """No failover counts until one of the two is gone."""
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    old, new = regions.source, regions.replica
    then = point(seen.last, new)
    regions.promote(new)
    seen.until("two sources, split brain", lambda s: s.one(said.SOURCES) == 2 and s.state(new.name) == "split_brain")
    both = seen.watch(3)
    assert all(s.one(said.FAILOVERS) == failovers for s in both)
    assert len({point(s, new) for s in both}) == 1, "nothing is proven while two accept writes"
    regions.stop(old)
    regions.fail_over()
    old.diverged, new.diverged = True, False
    is_failed_over(seen, failovers, then)
    becomes(seen, old, "unreachable")
    regions.rejoin(old, rewind=True)
    regions.split_since = None
    healthy(seen, AGAIN)


def test_a_source_out_of_sight_comes_back_into_a_split_brain(seen: Observer) -> None:
    """For all the exporter could see it was a failover. It is not counted again when one of the two is gone."""
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS) or 0
    old, new = regions.source, regions.replica
    regions.hide(old)
    seen.until("the source is unseen", lambda s: s.one(said.SOURCES) is None)
    then = point(seen.last, new)
    regions.promote(new)
    is_failed_over(seen, failovers, then)
    becomes(seen, old, "unreachable")
    regions.show(old)
    seen.until(
        "two sources, split brain", lambda s: s.one(said.SOURCES) == 2 and s.state(old.name) == "split_brain", AGAIN
    )
    regions.stop(old)
    regions.fail_over()
    old.diverged, new.diverged = True, False
    becomes(seen, old, "unreachable")
    regions.rejoin(old, rewind=True)
    regions.split_since = None
    assert healthy(seen, AGAIN).one(said.FAILOVERS) == failovers + 1


def test_a_standby_that_was_promoted_aside_is_diverged_until_it_is_copied_anew(seen: Observer) -> None:
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS)
    aside = regions.replica
    regions.promote(aside)
    becomes(seen, aside, "split_brain")
    aside.server.execute("INSERT INTO ledger SELECT -n FROM generate_series(1, 1000) AS n")
    regions.demote(aside)
    becomes(seen, aside, "diverged", within=AGAIN)
    assert all(s.state(aside.name) == "diverged" for s in seen.watch(3))
    # What was known of it stays known while it cannot be seen.
    regions.hide(aside)
    seen.until("it is unseen", lambda s: s.of(said.SUCCESS, aside.name) == 0)
    assert all(s.state(aside.name) == "diverged" for s in seen.watch(1))
    regions.show(aside)
    regions.rejoin(aside, rewind=False)
    regions.split_since = None
    assert healthy(seen, AGAIN).one(said.FAILOVERS) == failovers


def test_without_any_source_t_stands_still_and_nobody_is_promoted(seen: Observer) -> None:
    """Both are standbys, and stream from each other."""
    regions = seen.world
    busy(regions)
    failovers = healthy(seen).one(said.FAILOVERS)
    source = regions.source
    source.server.settings.pop("primary_conninfo", None)
    regions.demote(source)
    seen.until(
        "no source",
        lambda s: s.one(said.SOURCES) == 0 and s.state(regions.replica.name) == "no_source",
        AGAIN,
    )
    time.sleep(INTERVAL)
    assert len({point(s, regions.replica) for s in seen.watch(2)}) == 1
    regions.undo_demotion(source)
    assert healthy(seen, AGAIN).one(said.FAILOVERS) == failovers
