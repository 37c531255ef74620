"""Which statements of a scrape are false? Absent is allowed. Nothing here knows how fast the exporter should be.

What may be stale is judged by the exporter's own last look: a statement is false if it was false already at that look,
and has been ever since. When that look was is read from a scrape that is a second older, so that everything that came
of it has been exported by now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from regiondrift.model.replication import State
from truth import exporter as said
from truth.exporter import INTERVAL, OBJECTIVE, Scrape
from truth.witness import Glance
from truth.world import REGIONS, Node, World

STATES: Final = {s.value for s in State}
DIGESTED: Final = 1.0
"""Seconds within which a look is certain to be in the exposition."""
MARGIN: Final = 0.005
"""Two clocks cannot be read at once."""
REACH: Final = 0.2
"""A connection that is being cut may still deliver for so long."""


@dataclass(frozen=True)
class Case:
    """One scrape before the judge."""

    world: World
    scrape: Scrape
    before: Scrape | None
    """One that is at least `DIGESTED` older, of the same process."""
    _ids: dict[str, set[int] | None] = field(default_factory=dict)

    def ids(self, node: Node) -> set[int] | None:
        """The rows that it has now, after the scrape; None if it cannot be asked."""
        if node.name not in self._ids:
            self._ids[node.name] = self.world.ids(node)
        return self._ids[node.name]

    def seen(self, *nodes: Node) -> float:
        """The exporter has looked at all of `nodes` at or after this moment, and has said what it saw."""
        if self.before is None:
            return float("-inf")
        looks = []
        for node in nodes:
            last = self.before.of(said.LAST, node.name)
            looks.append(float("-inf") if last is None else last - (self.before.of(said.DURATION, node.name) or 0.0))
        return min(looks) - MARGIN

    def unseen(self, node: Node) -> bool:
        """The exporter's own word is that its last looks at the node have failed."""
        return all(s is not None and s.of(said.SUCCESS, node.name) == 0 for s in (self.scrape, self.before))

    def held(self, node: Node, holds: Callable[[Glance], bool], *seen: Node) -> bool:
        """`holds` was true of the node when the exporter last looked at it (and at `seen`), and has been since."""
        since = node.monitor.since(holds)
        return since is not None and since < self.seen(node, *seen)


def lies(case: Case) -> Iterator[str]:
    """Every false statement."""
    for node in case.world.nodes.values():
        # The exporter may have looked a moment before the scrape, and seen a change that we have yet to see.
        node.monitor.next(case.scrape.at)
    yield from _expectations(case)
    yield from _probes(case)
    yield from _link(case)
    for series in case.scrape.all(said.STATE, state="unknown"):
        name, source_region = series.labels["replica"], series.labels["source_region"]
        if name not in REGIONS or series.labels["target_region"] != REGIONS[name]:
            yield f"there is no replica {name} in {series.labels['target_region']}"
            continue
        node = case.world.nodes[name]
        yield from _direction(case, node, source_region)
        yield from _recovery_point(case, node, source_region)
        yield from _behind_since(case, node)
        yield from _bytes(case, node)
        yield from _state(case, node)


def _expectations(case: Case) -> Iterator[str]:
    if (rpo := case.scrape.one(said.RPO)) != OBJECTIVE:
        yield f"the objective is {rpo}"
    if (expected := case.scrape.one(said.EXPECTED)) != 1:
        yield f"{expected} replicas are expected"


def _probes(case: Case) -> Iterator[str]:
    for node in case.world.nodes.values():
        hidden, last = node.hidden_since, case.scrape.of(said.LAST, node.name)
        if last is not None and last > case.scrape.at + MARGIN:
            yield f"last success of {node.name} lies in the future"
        if hidden is not None and last is not None and last > hidden + REACH:
            yield f"{node.name} was looked at {last - hidden:.2f} s after it could be reached"


def _link(case: Case) -> Iterator[str]:
    world, scrape = case.world, case.scrape
    nodes = list(world.nodes.values())
    sources = scrape.one(said.SOURCES)
    if sources is not None and sources >= 2:
        if world.split_since is None:
            yield f"sources = {sources}, but two nodes have never accepted writes at the same time"
        for node in nodes:
            if case.unseen(node) or case.held(node, lambda g: not g.writes):
                yield f"sources = {sources}, but {node.name} does not accept writes"
    elif sources is not None:
        for node in nodes:
            if case.unseen(node):
                yield f"sources = {sources}, but {node.name} is unseen"
        truth = [case.held(n, lambda g: g.writes, *nodes) for n in nodes]
        if all(t or case.held(n, lambda g: g.follows, *nodes) for t, n in zip(truth, nodes, strict=True)) and (
            sources != sum(truth)
        ):
            yield f"sources = {sources}, but {sum(truth)} nodes accept writes"
    failovers, point = scrape.one(said.FAILOVERS), scrape.one(said.FAILOVER_POINT)
    if failovers is None or failovers > world.promotions:
        yield f"failovers_total is {failovers}, and {world.promotions} nodes were promoted"
    if point is not None:
        if not failovers:
            yield "a recovery point of a failover that was not"
        if point > scrape.at:
            yield "the recovery point of the failover lies in the future"
        if world.lost_from is not None:
            promoted, left = world.lost_from
            yield from _rows(case, "the failover's recovery point", point, world.nodes[promoted], left)
    sole = world.sole_source()
    if (
        sole is not None
        and sole[1] < case.seen(sole[0])
        and all(case.unseen(n) or sole[1] < case.seen(n) for n in nodes)
    ):
        for name in (said.STATE, said.T, said.BEHIND, said.LAG_BYTES, said.RESYNCS):
            if scrape.all(name, replica=sole[0].name):
                yield f"{name} of {sole[0].name}, which is the source"
        for node in nodes:
            if node is not sole[0] and len(scrape.all(said.STATE, replica=node.name)) != len(STATES):
                yield f"{node.name} has no state"


