"""What did the last look at one node see, and what is true of it as a replica?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from regiondrift.model import Instance, LinkState, Look, Moment, ReplicaPosition, SourcePosition, State

T = TypeVar("T")

_NO_WORD: Final = LinkState()


@dataclass(slots=True)
class View:
    """A node as its last look left it."""

    asked: float = 0.0
    answered: float = 0.0
    looked: bool = False
    """A first look has ended."""
    seen: bool = False
    source: SourcePosition | None = None
    writes_since: float = 0.0
    """When the first of the unbroken looks was answered that saw it as a source."""
    replica: ReplicaPosition | None = None
    followed_at: float | None = None
    """When the last look began that saw it as a replica."""
    link: LinkState = _NO_WORD
    fed: str | None = None
    """Session of its link that the source was seen to feed."""
    cut: bool = False
    """That session goes on for the replica, and the source has ended it."""
    instance: Instance | None = None
    says_replica: bool = False
    """It has said so at least once."""
    state: State = State.UNKNOWN
    state_since: float = 0.0

    def lose(self) -> None:
        """The look failed: nothing is known of it now."""
        self.seen, self.source, self.replica, self.link = False, None, None, _NO_WORD
        self.fed, self.cut, self.instance = None, False, None

    def take(self, look: Look, asked: float, answered: float) -> None:
        """The look succeeded."""
        wrote = self.source is not None
        self.seen, self.asked, self.answered = True, asked, answered
        self.source, self.replica = only(SourcePosition, look), only(ReplicaPosition, look)
        self.link = only(LinkState, look) or _NO_WORD
        self.instance = only(Instance, look)
        if not wrote:
            self.writes_since = answered
        if self.replica is not None:
            self.followed_at, self.says_replica = asked, True
        if self.replica is None or self.link.session != self.fed:
            self.fed, self.cut = None, False

    @property
    def feeds(self) -> frozenset[str]:
        """Names of those that it feeds."""
        at = self.source or self.replica
        return at.feeds if at else frozenset()

    @property
    def copies(self) -> frozenset[str]:
        """Whom it is sending a whole copy to."""
        at = self.source or self.replica
        return at.copies if at else frozenset()

    @property
    def own_word(self) -> State | None:
        """The state that follows from what the replica, or the other end of its link, says itself."""
        for holds, state in (
            (self.link.up is False or self.cut, State.DISCONNECTED),
            (self.link.failed, State.ERROR),
            (self.link.paused, State.PAUSED),
            (self.link.intended_delay > 0, State.DELAYED),
        ):
            if holds:
                return state
        return None


def other_name(views: Mapping[str, View], node: str, look: Look) -> str | None:
    """The node listed before `node` whose server this look met. Those listed after it that lead there are lost: of two
    names for one server, which would seem to be two that accept writes, the one listed first counts."""
    instance, before = only(Instance, look), True
    for name, view in views.items():
        if name == node:
            before = False
        elif view.seen and instance is not None and view.instance == instance:
            if before:
                return name
            view.lose()
    return None


@dataclass(frozen=True, slots=True)
class ReplicaNow:
    """What is true of one replica at one moment, after all looks."""

    name: str
    source_region: str
    target_region: str
    state: State
    state_since: Moment
    recovery_point: Moment | None
    behind_since: Moment | None
    lag_bytes: int | None
    reported_lag: float | None
    intended_delay: float
    upstream: str | None
    held_up: str | None
    resyncs: int


def only(kind: type[T], look: Look) -> T | None:
    """The observation of this kind, if the look has one."""
    return next((o for o in look.observations if isinstance(o, kind)), None)


def system_of(look: Look) -> str | None:
    """The system that the node says it belongs to."""
    at = only(SourcePosition, look) or only(ReplicaPosition, look)
    return at.history.system if at else None
