"""Is every answer to the statement either true observations, or refused by its right name?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiondrift.model import History, LinkState, ProbeError, Reason, ReplicaPosition, SourcePosition
from regiondrift_collectors.postgresql.statement import lsn, read, statement, turned

COLUMNS = (
    "in_recovery", "system", "branch", "position", "may_read", "floor", "pid", "status",
    "conninfo", "paused", "delay", "lag", "received", "sender", "name", "feeds", "copies", "address", "up_for", "still",
)  # fmt: skip

PRIMARY: dict[str, str | None] = {
    **dict.fromkeys(COLUMNS),
    "in_recovery": "f",
    "system": "7549262912316350501",
    "branch": "3",
    "position": "16/B374D848",
    "may_read": "t",
    "delay": "0",
    "still": "f",
    "feeds": '["amsterdam", "rome"]',
}
STANDBY: dict[str, str | None] = {
    **PRIMARY,
    "in_recovery": "t",
    "floor": "16/B0000028",
    "pid": "4711",
    "status": "streaming",
    "conninfo": "t",
    "paused": "not paused",
    "lag": "0.25",
    "received": "16/B374D900",
    "sender": "10.0.0.1:5432",
    "name": "amsterdam",
    "address": "10.0.0.2",
    "up_for": "86400.5",
    "still": "t",
}
HERE = History("7549262912316350501", 3)
LINKED = LinkState(up=True, name="amsterdam", session="4711", reported_lag=0.25)


def row(kind: dict[str, str | None], **changed: str | None) -> list[str | None]:
    assert changed.keys() <= set(COLUMNS)
    return [{**kind, **changed}[column] for column in COLUMNS]


def reason(answer: list[str | None]) -> Reason:
    with pytest.raises(ProbeError) as caught:
        read([answer], 180006)
    return caught.value.failure.reason


def test_a_primary_is_a_source() -> None:
    look = read([row(PRIMARY)], 180006)
    assert look.observations == (SourcePosition(HERE, 0x16B374D848, frozenset({"amsterdam", "rome"})),)
    assert look.notes == {"version": "18.6", "role": "primary"}


def test_a_standby_is_a_replica_and_has_a_word_on_its_link() -> None:
    look = read([row(STANDBY)], 150004)
    assert look.observations == (
        ReplicaPosition(
            HERE,
            0x16B374D848,
            0x16B0000028,
            feeds=frozenset({"amsterdam", "rome"}),
            known_as=frozenset({"amsterdam", "10.0.0.2"}),
            up_for=86400.5,
        ),
        LINKED,
    )
    assert look.notes == {
        "version": "15.4",
        "role": "standby",
        "received": "16/B374D900",
        "receives from": "10.0.0.1:5432",
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pid": None, "status": None, "name": None}, replace(LINKED, up=False, name=None, session=None)),
        ({"pid": None, "status": None, "conninfo": "f"}, replace(LINKED, up=None, session=None)),
        ({"paused": "paused"}, replace(LINKED, paused=True)),
        ({"paused": "pause requested"}, LINKED),
        ({"delay": "3600000"}, replace(LINKED, intended_delay=3600.0)),
        ({"lag": None}, replace(LINKED, reported_lag=None)),
        ({"lag": "-3.5"}, replace(LINKED, reported_lag=None)),
    ],
)
def test_what_a_standby_says_of_its_link(changed: dict[str, str | None], said: LinkState) -> None:
    assert read([row(STANDBY, **changed)], 180006).observations[1] == said


@pytest.mark.parametrize(
    "answer",
    [
        row(PRIMARY, may_read="f"),
        row(STANDBY, may_read="f"),
        # pg_stat_wal_receiver without pg_read_all_stats: the pid, and nothing else.
        row(STANDBY, status=None),
        row(STANDBY, conninfo=None),
    ],
)
def test_a_role_that_may_not_see_is_said_to_be_one_and_never_no_replica(answer: list[str | None]) -> None:
    assert reason(answer) is Reason.PERMISSION


ABSURD = [
    "",
    " ",
    "0",
    "-1",
    "NaN",
    "inf",
    "-0",
    "1e999",
    "18446744073709551616",
    "9" * 5000,
    "x",
    "t",
    "0x10",
    "1_0",
    "\N{ARABIC-INDIC DIGIT ONE}",
]


@pytest.mark.parametrize("value", [None, *ABSURD])
def test_a_system_identifier_is_a_number_of_64_bits(value: str | None) -> None:
    assert reason(row(PRIMARY, system=value)) is Reason.REFUSED_VALUE


@pytest.mark.parametrize("value", [None, *ABSURD, "4294967296"])
def test_a_timeline_is_a_number_of_32_bits_from_1(value: str | None) -> None:
    assert reason(row(STANDBY, branch=value)) is Reason.REFUSED_VALUE


@pytest.mark.parametrize(
    "value",
    [None, *ABSURD, "/", "0/0", "1/", "/1", "-1/0", "0/-1", "+1/1", "1/+1", "1 /1", "1/1/1", "1_1/1", "0x1/1", "123456789/0", "1/123456789", "G/1"],
)  # fmt: skip
@pytest.mark.parametrize(("kind", "column"), [(PRIMARY, "position"), (STANDBY, "position"), (STANDBY, "floor")])
def test_a_position_is_two_hexadecimal_halves_and_never_nothing(
    kind: dict[str, str | None], column: str, value: str | None
) -> None:
    assert reason(row(kind, **{column: value})) is Reason.REFUSED_VALUE


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "1e11", "-1e11", "", "soon"])
def test_a_claimed_lag_is_a_sane_number(value: str) -> None:
    assert reason(row(STANDBY, lag=value)) is Reason.REFUSED_VALUE


@pytest.mark.parametrize("value", [None, "-1", "1.5", "2147483649", "", "NaN"])
def test_a_delay_is_milliseconds(value: str | None) -> None:
    assert reason(row(STANDBY, delay=value)) is Reason.REFUSED_VALUE


@pytest.mark.parametrize("column", ["in_recovery", "may_read"])
@pytest.mark.parametrize("value", [None, "", "true", "T", "1"])
def test_a_truth_value_is_t_or_f(column: str, value: str | None) -> None:
    assert reason(row(PRIMARY, **{column: value})) is Reason.REFUSED_VALUE


@pytest.mark.parametrize("answer", [[], ["t"], row(PRIMARY)[:-1], [*row(PRIMARY), None]])
def test_another_number_of_columns_is_not_our_answer(answer: list[str | None]) -> None:
    assert reason(answer) is Reason.PROTOCOL


@given(
    st.lists(
        st.one_of(st.none(), st.sampled_from(["t", "f", *ABSURD]), st.text()),
        min_size=len(COLUMNS),
        max_size=len(COLUMNS),
    )
)
def test_no_row_at_all_raises_anything_but_a_classified_failure(answer: list[str | None]) -> None:
    try:
        read([answer], 180006)
    except ProbeError as error:
        failure = error.failure
    else:
        return
    assert failure.reason in (Reason.PERMISSION, Reason.REFUSED_VALUE)
    assert len(failure.detail) < 200


@given(st.dictionaries(st.sampled_from(COLUMNS), st.one_of(st.none(), st.text()), min_size=1, max_size=2))
def test_one_absurd_column_is_never_taken_for_a_position(changed: dict[str, str | None]) -> None:
    try:
        look = read([row(STANDBY, **changed)], 180006)
    except ProbeError:
        return
    for observation in look.observations:
        if isinstance(observation, SourcePosition | ReplicaPosition):
            assert isinstance(observation.position, int)
            assert 0 < observation.position < 2**64


@given(st.integers(1, 2**64 - 1))
def test_every_position_is_read_as_postgresql_writes_it(position: int) -> None:
    assert lsn(f"{position >> 32:X}/{position & 0xFFFFFFFF:X}") == position


def test_what_a_server_says_at_length_is_shown_in_short() -> None:
    look = read([row(STANDBY, sender="x" * 100_000, received="y" * 100_000)], 180006)
    assert look.notes is not None
    assert sum(map(len, look.notes.values())) < 500


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (0, Reason.PROTOCOL),
        (-1, Reason.PROTOCOL),
        (80002, Reason.UNSUPPORTED_VERSION),
        (90624, Reason.UNSUPPORTED_VERSION),
        (129999, Reason.UNSUPPORTED_VERSION),
    ],
)
def test_a_version_that_is_not_understood_is_not_asked(version: int, reason: Reason) -> None:
    with pytest.raises(ProbeError) as caught:
        statement(version)
    assert caught.value.failure.reason is reason


@pytest.mark.parametrize(("version", "paused"), [(130000, b"pg_is_wal_replay_paused"), (140000, b"get_wal_replay_pause"), (990000, b"get_wal_replay_pause")])  # fmt: skip
def test_each_version_is_asked_in_its_own_words(version: int, paused: bytes) -> None:
    assert paused in statement(version)


@pytest.mark.parametrize(
    ("feeds", "names"),
    [
        (None, frozenset()),
        ("[]", frozenset()),
        ("[null]", frozenset()),
        ('["a", "a b", "\\"x\\""]', frozenset({"a", "a b", '"x"'})),
        (json.dumps(["\u00e9"]), frozenset({"\u00e9"})),
    ],
)
def test_whom_a_primary_feeds(feeds: str | None, names: frozenset[str]) -> None:
    source = read([row(PRIMARY, feeds=feeds)], 180006).observations[0]
    assert isinstance(source, SourcePosition)
    assert source.feeds == names


@pytest.mark.parametrize(
    "feeds", ["", "{", "1", '"a"', "[1]", "[[]]", '{"a": 1}', pytest.param("[" * 100_000, id="deep")]
)
def test_names_that_are_no_names_are_refused(feeds: str) -> None:
    assert reason(row(PRIMARY, feeds=feeds)) is Reason.REFUSED_VALUE


def test_a_promotion_between_two_columns_is_neither_a_primary_nor_a_standby() -> None:
    mixed = row(STANDBY, still="f")
    assert turned([mixed])
    assert reason(mixed) is Reason.STARTING
    assert not turned([row(PRIMARY)])
    assert not turned([])


def test_the_password_in_primary_conninfo_never_leaves_the_server() -> None:
    assert b"current_setting('primary_conninfo') <> ''" in statement(180000)
    assert statement(180000).count(b"primary_conninfo") == 1
