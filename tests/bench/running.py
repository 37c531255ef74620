"""What does a running program cost? `regiondrift serve` on a configuration, and what the kernel counts of any process."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import simulated
from regiondrift.demo.leash import command
from regiondrift.demo.postgres import free_port

PROGRAM = Path(sys.executable).with_name("regiondrift")


@dataclass(frozen=True, slots=True)
class Exporter:
    """A running `regiondrift serve`."""

    url: str
    pid: int
    ready_after: float
    """Seconds from exec until /-/ready answered 200."""


@contextmanager
def exporter(
    document: str, *, site: bool = True, environment: dict[str, str] | None = None, ready_within: float = 60
) -> Iterator[Exporter]:
    """Serves `document`; ``{home}`` in it is a new directory. With `site` the simulated collector is installed."""
    with tempfile.TemporaryDirectory(prefix="regiondrift-bench-") as directory:
        home = Path(directory)
        inherited = simulated.site(home) if site else dict(os.environ)
        file = home / "regiondrift.yaml"
        file.write_text(document.replace("{home}", str(home)), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        arguments = [str(PROGRAM), "serve", f"--config.file={file}", f"--web.listen-address={address}"]
        with (home / "log").open("wb") as log:
            began = time.perf_counter()
            # Not on the leash where start-up is measured: its interpreter would count.
            process = subprocess.Popen(
                arguments if not site else command(arguments, None),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**inherited, **(environment or {})},
            )
            try:
                _wait_until(f"http://{address}/-/ready", process, home / "log", began + ready_within)
                yield Exporter(f"http://{address}", process.pid, time.perf_counter() - began)
            finally:
                process.terminate()
                process.wait(10)


def _wait_until(url: str, process: subprocess.Popen[bytes], log: Path, end: float) -> None:
    while not answers(url):
        if process.poll() is not None or time.perf_counter() > end:
            raise RuntimeError(f"{url} is not ready: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.01)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def get(url: str, gzip: bool = False) -> bytes:
    """The body of one answer, as it came."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"} if gzip else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
        return body


class Scraper:
    """Asks as Prometheus does: gzip, over a connection that is kept."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)

    def scrape(self) -> bytes:
        """The body, as it came."""
        self._connection.request("GET", self._path, headers={"Accept-Encoding": "gzip"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self._path} answers {answer.status}")
        return body


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """The most resident memory it ever had, in MB."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name + ":"))
