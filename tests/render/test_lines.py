"""The text a scrape gets, to the letter."""

from __future__ import annotations

import gzip

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from regiondrift.model import Kind, Metric, Moment
from regiondrift.render.lines import OwnerLines, label_text, number
from regiondrift.render.process import process_families
from regiondrift.render.publisher import Publisher

AGE = Metric("regiondrift_test_timestamp_seconds", "When it was.", ("name",), unit="timestamp_seconds")
COUNT = Metric("regiondrift_test_events_total", "Events so far.", ("name",), kind=Kind.COUNTER)
STATE = Metric("regiondrift_test_state", "Its state.", ("name", "state"), states=("good", "bad"))

TEXT = """\
# HELP regiondrift_test_events_total Events so far.
# TYPE regiondrift_test_events_total counter
regiondrift_test_events_total{name="a"} 3
regiondrift_test_events_total{name="b"} 0
# HELP regiondrift_test_state Its state.
# TYPE regiondrift_test_state gauge
regiondrift_test_state{name="a",state="good"} 0
regiondrift_test_state{name="a",state="bad"} 1
# HELP regiondrift_test_timestamp_seconds When it was.
# TYPE regiondrift_test_timestamp_seconds gauge
regiondrift_test_timestamp_seconds{name="a"} 1764000000.25
"""

OPENMETRICS = """\
# HELP regiondrift_test_events Events so far.
# TYPE regiondrift_test_events counter
regiondrift_test_events_total{name="a"} 3
regiondrift_test_events_total{name="b"} 0
# HELP regiondrift_test_state Its state.
# TYPE regiondrift_test_state gauge
regiondrift_test_state{name="a",state="good"} 0
regiondrift_test_state{name="a",state="bad"} 1
# HELP regiondrift_test_timestamp_seconds When it was.
# TYPE regiondrift_test_timestamp_seconds gauge
# UNIT regiondrift_test_timestamp_seconds seconds
regiondrift_test_timestamp_seconds{name="a"} 1764000000.25
# EOF
"""


@pytest.fixture
def publisher():  # type: ignore[no-untyped-def]
    made = Publisher()
    made.start()
    yield made
    made.close()


async def test_the_exposition_to_the_letter_in_both_formats(publisher: Publisher) -> None:
    publisher.put("a", [COUNT(3, name="a"), *STATE.in_state("bad", ("a",)), AGE(Moment(1764000000.25), name="a")])
    publisher.put("b", [COUNT(0, name="b")])
    assert (await publisher.body(openmetrics=False, gzip=False)).decode() == TEXT
    assert (await publisher.body(openmetrics=True, gzip=False)).decode() == OPENMETRICS
    assert gzip.decompress(await publisher.body(openmetrics=True, gzip=True)).decode() == OPENMETRICS


async def test_an_owner_that_is_dropped_takes_its_series_and_empty_families_along(publisher: Publisher) -> None:
    publisher.put("a", [COUNT(3, name="a")])
    publisher.put("b", [AGE(5.0, name="b")])
    await publisher.body(openmetrics=False, gzip=False)
    publisher.drop("b")
    await publisher.caught_up()
    text = (await publisher.body(openmetrics=False, gzip=False)).decode()
    assert text.startswith("# HELP regiondrift_test_events_total")
    assert "timestamp" not in text


async def test_a_step_of_the_wall_clock_moves_moments_and_nothing_else(publisher: Publisher) -> None:
    publisher.put("a", [AGE(Moment(1000.0), name="ours"), AGE(2000.0, name="theirs"), COUNT(7, name="a")])
    await publisher.body(openmetrics=False, gzip=False)
    publisher.stepped(-3600.0)
    lines = (await publisher.body(openmetrics=False, gzip=False, step=-3600.0)).decode().splitlines()
    assert 'regiondrift_test_timestamp_seconds{name="ours"} -2600.0' in lines
    assert 'regiondrift_test_timestamp_seconds{name="theirs"} 2000' in lines
    assert 'regiondrift_test_events_total{name="a"} 7' in lines


async def test_the_same_bytes_are_served_until_something_changes(publisher: Publisher) -> None:
    publisher.put("a", [COUNT(3, name="a")])
    first = await publisher.body(openmetrics=False, gzip=False)
    assert await publisher.body(openmetrics=False, gzip=False) is first


async def test_hostile_label_values_stay_inside_their_quotes(publisher: Publisher) -> None:
    hostile = 'a"b\\c\nd\ud800\U0001f600'
    publisher.put("a", [COUNT(3, name=hostile)])
    text = (await publisher.body(openmetrics=False, gzip=False)).decode()
    (family,) = parse_text(text)
    assert family.samples[0].labels == {"name": 'a"b\\c\nd?\U0001f600'}
    (family,) = parse_openmetrics((await publisher.body(openmetrics=True, gzip=False)).decode())
    assert family.samples[0].value == 3


def test_long_label_values_are_cut_between_characters() -> None:
    assert label_text("é" * 2000) == "é" * 512


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (1e300, "1e+300"),
        (2**63, "9.223372036854776e+18"),
        (123456789012, "123456789012"),
        (Moment(1764000000.123456789), "1764000000.123457"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value, 0.0) == text
    assert float(text) == pytest.approx(float(value), rel=1e-15)


def test_only_families_that_changed_are_written_anew() -> None:
    lines = OwnerLines()
    assert lines.update([COUNT(3, name="a"), AGE(1.0, name="a")], 0.0, False) == {COUNT, AGE}
    assert lines.update([COUNT(4, name="a"), AGE(1.0, name="a")], 0.0, False) == {COUNT}
    assert lines.update([AGE(1.0, name="a")], 0.0, False) == {COUNT}
    assert set(lines.pieces) == {AGE}


def test_what_the_process_costs_can_be_parsed_in_both_formats() -> None:
    text, openmetrics = process_families()()
    assert {f.name for f in parse_text(text.decode())} == {
        f.name for f in parse_openmetrics(openmetrics.decode() + "# EOF\n")
    }
    assert b"process_resident_memory_bytes " in text
