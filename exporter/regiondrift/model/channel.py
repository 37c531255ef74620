"""What is seen of replication that takes chosen changes by name, from a source's channel to a follower elsewhere?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Channel:
    """What a source knows of one consumer that takes chosen changes from it under a name (PostgreSQL: a logical slot).

    Positions are those of the node's own history, as its `SourcePosition` or `ReplicaPosition` names it.
    """

    name: str
    position: Any
    """The consumer has confirmed everything at or below it; None: not known."""
    active: bool
    """A consumer is connected."""
    consumer: str | None = None
    """Name under which it is."""
    scope: str = ""
    """The part of the source that it takes from (PostgreSQL: the database)."""
    guarded: bool = False
    """The source lets this consumer get no further than the nodes that may succeed it: a failover leaves no gap."""
    reported_lag: float | None = None
    """Seconds, as the source claims; exported for comparison and never used to decide."""


@dataclass(frozen=True, slots=True)
class Channels:
    """All channels of this node; one that is not among them is not there."""

    channels: tuple[Channel, ...]
    offers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What can be taken, as far as it is known: ``SCOPE/OFFER`` -> items (PostgreSQL: publications, tables)."""
    known: frozenset[str] = frozenset()
    """Scopes of which every offer is known: one that is not in `offers` is not there."""


@dataclass(frozen=True, slots=True)
class Follower:
    """One consumer that takes chosen changes from a channel, as it is seen where it lives."""

    name: str
    """Unique within its system; the label `replica` is ``ENTRY/NAME``."""
    identity: str
    """Another one is another copy, even under the same name."""
    channel: str | None
    """Name of the channel, at whatever source; None: it has none."""
    consumer: str
    """Name under which it connects to its source, unless it is told otherwise."""
    up: bool | None
    """It is connected."""
    paused: bool = False
    position: Any = None
    """It holds durably what it takes of everything at or below; grows as long as it is the same copy. None: not known."""
    received: Any = None
    """How far its source's log has reached it, applied or not: its source holds at least as much."""
    apply_failures: int | None = None
    copy_failures: int | None = None
    """Failures so far: of applying changes, and of first copies."""
    uncopied: int | None = None
    """Items whose first copy is not complete; None: not known."""
    takes: frozenset[str] = frozenset()
    """Offers that it takes from."""
    items: frozenset[str] | None = None
    """Items that it follows; None: not known."""


@dataclass(frozen=True, slots=True)
class Followers:
    """All followers that live in this node's system. Only a node that accepts writes tells of them."""

    system: str
    """Value of the label `system` of their series."""
    followers: tuple[Follower, ...]
