"""How long may a client keep us? Connections of HTTP clients, bounded in number and in patience.

aiohttp 3.14 keeps a half-sent request, and a client that reads nothing, for ever. Here every connection is in one of
three queues, each in the order of time, so that the first of a queue is the next that is too late:

asking     we wait for (the rest of) a request: since it connected, or since the first byte after the last answer
kept       it was answered and may ask again
answering  a request is being answered
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears. Times in seconds."""

    connections: int = 512
    sending: int = 64
    """Answers under way at once. A slow reader holds on to its exposition, so their number bounds memory."""
    request: float = 10.0
    """From the first byte of a request, or from connecting, to the end of its headers."""
    idle: float = 300.0
    """Between two requests of one connection; longer than any sensible scrape interval."""
    stall: float = 30.0
    """Without a byte taken by a client that is being answered."""
    sweep: float = 1.0
    """Between two looks for clients that are too late."""


FIRST: Final = 64 * 1024
"""Bytes of the body that go with the head, in one copy."""
SLICE: Final = 1024 * 1024
"""Bytes given to the kernel at once. What it does not take is copied, so this is the most that is."""
BREATH: Final = 4
"""Slices after which other tasks have a turn, even if the client takes them as fast as they come."""

KNOWN: Final = 32
KNOWN_BYTES: Final = 4096
"""How many requests, and how long ones, are known by heart."""


@dataclass(frozen=True, slots=True)
class Known:
    """What to do when a request comes again, byte for byte: a scraper asks the same at each scrape."""

    answer: Callable[[], tuple[bytes, bytes] | None]
    """Head and body; None: there would be waiting, so it takes the usual way."""
    ends: bool
    """The connection ends with the answer."""


