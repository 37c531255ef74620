"""Which targets does an entry have when some of them are found at run time?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from regiondrift.clock import Clock
from regiondrift.discover import Discoveries, keys
from regiondrift.model import (
    Collector,
    EntryOptions,
    Failure,
    Look,
    Member,
    Members,
    Plan,
    Reason,
    RefusedValueError,
    Target,
)
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled
from regiondrift.state import Key, Remembered

DAY = 86400.0


async def look(target: Target, kept: object) -> Look:
    raise AssertionError("nobody looks here")


def member(target: Target, found: Member) -> Target | None:
    if found.about == "ignored":
        return None
    if not found.about:
        raise RefusedValueError(f"{found.name} has no address")
    return Target(target.entry, found.name, "r", found.about)


COLLECTOR = Collector("test", EntryOptions, lambda options, objectives: ((), None), look, member=member)


class World:
    """One entry with a listed node and two discoveries, and what the state file holds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.state: dict[Key, str] = {}
        self.asks = [Target("e", name, "", name, node=False) for name in ("one", "two")]
        self.plan = Plan("test", "e", (Target("e", "listed", "r", "here"), *self.asks), 15.0, 10.0)
        self.start()

    def start(self) -> None:
        """As a process does."""
        self.discoveries = Discoveries(lambda name: COLLECTOR, Clock(), lambda k: Remembered(self.state.get(k)))
        self.discoveries.apply([self.plan])

    def found(self, *named: str, by: int = 0, **more: Any) -> Look | Failure:
        """A look ends that finds ``name`` or ``name=about``."""
        pairs = [text.partition("=") for text in named]
        members = Members(tuple(Member(name, about if eq else "there") for name, eq, about in pairs), **more)
        ended = Ended(Look((members,)), self.now, self.now)
        return self.discoveries.ended(Scheduled("test", self.asks[by], 15.0, 10.0), ended).result

    def persist(self) -> None:
        for change in self.discoveries.persist():
            assert change.document is not None
            self.state[change.key] = change.document

    @property
    def nodes(self) -> dict[str, str]:
        (plan,) = self.discoveries.plans
        return {target.part: target.options for target in plan.targets if target.node}


@pytest.fixture
def world() -> World:
    return World()


def reasons(result: Look | Failure) -> list[str]:
    assert isinstance(result, Look)
    return [failure.detail for failure in result.refused]


def test_what_is_found_stands_beside_what_is_listed(world: World) -> None:
    assert world.nodes == {"listed": "here"}
    assert reasons(world.found("a", "b")) == []
    assert world.nodes == {"listed": "here", "a": "there", "b": "there"}


def test_the_plans_are_the_same_object_as_long_as_nothing_changes(world: World) -> None:
    world.found("a")
    before = world.discoveries.plans
    world.found("a")
    assert world.discoveries.plans is before
    world.found("a", "b")
    assert world.discoveries.plans is not before


def test_what_is_found_no_more_stays(world: World) -> None:
    world.found("a", "b")
    result = world.found("a")
    assert world.nodes.keys() == {"listed", "a", "b"}
    assert isinstance(result, Look)
    assert result.notes == {"no longer named": "b"}
    world.now += 1000 * DAY
    world.found()
    assert world.nodes.keys() == {"listed", "a", "b"}


def test_unless_the_configuration_lets_it_go(world: World) -> None:
    world.found("a", "b", forget_after=DAY)
    world.found("a", forget_after=DAY)
    world.now += DAY
    world.found("a", forget_after=DAY)
    assert "b" in world.nodes
    world.now += 1
    world.found("a", forget_after=DAY)
    assert "b" not in world.nodes


def test_one_that_comes_back_meanwhile_is_not_let_go(world: World) -> None:
    for named in (("a", "b"), ("a",), ("a", "b"), ("a",)):
        world.found(*named, forget_after=DAY)
        world.now += 0.9 * DAY
    assert "b" in world.nodes


def test_a_failed_look_changes_nothing(world: World) -> None:
    world.found("a")
    failure = Failure(Reason.UNREACHABLE, "gone")
    ended = Ended(failure, world.now, world.now)
    assert world.discoveries.ended(Scheduled("test", world.asks[0], 15.0, 10.0), ended) is ended
    assert "a" in world.nodes


def test_a_new_address_is_taken_and_a_missing_one_leaves_the_old(world: World) -> None:
    world.found("a=1")
    world.found("a=2")
    assert world.nodes["a"] == "2"
    assert reasons(world.found("a=")) == []
    assert world.nodes["a"] == "2"


def test_a_member_that_cannot_be_looked_at_is_a_failure_beside_the_rest(world: World) -> None:
    assert reasons(world.found("a", "b=")) == ["b has no address"]
    assert world.nodes.keys() == {"listed", "a"}


