"""For how long does the event loop do nothing else? Gaps between turns that should be a millisecond apart, while rendering.

The same ticks in an empty process, at the same time, say what of it is the machine's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from bench import client, running, simulated
from bench.result import Result, median, quantile

TARGETS = 200
SECONDS = 12.0
WINDOWS = 3
"""Measured so often; the median of the longest pauses counts, for the machine itself pauses once in a while."""
GOAL_MS = 20.0

_IDLE = "import asyncio, pathlib, sys, simulated; asyncio.run(simulated._ticks(pathlib.Path(sys.argv[1])))"


def run() -> Iterator[Result]:
    for series in (10_000, 100_000):
        yield from _stalls(series)


def _stalls(series: int) -> Iterator[Result]:
    """200 targets change each second, and both formats and codings are wanted."""
    entries = [f"name: entry-{i:03}, series: {series // TARGETS}, interval: 1s, timeout: 1s" for i in range(TARGETS)]
    with tempfile.TemporaryDirectory(prefix="regiondrift-bench-") as directory:
        ours = Path(directory) / "ours"
        with running.exporter(
            simulated.configuration(entries, None), environment={simulated.STALL_FILE: str(ours)}
        ) as served:
            time.sleep(5)
            windows = [_window(served.url, ours, Path(directory) / f"machine-{i}") for i in range(WINDOWS)]
    stalled = median([max(gaps) * 1e3 for gaps, _ in windows])
    beside = median([max(empty) * 1e3 for _, empty in windows])
    most = median([quantile(gaps, 0.999) * 1e3 for gaps, _ in windows])
    yield Result(
        f"event-loop stall, {series // 1000}k series, 200 targets/s change, longest in {SECONDS:.0f} s",
        f"{stalled:.1f} ms (p99.9 {most:.1f} ms); empty process {beside:.1f} ms",
        stalled,
        GOAL_MS,
        " ms",
    )


def _window(url: str, ours: Path, machine: Path) -> tuple[array[float], array[float]]:
    """The gaps of the exporter and of an empty process while it is scraped."""
    before = ours.stat().st_size // 8
    idle = subprocess.Popen([sys.executable, "-c", _IDLE, str(machine)], cwd=Path(__file__).parent)
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for gzip in (True, False):
                client.measure([url + "/metrics"], 5, pause=0.2, fresh=False, gzip=gzip)
        time.sleep(2.5)
    finally:
        idle.terminate()
        idle.wait(10)
    return _gaps(ours)[before:], _gaps(machine)


def _gaps(file: Path) -> array[float]:
    gaps = array("d")
    gaps.frombytes(file.read_bytes())
    return gaps
