"""Is a degraded synchronous set seen, whatever way it is configured?"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.postgresql.looks import Looks
from regiondrift.model import Moment, ProbeError, Reason
from regiondrift_collectors.postgresql.section import Server
from regiondrift_collectors.postgresql.synchronous import IN_SYNC, REQUIRED, read, required
from servers.postgresql import pair

PRIMARY = Server("orders", "ymq-1", 180000, False, Moment(0.0))


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ("", 0),
        ("   ", 0),
        ("*", 1),
        ("ams", 1),
        ("ams, ymq", 1),
        ("2 (ams, ymq, waw)", 2),
        ("FIRST 2 (ams, ymq, waw)", 2),
        ("first 1 (*)", 1),
        ("ANY 2 (ams, ymq, waw)", 2),
        ("any\t3\n(\n ams,ymq , waw )", 3),
        ("ANY 10 (*)", 10),
        ('"ams-1"', 1),
        ('"a,b (c)", d', 1),
        ('"say ""hi""", d', 1),
        ('FIRST 2 ("FIRST", "2", "(")', 2),
        ('"FIRST"', 1),
        ("firstly, anybody", 1),
        ("2", 1),
        ("2, 3", 1),
        ("1 (2)", 1),
        ("\u00e9t\u00e9, s_1$", 1),
    ],
)
def test_every_form_of_the_setting_demands_a_number(names: str, count: int) -> None:
    assert required(names) == count


@pytest.mark.parametrize(
    "names",
    ["FIRST", "ANY 2", "FIRST (a)", "2 (", "2 ()", "0 (a)", "2 (a", "a b", "a,", ",a", "a,,b", '"a', "a; b", "(a)", "ALL 2 (a)", "2 (a) b", "2 ((a))", '""'],
)  # fmt: skip
def test_what_is_not_understood_is_refused_and_not_guessed(names: str) -> None:
    with pytest.raises(ProbeError) as caught:
        required(names)
    assert caught.value.failure.reason is Reason.REFUSED_VALUE


@given(st.text(alphabet='FIRSTANY12(),"* ab', max_size=20))
def test_no_text_raises_anything_else(names: str) -> None:
    with suppress(ProbeError):
        assert required(names) >= 0


@pytest.mark.parametrize("rows", [[["*"]], [["*", None]], [["*", "-1"]], [[None, "1"]], [["*", "1"], ["*", "1"]]])
def test_another_answer_is_not_ours(rows: list[list[str | None]]) -> None:
    with pytest.raises(ProbeError):
        read(rows, PRIMARY)


def test_a_standby_has_no_set() -> None:
    assert read([], PRIMARY) == []


@pytest.mark.servers
@pytest.mark.parametrize("version", [15, 18])
def test_a_set_that_loses_its_standby_is_degraded_until_it_is_back(version: int) -> None:
    with pair(version, names=("ymq-1", "ams-1")) as regions:
        looks = Looks(regions.primary)
        assert (looks.said(REQUIRED), looks.said(IN_SYNC)) == ({(): 0}, {(): 0})
        for names, wanted, there in [
            ('ANY 1 ("ams-1", "waw-1")', 1, 1),
            ('FIRST 2 ("ams-1", "waw-1")', 2, 1),
            ("*", 1, 1),
            ("waw", 1, 0),
            ('"ams-1"', 1, 1),
        ]:
            regions.primary.configure(synchronous_standby_names=names)
            looks.until(REQUIRED, lambda said, wanted=wanted: said == {(): wanted})  # type: ignore[misc]
            looks.until(IN_SYNC, lambda said, there=there: said == {(): there})  # type: ignore[misc]
        other = Looks(regions.standby)
        assert (other.said(REQUIRED), other.said(IN_SYNC)) == ({}, {})
        regions.standby.stop()
        looks.until(IN_SYNC, lambda said: said == {(): 0})
        assert looks.said(REQUIRED) == {(): 1}
        regions.standby.start()
        looks.until(IN_SYNC, lambda said: said == {(): 1})
