"""How do tests look at a real server, and read what was said? Looks share a memory, as those of one exporter do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Kept, Look, Metric, RegionName, Sample, Target
from regiondrift_collectors.postgresql import look
from regiondrift_collectors.postgresql.options import Node
from servers.postgresql import Server


class Looks:
    """Looks at one server with one memory."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clock = Clock()
        self._kept = Kept(self.clock.now)

    def look(self) -> Look:
        """One look over a connection of its own; nothing of it was refused."""
        node = Node(
            name=self.server.name, region=RegionName(self.server.name), conninfo=Conninfo(self.server.conninfo())
        )

        async def once() -> Look:
            try:
                return await look(Target("orders", self.server.name, self.server.name, node), self._kept)
            finally:
                self._kept.drop()

        found = asyncio.run(once())
        assert found.refused == ()
        return found

    def said(self, metric: Metric) -> Mapping[tuple[str, ...], float]:
        """Value by what stands after system, link and member."""
        return said(self.look(), metric, self.server.name)

    def until(self, metric: Metric, true: Callable[[Mapping[tuple[str, ...], float]], bool], wait: float = 20) -> None:
        """Look until what is said is `true`. A server tells nobody when it has changed its mind."""
        end = time.monotonic() + wait
        while not true(found := self.said(metric)):
            assert time.monotonic() < end, f"still {dict(found)}"
            time.sleep(0.05)


def said(found: Look, metric: Metric, member: str) -> Mapping[tuple[str, ...], float]:
    values = {}
    for one in found.observations:
        if isinstance(one, Sample) and one.metric is metric:
            assert one.values[:3] == ("postgresql", "orders", member)
            values[one.values[3:]] = one.value
    return values


def holds(states: Mapping[tuple[str, ...], float], *of: str) -> list[str]:
    """The states that are 1 for the item `of`; there is exactly one, or none at all."""
    return [key[-1] for key, value in states.items() if key[:-1] == of and value == 1]
