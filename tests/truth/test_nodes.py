"""What is said of a node that ended, hangs or is out of reach? What is still known, and nothing else."""

from __future__ import annotations

import pytest

from truth import exporter as said
from truth.claims import (
    AGAIN,
    UNSEEN,
    becomes,
    busy,
    healthy,
    point,
)
from truth.exporter import INTERVAL
from truth.observer import SOON, Observer

# ---- servers that end


def test_a_source_that_is_killed_takes_no_proof_with_it(seen: Observer) -> None:
    """T stands still, a replica that restarts meanwhile changes nothing, and the source's return is no failover."""
    regions = seen.world
    busy(regions)
    healthy(seen)
    failovers = seen.last.one(said.FAILOVERS)
    regions.stop(regions.source, "kill")
    killed = regions.source.hidden_since
    assert killed is not None
    gone = seen.until("no source is counted", lambda s: s.one(said.SOURCES) is None)
    assert point(gone, regions.replica) >= killed - 2 * INTERVAL - 0.5 - regions.noise()
    becomes(seen, regions.replica, "disconnected")
    regions.stop(regions.replica)
    regions.start(regions.replica)
    becomes(seen, regions.replica, "disconnected", within=AGAIN)
    stands = seen.watch(2)
    assert {point(s, regions.replica) for s in stands} == {point(stands[0], regions.replica)}
    assert point(stands[0], regions.replica) >= point(gone, regions.replica) - 0.001
    regions.start(regions.source)
    assert healthy(seen, AGAIN).one(said.FAILOVERS) == failovers


def test_a_source_that_is_shut_down_and_started_again(seen: Observer) -> None:
    regions = seen.world
    busy(regions)
    failovers = seen.last.one(said.FAILOVERS)
    regions.stop(regions.source)
    seen.until("its probe fails", lambda s: s.of(said.SUCCESS, regions.source.name) == 0)
    becomes(seen, regions.replica, "disconnected")
    regions.start(regions.source)
    assert healthy(seen, AGAIN).one(said.FAILOVERS) == failovers


def test_a_replica_that_is_stopped_is_unreachable(seen: Observer) -> None:
    regions = seen.world
    busy(regions)
    regions.stop(regions.replica)
    becomes(seen, regions.replica, "unreachable")
    seen.until("nothing is said of its data", lambda s: s.one(said.BEHIND, replica=regions.replica.name) is None)
    assert all(point(s, regions.replica) > s.at - 60 for s in seen.watch(1)), "T stays"
    regions.start(regions.replica)
    healthy(seen, AGAIN)


def test_a_frozen_replica_times_out(seen: Observer) -> None:
    regions = seen.world
    busy(regions)
    before = seen.last.failures(regions.replica.name).get("timeout", 0)
    regions.freeze(regions.replica)
    becomes(seen, regions.replica, "unreachable", within=UNSEEN)
    seen.until("a timeout", lambda s: s.failures(regions.replica.name).get("timeout", 0) > before)
    regions.thaw(regions.replica.name)
    healthy(seen, AGAIN)


def test_a_frozen_source_is_no_source_and_its_replica_is_not_blamed(seen: Observer) -> None:
    regions = seen.world
    busy(regions)
    regions.freeze(regions.source)
    seen.until("the source is not counted", lambda s: s.one(said.SOURCES) is None, UNSEEN)
    becomes(seen, regions.replica, "catching_up", "disconnected", within=UNSEEN)
    regions.thaw(regions.source.name)
    healthy(seen, AGAIN)


# ---- what the exporter cannot reach


@pytest.mark.parametrize("mode", ["refuse", "blackhole"])
def test_a_source_out_of_reach_leaves_its_replica_to_its_own_word(seen: Observer, mode: str) -> None:
    regions = seen.world
    busy(regions)
    healthy(seen)
    reason = "timeout" if mode == "blackhole" else "unreachable"
    before = seen.last.failures(regions.source.name).get(reason, 0)
    regions.hide(regions.source, mode)  # type: ignore[arg-type]
    hidden = regions.source.hidden_since
    assert hidden is not None
    seen.until(
        f"the source is unseen: {reason}",
        lambda s: s.one(said.SOURCES) is None and s.failures(regions.source.name).get(reason, 0) > before,
        UNSEEN,
    )
    # The link is open: T is all there is against it.
    becomes(seen, regions.replica, "catching_up", within=2 * SOON)
    assert point(seen.last, regions.replica) >= hidden - 2 * INTERVAL - 0.5 - regions.noise()
    regions.show(regions.source)
    healthy(seen, AGAIN)


@pytest.mark.parametrize("mode", ["refuse", "blackhole"])
def test_a_replica_out_of_reach_is_unreachable_and_said_to_lack_nothing(seen: Observer, mode: str) -> None:
    regions = seen.world
    busy(regions)
    healthy(seen)
    regions.hide(regions.replica, mode)  # type: ignore[arg-type]
    hidden = regions.replica.hidden_since
    assert hidden is not None
    becomes(seen, regions.replica, "unreachable", within=UNSEEN)
    seen.until(
        "neither bytes nor behind since",
        lambda s: all(
            s.one(x, replica=regions.replica.name) is None for x in (said.BEHIND, said.LAG_BYTES, said.SOURCES)
        ),
        UNSEEN,
    )
    assert point(seen.last, regions.replica) >= hidden - 2 * INTERVAL - 0.5 - regions.noise()
    regions.show(regions.replica)
    healthy(seen, AGAIN)
