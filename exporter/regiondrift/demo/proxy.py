"""How is a link between two regions cut, silenced or made slow? A TCP proxy on loopback whose faults can be chosen."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from typing import Final, Literal, Self

Mode = Literal["pass", "refuse", "blackhole", "slow"]
"""pass: carries everything. refuse: resets what is open and what comes. blackhole: carries nothing, not even the end of
a connection, and still accepts; what waits arrives when it passes again, as after a real outage. slow: as pass, at most
`rate` bytes per second each way and connection."""

_TICK: Final = 0.05
_HELD: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)


class _Pipe:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.held = bytearray()
        self.ended = False
        self.finished = False
        self.allowance = 0.0

    def move(self, limit: int | None) -> bool:
        """Carry what can be carried without waiting; False if nothing moved.

        Raises:
            OSError: the connection is broken.
        """
        moved = False
        room = (_HELD if limit is None else min(_HELD, max(limit, 1))) - len(self.held)
        if not self.ended and room > 0:
            with contextlib.suppress(BlockingIOError):
                data = self.source.recv(room)
                moved = True
                self.ended = not data
                self.held += data
        portion = len(self.held) if limit is None else min(len(self.held), limit)
        if portion:
            with contextlib.suppress(BlockingIOError):
                sent = self.sink.send(memoryview(self.held)[:portion])
                moved = True
                self.allowance -= sent if limit is not None else 0
                del self.held[:sent]
        if self.ended and not self.held and not self.finished:
            self.finished = True
            self.sink.shutdown(socket.SHUT_WR)
        return moved


class Proxy:
    """Carries TCP connections to `target`. One thread of its own; every method may be called from any thread."""

    def __init__(self, target: tuple[str, int], port: int = 0) -> None:
        self.target = target
        """Where new connections are carried to: host, port. May be changed."""
        self._mode: Mode = "pass"
        self._rate = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[_Pipe, _Pipe]] = []
        self._waiting: list[socket.socket] = []
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def connections(self) -> int:
        """How many are open, those held in the black hole included."""
        with self._lock:
            return len(self._pairs) + len(self._waiting)

    def set(self, mode: Mode, rate: int = 0) -> None:
        """Change what the link does, from now on and for what is open. `rate`: bytes per second, for `slow`."""
        if (mode == "slow") != (rate > 0):
            raise ValueError("a rate belongs to mode slow")
        with self._lock:
            self._mode, self._rate = mode, rate
            if mode == "refuse":
                self._reset()
        self._wake.send(b"x")

    def close(self) -> None:
        """Reset what is open and stop listening. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._wake.send(b"x")
        self._thread.join()
        with self._lock:
            self._reset()
        for sock in (self._listener, self._wake, self._woken):
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reset(self) -> None:
        for sock in [*self._waiting, *(pipe.source for pair in self._pairs for pipe in pair)]:
            _reset(sock)
        self._waiting.clear()
        self._pairs.clear()

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                slow = self._mode == "slow"
                self._accept()
                if self._mode in ("pass", "slow"):
                    for sock in self._waiting:
                        self._connect(sock)
                    self._waiting.clear()
                    self._pairs = [pair for pair in self._pairs if self._carry(pair)]
            if slow:
                time.sleep(_TICK)
            else:
                self._wait()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._mode == "refuse":
                _reset(sock)
            else:
                self._waiting.append(sock)

    def _connect(self, sock: socket.socket) -> None:
        try:
            # Loopback: at once or refused.
            onward = socket.create_connection(self.target, timeout=2)
        except OSError:
            _reset(sock)
            return
        for each in (sock, onward):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append((_Pipe(sock, onward), _Pipe(onward, sock)))

    def _carry(self, pair: tuple[_Pipe, _Pipe]) -> bool:
        """False when the connection is over."""
        try:
            for pipe in pair:
                if self._mode == "slow":
                    pipe.allowance = min(pipe.allowance + self._rate * _TICK, max(1.0, self._rate * _TICK))
                    if pipe.allowance >= 1:
                        pipe.move(int(pipe.allowance))
                else:
                    while pipe.move(None):
                        pass
        except OSError:
            for pipe in pair:
                _reset(pipe.source)
            return False
        if pair[0].finished and pair[1].finished:
            for pipe in pair:
                pipe.source.close()
            return False
        return True

    def _wait(self) -> None:
        """Until something can be carried, comes, or changes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            with self._lock:
                events: dict[socket.socket, int] = {}
                if self._mode == "pass":
                    for pair in self._pairs:
                        for pipe in pair:
                            if not pipe.ended and len(pipe.held) < _HELD:
                                events[pipe.source] = events.get(pipe.source, 0) | selectors.EVENT_READ
                            if pipe.held:
                                events[pipe.sink] = events.get(pipe.sink, 0) | selectors.EVENT_WRITE
                for sock, mask in events.items():
                    selector.register(sock, mask)
            selector.select()
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)


def _reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN: the other end is told that the connection broke."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
