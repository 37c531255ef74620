"""How does the house stand together? The composition root of ``regiondrift serve``: what it starts, supervises and ends."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import faulthandler
import gc
import itertools
import logging
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from regiondrift import __version__, self_metrics
from regiondrift.bulkhead import Bulkhead
from regiondrift.catalog import Catalog
from regiondrift.clock import Clock
from regiondrift.config import Configuration, ConfigurationError, load
from regiondrift.discover import Discoveries
from regiondrift.discover import keys as discovery_keys
from regiondrift.filestamp import stamp
from regiondrift.following import key_of as followers_of
from regiondrift.house import House
from regiondrift.model import HouseStatus, Moment, Plan
from regiondrift.reload import Reloader
from regiondrift.render.process import process_families
from regiondrift.render.publisher import Publisher
from regiondrift.schedule.guard import Ended
from regiondrift.schedule.scheduler import Scheduled, Scheduler
from regiondrift.state import Key, Remembered, StateFile, StateLockedError, StateWriter
from regiondrift.web.negotiate import Format
from regiondrift.web.server import WebServer

T = TypeVar("T")

log = logging.getLogger(__name__)

SWITCH: Final = 0.0005
"""Seconds after which the publisher's thread lets the event loop have a turn; Python's own 0.005 would be felt at each."""
YOUNG: Final = 20_000
"""Objects made before the garbage collector looks at the young ones."""
HEARTBEAT: Final = 0.5
SAID_EVERY: Final = 4
"""Heartbeats between two exports of the exporter's own state."""
FROZEN_AFTER: Final = 25
"""Seconds without a heartbeat after which the process ends itself."""
STOP_WITHIN: Final = 4.0
STATE_WITHIN: Final = 1.5
"""Seconds that a reload waits for what the state file remembers of new entries."""
STEP: Final = 100
"""Links or targets that the status takes up at once: about 2 ms."""
SAY_AGAIN: Final = 60.0
"""Seconds until the event loop's same complaint is logged again."""
MOST_DESCRIPTORS: Final = 1 << 16
DESCRIPTORS: Final = 600
"""What is needed beside one per target: HTTP clients, files, pipes."""
KEPT_FOR: Final = 30 * 86400.0
"""Seconds for which the state file remembers an entry that left the configuration."""


def run(config_file: Path, listen: Sequence[tuple[str, int]]) -> int:
    """Serve until SIGTERM or SIGINT. The exit code: 0 ended on request, 1 port, state or a fault of ours, 2 configuration."""
    catalog = Catalog()
    seen = stamp(config_file)
    try:
        configuration = load(config_file, catalog)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for warning in configuration.warnings:
        log.warning("%s", warning)
    try:
        state = StateFile.open(configuration.state_dir) if configuration.state_dir else StateFile.in_memory()
    except StateLockedError as error:
        log.critical("%s", error)
        return 1
    _take_descriptors(DESCRIPTORS + sum(len(plan.targets) for plan in configuration.plans))
    return asyncio.run(Exporter(catalog, configuration, seen, state).serve(listen))


