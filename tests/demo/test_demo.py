"""Does the demo do what it promises to a newcomer? The real one, in a pipe, in a TMPDIR of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers.postgresql import required

SOON = 40.0
PROGRAM = [sys.executable, "-P", "-c", "import sys; from regiondrift.cli import main; sys.exit(main())", "demo"]


def started_by(pid: int) -> set[int]:
    """Every process below `pid`."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found |= {int(entry.name)} if parent == pid else set()
    return found.union(*(started_by(child) for child in found))


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Demo:
    """The demo as a child in a pipe; its lines as they come."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.environment = {**os.environ, "TMPDIR": str(tmp)}
        self.process = subprocess.Popen(
            PROGRAM,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        assert self.process.stdout
        assert self.process.stderr
        self._readers = [
            threading.Thread(target=self.lines.extend, args=(iter(self.process.stdout.readline, ""),)),
            threading.Thread(target=self.errors.extend, args=(iter(self.process.stderr.readline, ""),)),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SOON)
        for reader in self._readers:
            reader.join(SOON)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def until_line(self, begins: str) -> str:
        end = time.monotonic() + SOON
        while not (found := [line for line in list(self.lines) if line.startswith(begins)]):
            assert self.process.poll() is None, "".join(self.errors)
            assert time.monotonic() < end, f"no line {begins}: {self.lines}"
            time.sleep(0.05)
        return found[0].strip()

    def url(self, name: str) -> str:
        said, url = self.until_line(f"{name} ").split(" ")
        assert said == name
        return url

    def tell(self, command: str) -> str:
        """From a second terminal."""
        done = subprocess.run([*PROGRAM, command], env=self.environment, capture_output=True, text=True, timeout=SOON)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def scrape(self) -> dict[tuple[str, str], float]:
        """Of the replica amsterdam: name and state (empty where there is none) to value."""
        connection = HTTPConnection(urlsplit(self.url("regiondrift")).netloc, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
            text = connection.getresponse().read().decode()
        return {
            (sample.name, sample.labels.get("state", "")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("replica") == "amsterdam"
        }

    def point(self) -> float | None:
        return self.scrape().get(("regiondrift_recovery_point_timestamp_seconds", ""))

    def until_state(self, state: str) -> None:
        end = time.monotonic() + SOON
        while self.scrape().get(("regiondrift_replication_state", state)) != 1:
            assert time.monotonic() < end, f"never {state}: {self.scrape()}"
            time.sleep(0.2)


@pytest.fixture
def tmp() -> Iterator[Path]:
    # Short, and open to the unprivileged user: the closed one has a test of its own.
    path = Path(tempfile.mkdtemp(prefix="demo-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _postgresql() -> None:
    required(18)


def ends_cleanly(demo: Demo, *signals: signal.Signals) -> None:
    below = started_by(demo.process.pid)
    began = time.monotonic()
    for number in signals:
        demo.process.send_signal(number)
        time.sleep(0.05)
    assert demo.process.wait(SOON) == 0
    assert time.monotonic() - began < 8
    assert list(demo.tmp.iterdir()) == []
    assert [pid for pid in below if alive(pid)] == []


def test_a_silent_cut_is_seen_and_healed_and_nothing_stays(tmp: Path) -> None:
    with Demo(tmp) as demo:
        assert demo.url("montreal").startswith("postgresql://")
        assert demo.url("amsterdam").startswith("postgresql://")
        demo.until_line("from a second terminal")
        demo.until_state("streaming")
        began = demo.point()
        assert began is not None
        assert time.time() - began < 10

        assert demo.tell("cut").startswith("cut: montreal -> amsterdam")
        demo.until_state("disconnected")
        stood = demo.point()
        assert stood is not None
        assert demo.point() == stood

        assert demo.tell("heal").startswith("heal: ")
        demo.until_state("streaming")
        point = demo.point()
        assert point is not None
        assert point > stood

        status = demo.tell("status")
        assert "link: healthy" in status
        assert "montreal: primary" in status
        assert "regiondrift says of amsterdam: streaming" in status
        ends_cleanly(demo, signal.SIGTERM, signal.SIGTERM)


def test_paused_slow_and_lost(tmp: Path) -> None:
    with Demo(tmp) as demo:
        demo.until_line("from a second terminal")
        demo.tell("pause")
        demo.until_state("paused")
        demo.tell("heal")
        demo.until_state("streaming")
        demo.tell("lag")
        demo.until_state("catching_up")
        demo.tell("heal")
        demo.until_state("streaming")
        assert "montreal is lost" in demo.tell("promote")
        assert "amsterdam: primary" in demo.tell("status")
        refused = subprocess.run([*PROGRAM, "cut"], env=demo.environment, capture_output=True, text=True, timeout=SOON)
        assert refused.returncode == 1
        assert "heal rebuilds it" in refused.stderr
        demo.tell("heal")
        assert "montreal: standby" in demo.tell("status")
        ends_cleanly(demo, signal.SIGINT, signal.SIGINT)


def test_second_demo_says_that_one_runs(tmp: Path) -> None:
    with Demo(tmp) as demo:
        demo.until_line("montreal")
        second = subprocess.run(PROGRAM, env=demo.environment, capture_output=True, text=True, timeout=SOON)
        assert second.returncode == 2
        assert "runs already" in second.stderr
        ends_cleanly(demo, signal.SIGTERM)


@pytest.mark.parametrize("after", [0.0, 0.3, 0.8, 1.5, 2.5])
def test_ended_while_it_starts(tmp: Path, after: float) -> None:
    with Demo(tmp) as demo:
        end = time.monotonic() + SOON
        while not any(tmp.glob("regiondrift-demo-*/lock")):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(after)
        ends_cleanly(demo, signal.SIGTERM, signal.SIGTERM)


def test_killed_demo_takes_all_with_it_and_the_next_one_cleans_up(tmp: Path) -> None:
    with Demo(tmp) as demo:
        demo.until_line("amsterdam")
        below = started_by(demo.process.pid)
        assert below
        demo.process.kill()
        demo.process.wait()
        end = time.monotonic() + SOON
        while any(alive(pid) for pid in below):
            assert time.monotonic() < end
            time.sleep(0.05)
    with Demo(tmp) as demo:
        demo.until_line("amsterdam")
        ends_cleanly(demo, signal.SIGTERM)


def test_lost_server_ends_the_demo_by_name(tmp: Path) -> None:
    with Demo(tmp) as demo:
        demo.until_line("from a second terminal")
        (pid_file,) = tmp.glob("regiondrift-demo-*/postgresql/amsterdam/postmaster.pid")
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        assert demo.process.wait(SOON) == 1
        assert list(tmp.iterdir()) == []
    assert "amsterdam ended by itself" in "".join(demo.errors)


def test_taken_port_and_closed_temporary_directory(tmp: Path) -> None:
    tmp.chmod(0o700)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # taken by somebody else serves as well
            stack.enter_context(socket.create_server(("127.0.0.1", 10930)))
        demo = stack.enter_context(Demo(tmp))
        assert urlsplit(demo.url("regiondrift")).port != 10930
        ends_cleanly(demo, signal.SIGTERM)


def test_page_comes_to_the_terminal(tmp: Path) -> None:
    if not shutil.which("prometheus") or not shutil.which("prometheus-alertmanager"):
        if os.environ.get("CI") == "true":
            pytest.fail("prometheus and prometheus-alertmanager are not installed")
        pytest.skip("prometheus and prometheus-alertmanager are not installed")
    with Demo(tmp) as demo:
        demo.until_line("from a second terminal")
        for name in ("prometheus", "alertmanager"):
            connection = HTTPConnection(urlsplit(demo.url(name)).netloc, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/-/healthy")
                assert connection.getresponse().status == 200
        _post(
            demo.url("alertmanager"),
            {"labels": {"alertname": "Made", "severity": "critical"}, "annotations": {"summary": "by hand"}},
        )
        assert demo.until_line("PAGE") == "PAGE Made: by hand"
        ends_cleanly(demo, signal.SIGINT)


def _post(url: str, alert: dict[str, dict[str, str]]) -> None:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
    with contextlib.closing(connection):
        body = json.dumps([alert])
        connection.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()


class TestCommands:
    def test_without_a_demo(self, tmp: Path) -> None:
        environment = {**os.environ, "TMPDIR": str(tmp)}
        done = subprocess.run([*PROGRAM, "cut"], env=environment, capture_output=True, text=True, timeout=SOON)
        assert done.returncode == 2
        assert done.stderr.startswith("no demo of yours runs")
        assert done.stdout == ""
        assert list(tmp.iterdir()) == []

    def test_unknown(self, tmp: Path) -> None:
        done = subprocess.run([*PROGRAM, "explode"], capture_output=True, text=True, timeout=SOON)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: regiondrift demo")
