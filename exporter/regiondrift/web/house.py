"""What does the web server need of the house? Little: bytes that exist, a view of it, and one thing to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from regiondrift.model import HouseStatus
from regiondrift.web.negotiate import Format

T = TypeVar("T")


class House(Protocol):
    """The running exporter, as its HTTP side sees it."""

    async def metrics(self, format: Format, gzip: bool) -> bytes:
        """The exposition, ready to be sent. The same object as long as nothing changed."""

    async def status(self) -> HouseStatus:
        """What there is to say now; made in small steps, since there may be thousands of links."""

    async def aside(self, work: Callable[[], T]) -> T:
        """Do work that takes the processor for long, off the event loop."""

    def healthy(self) -> bool:
        """Whether the scheduler's own heartbeat is young. Says nothing of any target."""

    def ready(self) -> bool:
        """Whether every target's first probe has ended or met its deadline."""

    async def reload(self) -> str | None:
        """Take the configuration anew. None: done; else why not, for a person, without secrets."""
