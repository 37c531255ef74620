"""Is what deploy/grants/postgresql.sql grants enough, and is all of it needed? On the oldest and newest server at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Failure, Look, Reason, RegionName, Target
from regiondrift.schedule.guard import Guard
from regiondrift_collectors.postgresql import COLLECTOR
from regiondrift_collectors.postgresql.options import Node
from servers.postgresql import Pair, Server, pair

pytestmark = pytest.mark.servers

FILE: Final = Path(__file__).parents[3] / "deploy" / "grants" / "postgresql.sql"
NEEDED: Final = ("pg_read_all_stats", "pg_read_all_settings")


@pytest.fixture(scope="module", params=[15, 18])
def regions(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two servers whose role for the exporter is the file's."""
    with pair(request.param) as made:
        primary = made.primary
        primary.execute("DROP ROLE regiondrift")
        for _ in range(2):
            primary.execute(FILE.read_text(encoding="utf-8"))
        primary.execute(f"ALTER ROLE regiondrift PASSWORD '{primary.secrets.role}'")
        made.wait_caught_up()
        yield made


async def look(server: Server) -> Look | Failure:
    node = Node(name=server.name, region=RegionName("r"), conninfo=Conninfo(server.conninfo()))
    guard = Guard(COLLECTOR, Target("orders", server.name, "r", node), 10, Clock())
    try:
        return (await guard.look()).result
    finally:
        await guard.close()


async def test_it_is_enough_for_both_roles(regions: Pair) -> None:
    for server in regions.servers:
        found = await look(server)
        assert isinstance(found, Look), found
        assert found.refused == ()


@pytest.mark.parametrize("role", NEEDED)
async def test_each_of_it_is_needed_and_missed_by_name(regions: Pair, role: str) -> None:
    """On the primary `primary_conninfo` is of no interest."""
    regions.primary.execute(f"REVOKE {role} FROM regiondrift")
    regions.wait_caught_up()
    try:
        without = await look(regions.standby)
    finally:
        regions.primary.execute(f"GRANT {role} TO regiondrift")
        regions.wait_caught_up()
    assert isinstance(without, Failure)
    assert without.reason is Reason.PERMISSION
    assert "pg_monitor" in without.detail
    assert isinstance(await look(regions.standby), Look)


def test_it_grants_nothing_else(regions: Pair) -> None:
    rows = regions.primary.execute(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,"
        " ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = pg_roles.oid ORDER BY 1)"
        " FROM pg_roles WHERE rolname = 'regiondrift'"
    )
    assert rows == [(False, sorted(NEEDED))]


def test_the_role_cannot_write_even_by_hand(regions: Pair) -> None:
    import psycopg

    with (
        psycopg.connect(regions.primary.conninfo(), autocommit=True) as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("CREATE TEMPORARY TABLE t (); CREATE ROLE x")
