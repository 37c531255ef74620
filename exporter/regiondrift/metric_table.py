"""Which metrics are there, for a person? The table of the README, made from the declarations.

``python -m regiondrift.metric_table`` prints it; with a file as argument, it replaces what stands there between
``<!-- metrics -->`` and ``<!-- /metrics -->``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from regiondrift.catalog import Catalog
from regiondrift.model import Metric
from regiondrift.model.replication import REPLICATION
from regiondrift.self_metrics import SELF

BEGIN: Final = "<!-- metrics -->"
END: Final = "<!-- /metrics -->"


def declared(catalog: Catalog) -> tuple[Metric, ...]:
    """Every family: of replication, of the collectors, and of the exporter itself. Imports all collectors.

    Raises:
        CatalogError: one cannot be imported.
    """
    metrics = [*REPLICATION, *(m for name in catalog.names() for m in catalog.load(name).metrics), *SELF]
    return tuple({m.name: m for m in metrics}.values())


def markdown(metrics: Iterable[Metric] | None = None) -> str:
    """The table, one row per family. Without argument: of all that is installed."""
    rows = [f"| `{m.name}` | {m.kind.value} | {_labels(m)} | {_cell(m.help)} |" for m in metrics or declared(Catalog())]
    return "\n".join(["| metric | type | labels | what it says |", "|---|---|---|---|", *rows])


def between_markers(text: str) -> str | None:
    """What stands in a document where the table belongs; None without markers."""
    _, begin, rest = text.partition(BEGIN)
    table, end, _ = rest.partition(END)
    return table.strip("\n") if begin and end else None


def replaced(text: str, table: str) -> str:
    """The document with another table.

    Raises:
        ValueError: it has no markers.
    """
    if between_markers(text) is None:
        raise ValueError(f"there is no {BEGIN} … {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def _labels(metric: Metric) -> str:
    named = [f"`{label}`" for label in metric.labels]
    if metric.states:
        named[-1] += " (" + ", ".join(metric.states) + ")"
    return ", ".join(named)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        sys.stdout.write(markdown() + "\n")
    for name in arguments:
        path = Path(name)
        path.write_text(replaced(path.read_text("utf-8"), markdown()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
