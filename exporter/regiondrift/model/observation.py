"""What can one look at one target find? A few frozen types; everything downstream is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from regiondrift.model.channel import Channels, Followers
from regiondrift.model.failure import Failure
from regiondrift.model.metric import Sample


class Position(Protocol):
    """How far a history got. Partially ordered: ``a <= b`` says that b holds everything that a holds.

    Integers (LSN, Raft index) are positions as they are; GTID sets and (tag, entry) pairs implement ``<=``.
    """

    def __le__(self, other: Any, /) -> bool: ...


@dataclass(frozen=True, slots=True, order=True)
class History:
    """Whose positions may be compared with whose: the system, and the branch of its history.

    `branch` counts upwards when a new history starts from an old one (PostgreSQL's timeline, a Raft term); systems
    whose branches have no order use 0 and change `system` instead.
    """

    system: str
    branch: int = 0


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """This node accepts writes, and everything it committed durably before we asked is at or below `position`."""

    history: History
    position: Position
    feeds: frozenset[str] = frozenset()
    """Names under which replicas are connected to it (PostgreSQL: ``application_name`` of its WAL senders)."""
    copies: frozenset[str] = frozenset()
    """Names and addresses that it is sending a whole copy to now."""


@dataclass(frozen=True, slots=True)
class ReplicaPosition:
    """This node follows: everything at or below `position` can be read from it."""

    history: History
    position: Position
    floor: Position | None = None
    """A position that only grows as long as this is the same copy (PostgreSQL: the redo point of its last restart
    point). One below an earlier one proves that the copy was replaced by an older one."""
    feeds: frozenset[str] = frozenset()
    """As of a source: replicas that it feeds in turn."""
    copies: frozenset[str] = frozenset()
    known_as: frozenset[str] = frozenset()
    """Names and addresses under which a copy that is sent to it shows at the other end."""
    up_for: float | None = None
    """Seconds since its server came up."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the replica itself says of its link and its replay. None: it has no word on that."""

    up: bool | None = None
    paused: bool = False
    intended_delay: float = 0.0
    """Seconds that it is configured to stay behind."""
    failed: bool = False
    """The system itself reports the replication as failed."""
    name: str | None = None
    """Name under which it is connected to whatever feeds it."""
    session: str | None = None
    """Changes whenever the link is made anew (PostgreSQL: process id of the WAL receiver)."""
    reported_lag: float | None = None
    """Seconds, as the system claims; exported for comparison and never used to decide."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Which running server answered, under whatever name it was asked."""

    id: str
    """Two that differ are two servers, or one that was restarted."""


@dataclass(frozen=True, slots=True)
class Member:
    """Something that belongs to the entry, as somebody who knows says."""

    name: str
    """Its target's part."""
    about: str
    """What the collector makes a target of: an address. It is kept in the state file, so it holds no secret. Empty: that
    is not known now."""


@dataclass(frozen=True, slots=True)
class Members:
    """All that belongs to the entry. One that is named no more stays known: that is how a crash looks from here."""

    members: tuple[Member, ...]
    group: str = ""
    """What they call themselves together; members of another group are no successors of these."""
    configured: bool = False
    """The configuration names this group: if another was known before, it is forgotten."""
    forget_after: float | None = None
    """Seconds after which one that is named no more is let go; None: never."""


Observation: TypeAlias = (
    Sample | SourcePosition | ReplicaPosition | LinkState | Instance | Members | Channels | Followers
)


@dataclass(frozen=True, slots=True)
class Look:
    """What one successful probe brought home. With `refused` parts the probe was partial: those are unknown."""

    observations: tuple[Observation, ...]
    refused: tuple[Failure, ...] = ()
    notes: Mapping[str, str] | None = None
    """Free text for the status page (server version, address of the upstream); never a secret, never a label."""
