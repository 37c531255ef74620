"""Variables in connection strings: libpq must read each value as one value, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from regiondrift.config.quote import KEYWORDS, ReplacementError, conninfo

NASTY = "Ev3 n'Zt8p=x\\Mq ' host=evil"
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    "written",
    [
        "host=db password=${P} user=u",
        "host=db password='${P}' user=u",
        "host = db password = ${P}   user = u",
        "user=u host=db password=${P}",
    ],
)
def test_a_value_stays_one_value(written: str) -> None:
    assert conninfo_to_dict(conninfo(written, {"P": NASTY})) == {"host": "db", "password": NASTY, "user": "u"}


@given(value=texts)
def test_any_value_stays_one_value(value: str) -> None:
    for written in ("password=${P} host=db", "password='${P}' host=db"):
        assert conninfo_to_dict(conninfo(written, {"P": value})) == {"password": value, "host": "db"}
    assert conninfo_to_dict(conninfo("password='a b${P}c' host=db", {"P": value}))["password"] == f"a b{value}c"
    assert conninfo_to_dict(conninfo("password=a\\ ${P}c host=db", {"P": value}))["password"] == f"a {value}c"
    uri = conninfo("postgresql://u:${P}@db/postgres?application_name=${P}x", {"P": value})
    found = conninfo_to_dict(uri)
    assert found.get("password", "") == value
    assert found["application_name"] == value + "x"


def test_an_empty_value_does_not_take_the_next_pair() -> None:
    assert conninfo_to_dict(conninfo("password=${P} user=u", {"P": ""}))["user"] == "u"


def test_a_string_without_variables_is_left_alone() -> None:
    for text in (
        "",
        "host=db  password='a\\'b'",
        "postgresql://u@db,db2/x?sslmode=require",
        "postgresql:///x?host=/tmp",
    ):
        assert conninfo(text, {}) == text


def test_two_dollars_are_one() -> None:
    assert conninfo("password=pa$$${P} user=u$", {"P": "x"}) == "password='pa$x' user='u$'"


def test_a_variable_that_is_all_of_it_is_a_connection_string() -> None:
    for text in ("host=db user=u", "postgresql://u@db/x"):
        assert conninfo("${URL}", {"URL": text}) == text


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("host", "'=' is missing after keyword 1"),
        ("host=db password=hunter2 s3cret", "'=' is missing after keyword 3"),
        (
            "host=db pasword=hunter2",
            "keyword 2 of the connection string is not one that libpq knows, did you mean 'password'",
        ),
        (
            "host=db password=a hunter2=s3cret",
            "keyword 3 of the connection string is not one that libpq knows; a value",
        ),
        ("password='hunter2", "the single quote that begins the value of password is never closed"),
        ("${X} host=db", "stands where libpq expects a keyword"),
        ("${X}=db", "stands where libpq expects a keyword"),
        ("postgresql://u:s3cret%@db", "a '%' in a connection URI"),
        ("postgresql://u:s3 cret@db", "a space in a connection URI"),
        ("postgresql://u:s3cret@[::1", "'\\[' in a connection URI is never closed"),
        (
            "postgresql://db?sslmod=x",
            "keyword 1 of the connection string is not one that libpq knows, did you mean 'sslmode'",
        ),
        ("postgresql://db?s3cret", "'=' is missing in parameter 1"),
        ("password=${UNSET}", "environment variable UNSET is not set"),
        ("password=hunter2${", "is never closed"),
        ("${BROKEN}", "'=' is missing after keyword 1"),
    ],
)
def test_what_libpq_would_refuse_is_said_without_the_secret(written: str, why: str) -> None:
    with pytest.raises(ReplacementError, match=why) as caught:
        conninfo(written, {"X": "hunter2", "BROKEN": "hunter2 s3cret"})
    assert "hunter2" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


likely = st.lists(
    st.sampled_from(
        [" ", "=", "'", "\\", "host", "user", "x", "\t", "postgres://", "?", "&", "%", "@", "[", "]", "/", ":"]
    )
)


@given(text=st.one_of(texts, likely.map("".join)))
def test_what_passes_is_what_libpq_takes(text: str) -> None:
    try:
        passed = conninfo(text.replace("$", ""), {})
    except ReplacementError:
        return
    conninfo_to_dict(passed)


def test_every_keyword_of_this_libpq_is_known() -> None:
    from psycopg import pq

    assert {option.keyword.decode() for option in pq.Conninfo.get_defaults()} <= KEYWORDS
