"""What must a link not forget? Its source, what was proven of each replica, and the source's position samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from regiondrift.model import History, Link, Moment, Position
from regiondrift.reduce.timeline import Timeline


@dataclass(slots=True)
class NodeMemory:
    """What was proven of one node while it was a replica."""

    proven: Moment | None = None
    """T, the recovery point."""
    held: Position | None = None
    """Position at which T was last confirmed, in `history`."""
    history: History | None = None
    floor: Position | None = None
    """Highest floor seen, in `floor_history`."""
    floor_history: History | None = None
    branch: int = 0
    """Highest branch that it was seen to follow since it last was a source."""
    diverged: bool = False
    ahead: bool = False
    """It was past the source when the source lost its newest writes: what follows there is not what it has."""
    resyncing: bool = False
    resyncs: int = 0
    known_as: frozenset[str] = frozenset()
    """Names and addresses under which it was last seen."""
    copied_at: Moment | None = None
    """When it was last seen that a whole copy is sent to it, while it was unseen itself."""
    intended_delay: float = 0.0


@dataclass(slots=True)
class LinkMemory:
    """What is known of one link beyond the nodes' last looks."""

    system: str | None = None
    source: str | None = None
    """The node last known as the only source."""
    source_region: str = ""
    history: History | None = None
    """History of the samples in `timeline`."""
    origin: Position | None = None
    """Lowest position seen in `history`; it began at or below it."""
    top_branch: int = 0
    """Highest branch on which a node was the only source."""
    failovers: int = 0
    failover_point: Moment | None = None
    nodes: dict[str, NodeMemory] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    replaces: bool = False
    """It begins anew in the place of another, whose rows in the state file are void."""

    def node(self, name: str) -> NodeMemory:
        return self.nodes.setdefault(name, NodeMemory())

    def begin(self, history: History, position: Position) -> None:
        """The source is in this history: no sample of another one proves anything in it."""
        if history == self.history:
            return
        for mine in self.nodes.values():
            mine.ahead = False
        numbers = self.timeline.numbers
        started = Timeline()
        started.removed = self.timeline.removed | set(numbers)
        started.skip(self.timeline)
        self.history, self.origin, self.timeline = history, position, started

    def document(self, link: Link, wall: Callable[[float], float]) -> str:
        """As the state file keeps it, times in Unix time. The samples are rows of their own."""

        def position(p: Position | None) -> str | None:
            return None if p is None else link.encode(p)

        def moment(m: Moment | None) -> float | None:
            return None if m is None else wall(m)

        return json.dumps(
            {
                "system": self.system,
                "source": self.source,
                "source_region": self.source_region,
                "history": history_row(self.history),
                "origin": position(self.origin),
                "top_branch": self.top_branch,
                "failovers": self.failovers,
                "failover_point": moment(self.failover_point),
                "nodes": {
                    name: {
                        "proven": moment(n.proven),
                        "held": position(n.held),
                        "history": history_row(n.history),
                        "floor": position(n.floor),
                        "floor_history": history_row(n.floor_history),
                        "branch": n.branch,
                        "diverged": n.diverged,
                        "ahead": n.ahead,
                        "resyncing": n.resyncing,
                        "resyncs": n.resyncs,
                        "known_as": sorted(n.known_as),
                        "copied_at": moment(n.copied_at),
                        "intended_delay": n.intended_delay,
                    }
                    for name, n in self.nodes.items()
                },
            }
        )


def sample_row(link: Link, wall: Callable[[float], float], asked: float, answered: float, position: Position) -> str:
    """One sample as the state file keeps it."""
    return json.dumps([wall(asked), wall(answered), link.encode(position)])


def remembered(
    link: Link, document: str | None, rows: Iterable[tuple[int, str]], moment: Callable[[float], Moment], now: float
) -> LinkMemory:
    """The memory that `document` and `rows` hold; whatever is later than `now` is dropped.

    Raises:
        ValueError, KeyError, TypeError: they were not written by this version's `LinkMemory.document`.
    """
    memory = LinkMemory()
    if document is None:
        return memory
    body = json.loads(document)

    def position(text: str | None) -> Position | None:
        return None if text is None else link.decode(text)

    def past(wall: float | None) -> Moment | None:
        at = None if wall is None else moment(wall)
        return at if at is not None and at <= now else None

    memory.system, memory.source, memory.source_region = body["system"], body["source"], body["source_region"]
    memory.history, memory.origin = history_from(body["history"]), position(body["origin"])
    memory.top_branch, memory.failovers = body["top_branch"], body["failovers"]
    memory.failover_point = past(body["failover_point"])
    for name, n in body["nodes"].items():
        memory.nodes[name] = NodeMemory(
            proven=past(n["proven"]),
            held=position(n["held"]),
            history=history_from(n["history"]),
            floor=position(n["floor"]),
            floor_history=history_from(n["floor_history"]),
            branch=n["branch"],
            diverged=n["diverged"],
            ahead=n["ahead"],
            resyncing=n["resyncing"],
            resyncs=n["resyncs"],
            known_as=frozenset(n["known_as"]),
            copied_at=past(n["copied_at"]),
            intended_delay=n["intended_delay"],
        )
    last = float("-inf")
    for number, row in rows:
        asked, answered, text = json.loads(row)
        asked, answered, at = moment(asked), moment(answered), link.decode(text)
        timeline = memory.timeline
        grows = not len(timeline) or (timeline.positions[-1] <= at and asked >= last)
        if asked <= now and answered <= now and grows:
            timeline.restore(number, asked, answered, at)
            last = asked
        else:
            timeline.removed.add(number)
    return memory


def history_row(history: History | None) -> list[Any] | None:
    """A history as the state file keeps it; `history_from` reads it back."""
    return None if history is None else [history.system, history.branch]


def history_from(value: list[Any] | None) -> History | None:
    return None if value is None else History(str(value[0]), int(value[1]))
