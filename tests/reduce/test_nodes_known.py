"""What is said of a link whose nodes may be others, or fewer, than we think?"""

from __future__ import annotations

from typing import TypeAlias

import pytest

from regiondrift.model import (
    Failure,
    History,
    Instance,
    Link,
    Look,
    Plan,
    Reason,
    ReplicaPosition,
    Sample,
    SourcePosition,
    State,
    Target,
)
from regiondrift.reduce import said
from regiondrift.reduce.memory import LinkMemory
from regiondrift.reduce.recovery import LinkReducer

Said: TypeAlias = dict[str, float]
HISTORY = History("7", 1)


def plan(*nodes: str, asks: bool = False) -> Plan:
    targets = tuple(Target("orders", name, "r", None) for name in nodes)
    asked = (Target("orders", "patroni", "", None, node=False),) if asks else ()
    return Plan("postgresql", "orders", targets + asked, 5.0, 1.0, Link("postgresql", 30.0))


def link(*nodes: str, asks: bool = False) -> LinkReducer:
    return LinkReducer(plan(*nodes, asks=asks), LinkMemory(), 0.0)


def source(instance: str | None = None) -> Look:
    return Look((SourcePosition(HISTORY, 10), *([Instance(instance)] if instance else [])))


def replica(instance: str | None = None) -> Look:
    return Look((ReplicaPosition(HISTORY, 10), *([Instance(instance)] if instance else [])))


def values(made: LinkReducer) -> Said:
    """Families of the link without replicas' labels."""
    samples: list[Sample] = said.samples(made, 100.0)
    return {s.metric.name: s.value for s in samples if "replica" not in s.metric.labels}


def test_while_no_node_is_known_none_is_expected_and_none_counted() -> None:
    found = values(link(asks=True))
    assert "regiondrift_replication_expected_replicas" not in found
    assert "regiondrift_replication_sources" not in found
    assert found["regiondrift_recovery_point_objective_seconds"] == 30


def test_one_that_is_listed_is_not_all_until_the_others_were_asked_for() -> None:
    made = link("n0", asks=True)
    made.complete = False
    made.observe("n0", source(), 1.0, 2.0)
    assert "regiondrift_replication_expected_replicas" not in values(made)
    assert "regiondrift_replication_sources" not in values(made)
    made.complete = True
    assert values(made)["regiondrift_replication_expected_replicas"] == 0
    assert values(made)["regiondrift_replication_sources"] == 1


def test_whoever_is_asked_for_nodes_is_none() -> None:
    assert values(link("n0", "n1", asks=True))["regiondrift_replication_expected_replicas"] == 1


def test_that_nothing_accepts_writes_is_not_said_while_nodes_may_be_missing() -> None:
    made = link("n0", "n1", asks=True)
    made.observe("n0", replica(), 1.0, 2.0)
    made.observe("n1", replica(), 1.0, 2.0)
    assert {r.state for r in made.replicas(3.0)} == {State.NO_SOURCE}
    made.complete = False
    assert State.NO_SOURCE not in {r.state for r in made.replicas(3.0)}
    assert "regiondrift_replication_sources" not in values(made)


def test_two_that_accept_writes_are_two_however_many_more_there_may_be() -> None:
    made = link("n0", "n1", asks=True)
    made.complete = False
    made.observe("n0", source("a"), 1.0, 2.0)
    made.observe("n1", source("b"), 3.0, 4.0)
    made.observe("n0", source("a"), 5.0, 6.0)
    assert values(made)["regiondrift_replication_sources"] == 2


# ---- one server by two names


def test_one_server_by_two_names_is_no_split_brain() -> None:
    made = link("address", "server", "other")
    for t in (1.0, 2.0, 3.0):
        made.observe("address", source("a"), t, t + 0.1)
        (settled,) = made.observe("server", source("a"), t + 0.2, t + 0.3)
        made.observe("other", replica("b"), t + 0.4, t + 0.5)
    assert settled.failure == Failure(Reason.WRONG_SYSTEM, "this is address under another name")
    assert {r.name: r.state for r in made.replicas(3.5)} == {"server": State.UNREACHABLE, "other": State.STREAMING}
    assert "regiondrift_replication_sources" not in values(made)


def test_the_name_that_is_listed_first_counts_whichever_is_seen_first() -> None:
    made = link("address", "server")
    made.observe("address", Failure(Reason.TIMEOUT, "slow"), 1.0, 2.0)
    (settled,) = [s for s in made.observe("server", source("a"), 1.0, 2.0) if s.node == "server"]
    assert settled.failure is None
    made.observe("address", source("a"), 3.0, 4.0)
    assert made.memory.source == "address"
    (settled,) = made.observe("server", source("a"), 5.0, 6.0)
    assert settled.failure is not None


def test_an_address_that_moves_frees_the_name_that_it_left() -> None:
    made = link("address", "a", "b")
    made.observe("address", source("A"), 1.0, 1.1)
    made.observe("a", source("A"), 1.2, 1.3)
    made.observe("b", replica("B"), 1.4, 1.5)
    promoted = Look((SourcePosition(History("7", 2), 20), Instance("B")))
    made.observe("address", promoted, 2.0, 2.1)
    (settled,) = made.observe("b", promoted, 2.2, 2.3)
    assert settled.failure is not None
    (settled,) = made.observe("a", replica("A"), 2.4, 2.5)
    assert settled.failure is None


@pytest.mark.parametrize("instances", [("a", "b"), (None, None), ("a", None)])
def test_two_servers_or_servers_that_do_not_tell_are_two(instances: tuple[str | None, str | None]) -> None:
    made = link("n0", "n1")
    for t in (1.0, 2.0):
        for name, instance in zip(("n0", "n1"), instances, strict=True):
            made.observe(name, source(instance), t, t + 0.1)
    assert values(made)["regiondrift_replication_sources"] == 2
