"""What is known, said and remembered as looks come in?"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import pytest

from regiondrift.clock import Clock
from regiondrift.house import PERSISTED_AT_ONCE, ROWS_AT_ONCE, House
from regiondrift.model import (
    Failure,
    History,
    Link,
    LinkState,
    Look,
    Metric,
    Moment,
    Plan,
    Reason,
    ReplicaPosition,
    Sample,
    SourcePosition,
    State,
    Target,
)
from regiondrift.render.publisher import Publisher
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled
from regiondrift.state import Key, Remembered

THINGS = Metric("regiondrift_test_things", "Things.", ("name",))
HERE = History("7", 1)


class Says:
    """In the place of the publisher: what every owner last said."""

    def __init__(self) -> None:
        self.owners: dict[Any, list[Sample]] = {}

    def put(self, owner: Any, samples: Any) -> None:
        self.owners[owner] = list(samples)

    def drop(self, owner: Any) -> None:
        self.owners.pop(owner, None)

    def value(self, name: str, /, **labels: str) -> float | None:
        found = [
            s.value
            for samples in self.owners.values()
            for s in samples
            if s.metric.name == f"regiondrift_{name}" and labels.items() <= s.labels.items()
        ]
        assert len(found) < 2
        return found[0] if found else None


class Still(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 1000.0

    def now(self) -> Moment:
        return Moment(self.at)


@dataclass
class World:
    says: Says
    clock: Still
    house: House
    loaded: list[Key]

    def ends(self, entry: str, part: str, result: Look | Failure, took: float = 0.1) -> None:
        asked = self.clock.at
        self.clock.at += took
        target = Target(entry, part, "montreal", None)
        self.house.ended(Scheduled("test", target, 5.0, 10.0), Ended(result, asked, self.clock.at))


@pytest.fixture
def world() -> World:
    says, clock, loaded = Says(), Still(), list[Key]()

    def load(key: Key) -> Remembered:
        loaded.append(key)
        return Remembered()

    house = House(clock, says, load)  # type: ignore[arg-type]
    return World(says, clock, house, loaded)


def plan(entry: str, *parts: str, linked: bool = False, region: str = "montreal", objective: float = 30.0) -> Plan:
    targets = tuple(Target(entry, part, region, None) for part in parts)
    return Plan("test", entry, targets, 5.0, 10.0, Link("test", objective) if linked else None)


def test_of_a_target_that_was_not_looked_at_only_the_interval_is_known(world: World) -> None:
    world.house.apply([plan("e", "a")])
    assert world.says.value("probe_interval_seconds", target="e/a") == 5
    assert world.says.value("probe_success", target="e/a") is None
    assert world.says.value("probe_duration_seconds", target="e/a") is None
    assert world.says.value("probe_last_success_timestamp_seconds", target="e/a") is None
    assert not world.house.ready
    (status,) = world.house.targets()
    assert (status.success, status.last_success, status.failure) == (None, None, None)


def test_a_success_is_said_with_what_was_found(world: World) -> None:
    world.house.apply([plan("e", "a")])
    world.ends("e", "a", Look((THINGS(3, name="x"),), notes={"version": "18"}))
    assert world.says.value("probe_success", target="e/a") == 1
    assert world.says.value("probe_duration_seconds", target="e/a") == pytest.approx(0.1)
    assert world.says.value("probe_last_success_timestamp_seconds", target="e/a") == pytest.approx(1000.1)
    assert world.says.value("test_things", name="x") == 3
    assert next(iter(world.house.targets())).notes == {"version": "18"}
    assert world.house.ready


def test_a_failure_drops_what_was_found_and_keeps_when_it_was(world: World) -> None:
    world.house.apply([plan("e", "a")])
    world.ends("e", "a", Look((THINGS(3, name="x"),), notes={"version": "18"}))
    world.ends("e", "a", Failure(Reason.TIMEOUT, "no answer"))
    assert world.says.value("probe_success", target="e/a") == 0
    assert world.says.value("test_things") is None
    assert world.says.value("probe_last_success_timestamp_seconds", target="e/a") == pytest.approx(1000.1)
    assert world.says.value("probe_failures_total", target="e/a", reason="timeout") == 1
    (status,) = world.house.targets()
    assert status.notes is None
    assert status.failure == Failure(Reason.TIMEOUT, "no answer")
    assert status.failing_since == pytest.approx(1000.2)


def test_there_is_a_counter_for_each_reason_met_and_no_other(world: World) -> None:
    world.house.apply([plan("e", "a")])
    for reason in (Reason.TIMEOUT, Reason.TLS, Reason.TIMEOUT):
        world.ends("e", "a", Failure(reason, "x"))
    counts = {
        s.labels["reason"]: s.value
        for s in world.says.owners["target", "test", "e", "a"]
        if s.metric.name.endswith("_total")
    }
    assert counts == {"timeout": 2, "tls": 1}


def test_a_partial_look_stands_and_is_no_success(world: World) -> None:
    world.house.apply([plan("e", "a")])
    refused = (Failure(Reason.PERMISSION, "half"), Failure(Reason.PERMISSION, "another"))
    world.ends("e", "a", Look((THINGS(3, name="x"),), refused))
    assert world.says.value("test_things", name="x") == 3
    assert world.says.value("probe_success", target="e/a") == 0
    assert world.says.value("probe_failures_total", target="e/a", reason="permission") == 1, "a look counts once"
    assert world.says.value("probe_last_success_timestamp_seconds", target="e/a") is None


def lines(caplog: pytest.LogCaptureFixture, message: str) -> list[Any]:
    return [getattr(r, "fields", None) for r in caplog.records if r.message == message]


def test_it_is_logged_once_when_it_breaks_and_once_when_it_is_well_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.house.apply([plan("e", "a")])
    for _ in range(5):
        world.ends("e", "a", Failure(Reason.UNREACHABLE, "refused"))
    assert lines(caplog, "look failed") == [
        {"collector": "test", "target": "e/a", "reason": "unreachable", "detail": "refused"}
    ]
    world.ends("e", "a", Look(()))
    world.ends("e", "a", Look(()))
    assert lines(caplog, "look succeeds again") == [
        {"collector": "test", "target": "e/a", "failed_for_seconds": pytest.approx(0.5)}
    ]
    assert len(lines(caplog, "look failed")) == 1


def test_another_reason_is_worth_another_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.house.apply([plan("e", "a")])
    world.ends("e", "a", Failure(Reason.UNREACHABLE, "refused"))
    world.ends("e", "a", Failure(Reason.STARTING, "starting up"))
    assert [f["reason"] for f in lines(caplog, "look failed")] == ["unreachable", "starting"]


def source(position: int, system: str = "7") -> Look:
    return Look((SourcePosition(History(system, 1), position),))


def replica(position: int, system: str = "7") -> Look:
    return Look((ReplicaPosition(History(system, 1), position), LinkState(up=True)))


def test_the_looks_of_a_link_become_a_recovery_point(world: World) -> None:
    world.house.apply([plan("orders", "a", "b", linked=True)])
    assert world.says.value("recovery_point_objective_seconds", link="orders") == 30
    assert world.says.value("replication_expected_replicas", link="orders") == 1
    world.ends("orders", "a", source(10))
    world.ends("orders", "b", replica(10))
    assert world.says.value("recovery_point_timestamp_seconds", replica="b") == 1000.0, "when the source was asked"
    assert world.says.value("replication_sources", link="orders") == 1
    (link,) = world.house.links()
    assert (link.source, [r.state for r in link.replicas]) == ("a", [State.STREAMING])


def test_streaming_ends_with_its_time_and_not_with_the_next_look(world: World) -> None:
    world.house.apply([plan("orders", "a", "b", linked=True)])
    world.ends("orders", "a", source(10))
    world.ends("orders", "b", replica(10))
    world.clock.at += 14
    world.house.grow_older()
    assert world.says.value("replication_state", replica="b", state="streaming") == 1
    world.clock.at += 2
    world.house.grow_older()
    assert world.says.value("replication_state", replica="b", state="catching_up") == 1


def test_a_look_waits_until_it_is_known_whose_system_it_is_about(world: World) -> None:
    world.house.apply([plan("orders", "a", "b", linked=True)])
    world.ends("orders", "b", source(10, system="other"))
    assert world.says.value("probe_success", target="orders/b") is None, (
        "the earlier listed node has not had its chance"
    )
    world.ends("orders", "a", source(10))
    assert world.says.value("probe_success", target="orders/a") == 1
    assert world.says.value("probe_success", target="orders/b") == 0
    assert world.says.value("probe_failures_total", target="orders/b", reason="wrong_system") == 1


def test_positions_that_cannot_be_compared_cost_their_own_target_only(world: World) -> None:
    world.house.apply([plan("orders", "a", "b", linked=True)])
    world.ends("orders", "a", source(10))
    world.ends("orders", "b", Look((ReplicaPosition(HERE, {}),)))  # type: ignore[arg-type]
    assert world.says.value("probe_success", target="orders/a") == 1
    assert world.says.value("probe_failures_total", target="orders/b", reason="internal") == 1
    assert world.says.value("recovery_point_timestamp_seconds", replica="b") is None


def test_what_is_no_longer_configured_is_neither_said_nor_heard(world: World) -> None:
    world.house.apply([plan("e", "a"), plan("orders", "a", "b", linked=True)])
    world.ends("orders", "a", source(10))
    world.house.apply([plan("e", "a")])
    assert set(world.says.owners) == {("target", "test", "e", "a")}
    world.ends("orders", "a", source(11))
    assert set(world.says.owners) == {("target", "test", "e", "a")}
    assert list(world.house.links()) == []
    assert world.house.persist(everything=True) == []


def test_a_reload_keeps_what_is_known_of_what_stays(world: World) -> None:
    world.house.apply([plan("e", "a", "b"), plan("orders", "a", "b", linked=True)])
    world.ends("e", "a", Failure(Reason.TLS, "x"))
    world.ends("orders", "a", source(10))
    world.ends("orders", "b", replica(10))
    world.house.apply([plan("e", "a", "c"), plan("orders", "a", "b", "c", linked=True, objective=60.0)])
    assert world.says.value("probe_failures_total", target="e/a", reason="tls") == 1
    assert world.says.value("probe_interval_seconds", target="e/b") is None
    assert world.says.value("recovery_point_objective_seconds", link="orders") == 60
    assert world.says.value("replication_expected_replicas", link="orders") == 2
    assert world.says.value("recovery_point_timestamp_seconds", replica="b") == 1000.1
    assert world.loaded == [Key("test", "orders"), Key("test/followers", "orders")], "what is known is not loaded again"


def test_a_node_that_leaves_while_its_look_waits_is_forgotten(world: World) -> None:
    world.house.apply([plan("orders", "a", "b", "c", linked=True)])
    world.ends("orders", "c", source(10))
    world.house.apply([plan("orders", "a", "b", linked=True)])
    world.ends("orders", "a", source(10))
    assert world.says.value("probe_success", target="orders/a") == 1
    assert world.says.value("probe_interval_seconds", target="orders/c") is None


def test_a_node_in_another_region_is_another_node(world: World) -> None:
    world.house.apply([plan("e", "a")])
    world.ends("e", "a", Failure(Reason.TLS, "x"))
    world.house.apply([plan("e", "a", region="amsterdam")])
    assert world.says.value("probe_failures_total", target="e/a") is None


def test_a_state_that_cannot_be_read_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    def load(key: Key) -> Remembered:
        return Remembered({"nonsense": []}, ((1, ("x",)),))  # type: ignore[arg-type]

    says = Says()
    house = House(Still(), says, load)  # type: ignore[arg-type]
    house.apply([plan("orders", "a", linked=True)])
    assert says.value("replication_expected_replicas", link="orders") == 0
    assert "begins anew" in caplog.text


def test_changes_are_handed_out_once_and_some_at_a_time(world: World) -> None:
    entries = [f"e{i}" for i in range(PERSISTED_AT_ONCE * 2)]
    world.house.apply([plan(entry, "a", linked=True) for entry in entries])
    for entry in entries:
        world.ends(entry, "a", source(1))
    first = world.house.persist()
    assert [c.key.entry for c in first] == entries[:PERSISTED_AT_ONCE]
    rest = world.house.persist(everything=True)
    assert [c.key.entry for c in rest] == entries[PERSISTED_AT_ONCE:]
    assert world.house.persist() == []
    world.house.stepped()
    assert len(world.house.persist(everything=True)) == len(entries), "every moment has another Unix time now"


def test_a_step_of_the_clock_does_not_make_all_samples_anew_in_one_go(world: World) -> None:
    entries = ["e1", "e2", "e3"]
    world.house.apply([plan(entry, "a", linked=True) for entry in entries])
    for i in range(ROWS_AT_ONCE // 2):
        for entry in entries:
            world.ends(entry, "a", source(i))
    world.house.persist(everything=True)
    world.house.stepped()
    assert [c.key.entry for c in world.house.persist()] == ["e1", "e2"]
    assert [c.key.entry for c in world.house.persist()] == ["e3"]


def test_an_entry_that_is_no_link_any_more_has_nothing_to_remember(world: World) -> None:
    world.house.apply([plan("orders", "a", "b", linked=True)])
    world.ends("orders", "a", source(10))
    world.house.apply([plan("orders", "a", "b")])
    assert world.house.persist() == []


def test_nothing_is_kept_of_nodes_that_come_and_go(world: World) -> None:
    for i in range(10):
        world.house.apply([plan("orders", "a", f"pod-{i}", linked=True)])
        world.ends("orders", "a", source(10))
        world.ends("orders", f"pod-{i}", replica(10))
    assert world.house._said[("test", "orders")].keys() == {"pod-9"}


def test_where_nothing_is_configured_everything_was_looked_at(world: World) -> None:
    world.house.apply([])
    assert world.house.ready


def test_the_real_publisher_takes_it_all() -> None:
    clock = Still()
    publisher = Publisher()
    house = House(clock, publisher, lambda key: Remembered())
    house.apply([plan("orders", "a", "b", linked=True)])
    house.publish_self([])
    publisher._publish()
    text = publisher.version.bodies[False, False].decode()
    assert 'regiondrift_replication_expected_replicas{system="test",link="orders"} 1\n' in text
    assert "regiondrift_build_info" in text


def test_a_changed_interval_is_said_at_once(world: World) -> None:
    world.house.apply([plan("e", "a")])
    world.house.apply([replace(plan("e", "a"), interval=7.0)])
    assert world.says.value("probe_interval_seconds", target="e/a") == 7