def _direction(case: Case, node: Node, source_region: str) -> Iterator[str]:
    nodes = list(case.world.nodes.values())
    sole = case.world.sole_source()
    if sole is not None and sole[1] < case.seen(*nodes) and source_region != sole[0].region:
        yield f"{node.name} is said to follow {source_region!r}, and {sole[0].name} is the source"


def _recovery_point(case: Case, node: Node, source_region: str) -> Iterator[str]:
    world, t = case.world, case.scrape.one(said.T, replica=node.name)
    if t is None:
        return
    if t > case.scrape.at + MARGIN:
        yield f"T of {node.name} lies {t - case.scrape.at:.3f} s in the future"
    source = next((n for n in world.nodes.values() if n.region == source_region and n is not node), None)
    if source is None:
        yield f"T of {node.name} is about the source in {source_region!r}"
        return
    yield from _rows(case, f"T of {node.name}", t, node, source.name)
    for end in (source, node):
        if end.hidden_since is not None and t > end.hidden_since + REACH:
            yield f"T of {node.name} is {t - end.hidden_since:.2f} s later than any look at {end.name}"


def _rows(case: Case, what: str, t: float, node: Node, source: str) -> Iterator[str]:
    """Everything acknowledged before `t` on the source is on the node: the rule of all rules."""
    have = case.ids(node)
    if have is None or (node.started > case.seen(node) and case.scrape.at - node.started < 3):
        # A standby that has just started is still replaying what it has.
        return
    rows = [r for r in case.world.writer.rows(source) if r.acked < t - MARGIN]
    lost = [r for r in rows if r.id not in have]
    if lost:
        yield (
            f"{what} claims everything until {case.scrape.at - t:.3f} s ago, and {len(lost)} of {len(rows)} rows are not "
            f"there, the first acknowledged {t - lost[0].acked:.3f} s before that"
        )


def _behind_since(case: Case, node: Node) -> Iterator[str]:
    since = case.scrape.one(said.BEHIND, replica=node.name)
    if since is None:
        return
    t = case.scrape.one(said.T, replica=node.name)
    if since > case.scrape.at + MARGIN:
        yield f"{node.name} is behind since a moment in the future"
    if t is not None and since < t - MARGIN:
        yield f"{node.name} is behind since {t - since:.3f} s before T"
    if case.unseen(node):
        yield f"{node.name} is behind since {case.scrape.at - since:.2f} s ago, and is unseen"
    world = case.world
    if node.diverged or since < world.parted:
        return
    for source in (n for n in world.nodes.values() if n is not node):
        then, now = source.monitor.after(since), node.monitor.before(case.seen(node))
        if (
            then
            and now
            and then.writes
            and now.follows
            and now.answered > world.parted
            and now.position >= then.position
        ):
            yield (
                f"{node.name} is behind since {case.scrape.at - since:.2f} s ago, but it already had what {source.name} "
                f"held {then.asked - since:.2f} s later, before it was last looked at"
            )


def _bytes(case: Case, node: Node) -> Iterator[str]:
    value = case.scrape.one(said.LAG_BYTES, replica=node.name)
    if case.unseen(node) and case.scrape.one(said.REPORTED_LAG, replica=node.name) is not None:
        yield f"{node.name} claims a lag, and is unseen"
    if value is None:
        return
    if value < 0:
        yield f"{node.name} lacks {value} bytes"
    world = case.world
    for end in world.nodes.values():
        if case.unseen(end):
            yield f"{node.name} lacks {value:.0f} bytes, and {end.name} is unseen"
    sole = world.sole_source()
    if (
        sole is None
        or node.diverged
        or sole[0] is node
        or max(sole[1], world.parted) > case.seen(*world.nodes.values())
    ):
        return
    look = case.seen(*world.nodes.values())
    source_then, replica_then = sole[0].monitor.before(look), node.monitor.before(look)
    if value == 0 and source_then and source_then.writes:
        replica_now = node.monitor.next(case.scrape.at)
        if replica_now and replica_now.follows and source_then.position > replica_now.position:
            yield f"{node.name} lacks no byte, but {source_then.position - replica_now.position} from before the looks"
    if value > 0 and replica_then and replica_then.follows:
        source_now = sole[0].monitor.next(case.scrape.at)
        if source_now and source_now.writes and source_now.position <= replica_then.position:
            yield f"{node.name} lacks {value:.0f} bytes, but had them all before the looks"


