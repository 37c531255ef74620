"""Does the house stand together, in one process with the test? What the process as a whole does: tests/faults/."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from faults.exporter import document, parsed
from regiondrift import self_metrics, serve
from regiondrift.catalog import GROUP, Catalog
from regiondrift.config import load
from regiondrift.filestamp import stamp
from regiondrift.serve import Exporter
from regiondrift.state import Key, StateFile
from regiondrift.web.server import WebServer


def odd(name: str, how: str = "fine", **options: Any) -> dict[str, Any]:
    return {"name": name, "interval": "200ms", "timeout": "10s", "how": how, **options}


class World:
    """An exporter in this process, and its configuration."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.url = ""
        self.exporter: Exporter

    def configure(self, *entries: dict[str, Any], **top: Any) -> None:
        config = document(*entries, collector="misbehaving", **top)
        self.file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    @asynccontextmanager
    async def runs(self, state: StateFile | None = None) -> AsyncIterator[aiohttp.ClientSession]:
        catalog = Catalog({"misbehaving": EntryPoint("misbehaving", "faults.misbehaving:COLLECTOR", GROUP)})
        configuration = load(self.file, catalog)
        self.exporter = Exporter(catalog, configuration, stamp(self.file), state or StateFile.in_memory())
        serving = asyncio.create_task(self.exporter.serve([("127.0.0.1", 0)]))
        await until(lambda: self.url)
        async with aiohttp.ClientSession(self.url) as client:
            yield client
        self.exporter._stop.set()
        async with asyncio.timeout(5):
            assert await serving == 0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Without what would end the process that the test runs in."""
    made = World(tmp_path / "regiondrift.yaml")

    class Listening(WebServer):
        async def start(self) -> None:
            await super().start()
            host, port = self.addresses[0]
            made.url = f"http://{host}:{port}"

    monkeypatch.setattr(serve, "WebServer", Listening)
    monkeypatch.setattr(serve, "_end_process_in", lambda *_: None)
    monkeypatch.setattr(serve, "_on_signals", lambda *_: None)
    monkeypatch.setattr(Exporter, "_watch_heartbeat", lambda self: None)
    return made


async def until(holds: Callable[[], Any], what: str = "") -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - several tasks and threads make it true
            await asyncio.sleep(0.01)


async def text(client: aiohttp.ClientSession, path: str = "/metrics") -> str:
    async with client.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_it_says_of_itself_what_it_declares(world: World) -> None:
    world.configure(odd("a"))
    async with world.runs() as client:
        await until(world.exporter.ready)
        names: set[str] = set()
        async with asyncio.timeout(5):
            while not (names >= {m.name for m in self_metrics.SELF} - {self_metrics.FAILURES.name}):
                names = {name for name, _ in parsed(await text(client)).series}
        assert "process_resident_memory_bytes" in names


async def test_it_is_ready_when_every_first_look_has_ended_and_stays_so(world: World) -> None:
    world.configure(odd("a"), odd("slow", "hangs", timeout="1s"))
    async with world.runs() as client:
        async with client.get("/-/ready") as answer:
            assert answer.status == 503
        await until(world.exporter.ready)
        world.configure(odd("a"), odd("slow", "hangs", timeout="1s"), odd("slower", "hangs"))
        assert await world.exporter.reload() is None
        async with client.get("/-/ready") as answer:
            assert answer.status == 200, "a target that a reload adds does not take that back"


async def test_it_is_healthy_as_long_as_its_own_heart_beats(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(odd("a", "error"))
    async with world.runs() as client:
        assert "heart" in await text(client, "/-/healthy")
        now = world.exporter._clock.now
        monkeypatch.setattr(world.exporter._clock, "now", lambda: type(now())(now() + 60))
        async with client.get("/-/healthy") as answer:
            assert answer.status == 503


async def test_a_reload_is_in_force_when_it_is_answered(world: World) -> None:
    world.configure(odd("a"))
    async with world.runs() as client:
        world.configure(odd("b"))
        async with client.post("/-/reload") as answer:
            assert answer.status == 200
        assert [t.label for t in (s.target for s in world.exporter._scheduler._tasks)] == ["b/one"]
        async with asyncio.timeout(2):
            while 'target="b/one"' not in (found := await text(client)):
                pass
        assert 'target="a/one"' not in found


async def test_a_state_that_does_not_answer_holds_up_no_reload(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(odd("a"))
    async with world.runs():

        async def hangs(key: Any) -> Any:
            await asyncio.sleep(3600)

        monkeypatch.setattr(world.exporter._state, "load", hangs)
        world.configure(odd("a"), odd("new", linked=True))
        began = time.monotonic()
        assert await world.exporter.reload() is None
        assert time.monotonic() - began < 2


async def test_at_the_end_all_is_written_and_nothing_is_left(world: World, tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    tasks = asyncio.all_tasks()
    world.configure(odd("a"), odd("link", linked=True), odd("hung", "hangs"), state_dir=str(tmp_path / "state"))
    async with world.runs(StateFile.open(tmp_path / "state")):
        await until(lambda: any(world.exporter._house.links()))
        await until(lambda: len(world.exporter._house._records) == 3)
        await asyncio.sleep(0.3)
    remembered = StateFile.read_only(tmp_path / "state")
    assert remembered.keys() == {Key("misbehaving", "link")}
    await until(
        lambda: set(threading.enumerate()) <= threads | {t for t in threading.enumerate() if t.name == "watchdog"}
    )
    # Closed clients end in the next turns of the loop.
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


def test_a_wrong_configuration_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("version: 3\n", encoding="utf-8")
    assert serve.run(file, [("127.0.0.1", 0)]) == 2
    assert f"{file}:1:10:" in capsys.readouterr().err


def test_a_locked_state_is_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = StateFile.open(tmp_path / "state")
    file = tmp_path / "x.yaml"
    file.write_text(f"version: 1\nregions: [a]\nstate_dir: {tmp_path / 'state'}\n", encoding="utf-8")
    assert serve.run(file, [("127.0.0.1", 0)]) == 1
    assert str(tmp_path / "state") in caplog.text
    holder.close()


async def test_the_loops_same_complaint_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    loop, handler = asyncio.get_running_loop(), serve._LoopErrors()
    for i in range(1000):
        handler(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, f"x{i}")})
        handler(loop, {"message": "something else"})
    assert [r.message for r in caplog.records] == [
        "socket.accept() out of system resource (OSError)",
        "something else (NoneType)",
    ]
    handler._said = {text: at - serve.SAY_AGAIN for text, at in handler._said.items()}
    handler(loop, {"message": "something else"})
    assert len(caplog.records) == 3
    assert len(handler._said) == 1, "what is old is forgotten"


def test_it_takes_the_descriptors_that_it_may_have() -> None:
    source = """
    import resource
    from regiondrift import serve
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    serve._take_descriptors(1)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, serve.MOST_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    serve._take_descriptors(65)
    """
    argv = [sys.executable, "-c", textwrap.dedent(source)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "too few file descriptors" in done.stderr


@pytest.mark.parametrize("name", ["heartbeat", "reload", "configuration watch", "state purge"])
async def test_the_end_of_a_root_task_is_the_end(world: World, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO)
    world.configure(odd("a"))
    catalog = Catalog({"misbehaving": EntryPoint("misbehaving", "faults.misbehaving:COLLECTOR", GROUP)})
    exporter = Exporter(catalog, load(world.file, catalog), None, StateFile.in_memory())
    serving = asyncio.create_task(exporter.serve([("127.0.0.1", 0)]))
    await until(lambda: any(t.get_name() == name for t in asyncio.all_tasks()))
    next(t for t in asyncio.all_tasks() if t.get_name() == name).cancel()
    async with asyncio.timeout(5):
        assert await serving == 1
    assert f"{name} has ended" in caplog.text
