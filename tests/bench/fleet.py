"""What do 200 links cost two real servers that have much to tell? Beside Debian's prometheus-postgres-exporter on the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bench import peer, running
from bench.result import Result, median
from regiondrift.clock import Clock
from regiondrift.demo.pair import Pair
from regiondrift.demo.postgres import ROLE, Server
from regiondrift.model import Conninfo, Kept, RegionName, Target
from regiondrift_collectors.postgresql import look
from regiondrift_collectors.postgresql.options import Node
from servers import databases
from servers.postgresql import pair

LINKS = 200
INTERVAL = 10.0
SECONDS = 60.0
DATABASES = 100
SLOTS = 50
PUBLISHING = 5
"""Databases over which the logical slots are spread: these are looked into."""
SETTLE = 75.0
"""Seconds until every target was looked at and into."""
SCRAPES = 20
"""Of the other exporter: it looks when scraped."""
IDLE = 1_000
LOOKS = 300
THEIRS = "other"
NO_SIZES = ("--no-collector.database",)
SETTINGS = {
    "wal_level": "logical",
    "max_connections": "300",
    "max_replication_slots": "60",
    "autovacuum": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track_planning": "on",
}


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one exporter, per look at one server."""

    ours: float
    """CPU seconds of the exporter."""
    server: float
    """CPU seconds of the server, all of its processes, less what it needs anyway."""
    statements: float
    executing: float
    """Seconds that the server says it spent on planning and executing them."""


def run() -> Iterator[Result]:
    peer.required()
    with pair(peer.VERSION, settings=SETTINGS) as servers:
        _furnish(servers)
        anyway = _spent_by(servers, SECONDS / 2) / (SECONDS / 2)
        with running.exporter(_document(servers), site=False) as served:
            here, looks, memory, others = _fleet(servers, served, anyway)
        theirs = {flags: _theirs(servers, flags, anyway) for flags in ((), NO_SIZES)}
    there, modest = theirs[()], theirs[NO_SIZES]
    yield Result(
        f"{LINKS} links of 2 servers every {INTERVAL:g} s ({DATABASES} databases, {SLOTS} slots each): looks done",
        f"{looks:.1f} a second of {2 * LINKS / INTERVAL:g}",
    )
    yield Result(f"{LINKS} links: memory", f"{memory:.0f} MB")
    yield Result(
        "exporter's CPU per target and probe, scrape included",
        f"{here.ours * 1e3:.2f} ms, theirs {there.ours * 1e3:.2f} ms",
        here.ours / there.ours,
        peer.GOAL,
        "x",
    )
    yield Result(
        "server's CPU per target and probe",
        f"{here.server * 1e3:.2f} ms, theirs {there.server * 1e3:.1f} ms",
        here.server / there.server,
        1.0,
        "x",
    )
    yield Result(
        "the same, theirs without sizes of databases",
        f"{here.server * 1e3:.2f} ms, theirs {modest.server * 1e3:.2f} ms: {here.server / modest.server:.2f}x",
    )
    yield Result(
        "planning and executing per target and probe (pg_stat_statements)",
        f"{here.executing * 1e3:.2f} ms, theirs {there.executing * 1e3:.1f} ms, without sizes "
        f"{modest.executing * 1e3:.2f} ms",
        here.executing / there.executing,
        1.0,
        "x",
    )
    yield Result(
        "statements per target and probe",
        f"{here.statements:.1f}, theirs {there.statements:.1f}",
        here.statements / there.statements,
        1.0,
        "x",
    )
    yield Result("connections kept per server, beyond one per target", f"{LINKS} targets each", float(others), 0.0)
    for name, few, many in asyncio.run(_thousand()):
        yield Result(
            f"look at a {name} with {IDLE:,} idle databases more",
            f"{many * 1e3:.2f} ms, without them {few * 1e3:.2f} ms",
            many / few,
            1.25,
            "x",
        )


async def _thousand() -> list[tuple[str, float, float]]:
    """Which server, and what a look takes without and with so many databases; asked in turn."""
    with pair(settings=SETTINGS) as plain, pair(settings=SETTINGS) as full:
        databases.idle(full.primary, IDLE)
        full.wait_caught_up()
        found = []
        for name, *both in zip(("source", "replica"), plain.servers, full.servers, strict=True):
            times: tuple[list[float], list[float]] = ([], [])
            eyes = [(_target(server), Kept(Clock().now)) for server in both]
            for _ in range(LOOKS):
                for (target, kept), its in zip(eyes, times, strict=True):
                    began = time.perf_counter()
                    await look(target, kept)
                    its.append(time.perf_counter() - began)
            for _, kept in eyes:
                kept.drop()
            found.append((name, median(times[0]), median(times[1])))
        return found


def _target(server: Server) -> Target:
    region = RegionName(server.name)
    return Target(
        "orders", server.name, region, Node(name=server.name, region=region, conninfo=Conninfo(server.conninfo()))
    )


