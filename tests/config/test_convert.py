"""Values of every type: text stays the text that was written, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.sample import ENTRY, ThingOptions, entry, problems, read
from regiondrift.config.duration import seconds
from regiondrift.model import Secret


def field(tmp_path: Path, line: str, **environ: str) -> object:
    """The value of the one option that `line` sets, or the problems."""
    found = entry(tmp_path, line, environ)
    return getattr(found, line.split(":")[0]) if isinstance(found, ThingOptions) else found


@pytest.mark.parametrize(
    "text",
    [
        "1.30",
        "no",
        "off",
        "on",
        "yes",
        "010",
        "0x1F",
        "1e3",
        "2024-01-01",
        "1:30",
        "true",
        ".inf",
        "=",
        "12_000",
        "nUll",
    ],
)
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    assert field(tmp_path, f"note: {text}") == text


@pytest.mark.parametrize("text", ["", "null", "~", "Null", "NULL"])
def test_nothing_is_nothing_unless_it_is_quoted(tmp_path: Path, text: str) -> None:
    assert field(tmp_path, f"note: {text}") is None
    assert field(tmp_path, f"note: '{text}'") == text


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("FALSE", False)])
def test_truth_values_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: bool) -> None:
    assert field(tmp_path, f"strict: {text}") is value


@pytest.mark.parametrize("text", ["yes", "on", "1", "tRue", "y"])
def test_nothing_else_is_a_truth_value(tmp_path: Path, text: str) -> None:
    assert field(tmp_path, f"strict: {text}") == [
        f"6:13: strict: '{text}': true or false is needed, and nothing else stands for them"
    ]


def test_a_quoted_truth_value_is_text(tmp_path: Path) -> None:
    assert field(tmp_path, "strict: 'true'") == ["6:13: strict: true or false is needed, without quotes"]


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("-7", -7), ("010", 10), ("0o10", 8), ("0x10", 16)])
def test_whole_numbers(tmp_path: Path, text: str, value: int) -> None:
    found = field(tmp_path, f"retries: {text}")
    assert found == (value if value >= 0 else ["6:14: retries: cannot be negative"])


@pytest.mark.parametrize("text", ["1.0", "1e3", "1_000", "many", "9" * 5000, "0b1"])
def test_what_is_no_whole_number(tmp_path: Path, text: str) -> None:
    found = field(tmp_path, f"retries: {text}")
    assert isinstance(found, list)
    assert found[0].endswith(": not a whole number")
    assert len(found[0]) < 120


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("-2.", -2.0)])
def test_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert field(tmp_path, f"weight: {text}") == value


@pytest.mark.parametrize("text", [".inf", ".nan", "nan", "1e999", "1_0.0"])
def test_what_is_no_number(tmp_path: Path, text: str) -> None:
    assert field(tmp_path, f"weight: {text}") == [f"6:13: weight: '{text}': not a number"]


def test_lists_mappings_and_scalars_are_not_taken_for_each_other(tmp_path: Path) -> None:
    assert field(tmp_path, "labels: [a]") == ["6:13: labels: a mapping is needed, found a list"]
    assert field(tmp_path, "note: [a]") == ["6:11: note: text is needed, found a list"]
    assert field(tmp_path, "note: {a: b}") == ["6:11: note: text is needed, found a mapping"]
    assert field(tmp_path, "retries:") == ["6:13: retries: a whole number is needed, found nothing"]


def test_mappings_keep_their_texts_and_can_be_hashed(tmp_path: Path) -> None:
    found = field(tmp_path, "labels: {a: 1.30, b: no}")
    assert found == {"a": "1.30", "b": "no"}
    assert hash(found) == hash(field(tmp_path, "labels: {b: no, a: 1.30}"))


def test_a_region_is_one_of_the_document(tmp_path: Path) -> None:
    text = ENTRY.replace("region: here", "region: heer")
    assert problems(tmp_path, text) == ["5:33: region: 'heer' is none of the regions, did you mean 'here'?"]
    text = ENTRY.replace("region: here", "region: Here")
    assert problems(tmp_path, text) == ["5:33: region: 'Here' is none of the regions, did you mean 'here'?"]
    text = ENTRY.replace("region: here", "region: mars")
    assert problems(tmp_path, text) == ["5:33: region: 'mars' is none of the regions; there are: here, there"]


def test_region_names_stay_text_too(tmp_path: Path) -> None:
    text = ENTRY.replace("[here, there]", "[no, 2024-01-01]")
    for name in ("no", "2024-01-01"):
        assert read(tmp_path, text.replace("region: here", f"region: {name}")).plans[0].targets[0].region == name


# ---- durations


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("2d", 172800.0),
        ("1s500ms", 1.5),
        ("00030s", 30.0),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0s", "longer than nothing"),
        ("-5s", "cannot be negative"),
        ("30", "needs its unit"),
        ("1.5", "needs its unit"),
        ("5 parsecs", "not a duration such as"),
        ("", "not a duration such as"),
        ("5 m", "did you mean '5m'"),
        ("5min", "did you mean '5m'"),
        ("90 seconds", "did you mean '90s'"),
        ("1m1h", "not a duration such as"),
        ("٣s", "not a duration such as"),
        ("5s\n", "not a duration such as"),
        ("4000d", "more than ten years"),
        ("9" * 5000 + "s", "more than ten years"),
    ],
)
def test_what_is_no_duration(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        seconds(text)


# ---- variables


def test_variables_are_replaced_in_every_text(tmp_path: Path) -> None:
    assert field(tmp_path, "note: a-${X}-${Y}", X="1", Y="no") == "a-1-no"
    assert field(tmp_path, "interval: ${X}", X="1m") == 60.0
    assert field(tmp_path, "retries: '${X}'", X="4") == 4
    assert field(tmp_path, "strict: '${X}'", X="true") is True
    assert field(tmp_path, "mode: ${X}", X="sync") == "sync"
    assert field(tmp_path, "token: ${X}", X="hunter2") == Secret("hunter2")


def test_a_value_is_not_read_as_yaml_nor_replaced_again(tmp_path: Path) -> None:
    assert field(tmp_path, "note: ${X}", X="{a: [${Y}, $$") == "{a: [${Y}, $$"
    assert field(tmp_path, "note: ${X}", X="null") == "null"
    assert field(tmp_path, "note: ${X}", X="") == ""


def test_dollars_that_stand_for_themselves(tmp_path: Path) -> None:
    assert field(tmp_path, "note: a$b $ $${X} $$", X="1") == "a$b $ ${X} $"


def test_an_unset_variable_is_named_where_it_stands(tmp_path: Path) -> None:
    assert field(tmp_path, "note: ${X}${Y}", Z="1") == [
        "6:11: note: environment variable X is not set",
        "6:11: note: environment variable Y is not set",
    ]


def test_braces_that_hold_no_name(tmp_path: Path) -> None:
    assert field(tmp_path, "note: '${X:-1}'") == [
        "6:11: note: what stands in '${…}' is not the name of an environment variable; write '$$' for a '$'"
    ]
    assert field(tmp_path, "note: '${X'") == ["6:11: note: '${' is never closed; write '$$' for a '$'"]


@pytest.mark.parametrize("line", ["interval: ${X}", "retries: ${X}", "strict: ${X}", "mode: ${X}", "weight: ${X}"])
def test_no_message_holds_the_value_of_a_variable(tmp_path: Path, line: str) -> None:
    found = field(tmp_path, line, X="hunter2")
    assert isinstance(found, list)
    assert "hunter2" not in str(found)
    assert "'${X}'" in found[0]
