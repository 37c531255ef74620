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
from bench.result import Result, quantile

TARGETS = 200
SECONDS = 30.0
GOAL_MS = 20.0

_IDLE = "import asyncio, pathlib, sys, simulated; asyncio.run(simulated._ticks(pathlib.Path(sys.argv[1])))"


def run() -> Iterator[Result]:
    for series in (10_000, 100_000):
        yield from _stalls(series)


def _stalls(series: int) -> Iterator[Result]:
    """200 targets change each second, and both formats and codings are wanted."""
    entries = [f"name: entry-{i:03}, series: {series // TARGETS}, interval: 1s, timeout: 1s" for i in range(TARGETS)]
    with tempfile.TemporaryDirectory(prefix="regiondrift-bench-") as directory:
        ours, machine = Path(directory) / "ours", Path(directory) / "machine"
        with running.exporter(
            simulated.configuration(entries, None), environment={simulated.STALL_FILE: str(ours)}
        ) as served:
            time.sleep(5)
            size = ours.stat().st_size
            idle = subprocess.Popen([sys.executable, "-c", _IDLE, str(machine)], cwd=Path(__file__).parent)
            try:
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    for gzip in (True, False):
                        client.measure([served.url + "/metrics"], 5, pause=0.2, fresh=False, gzip=gzip)
                time.sleep(2)
            finally:
                idle.terminate()
                idle.wait(10)
        gaps = _gaps(ours)[size // 8 :]
        empty = _gaps(machine)
    stalled, beside = max(gaps) * 1e3, max(empty) * 1e3
    yield Result(
        f"event-loop stall, {series // 1000}k series, 200 targets/s change, longest in {SECONDS:.0f} s",
        f"{stalled:.1f} ms (p99.9 {quantile(gaps, 0.999) * 1e3:.1f} ms); empty process {beside:.1f} ms",
        stalled,
        GOAL_MS,
        " ms",
    )


def _gaps(file: Path) -> array[float]:
    gaps = array("d")
    gaps.frombytes(file.read_bytes())
    return gaps
