"""What must be said in time? What the tests ask of scrapes; a miss fails, and so does every lie that was told meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from regiondrift.demo.postgres import free_port
from truth import exporter as said
from truth.exporter import INTERVAL, TIMEOUT, Exporter, Scrape
from truth.observer import SOON, Observer
from truth.wallclock import WallClock
from truth.world import Node, World

UNSEEN: Final = SOON + TIMEOUT
"""Seconds until a node that does not even refuse is said to be unseen."""
AGAIN: Final = 12.0
"""Seconds until a node that was unseen for some seconds is looked at again: the exporter backs off."""


@contextmanager
def watched(regions: World, wall_clock: WallClock | None = None) -> Iterator[Observer]:
    """An exporter of its own that watches the regions."""
    seen = Observer(regions, Exporter(regions.configured(), free_port(), wall_clock))
    try:
        seen.start()
        yield seen
    finally:
        seen.kill()
        seen.exporter.remove()


def point(scrape: Scrape, node: Node) -> float:
    """T; long ago, if it is not known."""
    t = scrape.one(said.T, replica=node.name)
    return float("-inf") if t is None else t


def fresh(regions: World) -> Callable[[Scrape], bool]:
    return lambda s: point(s, regions.replica) >= s.at - 2 * INTERVAL - 0.5 - regions.noise()


def healthy(seen: Observer, within: float = SOON) -> Scrape:
    """The replica streams, T is young, and there is one source."""
    regions = seen.world
    return seen.until(
        "T within two intervals of now, streaming, one source",
        lambda s: fresh(regions)(s) and s.state(regions.replica.name) == "streaming" and s.one(said.SOURCES) == 1,
        within,
    )


def becomes(seen: Observer, node: Node, *states: str, within: float = SOON) -> Scrape:
    return seen.until(f"{node.name} is {' or '.join(states)}", lambda s: s.state(node.name) in states, within)


def busy(regions: World, rate: float = 20) -> None:
    """The source goes on committing rows."""
    regions.writer.rate = rate
    time.sleep(0.2)


def lags(seen: Observer) -> None:
    """Both bounds lie within two intervals of what the replica lacks: of the first byte, and of the first commit."""
    regions = seen.world
    end = time.monotonic() + 5
    while regions.first_missing_row() is None or regions.first_missing_byte() is None:
        assert time.monotonic() < end, "the replica was meant to lag"
        time.sleep(0.1)

    def close(scrape: Scrape) -> bool:
        row, byte = regions.first_missing_row(), regions.first_missing_byte()
        since = scrape.one(said.BEHIND, replica=regions.replica.name)
        if row is None or byte is None or since is None:
            return False
        near = 2 * INTERVAL + 0.5 + regions.noise()
        return point(scrape, regions.replica) >= byte - near and since <= row + near

    seen.until("T and behind since within two intervals of the first missing commit", close)


def never(state: str, scrapes: list[Scrape], node: Node) -> None:
    assert all(s.state(node.name) != state for s in scrapes), f"{node.name} was {state}"


def is_failed_over(seen: Observer, failovers: float, point_then: float) -> Scrape:
    """The failover is counted, with the recovery point that was proven; the old source is a replica out of sight."""
    done = seen.until("one failover more", lambda s: s.one(said.FAILOVERS) == failovers + 1, AGAIN)
    proven = done.one(said.FAILOVER_POINT)
    assert proven is not None
    assert proven >= point_then
    return done
