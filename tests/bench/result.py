"""Was the goal met? One line of the table of results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One number and its goal. Without a goal it is there to be read."""

    what: str
    measured: str
    value: float | None = None
    """What is compared with `goal`, in the goal's unit: a ratio where the goal is one."""
    goal: float | None = None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.goal is None or self.value is None else self.value <= self.goal

    def cells(self) -> tuple[str, str, str, str, str]:
        if self.goal is None or self.value is None:
            return self.what, self.measured, "", "", ""
        value = f"{self.value:.3g}{self.unit}" if self.value < 1000 else f"{self.value:.0f}{self.unit}"
        return self.what, self.measured, value, f"<= {self.goal:g}{self.unit}", "met" if self.met else "MISSED"


HEADINGS = ("What", "Measured", "Value", "Goal", "")


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that is not below a share `q` of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(results: Sequence[Result]) -> str:
    """As Markdown, aligned, so that it reads in a terminal as well."""
    rows = [HEADINGS, *(r.cells() for r in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
