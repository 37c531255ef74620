"""What else is read of a server? Parts of a look that ride on its round trip; one that is refused takes nothing from the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from regiondrift.model import Metric, Moment, Observation
from regiondrift_collectors.postgresql.connection import Rows


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answered, as the look's first statement found it."""

    link: str
    """Name of the entry; label `link`."""
    member: str
    """Name of the node; label `member`."""
    version: int
    """``server_version_num``."""
    in_recovery: bool
    now: Moment
    """Just before it was asked, on the exporter's clock: an age that ends there makes nothing younger than it is."""
    memory: dict[str, Any] = field(default_factory=dict)
    """The section's own, from look to look."""
    notes: dict[str, str] = field(default_factory=dict)
    """What the section has to tell a person (`Look.notes`): never a secret, no text of a query."""

    @property
    def labels(self) -> tuple[str, str, str]:
        """Values of `system`, `link`, `member`."""
        return ("postgresql", self.link, self.member)


@dataclass(frozen=True, slots=True)
class Section:
    """One statement and what its rows mean."""

    name: str
    statement: Callable[[int], str | None]
    """The SQL for a ``server_version_num`` that is understood; None where it has nothing to tell. Must work in both roles, lock
    nothing and write nothing."""
    read: Callable[[Rows, Server], Iterable[Observation]]
    """Raises:
        ProbeError, RefusedValueError: the rows cannot be true; only this section's part is unknown then."""
    metrics: tuple[Metric, ...] = ()
    """The families that it may say something of."""
