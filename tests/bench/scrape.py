"""How quickly is a scrape answered? Beside nginx that sends the same bytes from a file."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import client, running, simulated
from bench.nginx import nginx
from bench.result import Result, median, quantile

TARGETS = 200
REPEATS = 3
"""Each measured so often; the median of the ratios counts, for other work on the machine hits one in a while."""


def run() -> Iterator[Result]:
    for series in (10_000, 100_000):
        rounds = 600
        for changing in (False, True):
            yield from _scrapes(series, changing, rounds)


def _scrapes(series: int, changing: bool, rounds: int) -> Iterator[Result]:
    """Every target has ten families, of which one changes at each look, with the target's own four."""
    interval = "1s" if changing else "1h"
    entries = [
        f"name: entry-{i:03}, series: {series // TARGETS}, interval: {interval}, timeout: 1s" for i in range(TARGETS)
    ]
    document = simulated.configuration(entries, None)
    with running.exporter(document) as served, tempfile.TemporaryDirectory(prefix="regiondrift-bench-") as home:
        url = served.url + "/metrics"
        # The first answers of a coding make it wanted from then on.
        running.get(url, gzip=True)
        packed = running.get(url, gzip=True)
        with nginx(Path(home), gzip.decompress(packed), packed) as beside:
            for coding in (False, True):
                for fresh in (False, True):
                    runs = [
                        client.measure([url, beside], rounds // REPEATS, pause=0.01, fresh=fresh, gzip=coding)
                        for _ in range(REPEATS)
                    ]
                    yield from _compared(series, changing, coding, fresh, runs)


def _compared(
    series: int, changing: bool, coding: bool, fresh: bool, runs: list[list[client.Times]]
) -> Iterator[Result]:
    what = f"scrape, {series // 1000}k series{', 200 targets/s change' if changing else ''}"
    what += f", {'gzip' if coding else 'plain'}, {'fresh connections' if fresh else 'keep-alive'}"
    for name, q, goal in (("p50", 0.5, 2.0 if coding else 1.0), ("p99", 0.99, 2.0 if coding else 1.25)):
        ours = [quantile(ours.seconds, q) for ours, _ in runs]
        theirs = [quantile(theirs.seconds, q) for _, theirs in runs]
        ratio = median([a / b for a, b in zip(ours, theirs, strict=True)])
        measured = f"{median(ours) * 1e3:.2f} ms, nginx {median(theirs) * 1e3:.2f} ms, {runs[0][0].size / 1e6:.2f} MB"
        yield Result(f"{what}, {name}", measured, ratio, goal, "x")
