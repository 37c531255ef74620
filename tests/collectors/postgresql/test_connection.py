"""What comes of servers that answer as none should? Each look ends classified, in time, and leaves nothing behind.

The servers here are fakes: no real one sends such answers. Real ones: tests/faults/test_postgresql.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.postgresql import (
    AUTHENTICATED,
    COMPLETE,
    PRIMARY,
    READY,
    Fake,
    Script,
    Session,
    answer,
    answers,
    data,
    description,
    error,
    fake,
    good,
    greeting,
    greets,
    is_version,
    message,
    mute,
    parameter,
    says,
)
from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Failure, Look, Reason, RegionName, SecretFile, SourcePosition, Target
from regiondrift.schedule.guard import GRACE, Guard
from regiondrift_collectors.postgresql import COLLECTOR
from regiondrift_collectors.postgresql.options import Node

HUGE = 1_000_000_000


def target(conninfo: str, password_file: Path | None = None) -> Target:
    secret = SecretFile(str(password_file)) if password_file else None
    node = Node(name="n", region=RegionName("r"), conninfo=Conninfo(conninfo), password_file=secret)
    return Target("entry", "n", "r", node)


@asynccontextmanager
async def guard(conninfo: str, within: float = 5.0) -> AsyncIterator[Guard]:
    made = Guard(COLLECTOR, target(conninfo), within, Clock())
    try:
        yield made
    finally:
        await made.close()


async def look(conninfo: str, within: float = 5.0) -> Look | Failure:
    async with guard(conninfo, within) as made:
        return (await made.look()).result


async def reason(server: Fake, within: float = 5.0, extra: str = "") -> Reason:
    result = await look(f"{server.conninfo} {extra}", within)
    assert isinstance(result, Failure), result
    return result.reason


async def gone(server: Fake) -> None:
    """Until the server has no connection any more."""
    async with asyncio.timeout(5):
        while server.open:  # noqa: ASYNC110 - it is told on another thread
            await asyncio.sleep(0.002)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting


def nulls(columns: int) -> list[None]:
    return [None] * columns


DATA_OF_HUGE_LENGTH = b"D" + struct.pack("!IHi", HUGE + 10, 1, HUGE)

ABSURD: dict[str, tuple[Script, Reason]] = {
    # before or instead of a greeting
    "an HTTP server": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Reason.PROTOCOL),
    "an SSH server": (says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), Reason.PROTOCOL),
    "a MySQL server": (says(b"J\0\0\0\n8.0.36\0\x08\0\0\0"), Reason.PROTOCOL),
    "noise": (says(random.Random(1).randbytes(4096)), Reason.PROTOCOL),
    "zeros": (says(bytes(4096)), Reason.PROTOCOL),
    "a greeting before anybody asked": (says(greeting()), Reason.PROTOCOL),
    "an unknown kind of authentication": (greets(message(b"R", struct.pack("!I", 99))), Reason.AUTHENTICATION),
    "authentication of no length": (greets(b"R\0\0\0\0"), Reason.PROTOCOL),
    "authentication of huge length": (greets(b"R" + struct.pack("!I", HUGE)), Reason.PROTOCOL),
    "an error of huge length": (greets(b"E" + struct.pack("!I", HUGE) + b"x" * 100_000), Reason.PROTOCOL),
    "ready without authentication": (greets(READY), Reason.PROTOCOL),
    "a SCRAM challenge that is none": (greets(message(b"R", struct.pack("!I", 11) + b"r=x")), Reason.PROTOCOL),
    "too many clients, in its own words": (greets(error("53300", "sorry, too many clients")), Reason.OVERLOADED),
    "starting, in its own words": (greets(error("57P03", "the database system is starting up")), Reason.STARTING),
    "an error without fields": (greets(message(b"E", b"\0")), Reason.PROTOCOL),
    # a server that is not understood
    "PostgreSQL 12": (is_version("12.19"), Reason.UNSUPPORTED_VERSION),
    "PostgreSQL 9.6": (is_version("9.6.24"), Reason.UNSUPPORTED_VERSION),
    "Redshift": (is_version("8.0.2"), Reason.UNSUPPORTED_VERSION),
    "no version": (is_version(None), Reason.PROTOCOL),
    "a version that is none": (is_version("latest"), Reason.PROTOCOL),
    # in the place of our row
    "no row": (answers(description(len(PRIMARY)) + COMPLETE + READY), Reason.PROTOCOL),
    "two rows": (answers(description(len(PRIMARY)) + data(PRIMARY) * 2 + COMPLETE + READY), Reason.PROTOCOL),
    "too few columns": (answers(answer(PRIMARY[:-1])), Reason.PROTOCOL),
    "too many columns": (answers(answer([*PRIMARY, "1"])), Reason.PROTOCOL),
    "60,000 columns": (answers(answer(nulls(60_000))), Reason.PROTOCOL),
    "a row unlike its description": (answers(description(len(PRIMARY)) + data(PRIMARY[:3]) + COMPLETE + READY), Reason.PROTOCOL),
    "a row without description": (answers(data(PRIMARY) + COMPLETE + READY), Reason.PROTOCOL),
    "nothing at all": (answers(READY), Reason.PROTOCOL),
    "an empty statement": (answers(message(b"I") + READY), Reason.PROTOCOL),
    "a wish to copy": (answers(message(b"G", b"\0\0\0") + READY), Reason.PROTOCOL),
    "an offer to copy": (answers(message(b"H", b"\0\0\0") + READY), Reason.PROTOCOL),
    "a message that does not exist": (answers(message(b"?", b"xyz") + READY), Reason.PROTOCOL),
    "a field longer than its row": (answers(description(1) + message(b"D", struct.pack("!Hi", 1, 99)) + READY), Reason.PROTOCOL),
    "a field of negative length": (answers(description(1) + message(b"D", struct.pack("!Hi", 1, -7)) + READY), Reason.PROTOCOL),
    "nulls": (answers(answer(nulls(len(PRIMARY)))), Reason.REFUSED_VALUE),
    "absurd text": (answers(answer(["NaN"] * len(PRIMARY))), Reason.REFUSED_VALUE),
    "bytes that are no text": (answers(answer([b"\xff\xfe\x80"] * len(PRIMARY))), Reason.REFUSED_VALUE),
    "zero bytes": (answers(answer([b"f\0f"] * len(PRIMARY))), Reason.REFUSED_VALUE),
    "an error that is none": (answers(message(b"E", b"\0") + READY), Reason.PROTOCOL),
    "its own fault": (answers(error("XX000", "cache lookup failed", "ERROR") + READY), Reason.PROTOCOL),
    "a shutdown": (answers(error("57P01", "terminating connection"), then_close=True), Reason.UNREACHABLE),
    "a conflict with recovery": (answers(error("40001", "conflict with recovery", "ERROR") + READY), Reason.OVERLOADED),
    "its end in the middle of a row": (answers(description(len(PRIMARY)) + data(PRIMARY)[:20], then_close=True), Reason.UNREACHABLE),
    # without end
    "one field of a gigabyte, announced": (answers(description(1) + DATA_OF_HUGE_LENGTH), Reason.TIMEOUT),
}  # fmt: skip


@pytest.mark.parametrize("name", ABSURD)
async def test_an_absurd_server_is_classified(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    script, why = ABSURD[name]
    before = descriptors()
    with fake(script) as server:
        waiting = why is Reason.TIMEOUT
        assert await reason(server, 0.3 if waiting else 5.0) is why
        await gone(server)
    assert descriptors() == before
    assert capfd.readouterr() == ("", ""), "nothing is written past the log"


async def test_a_good_server_is_understood_and_its_connection_kept() -> None:
    with fake(good) as server:
        async with guard(server.conninfo) as made:
            for _ in range(5):
                result = (await made.look()).result
                assert isinstance(result, Look)
                assert isinstance(result.observations[0], SourcePosition)
            assert (server.total, server.open) == (1, 1)
        await gone(server)


async def closes_at_once(session: Session) -> None:
    pass


async def closes_after_encryption(session: Session) -> None:
    if (await session.reader.readexactly(8))[4:] == struct.pack("!I", 80877103):
        await session.send(b"S")


async def closes_after_startup(session: Session) -> None:
    await session.startup()


async def closes_after_authentication(session: Session) -> None:
    await session.startup()
    await session.send(AUTHENTICATED)


async def closes_before_the_answer(session: Session) -> None:
    await session.let_in()
    await session.statement()


async def closes_between_two_statements(session: Session) -> None:
    await session.let_in()
    await session.statement()
    await session.send(answer(PRIMARY))


@pytest.mark.parametrize(
    "script",
    [closes_at_once, closes_after_encryption, closes_after_startup, closes_after_authentication, closes_before_the_answer],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["prefer", "disable"])
async def test_a_server_that_hangs_up_is_unreachable(script: Script, mode: str) -> None:
    with fake(script) as server:
        assert await reason(server, extra=f"sslmode={mode}") is Reason.UNREACHABLE
        await gone(server)


async def test_a_server_without_encryption_where_it_is_required() -> None:
    with fake(good) as server:
        assert await reason(server, extra="sslmode=require") is Reason.TLS


async def test_a_kept_connection_that_ended_meanwhile_costs_one_look_at_most() -> None:
    with fake(closes_between_two_statements) as server:
        async with guard(server.conninfo) as made:
            assert isinstance((await made.look()).result, Look)
            await gone(server)
            second = (await made.look()).result
            assert isinstance(second, Failure)
            assert second.reason is Reason.UNREACHABLE
            assert isinstance((await made.look()).result, Look)


async def mute_after_greeting(session: Session) -> None:
    await session.startup()
    await session.send(greeting())
    await session.closed()


async def mute_after_authentication(session: Session) -> None:
    await session.startup()
    await session.send(AUTHENTICATED)
    await session.closed()


async def mute_at_the_statement(session: Session) -> None:
    await session.let_in()
    await session.closed()


async def mute_after_encryption(session: Session) -> None:
    await session.reader.readexactly(8)
    await session.send(b"S")
    await session.closed()


async def a_byte_now_and_then(session: Session) -> None:
    await session.startup()
    for byte in greeting():
        await session.send(bytes([byte]))
        await asyncio.sleep(0.05)
    await session.closed()


async def half_a_row(session: Session) -> None:
    await session.let_in()
    await session.statement()
    await session.send(answer(PRIMARY)[:-20])
    await session.closed()


async def notices_for_ever(session: Session) -> None:
    await session.let_in()
    await session.statement()
    while not session.writer.is_closing():
        await session.send(error("00000", "all is well", "NOTICE", b"N"))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "script",
    [
        mute,
        mute_after_encryption,
        mute_after_authentication,
        mute_after_greeting,
        mute_at_the_statement,
        a_byte_now_and_then,
        half_a_row,
        notices_for_ever,
    ],
)
async def test_the_deadline_is_one_for_the_whole_look(script: Script, capfd: pytest.CaptureFixture[str]) -> None:
    before = descriptors()
    with fake(script) as server:
        began = time.monotonic()
        assert await reason(server, 0.5) is Reason.TIMEOUT
        assert time.monotonic() - began < 0.5 + GRACE + 0.3
        await gone(server)
    assert descriptors() == before
    assert capfd.readouterr() == ("", "")


def flood(opening: bytes, again: bytes, *, in_greeting: bool = False) -> Script:
    """As fast as it can, and for ever."""
    chunk = again * max(1, 65536 // len(again))

    async def script(session: Session) -> None:
        if in_greeting:
            await session.startup()
        else:
            await session.let_in()
            await session.statement()
        await session.send(opening)
        while True:
            await session.send(chunk)

    return script


FLOODS = {
    "rows": flood(description(len(PRIMARY)), data(PRIMARY)),
    "results": flood(b"", answer(PRIMARY)[: -len(READY)]),
    "one field": flood(description(1) + DATA_OF_HUGE_LENGTH, b"x"),
    "notices": flood(b"", error("00000", "all is well", "NOTICE", b"N")),
    "notifications": flood(b"", message(b"A", struct.pack("!I", 1) + b"channel\0payload\0")),
    "parameters": flood(b"", parameter("application_name", "x" * 1000)),
    "a greeting": flood(AUTHENTICATED, parameter("server_version", "18.0"), in_greeting=True),
    "an error": flood(b"E" + struct.pack("!I", HUGE), b"Sx\0"),
    "names": flood(AUTHENTICATED, b"".join(parameter(f"p{i}", "x") for i in range(5000)), in_greeting=True),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_an_answer_without_end_costs_little_memory_and_no_patience(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, memory = descriptors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    heart = asyncio.create_task(beat())
    with fake(FLOODS[name]) as server:
        assert await reason(server, 10.0) is Reason.PROTOCOL
        await gone(server)
    heart.cancel()
    assert longest < 1.0, "the event loop is free for others"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 * 1024, "KiB"
    assert descriptors() == before
    assert capfd.readouterr() == ("", "")


class Fuzzed:
    """Sends what hypothesis made of a good conversation, and hangs up."""

    def __init__(self) -> None:
        self.greeting = greeting()
        self.answer = answer(PRIMARY)

    async def script(self, session: Session) -> None:
        await session.startup()
        await session.send(self.greeting)
        if self.greeting == greeting():
            await session.statement()
            await session.send(answer(["1"]))
            await session.statement()
            await session.send(self.answer)


EDITS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(min_size=1, max_size=4)), max_size=4)


def edited(raw: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    out = bytearray(raw)
    for place, kind, new in edits:
        at = place % max(len(out), 1)
        if kind == 0:
            out[at : at + len(new)] = new
        elif kind == 1:
            out[at:at] = new
        elif kind == 2:
            del out[at : at + len(new)]
        else:
            del out[at:]
    return bytes(out)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EDITS, st.booleans())
def test_no_conversation_at_all_ends_unclassified(edits: list[tuple[int, int, bytes]], at_greeting: bool) -> None:
    fuzzed = Fuzzed()
    if at_greeting:
        fuzzed.greeting = edited(fuzzed.greeting, edits)
    else:
        fuzzed.answer = edited(fuzzed.answer, edits)
    with fake(fuzzed.script) as server:
        result = asyncio.run(look(server.conninfo, 2.0))
    if isinstance(result, Failure):
        assert result.reason is not Reason.INTERNAL, result
    else:
        (source,) = result.observations
        assert isinstance(source, SourcePosition)
        assert isinstance(source.position, int)
        assert 0 < source.position < 2**64


async def test_a_cancelled_look_closes_its_connection_at_once() -> None:
    with fake(mute_at_the_statement) as server:
        made = Guard(COLLECTOR, target(server.conninfo), 60.0, Clock())
        task = asyncio.create_task(made.look())
        async with asyncio.timeout(5):
            while not server.open:  # noqa: ASYNC110 - it is told on another thread
                await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close()
        await gone(server)


async def test_a_thousand_failing_looks_leave_nothing_behind() -> None:
    with fake(closes_before_the_answer) as server:
        async with guard(server.conninfo) as made:
            for _ in range(20):
                await made.look()
            before = descriptors()
            for _ in range(1000):
                ended = await made.look()
                assert isinstance(ended.result, Failure)
            await gone(server)
            assert descriptors() <= before
        assert server.most == 1


async def test_a_password_file_is_read_at_each_new_connection(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def asks(session: Session) -> None:
        await session.startup()
        await session.send(message(b"R", struct.pack("!I", 3)))
        asked.append((await session.reader.read(1024))[5:-1])
        await session.send(error("28P01", "password authentication failed"))

    secret = tmp_path / "secret"
    with fake(asks) as server:
        made = Guard(COLLECTOR, target(server.conninfo, secret), 5.0, Clock())
        ended = await made.look()
        assert isinstance(ended.result, Failure)
        assert ended.result.reason is Reason.AUTHENTICATION
        assert asked == [], "without a password there is nothing to say"
        for raw in (b"first\n", b"se cond's \\", b"th\xc3\xafrd\r\n"):
            secret.write_bytes(raw)
            await made.look()
        assert asked == [b"first", b"se cond's \\", b"th\xc3\xafrd"]
        secret.write_bytes(b"\xff\xfe")
        ended = await made.look()
        assert isinstance(ended.result, Failure)
        assert ended.result.reason is Reason.AUTHENTICATION
        await made.close()


@pytest.mark.parametrize(
    "conninfo",
    ["host=db password=hunter2 what=ever", "postgresql://u:hunter2@[db", "host=db password='hunter2", "hunter2"],
)
async def test_a_connection_string_that_cannot_be_read_is_not_quoted(conninfo: str) -> None:
    result = await look(conninfo)
    assert isinstance(result, Failure)
    assert result.reason is Reason.PROTOCOL
    assert "hunter2" not in result.detail


async def test_libpq_never_looks_a_name_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do so on the event loop, and everybody would wait for the name server of one target."""
    services = tmp_path / "services"
    services.write_text("[orders]\nhost=no-such-host.invalid\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    result = await look("service=orders")
    assert isinstance(result, Failure)
    assert (result.reason, "service" in result.detail) == (Reason.PROTOCOL, True)
    monkeypatch.setenv("PGHOST", "no-such-host.invalid")
    result = await look("user=monitor")
    assert isinstance(result, Failure)
    assert result.detail.startswith("name no-such-host.invalid: ")


@pytest.mark.parametrize(
    ("conninfo", "why"),
    [
        ("host=no-such-host.invalid", Reason.UNREACHABLE),
        (f"host={'x' * 70}.invalid", Reason.UNREACHABLE),
        ("host=127.0.0.1 port=1", Reason.UNREACHABLE),
        ("host=/nowhere port=5432", Reason.UNREACHABLE),
        ("hostaddr=127.0.0.1 port=1", Reason.UNREACHABLE),
        ("host=255.255.255.255", Reason.UNREACHABLE),
        ("host=127.0.0.1 port=99999", Reason.PROTOCOL),
        ("host=127.0.0.1 sslmode=never", Reason.PROTOCOL),
        ("host=127.0.0.1 sslmode=verify-full sslrootcert=/nowhere.pem", Reason.UNREACHABLE),
    ],
)
async def test_where_nobody_is(conninfo: str, why: Reason) -> None:
    result = await look(conninfo)
    assert isinstance(result, Failure)
    assert result.reason is why, result


async def test_nodes_that_share_a_password_file_are_looked_at_together(tmp_path: Path) -> None:
    """Reading it takes a thread each: who finds it busy would be told that his credentials are wrong."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    with fake(good) as server:
        nodes = [replace(target(server.conninfo, secret).options, name=f"n{i}") for i in range(20)]
        guards = [Guard(COLLECTOR, Target("entry", node.name, "r", node), 5.0, Clock()) for node in nodes]
        results = [ended.result for ended in await asyncio.gather(*(made.look() for made in guards))]
        assert [r for r in results if not isinstance(r, Look)] == []
        for made in guards:
            await made.close()
