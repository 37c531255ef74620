"""What is answered at which path? The HTTP side of a running exporter, on aiohttp's low-level server.

No router, middleware or access log stands between a scrape and the bytes that already exist.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

from regiondrift.web.answer import Answer, head, lines_of
from regiondrift.web.connection import Connection, Door, Known, Limits
from regiondrift.web.document import pieces
from regiondrift.web.house import House
from regiondrift.web.negotiate import Format, choose, wants_gzip
from regiondrift.web.page import CONTENT_SECURITY_POLICY, page

GRACE: Final = 1.0
"""Seconds that answers under way have at the end."""

_BACKLOG: Final = 1024
_ACCEPTED_AT_ONCE: Final = 32

_PLAIN: Final = {"Content-Type": "text/plain; charset=utf-8"}
_SAFE: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_READ: Final = ("GET", "HEAD")

_Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]


class WebServer:
    """Serves one house at some addresses.

    Args:
        addresses: host and port; an empty host means all interfaces, of IPv4 and, where there is one, IPv6.
    """

    def __init__(self, house: House, addresses: list[tuple[str, int]], limits: Limits = Limits()) -> None:  # noqa: B008
        self._house = house
        self._wanted = addresses
        self._limits = limits
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._door: Door | None = None
        self._manager: _Manager | None = None
        self._paths: Mapping[str, tuple[tuple[str, ...], _Handler]] = {
            "/metrics": (_READ, self._metrics),
            "/": (_READ, self._page),
            "/-/healthy": (_READ, self._healthy),
            "/-/ready": (_READ, self._ready),
            "/-/reload": (("POST",), self._reload),
            "/api/v1/status": (_READ, self._status),
        }

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, with the ports that the kernel chose."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: an address cannot be had; the message names it, and nothing is left open.
        """
        loop = asyncio.get_running_loop()
        self._door = Door(self._limits)
        self._manager = _Manager(self._answer, self._door)
        try:
            for host, port in self._wanted:
                self._sockets += _listening(host, port)
        except OSError:
            _close(self._sockets)
            raise
        for sock in self._sockets:
            # asyncio accepts as many connections in one turn of the loop as its backlog says; the kernel's is longer.
            self._servers.append(await loop.create_server(self._manager, sock=sock, backlog=_ACCEPTED_AT_ONCE))
            sock.listen(_BACKLOG)
        self._door.open()

    async def stop(self) -> None:
        """Ends in little more than a second, whatever clients do."""
        for server in self._servers:
            server.close()
        if self._door and self._manager:
            await self._door.close(GRACE)
            await self._manager.shutdown(0.1)
        self._servers, self._sockets = [], []

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        with connection.answering():
            methods, answer = self._paths.get(request.path, (None, None))
            if methods is None or answer is None:
                return await Answer(404, b"There is nothing here. Try / or /metrics.\n", _PLAIN).deliver(request)
            if request.method not in methods:
                words = f"{request.path} takes {' and '.join(methods)}, not this method.\n".encode()
                return await Answer(405, words, {**_PLAIN, "Allow": ", ".join(methods)}).deliver(request)
            return await answer(request)

    async def _metrics(self, request: BaseRequest) -> StreamResponse:
        headers = request.headers
        wanted = choose(_joined(headers, "Accept"))
        gzip = wants_gzip(_joined(headers, "Accept-Encoding"))
        body = await self._house.metrics(wanted, gzip)
        if request.method == "GET" and request.version == (1, 1) and not request.can_read_body:
            self._teach(request, wanted, gzip)
        return await Answer(200, body, _METRICS_HEADERS[wanted, gzip]).deliver(request)

    def _teach(self, request: BaseRequest, wanted: Format, gzip: bool) -> None:
        """Have this request answered by heart when it comes again."""
        ends = not request.keep_alive
        lines = lines_of(_METRICS_HEADERS[wanted, gzip]) + ("Connection: close\r\n" if ends else "")

        def answer() -> tuple[bytes, bytes] | None:
            body = _at_once(self._house.metrics(wanted, gzip))
            return None if body is None else (head(200, lines, len(body)), body)

        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.learn(Known(answer, ends))

    async def _page(self, request: BaseRequest) -> StreamResponse:
        status = await self._house.status()
        html = await self._house.aside(lambda: page(status).encode())
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Frame-Options": "DENY",
            **_SAFE,
        }
        return await Answer(200, html, headers).deliver(request)

    async def _status(self, request: BaseRequest) -> StreamResponse:
        status = await self._house.status()
        body = await self._house.aside(lambda: "".join(pieces(status)).encode())
        return await Answer(200, body, {"Content-Type": "application/json", **_SAFE}).deliver(request)

    async def _healthy(self, request: BaseRequest) -> StreamResponse:
        if self._house.healthy():
            return await Answer(200, b"The scheduler's heart beats.\n", _PLAIN).deliver(request)
        return await Answer(503, b"The scheduler's heart has not beaten of late.\n", _PLAIN).deliver(request)

    async def _ready(self, request: BaseRequest) -> StreamResponse:
        if self._house.ready():
            return await Answer(200, b"Every target was looked at.\n", _PLAIN).deliver(request)
        return await Answer(503, b"Not every target was looked at yet.\n", _PLAIN).deliver(request)

    async def _reload(self, request: BaseRequest) -> StreamResponse:
        problem = await self._house.reload()
        if problem is None:
            return await Answer(200, b"Reloaded.\n", _PLAIN).deliver(request)
        return await Answer(500, problem.rstrip("\n").encode(errors="replace") + b"\n", _PLAIN).deliver(request)


def _at_once(body: Coroutine[Any, Any, bytes]) -> bytes | None:
    """What it returns if it does so without waiting."""
    try:
        body.send(None)
    except StopIteration as ended:
        found: bytes = ended.value
        return found
    body.close()
    return None


class _Manager(Server):
    """aiohttp's server, with connections that the door knows."""

    def __init__(self, handler: _Handler, door: Door) -> None:
        super().__init__(handler)
        self._door = door

    def __call__(self) -> Connection:
        return Connection(
            self,
            self._door,
            loop=self._loop,
            access_log=None,
            # The door ends idle connections; this is later, and for a body that nobody reads.
            keepalive_timeout=3600,
            lingering_time=2.0,
        )


_METRICS_HEADERS: Final = {
    (spoken, gzip): {
        "Content-Type": spoken.content_type,
        "Vary": "Accept, Accept-Encoding",
        **({"Content-Encoding": "gzip"} if gzip else {}),
    }
    for spoken in Format
    for gzip in (False, True)
}


def _joined(headers: Mapping[str, Any], name: str) -> str | None:
    """A header's value; several lines of it are one list (RFC 9110, section 5.3)."""
    values = headers.getall(name, None)  # type: ignore[attr-defined]
    return ", ".join(values) if values else None


def _listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at one address; at an empty host, one per family of addresses that there is."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    # IPv4 first: a port that the kernel chooses for it is then asked for in IPv6, too.
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in found:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            continue  # a kernel without IPv6
        sockets.append(sock)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind((address[0], port or sockets[0].getsockname()[1], *address[2:]))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and len(found) > 1 and family == socket.AF_INET6:
                sockets.remove(sock)
                sock.close()
                continue
            _close(sockets)
            words = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {words}") from error
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {host}:{port}: no such address here")
    return sockets


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
    sockets.clear()
