"""Is what is said of replication slots true, on primaries and standbys, from their making to their loss?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.postgresql.looks import Looks, holds, said
from regiondrift.model import Moment, Observation, ProbeError, Reason, RefusedValueError, Sample
from regiondrift_collectors.postgresql.section import Server
from regiondrift_collectors.postgresql.slots import (
    ACTIVE,
    FAILOVER,
    INACTIVE_SINCE,
    INFO,
    INVALIDATION,
    RETAINED,
    SAFE,
    STATE,
    SYNCED,
    SYNCHRONIZES,
    TWO_PHASE,
    read,
    standing,
    statement,
)
from servers.postgresql import Pair, pair, standalone
from servers.postgresql import Server as Running

MIB = 1 << 20
LIMITED = {"max_slot_wal_keep_size": "8MB", "wal_keep_size": "0", "max_wal_size": "64MB", "min_wal_size": "2MB"}
"""Without a checkpoint that nobody asked for."""
each_version = pytest.mark.parametrize("version", [15, 18])


def write(server: Running, mebibytes: int) -> None:
    """Let the log grow by about that much, and go on in a new file."""
    server.execute("CREATE TABLE IF NOT EXISTS filling (t text)")
    for _ in range(mebibytes):
        server.execute("INSERT INTO filling SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
    server.execute("SELECT pg_switch_wal()")


def value(server: Running, what: str, slot: str) -> object:
    return server.value(f"SELECT {what} FROM pg_replication_slots WHERE slot_name = %s", [slot])


@contextmanager
def consumer(server: Running, slot: str) -> Iterator[None]:
    """Somebody who streams from a physical slot, and stops."""
    conninfo = server.conninfo(role="postgres").replace("dbname=postgres", "replication=true")
    position = server.value("SELECT pg_current_wal_flush_lsn()::text")
    pgconn = psycopg.pq.PGconn.connect(conninfo.encode())
    try:
        pgconn.send_query(f"START_REPLICATION SLOT {slot} PHYSICAL {position}".encode())
        while not value(server, "active", slot):
            pgconn.consume_input()
            time.sleep(0.01)
        yield
    finally:
        pgconn.finish()
        while value(server, "active", slot):
            time.sleep(0.01)


@pytest.mark.servers
@each_version
def test_the_life_of_a_slot_on_a_primary(version: int) -> None:
    with standalone("ymq-1", version, settings=LIMITED) as server:
        looks = Looks(server)
        assert looks.said(INFO) == {}
        made = time.time()
        server.execute("SELECT pg_create_physical_replication_slot('never_used')")
        server.execute("SELECT pg_create_physical_replication_slot('drift_slot', true)")
        found = looks.look()
        assert said(found, INFO, "ymq-1") == {("drift_slot", "physical"): 1, ("never_used", "physical"): 1}
        assert holds(said(found, STATE, "ymq-1"), "drift_slot") == ["reserved"]
        assert {slot for (slot,) in said(found, RETAINED, "ymq-1")} == {"drift_slot"}, "the other one keeps nothing"
        assert said(found, SAFE, "ymq-1").keys() == {("drift_slot",)}
        since = said(found, INACTIVE_SINCE, "ymq-1")
        if version >= 17:
            assert made - 0.01 <= since["drift_slot",] <= time.time(), "the server knows since when"
        else:
            assert since == {}, "nobody was ever seen using it"

        with consumer(server, "drift_slot"):
            found = looks.look()
            assert said(found, ACTIVE, "ymq-1")["drift_slot",] == 1
            assert ("drift_slot",) not in said(found, INACTIVE_SINCE, "ymq-1")
            used = time.time()
        first = looks.said(INACTIVE_SINCE)["drift_slot",]
        assert used - 0.01 <= first <= time.time()
        write(server, 2)
        assert looks.said(INACTIVE_SINCE)["drift_slot",] == first, "it stands as long as nobody uses the slot"

        for _ in range(3):
            found = looks.look()
            end, restart, safe = server.execute(
                "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint, (restart_lsn - '0/0')::bigint, safe_wal_size"
                " FROM pg_replication_slots WHERE slot_name = 'drift_slot'"
            )[0]
            assert said(found, RETAINED, "ymq-1")["drift_slot",] == pytest.approx(end - restart, abs=10_000)
            assert said(found, SAFE, "ymq-1")["drift_slot",] == pytest.approx(safe, abs=10_000)
            write(server, 1)

        write(server, 8)
        states = looks.said(STATE)
        assert holds(states, "drift_slot") == [value(server, "wal_status", "drift_slot")] == ["unreserved"]
        assert looks.said(SAFE)["drift_slot",] <= 0, "it can be lost at the next checkpoint"
        server.execute("CHECKPOINT")
        found = looks.look()
        assert holds(said(found, STATE, "ymq-1"), "drift_slot") == ["lost"], "a lost slot does not vanish"
        assert holds(said(found, INVALIDATION, "ymq-1"), "drift_slot") == ["wal_removed"]
        assert said(found, RETAINED, "ymq-1") == {}, "a lost slot keeps nothing"
        assert said(found, SAFE, "ymq-1") == {}
        assert said(found, INACTIVE_SINCE, "ymq-1")["drift_slot",] == first

        server.execute("SELECT pg_drop_replication_slot('drift_slot')")
        found = looks.look()
        for metric in (STATE, RETAINED, SAFE, INVALIDATION):
            assert said(found, metric, "ymq-1") == {}, "its series end with it"
        assert ("drift_slot", "physical") not in said(found, INFO, "ymq-1")


@pytest.mark.servers
@each_version
def test_a_standbys_slot_is_judged_by_where_its_log_ends_now(version: int) -> None:
    """The server itself says `reserved`, with the safe size of its start, until the slot is lost."""
    with pair(version, names=("ymq-1", "ams-1"), settings=LIMITED) as regions:
        standby, looks = regions.standby, Looks(regions.standby)
        standby.execute("SELECT pg_create_physical_replication_slot('cascade', true)")
        met = []
        for _ in range(12):
            write(regions.primary, 1)
            regions.wait_caught_up()
            found = looks.look()
            met += holds(said(found, STATE, "ams-1"), "cascade")
            end, restart = standby.execute(
                "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint, (restart_lsn - '0/0')::bigint"
                " FROM pg_replication_slots"
            )[0]
            assert said(found, RETAINED, "ams-1")["cascade",] == pytest.approx(end - restart, abs=10_000)
        assert list(dict.fromkeys(met)) == ["reserved", "unreserved"]
        assert value(standby, "wal_status", "cascade") == "reserved", "which is not so"
        assert looks.said(SAFE)["cascade",] <= 0
        regions.primary.execute("CHECKPOINT")
        regions.wait_caught_up()
        standby.execute("CHECKPOINT")
        assert holds(looks.said(STATE), "cascade") == ["lost"]


@pytest.mark.servers
@each_version
@pytest.mark.parametrize(("most", "states"), [(64, ["reserved", "unreserved"]), (4, ["reserved", "extended"])])
def test_our_computation_is_the_servers_on_a_primary(version: int, most: int, states: list[str]) -> None:
    settings = LIMITED | {"wal_keep_size": "3MB", "max_wal_size": f"{most}MB"}
    with standalone("ymq-1", version, settings=settings) as server:
        server.execute("SELECT pg_create_physical_replication_slot('drift_slot', true)")
        met = []
        for _ in range(14):
            end, restart, status, safe = server.execute(
                "SELECT (pg_current_wal_lsn() - '0/0')::bigint, (restart_lsn - '0/0')::bigint, wal_status, safe_wal_size"
                " FROM pg_replication_slots"
            )[0]
            if status == "lost":
                break
            state, left = standing(restart, end, MIB, most * MIB, 3 * MIB, 8 * MIB)
            assert left == pytest.approx(safe, abs=10_000)
            assert state == status
            met.append(state)
            write(server, 1)
        assert list(dict.fromkeys(met))[:2] == states


def test_without_a_limit_a_slot_is_safe() -> None:
    assert standing(MIB, 2 * MIB, MIB, 64 * MIB, 0, -1) == ("reserved", None)
    assert standing(MIB, 900 * MIB, MIB, 64 * MIB, 0, -1) == ("extended", None)


@pytest.mark.servers
@each_version
def test_logical_slots_tell_what_their_version_knows(version: int) -> None:
    with standalone("ymq-1", version, settings={"wal_level": "logical"}) as server:
        server.execute("SELECT pg_create_logical_replication_slot('plain', 'test_decoding')")
        server.execute("SELECT pg_create_logical_replication_slot('both', 'test_decoding', false, true)")
        if version >= 17:
            server.execute("SELECT pg_create_logical_replication_slot('kept', 'test_decoding', false, false, true)")
        looks = Looks(server)
        found = looks.look()
        assert said(found, INFO, "ymq-1")["both", "logical"] == 1
        two_phase = said(found, TWO_PHASE, "ymq-1")
        assert (two_phase["plain",], two_phase["both",]) == (0, 1)
        failover = said(found, FAILOVER, "ymq-1")
        assert failover == ({("plain",): 0, ("both",): 0, ("kept",): 1} if version >= 17 else {})
        assert said(found, SYNCED, "ymq-1") == said(found, SYNCHRONIZES, "ymq-1") == {}, "words for a standby"
        assert said(found, SAFE, "ymq-1") == {}, "there is no limit"
        before = time.time()
        server.execute("CREATE TABLE changed (n int)")
        server.execute("SELECT count(*) FROM pg_logical_slot_get_changes('plain', NULL, NULL)")
        since = looks.said(INACTIVE_SINCE)["plain",]
        assert before - 0.01 <= since <= time.time(), "used between two looks is used all the same"


@pytest.mark.servers
def test_failover_slots_are_seen_on_the_standby_that_keeps_them() -> None:
    with pair(18, names=("ymq-1", "ams-1"), settings={"wal_level": "logical"}) as regions:
        here, there = Looks(regions.primary), Looks(regions.standby)
        assert there.said(SYNCHRONIZES) == {(): 0}
        synchronize(regions)
        regions.primary.execute("SELECT pg_create_logical_replication_slot('kept', 'pgoutput', false, false, true)")
        assert here.said(FAILOVER) == {("kept",): 1}
        # A slot is persistent there once it is in step, which takes WAL that moves it on.
        end = time.monotonic() + 40
        while there.said(SYNCED) != {("kept",): 1}:
            assert time.monotonic() < end
            regions.primary.execute("SELECT pg_log_standby_snapshot(); CHECKPOINT")
            time.sleep(0.2)
        found = there.look()
        assert said(found, SYNCHRONIZES, "ams-1") == {(): 1}
        assert said(found, FAILOVER, "ams-1") == {}, "the demand is the primary's"
        assert holds(said(found, STATE, "ams-1"), "kept") == ["reserved"]
        regions.fail_over()
        assert there.said(FAILOVER) == {("kept",): 1}
        assert there.said(SYNCED) == {}, "left over on a primary, it means nothing"


def synchronize(regions: Pair) -> None:
    regions.primary.execute("SELECT pg_create_physical_replication_slot('to_ams', true)")
    conninfo = regions.standby.settings["primary_conninfo"] + " dbname=postgres"
    regions.standby.configure(
        primary_conninfo=conninfo,
        primary_slot_name="to_ams",
        hot_standby_feedback="on",
        sync_replication_slots="on",
    )


# --- single answers

NOW = Moment(1_000_000.0)
SLOT = {
    "name": "drift_slot",
    "kind": "physical",
    "active": "f",
    "status": "reserved",
    "restart": "0/1000000",
    "confirmed": "",
    "two_phase": "",
    "reason": "",
    "failover": "",
    "synced": "",
    "since": "",
    "safe": "1000",
    "age": "",
}


def answer(
    *slots: dict[str, str], end: str | None = "0/1000200", settings: str | None = None
) -> list[list[str | None]]:
    """What the server answers of slots that differ so much from the usual one."""
    told = []
    for changed in slots:
        assert changed.keys() <= SLOT.keys()
        words = list({**SLOT, **changed}.values())
        told.append(",".join(words[:11]) + "|" + ",".join(words[11:]))
    return [[None, " ".join(told) or None, end, settings]]


def server(version: int = 150000, now: float = NOW, memory: dict[str, object] | None = None) -> Server:
    return Server("orders", "ymq-1", version, False, Moment(now), {} if memory is None else memory)


def since(found: list[Observation]) -> float | None:
    values = [o.value for o in found if isinstance(o, Sample) and o.metric is INACTIVE_SINCE]
    return values[0] if values else None


def after(*looks: dict[str, str], version: int = 150000) -> float | None:
    """Inactive since when, after these looks one second apart, the first at 0."""
    memory: dict[str, object] = {}
    found: list[Observation] = []
    for at, changed in enumerate(looks):
        found = read(answer(changed), server(version, at, memory))
    return since(found)


USED = {"active": "t"}
IDLE: dict[str, str] = {}
MOVED = {"restart": "0/1000100"}
BACK = {"restart": "0/FFFFF8"}


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([IDLE, IDLE], None),
        ([USED], None),
        ([USED, IDLE], 1),
        ([USED, IDLE, IDLE, IDLE], 1),
        ([USED, IDLE, USED], None),
        ([USED, IDLE, USED, IDLE], 3),
        ([IDLE, MOVED], 1),
        ([USED, IDLE, IDLE, MOVED, MOVED], 3),
        ([USED, IDLE, BACK], None),
        ([USED, IDLE, {"restart": "", "status": "lost"}], 1),
        ([USED, IDLE, {"restart": "", "status": "lost"}, {"restart": "", "status": "lost"}], 1),
        ([{"restart": "", "status": ""}, IDLE], 1),
    ],
)
def test_before_17_a_slot_is_inactive_since_we_saw_it_after_it_was_used(
    looks: list[dict[str, str]], expected: float | None
) -> None:
    assert after(*looks) == expected


@pytest.mark.parametrize("version", [130000, 160014])
def test_a_slot_that_was_away_is_another_slot(version: int) -> None:
    memory: dict[str, object] = {}
    for at, rows in enumerate(([USED], [IDLE], [], [IDLE])):
        found = read(answer(*rows), server(version, at, memory))
    assert since(found) is None


def test_from_17_on_the_servers_clock_counts_only_as_a_difference() -> None:
    far_off = {"since": "99999999999", "age": "30"}
    assert after({}, far_off, version=170000) == -29
    assert after({}, far_off, {**far_off, "age": "31.5"}, version=180000) == -29, "and it stands still"
    assert after({}, {"since": "1", "age": "-5"}, version=180000) == 1, "never later than our look"
    assert after(far_off, {"active": "t"}, {}, version=180000) is None, "a slot that a standby keeps in step"


@pytest.mark.parametrize("reason", ["wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout"])
def test_a_lost_slot_tells_why_and_keeps_nothing(reason: str) -> None:
    found = read(answer({"status": "lost", "reason": reason, "safe": ""}), server(180000))
    said = {(o.metric, o.values[4:]): o.value for o in found if isinstance(o, Sample)}
    assert said[STATE, ("lost",)] == 1
    assert said[INVALIDATION, (reason,)] == 1
    assert sum(v for (metric, _), v in said.items() if metric is INVALIDATION) == 1
    assert not any(metric in (RETAINED, SAFE) for metric, _ in said)


def test_a_reason_that_does_not_exist_yet_is_unknown() -> None:
    found = read(answer({"status": "lost", "reason": "solar_flare"}), server(200000))
    assert [o.values[-1] for o in found if isinstance(o, Sample) and o.metric is INVALIDATION and o.value] == [
        "unknown"
    ]


def test_without_slots_nothing_is_said() -> None:
    assert read([[None] * 4], server()) == []


def test_what_does_not_change_is_said_again_as_it_was() -> None:
    memory: dict[str, object] = {}
    first = read(answer(USED, {"name": "other"}), server(memory=memory))
    again = read(answer(USED, {"name": "other"}), server(memory=memory))
    assert [id(one) for one in again] == [id(one) for one in first]
    grown = read(answer(USED, {"name": "other", "safe": "999"}, end="0/1000201"), server(memory=memory))
    changed = {one.metric for one, old in zip(grown, first, strict=True) if one is not old and isinstance(one, Sample)}
    assert changed == {RETAINED, SAFE}


def test_after_a_promotion_the_same_words_are_read_anew() -> None:
    memory: dict[str, object] = {}
    kept = {"kind": "logical", "failover": "t", "synced": "t", "two_phase": "f"}
    sizes = "1048576,1073741824,0,-1"
    standby = Server("orders", "ymq-1", 180000, True, NOW, memory)
    metrics = {o.metric for o in read(answer(kept, settings=sizes), standby) if isinstance(o, Sample)}
    assert SYNCED in metrics
    assert FAILOVER not in metrics
    metrics = {o.metric for o in read(answer(kept), server(180000, memory=memory)) if isinstance(o, Sample)}
    assert FAILOVER in metrics
    assert SYNCED not in metrics


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Not-a-name"},
        {"name": "x" * 64},
        {"name": ""},
        {"kind": "quantum"},
        {"active": ""},
        {"status": "fine"},
        {"restart": "0/0"},
        {"safe": "much"},
        {"kind": "logical", "two_phase": "1"},
    ],
)
def test_what_cannot_be_true_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(ProbeError) as caught:
        read(answer(changed), server(180000))
    assert caught.value.failure.reason is Reason.REFUSED_VALUE


@pytest.mark.parametrize("settings", ["1,2,3", "0,1,1,1", "many,more,words,here", "1,2,3,4,5"])
def test_sizes_that_are_none_are_refused(settings: str) -> None:
    with pytest.raises(ProbeError):
        read(answer({}, settings=settings), server(180000))


@pytest.mark.parametrize(
    "rows", [[], [[None] * 3], [[None] * 4] * 2, [[None, "", None, None]], [[None, "a b", "0/1", None]]]
)
def test_another_answer_is_not_ours(rows: list[list[str | None]]) -> None:
    with pytest.raises(ProbeError):
        read(rows, server())


@pytest.mark.parametrize("age", ["NaN", "Infinity", "soon", "1e20"])
def test_an_age_is_a_span_of_time(age: str) -> None:
    with pytest.raises(ProbeError):
        read(answer({"since": "1", "age": age}), server(180000))


WORDS = st.lists(
    st.one_of(st.sampled_from(["", "t", "f", "0/1", "lost"]), st.text(max_size=8)), min_size=10, max_size=14
)


@given(st.lists(WORDS, max_size=3), st.text(max_size=8))
def test_no_answer_at_all_raises_anything_but_a_classified_failure(slots: list[list[str]], end: str) -> None:
    told = " ".join(",".join(words) for words in slots)
    with suppress(ProbeError, RefusedValueError):
        read([[None, told, end, None]], server(180000))


@pytest.mark.parametrize(
    ("version", "words", "not_yet"),
    [
        (130000, "restart_lsn", "two_phase|conflicting|inactive_since|failover|invalidation_reason"),
        (140000, "two_phase", "conflicting|inactive_since|failover|invalidation_reason"),
        (160000, "two_phase", "inactive_since|failover|invalidation_reason"),
        (170000, "inactive_since", "two_phase_at"),
        (990000, "invalidation_reason", "two_phase_at"),
    ],
)
def test_each_version_is_asked_for_what_it_has(version: int, words: str, not_yet: str) -> None:
    assert words in statement(version)
    assert not re.search(rf"\b({not_yet})\b", statement(version))


def test_a_person_is_told_how_many_there_are_and_those_that_something_is_up_with() -> None:
    told = server(180000)
    read(
        answer(
            {"name": "fine", "active": "t"},
            {"name": "idle"},
            {"name": "gone", "status": "lost", "reason": "wal_removed", "safe": ""},
        ),
        told,
    )
    assert told.notes["slots"] == "3, of which gone lost and inactive, idle inactive"
    many = server(180000)
    read(answer(*({"name": f"s{i}"} for i in range(9))), many)
    assert many.notes["slots"].endswith("s4 inactive and 4 more")
