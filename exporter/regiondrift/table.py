"""What does a person at a terminal see? The status as tables, and the exit code that goes with it."""

from __future__ import annotations

import os
from typing import IO, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regiondrift import wording
from regiondrift.model import HouseStatus, LinkStatus, ReplicaStatus, TargetStatus
from regiondrift.verdict import Verdict, exit_code, exposure, of_links, of_replica, sentence

__all__ = ["exit_code", "print_status"]

_STYLES: Final = {
    Verdict.BROKEN: "bold red",
    Verdict.BEHIND: "bold red",
    Verdict.UNPROVEN: "yellow",
    Verdict.UNKNOWN: "yellow",
    Verdict.OK: "green",
    Verdict.UNJUDGED: "dim",
}
_IN_A_PIPE: Final = 200
"""Columns where nobody says how many there are: few lines break, which grep likes."""
_WIDE: Final = 110
"""Columns from which on there is room for what is merely good to know."""


def print_status(status: HouseStatus, file: IO[str]) -> None:
    """Prints verdict, links and targets; plain text unless `file` is a terminal. Honours NO_COLOR and COLUMNS."""
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _IN_A_PIPE
    judged = of_links(status)
    console.print(sentence(status, judged), soft_wrap=True)
    wide = console.width >= _WIDE
    if judged:
        table = _table(
            "VERDICT", "LINK", "FROM -> TO", "MAY BE LOST", "OBJECTIVE", "STATE", *(["TO GO"] if wide else [])
        )
        for link, verdict, missing in judged:
            for replica in link.replicas:
                table.add_row(*_replica(link, replica, status.now)[: len(table.columns)])
            if missing or not link.replicas:
                words = f"{missing} expected not seen" if missing else "no replica"
                worst = Verdict.UNKNOWN if link.replicas else verdict
                table.add_row(_word(worst), Text(link.link), words, "unknown", _objective(link), "unknown")
        console.print()
        console.print(table)
    if status.targets:
        table = _table("LOOK", "TARGET", "REGION", "TOOK", "WHY, OR WHAT IT SAID")
        for target in sorted(status.targets, key=lambda it: it.success is True):
            table.add_row(*_target(target))
        console.print()
        console.print(table)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _replica(link: LinkStatus, replica: ReplicaStatus, now: float) -> list[str | Text]:
    bounds = exposure(replica, now)
    lost = "unknown" if bounds.at_most is None else f"at most {_span(bounds.at_most, up=True)}"
    if bounds.at_least is not None:
        lost += f", at least {_span(bounds.at_least)}"
    way = f"{replica.source_region or '?'} -> {replica.target_region or '?'} ({replica.replica})"
    return [
        _word(of_replica(replica, link.objective, now)),
        Text(link.link),
        Text(way),
        lost,
        _objective(link),
        wording.state(replica.state),
        "" if replica.lag_bytes is None else wording.size(replica.lag_bytes),
    ]


def _target(target: TargetStatus) -> list[str | Text]:
    look = (
        Text("not yet", "dim")
        if target.success is None
        else Text("ok", "green")
        if target.success
        else Text("failed", "yellow")
    )
    said = f"{target.failure.reason.value}: {target.failure.detail}" if target.failure else ""
    notes = ", ".join(f"{name} {note}" for name, note in (target.notes or {}).items())
    took = "" if target.duration is None else wording.took(target.duration)
    return [
        look,
        Text(f"{target.entry}/{target.part}"),
        Text(target.region),
        took,
        Text("; ".join(filter(None, (said, notes)))),
    ]


def _word(verdict: Verdict) -> Text:
    return Text(wording.VERDICTS[verdict], _STYLES[verdict])


def _objective(link: LinkStatus) -> str:
    return "none" if link.objective is None else _span(link.objective)


def _span(seconds: float, *, up: bool = False) -> str:
    """A duration that no table breaks: ``4m12s``."""
    return wording.duration(seconds, up=up).replace(" ", "")
