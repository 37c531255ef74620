"""Are slots and subscriptions read as they are, and what stands in each database by one connection at a time?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from regiondrift.model import (
    Channel,
    Channels,
    Conninfo,
    Failure,
    Followers,
    Kept,
    Look,
    Moment,
    ProbeError,
    Reason,
    Sample,
    Target,
)
from regiondrift_collectors.postgresql import logical, logical_detail, look
from regiondrift_collectors.postgresql.connection import connect
from regiondrift_collectors.postgresql.logical import Subscription, read_channels, read_followers, read_whether
from regiondrift_collectors.postgresql.logical_detail import EVERY, EVERY_HERE, STALE, Database, due, observations
from regiondrift_collectors.postgresql.options import Node
from regiondrift_collectors.postgresql.section import Server as Asked
from servers.postgresql import Server, standalone

LABELS = ("postgresql", "reports", "b")
SUBSCRIPTION: list[str | None] = [
    "16394", "shop", "drift_sub", "drift_slot", "t", "t", "0/7F8610",
    '{"subid": 16394, "apply_error_count": 3, "sync_error_count": 1, "confl_insert_exists": 2, "stats_reset": null}',
    "f", '["drift_pub"]', '{"r": 4, "i": 1}', "0", "0/7F8000",
]  # fmt: skip
SLOT: list[str | None] = ["drift_slot", "0/7F8610", "t", "drift_sub", "shop", "f", "0.25"]


def asked(memory: dict[str, Any] | None = None) -> Asked:
    return Asked("reports", "b", 180006, False, Moment(0.0), {} if memory is None else memory)


def subscription(**changed: Any) -> Subscription:
    memory: dict[str, Any] = {}
    list(read_followers([SUBSCRIPTION], asked(memory)))
    one: Subscription = replace(memory["now"][0], **changed)
    return one


def told(*subscriptions: Subscription, databases: dict[str, Database] | None = None, now: float = 0.0) -> list[Any]:
    return list(observations(LABELS, (), subscriptions, databases or {}, now))


# ---- rows


def test_a_slot_is_a_channel() -> None:
    memory: dict[str, Any] = {}
    list(read_channels([SLOT, ["other", None, "f", None, "shop", "t", None]], asked(memory)))
    assert memory["now"] == (
        Channel("drift_slot", 0x7F8610, True, "drift_sub", "shop", False, 0.25),
        Channel("other", None, False, None, "shop", True, None),
    )


def test_a_subscription_is_a_follower_of_its_slot() -> None:
    *_, followers = told(subscription())
    (one,) = followers.followers
    assert (one.name, one.channel, one.consumer, one.identity) == ("shop/drift_sub", "drift_slot", "drift_sub", "16394")
    assert (one.up, one.paused, one.received, one.position) == (True, False, 0x7F8610, 0x7F8000)
    assert (one.apply_failures, one.copy_failures, one.uncopied) == (3, 1, 1)
    assert followers.system == "postgresql_logical"


def test_what_is_counted_is_said_and_what_is_not_counted_is_absent() -> None:
    samples = {s.metric.name.removeprefix("regiondrift_postgresql_subscription_"): s.value
               for s in read_followers([SUBSCRIPTION], asked()) if isinstance(s, Sample)}  # fmt: skip
    assert samples == {
        "enabled": 1,
        "two_phase": 0,
        "apply_errors_total": 3,
        "sync_errors_total": 1,
        "conflicts_total": 2,
    }
    old = [*SUBSCRIPTION[:7], None, None, *SUBSCRIPTION[9:]]
    (only,) = read_followers([old], asked())
    assert isinstance(only, Sample)
    assert only.metric is logical.ENABLED


def test_copies_of_a_version_that_counts_each_kind_are_added() -> None:
    counts = (
        '{"apply_error_count": 0, "sync_table_error_count": 2, "sync_seq_error_count": 3, "confl_update_deleted": 1}'
    )
    memory: dict[str, Any] = {}
    list(read_followers([[*SUBSCRIPTION[:7], counts, *SUBSCRIPTION[8:]]], asked(memory)))
    assert memory["now"][0].sync_errors == 5
    assert memory["now"][0].conflicts == {"update_deleted": 1}


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "x"), (1, None), (2, ""), (4, "yes"), (5, None), (6, "Z/1"), (7, "{"), (7, '{"apply_error_count": -1}'),
        (7, '{"apply_error_count": "1"}'), (8, "maybe"), (10, '{"r": "many"}'), (12, "0/0"),
    ],
)  # fmt: skip
def test_absurd_rows_are_refused(at: int, value: str | None) -> None:
    row = [*SUBSCRIPTION[:at], value, *SUBSCRIPTION[at + 1 :]]
    with pytest.raises(ProbeError) as caught:
        list(read_followers([row], asked()))
    assert caught.value.failure.reason is Reason.REFUSED_VALUE


def test_rows_of_another_shape_are_no_answer() -> None:
    for read, row in ((read_channels, SLOT), (read_followers, SUBSCRIPTION)):
        with pytest.raises(ProbeError) as caught:
            list(read([row[1:]], asked()))
        assert caught.value.failure.reason is Reason.PROTOCOL


def test_what_a_refused_section_found_before_is_not_told_again() -> None:
    memory: dict[str, dict[str, Any]] = {
        logical.WHETHER: {"now": (True, True)},
        logical.SLOTS: {"now": ()},
        logical.SUBSCRIPTIONS: {"now": (subscription(),)},
    }
    assert logical_detail.take(memory) == ((), (subscription(),))
    assert logical_detail.take(memory) == (None, None)
    assert told() == [Channels((), {}, frozenset()), Followers("postgresql_logical", ())]
    assert list(observations(LABELS, None, None, {}, 0.0)) == []


def test_a_server_without_logical_replication_is_asked_for_it_in_one_line() -> None:
    memory: dict[str, dict[str, Any]] = {}
    assert logical_detail.wanted(memory), "the first time"
    for answer, found, again in (
        (["f", "f"], ((), ()), False),
        (["t", "f"], ((), None), True),
        (["f", "t"], (None, ()), True),
    ):
        read_whether([answer], asked(memory.setdefault(logical.WHETHER, {})))
        assert logical_detail.take(memory) == found
        assert logical_detail.wanted(memory) is again
    for rows in ([], [["t"]], [["t", "x"]]):
        with pytest.raises(ProbeError):
            read_whether(rows, asked())


# ---- which database is looked into


def seen(at: float, **states: int) -> Database:
    return Database(tried=at, seen=at, states={"16394": states}, followed={"16394": frozenset({"t"})})


def test_one_database_at_a_time_the_longest_waiting_first() -> None:
    elsewhere = subscription(tables=None)
    slots = [Channel("s", 1, True, scope=name) for name in ("one", "two")]
    assert due({}, slots, [elsewhere], "postgres", 0.0) == "one"
    known = {"one": seen(0.0), "two": seen(1.0), "shop": seen(2.0, ready=1)}
    known["shop"].errors = 1
    assert due(known, slots, [elsewhere], "postgres", 30.0) is None
    assert due(known, slots, [elsewhere], "two", 1.0 + EVERY_HERE) == "two"
    assert due(known, slots, [elsewhere], "postgres", EVERY) == "one"


@pytest.mark.parametrize(
    ("changed", "states"),
    [({}, {"copying": 1}), ({"copying": 1}, {"ready": 1}), ({"sync_errors": 2}, {"ready": 1}), ({"id": "9"}, {"ready": 1})],
)  # fmt: skip
def test_a_database_in_which_tables_are_copied_is_looked_into_every_time(
    changed: dict[str, Any], states: dict[str, int]
) -> None:
    its = seen(10.0, **states)
    its.errors = 1
    assert due({"shop": its}, [], [subscription(tables=None, **changed)], "postgres", 11.0) == "shop"
    its.failure = Failure(Reason.AUTHENTICATION, "refused")
    assert due({"shop": its}, [], [subscription(tables=None, **changed)], "postgres", 11.0) is None, "not if it refuses"


def test_what_is_not_known_of_the_tables_is_absent() -> None:
    elsewhere = subscription(tables=None)
    (*samples, _, followers) = [Channels(()), *told(elsewhere)]
    assert followers.followers[0].uncopied is None
    assert followers.followers[0].items is None
    assert not any(isinstance(s, Sample) for s in samples)
    failing = replace_failure(seen(0.0, ready=1))
    for now, uncopied in ((STALE, 0), (STALE + 1, None)):
        *_, followers = told(elsewhere, databases={"shop": failing}, now=now)
        assert followers.followers[0].uncopied == uncopied


def replace_failure(database: Database) -> Database:
    database.failure = Failure(Reason.AUTHENTICATION, "refused")
    return database


def test_a_copy_that_is_seen_to_go_on_counts_whatever_was_seen_before() -> None:
    *_, followers = told(subscription(tables=None, copying=1), databases={"shop": seen(0.0, ready=3)})
    assert followers.followers[0].uncopied == 1


def test_a_disabled_subscription_is_paused_and_not_connected() -> None:
    *_, followers = told(subscription(enabled=False, works=False))
    assert (followers.followers[0].up, followers.followers[0].paused) == (False, True)


# ---- real servers


@dataclass
class Two:
    """A publisher and a subscriber, each with what is asked in a database of its own, `shop`, and in `postgres`."""

    publisher: Server
    subscriber: Server
    kept: dict[str, Kept]

    async def look(self, server: Server) -> Look:
        node = Node(name=server.name, region="montreal", conninfo=Conninfo(server.conninfo()))  # type: ignore[arg-type]
        kept = self.kept.setdefault(server.name, Kept(lambda: Moment(time.monotonic())))
        return await look(Target("orders", server.name, "montreal", node), kept)

    def begin_anew(self) -> None:
        """Know nothing of an earlier look."""
        for kept in self.kept.values():
            kept.drop()
        self.kept.clear()

    async def followers(self) -> Any:
        found = await self.look(self.subscriber)
        assert found.refused == ()
        return next(o for o in found.observations if isinstance(o, Followers)).followers

    async def channels(self) -> Channels:
        found = await self.look(self.publisher)
        assert found.refused == ()
        return next(o for o in found.observations if isinstance(o, Channels))


@pytest.fixture(scope="module", params=[15, 18])
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    with ExitStack() as stack:
        settings = {"wal_level": "logical", "wal_retrieve_retry_interval": "200ms"}
        servers = [stack.enter_context(standalone(n, request.param, settings=settings)) for n in ("ymq", "ams")]
        for server in servers:
            server.execute("CREATE DATABASE shop")
        made = Two(servers[0], servers[1], {})
        yield made
        made.begin_anew()


def sql(server: Server, database: str, *statements: str) -> list[tuple[Any, ...]]:
    import psycopg

    conninfo = server.conninfo(role="postgres").replace("dbname=postgres", f"dbname={database}")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def subscribed(two: Two) -> Iterator[Two]:
    """In both databases: one table, published and subscribed."""
    for database in ("shop", "postgres"):
        for server in (two.publisher, two.subscriber):
            sql(server, database, "CREATE TABLE t (id bigint PRIMARY KEY)", "CREATE TABLE u (id bigint PRIMARY KEY)")
        sql(two.publisher, database, "CREATE PUBLICATION drift_pub FOR TABLE t")
        source = two.publisher.conninfo(role="postgres").replace("dbname=postgres", f"dbname={database}")
        sql(
            two.subscriber,
            database,
            f"CREATE SUBSCRIPTION {database}_sub CONNECTION '{source}' PUBLICATION drift_pub",
        )
    yield two
    for database in ("shop", "postgres"):
        sql(two.subscriber, database, f"DROP SUBSCRIPTION IF EXISTS {database}_sub")
        sql(two.subscriber, database, "DROP TABLE t, u")
        sql(two.publisher, database, "DROP PUBLICATION drift_pub", "DROP TABLE t, u")


async def until(holds: Callable[[Any], bool], ask: Callable[[], Any]) -> Any:
    end = time.monotonic() + 15
    while not holds(found := await ask()):
        assert time.monotonic() < end, f"never so: {found}"
    return found


@pytest.mark.servers
async def test_every_subscription_is_seen_from_one_connection_and_its_tables_from_another(subscribed: Two) -> None:
    found = await until(
        lambda fs: len(fs) == 2 and all(f.uncopied == 0 and f.up and f.received for f in fs), subscribed.followers
    )
    assert {f.name for f in found} == {"shop/shop_sub", "postgres/postgres_sub"}
    assert all(f.takes == {"drift_pub"} and f.channel == f.consumer and not f.paused for f in found)
    found = await until(lambda fs: all(f.items is not None for f in fs), subscribed.followers)
    assert all(f.items == {"public.t"} for f in found)
    channels = await until(lambda c: len(c.known) == 2, subscribed.channels)
    assert channels.offers == {f"{d}/drift_pub": {"public.t"} for d in ("shop", "postgres")}
    assert all(c.active and c.consumer == c.name and c.position for c in channels.channels)
    assert {c.scope for c in channels.channels} == {"shop", "postgres"}


@pytest.mark.servers
async def test_progress_is_told_to_whom_it_is_granted(subscribed: Two) -> None:
    await until(lambda fs: all(f.uncopied == 0 for f in fs), subscribed.followers)
    sql(subscribed.publisher, "shop", "INSERT INTO t VALUES (1)")
    assert all(f.position is None for f in await subscribed.followers())
    grant = "EXECUTE ON FUNCTION pg_show_replication_origin_status()"
    sql(subscribed.subscriber, "postgres", f"GRANT {grant} TO regiondrift")
    try:
        found = await until(lambda fs: any(f.position for f in fs), subscribed.followers)
        assert [f.name for f in found if f.position] == ["shop/shop_sub"]
    finally:
        sql(subscribed.subscriber, "postgres", f"REVOKE {grant} FROM regiondrift")


@pytest.mark.servers
async def test_a_table_that_cannot_be_copied_is_seen_as_such(subscribed: Two) -> None:
    await until(lambda fs: all(f.uncopied == 0 for f in fs), subscribed.followers)
    sql(subscribed.publisher, "shop", "INSERT INTO u VALUES (1)", "ALTER PUBLICATION drift_pub ADD TABLE u")
    sql(subscribed.subscriber, "shop", "INSERT INTO u VALUES (1)", "ALTER SUBSCRIPTION shop_sub REFRESH PUBLICATION")
    mine = await until(
        lambda fs: any(f.name == "shop/shop_sub" and f.uncopied == 1 and f.copy_failures for f in fs),
        subscribed.followers,
    )
    assert all(f.uncopied == 0 for f in mine if f.name != "shop/shop_sub")
    sql(subscribed.subscriber, "shop", "DELETE FROM u")
    await until(lambda fs: all(f.uncopied == 0 for f in fs), subscribed.followers)


@pytest.mark.servers
async def test_a_disabled_subscription_and_its_idle_slot(subscribed: Two) -> None:
    sql(subscribed.subscriber, "shop", "ALTER SUBSCRIPTION shop_sub DISABLE")
    found = await until(
        lambda fs: any(f.name == "shop/shop_sub" and f.paused and f.received is None for f in fs), subscribed.followers
    )
    assert [f.up for f in found if f.paused] == [False]
    await until(lambda c: [x.active for x in c.channels if x.scope == "shop"] == [False], subscribed.channels)


@pytest.mark.servers
async def test_a_database_that_refuses_us_leaves_the_rest_standing(subscribed: Two) -> None:
    sql(subscribed.subscriber, "postgres", "REVOKE CONNECT ON DATABASE shop FROM PUBLIC")
    subscribed.begin_anew()
    try:
        found = await until(lambda f: bool(f.refused), lambda: subscribed.look(subscribed.subscriber))
        (failure,) = found.refused
        assert failure.reason is Reason.PERMISSION
        assert failure.detail.startswith("database shop: ")
        (told,) = (o for o in found.observations if isinstance(o, Followers))
        assert {f.name: f.items is None for f in told.followers}["shop/shop_sub"]
    finally:
        sql(subscribed.subscriber, "postgres", "GRANT CONNECT ON DATABASE shop TO PUBLIC")
        subscribed.begin_anew()


@pytest.mark.servers
async def test_at_most_one_connection_more_and_it_is_short(subscribed: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        sql(subscribed.publisher, "postgres", f"CREATE DATABASE more_{i}")
        sql(subscribed.publisher, f"more_{i}", f"SELECT pg_create_logical_replication_slot('more_{i}', 'pgoutput')")
    subscribed.begin_anew()
    opened: list[Any] = []

    async def counting(node: Node, seconds: float) -> Any:
        assert all(not c.usable for c in opened), "the one before is closed"
        opened.append(await connect(node, seconds))
        return opened[-1]

    monkeypatch.setattr(logical_detail, "connect", counting)
    before = len(opened)
    for i in range(1, 5):
        await subscribed.look(subscribed.publisher)
        assert len(opened) - before <= i
    channels = await until(lambda c: len(c.known) == 6, subscribed.channels)
    assert len(opened) == 5, "one each, and none to the database that we are in"
    assert all(not c.usable for c in opened)
    settled = len(opened)
    await subscribed.channels()
    assert len(opened) == settled, "and then not before its time"
    assert len(channels.channels) == 6
    for i in range(4):
        sql(subscribed.publisher, "postgres", f"SELECT pg_drop_replication_slot('more_{i}')", f"DROP DATABASE more_{i}")


@pytest.mark.servers
async def test_what_is_published_is_what_postgresql_itself_says(two: Two) -> None:
    server = two.publisher
    new = server.value("SHOW server_version_num")
    sql(
        server,
        "shop",
        "CREATE SCHEMA other",
        'CREATE TABLE other."Odd.Name" (id int)',
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_11 PARTITION OF parted_1 FOR VALUES FROM (0) TO (5)",
        "CREATE UNLOGGED TABLE unlogged (id int)",
        "CREATE TABLE plain (id int)",
        "CREATE PUBLICATION everything FOR ALL TABLES",
        "CREATE PUBLICATION roots FOR ALL TABLES WITH (publish_via_partition_root)",
        "CREATE PUBLICATION leaves FOR TABLE parted, plain",
        "CREATE PUBLICATION part FOR TABLE parted_11",
        "CREATE PUBLICATION twice FOR TABLE parted, parted_11 WITH (publish_via_partition_root)",
        "CREATE PUBLICATION empty",
        *(["CREATE PUBLICATION schemas FOR TABLES IN SCHEMA other, public"] if int(new) >= 150000 else []),
        "SELECT pg_create_logical_replication_slot('probe', 'pgoutput')",
    )
    two.begin_anew()
    try:
        channels = await until(lambda c: "shop" in c.known, two.channels)
        names = [row[0] for row in sql(server, "shop", "SELECT pubname FROM pg_publication")]
        says = {name: set() for name in names}  # type: ignore[var-annotated]
        for name, table in sql(
            server, "shop",
            "SELECT pubname, quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_publication_tables",
        ):  # fmt: skip
            says[name].add(table)
        assert {k.removeprefix("shop/"): set(v) for k, v in channels.offers.items()} == says
    finally:
        sql(
            server,
            "shop",
            "SELECT pg_drop_replication_slot('probe')",
            *(f"DROP PUBLICATION {name}" for name in names),
            "DROP SCHEMA other CASCADE",
            "DROP TABLE parted, plain, unlogged",
        )


@pytest.mark.servers
@pytest.mark.parametrize("version", [130000, 140000, 150000, 160000, 170000, 180000, 190000])
def test_every_versions_statement_is_one_that_a_parser_takes(two: Two, version: int) -> None:
    """Columns that this server does not have are its only complaint."""
    import psycopg

    for statement in (
        logical.CHANNELS.statement(version),
        logical.FOLLOWERS.statement(version),
        logical_detail.statement(version).decode(),
    ):
        assert statement is not None
        for one in statement.split(";"):
            try:
                two.publisher.execute(one.replace("%", "%%"))
            except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedObject) as error:
                assert int(two.publisher.value("SHOW server_version_num")) < version, error  # noqa: PT017