class Exporter:
    """The running exporter: everything that ``serve`` puts together."""

    def __init__(self, catalog: Catalog, configuration: Configuration, seen: object, state: StateFile) -> None:
        self._clock = Clock()
        self._started = self._clock.now()
        self._bulkhead = Bulkhead()
        self._publisher = Publisher(process_families())
        self._remembered = {key: state.load(key) for key in _keys(configuration)}
        self._state = StateWriter(state)
        self._house = House(self._clock, self._publisher, lambda key: self._remembered.get(key, Remembered()))
        self._discoveries = Discoveries(catalog.load, self._clock, lambda key: self._remembered.get(key, Remembered()))
        self._scheduler = Scheduler(catalog.load, self._ended, self._clock, self._bulkhead)
        self._reloader = Reloader(catalog, configuration, seen, self._apply, self._clock, self._bulkhead)
        self._beat: Moment = self._clock.now()
        self._loop_lag = 0.0
        self._first_round: asyncio.Task[None] | None = None
        self._settled: Configuration | None = None
        """The configuration whose objects the garbage collector leaves alone."""
        self._works, self._pages = itertools.count(), asyncio.Semaphore(2)
        self._stop = asyncio.Event()
        self._reload_wanted = asyncio.Event()

    async def serve(self, listen: Sequence[tuple[str, int]]) -> int:
        web = WebServer(self, list(listen))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_LoopErrors())
        _on_signals(loop, {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload_wanted})
        sys.setswitchinterval(SWITCH)
        gc.set_threshold(YOUNG, 10, 10)
        self._publisher.start()
        self._house.apply(self._discoveries.apply(self._reloader.loaded.configuration.plans))
        self._publish_self()
        try:
            await web.start()
        except OSError as error:
            log.critical("cannot listen", extra={"fields": {"error": error.strerror or str(error)}})
            sys.stderr.write(f"regiondrift: {error.strerror or error}\n")
            await self._state.close(1.0)
            return 1
        self._scheduler.apply(self._discoveries.plans)
        threading.Thread(target=self._watch_heartbeat, name="watchdog", daemon=True).start()
        log.info(
            "serving",
            extra={"fields": {"version": __version__, "addresses": " ".join(f"{h}:{p}" for h, p in web.addresses)}},
        )
        roots = {
            loop.create_task(self._scheduler.run(), name="scheduler"),
            loop.create_task(self._heartbeat(), name="heartbeat"),
            loop.create_task(self._reloader.follow(), name="configuration watch"),
            loop.create_task(self._reload_on_signal(), name="reload"),
            loop.create_task(self._forget_old(), name="state purge"),
        }
        stop = loop.create_task(self._stop.wait(), name="stop")
        ended, _ = await asyncio.wait({*roots, stop}, return_when=asyncio.FIRST_COMPLETED)
        # Whatever hangs while ending, the process does not.
        _end_process_in(STOP_WITHIN, 0 if stop in ended else 1)
        code = 0
        for root in ended - {stop}:
            died = None if root.cancelled() else root.exception()
            log.critical("%s has ended", root.get_name(), exc_info=died)
            code = 1
        for task in (*roots, stop):
            task.cancel()
        await web.stop()
        await self._scheduler.close(1.0)
        self._remember(everything=True)
        await self._state.close(1.0)
        self._publisher.close()
        self._bulkhead.close()
        log.info("ended")
        return code

    async def _apply(self, configuration: Configuration) -> None:
        self._remember(everything=True)
        try:
            async with asyncio.timeout(STATE_WITHIN):
                known = (self._house.remembers, self._discoveries.remembers)
                new = [key for key in _keys(configuration) if not any(knows(key) for knows in known)]
                self._remembered = {key: await self._state.load(key) for key in new}
        except TimeoutError:
            log.warning("the state file does not answer: entries that are new begin without what it remembers")
            self._remembered = {}
        self._look_at(self._discoveries.apply(configuration.plans))

    def _look_at(self, plans: Iterable[Plan]) -> None:
        self._house.apply(plans)
        self._scheduler.apply(plans)

    def _ended(self, scheduled: Scheduled, ended: Ended) -> None:
        before = self._discoveries.plans
        ended = self._discoveries.ended(scheduled, ended)
        if self._discoveries.plans is not before:
            # First, so that nothing is said of what was listed as if it were all.
            self._look_at(self._discoveries.plans)
        self._house.ended(scheduled, ended)

    def _remember(self, everything: bool = False) -> None:
        for change in (*self._house.persist(everything), *self._discoveries.persist()):
            self._state.put(change)

    # ---- what runs for ever

    async def _heartbeat(self) -> None:
        loop, beats = asyncio.get_running_loop(), 0
        while True:
            before = loop.time()
            await asyncio.sleep(HEARTBEAT)
            self._loop_lag = max(self._loop_lag, loop.time() - before - HEARTBEAT)
            self._beat = self._clock.now()
            self._look_at_clock()
            if not self._publisher.alive:
                raise RuntimeError("the publisher's thread has ended")
            beats += 1
            if beats % SAID_EVERY == 0:
                self._publish_self()
                self._loop_lag = 0.0
                self._spare_the_collector()
            if beats % 2 == 0:
                self._house.grow_older()
                self._remember()

    async def _reload_on_signal(self) -> None:
        while True:
            await self._reload_wanted.wait()
            # However many signals came by now, the file is read after the last of them.
            self._reload_wanted.clear()
            await self.reload()

    def _spare_the_collector(self) -> None:
        """What the first round made stays for long: a look through all of it for garbage stalls the loop for 0.1 s at
        100,000 series. Only what came later is looked through from then on; counting references frees the rest."""
        if self._settled is not self._reloader.loaded.configuration and self.ready():
            self._settled = self._reloader.loaded.configuration
            gc.freeze()

    def _look_at_clock(self) -> None:
        if self._clock.measure():
            log.warning("the wall clock was stepped", extra={"fields": {"seconds": round(self._clock.step, 3)}})
            self._publisher.stepped(self._clock.step)
            self._house.stepped()
            self._discoveries.stepped()
            # Else a kill within the next second would leave times of the old clock.
            self._remember(everything=True)

    def _watch_heartbeat(self) -> None:
        """Runs on a thread. Counts its own seconds, so that a stopped and continued process is not taken for a frozen one."""
        seen, silent = self._beat, 0
        while True:
            time.sleep(1)
            seen, silent = self._beat, silent + 1 if self._beat == seen else 0
            if silent >= FROZEN_AFTER:
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    # A pipe that nobody reads must not keep us.
                    os.set_blocking(sys.stderr.fileno(), False)
                    os.write(sys.stderr.fileno(), b"regiondrift: the event loop is frozen; ending\n")
                    faulthandler.dump_traceback()
                os._exit(1)

    async def _forget_old(self) -> None:
        while True:
            await self._state.purge(_keys(self._reloader.loaded.configuration), KEPT_FOR)
            await asyncio.sleep(86400)

    def _publish_self(self) -> None:
        loaded = self._reloader.loaded
        self._house.publish_self(
            [
                self_metrics.CONFIG(1, hash=loaded.configuration.digest[:12]),
                self_metrics.RELOADED(int(loaded.error is None)),
                self_metrics.RELOADED_AT(loaded.at),
                self_metrics.STATE_HEALTHY(int(self._state.healthy)),
                self_metrics.HEARTBEAT(self._beat),
                self_metrics.LOOP_LAG(max(self._loop_lag, 0.0)),
                self_metrics.RENDER(self._publisher.render_seconds),
                self_metrics.SERIES(self._publisher.version.series),
                self_metrics.THREADS_STUCK(self._bulkhead.stuck),
            ]
        )

    # ---- what the web server asks

    async def metrics(self, format: Format, gzip: bool) -> bytes:
        self._look_at_clock()
        return await self._publisher.body(format is Format.OPENMETRICS, gzip, self._clock.step)

    async def status(self) -> HouseStatus:
        loaded, wall = self._reloader.loaded, self._clock.wall
        targets, links = await _in_steps(self._house.targets()), await _in_steps(self._house.links())
        return HouseStatus(
            now=wall(self._clock.now()),
            version=__version__,
            started=wall(self._started),
            regions=loaded.configuration.regions,
            config_file=str(loaded.configuration.path),
            config_loaded=wall(loaded.at),
            config_error=loaded.error,
            state_problem=self._state.problem,
            targets=targets,
            links=links,
        )

    async def aside(self, work: Callable[[], T]) -> T:
        async with self._pages:
            return await self._bulkhead.run(f"page {next(self._works)}", work)

    def healthy(self) -> bool:
        return self._clock.now() - self._beat < 10 * HEARTBEAT

    def ready(self) -> bool:
        # Once ready, a target that a reload adds does not take that back; and what was seen can be scraped by then.
        if self._first_round is None and self._house.ready:
            self._first_round = asyncio.get_running_loop().create_task(self._publisher.caught_up(), name="first round")
        return self._first_round is not None and self._first_round.done()

    async def reload(self) -> str | None:
        why = await self._reloader.reload()
        self._publish_self()
        await self._publisher.caught_up()
        return why


