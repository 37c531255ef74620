"""Do the alert rules page when they should and only then, and does each tell what to do?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from regiondrift import metric_table
from regiondrift.catalog import Catalog
from servers.prometheus import promtool

ALERTS = Path(__file__).parents[2] / "alerts"
RULES = sorted(ALERTS.glob("*.rules.yaml"))
RUNBOOKS = ALERTS / "runbooks"
CASES = sorted((ALERTS / "tests").glob("*.yaml"))
RUNBOOK_URL = "https://github.com/regiondrift/regiondrift/blob/main/alerts/runbooks/{}.md"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Escalation", "Silencing"]

_METRIC = re.compile(r"(?:[a-z_]+:)?regiondrift_[a-z_]+(?::[a-z_]+)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Rule:
    """One alerting or recording rule."""

    name: str
    alert: bool
    expr: str
    text: dict[str, Any]

    @property
    def severity(self) -> str:
        return str(self.text["labels"]["severity"])

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self.text["annotations"])

    def seconds(self, key: str) -> int:
        number, unit = re.fullmatch(r"(\d+)([smh])", self.text.get(key, "0s")).groups()  # type: ignore[union-attr]
        return int(number) * _SECONDS[unit]

    def reads(self) -> set[str]:
        """Names of the metrics in its expression and in the queries of its annotations."""
        return set(_METRIC.findall(self.expr + " ".join(self.text.get("annotations", {}).values())))


def _rules() -> list[Rule]:
    return [
        Rule(text.get("alert") or text["record"], "alert" in text, text["expr"], text)
        for path in RULES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for text in group["rules"]
    ]


ALL_RULES = _rules()
ALERTING = [rule for rule in ALL_RULES if rule.alert]
each_alert = pytest.mark.parametrize("alert", ALERTING, ids=lambda rule: rule.name)


def _documents(kind: str) -> list[list[dict[str, Any]]]:
    """The cases of each file of that kind: ``quiet.yaml``, ``postgresql-quiet.yaml``."""
    chosen = [path for path in CASES if path.stem.split("-")[-1] == kind]
    return [yaml.safe_load(path.read_text(encoding="utf-8"))["tests"] for path in chosen]


def _cases(kind: str) -> list[dict[str, Any]]:
    return [case for document in _documents(kind) for case in document]


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.stem)
def test_prometheus_accepts_the_rules(rules: Path) -> None:
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", rules)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_the_rules_do_what_the_cases_say(cases: Path) -> None:
    ran = promtool("test", "rules", cases)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_names_are_unique() -> None:
    names = [rule.name for rule in ALL_RULES]
    assert sorted(set(names)) == sorted(names)


def test_every_metric_that_a_rule_reads_is_declared() -> None:
    declared = {m.name for m in metric_table.declared(Catalog())} | {rule.name for rule in ALL_RULES if not rule.alert}
    read = set().union(*(rule.reads() for rule in ALL_RULES))
    assert read - declared == set()


def test_every_recording_rule_is_read() -> None:
    read = set().union(*(rule.reads() for rule in ALL_RULES))
    assert {rule.name for rule in ALL_RULES if not rule.alert} - read == set()


def test_the_name_of_the_job_stands_in_one_place() -> None:
    assert [rule.name for rule in ALL_RULES if re.search(r'\bjob\s*(=|!=|=~|!~)\s*"', rule.expr)] == [
        "exporter:regiondrift_up:job"
    ]


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    assert {rule.name for rule in ALERTING} == {page.stem for page in RUNBOOKS.glob("*.md")}


@each_alert
def test_a_runbook_answers_the_same_six_questions(alert: Rule) -> None:
    page = (RUNBOOKS / f"{alert.name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS


@each_alert
def test_an_alert_says_what_and_what_to_do_first(alert: Rule) -> None:
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == RUNBOOK_URL.format(alert.name)
    assert alert.annotations["summary"].endswith(".")
    assert re.search(r" First(, when it stopped)?: \S", alert.annotations["description"])


@each_alert
def test_severities_are_of_the_four(alert: Rule) -> None:
    assert alert.severity in {"critical", "warning", "info", "none"}


@each_alert
def test_a_page_comes_within_five_minutes_and_does_not_flap(alert: Rule) -> None:
    if alert.severity == "critical":
        assert alert.seconds("for") <= 300
        assert alert.seconds("keep_firing_for") >= 120


def test_a_page_outlasts_the_patience_of_those_that_take_over() -> None:
    """When series vanish, what takes over must fire before the first page resolves."""
    patience = max(rule.seconds("for") for rule in ALERTING if rule.severity == "critical")
    about_links = [rule for rule in ALERTING if rule.severity == "critical" and "by (system, link" in rule.expr]
    assert [rule.name for rule in about_links if rule.seconds("keep_firing_for") <= patience] == []


@each_alert
def test_every_alert_is_seen_firing_with_its_whole_text(alert: Rule) -> None:
    expected = [
        one["exp_labels"]
        for case in _cases("firing")
        for check in case.get("alert_rule_test", [])
        if check["alertname"] == alert.name
        for one in check["exp_alerts"]
    ]
    assert expected
    assert {labels["severity"] for labels in expected} == {alert.severity}


@each_alert
@pytest.mark.parametrize("kind", ["vanished", "frozen", "gone"])
def test_every_alert_is_seen_when_series_end(alert: Rule, kind: str) -> None:
    """In each kind stands what fires at which moment, no more and no less."""
    named = {
        sample["labels"]
        for case in _cases(kind)
        for check in case["promql_expr_test"]
        for sample in check["exp_samples"]
    }
    assert f'{{alertname="{alert.name}"}}' in named


def test_silence_is_seen_with_every_series_that_a_rule_reads() -> None:
    healthy = [document[0] for document in _documents("quiet")]
    fed = {re.split(r"[{]", one["series"])[0] for case in healthy for one in case["input_series"]}
    read = set().union(*(set(_METRIC.findall(rule.expr)) for rule in ALL_RULES))
    assert read - fed - {rule.name for rule in ALL_RULES} == set()
    for case in _cases("quiet"):
        for check in case["promql_expr_test"]:
            assert [one["labels"] for one in check["exp_samples"]] == ['{alertname="RegiondriftWatchdog"}'], case[
                "name"
            ]
