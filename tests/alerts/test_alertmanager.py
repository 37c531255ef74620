"""Does the Alertmanager example bring every alert to the right people, and hide no certain breach?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from servers.alertmanager import amtool

ALERTS = Path(__file__).parents[2] / "alerts"
EXAMPLE = ALERTS / "alertmanager.yml"
CERTAIN = "RegiondriftRecoveryPointBreached"


def _alerts() -> dict[str, str]:
    """Severity by name."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(ALERTS.glob("*.rules.yaml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule["labels"]["severity"] for rule in rules if "alert" in rule}


SEVERITY = _alerts()
RECEIVER = {"critical": "page", "warning": "tickets", "info": "log"}


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return config


def _matches(matchers: list[str], name: str) -> bool:
    """Whether an alert of that name and its severity meets all matchers."""
    labels = {"alertname": name, "severity": SEVERITY[name]}
    for matcher in matchers:
        label, operator, value = re.fullmatch(r'(\w+)\s*(=~|=)\s*"(.*)"', matcher).groups()  # type: ignore[union-attr]
        if not re.fullmatch(value if operator == "=~" else re.escape(value), labels[label]):
            return False
    return True


def test_alertmanager_accepts_the_example() -> None:
    checked = amtool("check-config", EXAMPLE)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SEVERITY)
def test_an_alert_goes_where_its_severity_says(name: str) -> None:
    receiver = "dead-mans-switch" if name == "RegiondriftWatchdog" else RECEIVER[SEVERITY[name]]
    labels = [f"alertname={name}", f"severity={SEVERITY[name]}", "system=postgresql", "link=orders"]
    routed = amtool("config", "routes", "test", f"--config.file={EXAMPLE}", f"--verify.receivers={receiver}", *labels)
    assert routed.returncode == 0, routed.stdout + routed.stderr


def test_no_page_waits_for_its_group() -> None:
    paging = next(route for route in _config()["route"]["routes"] if route["receiver"] == "page")
    assert paging["group_wait"] == "0s"
    assert "alertname" in _config()["route"]["group_by"]


def test_nothing_hides_a_certain_breach_or_the_watchdog() -> None:
    hidden = [
        name for rule in _config()["inhibit_rules"] for name in SEVERITY if _matches(rule["target_matchers"], name)
    ]
    assert CERTAIN not in hidden
    assert "RegiondriftWatchdog" not in hidden


def test_a_page_is_hidden_by_pages_only() -> None:
    """A warning that hid a page would wake nobody."""
    for rule in _config()["inhibit_rules"]:
        sources = [name for name in SEVERITY if _matches(rule["source_matchers"], name)]
        targets = [name for name in SEVERITY if _matches(rule["target_matchers"], name)]
        assert sources
        assert targets
        if any(SEVERITY[name] == "critical" for name in targets):
            assert {SEVERITY[name] for name in sources} == {"critical"}
