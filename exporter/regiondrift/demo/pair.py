"""What are two regions? A primary and its streaming standby, with a link between them that can be cut."""

from __future__ import annotations

import threading
from pathlib import Path

from regiondrift.demo.leash import Account
from regiondrift.demo.postgres import EndedError, Server
from regiondrift.demo.programs import Programs
from regiondrift.demo.proxy import Proxy


class Pair:
    """Two servers of one system. Roles change at `promote`; names do not."""

    def __init__(
        self,
        home: Path,
        using: Programs,
        user: Account | None = None,
        *,
        names: tuple[str, str] = ("montreal", "amsterdam"),
        settings: dict[str, str] | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        self.primary, self.standby = (Server(name, home, using, user, settings=settings, ended=ended) for name in names)
        self.link = Proxy(("127.0.0.1", self.primary.port))
        """Between the two: what the standby receives comes through it."""
        self._ended = ended or threading.Event()

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.primary, self.standby

    def start(self) -> None:
        """Make the primary, copy it, and wait until the copy streams."""
        self.primary.initialise()
        self.attach()

    def attach(self) -> None:
        """Make `standby` a fresh copy of `primary` that streams through the link."""
        self.standby.stop("immediate")
        self.link.target = ("127.0.0.1", self.primary.port)
        self.link.set("pass")
        self.standby.clone(self.primary, self.link.port)
        self.standby.start()
        while not self.streaming():
            if self._ended.wait(0.05):
                raise EndedError

    def streaming(self) -> bool:
        """Whether the primary sends to the standby now."""
        return bool(
            self.primary.value(
                "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'",
                [self.standby.name],
            )
        )

    def wait_caught_up(self, wait: float = 20) -> None:
        """Until the standby has replayed all that the primary has flushed by now."""
        self.standby.wait_caught_up(self.primary, wait)

    def fail_over(self) -> None:
        """Lose the primary at once and promote the standby: they change roles, and the old primary stays stopped."""
        self.primary.stop("immediate")
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def remove(self) -> None:
        """Stop both and leave nothing behind."""
        self.link.close()
        for server in self.servers:
            server.remove()
