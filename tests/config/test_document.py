"""A document as a whole: what it comes to, and that every mistake is named at once and in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from config.sample import COLLECTOR, ENTRY, HEAD, Point, catalog, look, plan, problems, read
from regiondrift.config import ConfigurationError, load
from regiondrift.model import Collector, EntryOptions, Link, Objectives, option


def test_what_a_document_comes_to(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "version: 1\nregions: [here, there]\nobjectives: {recovery_point: 30s, recovery_time: 1h30m}\nstate_dir: /var/lib/x\n"
        "thing:\n"
        "  - name: orders\n    members: [{name: a, region: here}, {name: b, region: there}]\n"
        "  - {name: bills, interval: 1m, timeout: 500ms, recovery_point: 2d, members: [{name: a, region: here}]}\n",
    )
    assert found.regions == ("here", "there")
    assert found.objectives == Objectives(30.0, 5400.0)
    assert found.state_dir == Path("/var/lib/x")
    assert found.warnings == ()
    orders, bills = found.plans
    assert [t.label for t in orders.targets] == ["orders/a", "orders/b"]
    assert (orders.collector, orders.interval, orders.timeout, orders.link) == ("thing", 7.0, 3.0, Link("thing", 30.0))
    assert (bills.interval, bills.timeout, bills.link) == (60.0, 0.5, Link("thing", 172800.0))


def test_a_document_without_entries_is_one(tmp_path: Path) -> None:
    found = read(tmp_path, HEAD)
    assert found.plans == ()
    assert found.objectives == Objectives()
    assert found.state_dir is None


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    assert read(tmp_path, ENTRY).digest != read(tmp_path, ENTRY + "# a word\n").digest
    assert read(tmp_path, ENTRY).plans == read(tmp_path, ENTRY + "# a word\n").plans


def test_equal_texts_make_equal_and_hashable_plans(tmp_path: Path) -> None:
    text = ENTRY + "    token: s3cret\n    labels: {b: 1, a: 2}\n"
    assert read(tmp_path, text).plans == read(tmp_path, text).plans
    assert hash(read(tmp_path, text).plans[0].targets) == hash(read(tmp_path, text).plans[0].targets)
    assert read(tmp_path, text).plans != read(tmp_path, text.replace("region: here", "region: there")).plans


def test_a_changed_secret_makes_another_target(tmp_path: Path) -> None:
    text = ENTRY.replace("region: here", "region: here, conninfo: 'password=${P}'")
    one, same, other = (read(tmp_path, text, {"P": p}).plans for p in ("x", "x", "y"))
    assert one == same
    assert one != other


def test_json_is_a_document_too(tmp_path: Path) -> None:
    text = r'{"version": 1, "regions": ["here"], "thing": [{"name": "\ud83d\ude00 \/", "members": []}]}'
    assert problems(tmp_path, text) == [
        "1:56: name: an entry's name cannot hold '/'",
        "1:86: members: at least one member is needed",
    ]
    assert (
        read(tmp_path, text.replace(r" \/", "").replace("[]", '[{"name": "a", "region": "here"}]')).plans[0].entry
        == "😀"
    )


def test_a_byte_order_mark_and_windows_lines_are_no_mistake(tmp_path: Path) -> None:
    assert problems(tmp_path, b"\xef\xbb\xbf" + ENTRY.replace("\n", "\r\n").encode()) == []


def test_every_mistake_is_named_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert problems(
        tmp_path,
        "version: 1\nregions: here\nobjectives: {recovery_piont: 30s}\nthing:\n"
        "  - name: orders\n    intervall: 5s\n    recovery_point: soon\n    members:\n"
        "      - {name: a, regoin: here}\n      - {name: b, region: anywhere}\n    mode: synk\n",
    ) == [
        "2:10: regions: a list is needed, found text or a number",
        "3:14: unknown key 'recovery_piont', did you mean 'recovery_point'?",
        "6:5: unknown key 'intervall', did you mean 'interval'?",
        "7:21: recovery_point: 'soon': not a duration such as 30s, 5m, 1h30m, 500ms or 2d",
        "9:19: unknown key 'regoin', did you mean 'region'?",
        "11:11: mode: 'synk' is not possible, did you mean 'sync'?",
    ]


def test_the_file_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("version: 2\nregions: [x]\n")
    with pytest.raises(ConfigurationError) as caught:
        load(Path("a.yaml"), catalog(), {})
    assert str(caught.value) == "a.yaml:1:10: version: '2' is not possible; there are: 1"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("regions: [here]\n", "1:1: the key 'version' is missing"),
        ("version: 1\n", "1:1: the key 'regions' is missing"),
        ("version: 1\nregoins: [here]\n", "2:1: unknown key 'regoins', did you mean 'regions'?"),
        (HEAD + "thingg: []\n", "3:1: unknown key 'thingg', did you mean 'thing'?"),
        (HEAD + "Thing: []\n", "3:1: unknown key 'Thing', did you mean 'thing'?"),
        (HEAD + "xyz: 1\n", "3:1: unknown key 'xyz'; there are: objectives, regions, state_dir, thing, version"),
        ("version: 1\nregions: []\n", "2:10: regions: at least one region is needed"),
        ("version: 1\nregions: [a, b, a]\n", "2:17: regions[2]: a region stands in the list twice"),
        ("version: 1\nregions: [a, '']\n", "2:14: regions[1]: a region's name cannot be empty"),
        (
            "version: 1\nregions: [a, ~]\n",
            "2:14: regions[1]: text is needed, found nothing (quote it if the text '~' is meant)",
        ),
        ("version: '1'\nregions: [a]\n", "1:10: version: 1 is needed without quotes"),
        (HEAD + "state_dir: ''\n", "3:12: state_dir: a directory is needed, found nothing"),
        (HEAD + "objectives:\n", "3:12: objectives: a mapping is needed, found nothing"),
        (HEAD + "thing: {name: x}\n", "3:8: thing: a list of entries is needed"),
        (HEAD + "thing:\n  - orders\n", "4:5: thing[0]: a mapping is needed, found text or a number"),
        (HEAD + "thing:\n  - name: orders\n", "4:5: thing[0]: the key 'members' is missing"),
        ("- a\n", "1:1: a configuration is a mapping that begins with 'version: 1'"),
    ],
)
def test_mistakes_of_the_top_level(tmp_path: Path, text: str, wrong: str) -> None:
    assert problems(tmp_path, text) == [wrong]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("''", "cannot be empty"),
        ("' '", "cannot be empty"),
        ("a/b", "cannot hold '/'"),
        ('"a\\nb"', "cannot hold control characters"),
        ("x" * 201, "cannot be longer than 200 characters"),
    ],
)
def test_names_that_cannot_be_label_values(tmp_path: Path, name: str, wrong: str) -> None:
    assert problems(tmp_path, ENTRY.replace("orders", name)) == [f"4:11: name: an entry's name {wrong}"]


def test_a_name_of_two_entries_is_said_at_the_second_even_if_that_has_other_mistakes(tmp_path: Path) -> None:
    assert problems(tmp_path, ENTRY + "  - name: orders\n    members: 3\n") == [
        "6:11: name: thing has an entry 'orders' already, in line 4",
        "7:14: members: a list is needed, found text or a number",
    ]


def test_an_entry_that_stands_behind_an_alias_again_is_a_second_one(tmp_path: Path) -> None:
    text = HEAD + "thing:\n  - &x {name: orders, members: [{name: a, region: here}]}\n  - *x\n"
    assert problems(tmp_path, text) == ["4:15: name: thing has an entry 'orders' already, in line 4"]


def test_what_a_collector_finds_is_said_where_it_stands(tmp_path: Path) -> None:
    assert problems(
        tmp_path, ENTRY + "    retries: -1\n  - {name: b, members: [{region: here, name: forbidden}]}\n"
    ) == [
        "6:14: retries: cannot be negative",
        "7:46: name: this name is taken",
    ]


def test_a_collector_that_fails_is_a_problem_of_its_entry_and_tells_no_secret(tmp_path: Path) -> None:
    assert problems(tmp_path, ENTRY + "    note: raise\n") == ["4:5: thing cannot check this entry: RuntimeError"]


def test_targets_of_one_name_are_refused(tmp_path: Path) -> None:
    text = ENTRY.replace("[{name: a, region: here}]", "[{name: a, region: here}, {name: a, region: there}]")
    assert problems(tmp_path, text) == ["4:5: 2 targets of this entry are called 'orders/a'"]


def test_only_what_is_configured_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ENTRY)
    used, unused = Point(COLLECTOR), Point(ImportError("no module named other"))
    load(file, catalog(thing=used, other=unused), {})
    assert (used.loads, unused.loads) == (1, 0)


def test_a_collector_that_cannot_be_imported_is_a_problem_at_its_key(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(HEAD + "other: []\n")
    with pytest.raises(ConfigurationError, match=r":3:1: collector other .* cannot be imported: .*no module named x"):
        load(file, catalog(other=Point(ImportError("no module named x"))), {})


@dataclass(frozen=True, slots=True, kw_only=True)
class OddOptions(EntryOptions):
    either: int | str = option("A union, which no text can tell apart.")


def test_options_of_a_type_that_nobody_can_write_are_said(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(HEAD + "odd: []\n")
    with pytest.raises(ConfigurationError, match=r":3:1: int \| str cannot be an option's type"):
        load(file, catalog(odd=Point(Collector("odd", OddOptions, plan, look))), {})


def test_relative_paths_begin_where_the_document_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "pg").write_text("x")
    (tmp_path / "etc" / "a.yaml").write_text(
        ENTRY.replace("region: here", "region: here, password_file: pg") + "state_dir: state\n"
    )
    monkeypatch.chdir(tmp_path)
    found = load(Path("etc/a.yaml"), catalog(), {})
    assert found.warnings == ()
    assert found.state_dir == Path("etc/state")
    assert found.plans[0].targets[0].options.password_file == "etc/pg"


def test_a_secret_file_that_is_missing_or_a_directory_is_a_warning(tmp_path: Path) -> None:
    text = ENTRY.replace(
        "[{name: a, region: here}]",
        "[{name: a, region: here, password_file: none}, {name: b, region: there, password_file: .}]",
    )
    assert [(w.line, w.message) for w in read(tmp_path, text).warnings] == [
        (5, "password_file: the file does not exist"),
        (5, "password_file: the file cannot be read"),
    ]
