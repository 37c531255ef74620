"""What does a look at PostgreSQL cost? Beside Debian's prometheus-postgres-exporter, at the same pair and interval."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from gzip import decompress as gunzip

from bench import running
from bench.result import Result, median
from regiondrift.demo.leash import command
from regiondrift.demo.postgres import free_port
from servers.postgresql import pair

PROGRAM = "prometheus-postgres-exporter"
PROBES = 60
REPEATS = 3
GOAL = 0.2
VERSION = 15
"""Of PostgreSQL: Debian's own, which its exporter knows."""
_BARE = (
    "--disable-default-metrics",
    "--disable-settings-metrics",
    "--no-collector.database",
    "--no-collector.bgwriter",
)
"""Leaves it little more than the connection."""


def run() -> Iterator[Result]:
    required()
    with pair(VERSION) as servers:
        addresses = [server.conninfo() for server in servers.servers]
        yield _beside("every second", addresses, 1.0, (), GOAL)
        # Where what a process costs by itself (heartbeat, exposition, state file) counts for less.
        yield _beside("five times a second", addresses, 0.2, (), None)
        yield _beside("every second, theirs with nothing but pg_up", addresses, 1.0, _BARE, None)


def required() -> None:
    """
    Raises:
        RuntimeError: it is not installed.
    """
    if shutil.which(PROGRAM) is None:
        raise RuntimeError(f"{PROGRAM} is not installed (Debian's {PROGRAM})")


def _beside(what: str, addresses: Sequence[str], interval: float, flags: Sequence[str], goal: float | None) -> Result:
    first, second = addresses
    with (
        running.exporter(_document(addresses, interval), site=False) as ours,
        exporter(first, flags) as one,
        exporter(second, flags) as other,
    ):
        mine = [(ours.pid, ours.url + "/metrics")]
        costs = [_costs(interval, mine, [one, other]) for _ in range(REPEATS)]
        series = _series(one[1])
    here, there = median([a for a, _ in costs]), median([b for _, b in costs])
    ratio = median([a / b for a, b in costs])
    measured = f"{here * 1e3:.2f} ms, theirs {there * 1e3:.2f} ms ({series} series)"
    if goal is None:
        measured += f": {ratio:.2f}x"
    return Result(f"CPU per target and probe, scrape included, {what}", measured, ratio, goal, "x")


def _costs(interval: float, *sides: Sequence[tuple[int, str]]) -> tuple[float, ...]:
    """CPU seconds per target and probe of each side's processes, scraped at the interval of the probes."""
    scrapers = [running.Scraper(url) for side in sides for _, url in side]
    for scraper in scrapers:
        scraper.scrape()
    before = [sum(running.cpu_seconds(pid) for pid, _ in side) for side in sides]
    next_round = time.monotonic()
    for _ in range(PROBES):
        for scraper in scrapers:
            scraper.scrape()
        next_round += interval
        time.sleep(max(0.0, next_round - time.monotonic()))
    after = [sum(running.cpu_seconds(pid) for pid, _ in side) for side in sides]
    return tuple((b - a) / PROBES / 2 for a, b in zip(before, after, strict=True))


def _document(addresses: Sequence[str], interval: float) -> str:
    nodes = [
        f"      - {{name: {name}, region: {name}, conninfo: '{address}'}}"
        for name, address in zip(("montreal", "amsterdam"), addresses, strict=True)
    ]
    return "\n".join(
        [
            "version: 1",
            "regions: [montreal, amsterdam]",
            "objectives: {recovery_point: 30s}",
            "state_dir: {home}/state",
            "postgresql:",
            "  - name: orders",
            f"    interval: {interval * 1000:.0f}ms",
            "    nodes:",
            *nodes,
            "",
        ]
    )


@contextmanager
def exporter(address: str, flags: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Beside one server, as it is meant to stand (with two servers this version answers 500). It looks when scraped."""
    listen = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "DATA_SOURCE_NAME": f"{address} sslmode=disable"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command([PROGRAM, f"--web.listen-address={listen}", *flags], None), env=environment, stdout=log, stderr=log
        )
        url = f"http://{listen}/metrics"
        try:
            end = time.monotonic() + 10
            while not running.answers(url):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{PROGRAM} does not answer: {log.read()[-2000:]!r}")
                time.sleep(0.1)
            if b"\npg_up 1\n" not in gunzip(running.get(url, gzip=True)):
                raise RuntimeError(f"{PROGRAM} does not see its server")
            yield process.pid, url
        finally:
            process.terminate()
            process.wait(10)


def _series(url: str) -> int:
    lines = gunzip(running.get(url, gzip=True)).splitlines()
    return sum(not line.startswith(b"#") for line in lines)
