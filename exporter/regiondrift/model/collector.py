"""What is a collector? Data: its options, its metrics, and one coroutine that looks at one target once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from regiondrift.model.metric import Metric, Moment
from regiondrift.model.observation import Look, Member, Position
from regiondrift.model.options import EntryOptions


@dataclass(frozen=True, slots=True)
class Objectives:
    """What holds where an entry names no objective of its own; seconds, None if the document names none."""

    recovery_point: float | None = None
    recovery_time: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What one probe looks at. Two equal targets are the same target across a reload."""

    entry: str
    part: str
    region: str
    options: Any
    """The collector's own frozen options of this part."""
    files: tuple[str, ...] = ()
    """Files it depends on (passwords, certificates): a change of one ends a backoff."""
    node: bool = True
    """It takes part in the entry's link. One that does not is asked for what else belongs to the entry (`Members`)."""

    @property
    def label(self) -> str:
        return f"{self.entry}/{self.part}"


@dataclass(frozen=True, slots=True)
class Link:
    """What the recovery reducer must know of an entry whose targets replicate from each other."""

    system: str
    """Value of the label `system`: the configuration's key."""
    objective: float | None
    """Recovery point objective in seconds."""
    identity: str | None = None
    """The system that the nodes must belong to (`History.system`); None: remembered, else that of the earliest listed
    node that answers in the first round."""
    encode: Callable[[Any], str] = str
    decode: Callable[[str], Position] = int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one entry of the configuration comes to. Targets keep the order of the configuration."""

    collector: str
    entry: str
    targets: tuple[Target, ...]
    interval: float
    timeout: float
    link: Link | None = None


class Kept:
    """What one target keeps from one look to the next: a connection, dropped when a look fails or the target ends, and a
    memory of what was seen, which stays as long as the target does."""

    def __init__(self, now: Callable[[], Moment] = lambda: Moment(0.0)) -> None:
        self.now = now
        """The exporter's own clock, for what has no time but that of a look."""
        self.memory: dict[str, Any] = {}
        self.value: Any = None
        self._close: Callable[[], None] | None = None

    def put(self, value: Any, close: Callable[[], None]) -> None:
        """Keep `value`; `close` must not block and is called once."""
        self.drop()
        self.value, self._close = value, close

    def drop(self) -> None:
        close, self.value, self._close = self._close, None, None
        if close:
            close()


@dataclass(frozen=True, slots=True)
class Collector:
    """One system that can be looked at. It stands in the entry point group ``regiondrift.collectors`` under its name,
    which is the configuration's key and the label `collector`."""

    name: str
    options: type[EntryOptions]
    plan: Callable[[Any, Objectives], tuple[tuple[Target, ...], Link | None]]
    """From an entry's options to what is looked at. Pure."""
    look: Callable[[Target, Kept], Awaitable[Look]]
    """Looks once. The caller sets the deadline by cancelling; a look must then return at once.

    Raises:
        ProbeError: the target could not be looked at.
    """
    metrics: tuple[Metric, ...] = ()
    """The families that its samples may belong to, beside those of the reducers."""
    interval: float = 15.0
    timeout: float = 10.0
    member: Callable[[Target, Member], Target | None] | None = None
    """From what a look at a target found to belong to its entry to what is looked at. Pure. None: it needs no look.

    Raises:
        RefusedValueError: it cannot be looked at.
    """
