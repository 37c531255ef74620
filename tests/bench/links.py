"""What does a link cost? Simulated links through the whole house, from scheduler to state file, scraped as Prometheus does."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import running, simulated
from bench.result import Result, median

INTERVAL = 5.0
SCRAPED_EVERY = 15.0
SCRAPES = 4
"""So many scrape intervals are measured."""
NODES = 2
COUNTS = (1, 100, 1_000, 4_000, 10_000)
SETTLE = 20.0
"""Seconds after the last first look until measuring begins."""


@dataclass(frozen=True, slots=True)
class _Cost:
    links: int
    core: float
    """Share of one core."""
    memory: float
    """MB at the end."""
    kept_up: float
    """Looks that were done, of those that should have been."""

    @property
    def per_link(self) -> float:
        """Microseconds of CPU a link and second, at the looks that were done."""
        return self.core / self.links / self.kept_up * 1e6


def run() -> Iterator[Result]:
    costs: dict[int, _Cost] = {}
    for count in COUNTS:
        cost = costs[count] = _cost(count)
        measured = (
            f"{cost.core * 100:.1f} % of one core, {cost.memory:.0f} MB, "
            f"{cost.per_link:.0f} us per link and second, {cost.kept_up * 100:.1f} % of looks"
        )
        what = f"{count:,} links every {INTERVAL:g} s"
        if count == 1_000:
            yield Result(f"{what}: CPU", measured, cost.core * 100, 30.0, " %")
            yield Result(f"{what}: memory", f"{cost.memory:.0f} MB", cost.memory, 200.0, " MB")
        elif count > 1_000:
            yield Result(f"{what}: CPU per link", measured, cost.per_link / costs[1_000].per_link, 1.3, "x")
            ratio = cost.memory / count / (costs[1_000].memory / 1_000)
            yield Result(f"{what}: memory per link", f"{cost.memory / count * 1e3:.0f} kB", ratio, 1.3, "x")
            late = max(0.0, 1 - cost.kept_up) * 100
            yield Result(
                f"{what}: looks not done in time", f"load of the machine {os.getloadavg()[0]:.1f}", late, 5.0, " %"
            )
        else:
            yield Result(what, measured)


def _cost(count: int) -> _Cost:
    entries = [f"name: link-{i:05}, interval: {INTERVAL:g}s" for i in range(count)]
    with tempfile.TemporaryDirectory(prefix="regiondrift-bench-") as directory:
        looks = Path(directory) / "looks"
        with running.exporter(
            simulated.configuration(entries, Path("{home}/state")),
            environment={simulated.LOOKS_FILE: str(looks)},
            ready_within=300,
        ) as served:
            url = served.url + "/metrics"
            scraper = running.Scraper(url)
            scraper.scrape()
            time.sleep(SETTLE)
            shares = []
            first = time.monotonic()
            for _ in range(SCRAPES):
                began, cpu = time.monotonic(), running.cpu_seconds(served.pid)
                scraper.scrape()
                time.sleep(SCRAPED_EVERY)
                shares.append((running.cpu_seconds(served.pid) - cpu) / (time.monotonic() - began))
            memory = running.resident(served.pid)
        rate = _rate(looks, first)
    return _Cost(count, median(shares), memory, rate / (count * NODES / INTERVAL))


def _rate(file: Path, since: float) -> float:
    """Looks a second from `since` on."""
    lines = [tuple(map(float, line.split())) for line in file.read_text(encoding="ascii").splitlines()]
    (t0, n0), *_, (t1, n1) = [(t, n) for t, n in lines if t >= since]
    return (n1 - n0) / (t1 - t0)
