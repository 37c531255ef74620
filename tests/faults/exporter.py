"""How do tests run the real thing? ``regiondrift serve`` as a process, its answers, and its log."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from regiondrift.demo.leash import command

PROGRAM = [sys.executable, "-m", "regiondrift"]


def until(holds: Callable[[], object], within: float = 10.0, what: str = "") -> None:
    """Look every few milliseconds until it holds.

    Raises:
        AssertionError: it did not in time.
    """
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, f"not within {within:g} s: {what or holds}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Scrape:
    """One exposition: every series and its value, parsed, and the text it was made of."""

    text: str
    series: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, /, **labels: str) -> float | None:
        """The only series of that name with at least these labels; None if there is none."""
        found = self.values(name, **labels)
        assert len(found) < 2, f"{len(found)} series {name} {labels}"
        return found[0] if found else None

    def values(self, name: str, /, **labels: str) -> list[float]:
        return [v for (n, its), v in self.series.items() if n == name and labels.items() <= dict(its).items()]

    def success(self, target: str) -> float | None:
        return self.value("regiondrift_probe_success", target=target)

    def reasons(self, target: str) -> dict[str, float]:
        """How often looks at a target failed, by reason."""
        name = "regiondrift_probe_failures_total"
        found = {
            dict(its)["reason"]: v for (n, its), v in self.series.items() if n == name and ("target", target) in its
        }
        return {reason: count for reason, count in found.items() if count}

    def state(self, replica: str, **labels: str) -> str | None:
        """The state of a replica that is 1."""
        name = "regiondrift_replication_state"
        wanted = {"replica": replica, **labels}.items()
        found = [
            dict(its)["state"]
            for (n, its), v in self.series.items()
            if n == name and v == 1 and wanted <= dict(its).items()
        ]
        assert len(found) < 2, found
        return found[0] if found else None


def parsed(text: str) -> Scrape:
    """Raises where Prometheus would: a line that cannot be read, a family or series that stands there twice."""
    series: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    families: set[str] = set()
    for family in text_string_to_metric_families(text):
        assert family.name not in families, f"{family.name} twice"
        families.add(family.name)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"{key} twice"
            series[key] = sample.value
    return Scrape(text, series)


class Exporter:
    """One process of ``regiondrift serve`` with its configuration in `home`, listening on a port that the kernel chose."""

    def __init__(
        self, home: Path, config: Mapping[str, Any] | str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.file = home / "regiondrift.yaml"
        self.log = home / "regiondrift.log"
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._before = 0
        self.configure(config)

    def configure(self, config: Mapping[str, Any] | str) -> None:
        """Write the file, as an editor does: a new one in the place of the old."""
        text = config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.file)

    @property
    def argv(self) -> list[str]:
        return [*PROGRAM, "serve", f"--config.file={self.file}", f"--web.listen-address=127.0.0.1:{self.port}"]

    def launch(self, **options: Any) -> None:
        """Start the process and wait for nothing. `options` are those of Popen."""
        self._before = len(self.said())
        with self.log.open("ab") as log:
            options = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL, "env": self.environment, **options}
            self.process = subprocess.Popen(command(self.argv, None), **options)

    def start(self, within: float = 15.0, **options: Any) -> None:
        """Start the process and wait until it serves."""
        self.launch(**options)
        assert self.process
        until(lambda: self._serves() or self.process.poll() is not None, within, "serving")  # type: ignore[union-attr]
        assert self.process.poll() is None, self.said()

    def _serves(self) -> bool:
        found = re.findall(r"msg=serving .*addresses=127\.0\.0\.1:(\d+)", self.said()[self._before :])
        if found:
            self.port = int(found[-1])
        return bool(found)

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def wait(self, within: float = 10.0) -> int:
        """Until it has ended: its exit code."""
        assert self.process
        return self.process.wait(within)

    def stop(self, within: float = 5.0) -> int:
        """SIGTERM: its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self) -> None:
        if self.process:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()

    # ---- what it answers

    def ask(self, path: str, method: str = "GET", patience: float = 5.0) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def scrape(self) -> Scrape:
        status, text = self.ask("/metrics")
        assert status == 200, text
        return parsed(text)

    def ready(self) -> bool:
        return self.ask("/-/ready")[0] == 200

    def until(self, holds: Callable[[Scrape], object], within: float = 10.0, what: str = "") -> Scrape:
        """Scrape until it holds; that scrape."""
        last: list[Scrape] = []

        def found() -> object:
            last[:] = [self.scrape()]
            return holds(last[0])

        until(found, within, what)
        return last[0]

    # ---- what it says

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def lines(self, *words: str) -> list[str]:
        """Lines of the log that hold all the words."""
        return [line for line in self.said().splitlines() if all(word in line for word in words)]

    # ---- what it uses

    def descriptors(self) -> int:
        assert self.process
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def threads(self) -> int:
        assert self.process
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


@contextmanager
def exporter(
    home: Path, config: Mapping[str, Any] | str, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Exporter]:
    """A running exporter; killed at the end if it still runs."""
    made = Exporter(home, config, environment)
    try:
        made.start(**options)
        yield made
    finally:
        made.kill()


def document(*entries: Mapping[str, Any], collector: str = "postgresql", **top: Any) -> dict[str, Any]:
    """A configuration with these entries."""
    return {"version": 1, "regions": ["montreal", "amsterdam"], **top, collector: list(entries)}


def entry(name: str, *conninfos: str, **options: Any) -> dict[str, Any]:
    """An entry whose nodes are called n0, n1 and so on, the first in montreal and the others in amsterdam."""
    nodes = [
        {"name": f"n{i}", "region": "amsterdam" if i else "montreal", "conninfo": conninfo}
        for i, conninfo in enumerate(conninfos)
    ]
    return {"name": name, "interval": "500ms", "timeout": "1s", "nodes": nodes, **options}
