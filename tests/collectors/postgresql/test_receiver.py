"""When the WAL receiver last heard something, on real servers."""

from __future__ import annotations

import asyncio
import time

import pytest

from collectors.postgresql.test_statement import STANDBY, row
from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Kept, Look, Moment, ProbeError, Sample, Target
from regiondrift_collectors.postgresql import SECTIONS, look
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.options import Node
from regiondrift_collectors.postgresql.receiver import LAST_MESSAGE, SECTION, read
from regiondrift_collectors.postgresql.section import Server
from servers.postgresql import Server as Running
from servers.postgresql import pair

CLOCK = Clock()


async def last_message(server: Running) -> float | None:
    node = Node(name=server.name, region=server.name, conninfo=Conninfo(server.conninfo()))  # type: ignore[arg-type]
    kept = Kept(CLOCK.now)
    try:
        found = await look(Target("orders", server.name, server.name, node), kept)
    finally:
        kept.drop()
    values = [o.value for o in found.observations if isinstance(o, Sample) and o.metric is LAST_MESSAGE]
    return values[0] if values else None


@pytest.mark.parametrize("version", [15, 18])
def test_a_receiver_that_hears_nothing_falls_silent_without_a_word(version: int) -> None:
    async def watch() -> None:
        with pair(version, settings={"wal_receiver_status_interval": "100ms"}) as regions:
            assert await last_message(regions.primary) is None
            regions.primary.execute("CREATE TABLE heard (n int)")
            regions.wait_caught_up()
            heard = await last_message(regions.standby)
            assert heard is not None
            assert 0 <= time.time() - heard < 10
            regions.link.set("blackhole")
            cut = time.time()
            regions.primary.execute("INSERT INTO heard SELECT generate_series(1, 100)")
            await asyncio.sleep(0.5)
            silent = await last_message(regions.standby)
            assert silent is not None
            assert silent <= cut + 0.1
            regions.link.set("refuse")
            async with asyncio.timeout(10):
                while await last_message(regions.standby) is not None:  # noqa: ASYNC110  a server tells nobody
                    await asyncio.sleep(0.05)

    asyncio.run(watch())


class Slow:
    """In the place of a connection: a standby's answer that is long on its way."""

    server_version, usable, database = 180006, True, "postgres"

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> Moment:
        return Moment(self.at)

    async def ask(self, statement: bytes) -> tuple[list[Rows], None]:
        self.at += 5
        return [[row(STANDBY)], *([["3"]] for _ in SECTIONS[: SECTIONS.index(SECTION) + 1])], None


def test_an_answer_that_is_late_makes_nothing_younger() -> None:
    async def watch() -> Look:
        slow = Slow()
        kept = Kept(slow.now)
        kept.put(slow, lambda: None)
        return await look(Target("orders", "ams-1", "amsterdam", None), kept)

    said = [o.value for o in asyncio.run(watch()).observations if isinstance(o, Sample) and o.metric is LAST_MESSAGE]
    assert said == [997.0]


@pytest.mark.parametrize("rows", [[["NaN"]], [["soon"]], [[None]], [["1"], ["2"]]])
def test_what_is_no_span_of_time_is_refused(rows: list[list[str | None]]) -> None:
    with pytest.raises(ProbeError):
        list(read(rows, Server("orders", "ams-1", 180000, True, CLOCK.now())))
