"""Which bytes does a scrape get? The newest published version; making it is the work of one thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from regiondrift.model import Metric, Sample
from regiondrift.render.lines import OwnerLines, header
from regiondrift.render.pack import deflated, gzipped

log = logging.getLogger(__name__)

DUTY: Final = 20
"""A version that took x seconds to make is followed by the next after DUTY * x, within these bounds. All that is said is
a moment, so that a version that is half a second old is as true as ever. Who cannot do with that waits for `caught_up`."""
SHORTEST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 1.0
WORTH_PARTS: Final = 256 * 1024
"""Bytes of an exposition from which on its families are compressed one by one."""
WANTED_FOR: Final = 120.0
"""Seconds for which a format that was asked for is made ahead of the next scrape."""

Variant = tuple[bool, bool]
"""(OpenMetrics, gzip)"""
Foreign = Callable[[], tuple[bytes, bytes]]
"""Families that are not ours, rendered: as text, as OpenMetrics."""


@dataclass(slots=True)
class Version:
    """One exposition: everything that was known when it was made."""

    number: int
    step: float
    """Of the house clock, with which its moments were written."""
    series: int
    bodies: dict[Variant, bytes] = field(default_factory=dict)


class _Family:
    """The pieces of one family, by owner, and their join."""

    __slots__ = ("body", "dirty", "openmetrics", "packed", "pieces", "text")

    def __init__(self, metric: Metric) -> None:
        self.pieces: dict[Hashable, bytes] = {}
        self.text, self.openmetrics = header(metric, False), header(metric, True)
        self.body = b""
        self.packed: bytes | None = None
        """The body, compressed."""
        self.dirty = False

    def joined(self) -> bytes:
        if self.dirty:
            self.body = b"".join(self.pieces.values())
            self.dirty, self.packed = False, None
        return self.body

    def compressed(self) -> bytes:
        """What is joined, compressed; done anew only when it has changed."""
        if self.packed is None:
            self.packed = deflated(self.joined())
        return self.packed


class Publisher:
    """Takes samples by owner from the event loop, and publishes versions from its thread."""

    def __init__(self, foreign: Foreign = lambda: (b"", b"")) -> None:
        self._foreign = foreign
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._dirty: dict[Hashable, Sequence[Sample] | None] = {}
        self._wanted: dict[Variant, float] = {}
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._step = 0.0
        self._closed = False
        self._owners: dict[Hashable, OwnerLines] = {}
        self._families: dict[Metric, _Family] = {}
        self._order: list[Metric] = []
        self._series = 0
        self.version = Version(0, 0.0, 0)
        self.render_seconds = 0.0
        """How long the last version took to make."""
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._urgent.set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    # ---- called on the event loop; nothing here takes longer than a dictionary entry

    def put(self, owner: Hashable, samples: Sequence[Sample]) -> None:
        """From now on these are the samples of `owner`."""
        with self._lock:
            self._dirty[owner] = samples
        if not self._wake.is_set():
            self._wake.set()

    def drop(self, owner: Hashable) -> None:
        """From now on `owner` has no samples."""
        with self._lock:
            self._dirty[owner] = None
        self._wake.set()

    def stepped(self, step: float) -> None:
        """The wall clock was stepped: every moment is written anew."""
        with self._lock:
            self._step = step
        self._wake.set()

    async def body(self, openmetrics: bool, gzip: bool, step: float | None = None) -> bytes:
        """The newest version in one format. Waits only for the first version, for one with this `step`, or for a format
        that nobody has asked for lately."""
        variant = (openmetrics, gzip)
        while True:
            self._wanted[variant] = time.monotonic()
            version = self.version
            found = version.bodies.get(variant)
            if found is not None and (step is None or step == version.step):
                return found
            await self.caught_up()

    async def caught_up(self) -> None:
        """Until a version holds all that was put so far."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        with self._lock:
            self._waiting.append((loop, waiting))
        self._wake.set()
        self._urgent.set()
        await waiting

    # ---- the thread

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            began = time.perf_counter()
            try:
                self._publish()
            except Exception:
                log.exception("a version of the exposition could not be made")
                # Ends the thread: the process notices and ends, rather than serve one version for ever.
                raise
            took = self.render_seconds = time.perf_counter() - began
            self._urgent.wait(min(LONGEST_PAUSE, max(SHORTEST_PAUSE, DUTY * took)))
            self._urgent.clear()

    def _publish(self) -> None:
        with self._lock:
            dirty, self._dirty = self._dirty, {}
            waiting, self._waiting = self._waiting, []
            step = self._step
        stepped = step != self.version.step
        if stepped:
            dirty = {**dict.fromkeys(self._owners, _AS_IT_WAS), **dirty}
        for owner, samples in dirty.items():
            self._update(owner, samples, step, stepped)
        self._join(step)
        for loop, future in waiting:
            loop.call_soon_threadsafe(_wake_up, future)

    def _update(self, owner: Hashable, samples: Sequence[Sample] | None, step: float, stepped: bool) -> None:
        lines = self._owners.get(owner)
        if samples is None:
            if lines is None:
                return
            changed = set(lines.pieces)
            self._series -= len(lines)
            del self._owners[owner]
            pieces: dict[Metric, bytes] = {}
        else:
            if lines is None:
                lines = self._owners[owner] = OwnerLines()
            self._series -= len(lines)
            changed = lines.update(lines.samples() if samples is _AS_IT_WAS else samples, step, stepped)
            self._series += len(lines)
            pieces = lines.pieces
        for metric in changed:
            family = self._families.get(metric)
            if family is None:
                family = self._families[metric] = _Family(metric)
                self._order = sorted(self._families, key=lambda m: m.name)
            piece = pieces.get(metric)
            if piece is None:
                family.pieces.pop(owner, None)
            else:
                family.pieces[owner] = piece
            family.dirty = True

    def _join(self, step: float) -> None:
        wanted = [v for v, at in list(self._wanted.items()) if time.monotonic() - at < WANTED_FOR] or [(False, False)]
        foreign = self._foreign()
        new = Version(self.version.number + 1, step, self._series)
        for openmetrics in {v[0] for v in wanted}:
            families = [family for metric in self._order if (family := self._families[metric]).joined()]
            heads = [family.openmetrics if openmetrics else family.text for family in families]
            last = foreign[openmetrics] + (b"# EOF\n" if openmetrics else b"")
            plain = b"".join([*chain.from_iterable(zip(heads, [f.body for f in families], strict=True)), last])
            new.bodies[openmetrics, False] = plain
            if (openmetrics, True) in wanted:
                if len(plain) < WORTH_PARTS:
                    parts = [deflated(plain)]
                else:
                    packed = [f.compressed() for f in families]
                    parts = [*chain.from_iterable(zip(map(deflated, heads), packed, strict=True)), deflated(last)]
                new.bodies[openmetrics, True] = gzipped(parts, plain)
        self.version = new


_AS_IT_WAS: Final[list[Sample]] = []


def _wake_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
