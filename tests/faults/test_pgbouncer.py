"""What if a pooler stands in the way? It is named, and nobody else's session becomes read-only by ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Failure, Look, Reason, RegionName, Target
from regiondrift.schedule.guard import Guard
from regiondrift_collectors.postgresql import COLLECTOR
from regiondrift_collectors.postgresql.options import Node
from servers.pgbouncer import pgbouncer
from servers.postgresql import Server, standalone

pytestmark = pytest.mark.servers

OURS = ("default_transaction_read_only", "lock_timeout", "statement_timeout", "extra_float_digits")
MODES = ("session", "transaction", "statement")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with standalone() as made:
        yield made


async def look(conninfo: str) -> Look | Failure:
    node = Node(name="n", region=RegionName("r"), conninfo=Conninfo(conninfo))
    guard = Guard(COLLECTOR, Target("entry", "n", "r", node), 10, Clock())
    try:
        return (await guard.look()).result
    finally:
        await guard.close()


@contextmanager
def client(server: Server, port: int) -> Iterator[psycopg.Connection[tuple[str]]]:
    """Somebody else behind the same pooler, as the same role, so that it gets the same connections."""
    with psycopg.connect(server.conninfo(port=port), autocommit=True) as connection:
        yield connection


def settings(connection: psycopg.Connection[tuple[str]]) -> dict[str, str]:
    return {name: connection.execute("SELECT current_setting(%s)", [name]).fetchall()[0][0] for name in OURS}


@pytest.mark.parametrize("mode", MODES)
async def test_a_pooler_is_named_and_nothing_of_ours_reaches_its_other_clients(server: Server, mode: str) -> None:
    with client(server, server.port) as direct:
        untouched = settings(direct)
    with pgbouncer(server, mode) as port:
        for _ in range(3):
            found = await look(server.conninfo(port=port))
            assert isinstance(found, Failure)
            assert found.reason is Reason.PROTOCOL
            assert "PgBouncer" in found.detail
            assert "PostgreSQL itself" in found.detail
        with client(server, port) as other:
            assert settings(other) == untouched


async def test_what_is_set_through_a_pooler_does_reach_others(server: Server) -> None:
    """Or the test above would prove nothing."""
    with pgbouncer(server, "transaction") as port, client(server, port) as careless, client(server, port) as other:
        careless.execute("SET lock_timeout = '1s'")
        assert settings(other)["lock_timeout"] == "1s"


async def test_its_own_console_is_named(server: Server) -> None:
    with pgbouncer(server, "session") as port:
        found = await look(server.conninfo(port=port).replace("dbname=postgres", "dbname=pgbouncer"))
    assert isinstance(found, Failure)
    assert (found.reason, "PgBouncer's own console" in found.detail) == (Reason.PROTOCOL, True)


async def test_what_it_refuses_itself_has_its_reason(server: Server) -> None:
    with pgbouncer(server, "session") as port:
        unknown = await look(server.conninfo(port=port).replace("dbname=postgres", "dbname=nowhere"))
        wrong = await look(server.conninfo(port=port, password=False) + " password=wrong")
    assert isinstance(unknown, Failure)
    assert unknown.reason is Reason.PROTOCOL
    assert isinstance(wrong, Failure)
    assert wrong.reason is Reason.AUTHENTICATION


async def test_without_it_the_same_look_succeeds(server: Server) -> None:
    assert isinstance(await look(server.conninfo()), Look)
