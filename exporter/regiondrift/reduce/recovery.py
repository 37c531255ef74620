"""If I fail over now, how much data is lost? From looks at the nodes of one link to the recovery point of each replica.

T, the recovery point of a replica, is the latest moment for which it is proven that everything durably committed on
the source by then is on the replica. It needs no clock but ours and writes nothing: see `Timeline` and docs/adr/0002.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from regiondrift.model import (
    Failure,
    Link,
    Look,
    Moment,
    Plan,
    Reason,
    ReplicaPosition,
    SourcePosition,
    State,
)
from regiondrift.reduce import hops
from regiondrift.reduce.memory import LinkMemory, NodeMemory, sample_row
from regiondrift.reduce.node import ReplicaNow, View, other_name, system_of
from regiondrift.state import Change, Key

LATE: Final = 3
"""Intervals after which a T that stands still makes `catching_up` of `streaming`."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A look that has been judged: it stands, or it is refused as `failure`."""

    node: str
    failure: Failure | None


@dataclass(slots=True)
class _Pending:
    look: Look
    asked: float
    answered: float


class LinkReducer:
    """The recovery points of one link. Feed it every ended look; ask it for samples whenever something may have changed."""

    def __init__(self, plan: Plan, memory: LinkMemory, now: float) -> None:
        if plan.link is None:
            raise TypeError(f"{plan.entry} is no link")
        self.memory = memory
        self.complete = True
        """Nobody who knows the nodes is unseen: there can be no others."""
        self._pending: dict[str, _Pending] = {}
        self._views: dict[str, View] = {}
        self._started = now
        self.reconfigure(plan)

    def reconfigure(self, plan: Plan) -> None:
        """Take the nodes and objective of a new configuration; what is known of nodes that stay, stays."""
        assert plan.link is not None
        self._plan: Plan = plan
        self._link: Link = plan.link
        self._regions = {t.part: t.region for t in plan.targets if t.node}
        self._views = {name: self._views.get(name) or View(state_since=self._started) for name in self._regions}
        self._pending = {name: p for name, p in self._pending.items() if name in self._regions}
        for name in [n for n in self.memory.nodes if n not in self._regions]:
            del self.memory.nodes[name]
        if self._link.identity is not None and self.memory.system not in (None, self._link.identity):
            self.memory = LinkMemory(system=self._link.identity, replaces=True)
            self._views = {name: View(state_since=self._started) for name in self._regions}
        elif self._link.identity is not None:
            self.memory.system = self._link.identity

    # ---- looks come in

    def observe(self, node: str, result: Look | Failure, asked: float, answered: float) -> list[Settled]:
        """A look at `node`, begun at `asked`, has ended at `answered`.

        Until it is known which system the link is about, looks wait for the earlier listed nodes; the answer lists
        every look that this one settled.
        """
        view = self._views[node]
        view.looked = True
        self._pending.pop(node, None)
        settled: list[Settled] = []
        if isinstance(result, Failure):
            view.lose()
            if self.memory.system is not None:
                self._find_source()
            settled.append(Settled(node, result))
        else:
            self._pending[node] = _Pending(result, asked, answered)
        if self.memory.system is None:
            self.memory.system = self._firstsystem_of()
        if self.memory.system is not None or all(v.looked for v in self._views.values()):
            waiting, self._pending = self._pending, {}
            settled += [Settled(name, self._take(name, p)) for name, p in waiting.items()]
        return settled

    def _firstsystem_of(self) -> str | None:
        """The system of the earliest listed node that answered, once every node before it has had its chance."""
        for name, view in self._views.items():
            if not view.looked:
                return None
            if name in self._pending and (system := system_of(self._pending[name].look)) is not None:
                return system
        return None

    def _take(self, node: str, pending: _Pending) -> Failure | None:
        view, memory = self._views[node], self.memory
        system = system_of(pending.look)
        if system is not None and system != memory.system:
            view.lose()
            return Failure(Reason.WRONG_SYSTEM, f"belongs to system {system}, the link is about {memory.system}")
        if (first := other_name(self._views, node, pending.look)) is not None:
            view.lose()
            return Failure(Reason.WRONG_SYSTEM, f"this is {first} under another name")
        view.take(pending.look, pending.asked, pending.answered)
        if view.replica is not None:
            view.replica = self._on_its_branch(node, view.replica)
            self._remember_replica(node, view.replica)
        self._notice_copies(view)
        self._find_source()
        if view.source is not None and node == memory.source and not self._split():
            self._sample(view, view.source)
        elif view.replica is not None:
            self._prove(node, view)
        return None

    def _on_its_branch(self, node: str, at: ReplicaPosition) -> ReplicaPosition:
        """What it says, on the branch that it is known to follow.

        A replica that has followed a new branch for a short while may know it from its link alone, and forget it with
        the link; whether it is the same copy still, its floor tells.
        """
        mine = self.memory.node(node)
        known = mine.floor_history
        if known is None or at.floor is None or at.floor != mine.floor or known.branch <= at.history.branch:
            return at
        return replace(at, history=known)

    def _remember_replica(self, node: str, at: ReplicaPosition) -> None:
        mine, view = self.memory.node(node), self._views[node]
        mine.known_as, mine.intended_delay = at.known_as or mine.known_as, view.link.intended_delay
        # On a newer branch a lower floor can be pg_rewind's work; back on an older one it cannot be the same copy.
        same = mine.floor_history is not None and at.history.branch <= mine.floor_history.branch
        shrank = same and at.floor is not None and mine.floor is not None and not mine.floor <= at.floor
        if shrank or self._was_copied(mine, view, at):
            # Nothing but another copy in the place of the one we knew explains it.
            mine.proven, mine.held, mine.history = None, None, None
            mine.resyncs, mine.resyncing, mine.ahead = mine.resyncs + 1, True, False
            mine.floor, mine.floor_history, mine.branch = at.floor, at.history, at.history.branch
        elif at.floor is not None:
            mine.floor, mine.floor_history = at.floor, at.history
        mine.branch = max(mine.branch, at.history.branch)
        source = self._seen_source()
        if mine.diverged and source is not None and source.source is not None:
            there = source.source.history
            if at.history.branch <= there.branch and not self._left_behind(mine, at):
                mine.diverged, mine.branch = False, at.history.branch

    def _was_copied(self, mine: NodeMemory, view: View, at: ReplicaPosition) -> bool:
        """A whole copy was sent to it while it was away, and it came up after that."""
        copied_at, mine.copied_at = mine.copied_at, None
        return copied_at is not None and at.up_for is not None and view.asked - at.up_for >= copied_at

    def _notice_copies(self, view: View) -> None:
        """Who of those that are away is being sent a whole copy? An address that two of them share tells nothing."""
        away = [(name, self.memory.node(name)) for name, v in self._views.items() if v.looked and not v.seen]
        for receiver in view.copies:
            known = [mine for _, mine in away if receiver in mine.known_as]
            if len(known) == 1:
                known[0].copied_at = Moment(view.answered)

    def _find_source(self) -> None:
        memory, writers = self.memory, self._writers()
        if len(writers) != 1:
            return
        node = writers[0]
        at = self._views[node].source
        assert at is not None
        newer = memory.source is not None and at.history.branch > memory.top_branch
        if (newer or memory.source not in (None, node)) and not all(v.looked for v in self._views.values()):
            # One that was not looked at since we began may accept writes, too: that would be no failover.
            return
        if newer:
            memory.failovers += 1
            memory.failover_point = memory.node(node).proven
            if node != memory.source:
                self._lower(node)
        if node != memory.source:
            memory.nodes[node] = NodeMemory(resyncs=memory.node(node).resyncs)
        memory.source, memory.source_region = node, self._regions[node]
        memory.top_branch = max(memory.top_branch, at.history.branch)
        memory.begin(at.history, at.position)

    def _lower(self, promoted: str) -> None:
        """It may have accepted writes ever since it was last seen to follow: what its predecessor proved of the others after
        that says nothing of those."""
        own = (self._views[promoted].followed_at, self.memory.node(promoted).proven)
        known = [Moment(at) for at in own if at is not None]
        for mine in self.memory.nodes.values():
            if mine.proven is not None:
                mine.proven = min(mine.proven, max(known)) if known else None

    def _sample(self, view: View, at: SourcePosition) -> None:
        memory = self.memory
        memory.begin(at.history, at.position)
        if memory.timeline.add(view.asked, view.answered, at.position):
            for mine in memory.nodes.values():
                # It holds what the source has lost; where the source goes on now, the two are not the same.
                past = mine.history == at.history and mine.held is not None and not mine.held <= at.position
                mine.ahead = mine.ahead or past
        for name, other in self._views.items():
            replica = other.replica
            if replica is None:
                continue
            mine = memory.node(name)
            # Only a look at the source that began after the replica's: else a promotion in between explains it.
            later = view.asked >= other.answered
            if later and (replica.history.branch > at.history.branch or self._left_behind(mine, replica)):
                mine.diverged = True
            elif later and replica.history == at.history and not replica.position <= at.position:
                mine.ahead = True  # also if the source lost it while nobody looked
            hops.compare_ends(self._views, name, at)
            self._prove(name, other)

    def _left_behind(self, mine: NodeMemory, replica: ReplicaPosition) -> bool:
        """It is on an older branch, and past the point where the source's branch left that one.

        The branch began at or below its lowest position seen. A node that has followed the new branch before and only
        shows the old one (its control file is updated late) is not meant.
        """
        history, origin = self.memory.history, self.memory.origin
        return (
            history is not None
            and origin is not None
            and mine.branch < history.branch
            and replica.history.branch < history.branch
            and not replica.position <= origin
        )

    def _prove(self, node: str, view: View) -> None:
        memory, at = self.memory, view.replica
        if at is None or self._split() or at.history != memory.history or node == memory.source:
            return
        mine = memory.node(node)
        if mine.ahead:
            return
        proven = memory.timeline.recovery_point(at.position, view.answered)
        went_back = mine.history == at.history and mine.held is not None and not mine.held <= at.position
        if went_back or mine.proven is None or (proven is not None and proven > mine.proven):
            mine.proven = proven
        mine.held, mine.history = at.position, at.history
        if mine.proven is not None:
            mine.resyncing = False

    # ---- what holds now

    def _writers(self) -> list[str]:
        return [name for name, v in self._views.items() if v.source is not None]

    def _split(self) -> bool:
        """Two nodes accepted writes at the same time. That both did when they were last looked at is no proof: the one
        may have ended before the other was promoted."""
        writers = [self._views[name] for name in self._writers()]
        return any(
            one.asked >= other.writes_since and other.asked >= one.writes_since
            for one, other in combinations(writers, 2)
        )

    def _seen_source(self) -> View | None:
        view = self._views.get(self.memory.source or "")
        return view if view is not None and view.source is not None else None

    def _all_seen(self) -> bool:
        return bool(self._views) and all(v.seen and (v.source or v.replica) for v in self._views.values())

    def _sources(self) -> int | None:
        writers = len(self._writers())
        return writers if self._split() or (writers < 2 and self.complete and self._all_seen()) else None

    def _replicas(self) -> Iterator[tuple[str, View]]:
        for name, view in self._views.items():
            if self.memory.source is None:
                if view.says_replica or self._split():
                    yield name, view
            elif name != self.memory.source:
                yield name, view

    def _state(self, node: str, view: View, now: float) -> State:
        mine = self.memory.node(node)
        if self._split():
            return State.SPLIT_BRAIN
        if mine.diverged or mine.ahead:
            return State.DIVERGED
        if mine.resyncing:
            return State.RESYNCING
        if not view.looked:
            return State.UNKNOWN
        if not view.seen:
            return State.UNREACHABLE
        if view.source is not None:
            # Promoted, and what became of the last source is not known yet.
            return State.UNKNOWN
        if self._sources() == 0:
            return State.NO_SOURCE
        return view.own_word or self._by_age(mine, now)

    def _by_age(self, mine: NodeMemory, now: float) -> State:
        if mine.proven is None:
            return State.UNKNOWN
        return State.CATCHING_UP if now - mine.proven > LATE * self._plan.interval else State.STREAMING

    def _behind_since(self, view: View) -> Moment | None:
        at = view.replica
        if at is None or self._split() or at.history != self.memory.history:
            return None
        return self.memory.timeline.behind_since(at.position, view.asked)

    def _lag_bytes(self, view: View) -> int | None:
        source = self._seen_source()
        if source is None or source.source is None or view.replica is None or self._split():
            return None
        there, here = source.source, view.replica
        if there.history != here.history or not isinstance(there.position, int) or not isinstance(here.position, int):
            return None
        return max(0, there.position - here.position)

    # ---- what is said of it

    @property
    def labels(self) -> tuple[str, str]:
        """Values of `system` and `link`."""
        return (self._link.system, self._plan.entry)

    @property
    def objective(self) -> float | None:
        return self._link.objective

    @property
    def expected(self) -> int | None:
        """Nodes less one; None while those are not known."""
        n = len(self._views)
        return n - 1 if n > 1 or (n and self.complete) else None

    @property
    def sources(self) -> int | None:
        return self._sources()

    def replicas(self, now: float) -> Iterator[ReplicaNow]:
        """The replicas that have series, as they are at `now`."""
        memory, oldest = self.memory, now - LATE * self._plan.interval
        late = {n for n in self._views if (t := memory.node(n).proven) is None or t < oldest}
        for name, view in self._replicas():
            mine = memory.node(name)
            state = self._state(name, view, now)
            if state is not view.state:
                view.state, view.state_since = state, now
            yield ReplicaNow(
                name=name,
                source_region=self.memory.source_region,
                target_region=self._regions[name],
                state=state,
                state_since=Moment(view.state_since),
                recovery_point=mine.proven,
                behind_since=self._behind_since(view),
                lag_bytes=self._lag_bytes(view),
                reported_lag=view.link.reported_lag,
                intended_delay=mine.intended_delay,
                upstream=hops.upstream(self._views, name),
                held_up=hops.held_up(self._views, name, memory.source, late),
                resyncs=mine.resyncs,
            )

    def streaming_until(self) -> float:
        """When the first `streaming` that was said last ends by itself."""
        proven = [self.memory.node(name).proven for name, view in self._views.items() if view.state is State.STREAMING]
        return min((t for t in proven if t is not None), default=math.inf) + LATE * self._plan.interval

    def changes(self, key: Key, wall: Callable[[float], float]) -> Change:
        """What the state file must take up since the last call."""
        rows, removed = self.memory.timeline.take_changes()
        link, replaces = self._link, self.memory.replaces
        self.memory.replaces = False
        return Change(
            key,
            self.memory.document(link, wall),
            {number: sample_row(link, wall, *row) for number, row in rows.items()},
            removed,
            clear=replaces,
        )
