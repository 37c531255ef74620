"""Which configuration is in force? Loaded off the loop, validated whole, then swapped; a bad file changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from regiondrift.bulkhead import Bulkhead, BusyError
from regiondrift.catalog import Catalog
from regiondrift.clock import Clock
from regiondrift.config import Configuration, ConfigurationError, load
from regiondrift.filestamp import stamp
from regiondrift.model import Moment

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0
"""Seconds between two looks whether the file has changed."""


@dataclass(slots=True)
class Loaded:
    """The configuration in force and how the last attempt to replace it went."""

    configuration: Configuration
    at: Moment
    error: str | None = None


class Reloader:
    """Keeps the configuration up to its file. `apply` makes a new one effective."""

    def __init__(
        self,
        catalog: Catalog,
        first: Configuration,
        seen: object,
        apply: Callable[[Configuration], Awaitable[None]],
        clock: Clock,
        bulkhead: Bulkhead,
    ) -> None:
        self._catalog, self._apply, self._clock, self._bulkhead = catalog, apply, clock, bulkhead
        self._path = first.path
        self._stamp = seen
        self._one = asyncio.Lock()
        self.loaded = Loaded(first, clock.now())

    async def reload(self) -> str | None:
        """Take the file as it is now. None: in force; else why it is not."""
        async with self._one:
            try:
                self._stamp = await self._bulkhead.run("configuration", stamp, self._path)
                new = await self._bulkhead.run("configuration", load, self._path, self._catalog)
            except ConfigurationError as error:
                return self._refused(str(error))
            except BusyError:
                return self._refused(f"{self._path}: reading it has not returned yet")
            if new.state_dir != self.loaded.configuration.state_dir:
                log.warning("state_dir has changed: that takes effect at the next start")
            await self._apply(new)
            self.loaded = Loaded(new, self._clock.now())
            log.info("configuration loaded", extra={"fields": {"file": self._path, "hash": new.digest[:12]}})
            for warning in new.warnings:
                log.warning("%s", warning)
            return None

    async def follow(self) -> None:
        """Reload whenever the file changes, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                found = await self._bulkhead.run("configuration file", stamp, self._path)
            except BusyError:
                continue
            if found != self._stamp:
                await self.reload()

    def _refused(self, why: str) -> str:
        if why != self.loaded.error:
            log.error("the configuration is not taken; the one before stays in force", extra={"fields": {"error": why}})
        self.loaded.error = why
        return why
