"""Is it within its objective, certainly not, or can nobody tell? The rules that page, table and exit code share.

The true exposure of a replica lies between two bounds, so there are two ways to break an objective: when the lower
bound breaks it, data *is* behind; when only the upper one does, we are *blind*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from regiondrift.model import HouseStatus, LinkStatus, ReplicaStatus, State, TargetStatus


class Verdict(Enum):
    """What is known of a link or a replica, worst first."""

    BROKEN = "broken"
    """Two nodes accept writes, histories diverged, or no copy is usable: whatever the objective."""
    BEHIND = "behind"
    """Certainly behind its objective."""
    UNPROVEN = "unproven"
    """It may be behind its objective: the proof is older, or there is none."""
    UNKNOWN = "unknown"
    """Nothing is known of an expected replica."""
    OK = "ok"
    UNJUDGED = "unjudged"
    """No objective is configured."""

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return _RANK[self]

    @property
    def certain(self) -> bool:
        return self in (Verdict.BROKEN, Verdict.BEHIND)

    @property
    def doubtful(self) -> bool:
        return self in (Verdict.UNPROVEN, Verdict.UNKNOWN)


_RANK: Final = {verdict: i for i, verdict in enumerate(Verdict)}
_BROKEN: Final = frozenset({State.SPLIT_BRAIN, State.DIVERGED, State.NO_USABLE_COPY})


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much would be lost if the source were lost now; seconds."""

    at_most: float | None
    """None: nothing is proven, or histories went apart, so that what was proven bounds nothing."""
    at_least: float | None
    """None: nothing is known to be missing."""


def exposure(replica: ReplicaStatus, now: float) -> Exposure:
    """Both bounds at `now` (Unix time)."""
    proven = None if replica.state in _BROKEN else replica.recovery_point
    at_most = None if proven is None else max(0.0, now - proven)
    at_least = None if replica.behind_since is None else max(0.0, now - replica.behind_since)
    return Exposure(at_most, at_least)


def of_replica(replica: ReplicaStatus, objective: float | None, now: float) -> Verdict:
    """The verdict on one replica at `now` (Unix time), its link's objective being `objective` seconds."""
    if replica.state in _BROKEN:
        return Verdict.BROKEN
    bounds = exposure(replica, now)
    if objective is None:
        return Verdict.UNKNOWN if bounds.at_most is None else Verdict.UNJUDGED
    objective += replica.intended_delay
    if bounds.at_least is not None and bounds.at_least > objective:
        return Verdict.BEHIND
    if bounds.at_most is None or bounds.at_most > objective:
        return Verdict.UNPROVEN
    return Verdict.OK


def of_link(link: LinkStatus, now: float, expected: int = 0) -> Verdict:
    """The worst verdict on its replicas, of which there should be `expected`."""
    if link.sources is not None and link.sources > 1:
        return Verdict.BROKEN
    found = [of_replica(replica, link.objective, now) for replica in link.replicas]
    if len(found) < expected:
        found.append(Verdict.UNKNOWN)
    if not found:
        return Verdict.UNJUDGED if link.objective is None else Verdict.OK
    return min(found, key=lambda verdict: verdict.rank)


def expected_replicas(targets: Iterable[TargetStatus]) -> dict[tuple[str, str], int]:
    """Replicas that each link, named by system and entry, should have: its nodes less one, and one at least where whoever
    knows the nodes is not seen."""
    nodes: Counter[tuple[str, str]] = Counter()
    least: Counter[tuple[str, str]] = Counter()
    for target in targets:
        link = (target.collector, target.entry)
        nodes[link] += target.node
        least[link] |= not target.node and not target.success
    return {link: max(n - 1, least[link]) for link, n in nodes.items()}


Judged: TypeAlias = tuple[LinkStatus, Verdict, int]
"""A link, its verdict, and the number of its expected replicas that are not there."""


def of_links(status: HouseStatus) -> list[Judged]:
    """Every link with its verdict; worst first, then by name."""
    expected = expected_replicas(status.targets)
    judged = []
    for link in status.links:
        replicas = expected.get((link.system, link.link), 0)
        judged.append((link, of_link(link, status.now, replicas), max(0, replicas - len(link.replicas))))
    judged.sort(key=lambda it: (it[1].rank, it[0].system, it[0].link))
    return judged


def exit_code(status: HouseStatus) -> int:
    """1 if anything is certainly broken, else 2 if anything is unknown or a target was not looked at, else 0."""
    verdicts = [verdict for _, verdict, _ in of_links(status)]
    if any(verdict.certain for verdict in verdicts):
        return 1
    if any(verdict.doubtful for verdict in verdicts) or any(not target.success for target in status.targets):
        return 2
    return 0


def sentence(status: HouseStatus, judged: Iterable[Judged]) -> str:
    """The one thing to know, in one sentence. `judged` is `of_links(status)`."""
    counts = Counter(verdict for _, verdict, _ in judged)
    bad = [
        _count(counts[verdict], singular, plural)
        for verdict, singular, plural in (
            (Verdict.BROKEN, "is broken", "are broken"),
            (Verdict.BEHIND, "is behind its objective", "are behind their objective"),
            (Verdict.UNPROVEN, "cannot be proven", "cannot be proven"),
            (Verdict.UNKNOWN, "is unknown", "are unknown"),
        )
        if counts[verdict]
    ]
    failing = sum(target.success is False for target in status.targets)
    pending = sum(target.success is None for target in status.targets)
    blind = [_nodes(failing, "cannot be looked at")] if failing else []
    if bad:
        return "; ".join([", ".join(bad), *blind]) + "."
    return (
        "; ".join([_good(status, counts), *blind, *([_nodes(pending, "not looked at yet")] if pending else [])]) + "."
    )


def _good(status: HouseStatus, counts: Counter[Verdict]) -> str:
    ok, unjudged = counts[Verdict.OK], counts[Verdict.UNJUDGED]
    if not status.links:
        return "No link is configured" if status.targets else "Nothing is configured"
    if not ok:
        return "The link has no objective" if unjudged == 1 else f"None of the {unjudged} links has an objective"
    words = "The link is within its objective" if ok == 1 else f"All {ok} links are within their objective"
    return words + (f", {unjudged} more {'has' if unjudged == 1 else 'have'} none" if unjudged else "")


def _count(n: int, singular: str, plural: str) -> str:
    return f"{n} link {singular}" if n == 1 else f"{n} links {plural}"


def _nodes(n: int, words: str) -> str:
    return f"{n} target {words}" if n == 1 else f"{n} targets {words}"
