"""Does a look stay cheap and true where there are a thousand databases?"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import psycopg
import pytest

from collectors.postgresql.looks import said
from regiondrift.clock import Clock
from regiondrift.demo.postgres import ROLE
from regiondrift.model import Channels, Conninfo, Kept, Look, RegionName, Target
from regiondrift_collectors.postgresql import look
from regiondrift_collectors.postgresql.conflicts import CONFLICTS
from regiondrift_collectors.postgresql.options import Node
from servers import databases
from servers.postgresql import Pair, Server, pair

pytestmark = pytest.mark.servers

MANY = 1000
LOOKS = 30


class Eye:
    """Looks at one server over the connection that it keeps."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kept = Kept(Clock().now)
        conninfo = Conninfo(server.conninfo())
        self._node = Node(name=server.name, region=RegionName(server.name), conninfo=conninfo)

    async def look(self) -> Look:
        found = await look(Target("orders", self.server.name, self.server.name, self._node), self.kept)
        assert found.refused == ()
        return found

    async def seconds(self) -> float:
        """What a look takes when nothing else happens on the machine: the quickest of many."""
        return min([await self._timed() for _ in range(LOOKS)])

    async def _timed(self) -> float:
        began = time.perf_counter()
        await self.look()
        return time.perf_counter() - began


@asynccontextmanager
async def eyes(regions: Pair) -> AsyncIterator[tuple[Eye, Eye]]:
    primary, standby = Eye(regions.primary), Eye(regions.standby)
    try:
        yield primary, standby
    finally:
        primary.kept.drop()
        standby.kept.drop()


@pytest.fixture(params=[15, 18])
def regions(request: pytest.FixtureRequest) -> Iterator[Pair]:
    settings = {
        "autovacuum": "off",
        "wal_level": "logical",
        "log_connections": "on",
        "max_standby_streaming_delay": "100ms",
        "hot_standby_feedback": "off",
    }
    with pair(request.param, settings=settings) as made:
        yield made


def connected(server: Server) -> list[str]:
    """Into which databases our role was let so far, as the server's log tells."""
    log = server.log.read_text(encoding="utf-8", errors="replace")
    return re.findall(rf"connection authorized: user={ROLE} database=(\S+)", log)


async def test_a_thousand_idle_databases_cost_nothing(regions: Pair) -> None:
    async with eyes(regions) as (primary, standby):
        few = [await eye.seconds() for eye in (primary, standby)]
        databases.idle(regions.primary, MANY)
        regions.wait_caught_up()
        for eye, before in zip((primary, standby), few, strict=True):
            assert eye.server.value("SELECT count(*) FROM pg_database") >= MANY
            many = await eye.seconds()
            assert many < 2 * before + 0.005, f"{eye.server.name}: {before * 1e3:.1f} ms, now {many * 1e3:.1f} ms"
            assert connected(eye.server) == ["postgres"], "one connection, kept, to the database of the conninfo"


async def test_only_a_database_that_publishes_is_looked_into_and_a_conflict_is_found_among_a_thousand(
    regions: Pair,
) -> None:
    databases.idle(regions.primary, MANY)
    regions.primary.execute("CREATE DATABASE sales TEMPLATE template0")
    with closing(databases.connect(regions.primary, "sales")) as sales:
        sales.execute("CREATE TABLE orders (n int)")
        sales.execute("CREATE PUBLICATION orders FOR TABLE orders")
        sales.execute("SELECT pg_create_logical_replication_slot('reporting', 'pgoutput')")
        regions.wait_caught_up()
        async with eyes(regions) as (primary, standby):
            for _ in range(5):
                at_source, at_copy = await primary.look(), await standby.look()
            channels = next(o for o in at_source.observations if isinstance(o, Channels))
            assert channels.offers == {"sales/orders": frozenset({"public.orders"})}
            assert connected(regions.primary) == ["postgres", "sales"]
            assert connected(regions.standby) == ["postgres"]
            assert said(at_copy, CONFLICTS, "amsterdam")["lock",] == 0

            with closing(databases.connect(regions.standby, "sales")) as report:
                report.autocommit = False
                report.execute("SELECT count(*) FROM orders")
                sales.execute("ALTER TABLE orders ADD COLUMN more int")
                regions.wait_caught_up()
                with pytest.raises(psycopg.Error, match="conflict with recovery"):
                    report.execute("SELECT 1")
            assert await _counted(standby) == {"lock": 1}
            assert connected(regions.standby) == ["postgres"]


async def _counted(eye: Eye) -> dict[str, float]:
    """Conflicts by kind, once the server has told of any."""
    end = time.monotonic() + 10
    while True:
        found = said(await eye.look(), CONFLICTS, eye.server.name)
        if some := {kind: n for (kind,), n in found.items() if n}:
            return some
        assert time.monotonic() < end, found
