"""What did the exporter say? The real process, and its expositions as values."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from regiondrift.demo.leash import command
from truth.wallclock import WallClock

ENTRY: Final = "orders"
INTERVAL: Final = 1.0
TIMEOUT: Final = 2.0
OBJECTIVE: Final = 30.0

T: Final = "regiondrift_recovery_point_timestamp_seconds"
BEHIND: Final = "regiondrift_replica_behind_since_timestamp_seconds"
STATE: Final = "regiondrift_replication_state"
LAG_BYTES: Final = "regiondrift_replication_lag_bytes"
REPORTED_LAG: Final = "regiondrift_replication_reported_lag_seconds"
RESYNCS: Final = "regiondrift_replication_resyncs_total"
SOURCES: Final = "regiondrift_replication_sources"
FAILOVERS: Final = "regiondrift_replication_failovers_total"
FAILOVER_POINT: Final = "regiondrift_replication_failover_recovery_point_timestamp_seconds"
RPO: Final = "regiondrift_recovery_point_objective_seconds"
EXPECTED: Final = "regiondrift_replication_expected_replicas"
SUCCESS: Final = "regiondrift_probe_success"
LAST: Final = "regiondrift_probe_last_success_timestamp_seconds"
DURATION: Final = "regiondrift_probe_duration_seconds"
FAILURES: Final = "regiondrift_probe_failures_total"


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """One exposition. Its moments are on the test's own clock, whatever the exporter takes for Unix time."""

    asked: float
    at: float
    """When it had arrived."""
    families: Mapping[str, list[Series]]

    def all(self, name: str, **labels: str) -> list[Series]:
        wanted = labels.items()
        return [s for s in self.families.get(name, ()) if wanted <= s.labels.items()]

    def one(self, name: str, **labels: str) -> float | None:
        """The value of the only such series; None if there is none."""
        found = self.all(name, **labels)
        assert len(found) < 2, f"{len(found)} series where one can be: {found}"
        return found[0].value if found else None

    def of(self, name: str, node: str) -> float | None:
        """A series of the probe of `node`."""
        return self.one(name, target=f"{ENTRY}/{node}")

    def state(self, replica: str) -> str | None:
        """What `replica` is said to be. Several at once are joined by +, which is no state."""
        return "+".join(s.labels["state"] for s in self.all(STATE, replica=replica) if s.value == 1) or None

    def failures(self, node: str) -> dict[str, float]:
        """Failed probes of `node` so far, by reason."""
        return {s.labels["reason"]: s.value for s in self.all(FAILURES, target=f"{ENTRY}/{node}")}

    def told(self) -> str:
        """For a person who must find out what went wrong."""
        bits = []
        for s in self.all(STATE):
            if s.value != 1:
                continue
            r = s.labels["replica"]
            bits.append(f"{r} {s.labels['state']}")
            for name, short in ((T, "T"), (BEHIND, "behind since")):
                if (v := self.one(name, replica=r)) is not None:
                    bits.append(f"{short} {self.at - v:.2f} s ago")
            if (v := self.one(LAG_BYTES, replica=r)) is not None:
                bits.append(f"{v:.0f} bytes")
        bits.append(f"sources {self.one(SOURCES)}, failovers {self.one(FAILOVERS)}")
        bits += [f"{s.labels['target']} {'seen' if s.value else 'unseen'}" for s in self.all(SUCCESS)]
        return ", ".join(bits)


class Exporter:
    """``regiondrift serve`` with a state directory of its own. It can be killed and started again."""

    def __init__(self, nodes: Iterable[Mapping[str, str]], port: int, wall_clock: WallClock | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="regiondrift-truth-"))
        self.port = port
        self.wall_clock = wall_clock
        self.started = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        # JSON is YAML.
        configuration: dict[str, Any] = {
            "version": 1,
            "regions": ["montreal", "amsterdam"],
            "state_dir": str(self.home / "state"),
            "postgresql": [
                {
                    "name": ENTRY,
                    "interval": f"{INTERVAL:g}s",
                    "timeout": f"{TIMEOUT:g}s",
                    "recovery_point": f"{OBJECTIVE:g}s",
                    "nodes": list(nodes),
                }
            ],
        }
        (self.home / "regiondrift.yaml").write_text(json.dumps(configuration), encoding="utf-8")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            AssertionError: it ended instead.
        """
        environment = {**os.environ, **(self.wall_clock.environment if self.wall_clock else {})}
        arguments = [f"--config.file={self.home / 'regiondrift.yaml'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command([sys.executable, "-m", "regiondrift", "serve", *arguments], None),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.started = time.time()
        while True:
            assert self.running, f"the exporter ended:\n{self.log}"
            try:
                self.scrape()
                return
            except OSError:
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9"""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.home)

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def scrape(self) -> Scrape:
        """
        Raises:
            OSError: it does not answer.
        """
        asked = time.time()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            body = answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()
        at = time.time()
        assert answer.status == 200, body
        shift = self.wall_clock.shift if self.wall_clock else 0.0
        families: dict[str, list[Series]] = {}
        for family in text_string_to_metric_families(body):
            for s in family.samples:
                if s.name.startswith("regiondrift_"):
                    moved = shift if s.name.endswith("_timestamp_seconds") else 0.0
                    families.setdefault(s.name, []).append(Series(s.labels, s.value - moved))
        return Scrape(asked, at, families)