def test_one_that_is_not_wanted_is_neither(world: World) -> None:
    assert reasons(world.found("a", "b=ignored")) == []
    assert world.nodes.keys() == {"listed", "a"}


def test_a_listed_node_keeps_its_own_address(world: World) -> None:
    assert reasons(world.found("listed=elsewhere")) == []
    assert world.nodes == {"listed": "here"}


def test_two_discoveries_cannot_mean_two_by_one_name(world: World) -> None:
    """A server that is silently not looked at would be a replica that nobody misses."""
    assert reasons(world.found("a=1", by=0)) == []
    assert reasons(world.found("a=2", by=1)) == ["another target is called 'a' already"]
    assert world.nodes["a"] == "1"


def test_nor_can_a_member_be_called_as_a_discovery(world: World) -> None:
    assert reasons(world.found("two")) == ["another target is called 'two' already"]
    assert world.nodes.keys() == {"listed"}


def test_what_was_found_outlives_the_process(world: World) -> None:
    world.found("a=1", "b=2")
    world.persist()
    world.start()
    assert world.nodes == {"listed": "here", "a": "1", "b": "2"}


def test_a_restart_does_not_prolong_the_life_of_what_is_gone(world: World) -> None:
    world.found("a", "b", forget_after=DAY)
    world.found("a", forget_after=DAY)
    world.persist()
    world.start()
    world.now += DAY + 1
    world.found("a", forget_after=DAY)
    assert world.nodes.keys() == {"listed", "a"}


def test_nothing_is_written_while_nothing_changes(world: World) -> None:
    world.found("a")
    world.persist()
    world.now += 15
    world.found("a")
    assert world.discoveries.persist() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"group": "g"}', '{"group": "", "members": {"a": 1}}', "null", "7"])
def test_a_memory_that_cannot_be_read_is_none(world: World, text: str) -> None:
    world.state[Key("test", "e/one")] = text
    world.start()
    assert world.nodes == {"listed": "here"}


def test_a_reload_keeps_what_was_found_and_makes_it_anew(world: World) -> None:
    world.found("a")
    world.discoveries.apply([world.plan])
    assert "a" in world.nodes
    world.discoveries.apply([Plan("test", "e", (Target("e", "listed", "r", "here"),), 15.0, 10.0)])
    assert world.nodes == {"listed": "here"}


def test_members_of_another_group_are_no_successors(world: World) -> None:
    world.found("a", group="orders")
    result = world.found("x", group="invoices")
    assert isinstance(result, Failure)
    assert result.reason is Reason.WRONG_SYSTEM
    assert world.nodes.keys() == {"listed", "a"}


def test_unless_the_configuration_names_that_group(world: World) -> None:
    world.found("a", group="orders")
    world.found("x", group="invoices", configured=True)
    assert world.nodes.keys() == {"listed", "x"}


def test_a_look_of_a_target_that_is_configured_no_more_is_left_as_it_is(world: World) -> None:
    ended = Ended(Look((Members((Member("a", "there"),)),)), 1.0, 1.0)
    other = Scheduled("test", Target("other", "one", "", "one", node=False), 15.0, 10.0)
    assert world.discoveries.ended(other, ended) is ended


def test_a_collectors_fault_costs_its_own_member() -> None:
    def broken(target: Target, found: Member) -> Target | None:
        if found.name == "a":
            raise KeyError("hunter2")
        return member(target, found)

    collector = Collector("test", EntryOptions, lambda options, objectives: ((), None), look, member=broken)
    made = Discoveries(lambda name: collector, Clock(), lambda key: Remembered())
    asked = Target("e", "one", "", None, node=False)
    made.apply([Plan("test", "e", (asked,), 15.0, 10.0)])
    found = Members((Member("a", "there"), Member("b", "there")))
    result = made.ended(Scheduled("test", asked, 15.0, 10.0), Ended(Look((found,)), 1.0, 1.0)).result
    assert reasons(result) == ["member 'a': KeyError in collector test"]
    assert [target.part for target in made.plans[0].targets] == ["one", "b"]


def test_keys_cannot_be_those_of_entries(world: World) -> None:
    assert list(keys([world.plan])) == [Key("test", "e/one"), Key("test", "e/two")]
    world.found("a")
    (change,) = world.discoveries.persist()
    assert json.loads(change.document or "")["members"] == {"a": ["there", None]}
    assert world.discoveries.remembers(Key("test", "e/one"))
    assert not world.discoveries.remembers(Key("test", "e"))


def test_a_step_of_the_wall_clock_is_written_down(world: World) -> None:
    world.found("a")
    world.persist()
    world.discoveries.stepped()
    assert [change.key.entry for change in world.discoveries.persist()] == ["e/one", "e/two"]
