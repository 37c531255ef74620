"""Does the house answer over HTTP, and does no client, however rude, keep it from answering another?"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from house_status import night
from regiondrift.model import HouseStatus
from regiondrift.web.connection import Limits
from regiondrift.web.negotiate import Format
from regiondrift.web.page import CONTENT_SECURITY_POLICY
from regiondrift.web.server import WebServer

QUICK = Limits(request=0.3, idle=0.6, stall=0.4, sweep=0.05)
"""As much patience as a test has."""
PATIENT = Limits()


T = TypeVar("T")


@dataclass
class Exporter:
    """A house of glass: what it says is what the test put there."""

    body: bytes = b"up 1\n"
    is_healthy: bool = True
    is_ready: bool = True
    problem: str | None = None
    reloads: int = 0
    hold: asyncio.Event | None = None
    seen: list[tuple[Format, bool]] = field(default_factory=list)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released once per scrape that came in."""

    async def metrics(self, format: Format, gzip: bool) -> bytes:
        self.seen.append((format, gzip))
        self.asked.release()
        if self.hold:
            await self.hold.wait()
        return zipped(self.body) if gzip else self.body

    async def status(self) -> HouseStatus:
        return night()

    async def aside(self, work: Callable[[], T]) -> T:
        return work()

    def healthy(self) -> bool:
        return self.is_healthy

    def ready(self) -> bool:
        return self.is_ready

    async def reload(self) -> str | None:
        self.reloads += 1
        return self.problem


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, 1, mtime=0)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Client:
    """One connection, driven byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, *, head: bool = False) -> Reply:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        assert "transfer-encoding" not in headers
        body = b"" if head else await self.reader.readexactly(int(headers["content-length"]))
        return Reply(int(lines[0].split()[1]), headers, body)

    async def get(self, path: str = "/metrics", method: str = "GET", **headers: str) -> Reply:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode("latin-1"))
        return await self.reply(head=method == "HEAD")

    async def hung_up(self) -> bool:
        """Whether the other end closes within two seconds."""
        try:
            async with asyncio.timeout(2):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


Connect = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def serving(house: Exporter, limits: Limits = PATIENT) -> AsyncIterator[Connect]:
    """Serves it at a port of loopback; gives what opens a connection."""
    server = WebServer(house, [("127.0.0.1", 0)], limits)
    await server.start()
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection(*server.addresses[0])))
        return clients[-1]

    try:
        yield connect
    finally:
        for client in clients:
            client.writer.close()
        await server.stop()


@asynccontextmanager
async def soon(seconds: float) -> AsyncIterator[None]:
    """Fails if what is inside takes longer."""
    async with asyncio.timeout(seconds):
        yield


# ----------------------------------------------------------------------------------------------------------- endpoints


async def test_metrics_as_negotiated() -> None:
    house = Exporter()
    async with serving(house) as connect:
        client = await connect()
        text = await client.get()
        assert (text.status, text.body) == (200, b"up 1\n")
        assert text.headers["content-type"] == Format.TEXT.content_type
        assert text.headers["vary"] == "Accept, Accept-Encoding"
        assert "content-encoding" not in text.headers
        rich = await client.get(Accept="application/openmetrics-text;version=1.0.0", Accept_Encoding="gzip")
        assert rich.headers["content-type"] == Format.OPENMETRICS.content_type
        assert rich.headers["content-encoding"] == "gzip"
        assert gzip.decompress(rich.body) == b"up 1\n"
        await client.send(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;q=0.1\r\nAccept: application/openmetrics-text\r\n\r\n"
        )
        assert (await client.reply()).headers["content-type"] == Format.OPENMETRICS.content_type
    assert house.seen == [(Format.TEXT, False), (Format.OPENMETRICS, True), (Format.OPENMETRICS, False)]


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 9_000_000])
async def test_every_byte_arrives(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with serving(Exporter(body[:size])) as connect:
        client = await connect()
        for _ in range(2):
            assert (await client.get()).body == body[:size]


async def test_head_says_how_much_and_sends_nothing() -> None:
    async with serving(Exporter(b"x" * 100_000)) as connect:
        client = await connect()
        for path in ("/metrics", "/", "/-/healthy", "/-/ready", "/api/v1/status"):
            reply = await client.get(path, "HEAD")
            assert reply.status == 200
            assert int(reply.headers["content-length"]) > 0
        assert (await client.get("/metrics")).status == 200


async def test_healthy_and_ready() -> None:
    house = Exporter(is_healthy=False, is_ready=False)
    async with serving(house) as connect:
        client = await connect()
        assert [(await client.get(path)).status for path in ("/-/healthy", "/-/ready")] == [503, 503]
        house.is_healthy = house.is_ready = True
        assert [(await client.get(path)).status for path in ("/-/healthy", "/-/ready")] == [200, 200]


async def test_reload_says_why_not() -> None:
    house = Exporter(problem="regiondrift.yaml:3:1: unknown key")
    async with serving(house) as connect:
        client = await connect()
        refused = await client.get("/-/reload")
        assert (refused.status, refused.headers["allow"], house.reloads) == (405, "POST", 0)
        assert b"POST" in refused.body
        failed = await client.get("/-/reload", "POST", Content_Length="0")
        assert (failed.status, failed.body) == (500, b"regiondrift.yaml:3:1: unknown key\n")
        house.problem = None
        assert (await client.get("/-/reload", "POST", Content_Length="0")).status == 200


async def test_page_may_load_nothing() -> None:
    async with serving(Exporter()) as connect:
        reply = await (await connect()).get("/")
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        assert (reply.headers["x-content-type-options"], reply.headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert b"orders" in reply.body
        assert b"<script" not in reply.body


async def test_status_as_json() -> None:
    async with serving(Exporter()) as connect:
        status = json.loads((await (await connect()).get("/api/v1/status")).body)
    orders = next(link for link in status["links"] if link["link"] == "orders")
    assert (orders["verdict"], orders["objective"]) == ("behind", 30.0)
    assert orders["replicas"][0]["exposure_at_most"] == pytest.approx(252.4)
    assert {target["target"] for target in status["targets"]} >= {"orders/ymq-1", "orders/ams-1"}


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/metrics/", "//metrics", "/%2e%2e/etc/passwd", "/-/quit", "/metrics%00"]
)
async def test_elsewhere_is_nothing(path: str) -> None:
    async with serving(Exporter()) as connect:
        assert (await (await connect()).get(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "BREW"])
async def test_metrics_are_only_read(method: str) -> None:
    async with serving(Exporter()) as connect:
        client = await connect()
        reply = await client.get("/metrics", method)
        assert reply.status in (400, 405)


async def test_http_1_0_and_close() -> None:
    async with serving(Exporter()) as connect:
        for request, kept in (
            (b"GET /metrics HTTP/1.0\r\n\r\n", "close"),
            (b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"),
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "close"),
        ):
            client = await connect()
            await client.send(request)
            assert (await client.reply()).headers["connection"] == kept
            assert kept == "keep-alive" or await client.hung_up()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(Exporter()) as connect:
        client = await connect()
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        for _ in range(50):
            assert (await client.reply()).body == b"up 1\n"
            assert b"looked at" in (await client.reply()).body


# -------------------------------------------------------------------------------------------------------- rude clients


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 5_000 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHo\x00st: x\r\n\r\n",
        b"CONNECT example.net:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /%ff%fe?%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: \xff\xfe;q=\xb2\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\n\r\n",
    ],
    ids=lambda request: repr(request[:40])[2:-1],
)
async def test_hostile_http_is_never_an_error_of_ours(request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Exporter()) as connect:
        client = await connect()
        await client.send(request_bytes)
        async with soon(2):
            line = await client.reader.readline()
        assert re.match(rb"HTTP/1\.[01] (200|4\d\d) ", line)
        assert (await (await connect()).get()).status == 200
    assert not caplog.records


async def test_half_a_request_has_a_deadline() -> None:
    async with serving(Exporter(), QUICK) as connect:
        mute, half, drip = await connect(), await connect(), await connect()
        await half.send(b"GET /metrics HTTP/1.1\r\nHo")

        async def dripping() -> None:
            for byte in b"GET /metrics HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
                await drip.send(bytes([byte]))
                await asyncio.sleep(0.03)

        drips = asyncio.create_task(dripping())
        assert await mute.hung_up()
        assert await half.hung_up()
        assert await drip.hung_up()
        await asyncio.gather(drips, return_exceptions=True)


async def test_the_second_request_has_the_same_deadline() -> None:
    async with serving(Exporter(), Limits(request=0.3, idle=60, sweep=0.05)) as connect:
        late, together = await connect(), await connect()
        await late.get()
        await late.send(b"GET /metr")
        await together.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metr")
        assert await late.hung_up()
        await together.reply()
        await together.send(b"ics")
        assert await together.hung_up()


async def test_a_kept_connection_may_wait_between_requests() -> None:
    async with serving(Exporter(), QUICK) as connect:
        client = await connect()
        await client.get()
        await asyncio.sleep(QUICK.request + 0.15)
        assert (await client.get()).status == 200
        assert await client.hung_up()


async def test_who_reads_nothing_is_let_go() -> None:
    async with serving(Exporter(b"x" * 30_000_000), QUICK) as connect:
        client = await connect()
        sock = client.writer.get_extra_info("socket")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(QUICK.stall + 0.4)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.reply()
        assert sock.fileno() != -1


async def test_who_reads_slowly_gets_all_of_it() -> None:
    async with serving(Exporter(b"x" * 12_000_000), QUICK) as connect:
        client = await connect()
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        got = 0
        while got < 12_000_000:
            got += len(await client.reader.read(400_000))
            await asyncio.sleep(0.02)


async def test_slow_readers_hold_few_expositions() -> None:
    async with serving(Exporter(b"x" * 30_000_000), Limits(sending=3)) as connect:
        slow = [await connect() for _ in range(4)]
        for client in slow:
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await slow[0].reply()
        for client in slow[1:]:
            assert len((await client.reply()).body) == 30_000_000


async def test_a_thousand_half_open_connections_delay_nobody() -> None:
    async with serving(Exporter(b"x" * 100_000)) as connect:
        regular = await connect()
        await regular.get()
        half = []
        for _ in range(1_000):
            client = await connect()
            client.writer.write(b"GET /metrics HTTP/1.1\r\nHo")
            half.append(client)
        async with soon(0.2):
            assert (await (await connect()).get()).status == 200
        async with soon(0.2):
            assert (await regular.get()).status == 200, "who was served before is not the one that has to go"
        ended = [client for client in half if client.reader.at_eof() or client.reader.exception()]
        assert len(ended) >= 1_000 - PATIENT.connections


async def test_when_all_are_being_answered_the_newest_goes() -> None:
    house = Exporter(hold=asyncio.Event())
    async with serving(house, Limits(connections=3)) as connect:
        busy = [await connect() for _ in range(3)]
        for client in busy:
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in busy:
            await house.asked.acquire()
        assert await (await connect()).hung_up()
        assert house.hold
        house.hold.set()
        for client in busy:
            assert (await client.reply()).status == 200


async def test_large_answers_leave_the_loop_free() -> None:
    async with serving(Exporter(b"x" * 15_000_000)) as connect:
        client = await connect()
        await client.get()
        worst, running = 0.0, True
        loop = asyncio.get_running_loop()

        async def watch() -> None:
            nonlocal worst
            while running:
                before = loop.time()
                await asyncio.sleep(0)
                worst = max(worst, loop.time() - before)

        watching = asyncio.create_task(watch())
        other = socket.create_connection(client.writer.get_extra_info("peername"))
        with other, ThreadPoolExecutor(1) as reading:
            await loop.run_in_executor(reading, _read_all, other, 15_000_000)
        running = False
        await watching
        assert worst < 0.1, "the goal is 20 ms, on a machine that does nothing else"


def _read_all(sock: socket.socket, size: int) -> None:
    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    while size > 0:
        size -= len(sock.recv(1 << 20))


# -------------------------------------------------------------------------------------------------- beginning, and end


async def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = WebServer(Exporter(), [("127.0.0.1", 0), ("127.0.0.1", port)])
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            await server.start()
        assert server.addresses == []


async def test_all_interfaces_and_several_addresses() -> None:
    server = WebServer(Exporter(), [("", 0), ("127.0.0.1", 0)])
    await server.start()
    try:
        assert len(server.addresses) >= 2
        assert len({port for host, port in server.addresses if host in ("0.0.0.0", "::")}) == 1
        for host, port in server.addresses:
            client = Client(*await asyncio.open_connection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port))
            assert (await client.get()).status == 200
            client.writer.close()
    finally:
        await server.stop()


async def test_the_end_waits_for_nobody_long(caplog: pytest.LogCaptureFixture) -> None:
    house = Exporter(b"x" * 30_000_000)
    server = WebServer(house, [("127.0.0.1", 0)])
    await server.start()
    clients = [Client(*await asyncio.open_connection(*server.addresses[0])) for _ in range(20)]
    for client in clients[:5]:
        await client.get("/-/healthy")
    for client in clients[5:10]:
        await client.send(b"GET /metrics HTTP/1.1\r\nHo")
    for client in clients[10:15]:
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.1)
    house.hold = asyncio.Event()
    for client in clients[15:]:
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.1)
    async with soon(1.5):
        await server.stop()
    for client in clients:
        client.writer.close()
    with pytest.raises(OSError, match=r"."):
        await asyncio.open_connection("127.0.0.1", clients[0].writer.get_extra_info("peername")[1])
    assert not caplog.records


async def test_an_answer_under_way_is_finished_at_the_end() -> None:
    house = Exporter(hold=asyncio.Event())
    server = WebServer(house, [("127.0.0.1", 0)])
    await server.start()
    client = Client(*await asyncio.open_connection(*server.addresses[0]))
    await client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await house.asked.acquire()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.05)
    assert house.hold
    house.hold.set()
    assert (await client.reply()).body == b"up 1\n"
    await stopping
    client.writer.close()
