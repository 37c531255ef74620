"""What is said of followers that take chosen changes from a channel elsewhere: against histories whose truth the test knows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regiondrift.model import (
    Channel,
    Channels,
    Failure,
    Follower,
    Followers,
    History,
    Link,
    Look,
    Plan,
    Reason,
    ReplicaPosition,
    SourcePosition,
    State,
    Target,
)
from regiondrift.reduce.channels import ChannelReducer
from regiondrift.reduce.follower import FollowerMemory, remembered
from regiondrift.reduce.memory import LinkMemory
from regiondrift.reduce.node import ReplicaNow
from regiondrift.reduce.recovery import LinkReducer

INTERVAL = 1.0
GONE = Failure(Reason.UNREACHABLE, "gone")
REGION = {"orders": "montreal", "reports": "amsterdam", "third": "frankfurt"}
SUB = Follower("db/sub", "7", "sub", "sub", up=True, received=100, apply_failures=0, copy_failures=0, uncopied=0)
SLOT = Channel("sub", 100, True, "sub", "shop")


def plan(entry: str, *nodes: str) -> Plan:
    targets = tuple(Target(entry, n, REGION[entry], None) for n in nodes or ("a", "b"))
    return Plan("postgresql", entry, targets, INTERVAL, 10.0, Link("postgresql", 30.0 if entry == "orders" else 60.0))


def publisher(position: int, *channels: Channel, branch: int = 1, system: str = "1", **offers: set[str]) -> Look:
    offered = {f"shop/{name}": frozenset(items) for name, items in offers.items()}
    told = Channels(channels, offered, frozenset({"shop"}) if offers else frozenset())
    return Look((SourcePosition(History(system, branch), position), told))


def subscriber(*followers: Follower, branch: int = 1, system: str = "2") -> Look:
    return Look(
        (SourcePosition(History(system, branch), 5), Channels(()), Followers("postgresql_logical", followers)),
    )


@dataclass
class Watch:
    """Entries that are looked at as the test says. Each look takes 0.1 s."""

    entries: tuple[str, ...] = ("orders", "reports")
    now: float = 1000.0
    memory: dict[str, tuple[LinkMemory, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reducer = ChannelReducer()
        self.links: dict[str, LinkReducer] = {}
        for entry in self.entries:
            kept, text = self.memory.get(entry, (LinkMemory(), None))
            self.links[entry] = LinkReducer(plan(entry), kept, self.now)
            self.reducer.put(plan(entry), self.links[entry])
            system, followers = remembered(text, plan(entry).link, lambda wall: wall, self.now)  # type: ignore[arg-type, return-value]
            self.reducer.restore(entry, system, followers, self.now)

    def look(self, entry: str, result: Look | Failure, node: str = "a", after: float = 0.1) -> None:
        self.now += after
        asked, self.now = self.now, self.now + 0.1
        self.links[entry].observe(node, result, asked, self.now)
        self.reducer.observe(entry, node, result, asked, self.now)

    def of(self, name: str = "db/sub", entry: str = "reports") -> ReplicaNow:
        found = self.reducer.replica((entry, name), self.now)
        assert found is not None
        return found[1]

    def link(self, name: str = "db/sub", entry: str = "reports") -> tuple[str, str]:
        found = self.reducer.replica((entry, name), self.now)
        assert found is not None
        return found[0]

    @property
    def names(self) -> set[tuple[str, str]]:
        return set(self.reducer.names())

    def follower(self, entry: str = "reports", name: str = "db/sub") -> FollowerMemory:
        return self.reducer._entries[entry].views[name].memory

    def restarted(self) -> Watch:
        memory = {e: (self.links[e].memory, self.reducer.document(e, lambda moment: moment)) for e in self.entries}
        return Watch(self.entries, self.now, memory)


def streaming(position: int = 100) -> Watch:
    """A link that was seen from both sides and is complete up to `position`."""
    w = Watch()
    for _ in range(2):
        w.look("orders", publisher(position, replace(SLOT, position=position)))
        w.look("reports", subscriber(replace(SUB, received=position)))
    w.look("orders", publisher(position, replace(SLOT, position=position)))
    assert w.of().state is State.STREAMING
    return w


# ---- whom does it follow


def test_a_link_is_named_by_both_ends() -> None:
    w = streaming()
    assert w.link() == ("postgresql_logical", "orders")
    of = w.of()
    assert (of.name, of.source_region, of.target_region) == ("reports/db/sub", "montreal", "amsterdam")
    assert of.recovery_point == pytest.approx(w.now - 0.1)
    assert (of.behind_since, of.lag_bytes, of.resyncs) == (None, 0, 0)
    assert w.reducer.objectives() == {("postgresql_logical", "orders"): 30.0}


def test_nothing_is_proven_before_both_ends_were_seen_to_fit() -> None:
    w = Watch()
    w.look("reports", subscriber(SUB))
    assert (w.link()[1], w.of().state, w.of().source_region) == ("reports", State.UNKNOWN, "")
    w.look("orders", publisher(100, SLOT))
    assert w.of().recovery_point is None
    assert w.link()[1] == "orders", "the name speaks for it"
    w.look("reports", subscriber(SUB))
    assert w.of().recovery_point is not None


def test_a_source_that_is_not_configured_gives_states_without_t() -> None:
    w = Watch(("reports",))
    for state, now in (
        (State.UNKNOWN, SUB),
        (State.PAUSED, replace(SUB, up=False, paused=True)),
        (State.DISCONNECTED, replace(SUB, up=False)),
        (State.ERROR, replace(SUB, up=False, apply_failures=1)),
    ):
        w.look("reports", subscriber(now))
        of = w.of()
        assert (of.state, w.link(), of.recovery_point) == (state, ("postgresql_logical", "reports"), None)
    assert w.reducer.objectives() == {}
    w.look("reports", subscriber())
    assert w.names == set(), "it ends with the subscription"


def test_a_stranger_of_the_same_name_that_holds_less_than_was_received_is_not_the_source() -> None:
    w = Watch()
    for _ in range(4):
        w.look("orders", publisher(90, replace(SLOT, position=90)))
        w.look("reports", subscriber(replace(SUB, received=500)))
    assert w.of().recovery_point is None


def test_a_stranger_whose_consumer_confirmed_more_than_was_received_is_not_the_source() -> None:
    w = Watch()
    for _ in range(4):
        w.look("orders", publisher(900, replace(SLOT, position=900)))
        w.look("reports", subscriber(replace(SUB, received=500)))
    assert w.of().recovery_point is None


def test_a_source_that_turns_out_to_be_a_stranger_takes_its_proof_along() -> None:
    w = streaming()
    w.look("reports", subscriber(replace(SUB, received=700)))
    w.look("orders", publisher(200, replace(SLOT, position=200)))
    assert (w.of().recovery_point, w.link()[1]) == (None, "reports")


def test_an_idle_channel_of_that_name_is_nobodys_while_the_follower_is_connected() -> None:
    w = Watch()
    for _ in range(3):
        w.look("orders", publisher(100, replace(SLOT, active=False)))
        w.look("reports", subscriber(SUB))
    assert (w.link()[1], w.of().state) == ("reports", State.UNKNOWN)


def test_of_two_channels_of_one_name_the_one_counts_whose_consumer_is_this_follower() -> None:
    w = Watch(("orders", "third", "reports"))
    for _ in range(3):
        w.look("orders", publisher(100, replace(SLOT, consumer="somebody")))
        w.look("third", publisher(100, SLOT, system="3"))
        w.look("reports", subscriber(SUB))
    assert w.link()[1] == "third"
    assert w.of().recovery_point is not None


def test_two_that_both_fit_are_no_link() -> None:
    w = Watch(("orders", "third", "reports"))
    for _ in range(3):
        w.look("orders", publisher(100, SLOT))
        w.look("third", publisher(100, SLOT, system="3"))
        w.look("reports", subscriber(SUB))
    assert (w.link()[1], w.of().recovery_point) == ("reports", None)


def test_two_that_follow_each_other_under_one_name_are_two_links() -> None:
    w = Watch()
    here, there = Followers("postgresql_logical", (SUB,)), Followers("postgresql_logical", (SUB,))
    for _ in range(3):
        w.look("orders", Look((SourcePosition(History("1", 1), 100), Channels((SLOT,)), here)))
        w.look("reports", Look((SourcePosition(History("2", 1), 100), Channels((SLOT,)), there)))
    assert w.link("db/sub", "reports")[1] == "orders"
    assert w.link("db/sub", "orders")[1] == "reports"


def test_a_channel_of_its_own_system_is_no_link() -> None:
    w = Watch(("orders",))
    both = Look((SourcePosition(History("1", 1), 100), Channels((SLOT,)), Followers("postgresql_logical", (SUB,))))
    for _ in range(4):
        w.look("orders", both)
    assert (w.link(entry="orders")[1], w.of(entry="orders").source_region) == ("orders", "")
    assert w.of(entry="orders").recovery_point is None


def test_a_follower_that_moves_to_another_source_begins_anew_there() -> None:
    w = Watch(("orders", "third", "reports"))
    for _ in range(3):
        w.look("orders", publisher(100, SLOT))
        w.look("reports", subscriber(SUB))
    assert w.link()[1] == "orders"
    for _ in range(3):
        w.look("orders", publisher(100, replace(SLOT, active=False)))
        w.look("third", publisher(300, replace(SLOT, position=300), system="3"))
        w.look("reports", subscriber(replace(SUB, received=300)))
    assert w.link()[1] == "third"
    assert w.of().source_region == "frankfurt"


def test_a_channel_of_a_standby_counts_against_its_source() -> None:
    w = Watch()
    standby = Look((ReplicaPosition(History("1", 1), 100), Channels((SLOT,))))
    for _ in range(3):
        w.look("orders", publisher(100))
        w.look("orders", standby, "b")
        w.look("reports", subscriber(SUB))
    assert w.of().state is State.STREAMING


# ---- states, in their order


def test_paused_comes_before_error_and_error_before_disconnected() -> None:
    w = streaming()
    failing = replace(SUB, up=False, apply_failures=3)
    w.look("reports", subscriber(failing))
    w.look("orders", publisher(120, replace(SLOT, active=False)))
    assert w.of().state is State.ERROR
    w.look("reports", subscriber(replace(failing, paused=True)))
    assert w.of().state is State.PAUSED
    w.look("reports", subscriber(replace(SUB, up=False)))
    assert w.of().state is State.ERROR, "still no progress"


def test_an_error_ends_with_the_progress_after_it() -> None:
    w = streaming()
    w.look("orders", publisher(120, SLOT))
    w.look("reports", subscriber(replace(SUB, up=False, apply_failures=1)))
    w.look("orders", publisher(150, SLOT))
    w.look("reports", subscriber(replace(SUB, up=True, apply_failures=1)))
    w.look("orders", publisher(150, SLOT))
    assert w.of().state is State.ERROR, "it connects, and has not got further"
    w.look("orders", publisher(150, replace(SLOT, position=140)))
    assert w.of().state is not State.ERROR


def test_an_error_at_an_idle_source_ends_when_nothing_is_missing() -> None:
    w = streaming()
    w.look("reports", subscriber(replace(SUB, up=False, apply_failures=1)))
    w.look("orders", publisher(100, replace(SLOT, active=False)))
    assert w.of().state is State.ERROR
    w.look("reports", subscriber(replace(SUB, apply_failures=1)))
    w.look("orders", publisher(100, SLOT))
    assert w.of().state is State.STREAMING


def test_an_error_ends_with_what_the_follower_tells_where_no_source_tells() -> None:
    """Its source is not configured, or nothing can be proven of it any more."""
    w = streaming()
    w.look("reports", subscriber(replace(SUB, up=False, apply_failures=1)))
    w.look("orders", GONE)
    w.look("reports", subscriber(replace(SUB, apply_failures=1)), after=10)
    assert w.of().state is State.ERROR
    w.look("reports", subscriber(replace(SUB, apply_failures=1)), after=60)
    assert w.of().state is not State.ERROR, "a minute at it, and nothing more has failed"
    w.look("reports", subscriber(replace(SUB, up=False, apply_failures=2, position=100)))
    assert w.of().state is State.ERROR
    w.look("reports", subscriber(replace(SUB, apply_failures=2, position=120)))
    assert w.of().state is not State.ERROR, "it has taken a change since"


def test_a_first_copy_that_fails_is_an_error_until_it_is_complete() -> None:
    w = streaming()
    w.look("reports", subscriber(replace(SUB, copy_failures=1, uncopied=1)))
    for at in (120, 140):
        w.look("orders", publisher(at, replace(SLOT, position=at)))
        w.look("reports", subscriber(replace(SUB, copy_failures=1, uncopied=1, received=at)))
    assert w.of().state is State.ERROR, "other tables go on meanwhile"
    w.look("reports", subscriber(replace(SUB, copy_failures=1, uncopied=0, received=140)))
    assert w.of().state is State.STREAMING


def test_counters_that_are_not_kept_never_make_an_error() -> None:
    w = streaming()
    w.look("reports", subscriber(replace(SUB, up=False, apply_failures=None, copy_failures=None)))
    assert w.of().state is State.DISCONNECTED


def test_errors_from_before_the_first_look_are_not_held_against_it() -> None:
    w = Watch()
    for _ in range(3):
        w.look("orders", publisher(100, SLOT))
        w.look("reports", subscriber(replace(SUB, apply_failures=17, copy_failures=4)))
    assert w.of().state is State.STREAMING


def test_an_idle_or_missing_channel_is_disconnected() -> None:
    w = streaming()
    w.look("orders", publisher(100, replace(SLOT, active=False)))
    assert w.of().state is State.DISCONNECTED
    w.look("orders", publisher(120))
    of = w.of()
    assert of.state is State.DISCONNECTED
    assert of.behind_since is None, "written between the looks"
    w.look("orders", publisher(120))
    of = w.of()
    assert of.behind_since is not None
    assert of.lag_bytes == 20


def test_a_follower_out_of_sight_is_unreachable_and_said_to_lack_nothing() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("reports", GONE)
    for _ in range(3):
        w.look("orders", publisher(150, SLOT), after=5)
    of = w.of()
    assert (of.state, of.behind_since, of.lag_bytes, of.reported_lag) == (State.UNREACHABLE, None, None, None)
    assert of.recovery_point == proven
    assert w.reducer.items(("reports", "db/sub")) is None


def test_a_source_out_of_sight_leaves_the_followers_own_word() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("orders", GONE)
    w.look("reports", subscriber(SUB))
    assert w.of().state is State.STREAMING
    w.look("reports", subscriber(SUB), after=10)
    assert w.of().state is State.CATCHING_UP
    w.look("reports", subscriber(replace(SUB, up=False)))
    assert w.of().state is State.DISCONNECTED
    assert w.of().recovery_point == proven


def test_no_source_while_every_node_of_it_is_seen_and_none_accepts_writes() -> None:
    w = streaming()
    for node in "ab":
        w.look("orders", Look((ReplicaPosition(History("1", 1), 100), Channels(()))), node)
    w.look("reports", subscriber(replace(SUB, up=False)))
    assert w.of().state is State.NO_SOURCE


def test_a_part_that_was_refused_is_unknown_and_not_gone() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("reports", Look((SourcePosition(History("2", 1), 5),)))
    assert (w.of().state, w.of().recovery_point) == (State.UNKNOWN, proven)
    w.look("reports", subscriber(SUB))
    w.look("orders", Look((SourcePosition(History("1", 1), 100),)))
    assert w.of().state is State.STREAMING


# ---- what is proven


def test_t_stands_still_while_something_is_not_copied_yet() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("reports", subscriber(replace(SUB, uncopied=2)), after=5)
    w.look("orders", publisher(100, SLOT))
    assert (w.of().recovery_point, w.of().state) == (proven, State.CATCHING_UP)
    w.look("reports", subscriber(replace(SUB, uncopied=None)))
    assert w.of().recovery_point == proven, "and while nobody knows"
    w.look("reports", subscriber(SUB))
    assert w.of().state is State.STREAMING


def test_the_first_copy_of_a_new_follower_is_catching_up() -> None:
    w = Watch()
    for _ in range(3):
        w.look("orders", publisher(100, SLOT))
        w.look("reports", subscriber(replace(SUB, uncopied=1)))
    assert (w.of().state, w.of().recovery_point) == (State.CATCHING_UP, None)


def test_its_own_progress_proves_old_samples_while_the_source_is_out_of_sight() -> None:
    w = streaming()
    w.look("orders", publisher(150, SLOT), after=5)
    written = w.now - 0.1
    w.look("orders", GONE)
    w.look("reports", subscriber(replace(SUB, position=150, received=150)))
    assert w.of().recovery_point == pytest.approx(written)


def test_what_somebody_else_confirms_on_the_channel_proves_nothing() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("reports", subscriber(replace(SUB, up=False, paused=True, received=None)))
    w.look("orders", publisher(500, replace(SLOT, position=500)), after=5)
    assert w.of().recovery_point == proven


def test_behind_since_the_first_position_that_is_not_covered() -> None:
    w = streaming()
    w.look("orders", publisher(120, SLOT))
    written = w.now
    w.look("orders", publisher(140, SLOT))
    of = w.of()
    assert of.behind_since == pytest.approx(written)
    assert of.lag_bytes == 40


def test_a_channel_made_anew_that_begins_later_proves_nothing_more() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("orders", publisher(120))
    w.look("orders", publisher(140, replace(SLOT, position=130)))
    w.look("reports", subscriber(replace(SUB, received=140)))
    w.look("orders", publisher(140, replace(SLOT, position=140)))
    assert w.of().recovery_point == proven
    w.look("reports", subscriber(replace(SUB, identity="8", received=140)))
    assert (w.of().state, w.of().resyncs, w.of().recovery_point) == (State.RESYNCING, 1, None)
    for _ in range(2):
        w.look("orders", publisher(140, replace(SLOT, position=140)))
        w.look("reports", subscriber(replace(SUB, identity="8", received=140)))
    assert (w.of().state, w.of().resyncs) == (State.STREAMING, 1)


def test_a_channel_that_is_found_where_it_ended_leaves_no_gap() -> None:
    w = streaming()
    w.look("orders", publisher(100))
    assert w.of().state is State.DISCONNECTED
    w.look("orders", publisher(100, SLOT))
    w.look("reports", subscriber(SUB))
    assert w.of().state is State.STREAMING


# ---- copies that are replaced


def test_progress_that_shrinks_is_an_older_copy_and_ends_every_claim() -> None:
    w = streaming()
    w.look("reports", subscriber(replace(SUB, position=100)))
    w.look("reports", subscriber(replace(SUB, position=60)))
    of = w.of()
    assert (of.state, of.recovery_point, of.resyncs) == (State.RESYNCING, None, 1)
    for at in (120, 140):
        # The source does not send again what the copy had confirmed and lost.
        w.look("orders", publisher(at, replace(SLOT, position=at)))
        w.look("reports", subscriber(replace(SUB, position=at, received=at)))
    assert (w.of().recovery_point, w.of().resyncs) == (None, 1)


def test_a_failover_of_the_followers_system_withdraws_what_its_successor_may_lack() -> None:
    w = streaming()
    w.look("reports", GONE)
    w.look("reports", subscriber(SUB, branch=2), "b")
    for at in (120, 140):
        w.look("orders", publisher(at, replace(SLOT, position=at)))
        w.look("reports", subscriber(replace(SUB, received=at), branch=2), "b")
    assert w.of().recovery_point is None


def test_a_rename_keeps_everything() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("reports", subscriber(replace(SUB, name="db/renamed", consumer="renamed")))
    assert w.names == {("reports", "db/renamed")}
    assert w.of("db/renamed").recovery_point is not None
    assert w.of("db/renamed").recovery_point >= proven  # type: ignore[operator]
    assert w.of("db/renamed").resyncs == 0


# ---- failovers of the source


def failed_over(w: Watch, at: int, *channels: Channel) -> None:
    w.look("orders", GONE)
    w.look("orders", publisher(at, *channels, branch=2), "b")


def test_after_a_failover_nothing_is_proven_without_a_guard() -> None:
    w = streaming()
    w.look("orders", Look((ReplicaPosition(History("1", 1), 100), Channels(()))), "b")
    proven = w.of().recovery_point
    failed_over(w, 110, replace(SLOT, position=100))
    for at in (120, 140):
        w.look("reports", subscriber(replace(SUB, received=at)))
        w.look("orders", publisher(at, replace(SLOT, position=at), branch=2), "b")
    assert (w.of().recovery_point, w.of().resyncs) == (proven, 0)


def test_what_the_old_source_held_after_its_successor_was_last_seen_to_follow_proves_nothing_of_that() -> None:
    w = streaming()
    w.look("orders", Look((ReplicaPosition(History("1", 1), 100), Channels(()))), "b")
    followed = w.now - 0.1
    w.look("orders", publisher(150, replace(SLOT, position=150)), after=10)
    w.look("reports", subscriber(replace(SUB, received=150)))
    assert w.of().recovery_point > followed + 5  # type: ignore[operator]
    failed_over(w, 160, replace(SLOT, position=150))
    assert w.of().recovery_point == pytest.approx(followed)


def test_a_successor_that_was_never_seen_to_follow_leaves_no_proof() -> None:
    w = streaming()
    failed_over(w, 110, SLOT)
    assert w.of().recovery_point is None


def test_a_source_that_lost_what_the_follower_holds_proves_nothing_more() -> None:
    w = streaming(200)
    proven = w.of().recovery_point
    w.look("reports", subscriber(replace(SUB, up=False, received=None)))
    for at in (150, 190, 230):
        w.look("orders", publisher(at, replace(SLOT, position=200)))
        w.look("reports", subscriber(replace(SUB, received=None)))
    assert w.of().recovery_point == proven


def test_a_guarded_channel_goes_on_after_a_failover() -> None:
    w = Watch()
    guarded = replace(SLOT, guarded=True)
    for _ in range(3):
        w.look("orders", publisher(100, guarded))
        w.look("reports", subscriber(SUB))
    failed_over(w, 110, guarded)
    w.look("reports", subscriber(replace(SUB, received=120)))
    w.look("orders", publisher(120, replace(guarded, position=120), branch=2), "b")
    assert w.of().recovery_point == pytest.approx(w.now - 0.1)
    assert w.of().source_region == "montreal"


def test_a_follower_that_got_further_than_the_successor_has_diverged() -> None:
    w = streaming(500)
    failed_over(w, 400, replace(SLOT, position=500))
    w.look("reports", subscriber(replace(SUB, received=500)))
    assert w.of().state is State.DIVERGED
    w.look("orders", publisher(700, replace(SLOT, position=700), branch=2), "b")
    assert w.of().state is State.DIVERGED, "what the successor wrote up to there never came"


def test_a_channel_that_the_successor_does_not_have_is_disconnected() -> None:
    w = streaming()
    failed_over(w, 110)
    assert w.of().state is State.DISCONNECTED


def test_two_sources_prove_nothing() -> None:
    w = streaming()
    w.look("orders", publisher(110, replace(SLOT, position=110), branch=2), "b")
    w.look("orders", publisher(120, replace(SLOT, position=120)))
    proven = w.of().recovery_point
    assert w.links["orders"].sources == 2
    w.look("reports", subscriber(replace(SUB, received=120)))
    w.look("orders", publisher(120, replace(SLOT, position=120)))
    assert w.of().recovery_point == proven


# ---- what ends


def test_a_subscription_that_is_gone_is_missed_while_its_channel_is_there() -> None:
    w = streaming()
    proven = w.of().recovery_point
    w.look("reports", subscriber(replace(SUB, channel=None, up=False, paused=True)))
    w.look("reports", subscriber())
    w.look("orders", publisher(120, replace(SLOT, active=False)))
    w.look("orders", publisher(120, replace(SLOT, active=False)))
    of = w.of()
    assert (of.state, of.recovery_point, of.lag_bytes) == (State.DISCONNECTED, proven, 20)
    assert of.behind_since is not None
    w.look("orders", publisher(130))
    assert w.names == set()


def test_a_subscription_that_is_gone_is_missed_while_its_source_is_out_of_sight() -> None:
    w = streaming()
    w.look("orders", GONE)
    w.look("reports", subscriber())
    assert w.of().state is State.DISCONNECTED
    w.look("orders", publisher(130))
    assert w.names == set()


def test_a_channel_that_serves_another_follower_is_not_missed_for_the_old_one() -> None:
    w = streaming()
    heir = replace(SUB, name="db/heir", identity="9", consumer="heir")
    for _ in range(3):
        w.look("reports", subscriber(heir))
        w.look("orders", publisher(100, replace(SLOT, consumer="heir")))
    assert w.names == {("reports", "db/heir")}


def test_an_entry_that_leaves_the_configuration_takes_its_half_along() -> None:
    w = streaming()
    w.reducer.drop("orders")
    w.look("reports", subscriber(SUB))
    assert (w.link()[1], w.of().recovery_point) == ("reports", None)
    w.reducer.drop("reports")
    assert w.names == set()


# ---- items


def test_items_are_counted_on_either_side_and_only_if_both_lists_are_known() -> None:
    w = streaming()
    takes = replace(SUB, takes=frozenset({"all", "more"}), items=frozenset({"t", "old"}))
    w.look("reports", subscriber(takes))
    w.look("orders", publisher(100, SLOT, all={"t", "u", "v"}, more={"v"}))
    assert w.reducer.items(("reports", "db/sub")) == (2, 1)
    w.look("orders", publisher(100, SLOT, all={"t"}))
    assert w.reducer.items(("reports", "db/sub")) == (0, 1), "an offer that is not there offers nothing"
    w.look("orders", publisher(100, SLOT))
    assert w.reducer.items(("reports", "db/sub")) is None
    w.look("orders", publisher(100, SLOT, all={"t"}))
    w.look("reports", subscriber(replace(takes, items=None)))
    assert w.reducer.items(("reports", "db/sub")) is None


# ---- what is remembered


def test_a_restart_goes_on_where_it_was() -> None:
    w = streaming()
    before = w.of()
    again = w.restarted()
    of = again.of()
    assert (of.recovery_point, of.state, again.link()) == (before.recovery_point, State.UNKNOWN, w.link())
    again.look("reports", subscriber(SUB))
    again.look("orders", publisher(100, SLOT))
    assert again.of().state is State.STREAMING
    assert again.of().recovery_point > before.recovery_point  # type: ignore[operator]


def test_a_restart_forgets_neither_an_error_nor_a_gap() -> None:
    w = streaming()
    w.look("reports", subscriber(replace(SUB, up=False, apply_failures=1)))
    w.look("orders", publisher(120))
    again = w.restarted()
    again.look("reports", subscriber(replace(SUB, up=False, apply_failures=1)))
    assert again.of().state is State.ERROR
    again.look("orders", publisher(140, replace(SLOT, position=140)))
    again.look("reports", subscriber(replace(SUB, apply_failures=1, received=140)))
    again.look("orders", publisher(140, replace(SLOT, position=140)))
    assert again.of().recovery_point == w.of().recovery_point


def test_a_moment_in_the_future_is_dropped_at_a_restart() -> None:
    w = streaming()
    text = w.reducer.document("reports", lambda moment: moment)
    _, followers = remembered(text, plan("reports").link, lambda wall: wall, 900.0)  # type: ignore[arg-type, return-value]
    assert followers["db/sub"].proven is None
    assert followers["db/sub"].source == "orders"


@pytest.mark.parametrize("text", ["[]", "{}", '{"system": "x", "followers": {"a": {"nonsense": 1}}}', "null"])
def test_what_was_not_written_by_this_version_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        remembered(text, plan("reports").link, lambda wall: wall, 0.0)  # type: ignore[arg-type, return-value]


# ---- any history


@dataclass
class Truth:
    """A source that commits, and a follower that applies in order; what is acknowledged is what counts."""

    commits: list[tuple[float, int]] = field(default_factory=list)
    """When, and where each ends."""
    position: int = 100
    applied: int = 100
    up: bool = True
    paused: bool = False
    failures: int = 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["commit", "housekeeping", "apply", "source", "follower", "hide", "pause", "resume", "fail", "restart"]
        ),
        st.integers(1, 40),
        st.floats(0.01, 3.0),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans())
def test_whatever_happens_t_and_behind_since_are_true(steps: list[tuple[str, int, float]], tells: bool) -> None:
    w, true = Watch(), Truth()
    last: Any = None

    def look(which: str) -> None:
        if which == "source":
            w.look("orders", publisher(true.position, replace(SLOT, position=true.applied, active=true.up)))
        else:
            now = replace(
                SUB,
                up=true.up,
                paused=true.paused,
                received=true.applied if true.up else None,
                position=true.applied if tells else None,
                apply_failures=true.failures,
            )
            w.look("reports", subscriber(now))

    for step, size, pause in steps:
        w.now += pause
        if step in ("commit", "housekeeping"):
            true.position += size
            if step == "commit":
                true.commits.append((w.now, true.position))
        elif step == "apply" and true.up:
            true.applied = min(true.position, true.applied + size)
        elif step in ("pause", "resume"):
            true.paused = step == "pause"
            true.up = not true.paused
        elif step == "fail" and true.up:
            true.failures += 1
        elif step == "hide":
            w.look("orders" if size % 2 else "reports", GONE)
        elif step == "restart":
            w = w.restarted()
        elif step in ("source", "follower"):
            look(step)
        if ("reports", "db/sub") not in w.names:
            continue
        of = w.of()
        t = of.recovery_point
        if t is not None:
            assert t <= w.now
            assert all(end <= true.applied for at, end in true.commits if at < t)
            assert last is None or t >= last
            last = t
        if of.behind_since is not None:
            assert of.behind_since <= w.now
            assert t is None or t <= of.behind_since
        if of.state in (State.STREAMING, State.CATCHING_UP):
            assert t is not None