async def _in_steps(items: Iterator[T]) -> tuple[T, ...]:
    out: list[T] = []
    while some := list(itertools.islice(items, STEP)):
        out += some
        await asyncio.sleep(0)
    return tuple(out)


class _LoopErrors:
    """Takes what the event loop complains of, and passes each complaint on once a minute: without descriptors it would
    complain a thousand times a second of clients that it cannot accept."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = f"{context.get('message', 'event loop')} ({type(error).__name__})"
        now = loop.time()
        if now - self._said.get(text, -math.inf) >= SAY_AGAIN:
            self._said = {t: at for t, at in self._said.items() if now - at < SAY_AGAIN} | {text: now}
            log.error("%s", text, exc_info=error)


def _take_descriptors(needed: int) -> None:
    """Use as many files and sockets as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < needed:
        log.warning(
            "too few file descriptors for every target at once", extra={"fields": {"limit": soft, "needed": needed}}
        )


def _on_signals(loop: asyncio.AbstractEventLoop, events: Mapping[signal.Signals, asyncio.Event]) -> None:
    """Set the event of a signal that comes. Unlike the loop's own handlers these stay when it is closed, so that a second
    signal does not kill a process that is about to end well."""

    def handler(event: asyncio.Event) -> Callable[[int, object], None]:
        def handle(number: int, frame: object) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

        return handle

    for number, event in events.items():
        signal.signal(number, handler(event))
        atexit.register(signal.signal, number, signal.SIG_IGN)


def _keys(configuration: Configuration) -> list[Key]:
    """Under which the state file remembers something of it."""
    links = [Key(p.collector, p.entry) for p in configuration.plans if p.link is not None]
    followers = [followers_of(key.collector, key.entry) for key in links]
    return [*links, *followers, *discovery_keys(configuration.plans)]


def _end_process_in(seconds: float, code: int) -> None:
    def end() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=end, name="end", daemon=True).start()
