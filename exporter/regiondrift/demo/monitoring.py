"""Who is paged? Prometheus with the shipped rules, Alertmanager, and the receiver that pages end at."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

_PROGRAMS: Final = {
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
"""Debian's name first."""


def program(name: str) -> str | None:
    """Where Prometheus or Alertmanager is; None if it is not installed."""
    path = os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin"
    return next((found for each in _PROGRAMS[name] if (found := shutil.which(each, path=path))), None)


def package(name: str) -> str:
    """Debian's package of it."""
    return _PROGRAMS[name][0]


def shipped_rules() -> list[Path]:
    """The alert rules: in a wheel the package's own, in a checkout those of ``alerts/``."""
    packaged = Path(str(files("regiondrift.demo"))) / "alerts"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "alerts"
    found = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and "groups" in document:
            found.append(path)
    return found


def prometheus_configuration(exporter: str, alertmanager: str | None, rules: list[Path]) -> str:
    """JSON, which is YAML. `exporter`, `alertmanager`: host:port."""
    return json.dumps(
        {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [path.name for path in rules],
            "scrape_configs": [{"job_name": "regiondrift", "static_configs": [{"targets": [exporter]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []},
        },
        indent=1,
    )


def alertmanager_configuration(pager: str) -> str:
    """Critical alerts page at once; the rest is only shown. `pager`: the receiver's URL."""
    page = {
        "receiver": "pager",
        "matchers": ['severity="critical"'],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "4h",
    }
    return json.dumps(
        {
            "route": {"receiver": "nobody", "group_by": ["..."], "routes": [page]},
            "receivers": [
                {"name": "nobody"},
                {"name": "pager", "webhook_configs": [{"url": pager, "send_resolved": True}]},
            ],
        },
        indent=1,
    )


class Pager:
    """The pager of whoever is on call: a webhook receiver that says each page in one line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_POST(self) -> None:
                try:
                    lines = pages(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                except (ValueError, TypeError, AttributeError):
                    self.send_error(400)
                    return
                for line in lines:
                    say(line)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Pages are its only words."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def pages(notification: Any) -> list[str]:
    """The lines of an Alertmanager notification: PAGE for each alert that fires, RESOLVED for each that ended."""
    lines = []
    for alert in notification.get("alerts", []):
        word = "PAGE" if alert.get("status") == "firing" else "RESOLVED"
        name = alert.get("labels", {}).get("alertname", "?")
        text = f"{word} {name}: {alert.get('annotations', {}).get('summary', '')}"
        lines.append("".join(c if c.isprintable() else " " for c in text))
    return lines