def _furnish(servers: Pair) -> None:
    primary = servers.primary
    primary.execute("CREATE EXTENSION pg_stat_statements")
    primary.execute(f"CREATE ROLE {THEIRS} LOGIN PASSWORD '{primary.secrets.role}' IN ROLE pg_monitor")
    with primary.connect() as connection:
        for n in range(DATABASES):
            connection.execute(f"CREATE DATABASE tenant_{n:03} TEMPLATE template0 STRATEGY file_copy".encode())
    servers.wait_caught_up(60)
    for n in range(SLOTS // 2):
        _in_database(
            primary,
            f"tenant_{n % PUBLISHING:03}",
            f"SELECT pg_create_logical_replication_slot('logical_{n:02}', 'pgoutput')",
        )
    for server, count in ((primary, SLOTS - SLOTS // 2), (servers.standby, SLOTS)):
        # What was never connected to has no statistics to be read.
        for n in range(DATABASES):
            _in_database(server, f"tenant_{n:03}", "SELECT 1")
        server.execute(
            f"SELECT pg_create_physical_replication_slot('physical_' || n, true) FROM generate_series(1, {count}) AS n"
        )


def _in_database(server: Server, database: str, statement: str) -> None:
    with closing(databases.connect(server, database)) as connection:
        connection.execute(statement.encode())


def _fleet(servers: Pair, served: running.Exporter, anyway: float) -> tuple[_Cost, float, float, int]:
    """Cost of a look, looks a second, MB, and how many connections there are that no target explains."""
    scraper = running.Scraper(served.url + "/metrics")
    scraper.scrape()
    time.sleep(SETTLE)
    _forget(servers)
    kept = [_connections(s) for s in servers.servers]
    began, cpu, spent = time.monotonic(), running.cpu_seconds(served.pid), _spent(servers)
    while time.monotonic() - began < SECONDS:
        scraper.scrape()
        time.sleep(15.0)
    spent, cpu = _spent(servers) - spent, running.cpu_seconds(served.pid) - cpu
    took = time.monotonic() - began
    looks, statements, executing = _statements(servers, ROLE)
    # One that ends within this time was not kept: it looked into another database.
    others = max(abs(len(before & _connections(s)) - LINKS) for before, s in zip(kept, servers.servers, strict=True))
    cost = _Cost(cpu / looks, (spent - anyway * took) / looks, statements / looks, executing / looks)
    return cost, looks / took, running.resident(served.pid), others


def _theirs(servers: Pair, flags: Sequence[str], anyway: float) -> _Cost:
    with ExitStack() as stack:
        beside = [stack.enter_context(peer.exporter(s.conninfo(role=THEIRS), flags)) for s in servers.servers]
        scrapers = [running.Scraper(url) for _, url in beside]
        for scraper in scrapers:
            scraper.scrape()
        _forget(servers)
        began, spent = time.monotonic(), _spent(servers)
        cpu = sum(running.cpu_seconds(pid) for pid, _ in beside)
        for n in range(SCRAPES):
            for scraper in scrapers:
                scraper.scrape()
            time.sleep(max(0.0, began + n + 1 - time.monotonic()))
        spent, took = _spent(servers) - spent, time.monotonic() - began
        cpu = sum(running.cpu_seconds(pid) for pid, _ in beside) - cpu
    _, statements, executing = _statements(servers, THEIRS)
    looks = SCRAPES * len(beside)
    return _Cost(cpu / looks, (spent - anyway * took) / looks, statements / looks, executing / looks)


def _forget(servers: Pair) -> None:
    for server in servers.servers:
        server.execute("SELECT pg_stat_statements_reset()")


def _statements(servers: Pair, role: str) -> tuple[int, int, float]:
    """Looks (what is asked most often is asked once in each), statements, and seconds spent on them, on both."""
    rows = [
        server.execute(
            "SELECT max(calls), sum(calls)::bigint, sum(total_plan_time + total_exec_time) / 1000"
            f"  FROM pg_stat_statements WHERE userid = '{role}'::regrole"
        )[0]
        for server in servers.servers
    ]
    return sum(r[0] for r in rows), sum(r[1] for r in rows), sum(r[2] for r in rows)


def _connections(server: Server) -> set[int]:
    return {r[0] for r in server.execute(f"SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}'")}


def _spent_by(servers: Pair, seconds: float) -> float:
    before = _spent(servers)
    time.sleep(seconds)
    return _spent(servers) - before


def _spent(servers: Pair) -> float:
    """CPU seconds of all processes of both servers so far, those that have ended included."""
    return sum(_spent_on(server) for server in servers.servers)


def _spent_on(server: Server) -> float:
    assert server.process is not None
    pid = server.process.pid
    total = running.cpu_seconds(pid)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        try:
            # In nanoseconds: hundreds of processes do a few milliseconds each.
            total += int(Path(f"/proc/{child}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        except FileNotFoundError:
            continue
    return total


def _document(servers: Pair) -> str:
    lines = ["version: 1", "regions: [montreal, amsterdam]", "objectives: {recovery_point: 30s}"]
    lines += ["state_dir: {home}/state", "postgresql:"]
    for n in range(LINKS):
        lines += [f"  - name: orders-{n:03}", f"    interval: {INTERVAL:g}s", "    nodes:"]
        for server in servers.servers:
            lines.append(f"      - {{name: {server.name}, region: {server.name}, conninfo: '{server.conninfo()}'}}")
    return "\n".join([*lines, ""])
