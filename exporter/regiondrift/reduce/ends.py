"""What did the last looks tell of the two ends of a follower's link?"""

from __future__ import annotations

from dataclasses import dataclass, field

from regiondrift.model import (
    Channel,
    Channels,
    Failure,
    Follower,
    Followers,
    History,
    Look,
    Plan,
    Position,
    ReplicaPosition,
    SourcePosition,
    State,
)
from regiondrift.reduce.follower import QUIET, FollowerMemory
from regiondrift.reduce.node import only
from regiondrift.reduce.recovery import LinkReducer


@dataclass(slots=True)
class End:
    """What the last look at one node told of either half."""

    asked: float = 0.0
    answered: float = 0.0
    looked: bool = False
    seen: bool = False
    history: History | None = None
    written: Position | None = None
    """Its position, if it accepts writes."""
    followed_at: float | None = None
    """When the last look began that saw it follow another."""
    channels: Channels | None = None
    followers: Followers | None = None
    named: dict[str, Channel] = field(default_factory=dict)
    """The channels by name."""

    def take(self, result: Look | Failure, asked: float, answered: float) -> None:
        self.looked, self.asked, self.answered = True, asked, answered
        look = result if isinstance(result, Look) else Look(())
        source, replica = only(SourcePosition, look), only(ReplicaPosition, look)
        self.seen = isinstance(result, Look)
        at = source or replica
        self.history = at.history if at else None
        self.written = source.position if source else None
        if replica is not None:
            self.followed_at = asked
        self.channels, self.followers = only(Channels, look), only(Followers, look)
        self.named = {c.name: c for c in self.channels.channels} if self.channels is not None else {}


@dataclass(slots=True)
class View:
    """A follower as the last looks left it."""

    name: str
    memory: FollowerMemory
    now: Follower | None = None
    absent: bool = False
    """Who would tell of it was asked, and did not."""
    asked: float = 0.0
    answered: float = 0.0
    above: set[str] = field(default_factory=set)
    """Entries of which it was seen to have received no less than was confirmed to them."""
    below: set[str] = field(default_factory=set)
    """Entries that were seen to hold no less than it has received."""
    against: set[str] = field(default_factory=set)
    """Entries of which one of the two is certainly not so."""
    failed_at: float = 0.0
    failed_from: Position | None = None
    """Position confirmed when a change had failed to be applied; None: not seen since."""
    failed_own: Position | None = None
    """Position that it told itself when a change had failed to be applied."""
    copy_failed_at: float = 0.0
    state: State = State.UNKNOWN
    state_since: float = 0.0

    def note(self, entry: str, where: set[str], holds: bool) -> None:
        """One of the two conditions on its source was found to hold, or not to."""
        (where.add if holds else where.discard)(entry)
        (self.against.discard if holds else self.against.add)(entry)

    def forget_fits(self) -> None:
        self.above, self.below, self.against = set(), set(), set()

    def count_failures(self, now: Follower) -> None:
        """What stepped since the last look is an error until there is progress."""
        memory = self.memory
        if now.apply_failures is not None:
            if memory.apply_failures is not None and now.apply_failures > memory.apply_failures:
                memory.apply_failed = True
                self.failed_at, self.failed_from, self.failed_own = self.answered, None, now.position
            elif memory.apply_failed:
                self._notice_own_progress(now)
            memory.apply_failures = now.apply_failures
        if now.copy_failures is not None:
            if memory.copy_failures is not None and now.copy_failures > memory.copy_failures:
                memory.copy_failed, self.copy_failed_at = True, self.answered
            elif now.uncopied == 0 or (now.uncopied is None and self.answered - self.copy_failed_at > QUIET):
                memory.copy_failed = False
            memory.copy_failures = now.copy_failures

    def _notice_own_progress(self, now: Follower) -> None:
        """What the follower tells itself, where no source that is seen tells it: it has taken a change since, or it has been
        at it for a while and nothing more has failed."""
        if not self.failed_at:
            self.failed_at, self.failed_own = self.answered, now.position
        moved = now.position is not None and self.failed_own is not None and not now.position <= self.failed_own
        if moved or (now.up is True and self.answered - self.failed_at > QUIET):
            self.memory.apply_failed = False

    def part(self) -> None:
        """What was proven of it was proven of another link."""
        memory = self.memory
        memory.source, memory.confirmed, memory.guarded, memory.gone = None, False, False, False
        memory.history, memory.held, memory.proven = None, None, None
        memory.gapped = memory.diverged = False
        self.forget_fits()


@dataclass(slots=True)
class Entry:
    """One entry: its link, what its nodes tell, and the followers that live in it."""

    plan: Plan
    link: LinkReducer
    system: str = ""
    ends: dict[str, End] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    """The standby at which a channel was seen last."""

    @property
    def teller(self) -> End | None:
        """The node that accepts writes, if it is seen doing so."""
        end = self.ends.get(self.link.memory.source or "")
        return end if end is not None and end.written is not None else None

    @property
    def split(self) -> bool:
        return (self.link.sources or 0) > 1

    def channel(self, name: str | None) -> tuple[End, Channel] | None:
        """The channel of that name, and the node that has it: the one that accepts writes, if several do."""
        found = None
        for node, end in self.ends.items():
            channel = end.named.get(name or "")
            if channel is not None and (found is None or end.written is not None):
                found = (end, channel)
                if end.written is None:
                    self.holders[channel.name] = node
                else:
                    # With the role of the source it goes to a node that has the channel, or to one that has not.
                    self.holders.pop(channel.name, None)
        return found

    def lacks(self, name: str | None) -> bool:
        """Certainly there is no such channel."""
        holder = self.ends.get(self.holders.get(name or "", ""))
        told = self.teller is not None and self.teller.channels is not None
        return told and (holder is None or holder.seen) and self.channel(name) is None
