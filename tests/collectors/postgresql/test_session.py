"""What does a server see of us? One session that says who it is, cannot write, waits for nothing, and notices when we are gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Look, Reason, RegionName, Target
from regiondrift.schedule.guard import Guard
from regiondrift_collectors.postgresql import COLLECTOR
from regiondrift_collectors.postgresql.connection import connect
from regiondrift_collectors.postgresql.options import Node
from servers.postgresql import Server, standalone

pytestmark = pytest.mark.servers

OURS = "FROM pg_stat_activity WHERE usename = 'regiondrift'"


@pytest.fixture(scope="module", params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with standalone(version=request.param) as made:
        yield made


def node(server: Server, more: str = "") -> Node:
    return Node(name="n", region=RegionName("r"), conninfo=Conninfo(f"{server.conninfo()} {more}"))


async def test_one_session_serves_all_looks_and_says_whose_it_is(server: Server) -> None:
    guard = Guard(COLLECTOR, Target("orders", "n", "r", node(server)), 10, Clock())
    try:
        pids = set()
        for _ in range(5):
            assert isinstance((await guard.look()).result, Look)
            ((pid, name, state),) = server.execute(f"SELECT pid, application_name, state {OURS}")
            pids.add(pid)
            assert (name, state) == ("regiondrift", "idle"), "not in a transaction that would hold back a vacuum"
        assert len(pids) == 1
    finally:
        await guard.close()


async def test_the_name_may_be_another(server: Server) -> None:
    connection = await connect(node(server, "application_name=watcher"), 10)
    try:
        assert (
            server.value(f"SELECT application_name {OURS} AND state IS NOT NULL ORDER BY backend_start DESC")
            == "watcher"
        )
    finally:
        connection.close()


async def test_the_server_ends_what_takes_long_and_lets_us_write_nothing(server: Server) -> None:
    connection = await connect(node(server), 0.2)
    try:
        names = ("statement_timeout", "lock_timeout", "default_transaction_read_only")
        told = ", ".join(f"current_setting('{name}')" for name in names)
        ([row],), _ = await connection.ask(f"SELECT {told}".encode())
        assert list(row) == ["200ms", "1s", "on"]
        _, refused = await connection.ask(b"SELECT pg_sleep(5)")
        assert refused is not None
        assert refused.failure.reason is Reason.TIMEOUT
        _, refused = await connection.ask(b"CREATE TABLE t ()")
        assert refused is not None
        assert "read-only" in refused.failure.detail
    finally:
        connection.close()


async def test_both_ends_notice_when_the_other_is_gone(server: Server) -> None:
    connection = await connect(node(server), 10)
    try:
        with socket.socket(fileno=os.dup(connection._pgconn.socket)) as peek:
            assert peek.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert [peek.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [10, 5, 3, 15000]
    finally:
        connection.close()
