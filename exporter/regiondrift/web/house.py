"""What does the web server need of the house? Little: bytes that exist, a view of it, and one thing to do."""

from __future__ import annotations

from typing import Protocol

from regiondrift.model import HouseStatus
from regiondrift.web.negotiate import Format


class House(Protocol):
    """The running exporter, as its HTTP side sees it."""

    async def metrics(self, format: Format, gzip: bool) -> bytes:
        """The exposition, ready to be sent. The same object as long as nothing changed."""

    def status(self) -> HouseStatus: ...

    def healthy(self) -> bool:
        """Whether the scheduler's own heartbeat is young. Says nothing of any target."""

    def ready(self) -> bool:
        """Whether every target's first probe has ended or met its deadline."""

    async def reload(self) -> str | None:
        """Take the configuration anew. None: done; else why not, for a person, without secrets."""
