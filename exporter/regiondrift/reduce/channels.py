"""How far is a follower that takes chosen changes by name? Finds its source among all entries of a collector, and proves.

Each end tells only its own half: the source, which channels it has and what their consumers confirmed; the follower, which
channel it takes from and how far it is. Names can be shared by strangers, so nothing is proven until both halves were seen
to fit: the follower has received no more than the source held, and no less than the channel says was confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from regiondrift.model import (
    Channel,
    Failure,
    Follower,
    History,
    Look,
    Moment,
    Plan,
    Position,
    State,
)
from regiondrift.reduce.ends import End, Entry, View
from regiondrift.reduce.follower import FollowerMemory, document
from regiondrift.reduce.node import ReplicaNow
from regiondrift.reduce.recovery import LATE, LinkReducer
from regiondrift.reduce.timeline import Timeline

Name = tuple[str, str]
"""Entry and name of a follower."""


class ChannelReducer:
    """The followers in all entries of one collector. Feed it every settled look, after the entry's own reducer has it."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._homes: dict[str, Entry] = {}
        """The entries that have, or had, followers: few of many. A look costs a walk through these."""

    # ---- the configuration

    def put(self, plan: Plan, link: LinkReducer) -> bool:
        """Know this entry as it is configured now; whether it was not known before."""
        entry = self._entries.get(plan.entry)
        if entry is None:
            self._entries[plan.entry] = Entry(plan, link)
            return True
        entry.plan, entry.link = plan, link
        nodes = {t.part for t in plan.targets}
        entry.ends = {node: end for node, end in entry.ends.items() if node in nodes}
        return False

    def restore(self, entry: str, system: str, followers: Mapping[str, FollowerMemory], now: float) -> None:
        """Go on with what was remembered."""
        its = self._entries[entry]
        its.system = system
        its.views = {name: View(name, memory, state_since=now) for name, memory in followers.items()}
        if its.views:
            self._homes[entry] = its

    def drop(self, entry: str) -> None:
        self._entries.pop(entry, None)
        self._homes.pop(entry, None)
        for _, view in self._followers():
            if view.memory.source == entry:
                view.part()

    # ---- looks come in

    def observe(self, entry: str, node: str, result: Look | Failure, asked: float, answered: float) -> set[Name]:
        """A look at a node has ended and was settled; the followers of which something else may be true now."""
        its = self._entries.get(entry)
        if its is None:
            return set()
        end = its.ends.setdefault(node, End())
        end.take(result, asked, answered)
        touched = {(entry, name) for name in its.views}
        if end is its.teller:
            self._hear(its, end)
        elif its.teller is None:
            for view in its.views.values():
                view.now, view.absent = None, False
        touched |= {(entry, name) for name in its.views}
        for home, view in list(self._followers()):
            if home is its or view.memory.source == entry or not view.memory.confirmed:
                touched.add((home.plan.entry, view.name))
                self._match(home, view)
                if view.memory.confirmed:
                    self._follow(home, view)
                self._forget(home, view)
        return touched

    def _hear(self, home: Entry, end: End) -> None:
        """The node that knows which followers live in this system was asked."""
        if end.followers is None or end.history is None:
            for view in home.views.values():
                view.now, view.absent = None, False
            return
        home.system = end.followers.system
        listed = {f.name: f for f in end.followers.followers}
        if listed:
            self._homes[home.plan.entry] = home
        for name, now in listed.items():
            if name not in home.views:
                home.views[name] = self._renamed(home, end.history, now, listed) or View(name, FollowerMemory())
                home.views[name].name = name
            view = home.views[name]
            view.now, view.absent = now, False
            view.asked, view.answered = end.asked, end.answered
            if view.memory.take(now, end.history):
                view.forget_fits()
            view.count_failures(now)
        for name, view in home.views.items():
            if name not in listed:
                view.now, view.absent = None, True

    def _renamed(self, home: Entry, history: History, now: Follower, listed: Mapping[str, Follower]) -> View | None:
        identity = f"{history.system}:{now.identity}"
        old = [n for n, v in home.views.items() if v.memory.identity == identity and n not in listed]
        return home.views.pop(old[0]) if old else None

    # ---- whom does it follow

    def _match(self, home: Entry, view: View) -> None:
        memory, now = view.memory, view.now
        if memory.confirmed and now is not None and _contradicts(now, view, self._source(view)):
            memory.refused.append(memory.source or "")
            view.part()
        found = {
            name: at
            for name, entry in self._entries.items()
            if entry is not home and name not in memory.refused and (at := entry.channel(memory.channel)) is not None
        }
        if now is not None and now.up:
            for name, at in found.items():
                self._compare(view, now, name, at)
            alive = [n for n, (_, channel) in found.items() if channel.active and n not in view.against]
            if len(found) > 1:
                alive = [n for n in alive if found[n][1].consumer == now.consumer]
            fits = alive[0] if len(alive) == 1 and alive[0] in view.above & view.below else None
            if fits is not None and not (memory.confirmed and fits == memory.source):
                if memory.source not in (None, fits):
                    view.part()
                memory.source, memory.confirmed = fits, True
        if not memory.confirmed:
            (alone,) = found if len(found) == 1 else (None,)
            idle = alone is not None and not found[alone][1].active
            against = alone in view.against
            memory.source = None if against or (now is not None and now.up and idle) else alone

    def _compare(self, view: View, now: Follower, name: str, at: tuple[End, Channel]) -> None:
        """Could this be its source? Only looks that certainly followed one another tell."""
        end, channel = at
        if now.received is None:
            return
        if channel.active and channel.position is not None and end.answered <= view.asked:
            view.note(name, view.above, channel.position <= now.received)
        teller = self._entries[name].teller
        if teller is not None and teller.asked >= view.answered:
            view.note(name, view.below, now.received <= teller.written)

    def _source(self, view: View) -> Entry | None:
        return self._entries.get(view.memory.source or "")

    # ---- what is proven

    def _follow(self, home: Entry, view: View) -> None:
        source, memory = self._source(view), view.memory
        if source is None or source.split or home.split:
            return
        link = source.link.memory
        at = source.channel(memory.channel)
        if source.teller is not None and link.history is not None:
            self._continue(view, source, link.history)
        if at is not None:
            self._notice_channel(view, at[1])
        elif source.lacks(memory.channel):
            memory.gone = True
        now = view.now
        if now is None or memory.gapped or memory.diverged or home.teller is None or link.history != memory.history:
            return
        confirmed = None
        if at is not None and at[0].history == link.history and now.up:
            confirmed = at[1].position
            self._notice_progress(view, confirmed, at[0], link.timeline)
        if now.uncopied != 0:
            return
        for position, looked in ((confirmed, at[0].answered if at else 0.0), (now.position, view.answered)):
            if position is None:
                continue
            if memory.held is None or memory.held <= position:
                memory.held = position
            proven = link.timeline.recovery_point(position, looked)
            if proven is not None and (memory.proven is None or proven > memory.proven):
                memory.proven = proven
        if memory.proven is not None:
            memory.resyncing = False

    def _continue(self, view: View, source: Entry, history: History) -> None:
        memory, link, teller = view.memory, source.link.memory, source.teller
        assert teller is not None
        if memory.history is not None and memory.history != history:
            if memory.held is not None and link.origin is not None and not memory.held <= link.origin:
                memory.diverged = True
            elif not memory.guarded:
                # What its successor wrote below what the follower had already is never sent.
                memory.gapped = True
            memory.held = None
            # What the old source held after its successor was last seen to follow says nothing of the successor.
            known = [Moment(at) for at in (teller.followed_at, link.failover_point) if at is not None]
            if memory.proven is not None:
                memory.proven = min(memory.proven, max(known)) if known else None
        elif memory.held is not None and teller.asked >= view.answered and not memory.held <= teller.written:
            # The source has lost what the follower holds; what it writes in its place is never sent.
            memory.gapped = True
        memory.history = history

    def _notice_channel(self, view: View, channel: Channel) -> None:
        memory = view.memory
        memory.guarded = channel.guarded
        if memory.gone:
            memory.gone = False
            if memory.held is None or channel.position is None or not channel.position <= memory.held:
                # Made anew, it begins later than where the last one ended.
                memory.gapped = True

    def _notice_progress(self, view: View, confirmed: Position | None, end: End, timeline: Timeline) -> None:
        memory = view.memory
        if not memory.apply_failed or confirmed is None or end.asked < view.failed_at:
            return
        proven = timeline.recovery_point(confirmed, end.answered)
        if proven is not None and proven >= view.failed_at:
            # Nothing that was committed until after the failure is missing, though an idle source gives no new position.
            memory.apply_failed = False
        elif view.failed_from is None:
            view.failed_from = confirmed
        elif not confirmed <= view.failed_from:
            memory.apply_failed = False

    def _forget(self, home: Entry, view: View) -> None:
        """A follower that is no more ends when its channel does, too, or serves another."""
        if not view.absent:
            return
        source, memory = self._source(view), view.memory
        taken = any(
            v.now is not None
            and v.memory.confirmed
            and (v.memory.source, v.memory.channel) == (memory.source, memory.channel)
            for _, v in self._followers()
        )
        if source is None or not memory.confirmed or taken or source.lacks(memory.channel):
            del home.views[view.name]

    # ---- what holds now

    def _followers(self) -> Iterator[tuple[Entry, View]]:
        for entry in self._homes.values():
            for view in entry.views.values():
                yield entry, view

    def _state(self, home: Entry, view: View, now: float) -> State:
        memory, its, source = view.memory, view.now, self._source(view)
        teller = source.teller if source is not None else None
        at = source.channel(memory.channel) if source is not None else None
        told = teller is not None and teller.channels is not None
        for holds, state in (
            (memory.diverged, State.DIVERGED),
            (memory.resyncing, State.RESYNCING),
            (not any(e.looked for e in home.ends.values()), State.UNKNOWN),
            (home.teller is None, State.UNREACHABLE),
            (its is None and not view.absent, State.UNKNOWN),
            (source is not None and source.link.sources == 0, State.NO_SOURCE),
            (its is not None and its.paused, State.PAUSED),
            (memory.apply_failed or memory.copy_failed, State.ERROR),
            (its is None or its.up is False, State.DISCONNECTED),
            (told and source is not None and source.lacks(memory.channel), State.DISCONNECTED),
            (at is not None and at[0].seen and not at[1].active, State.DISCONNECTED),
        ):
            if holds:
                return state
        if source is None or memory.proven is None:
            return State.CATCHING_UP if source is not None and its is not None and its.uncopied else State.UNKNOWN
        return State.CATCHING_UP if now - memory.proven > LATE * source.plan.interval else State.STREAMING

    def _missing(self, home: Entry, view: View) -> tuple[Moment | None, int | None]:
        """Since when it lacks something, and how many bytes of the source's log; both only while both ends are seen."""
        source, memory = self._source(view), view.memory
        teller = source.teller if source is not None else None
        if source is None or teller is None or not memory.confirmed or home.teller is None or source.split:
            return None, None
        at, link = source.channel(memory.channel), source.link.memory
        position = memory.held
        if at is not None and at[0].history == link.history and at[1].position is not None:
            position = at[1].position if position is None or position <= at[1].position else position
        elif not source.lacks(memory.channel):
            return None, None
        if position is None or memory.history != link.history or teller.history != link.history:
            return None, None
        end = at[0] if at is not None else teller
        written, size = teller.written, None
        if isinstance(written, int) and isinstance(position, int):
            size = max(0, written - position)
        return link.timeline.behind_since(position, end.asked), size

    def replica(self, name: Name, now: float) -> tuple[tuple[str, str], ReplicaNow] | None:
        """Labels `system` and `link`, and what is true of the follower at `now`; None: there is none."""
        home = self._entries.get(name[0])
        view = home.views.get(name[1]) if home is not None else None
        if home is None or view is None:
            return None
        source = self._source(view)
        state = self._state(home, view, now)
        if state is not view.state:
            view.state, view.state_since = state, now
        behind, size = self._missing(home, view)
        at = source.channel(view.memory.channel) if source is not None else None
        return (home.system, source.plan.entry if source is not None else name[0]), ReplicaNow(
            name=f"{name[0]}/{name[1]}",
            source_region=source.link.memory.source_region if source is not None else "",
            target_region=home.link.memory.source_region,
            state=state,
            state_since=Moment(view.state_since),
            recovery_point=view.memory.proven if source is not None else None,
            behind_since=behind,
            lag_bytes=size,
            reported_lag=at[1].reported_lag if at is not None and at[1].active and view.now is not None else None,
            intended_delay=0.0,
            upstream=None,
            held_up=None,
            resyncs=view.memory.resyncs,
        )

    def items(self, name: Name) -> tuple[int, int] | None:
        """How many items its source offers and it does not follow, and the other way round; None: not known."""
        view = self._entries[name[0]].views.get(name[1]) if name[0] in self._entries else None
        source = self._source(view) if view is not None else None
        at = source.channel(view.memory.channel) if view is not None and source is not None else None
        if view is None or view.now is None or view.now.items is None or at is None or not view.memory.confirmed:
            return None
        (end, channel), offered = at, set[str]()
        if end.channels is None:
            return None
        for offer in view.now.takes:
            items = end.channels.offers.get(f"{channel.scope}/{offer}")
            if items is None and channel.scope not in end.channels.known:
                return None
            offered |= items or frozenset()
        return len(offered - view.now.items), len(view.now.items - offered)

    def names(self) -> Iterable[Name]:
        return [(name, view) for name, entry in self._entries.items() for view in entry.views]

    def objectives(self) -> dict[tuple[str, str], float]:
        """The objective of every link that has a follower, by `system` and `link`."""
        out = {}
        for home, view in self._followers():
            source = self._source(view)
            if source is not None and source.link.objective is not None:
                out[home.system, source.plan.entry] = source.link.objective
        return out

    def source(self, entry: str) -> str | None:
        """The node of the entry that is its source."""
        its = self._entries.get(entry)
        return its.link.memory.source if its is not None else None

    # ---- what must not be forgotten

    def document(self, entry: str, wall: Callable[[float], float]) -> str | None:
        """The followers of the entry as the state file keeps them; None: it never had one."""
        its = self._entries.get(entry)
        if its is None or not its.system or its.plan.link is None:
            return None
        return document(its.system, {n: v.memory for n, v in its.views.items()}, its.plan.link, wall)


def _contradicts(now: Follower, view: View, source: Entry | None) -> bool:
    """It has received more than its source holds, of the same history: it must be another's."""
    teller = source.teller if source is not None else None
    return (
        teller is not None
        and now.received is not None
        and teller.asked >= view.answered
        and teller.history == view.memory.history
        and not now.received <= teller.written
    )
