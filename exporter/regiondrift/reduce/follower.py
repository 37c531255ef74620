"""What must not be forgotten of a follower? Whom it follows, what was proven of it, and what broke its continuity."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from regiondrift.model import Follower, History, Link, Moment, Position
from regiondrift.reduce.memory import history_from, history_row

QUIET: Final = 60.0
"""Seconds without a further failed copy after which copying counts as going on, where nobody tells what is not copied."""


@dataclass(slots=True)
class FollowerMemory:
    """What is known of one follower beyond the last looks."""

    identity: str = ""
    home: History | None = None
    """History of the system that it lives in, when it was last seen."""
    channel: str | None = None
    source: str | None = None
    """Entry whose channel it takes from."""
    confirmed: bool = False
    """Both ends were seen to be one link; else only the name of the channel speaks for it."""
    refused: list[str] = field(default_factory=list)
    """Entries that its own words proved not to be its source."""
    history: History | None = None
    """The source's, in which `held` is a position."""
    held: Position | None = None
    """Highest position known to be covered."""
    floor: Position | None = None
    """Highest position that it told itself."""
    proven: Moment | None = None
    """T, the recovery point."""
    guarded: bool = False
    gone: bool = False
    """Its channel was seen not to be there."""
    gapped: bool = False
    """Changes may have been passed over for good: nothing more can be proven until it is made anew."""
    diverged: bool = False
    resyncing: bool = False
    resyncs: int = 0
    apply_failures: int | None = None
    copy_failures: int | None = None
    apply_failed: bool = False
    """A change could not be applied since the last progress."""
    copy_failed: bool = False

    def renew(self) -> None:
        """Another copy stands in the place of the one that was known."""
        known = bool(self.identity)
        self.source, self.confirmed, self.refused = None, False, []
        self.history, self.held, self.floor, self.proven = None, None, None, None
        self.guarded = self.gone = self.gapped = self.diverged = False
        self.apply_failures, self.copy_failures = None, None
        self.apply_failed = self.copy_failed = False
        if known:
            self.resyncing = True
            self.resyncs += 1

    def take(self, now: Follower, home: History) -> bool:
        """It was seen as `now`, in a system of this history; whether it is another one than before."""
        identity = f"{home.system}:{now.identity}"
        renewed = identity != self.identity
        if renewed:
            self.renew()
        elif self.floor is not None and now.position is not None and not self.floor <= now.position:
            # Only an older copy knows less than was known before; what was sent since is not sent again.
            self.proven, self.held, self.floor = None, None, None
            self.resyncing = self.gapped = True
            self.resyncs += 1
        elif home != self.home:
            # Its system failed over: what the successor lacks, the source believes to have delivered.
            self.proven, self.held, self.gapped = None, None, True
        if now.channel is not None:
            # One that is taken off its channel, to be dropped without it, is still missed there.
            if self.channel not in (None, now.channel):
                self.gone, self.confirmed = True, False
            self.channel = now.channel
        self.identity, self.home = identity, home
        if now.position is not None:
            self.floor = now.position
        return renewed

    def document(self, link: Link, wall: Callable[[float], float]) -> dict[str, Any]:
        """As the state file keeps it, times in Unix time."""

        def position(p: Position | None) -> str | None:
            return None if p is None else link.encode(p)

        return {
            "identity": self.identity,
            "home": history_row(self.home),
            "channel": self.channel,
            "source": self.source,
            "confirmed": self.confirmed,
            "refused": self.refused,
            "history": history_row(self.history),
            "held": position(self.held),
            "floor": position(self.floor),
            "proven": None if self.proven is None else wall(self.proven),
            "guarded": self.guarded,
            "gone": self.gone,
            "gapped": self.gapped,
            "diverged": self.diverged,
            "resyncing": self.resyncing,
            "resyncs": self.resyncs,
            "apply_failures": self.apply_failures,
            "copy_failures": self.copy_failures,
            "apply_failed": self.apply_failed,
            "copy_failed": self.copy_failed,
        }


def document(system: str, followers: dict[str, FollowerMemory], link: Link, wall: Callable[[float], float]) -> str:
    """The followers of one entry as the state file keeps them."""
    return json.dumps({"system": system, "followers": {n: m.document(link, wall) for n, m in followers.items()}})


def remembered(
    text: str | None, link: Link, moment: Callable[[float], Moment], now: float
) -> tuple[str, dict[str, FollowerMemory]]:
    """What `document` wrote; a moment later than `now` is dropped.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it was not written by this version's `document`.
    """
    if text is None:
        return "", {}
    body = json.loads(text)
    followers = {}
    for name, kept in body["followers"].items():
        memory = FollowerMemory()
        for key, value in kept.items():
            if key in ("home", "history"):
                value = history_from(value)
            elif key in ("held", "floor"):
                value = None if value is None else link.decode(value)
            elif key == "proven" and value is not None:
                value = moment(value)
                value = value if value <= now else None
            setattr(memory, key, value)
        followers[name] = memory
    return str(body["system"]), followers