def _state(case: Case, node: Node) -> Iterator[str]:
    world = case.world
    series = case.scrape.all(said.STATE, replica=node.name)
    word = case.scrape.state(node.name)
    resyncs = case.scrape.one(said.RESYNCS, replica=node.name)
    if resyncs is None or resyncs > node.copies:
        yield f"{resyncs} resyncs of {node.name}, which was copied {node.copies} times"
    if {s.labels["state"] for s in series} != STATES or word not in STATES:
        yield f"the state of {node.name} is {word!r}, of {len(series)}"
        return
    false = _false_word(case, node, word)
    if false:
        yield f"{node.name} is {word!r}, but {false}; noted: diverged {node.diverged}, split {world.split_since}"


def _false_word(case: Case, node: Node, word: str) -> str | None:
    world, t = case.world, case.scrape.one(said.T, replica=node.name)
    others = [n for n in world.nodes.values() if n is not node]
    rules: Sequence[tuple[set[str], Callable[[], bool], str]] = (
        ({"split_brain"}, lambda: world.split_since is None, "two nodes never accepted writes at the same time"),
        (
            {"split_brain"},
            lambda: any(case.unseen(n) or case.held(n, lambda g: not g.writes) for n in world.nodes.values()),
            "not two nodes are seen to accept writes",
        ),
        (
            STATES - {"split_brain"},
            lambda: all(case.held(n, lambda g: g.writes, *world.nodes.values()) for n in world.nodes.values()),
            "two nodes accept writes",
        ),
        ({"diverged"}, lambda: not node.diverged and world.parted < case.seen(*world.nodes.values()), "it is not"),
        ({"error", "no_usable_copy"}, lambda: True, "nothing of that kind happened"),
        ({"resyncing"}, lambda: not node.copies, "it was never copied anew"),
        (
            {"unreachable"},
            lambda: (
                node.hidden_since is None
                and node.shown_since < case.seen(node)
                and case.scrape.of(said.SUCCESS, node.name) == 1
            ),
            "its last looks succeeded",
        ),
        (STATES - {"unreachable", "split_brain", "diverged"}, lambda: case.unseen(node), "it is unseen"),
        ({"no_source"}, lambda: any(case.unseen(n) for n in others), "a node is unseen that may be the source"),
        (
            {"no_source"},
            lambda: any(case.held(n, lambda g: g.writes, *world.nodes.values()) for n in others),
            "there is a source",
        ),
        (
            {"disconnected", "paused", "delayed", "catching_up", "streaming"},
            lambda: (
                not any(map(case.unseen, world.nodes.values()))
                and all(case.held(n, lambda g: g.follows, *world.nodes.values()) for n in world.nodes.values())
            ),
            "nothing accepts writes",
        ),
        (
            {"disconnected"},
            lambda: (
                case.held(node, lambda g: g.receives) and any(case.held(n, lambda g: g.sends, node) for n in others)
            ),
            "both ends say that the link is up",
        ),
        (
            {"paused", "delayed", "catching_up", "streaming"},
            lambda: case.held(node, lambda g: g.follows and not g.receives),
            "its link is down",
        ),
        ({"paused"}, lambda: case.held(node, lambda g: not g.paused), "its replay is not paused"),
        ({"delayed", "catching_up", "streaming"}, lambda: case.held(node, lambda g: g.paused), "its replay is paused"),
        ({"delayed"}, lambda: case.held(node, lambda g: g.up and not g.delayed), "no delay is configured"),
        ({"catching_up", "streaming"}, lambda: case.held(node, lambda g: g.delayed), "a delay is configured"),
        ({"catching_up", "streaming"}, lambda: t is None, "T is absent"),
        ({"unknown"}, lambda: t is not None and case.held(node, lambda g: g.follows), "T is known"),
        ({"catching_up"}, lambda: t is not None and case.scrape.at - t < 3 * INTERVAL, "T is young"),
        ({"streaming"}, lambda: t is not None and _last_look(case) - t > 3 * INTERVAL + MARGIN, "T is old"),
        (
            {"no_source", "disconnected", "paused", "delayed", "catching_up", "streaming"},
            lambda: case.held(node, lambda g: g.writes),
            "it accepts writes",
        ),
    )
    return next((why for words, is_false, why in rules if word in words and is_false()), None)


def _last_look(case: Case) -> float:
    """The newest look at any node whose outcome has been said."""
    if case.before is None:
        return float("-inf")
    looks = (case.before.of(said.LAST, n.name) for n in case.world.nodes.values())
    return max((at for at in looks if at is not None), default=float("-inf"))


def digested(scrapes: Sequence[Scrape]) -> Scrape | None:
    """The newest scrape whose every look has been worked out by now."""
    return next((s for s in reversed(scrapes) if s.at < time.time() - DIGESTED), None)
