"""What is said of a link: against histories whose truth the test knows."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from regiondrift.model import (
    Failure,
    History,
    Link,
    LinkState,
    LinkStatus,
    Look,
    Plan,
    Reason,
    ReplicaPosition,
    ReplicaStatus,
    SourcePosition,
    State,
    Target,
)
from regiondrift.reduce import said
from regiondrift.reduce.memory import LinkMemory, remembered
from regiondrift.reduce.recovery import LinkReducer
from regiondrift.state import Key

INTERVAL = 1.0
GONE = Failure(Reason.UNREACHABLE, "gone")


def plan(*nodes: str, identity: str | None = None) -> Plan:
    targets = tuple(Target("orders", n, f"region-{n}", None) for n in nodes or ("a", "b"))
    return Plan("postgresql", "orders", targets, INTERVAL, 10.0, Link("postgresql", 30.0, identity))


def source(position: int, branch: int = 1, system: str = "1") -> Look:
    return Look((SourcePosition(History(system, branch), position),))


def replica(
    position: int, branch: int = 1, system: str = "1", *, up: bool | None = True, floor: int | None = None, **link: bool
) -> Look:
    at = ReplicaPosition(History(system, branch), position, floor)
    return Look((at, LinkState(up=up, paused=link.get("paused", False))))


@dataclass
class Watch:
    """A link, looked at as the test says."""

    nodes: tuple[str, ...] = ("a", "b")
    identity: str | None = None
    memory: LinkMemory = field(default_factory=LinkMemory)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.link = LinkReducer(plan(*self.nodes, identity=self.identity), self.memory, self.now)

    def look(self, node: str, result: Look | Failure, pause: float = 0.1) -> dict[str, Failure | None]:
        """A look at `node` that takes a hundredth of a second, `pause` after the one before."""
        self.now += pause
        asked, self.now = self.now, self.now + 0.01
        settled = self.link.observe(node, result, asked, self.now)
        said.samples(self.link, self.now)
        return {s.node: s.failure for s in settled}

    @property
    def status(self) -> LinkStatus:
        return said.status(self.link, self.now, lambda moment: moment)

    def of(self, node: str) -> ReplicaStatus | None:
        return next((r for r in self.status.replicas if r.replica == node), None)

    def state(self, node: str) -> State | None:
        one = self.of(node)
        return one.state if one else None

    def restarted(self) -> Watch:
        """The exporter again, with what the state file had."""
        change = self.link.changes(Key("postgresql", "orders"), lambda moment: moment)
        rows = sorted(change.upserts.items())
        memory = remembered(plan(*self.nodes).link, change.document, rows, lambda wall: wall, self.now)  # type: ignore[arg-type, return-value]
        return Watch(self.nodes, self.identity, memory, self.now)


def healthy() -> Watch:
    w = Watch()
    w.look("a", source(100))
    w.look("b", replica(100))
    return w


# ---- the two bounds


def test_an_idle_source_and_its_copy_are_proven_up_to_the_last_looks() -> None:
    w = healthy()
    for _ in range(100):
        w.look("a", source(100), 0.5)
        w.look("b", replica(100), 0.5)
    b = w.of("b")
    assert b is not None
    assert w.now - (b.recovery_point or 0) < 1
    assert b.behind_since is None
    assert b.state is State.STREAMING
    assert w.status.sources == 1


def test_a_cut_link_stands_still_from_the_first_byte_the_source_writes() -> None:
    w = healthy()
    w.look("a", source(200), 1)
    written = w.now
    for _ in range(60):
        w.look("b", replica(100), 0.5)
        w.look("a", source(300), 0.5)
    b = w.of("b")
    assert b is not None
    assert b.recovery_point is not None
    assert b.recovery_point < written
    assert b.behind_since == written
    assert b.state is State.CATCHING_UP


def test_a_replica_that_cannot_be_looked_at_keeps_its_recovery_point_and_nothing_else() -> None:
    w = healthy()
    proven = w.of("b").recovery_point  # type: ignore[union-attr]
    w.look("b", GONE)
    for _ in range(10):
        w.look("a", source(100), 1)
    b = w.of("b")
    assert b is not None
    assert b.recovery_point == proven
    assert (b.state, b.behind_since, b.lag_bytes, b.reported_lag) == (State.UNREACHABLE, None, None, None)
    assert w.status.sources is None


def test_while_the_source_is_unseen_the_replicas_own_word_about_its_link_counts() -> None:
    w = healthy()
    w.look("a", GONE)
    assert w.state("b") is State.STREAMING
    w.look("b", replica(100), 4)
    assert w.state("b") is State.CATCHING_UP
    w.look("b", replica(100, up=False))
    assert w.state("b") is State.DISCONNECTED
    assert w.of("b").lag_bytes is None  # type: ignore[union-attr]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, float, float, float, int]]:
    """(what, how long before, how long asking, how long answering, growth): commits, replays and looks in any order."""
    kinds = st.sampled_from(["commit", "replay", "source", "replica", "cut", "blind"])
    pause = st.floats(0.0, 3.0, allow_nan=False)
    return draw(st.lists(st.tuples(kinds, pause, pause, pause, st.integers(1, 50)), max_size=120))


@given(histories())
@settings(max_examples=300, deadline=None)
def test_the_truth_always_lies_between_the_bounds(history: list[tuple[str, float, float, float, int]]) -> None:
    """A source commits, a replica replays what it likes of it; looks take time and happen in any order. What is said
    is held against what the test knows: when everything was committed, and where the replica was."""
    w = Watch()
    now, committed, replayed = 1000.0, 0, 0
    commits: list[tuple[float, int]] = [(now, 0)]
    for what, before, asking, answering, growth in history:
        now += before
        if what == "commit":
            committed += growth
            commits.append((now, committed))
        elif what == "replay":
            replayed = min(committed, replayed + growth)
        elif what == "blind":
            w.link.observe("b", GONE, now, now)
        elif what in ("source", "replica"):
            # The source goes on committing and the replica replaying while they are asked and while they answer.
            asked, now = now, now + asking
            committed, replayed = committed + growth, min(committed, replayed + growth // 2)
            commits.append((now, committed))
            result = source(committed) if what == "source" else replica(replayed)
            now += answering / 2
            committed, replayed = committed + growth, min(committed, replayed + growth // 2)
            commits.append((now, committed))
            now += answering / 2
            w.link.observe("a" if what == "source" else "b", result, asked, now)
        w.now = now
        b = w.of("b")
        if b is None:
            continue
        if b.recovery_point is not None:
            assert b.recovery_point <= now
            # "By then" is before then: the test has commits at the very instant of a question, a clock has not.
            held_by_then = commits[max(bisect_left(commits, (b.recovery_point, -1)) - 1, 0)][1]
            assert held_by_then <= replayed, "T claims what is not there"
        if b.behind_since is not None:
            assert b.recovery_point is None or b.recovery_point <= b.behind_since
            assert b.behind_since <= now


# ---- sources, failovers, split brain


def test_before_a_source_was_ever_seen_only_nodes_that_say_they_are_replicas_have_series() -> None:
    w = Watch(("a", "b", "c"))
    w.look("a", GONE)
    w.look("b", replica(100))
    w.look("c", GONE)
    assert [r.replica for r in w.status.replicas] == ["b"]
    assert w.status.replicas[0].source_region == ""
    assert w.state("b") is State.UNKNOWN
    w.look("a", source(100))
    assert [r.replica for r in w.status.replicas] == ["b", "c"]
    assert w.status.replicas[0].source_region == "region-a"


def test_a_failover_is_counted_once_and_keeps_what_was_proven() -> None:
    w = healthy()
    proven = w.of("b").recovery_point  # type: ignore[union-attr]
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    for _ in range(5):
        w.look("b", source(120, branch=2))
    assert (w.status.failovers, w.status.failover_recovery_point, w.status.source) == (1, proven, "b")
    assert [r.replica for r in w.status.replicas] == ["a"]
    assert w.state("a") is State.UNREACHABLE
    assert w.status.sources is None


def test_the_old_source_follows_the_new_one_without_a_resync() -> None:
    w = healthy()
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    w.look("a", replica(120, branch=2, floor=90))
    w.look("b", source(120, branch=2))
    a = w.of("a")
    assert a is not None
    assert (a.state, a.resyncs, w.status.failovers) == (State.STREAMING, 0, 1)


def test_two_nodes_that_accept_writes_prove_nothing_and_are_no_failover() -> None:
    w = healthy()
    proven = w.of("b").recovery_point  # type: ignore[union-attr]
    w.look("b", source(110, branch=2))
    for _ in range(5):
        w.look("a", source(150))
        w.look("b", source(160, branch=2))
    assert (w.status.sources, w.state("b"), w.state("a"), w.status.failovers) == (2, State.SPLIT_BRAIN, None, 0)
    assert w.of("b").recovery_point == proven  # type: ignore[union-attr]


def test_a_source_that_may_have_ended_before_the_promotion_is_no_second_one() -> None:
    w = healthy()
    w.look("a", source(110))
    w.look("b", source(120, branch=2))
    assert (w.status.sources, w.state("b"), w.status.failovers) == (None, State.UNKNOWN, 0)
    w.look("a", GONE)
    assert (w.status.sources, w.state("a"), w.state("b"), w.status.failovers) == (None, State.UNREACHABLE, None, 1)


def test_two_that_are_seen_to_accept_writes_from_the_start_split_the_brain_once_one_was_confirmed() -> None:
    w = Watch()
    w.look("a", source(110))
    w.look("b", source(120, branch=2))
    assert (w.status.sources, w.state("b")) == (None, State.UNKNOWN)
    w.look("a", source(110))
    assert (w.status.sources, w.state("b")) == (2, State.SPLIT_BRAIN)


def test_a_split_brain_ends_with_the_first_look_that_misses_one_of_the_two() -> None:
    w = healthy()
    w.look("b", source(110, branch=2))
    w.look("a", source(150))
    assert (w.status.sources, w.state("b"), w.status.failovers) == (2, State.SPLIT_BRAIN, 0)
    w.look("a", GONE)
    assert (w.status.sources, w.state("a"), w.state("b"), w.status.failovers) == (None, State.UNREACHABLE, None, 1)


def test_a_promoted_node_keeps_nothing_of_the_link_that_it_had_as_a_replica() -> None:
    w = Watch()
    streams = Look((ReplicaPosition(History("1", 1), 100), LinkState(up=True, name="b", session="7")))
    w.look("a", Look((SourcePosition(History("1", 1), 100, frozenset({"b"})),)))
    w.look("b", streams)
    w.look("a", Look((SourcePosition(History("1", 1), 100, frozenset({"b"})),)))
    w.look("a", source(100))
    assert w.state("b") is State.DISCONNECTED
    w.look("b", source(110, branch=2))
    assert w.state("b") is State.UNKNOWN


def test_the_end_of_a_split_brain_in_favour_of_the_old_source_is_no_failover() -> None:
    w = healthy()
    w.look("b", source(110, branch=2))
    w.look("a", source(150))
    w.look("b", replica(100, branch=1))
    assert (w.status.sources, w.status.failovers, w.status.source) == (1, 0, "a")


def test_a_split_brain_seen_one_side_at_a_time_counts_one_failover() -> None:
    w = healthy()
    w.look("b", source(110, branch=2))
    for _ in range(3):
        w.look("a", GONE)
        w.look("b", source(120, branch=2))
        w.look("a", source(150))
        w.look("b", GONE)
        w.look("a", source(160))
        w.look("b", source(130, branch=2))
    assert w.status.failovers == 1


def test_what_an_old_source_proved_while_the_new_one_was_unseen_does_not_count_for_the_new_one() -> None:
    w = Watch(("a", "b", "c"))
    for node, look in (("a", source(100)), ("b", replica(100)), ("c", replica(100))):
        w.look(node, look)
    followed = w.now
    w.look("b", GONE)
    for i in range(10):
        w.look("a", source(101 + i), 1)
        w.look("c", replica(101 + i))
    w.look("a", GONE)
    w.look("b", source(150, branch=2))
    c = w.of("c")
    assert c is not None
    assert c.recovery_point is not None
    assert c.recovery_point <= followed, "b may have accepted writes ever since, and c has none of them"


def test_samples_of_the_old_source_prove_nothing_once_there_is_a_new_one() -> None:
    w = Watch(("a", "b", "c"))
    for node, look in (("a", source(100)), ("b", replica(100)), ("c", replica(100))):
        w.look(node, look)
    followed = w.now
    w.look("a", source(101), 5)
    w.look("b", source(150, branch=2))
    w.look("a", GONE)
    assert w.status.source == "b"
    w.look("c", replica(101))
    c = w.of("c")
    assert c is not None
    assert c.recovery_point is not None
    assert c.recovery_point <= followed, "that it has everything of a says nothing of b"


def test_nothing_is_proven_against_a_new_source_that_was_never_seen_to_follow() -> None:
    w = Watch(("a", "b", "c"))
    w.look("b", GONE)
    w.look("a", source(100))
    w.look("c", replica(100))
    w.look("a", GONE)
    w.look("b", source(150, branch=2))
    assert (w.status.failovers, w.of("c").recovery_point) == (1, None)  # type: ignore[union-attr]


def test_a_failover_in_sight_takes_nothing_from_the_others() -> None:
    w = Watch(("a", "b", "c"))
    for node, look in (("a", source(100)), ("b", replica(90)), ("c", replica(100)), ("a", source(100))):
        w.look(node, look)
    proven = w.of("c").recovery_point  # type: ignore[union-attr]
    w.look("a", GONE)
    w.look("b", replica(90))
    w.look("b", source(100, branch=2))
    assert (w.status.failovers, w.of("c").recovery_point) == (1, proven)  # type: ignore[union-attr]


def test_after_a_restart_no_failover_is_counted_before_every_node_had_its_look() -> None:
    split = healthy().restarted()
    split.look("b", source(110, branch=2))
    assert (split.status.source, split.status.failovers) == ("a", 0), "the old source may accept writes as well"
    split.look("a", source(150))
    split.look("b", source(120, branch=2))
    assert (split.status.sources, split.state("b"), split.status.failovers) == (2, State.SPLIT_BRAIN, 0)
    over = healthy().restarted()
    over.look("b", source(110, branch=2))
    over.look("a", GONE)
    assert (over.status.source, over.status.failovers) == ("b", 1)


def test_every_node_seen_and_none_accepting_writes_is_no_source() -> None:
    w = Watch(("a", "b", "c"))
    w.look("a", source(100))
    w.look("b", replica(100))
    w.look("c", replica(100))
    w.look("a", replica(100))
    assert w.status.sources == 0
    assert w.state("b") is State.NO_SOURCE
    proven = w.of("b").recovery_point  # type: ignore[union-attr]
    w.look("b", replica(100), 5)
    assert w.of("b").recovery_point == proven  # type: ignore[union-attr]


def test_a_replica_that_knows_its_branch_from_its_link_alone_keeps_it_when_the_link_is_cut() -> None:
    w = healthy()
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    w.look("a", replica(110, branch=2, floor=90))
    w.look("b", source(120, branch=2))
    w.look("a", replica(110, branch=1, floor=90, up=False))
    w.look("b", source(130, branch=2))
    a = w.of("a")
    assert a is not None
    assert (a.state, a.lag_bytes, a.behind_since is None) == (State.DISCONNECTED, 20, False)
    w.look("a", replica(110, branch=1, floor=95, up=False))
    assert w.of("a").lag_bytes is None, "another copy, and nobody knows of which branch"  # type: ignore[union-attr]


def test_positions_of_two_branches_are_never_compared() -> None:
    w = Watch(("a", "b", "c"))
    w.look("a", source(100))
    w.look("b", replica(100))
    w.look("c", replica(90))
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    w.look("c", replica(105, branch=1, up=False))
    w.look("b", source(111, branch=2))
    c = w.of("c")
    assert c is not None
    assert (c.recovery_point, c.lag_bytes, c.behind_since) == (None, None, None)
    assert c.state is State.DISCONNECTED


# ---- what the other end of the link knows


def fed(position: int, *names: str) -> Look:
    return Look((SourcePosition(History("1", 1), position, frozenset(names)),))


def receiving(position: int, name: str, session: str) -> Look:
    return Look((ReplicaPosition(History("1", 1), position), LinkState(up=True, name=name, session=session)))


def test_a_session_that_the_source_has_ended_is_disconnected_before_the_replica_knows() -> None:
    w = Watch()
    w.look("b", receiving(100, "walreceiver", "17"))
    w.look("a", fed(100, "walreceiver"))
    assert w.state("b") is State.STREAMING
    w.look("a", fed(100))
    assert w.state("b") is State.DISCONNECTED
    w.look("b", receiving(100, "walreceiver", "17"))
    assert w.state("b") is State.DISCONNECTED
    w.look("b", receiving(100, "walreceiver", "18"))
    assert w.state("b") is State.STREAMING, "a new session: its own word counts"


def test_a_replica_that_something_else_feeds_is_not_judged_by_the_source() -> None:
    w = Watch()
    for _ in range(3):
        w.look("b", receiving(100, "cascade", "17"))
        w.look("a", fed(100, "another"))
    assert w.state("b") is State.STREAMING


def test_a_name_that_two_replicas_share_tells_nothing() -> None:
    w = Watch(("a", "b", "c"))
    w.look("b", receiving(100, "walreceiver", "17"))
    w.look("c", receiving(100, "walreceiver", "99"))
    w.look("a", fed(100, "walreceiver"))
    w.look("a", fed(100))
    assert w.state("b") is State.STREAMING
    assert w.state("c") is State.STREAMING


# ---- divergence


def test_a_standby_above_the_branch_of_a_source_seen_writing_has_diverged() -> None:
    w = healthy()
    w.look("b", replica(120, branch=2, up=False))
    assert w.state("b") is State.DISCONNECTED, "a promotion of a third node could explain it"
    w.look("a", source(130))
    assert w.state("b") is State.DIVERGED
    w.look("b", GONE)
    assert w.state("b") is State.DIVERGED, "remembered while unseen"
    w.look("b", replica(130, branch=1))
    w.look("a", source(130))
    assert w.state("b") is State.STREAMING


def test_a_standby_that_went_on_after_its_branch_was_left_has_diverged() -> None:
    w = healthy()
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    w.look("a", replica(150, branch=1, up=False))
    w.look("b", source(160, branch=2))
    assert w.state("a") is State.DIVERGED
    w.look("a", replica(160, branch=2))
    assert w.state("a") is State.STREAMING, "pg_rewind, and it follows"


def test_a_replica_whose_control_file_still_shows_the_old_branch_has_not_diverged() -> None:
    w = Watch(("a", "b", "c"))
    w.look("a", source(100))
    w.look("b", replica(100))
    w.look("c", replica(100))
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    w.look("c", replica(150, branch=2))
    w.look("c", replica(150, branch=1, up=False))
    w.look("b", source(160, branch=2))
    assert w.state("c") is State.DISCONNECTED


def test_a_replica_past_a_source_that_lost_its_newest_writes_holds_another_history() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", replica(500))
    proven = w.of("b").recovery_point  # type: ignore[union-attr]
    w.look("a", source(400), 10)
    assert w.state("b") is State.DIVERGED
    for i in range(10):
        w.look("a", source(450 + 100 * i), 1)
        w.look("b", replica(500), 1)
    b = w.of("b")
    assert b is not None
    assert (b.state, b.recovery_point) == (State.DIVERGED, proven), "what the source writes there now is not on it"
    assert w.restarted().state("b") is State.DIVERGED


def test_a_replica_past_the_source_that_is_looked_at_after_it_is_no_copy_of_it() -> None:
    """The source was set back while nobody looked, or by less than a look."""
    w = Watch()
    w.look("b", replica(505))
    w.look("a", source(502))
    for i in range(10):
        w.look("b", replica(505), 1)
        w.look("a", source(510 + i), 1)
    b = w.of("b")
    assert b is not None
    assert (b.state, b.recovery_point) == (State.DIVERGED, None)


def test_a_source_that_lost_half_a_record_has_lost_nothing() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", replica(490))
    w.look("a", source(490))
    w.look("b", replica(490))
    assert w.state("b") is State.STREAMING


# ---- rebuilt copies


def test_a_copy_replaced_by_an_older_one_is_withdrawn_and_counted_once() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", replica(500, floor=400))
    w.look("b", replica(300, floor=300))
    b = w.of("b")
    assert b is not None
    assert (b.recovery_point, b.state, b.resyncs) == (None, State.RESYNCING, 1)
    w.look("b", replica(350, floor=300))
    w.look("b", replica(500, floor=300))
    w.look("a", source(500))
    b = w.of("b")
    assert b is not None
    assert (b.state, b.resyncs) == (State.STREAMING, 1)


def test_a_copy_from_before_the_failover_is_older_too() -> None:
    w = Watch(("a", "b", "c"))
    w.look("a", source(100))
    w.look("c", replica(100, floor=90))
    w.look("a", GONE)
    w.look("b", source(110, branch=2))
    w.look("c", replica(150, branch=2, floor=120))
    w.look("b", source(150, branch=2))
    w.look("c", replica(80, branch=1, floor=70))
    c = w.of("c")
    assert c is not None
    assert (c.recovery_point, c.state, c.resyncs) == (None, State.RESYNCING, 1)
    w.look("c", replica(150, branch=2, floor=70))
    w.look("b", source(150, branch=2))
    c = w.of("c")
    assert c is not None
    assert (c.state, c.resyncs) == (State.STREAMING, 1)


def test_a_restart_that_replays_anew_lowers_the_claim_and_is_no_resync() -> None:
    w = Watch()
    w.look("a", source(400))
    early = w.now
    w.look("a", source(500), 10)
    w.look("b", replica(500, floor=300))
    w.look("b", replica(450, floor=300))
    b = w.of("b")
    assert b is not None
    assert b.recovery_point is not None
    assert b.recovery_point <= early
    assert b.resyncs == 0
    w.look("b", replica(500, floor=300))
    assert w.of("b").recovery_point > early  # type: ignore[union-attr, operator]


def copying(position: int, *receivers: str) -> Look:
    return Look((SourcePosition(History("1", 1), position, copies=frozenset(receivers)),))


def back(position: int, up_for: float, *known_as: str) -> Look:
    at = ReplicaPosition(History("1", 1), position, known_as=frozenset(known_as), up_for=up_for)
    return Look((at, LinkState(up=True)))


def test_a_whole_copy_sent_to_a_replica_that_was_away_is_a_resync_counted_once() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", back(500, 1000.0, "10.0.0.2"))
    w.look("b", GONE)
    w.look("a", copying(600, "pg_basebackup", "10.0.0.2"))
    w.look("a", copying(700, "pg_basebackup", "10.0.0.2"))
    w.look("a", source(700))
    assert w.of("b").resyncs == 0  # type: ignore[union-attr]
    w.look("b", back(650, 0.05, "10.0.0.2"))
    b = w.of("b")
    assert b is not None
    assert (b.resyncs, b.recovery_point is not None) == (1, True)
    w.look("b", back(700, 1.0, "10.0.0.2"))
    assert w.of("b").resyncs == 1  # type: ignore[union-attr]


def test_a_copy_taken_while_the_replica_was_up_all_along_is_no_resync() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", back(500, 1000.0, "10.0.0.2"))
    w.look("b", GONE)
    w.look("a", copying(600, "10.0.0.2"))
    w.look("b", back(500, 1001.0, "10.0.0.2"))
    w.look("b", GONE)
    w.look("b", back(500, 0.01, "10.0.0.2"))
    assert w.of("b").resyncs == 0  # type: ignore[union-attr]


def test_a_replica_that_may_have_been_up_before_the_copy_is_no_resync() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", back(500, 100.0, "10.0.0.2"))
    w.look("b", GONE)
    w.look("a", copying(500, "10.0.0.2"))
    copied_at = w.now
    # It was asked at once, and answered four seconds later: it came up within those four seconds, before or after.
    w.link.observe("b", back(500, 2.0, "10.0.0.2"), copied_at + 0.1, copied_at + 4.1)
    assert w.of("b").resyncs == 0  # type: ignore[union-attr]


def test_a_copy_for_one_of_two_that_share_an_address_tells_nothing() -> None:
    w = Watch(("a", "b", "c"))
    w.look("a", source(500))
    for node in ("b", "c"):
        w.look(node, back(500, 1000.0, "10.0.0.2"))
        w.look(node, GONE)
    w.look("a", copying(600, "10.0.0.2"))
    for node in ("b", "c"):
        w.look(node, back(600, 0.01, "10.0.0.2"))
        assert w.of(node).resyncs == 0  # type: ignore[union-attr]


def test_a_copy_is_remembered_over_a_restart_of_the_exporter() -> None:
    w = Watch()
    w.look("a", source(500))
    w.look("b", back(500, 1000.0, "10.0.0.2"))
    w.look("b", GONE)
    w.look("a", copying(600, "10.0.0.2"))
    again = w.restarted()
    again.look("b", back(600, 0.01, "10.0.0.2"))
    assert again.of("b").resyncs == 1  # type: ignore[union-attr]


# ---- cascades and delays


def hop(position: int, name: str, *feeds: str) -> Look:
    at = ReplicaPosition(History("1", 1), position, feeds=frozenset(feeds))
    return Look((at, LinkState(up=True, name=name, session="1")))


def test_a_cascade_is_measured_against_the_root_and_says_which_hop_holds_it_up() -> None:
    w = Watch(("a", "b", "c"))
    for i in range(10):
        w.look("a", fed(100 + i, "b"), 0.5)
        w.look("b", hop(100 + i, "b", "c"), 0.25)
        w.look("c", hop(100, "c"), 0.25)
    b, c = w.of("b"), w.of("c")
    assert b is not None
    assert c is not None
    assert (b.upstream, b.held_up) == ("a", None)
    assert (c.upstream, c.held_up) == ("b", "c")
    assert c.lag_bytes == 9
    for i in range(10):
        w.look("a", fed(200 + i, "b"), 0.5)
        w.look("b", hop(109, "b", "c"), 0.25)
        w.look("c", hop(109, "c"), 0.25)
    assert [w.of(n).held_up for n in ("b", "c")] == ["b", "b"]  # type: ignore[union-attr]


def test_a_way_that_nobody_tells_is_not_guessed() -> None:
    w = Watch(("a", "b"))
    for i in range(10):
        w.look("a", fed(100 + i, "another"), 0.5)
        w.look("b", hop(100, "b"), 0.5)
    assert (w.of("b").upstream, w.of("b").held_up) == (None, None)  # type: ignore[union-attr]


def test_an_intended_delay_is_remembered_while_the_replica_is_unseen() -> None:
    w = healthy()
    delayed = Look((ReplicaPosition(History("1", 1), 100), LinkState(up=True, intended_delay=3600.0)))
    w.look("b", delayed)
    assert w.state("b") is State.DELAYED
    w.look("b", GONE)
    assert w.of("b").intended_delay == 3600.0  # type: ignore[union-attr]
    assert w.restarted().of("b").intended_delay == 3600.0  # type: ignore[union-attr]


# ---- identity


def test_the_system_is_that_of_the_earliest_listed_node_of_the_first_round() -> None:
    w = Watch(("a", "b", "c"))
    assert w.look("b", replica(10, system="2")) == {}
    assert w.look("c", source(10, system="1")) == {}
    settled = w.look("a", source(100, system="1"))
    assert {n: f.reason if f else None for n, f in settled.items()} == {
        "a": None, "b": Reason.WRONG_SYSTEM, "c": None
    }  # fmt: skip


def test_a_first_node_that_fails_leaves_the_choice_to_the_next() -> None:
    w = Watch(("a", "b"))
    assert w.look("b", replica(10, system="2")) == {}
    assert w.look("a", GONE) == {"a": GONE, "b": None}
    refused = w.look("a", source(10, system="1"))["a"]
    assert refused is not None
    assert "2" in refused.detail
    assert w.state("a") is None, "a stranger is no replica before a source was seen"


def test_a_configured_identity_needs_no_first_round() -> None:
    w = Watch(("a", "b"), identity="7")
    assert w.look("b", replica(10, system="7")) == {"b": None}
    assert w.look("a", source(10, system="8"))["a"] is not None


def test_another_identity_leaves_nothing_known_of_the_nodes() -> None:
    w = healthy()
    w.link.reconfigure(plan("a", "b", identity="2"))
    assert (w.status.sources, w.status.replicas) == (None, ())
    w.look("b", source(10, branch=1, system="2"))
    assert w.status.source == "b", "what the old system's source was doing counts no more"


# ---- what is remembered


def test_a_restart_goes_on_where_it_was() -> None:
    w = healthy()
    for i in range(20):
        w.look("a", source(200 + i), 1)
    before = w.of("b")
    again = w.restarted()
    b = again.of("b")
    assert before is not None
    assert b is not None
    assert b.recovery_point == before.recovery_point
    assert (b.state, b.source_region) == (State.UNKNOWN, "region-a")
    again.look("b", replica(205))
    b = again.of("b")
    assert b is not None
    assert b.recovery_point is not None
    assert b.recovery_point > (before.recovery_point or 0), "old samples prove what the replica got meanwhile"


def test_what_lies_in_the_future_after_a_restart_is_dropped() -> None:
    w = healthy()
    w.look("a", source(200), 100)
    w.look("b", replica(200))
    w.look("a", source(300), 1)
    change = w.link.changes(Key("postgresql", "orders"), lambda moment: moment)
    early = 1050.0
    memory = remembered(plan().link, change.document, sorted(change.upserts.items()), lambda wall: wall, early)  # type: ignore[arg-type, return-value]
    assert memory.node("b").proven is None
    assert all(t <= early for t in (*memory.timeline.asked, *memory.timeline.answered))


def test_a_new_history_voids_the_samples_in_the_state_file_too() -> None:
    w = healthy()
    w.look("a", source(150), 1)
    w.link.changes(Key("postgresql", "orders"), lambda moment: moment)
    w.look("a", GONE)
    w.look("b", source(160, branch=2))
    change = w.link.changes(Key("postgresql", "orders"), lambda moment: moment)
    assert set(change.deletes) == {0, 1}
    assert set(change.upserts) == {2}
