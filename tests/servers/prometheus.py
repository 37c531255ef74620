"""How do tests get a real Prometheus? By hand, in tests/: ``python -m servers.prometheus TARGET [RULES...]``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regiondrift.demo.postgres import free_port
from servers.daemon import Daemon, required

PACKAGE = "prometheus"


@dataclass(frozen=True, slots=True)
class Result:
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A running Prometheus."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.url = daemon, daemon.url

    def instant(self, query: str) -> list[Result]:
        """The instant vector (or scalar) of `query` now."""
        data = self._get("query", query=query)["data"]
        if data["resultType"] == "scalar":
            return [Result({}, float(data["result"][1]))]
        return [Result(one["metric"], float(one["value"][1])) for one in data["result"]]

    def alerts(self, state: str = "firing") -> set[tuple[str, str]]:
        """Name and severity of every alert in `state` now."""
        active = self._get("alerts")["data"]["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("severity", "")) for a in active if a["state"] == state}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule as the server sees it: with its health and the error of its last evaluation."""
        return [rule for group in self._get("rules")["data"]["groups"] for rule in group["rules"]]

    def _get(self, endpoint: str, **query: str) -> dict[str, Any]:
        address = f"{self.url}/api/v1/{endpoint}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def prometheus(
    targets: Sequence[str] = (),
    rules: Sequence[Path] = (),
    *,
    alertmanager: str | None = None,
    interval: str = "1s",
    job: str = "regiondrift",
) -> Iterator[Prometheus]:
    """Scrapes `targets` (HOST:PORT) and evaluates `rules` every `interval`; alerts go to `alertmanager` (HOST:PORT)."""
    program = required("prometheus", PACKAGE)
    with tempfile.TemporaryDirectory(prefix="regiondrift-prometheus-") as directory:
        home = Path(directory)
        config: dict[str, Any] = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(path.absolute()) for path in rules],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(targets)}]}],
        }
        if alertmanager:
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        file = home / "prometheus.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        listen = f"127.0.0.1:{free_port()}"
        daemon = Daemon(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address={listen}",
                "--log.level=warn",
            ],
            f"http://{listen}",
            home,
        )
        try:
            daemon.start("/-/ready")
            yield Prometheus(daemon)
        finally:
            daemon.stop()


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; its verdict is the return code."""
    program = required("promtool", PACKAGE)
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=100)


def main() -> None:
    """Until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with prometheus(sys.argv[1:2], [Path(name) for name in sys.argv[2:]]) as running:
        print(f"prometheus {running.url}\n  log {running.daemon.log}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
