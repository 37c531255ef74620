"""Is everything that is said of logical replication true? A publisher and a subscriber, each an entry, and what befalls them.

Every scrape meanwhile is held against the rows: whatever was acknowledged before T is on the subscriber. What a test states
itself is what must be said in time.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import psycopg
import pytest

from regiondrift.demo.postgres import SUPERUSER, Server, free_port
from servers.postgresql import standalone, wanted
from truth import exporter as said
from truth.exporter import INTERVAL, Exporter, Scrape
from truth.witness import Writer

MARGIN: Final = 0.005
SOON: Final = 6.0
AGAIN: Final = 40.0
"""Seconds until a server that was away is looked at again, and PostgreSQL itself has tried again."""
SYSTEM: Final = "postgresql_logical"
REPLICA: Final = "reports/postgres/drift_sub"
OBJECTIVE: Final = "regiondrift_recovery_point_objective_seconds"
EXPECTED: Final = "regiondrift_replication_expected_replicas"
MISSING: Final = "regiondrift_replication_missing_items"
APPLY_ERRORS: Final = "regiondrift_postgresql_subscription_apply_errors_total"
CONFLICTS: Final = "regiondrift_postgresql_subscription_conflicts_total"
TABLES: Final = "regiondrift_postgresql_subscription_tables"
SETTINGS: Final = {"wal_level": "logical", "autovacuum": "off", "wal_retrieve_retry_interval": "1s"}


class Watching(Exporter):
    """The exporter, with an entry per system."""

    def __init__(self, home: str, *entries: tuple[str, str, Server]) -> None:
        super().__init__([], free_port())
        configuration = {
            "version": 1,
            "regions": ["montreal", "amsterdam"],
            "state_dir": str(self.home / home),
            "postgresql": [
                {
                    "name": entry,
                    "interval": f"{INTERVAL:g}s",
                    "timeout": "2s",
                    "recovery_point": "30s" if entry == "orders" else "60s",
                    "nodes": [{"name": server.name, "region": region, "conninfo": server.conninfo()}],
                }
                for entry, region, server in entries
            ],
        }
        (self.home / "regiondrift.yaml").write_text(json.dumps(configuration), encoding="utf-8")


class World:
    """Two systems, a writer on the first, an exporter, and a thread that holds what it says against the rows."""

    def __init__(self, publisher: Server, subscriber: Server) -> None:
        self.publisher, self.subscriber = publisher, subscriber
        for server in (publisher, subscriber):
            server.execute("CREATE TABLE ledger (id bigint PRIMARY KEY, content text)")
        publisher.execute("CREATE PUBLICATION drift_pub FOR TABLE ledger")
        self.writer = Writer()
        self.writer.to(publisher)
        self.exporter = Watching("state", ("orders", "montreal", publisher), ("reports", "amsterdam", subscriber))
        self.lies: dict[str, str] = {}
        self.judged = 0
        self.last: Scrape | None = None
        self._pause = threading.Lock()
        self._closed = False
        self.subscribe()
        self.exporter.start()
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        self.writer.close()
        self.exporter.remove()

    def subscribe(self) -> None:
        source = self.publisher.conninfo(role=SUPERUSER)
        self.subscriber.execute(f"CREATE SUBSCRIPTION drift_sub CONNECTION '{source}' PUBLICATION drift_pub")

    def unsubscribe(self) -> None:
        """Both halves go, whatever is left of them; what was copied goes, too."""
        with contextlib.suppress(psycopg.Error):
            self.subscriber.execute("ALTER SUBSCRIPTION drift_sub DISABLE")
            self.subscriber.execute("ALTER SUBSCRIPTION drift_sub SET (slot_name = NONE)")
            self.subscriber.execute("DROP SUBSCRIPTION drift_sub")
        self.drop_slot()
        self.subscriber.execute("TRUNCATE ledger")

    def drop_slot(self) -> None:
        end = time.monotonic() + 10
        while True:
            try:
                self.publisher.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
                self.publisher.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            except psycopg.Error:
                assert time.monotonic() < end, "the slot stays in use"
                time.sleep(0.02)
            else:
                return

    # ---- the judge

    def _run(self) -> None:
        while not self._closed:
            began = time.monotonic()
            with self._pause, contextlib.suppress(OSError):
                self.last = self.exporter.scrape()
                for lie in self._judge(self.last):
                    self.lies.setdefault("".join(c for c in lie if not c.isdigit()), lie)
                self.judged += 1
            time.sleep(max(0.05, 0.25 - (time.monotonic() - began)))

    def _judge(self, scrape: Scrape) -> Iterator[str]:
        t, since = scrape.one(said.T, system=SYSTEM), scrape.one(said.BEHIND, system=SYSTEM)
        states = scrape.all(said.STATE, system=SYSTEM)
        if states and (len(states) != 13 or sum(s.value for s in states) != 1):
            yield f"{len(states)} states, {sum(s.value for s in states):.0f} of them 1"
        if scrape.all(EXPECTED, system=SYSTEM):
            yield "a number of expected replicas"
        if since is not None and (since > scrape.at + MARGIN or (t is not None and since < t - MARGIN)):
            yield f"behind since {scrape.at - since:.3f} s ago, T {t and scrape.at - t}"
        if scrape.one(said.LAG_BYTES, system=SYSTEM) == 0 and since is not None:
            yield "no byte is missing, and something is"
        if t is None:
            return
        if t > scrape.at + MARGIN:
            yield f"T lies {t - scrape.at:.3f} s in the future"
        rows = [row for row in self.writer.rows(self.publisher.name) if row.acked < t - MARGIN]
        try:
            have = {row[0] for row in self.subscriber.execute("SELECT id FROM ledger")}
        except psycopg.Error:
            return
        lost = [row for row in rows if row.id not in have]
        if lost:
            yield f"T is {scrape.at - t:.2f} s ago, and {len(lost)} of {len(rows)} rows are not there; first {lost[0]}"

    @contextlib.contextmanager
    def unjudged(self) -> Iterator[None]:
        """While something happens that no T may survive."""
        with self._pause:
            yield

    # ---- for the tests

    def until(self, what: str, holds: Callable[[Scrape], bool], within: float = SOON) -> Scrape:
        end = time.monotonic() + within
        while True:
            before = self.judged
            while self.judged == before:
                time.sleep(0.02)
            scrape = self.last
            assert scrape is not None
            if holds(scrape):
                return scrape
            assert time.monotonic() < end, f"missed: {what}; said: {told(scrape)}\n{self.exporter.log[-2000:]}"

    def becomes(self, *states: str, within: float = SOON) -> Scrape:
        return self.until(f"{' or '.join(states)}", lambda s: s.state(REPLICA) in states, within)

    def healthy(self, within: float = AGAIN) -> Scrape:
        return self.until(
            "streams, T is young",
            lambda s: s.state(REPLICA) == "streaming" and point(s) > s.at - 2 * INTERVAL - 0.5,
            within,
        )

    def stands(self, seconds: float = 3.0) -> Scrape:
        """T does not move."""
        assert self.last is not None
        time.sleep(INTERVAL + 0.5)
        first = point(self.last)
        time.sleep(seconds)
        assert point(self.last) == pytest.approx(first, abs=0.01)
        return self.last

    def restart(self) -> None:
        with self._pause:
            self.exporter.kill()
            self.exporter.start()


def point(scrape: Scrape) -> float:
    t = scrape.one(said.T, system=SYSTEM)
    return float("-inf") if t is None else t


def told(scrape: Scrape) -> str:
    series = {name: [f"{dict(s.labels)} {s.value}" for s in scrape.all(name, system=SYSTEM) if s.value] for name in
              (said.STATE, said.T, said.BEHIND, said.LAG_BYTES, said.RESYNCS)}  # fmt: skip
    return f"{series}, T {scrape.at - point(scrape):.2f} s ago"


@pytest.fixture(scope="module", params=[wanted()])
def stage(request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(standalone(name, request.param, settings=SETTINGS)) for name in ("ymq-1", "ams-1")
        ]
        if request.param == 18:
            # There its own progress counts, too.
            grant = "EXECUTE ON FUNCTION pg_show_replication_origin_status()"
            servers[1].execute(f"GRANT {grant} TO regiondrift")
        regions = World(servers[0], servers[1])
        stack.callback(regions.close)
        yield regions


@pytest.fixture
def world(stage: World) -> Iterator[World]:
    stage.writer.rate = 20
    stage.healthy()
    yield stage
    assert not stage.lies, "\n".join(stage.lies.values())
    stage.healthy()


def lags(world: World) -> None:
    """Both bounds, and what lies between the ends."""
    world.until(
        "behind since, near T, and bytes",
        lambda s: (
            (since := s.one(said.BEHIND, system=SYSTEM)) is not None
            and since - point(s) < 2 * INTERVAL + 0.5
            and (s.one(said.LAG_BYTES, system=SYSTEM) or 0) > 0
        ),
    )


# ---- nothing is wrong


def test_the_link_is_named_by_both_entries(world: World) -> None:
    scrape = world.healthy()
    (series,) = scrape.all(said.T, system=SYSTEM)
    assert series.labels == {
        "system": SYSTEM,
        "link": "orders",
        "replica": REPLICA,
        "source_region": "montreal",
        "target_region": "amsterdam",
    }
    assert scrape.one(OBJECTIVE, system=SYSTEM, link="orders") == 30
    assert scrape.one(said.RESYNCS, system=SYSTEM) == 0


def test_an_idle_publisher_has_a_complete_copy_that_gets_no_older(world: World) -> None:
    world.writer.rate = 0
    time.sleep(2)
    world.healthy()
    world.publisher.execute("CHECKPOINT")
    for _ in range(8):
        time.sleep(0.5)
        assert world.last is not None
        assert world.last.state(REPLICA) == "streaming"
        assert point(world.last) > world.last.at - 2 * INTERVAL - 0.5


def test_a_busy_publisher_is_followed_within_two_intervals(world: World) -> None:
    world.writer.rate = 100
    time.sleep(1)
    world.healthy()
    for _ in range(8):
        time.sleep(0.5)
        assert world.last is not None
        assert world.last.state(REPLICA) == "streaming"


# ---- the subscription


def test_a_disabled_subscription_is_paused(world: World) -> None:
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub DISABLE")
    world.becomes("paused")
    world.stands()
    lags(world)
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub ENABLE")


def test_a_column_that_is_missing_on_the_subscriber_is_an_error(world: World) -> None:
    world.publisher.execute("ALTER TABLE ledger ADD COLUMN more text")
    try:
        world.becomes("error", within=12)
        world.stands()
        lags(world)
        assert world.last is not None
        assert (world.last.one(APPLY_ERRORS) or 0) > 0
    finally:
        world.subscriber.execute("ALTER TABLE ledger ADD COLUMN more text")


def test_a_conflict_is_an_error_until_it_is_resolved(world: World) -> None:
    world.writer.rate = 0
    time.sleep(0.2)
    world.subscriber.execute("INSERT INTO ledger VALUES (-1, 'ours')")
    world.publisher.execute("INSERT INTO ledger VALUES (-1, 'theirs')")
    world.becomes("error", within=12)
    world.stands()
    lags(world)
    assert world.last is not None
    if world.subscriber.value("SHOW server_version_num") >= "180000":
        assert (world.last.one(CONFLICTS, conflict="insert_exists") or 0) > 0
    world.subscriber.execute("DELETE FROM ledger WHERE id = -1")


def test_a_table_that_is_published_and_not_subscribed_is_counted(world: World) -> None:
    world.publisher.execute("CREATE TABLE newer (id bigint PRIMARY KEY)")
    world.publisher.execute("INSERT INTO newer SELECT generate_series(1, 10)")
    world.publisher.execute("ALTER PUBLICATION drift_pub ADD TABLE newer")
    world.until("one table is missing", lambda s: s.one(MISSING, system=SYSTEM) == 1, 25)
    world.subscriber.execute("CREATE TABLE newer (id bigint PRIMARY KEY)")
    world.subscriber.execute("INSERT INTO newer VALUES (5)")
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub REFRESH PUBLICATION")
    world.becomes("error", within=12)
    stands = world.stands()
    assert sum(s.value for s in stands.all(TABLES) if s.labels["state"] != "ready") == 1
    world.subscriber.execute("TRUNCATE newer")
    world.healthy()
    world.until("none is missing", lambda s: s.one(MISSING, system=SYSTEM) == 0, 25)
    world.publisher.execute("DROP TABLE newer")
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub REFRESH PUBLICATION")
    world.subscriber.execute("DROP TABLE newer")


# ---- servers and the exporter


def test_a_publisher_that_is_stopped_takes_no_proof_with_it(world: World) -> None:
    world.publisher.stop()
    # PostgreSQL counts a connection that ended while in use as an error of applying.
    world.becomes("disconnected", "error", within=12)
    stands = world.stands()
    assert stands.one(said.BEHIND, system=SYSTEM) is None
    assert stands.one(said.LAG_BYTES, system=SYSTEM) is None
    world.publisher.start()


def test_a_subscriber_that_is_stopped_is_unreachable(world: World) -> None:
    world.subscriber.stop()
    world.becomes("unreachable")
    stands = world.stands()
    assert stands.one(said.BEHIND, system=SYSTEM) is None
    world.subscriber.start()


@pytest.mark.parametrize("which", ["publisher", "subscriber"])
def test_a_server_that_crashes_comes_back_without_a_resync(world: World, which: str) -> None:
    server: Server = getattr(world, which)
    server.stop("kill")
    world.becomes("unreachable", "disconnected", "error", "catching_up", within=12)
    server.start()
    assert world.healthy().one(said.RESYNCS, system=SYSTEM) == 0


def test_an_exporter_that_is_killed_goes_on_where_it_was(world: World) -> None:
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub DISABLE")
    world.becomes("paused")
    before = point(world.stands())
    world.restart()
    after = world.becomes("paused")
    assert point(after) == pytest.approx(before, abs=0.01)
    assert after.one(OBJECTIVE, system=SYSTEM) == 30
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub ENABLE")


# ---- one half is gone


def test_a_slot_that_is_gone_is_disconnected_until_the_subscription_is_made_anew(world: World) -> None:
    world.drop_slot()
    world.becomes("disconnected", "error")
    world.stands()
    lags(world)
    resyncs = world.last.one(said.RESYNCS, system=SYSTEM) if world.last else None
    world.publisher.execute("SELECT pg_create_logical_replication_slot('drift_sub', 'pgoutput')")
    # What was written between the two slots never comes.
    time.sleep(3)
    world.stands()
    with world.unjudged():
        world.unsubscribe()
        world.subscribe()
        time.sleep(2 * INTERVAL + 0.5)
    assert world.healthy().one(said.RESYNCS, system=SYSTEM) == (resyncs or 0) + 1


def test_a_subscription_that_is_gone_is_missed_while_its_slot_is_there(world: World) -> None:
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub DISABLE")
    world.subscriber.execute("ALTER SUBSCRIPTION drift_sub SET (slot_name = NONE)")
    world.subscriber.execute("DROP SUBSCRIPTION drift_sub")
    world.becomes("disconnected")
    world.stands()
    lags(world)
    world.drop_slot()
    world.until("it ends", lambda s: not s.all(said.STATE, system=SYSTEM))
    world.subscriber.execute("TRUNCATE ledger")
    world.subscribe()


def test_a_publisher_that_is_not_configured_gives_states_without_t(world: World) -> None:
    alone = Watching("alone", ("reports", "amsterdam", world.subscriber))
    try:
        alone.start()
        for command, states in (("ENABLE", {"unknown"}), ("DISABLE", {"paused"})):
            world.subscriber.execute(f"ALTER SUBSCRIPTION drift_sub {command}")
            end = time.monotonic() + SOON
            while (scrape := alone.scrape()).state(REPLICA) not in states:
                assert time.monotonic() < end, told(scrape)
                time.sleep(0.2)
            (one,) = [s for s in scrape.all(said.STATE, system=SYSTEM) if s.value == 1]
            assert (one.labels["link"], one.labels["source_region"]) == ("reports", "")
            assert scrape.one(said.T, system=SYSTEM) is None
            assert scrape.one(OBJECTIVE, system=SYSTEM) is None
    finally:
        alone.remove()
        world.subscriber.execute("ALTER SUBSCRIPTION drift_sub ENABLE")