class Connection(RequestHandler):
    """aiohttp's protocol of one connection, which tells the door what it does.

    aiohttp learns of the connection at the first request that is not `Known`; the others are answered from here,
    without parser, task and response.
    """

    __slots__ = (
        "_awaited",
        "_door",
        "_ends",
        "_heard",
        "_made",
        "_refused",
        "_rest",
        "_untouched",
        "parts",
        "stalled_at",
        "stalled_since",
    )

    def __init__(self, manager: Server, door: Door, **options: Any) -> None:
        super().__init__(manager, **options)
        self._door = door
        self._refused = False
        self._awaited = True
        self._made = False
        self._untouched = True
        """Nothing was read of the next request."""
        self._heard: bytes | None = None
        """All that was read of it, if it came at once."""
        self._rest: memoryview | None = None
        """What is left to be sent of the answer to a known request."""
        self._ends = False
        self.parts = 0
        self.stalled_at = (0, 0)
        self.stalled_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._door.admits():
            self._refused = True
            transport.abort()
            return
        # Nothing waits in the process while the kernel takes it: `drain` then means that the kernel has it.
        transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self._door.asking[self] = self._loop.time()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._untouched:
            known = self._door.known.get(data)
            if known is not None and self._answer_known(known):
                return
        self._heard = data if self._untouched else None
        self._untouched = False
        self._awaited = True
        if self._door.kept.pop(self, None) is not None:
            self._door.asking[self] = self._loop.time()
        if not self._made and self.transport is not None:
            self._made = True
            super().connection_made(self.transport)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._rest = None
        if not self._refused:
            self._door.forget(self)
        if self._made:
            super().connection_lost(exc)
        self.transport = None

    # ---- requests that are known

    def learn(self, known: Known) -> None:
        """The request being answered is to be answered so from now on, if nothing but itself was read, in one piece."""
        heard = self._heard
        if heard is not None and len(heard) <= KNOWN_BYTES and heard.find(b"\r\n\r\n") == len(heard) - 4:
            its = self._door.known
            its.pop(heard, None)
            its[heard] = known
            if len(its) > KNOWN:
                del its[next(iter(its))]

    def _answer_known(self, known: Known) -> bool:
        answer = known.answer()
        transport = self.transport
        if answer is None or transport is None:
            return False
        head, body = answer
        door, now = self._door, self._loop.time()
        door.asking.pop(self, None)
        door.kept.pop(self, None)
        door.answering[self] = door.sending[self] = self.stalled_since = now
        door.bound_sending()
        view = memoryview(body)
        self._ends, self._rest = known.ends, view[FIRST:]
        transport.write(b"".join((head, view[:FIRST])))
        self.parts += 1
        self._go_on()
        if self._rest is not None:
            # One request at a time: the next one waits in the kernel.
            transport.pause_reading()
        return True

    def _go_on(self) -> None:
        """Give the kernel more of the answer, as long as it takes it."""
        transport = self.transport
        if self._rest is None or transport is None or transport.is_closing():
            return
        for _ in range(BREATH):
            if self._paused:
                return  # resume_writing comes
            if not self._rest:
                self._sent(transport)
                return
            transport.write(self._rest[:SLICE])
            self._rest = self._rest[SLICE:]
            self.parts += 1
        self._loop.call_soon(self._go_on)

    def _sent(self, transport: asyncio.Transport) -> None:
        self._rest = None
        self._untouched = True
        self._door.sending.pop(self, None)
        self._door.answering.pop(self, None)
        self._door.kept[self] = self._loop.time()
        self._door.settled()
        if self._ends:
            transport.close()
        elif not transport.is_reading():
            transport.resume_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    # ---- what aiohttp answers

    def abort(self) -> None:
        """End it now, whatever was to be sent."""
        if self.transport is not None:
            self.transport.abort()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While a request of this connection is being answered."""
        self._awaited = False
        self._door.asking.pop(self, None)
        self._door.answering[self] = self._loop.time()
        try:
            yield
        finally:
            if self._door.answering.pop(self, None) is not None:
                self._untouched = not self._awaited
                queue = self._door.asking if self._awaited else self._door.kept
                queue[self] = self._loop.time()
                self._door.settled()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """While an answer is being sent. One too many, and the one that takes longest ends."""
        self.stalled_since = self._loop.time()
        self._door.sending[self] = self.stalled_since
        self._door.bound_sending()
        try:
            yield
        finally:
            self._door.sending.pop(self, None)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        # What clients get wrong is no error of ours: no log, and nothing of it sent back.
        words = "This is no HTTP request that can be understood here.\n"
        response = Response(status=status, text=words, headers={"Server": "regiondrift"})
        response.force_close()
        return response


class Door:
    """All connections of one server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._settled: asyncio.Event | None = None
        self.known: dict[bytes, Known] = {}
        """Requests that came before, byte for byte; the newest last."""
        self.asking: dict[Connection, float] = {}
        self.kept: dict[Connection, float] = {}
        self.answering: dict[Connection, float] = {}
        self.sending: dict[Connection, float] = {}
        """Those of `answering` that bytes are being sent to."""

    def __len__(self) -> int:
        return len(self.asking) + len(self.kept) + len(self.answering)

    def open(self) -> None:
        self._timer = self._loop.call_later(self._limits.sweep, self._sweep)

    async def close(self, grace: float) -> None:
        """Ends every connection; those that are being answered have `grace` seconds more."""
        if self._timer:
            self._timer.cancel()
        for connection in [*self.asking, *self.kept]:
            connection.abort()
        self._settled = asyncio.Event()
        try:
            async with asyncio.timeout(grace):
                while self.answering:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass
        for connection in [*self.asking, *self.kept, *self.answering]:
            connection.abort()

    def admits(self) -> bool:
        """Whether one more may come in: if need be, who has kept us waiting longest goes. A client that asks at once
        is thus served however many others hold half a request."""
        if len(self) < self._limits.connections:
            return True
        for queue in (self.asking, self.kept):
            for connection in queue:
                self._end(connection)
                return True
        return False

    def bound_sending(self) -> None:
        if len(self.sending) > self._limits.sending:
            self._end(next(iter(self.sending)))

    def settled(self) -> None:
        if self._settled:
            self._settled.set()

    def forget(self, connection: Connection) -> None:
        for queue in (self.asking, self.kept, self.answering, self.sending):
            queue.pop(connection, None)
        self.settled()

    def _end(self, connection: Connection) -> None:
        self.forget(connection)
        connection.abort()

    def _sweep(self) -> None:
        now = self._loop.time()
        for queue, patience in ((self.asking, self._limits.request), (self.kept, self._limits.idle)):
            for connection, since in [*queue.items()]:
                if now - since <= patience:
                    break
                self._end(connection)
        for connection in [*self.sending]:
            transport = connection.transport
            at = (connection.parts, transport.get_write_buffer_size() if transport else 0)
            if at != connection.stalled_at:
                connection.stalled_at, connection.stalled_since = at, now
            elif now - connection.stalled_since > self._limits.stall:
                self._end(connection)
        self._timer = self._loop.call_later(self._limits.sweep, self._sweep)
