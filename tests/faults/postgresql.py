"""What answers as no PostgreSQL would? A fake that speaks the protocol badly, for faults that a real server won't produce.

Whatever a real server can be made to do is tested with a real one: see test_postgresql.py beside this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

# ---- messages, as in the manual's chapter on the protocol


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def parameter(name: str, value: str) -> bytes:
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def error(state: str, text: str, severity: str = "FATAL", kind: bytes = b"E") -> bytes:
    fields = {"S": severity, "V": severity, "C": state, "M": text, "F": "fake.c", "L": "1", "R": "fake"}
    return message(kind, b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0")


def description(columns: int) -> bytes:
    """Of so many text columns."""
    one = b"column\0" + struct.pack("!IHIhiH", 0, 0, 25, -1, -1, 0)
    return message(b"T", struct.pack("!H", columns) + one * columns)


def data(row: Sequence[str | bytes | None]) -> bytes:
    body = struct.pack("!H", len(row))
    for value in row:
        raw = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message(b"D", body)


AUTHENTICATED = message(b"R", struct.pack("!I", 0))
READY = message(b"Z", b"I")
COMPLETE = message(b"C", b"SELECT 1\0")


def greeting(version: str | None = "18.0") -> bytes:
    """What follows a startup packet when nobody asks for a password."""
    told = parameter("server_version", version) if version is not None else b""
    return AUTHENTICATED + told + parameter("client_encoding", "UTF8") + message(b"K", struct.pack("!II", 1, 2)) + READY


def answer(row: Sequence[str | bytes | None]) -> bytes:
    """One row, and ready for the next statement."""
    return description(len(row)) + data(row) + COMPLETE + READY


SET_UP = answer(["1"])

PRIMARY: tuple[str | None, ...] = (
    "f",
    "7549262912316350501",
    "1",
    "0/3000060",
    "t",
    *[None] * 5,
    "0",
    *[None] * 8,
    "f",
)
"""The row of a primary at our statement."""


# ---- the server


@dataclass(slots=True)
class Session:
    """One client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def startup(self, *, encryption: bytes = b"N") -> None:
        """Until the startup packet is there; `encryption` is what a wish for encryption is answered with."""
        while True:
            (length,) = struct.unpack("!I", await self.reader.readexactly(4))
            body = await self.reader.readexactly(length - 4)
            if body[:4] not in (struct.pack("!I", 80877103), struct.pack("!I", 80877104)):
                return
            await self.send(encryption)

    async def statement(self) -> bytes:
        """The next one that the client sends."""
        while True:
            kind = await self.reader.readexactly(1)
            (length,) = struct.unpack("!I", await self.reader.readexactly(4))
            body = await self.reader.readexactly(length - 4)
            if kind == b"Q":
                return body

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def let_in(self, version: str | None = "18.0") -> None:
        """Up to and including the settings of the session."""
        await self.startup()
        await self.send(greeting(version))
        await self.statement()
        await self.send(SET_UP)

    async def closed(self) -> None:
        """Until the client has gone."""
        while await self.reader.read(65536):
            pass


Script = Callable[[Session], Awaitable[None]]


class Fake:
    """Listens on loopback, on a thread and event loop of its own; what it says is `script`, which may be changed."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.open = 0
        """Connections open now."""
        self.most = 0
        """... at once, ever."""
        self.total = 0
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fake", daemon=True)

    @property
    def conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} dbname=postgres user=regiondrift"

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._end.wait()
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.total += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.script(Session(reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            # asyncio's streams would tell of it on standard error.
            pass
        finally:
            self.open -= 1
            with contextlib.suppress(OSError):
                writer.close()


@contextmanager
def fake(script: Script) -> Iterator[Fake]:
    """A fake server, as long as it is needed."""
    made = Fake(script)
    made.start()
    try:
        yield made
    finally:
        made.stop()


# ---- scripts


async def mute(session: Session) -> None:
    """Accepts, takes everything, never speaks."""
    await session.closed()


async def good(session: Session) -> None:
    """A primary that never writes."""
    await session.let_in()
    while True:
        await session.statement()
        await session.send(answer(PRIMARY))


def says(raw: bytes) -> Script:
    """Sends that at once, whatever comes, and closes when the client does."""

    async def script(session: Session) -> None:
        await session.send(raw)
        await session.closed()

    return script


def answers(raw: bytes, *, then_close: bool = False) -> Script:
    """Lets in and answers the statement with that."""

    async def script(session: Session) -> None:
        await session.let_in()
        await session.statement()
        await session.send(raw)
        if not then_close:
            await session.closed()

    return script


def greets(raw: bytes, *, encryption: bytes = b"N") -> Script:
    """Answers the startup packet with that."""

    async def script(session: Session) -> None:
        await session.startup(encryption=encryption)
        await session.send(raw)
        await session.closed()

    return script


def is_version(version: str | None) -> Script:
    """Lets in a client as a server of that version."""

    async def script(session: Session) -> None:
        await session.let_in(version)
        await session.closed()

    return script
