"""What does it look like from here, now? ``regiondrift probe``: a few looks without a server, and a table."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from regiondrift import __version__, log
from regiondrift.catalog import Catalog
from regiondrift.clock import Clock
from regiondrift.config import Configuration, ConfigurationError, load
from regiondrift.discover import Discoveries
from regiondrift.house import House
from regiondrift.model import HouseStatus, Plan
from regiondrift.render.publisher import Publisher
from regiondrift.schedule.guard import Guard
from regiondrift.schedule.scheduler import Scheduled
from regiondrift.state import Key, StateFile
from regiondrift.table import exit_code, print_status

LOOKS: Final = 3


def run(config_file: Path, entry: str | None) -> int:
    """Look up to three times within two intervals and print a table. 1: certainly broken, 2: unknown, 0: neither."""
    # What fails stands in the table.
    log.setup("error")
    catalog = Catalog()
    try:
        configuration = load(config_file, catalog)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    plans = [p for p in configuration.plans if entry in (None, p.entry)]
    if entry is not None and not plans:
        names = ", ".join(sorted({p.entry for p in configuration.plans})) or "none"
        sys.stderr.write(f"regiondrift: no entry is called {entry!r}; there are: {names}\n")
        return 2
    status = asyncio.run(_look(catalog, configuration, plans, _progress()))
    print_status(status, sys.stdout)
    return exit_code(status)


async def _look(
    catalog: Catalog, configuration: Configuration, plans: list[Plan], progress: Callable[[str], None]
) -> HouseStatus:
    clock = Clock()
    state = StateFile.read_only(configuration.state_dir) if configuration.state_dir else StateFile.in_memory()
    house = House(clock, Publisher(), lambda key: state.load(Key(key.collector, key.entry)))
    discoveries = Discoveries(catalog.load, clock, lambda key: state.load(Key(key.collector, key.entry)))
    house.apply(discoveries.apply(plans))
    watched: dict[Scheduled, Guard] = {}

    async def once(scheduled: Scheduled) -> None:
        if scheduled not in watched:
            watched[scheduled] = Guard(catalog.load(scheduled.collector), scheduled.target, scheduled.timeout, clock)
        ended = discoveries.ended(scheduled, await watched[scheduled].look())
        if not scheduled.target.node:
            house.apply(discoveries.plans)
        house.ended(scheduled, ended)
        progress(scheduled.target.label)

    async def everything() -> None:
        """Whoever knows what else there is comes first."""
        for nodes in (False, True):
            targets = [(p, t) for p in discoveries.plans for t in p.targets if t.node is nodes]
            await asyncio.gather(*(once(Scheduled(p.collector, t, p.interval, p.timeout)) for p, t in targets))

    interval = max((p.interval for p in plans), default=0.0)
    began = clock.now()

    def status() -> HouseStatus:
        now = clock.wall(clock.now())
        return HouseStatus(
            now=now,
            version=__version__,
            started=clock.wall(began),
            regions=configuration.regions,
            config_file=str(configuration.path),
            config_loaded=clock.wall(began),
            config_error=None,
            state_problem=state.problem,
            targets=tuple(house.targets()),
            links=tuple(house.links()),
        )

    try:
        for i in range(LOOKS):
            await everything()
            # A second look, after the first told what the source holds, is what proves a busy replica.
            left = 2 * interval - (clock.now() - began)
            if exit_code(status()) != 2 or i == LOOKS - 1 or left <= 0:
                break
            await asyncio.sleep(min(left, max(interval / 2, 0.1)))
        return status()
    finally:
        progress("")
        await asyncio.gather(*(guard.close() for guard in watched.values()))
        state.close()


def _progress() -> Callable[[str], None]:
    """Shows on a terminal what was looked at last; says nothing in a pipe."""
    if not sys.stderr.isatty():
        return lambda text: None

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[Klooked at {text}" if text else "\r\x1b[K")
        sys.stderr.flush()

    return show
