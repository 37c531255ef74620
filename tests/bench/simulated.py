"""What is looked at when nothing real could be so many? A collector whose targets answer out of thin air.

It is found as any other is: `site` makes a directory for PYTHONPATH that holds it with an entry point.
"""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from regiondrift.model import (
    Collector,
    EntryOptions,
    History,
    Kept,
    Link,
    LinkState,
    Look,
    Metric,
    Objectives,
    ReplicaPosition,
    SourcePosition,
    Target,
    option,
)

NAME: Final = "simulated"
FAMILIES: Final = 10
ANSWERS_AFTER: Final = 0.002
"""Seconds that a look waits, as for a server near by."""
STALL_FILE: Final = "REGIONDRIFT_BENCH_STALL"
"""Environment variable: the file that takes the gaps between turns of the event loop."""
LOOKS_FILE: Final = "REGIONDRIFT_BENCH_LOOKS"
"""Environment variable: the file that says, each second, how many looks there were so far."""
TICK: Final = 0.001

_METRICS: Final = tuple(
    Metric(f"regiondrift_simulated_family_{i}", "A number out of thin air.", ("entry", "part", "item"))
    for i in range(FAMILIES)
)
_HISTORY: Final = "7420000000000000001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(EntryOptions):
    """Either a link of two nodes, or a target with so many series."""

    series: int | None = option("Series of the one target; without it the entry is a link.", default=None)

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        if self.series is not None and self.series % FAMILIES:
            yield ("series",), f"must be a multiple of {FAMILIES}"


def plan(options: Options, objectives: Objectives) -> tuple[tuple[Target, ...], Link | None]:
    if options.series is not None:
        return (Target(options.name, "items", "montreal", options.series // FAMILIES),), None
    nodes = (("ymq-1", "montreal"), ("ams-1", "amsterdam"))
    return tuple(Target(options.name, n, region, None) for n, region in nodes), Link(NAME, objectives.recovery_point)


async def look(target: Target, kept: Kept) -> Look:
    global _looks
    _looks += 1
    if _looks == 1:
        _watch()
    await asyncio.sleep(ANSWERS_AFTER)
    if target.options is not None:
        return _items(target, kept)
    position = int(time.time() * 1e6)
    history = History(_HISTORY, 1)
    if target.part == "ymq-1":
        return Look((SourcePosition(history, position),), notes={"version": "18.6", "role": "primary"})
    return Look(
        (
            ReplicaPosition(history, position - 50_000, position - 300_000_000),
            LinkState(up=True, reported_lag=time.time() % 1),
        ),
        notes={"version": "18.6", "role": "standby"},
    )


def _items(target: Target, kept: Kept) -> Look:
    """One family of ten is new at each look; the others stay."""
    state = kept.value
    if state is None:
        values = [(target.entry, target.part, f"item-{n:04}") for n in range(target.options)]
        state = ([m.at(i + 0.5, v) for m in _METRICS for i, v in enumerate(values)], values)
        kept.put(state, lambda: None)
    samples, values = state
    now = time.time()
    for i, v in enumerate(values):
        samples[i] = _METRICS[0].at(round(now + i, 3), v)
    return Look(tuple(samples))


_looks = 0
_watching: set[asyncio.Task[None]] = set()


def _watch() -> None:
    """Start what the environment asks for."""
    loop = asyncio.get_running_loop()
    for variable, watch in ((STALL_FILE, _ticks), (LOOKS_FILE, _count)):
        if variable in os.environ:
            _watching.add(loop.create_task(watch(Path(os.environ[variable]))))


async def _count(file: Path) -> None:
    while True:
        await asyncio.sleep(1)
        with file.open("a", encoding="ascii") as out:
            out.write(f"{time.monotonic()} {_looks}\n")


async def _ticks(file: Path) -> None:
    """Note every gap between two turns of the loop that should be a tick apart."""
    loop, gaps, said = asyncio.get_running_loop(), array("d"), time.monotonic()
    before = loop.time()
    while True:
        await asyncio.sleep(TICK)
        now = loop.time()
        gaps.append(now - before - TICK)
        before = now
        if now - said > 2:
            with file.open("ab") as out:
                out.write(gaps.tobytes())
            gaps, said = array("d"), now
            before = loop.time()


COLLECTOR = Collector(name=NAME, options=Options, plan=plan, look=look, metrics=_METRICS, interval=5.0)


def site(directory: Path) -> dict[str, str]:
    """Make `directory` hold this collector as an installed package; the environment that lets an exporter find it."""
    (directory / "simulated.py").write_bytes(Path(__file__).read_bytes())
    information = directory / "regiondrift_simulated-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: regiondrift-simulated\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[regiondrift.collectors]\n{NAME} = simulated:COLLECTOR\n")
    path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def configuration(entries: Iterable[str], state_dir: Path | None) -> str:
    """A document with these entries, each one line of YAML in flow style."""
    lines = ["version: 1", "regions: [montreal, amsterdam]", "objectives: {recovery_point: 30s}"]
    lines += [f"state_dir: {state_dir}"] if state_dir else []
    return "\n".join([*lines, f"{NAME}:", *(f"  - {{{entry}}}" for entry in entries), ""])
