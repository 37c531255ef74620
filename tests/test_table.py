"""Can the tables of `regiondrift probe` be read in a terminal, in 80 columns and in a pipe?"""

from __future__ import annotations

import io

import pytest

from house_status import empty, healthy, house, link, night, replica, target
from regiondrift.model import HouseStatus
from regiondrift.table import print_status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(status: HouseStatus, file: io.StringIO | None = None) -> str:
    file = file or io.StringIO()
    print_status(status, file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")


def test_everything_is_named() -> None:
    text = printed(night())
    assert text.startswith("1 link is broken, 1 link is behind")
    for words in (
        "orders",
        "at most 4m13s, at least 3m50s",
        "split brain",
        "1 expected not seen",
        "authentication: password",
        "48.7 MB",
    ):
        assert words in text


def test_a_pipe_gets_no_escape_sequences() -> None:
    assert "\x1b" not in printed(night())


def test_a_terminal_gets_colour_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1;31mBroken" in printed(night(), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in printed(night(), Terminal())


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    tables = printed(night()).splitlines()[1:]
    assert max(map(len, tables)) <= columns
    joined = "".join("".join(tables).split())
    assert "payments" in joined


def test_text_of_others_is_only_text() -> None:
    text = printed(
        house(link("[red]x[/red]", replica()), targets=(target("a", "b", notes={"server": "[bold]:smile:"}),))
    )
    assert "[red]x[/red]" in text
    assert "[bold]:smile:" in text


def test_nothing_reads_well() -> None:
    assert printed(empty()) == "Nothing is configured.\n"
    assert "All 2 links" in printed(healthy())
