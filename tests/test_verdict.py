"""Is a broken objective told from one that cannot be proven, and both from a healthy link?"""

from __future__ import annotations

import pytest

from house_status import NOW, empty, healthy, house, link, night, replica, target
from regiondrift.model import HouseStatus, LinkStatus, ReplicaStatus, State
from regiondrift.verdict import Verdict, exit_code, exposure, of_link, of_links, of_replica, sentence


@pytest.mark.parametrize(
    ("seen", "objective", "verdict"),
    [
        (replica(proven=1), 30.0, Verdict.OK),
        (replica(proven=30), 30.0, Verdict.OK),
        (replica(proven=31), 30.0, Verdict.UNPROVEN),
        (replica(proven=None), 30.0, Verdict.UNPROVEN),
        (replica(proven=31, behind=30), 30.0, Verdict.UNPROVEN),
        (replica(proven=40, behind=31), 30.0, Verdict.BEHIND),
        (replica(proven=None, behind=31), 30.0, Verdict.BEHIND),
        (replica(proven=4_000, behind=3_000), None, Verdict.UNJUDGED),
        (replica(proven=None), None, Verdict.UNKNOWN),
        (replica(proven=1, state=State.SPLIT_BRAIN), 30.0, Verdict.BROKEN),
        (replica(proven=1, state=State.DIVERGED), None, Verdict.BROKEN),
        (replica(proven=None, state=State.NO_USABLE_COPY), 30.0, Verdict.BROKEN),
        (replica(proven=2, state=State.DISCONNECTED), 30.0, Verdict.OK),
        (replica(proven=2, state=State.UNREACHABLE), 30.0, Verdict.OK),
    ],
)
def test_replica(seen: ReplicaStatus, objective: float | None, verdict: Verdict) -> None:
    assert of_replica(seen, objective, NOW) is verdict


def test_exposure_is_never_negative() -> None:
    bounds = exposure(replica(proven=-5, behind=-1), NOW)
    assert (bounds.at_most, bounds.at_least) == (0, 0)


@pytest.mark.parametrize("state", [State.SPLIT_BRAIN, State.DIVERGED, State.NO_USABLE_COPY])
def test_histories_that_went_apart_bound_nothing(state: State) -> None:
    assert exposure(replica(proven=5, behind=3, state=state), NOW).at_most is None


@pytest.mark.parametrize(
    ("seen", "expected", "verdict"),
    [
        (link("a", replica(), replica("b", proven=99)), 2, Verdict.UNPROVEN),
        (link("a", replica(), replica("b", proven=99), replica("c", proven=99, behind=98)), 3, Verdict.BEHIND),
        (link("a", replica()), 1, Verdict.OK),
        (link("a", replica()), 2, Verdict.UNKNOWN),
        (link("a"), 1, Verdict.UNKNOWN),
        (link("a"), 0, Verdict.OK),
        (link("a", objective=None), 0, Verdict.UNJUDGED),
        (link("a", replica(), sources=2), 1, Verdict.BROKEN),
    ],
)
def test_link_is_as_bad_as_its_worst_replica(seen: LinkStatus, expected: int, verdict: Verdict) -> None:
    assert of_link(seen, NOW, expected) is verdict


def test_expectation_comes_from_the_targets() -> None:
    lonely = house(link("orders"), targets=(target("orders", "a"), target("orders", "b"), target("other", "c")))
    assert of_links(lonely) == [(lonely.links[0], Verdict.UNKNOWN, 1)]


def test_worst_first() -> None:
    assert [verdict for _, verdict, _ in of_links(night())] == sorted(
        (v for _, v, _ in of_links(night())), key=lambda v: v.rank
    )
    assert of_links(night())[0][0].link == "ledger"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (healthy(), 0),
        (empty(), 0),
        (night(), 1),
        (house(link("a", replica(proven=99))), 2),
        (house(link("a", replica(proven=99, behind=98)), link("b", replica(proven=None))), 1),
        (house(link("a", replica()), targets=(target("a", "b", success=False),)), 2),
        (house(link("a", replica()), targets=(target("a", "b", success=None),)), 2),
        (house(link("a", replica(proven=4_000), objective=None)), 0),
    ],
)
def test_exit_code(status: HouseStatus, code: int) -> None:
    assert exit_code(status) == code


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (empty(), "Nothing is configured."),
        (healthy(), "All 2 links are within their objective."),
        (house(link("a", replica())), "The link is within its objective."),
        (house(link("a", replica(proven=99, behind=98))), "1 link is behind its objective."),
        (house(link("a", replica(proven=99)), link("b", replica(proven=99))), "2 links cannot be proven."),
        (
            house(link("a", replica()), link("b", replica(), objective=None)),
            "The link is within its objective, 1 more has none.",
        ),
        (house(link("a", replica(), objective=None)), "The link has no objective."),
        (
            night(),
            "1 link is broken, 1 link is behind its objective, 1 link cannot be proven, 1 link is unknown; 2 targets cannot be looked at.",
        ),
    ],
)
def test_sentence(status: HouseStatus, words: str) -> None:
    assert sentence(status, of_links(status)) == words
