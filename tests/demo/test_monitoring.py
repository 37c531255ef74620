"""Do pages reach the terminal as lines, and do the configurations hold before the programs that read them?"""

from __future__ import annotations

import json
import shutil
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from regiondrift.demo import monitoring
from servers.daemon import required


def test_one_line_per_alert_and_nothing_that_moves_the_cursor() -> None:
    notification = {
        "alerts": [
            {"status": "firing", "labels": {"alertname": "A"}, "annotations": {"summary": "lost\x1b[2J\nmore"}},
            {"status": "resolved", "labels": {"alertname": "B"}, "annotations": {}},
        ]
    }
    assert monitoring.pages(notification) == ["PAGE A: lost [2J more", "RESOLVED B: "]


def test_receiver_says_pages_and_refuses_what_is_none() -> None:
    said: list[str] = []
    pager = monitoring.Pager(said.append)
    try:
        statuses = []
        for body in ('{"alerts": [{"status": "firing", "labels": {"alertname": "A"}}]}', "no json", '["no object"]'):
            connection = HTTPConnection(urlsplit(pager.url).netloc, timeout=5)
            connection.request("POST", "/", body)
            statuses.append(connection.getresponse().status)
            connection.close()
    finally:
        pager.close()
    assert statuses == [200, 400, 400]
    assert said == ["PAGE A: "]


def test_rules_are_the_shipped_ones() -> None:
    rules = monitoring.shipped_rules()
    names = [
        rule.get("alert")
        for path in rules
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert any(names)


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    promtool = required("promtool", "prometheus")
    rules = monitoring.shipped_rules()
    for path in rules:
        shutil.copy(path, tmp_path)
    text = monitoring.prometheus_configuration("127.0.0.1:1", "127.0.0.1:2", rules)
    (tmp_path / "prometheus.yml").write_text(text)
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(text)["scrape_configs"][0]["job_name"] == "regiondrift"


def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    amtool = required("amtool", "prometheus-alertmanager")
    path = tmp_path / "alertmanager.yml"
    path.write_text(monitoring.alertmanager_configuration("http://127.0.0.1:1/"))
    routed = []
    for severity in ("critical", "warning", "none"):
        command = [amtool, "config", "routes", "test", f"--config.file={path}", f"severity={severity}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        routed.append(done.stdout.strip())
    assert routed == ["pager", "nobody", "nobody"]
