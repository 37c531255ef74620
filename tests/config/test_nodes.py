"""Files that are no proper YAML, or YAML that does harm: refused with a place, never with a traceback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from config.sample import ENTRY, HEAD, catalog, problems
from regiondrift.config import ConfigurationError, load


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing but a word\n", "1:1: the file is empty"),
        ("---\n", "2:1: the file is empty"),
        (ENTRY + "---\nversion: 1\n", "6:1: a second document begins here; a configuration is one"),
        (HEAD + "thing:\n\t- name: x\n", "4:1: a tab: YAML is indented with spaces"),
        ("version: 1\nregions: [here\nthing: []\n", "3:6: not YAML: while parsing a flow sequence, did not find expected ',' or ']' (it begins in line 2)"),
        ("version: 1\x07\n", "1:11: the character U+0007 is not allowed in YAML"),
        ("version: *v\n", "1:10: an alias (*…) to no anchor before it; put quotes around text that begins with '*'"),
        ("a: &a [*a]\n", "1:8: an alias to what it stands in; put quotes around text that begins with '*'"),
        ("[" * 60 + "]" * 60, "1:51: nested more than 50 deep"),
        (b"version: 1\nregions: [h\xc3\xa9, \xff]\n", "2:15: byte 0xff is not UTF-8"),
        (ENTRY.encode("utf-16"), "1:1: byte 0xff is not UTF-8"),
        ("# " + "x" * (4 << 20), "1:1: larger than 4 MiB"),
    ],
)  # fmt: skip
def test_what_is_no_document(tmp_path: Path, text: str | bytes, wrong: str) -> None:
    assert problems(tmp_path, text) == [wrong]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (HEAD + "version: 1\n", "3:1: duplicate key 'version', it stands already in line 1"),
        (HEAD + "objectives: {recovery_point: 1s, recovery_point: 2s}\n", "3:34: duplicate key 'recovery_point', it stands already in line 3"),
        (HEAD + "? [a]\n: b\n", "3:3: a key must be text, this is a list or a mapping"),
        (HEAD + "objectives:\n  <<: {recovery_point: 1s}\n", "4:3: merge keys (<<) are not part of YAML 1.2"),
        (HEAD + "objectives: !!python/object:os.system {}\n", "3:13: tags (!…) are not used here; put quotes around text that begins with '!'"),
        (HEAD + "state_dir: !hunter2\n", "3:12: tags (!…) are not used here; put quotes around text that begins with '!'"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused_but_read_on(tmp_path: Path, text: str, wrong: str) -> None:
    assert wrong in problems(tmp_path, text)
    last = HEAD.count("\n") + text.removeprefix(HEAD).count("\n") + 1
    also = f"{last}:1: unknown key 'statedir', did you mean 'state_dir'?"
    assert {wrong, also} <= set(problems(tmp_path, text + "statedir: x\n"))


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    began = time.process_time()
    found = problems(tmp_path, "\n".join(lines))
    assert len(found) == 1
    assert found[0].endswith("aliases that stand for more than 100000 nodes")
    assert time.process_time() - began < 5


def test_an_anchor_may_be_used_where_a_value_repeats(tmp_path: Path) -> None:
    assert problems(tmp_path, ENTRY.replace("name: orders", "name: orders\n    interval: &i 5s\n    timeout: *i")) == []


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigurationError) as caught:
            load(path, catalog(), {})
        assert str(caught.value) == f"{path}:1:1: cannot be read: {why}"
