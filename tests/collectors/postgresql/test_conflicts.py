"""Is replay that waits for a query seen and named, and is every cancelled query counted once?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from collectors.postgresql.looks import Looks, said
from regiondrift.model import Moment, ProbeError, Sample
from regiondrift_collectors.postgresql.conflicts import (
    BLOCKED,
    CONFLICTS,
    KINDS,
    count_statement,
    read_counts,
    read_waiting,
)
from regiondrift_collectors.postgresql.section import Server
from servers.postgresql import Pair, pair

each_version = pytest.mark.parametrize("version", [15, 18])
NOTE = "replay waits"


def waits(looks: Looks) -> tuple[str | None, str]:
    """For what kind of conflict replay waits, and the note for people."""
    found = looks.look()
    blocked = said(found, BLOCKED, looks.server.name)
    assert blocked.keys() == {(kind,) for kind in KINDS}
    kinds = [kind for (kind,), value in blocked.items() if value]
    assert len(kinds) <= 1
    return kinds[0] if kinds else None, (found.notes or {}).get(NOTE, "")


def until(looks: Looks, kind: str | None) -> str:
    end = time.monotonic() + 20
    while (now := waits(looks))[0] != kind:
        assert time.monotonic() < end, now
        time.sleep(0.05)
    return now[1]


def reader(regions: Pair) -> psycopg.Connection[Any]:
    made = regions.standby.connect("monthly report")
    made.autocommit = False
    return made


@pytest.mark.servers
@each_version
def test_blocked_replay_is_told_by_its_kind_and_who_blocks_it(version: int) -> None:
    patient = {"max_standby_streaming_delay": "-1", "hot_standby_feedback": "off", "autovacuum": "off"}
    with pair(version, names=("ymq-1", "ams-1"), settings=patient) as regions:
        looks, primary = Looks(regions.standby), regions.primary
        assert waits(looks) == (None, "")
        assert Looks(primary).said(BLOCKED) == {}, "a primary replays nothing"
        primary.execute("CREATE TABLE orders AS SELECT n, 'x' AS t FROM generate_series(1, 1000) AS n")
        regions.wait_caught_up()
        with closing(reader(regions)) as report:
            who = f"process {report.info.backend_pid}, monthly report (idle in transaction)"

            report.execute("SELECT count(*) FROM orders")
            primary.execute("ALTER TABLE orders ADD COLUMN more int")
            assert until(looks, "lock") == f"lock conflict, for {who}"
            report.rollback()
            until(looks, None)

            regions.wait_caught_up()
            report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            report.execute("SELECT 1 FROM orders LIMIT 1")
            primary.execute("DELETE FROM orders WHERE n < 500")
            primary.execute("VACUUM orders")
            assert until(looks, "snapshot") == f"snapshot conflict, perhaps for {who}"
            report.rollback()
            until(looks, None)

            primary.execute("DELETE FROM orders WHERE n % 2 = 0")
            regions.wait_caught_up()
            report.execute("DECLARE held CURSOR FOR SELECT * FROM orders")
            report.execute("FETCH 1 FROM held")
            primary.execute("VACUUM (FREEZE) orders")
            assert until(looks, "bufferpin") == "bufferpin conflict", "nobody tells whose pin it is"
            report.rollback()
            assert until(looks, None) == ""


@pytest.mark.servers
@each_version
def test_every_cancelled_query_is_counted_and_a_dropped_database_takes_none_away(version: int) -> None:
    impatient = {"max_standby_streaming_delay": "100ms", "hot_standby_feedback": "off", "autovacuum": "off"}
    with pair(version, names=("ymq-1", "ams-1"), settings=impatient) as regions:
        looks, primary = Looks(regions.standby), regions.primary
        kinds = {"tablespace", "lock", "snapshot", "bufferpin", "deadlock"} | (
            {"logicalslot"} if version >= 16 else set()
        )
        assert looks.said(CONFLICTS) == {(kind,): 0 for kind in kinds}
        assert Looks(primary).said(CONFLICTS) == {}
        primary.execute("CREATE TABLE orders AS SELECT n FROM generate_series(1, 100) AS n")
        regions.wait_caught_up()
        with closing(reader(regions)) as report:
            report.execute("SELECT count(*) FROM orders")
            primary.execute("ALTER TABLE orders ADD COLUMN more int")
            looks.until(CONFLICTS, lambda counted: counted["lock",] == 1)
            with pytest.raises(psycopg.Error, match="conflict with recovery"):
                report.execute("SELECT 1")

        primary.execute("CREATE DATABASE other")
        regions.wait_caught_up()
        there = regions.standby.conninfo(role="postgres").replace("dbname=postgres", "dbname=other")
        here = primary.conninfo(role="postgres").replace("dbname=postgres", "dbname=other")
        with psycopg.connect(here, autocommit=True) as writer:
            writer.execute("CREATE TABLE orders AS SELECT n FROM generate_series(1, 100) AS n")
        regions.wait_caught_up()
        with closing(psycopg.connect(there)) as report:
            report.execute("SELECT count(*) FROM orders")
            with psycopg.connect(here, autocommit=True) as writer:
                writer.execute("ALTER TABLE orders ADD COLUMN more int")
            looks.until(CONFLICTS, lambda counted: counted["lock",] == 2)
        primary.execute("DROP DATABASE other")
        regions.wait_caught_up()
        assert regions.standby.value("SELECT sum(confl_lock)::int FROM pg_stat_database_conflicts") == 1
        assert looks.said(CONFLICTS)["lock",] == 2


STANDBY = 180000


def counted(*looks: Sequence[Sequence[str | None]]) -> Mapping[str, float]:
    memory: dict[str, Any] = {}
    found = [read_counts(rows, Server("orders", "ams-1", STANDBY, True, Moment(0.0), memory)) for rows in looks]
    return {o.values[3]: o.value for o in found[-1] if isinstance(o, Sample)}


def test_counters_add_up_and_never_shrink() -> None:
    assert counted([])["lock"] == 0
    assert counted([["5", "0", "2", "0", "0", "0", "0"]])["lock"] == 2
    assert counted([["5", "0", "2", "0", "0", "0", "0"], ["6", "0", "3", "0", "0", "0", "0"]])["lock"] == 5
    two, five = [["5", "0", "2", "0", "0", "0", "0"]], [["5", "1", "5", "0", "0", "0", "0"]]
    assert counted(two, two, five) == {"tablespace": 1, "lock": 5, "snapshot": 0, "bufferpin": 0, "deadlock": 0, "logicalslot": 0}  # fmt: skip
    assert counted(five, [])["lock"] == 5, "the database was dropped"
    assert counted(five, two)["lock"] == 7, "its counters were reset"


def test_a_promoted_standby_counts_no_more() -> None:
    memory: dict[str, Any] = {"seen": {"5": [1] * 6}, "totals": [1] * 6}
    assert read_counts([], Server("orders", "ams-1", STANDBY, False, Moment(0.0), memory)) == []
    assert memory == {}


@pytest.mark.parametrize(
    "row", [["5"], ["5", *["1"] * 5], ["5", *["1"] * 5, None], ["5", *["1"] * 5, "-1"], ["5", *["x"] * 6]]
)
def test_counts_that_are_none_are_refused(row: list[str | None]) -> None:
    with pytest.raises(ProbeError):
        counted([row])


@pytest.mark.parametrize("rows", [[["lock"]], [["weather", None, None, None]], [["lock", "1", "a"]]])
def test_another_answer_is_not_ours(rows: list[list[str | None]]) -> None:
    with pytest.raises(ProbeError):
        read_waiting(rows, Server("orders", "ams-1", STANDBY, True, Moment(0.0)))


def test_a_name_at_length_is_noted_in_short() -> None:
    server = Server("orders", "ams-1", STANDBY, True, Moment(0.0))
    read_waiting([["lock", "1", "x" * 100_000, "idle"]] * 3, server)
    assert len(server.notes[NOTE]) < 400


def test_logical_slots_are_counted_from_16_on() -> None:
    assert "confl_active_logicalslot" not in count_statement(150000)
    assert "confl_active_logicalslot" in count_statement(160000)
