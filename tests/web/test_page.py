"""Does the status page say what is the case, worst first, whatever it is made of?"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from house_status import NOW, broken_reload, empty, healthy, house, link, night, replica, target
from regiondrift.model import Failure, HouseStatus, Reason, State
from regiondrift.web.document import pieces
from regiondrift.web.page import ROWS, page

VOID = {"meta", "link", "br", "path", "rect", "circle"}
EVIL = "<script>alert(1)</script>\"'&</style><!--"


class Reader(HTMLParser):
    """Reads a page as text, refuses what is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "\n".join(self.words))


def read(status: HouseStatus) -> str:
    return Reader(page(status)).text


def test_the_verdict_comes_first() -> None:
    reader = Reader(page(night()))
    assert "1 link is broken, 1 link is behind its objective" in reader.text[:200]
    assert [tag for tag, _ in reader.tags].count("h1") == 1


def test_both_bounds_against_the_objective() -> None:
    text = read(
        house(link("orders", replica(proven=252.4, behind=230.1, state=State.DISCONNECTED, lag_bytes=48_730_112)))
    )
    for words in (
        "at most 4 m 13 s , at least 3 m 50 s",
        "objective 30 s",
        "disconnected",
        "2026-11-25 02:58:20 UTC",
        "48.7 MB",
        "montreal → amsterdam",
    ):
        assert words in text


def test_what_is_not_known_is_not_said() -> None:
    text = read(house(link("orders", replica(proven=None, reported_lag=None, lag_bytes=None, source_region=""))))
    assert "unknown: nothing is proven" in text
    assert "at most" not in text
    assert "at least" not in text
    assert "to go" not in text
    assert "? → amsterdam" in text


def test_an_expected_replica_that_is_not_there_has_a_row() -> None:
    seen = house(link("orders", replica()), targets=tuple(target("orders", name) for name in "abc"))
    assert "1 expected replica not seen" in read(seen)


def test_failing_targets_first_with_their_words() -> None:
    text = read(night())
    assert "no answer within 10 s: connecting to pg-3.ams.example.net:5432" in text
    assert text.index("payments/ams-3") < text.index("archive/ymq-9")


def test_a_failed_reload_and_a_broken_state_are_said() -> None:
    text = read(broken_reload())
    assert "The last reload failed" in text
    assert 'did you mean "interval"?' in text
    assert "no space left on device" in text


@pytest.mark.parametrize(
    "status", [empty(), healthy(), house(link("a"), targets=())], ids=["empty", "healthy", "lonely"]
)
def test_calm_pages_raise_no_alarm(status: HouseStatus) -> None:
    text = read(status)
    assert "failed" not in text
    assert "cannot" not in text


def test_whatever_comes_from_outside_is_escaped() -> None:
    status = house(
        link(EVIL, replica(EVIL, source_region=EVIL, target_region=EVIL), system=EVIL, source=EVIL),
        targets=(
            target(EVIL, EVIL, region=EVIL, success=False, failure=Failure(Reason.PROTOCOL, EVIL), notes={EVIL: EVIL}),
        ),
        config_error=EVIL,
        config_file=EVIL,
        state_problem=EVIL,
        version=EVIL,
        regions=(EVIL,),
    )
    reader = Reader(page(status))
    assert reader.text.count("<script>alert(1)</script>") >= 12
    assert {tag for tag, _ in reader.tags} & {"script", "iframe", "img", "form"} == set()


def test_it_needs_nothing_else_and_no_script() -> None:
    for tag, attributes in Reader(page(night())).tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert not re.match(r"https?:|//|/", attributes.get(name) or ""), (
                "it must work behind any prefix, and alone"
            )


def test_tables_can_be_heard() -> None:
    tags = Reader(page(night())).tags
    assert [tag for tag, _ in tags].count("caption") == 2
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    assert ("html", {"lang": "en"}) in tags
    assert {"header", "main", "nav"} <= {tag for tag, _ in tags}


def test_thousands_of_links_are_cut_to_the_worst() -> None:
    links = [link(f"fine-{i:05}", replica()) for i in range(5_000)] + [link("bad", replica(proven=99, behind=98))]
    status = house(*links)
    begun = time.process_time()
    html = page(status)
    assert time.process_time() - begun < 1
    assert html.count("<tr") < 2 * ROWS + 10
    assert "bad" in html
    assert "4501 more rows are not shown (4501 ok)" in html
    assert len(json.loads("".join(pieces(status)))["links"]) == 5_001


def test_moments_that_no_calendar_holds() -> None:
    assert "1e+300" in page(replace(healthy(), started=1e300))


def test_json_tells_unknown_from_zero() -> None:
    document = json.loads("".join(pieces(house(link("a", replica(proven=None, lag_bytes=None, reported_lag=None))))))
    found = document["links"][0]["replicas"][0]
    assert {
        found[name] for name in ("recovery_point", "behind_since", "exposure_at_most", "exposure_at_least", "lag_bytes")
    } == {None}
    assert document["now"] == NOW
    assert document["links"][0]["verdict"] == "unproven"


def test_json_of_nothing() -> None:
    document = json.loads("".join(pieces(empty())))
    assert (document["links"], document["targets"]) == ([], [])
