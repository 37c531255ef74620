"""The main job: is somebody woken, in time and with words that help, when the link between two regions is silently cut?

Real PostgreSQL, the real ``regiondrift serve``, real Prometheus with the shipped rules, real Alertmanager with the
shipped example, and a webhook at the end of it.
"""

from __future__ import annotations

import calendar
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from regiondrift.demo.postgres import free_port
from servers.alertmanager import alertmanager
from servers.daemon import Daemon
from servers.postgresql import Pair, Server, pair
from servers.prometheus import Prometheus, prometheus
from servers.webhook import Page, Webhook, webhook

pytestmark = [pytest.mark.servers, pytest.mark.timeout(150)]

ALERTS = Path(__file__).parents[2] / "alerts"
RULES = sorted(ALERTS.glob("*.rules.yaml"))
BREACHED = "RegiondriftRecoveryPointBreached"
OBJECTIVE, PROBE, SCRAPE = 5, 1, 1


def _seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


def _allowed(alert: str) -> int:
    """Seconds from the cut to the page: objective + for + two intervals, one being probe + scrape + evaluation."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == alert:
                    return OBJECTIVE + _seconds(rule["for"]) + 2 * (PROBE + SCRAPE + _seconds(group["interval"]))
    raise LookupError(alert)


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything from the first byte of WAL to the pager."""

    regions: Pair
    exporter: Daemon
    prometheus: Prometheus
    pager: Webhook

    def worst(self, bound: str) -> float | None:
        """Exposure by the recording rule of `bound`, upper or lower; None while there is none."""
        found = self.prometheus.instant(f"max(replica:regiondrift_exposure_seconds:{bound})")
        return found[0].value if found else None

    def critical(self, state: str) -> set[str]:
        return {name for name, severity in self.prometheus.alerts(state) if severity == "critical"}


def _until(holds: Callable[[], bool], timeout: float) -> None:
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, "did not hold in time"
        time.sleep(0.2)


def _alertmanager_config(pager: Webhook) -> str:
    """The shipped example, with all its receivers at our webhook."""
    config = yaml.safe_load((ALERTS / "alertmanager.yml").read_text(encoding="utf-8"))
    for receiver in config["receivers"]:
        for hook in receiver.get("webhook_configs", []):
            hook["url"] = f"{pager.url}/{receiver['name']}"
    return str(yaml.safe_dump(config))


def _exporter(home: Path, regions: Pair) -> Daemon:
    file = home / "regiondrift.yaml"
    nodes = [{"name": f"{s.name}-1", "region": s.name, "conninfo": s.conninfo()} for s in regions.servers]
    entry = {
        "name": "orders",
        "interval": f"{PROBE}s",
        "timeout": "1s",
        "recovery_point": f"{OBJECTIVE}s",
        "nodes": nodes,
    }
    config = {
        "version": 1,
        "regions": [server.name for server in regions.servers],
        "state_dir": str(home / "state"),
        "postgresql": [entry],
    }
    file.write_text(json.dumps(config), encoding="utf-8")
    listen = f"127.0.0.1:{free_port()}"
    program = Path(sys.executable).with_name("regiondrift")
    argv = [str(program), "serve", f"--config.file={file}", f"--web.listen-address={listen}"]
    return Daemon(argv, f"http://{listen}", home)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("exporter")
    with pair() as regions, webhook() as pager, alertmanager(_alertmanager_config(pager)) as pages:
        exporter = _exporter(home, regions)
        address = exporter.url.removeprefix("http://")
        try:
            exporter.start("/-/ready")
            with prometheus(
                [address], RULES, alertmanager=pages.url.removeprefix("http://"), interval="1s"
            ) as scraping:
                made = Stack(regions, exporter, scraping, pager)
                _until(lambda: (made.worst("upper") or OBJECTIVE) < OBJECTIVE, 30)
                # Rules that were evaluated before the first scrape saw no exporter.
                _until(lambda: made.critical("pending") == set(), 30)
                yield made
        finally:
            exporter.stop()


@contextmanager
def writer(server: Server) -> Iterator[None]:
    """Commits a row five times a second."""
    ended = threading.Event()

    def write() -> None:
        with server.connect() as connection:
            connection.autocommit = True
            while not ended.wait(0.2):
                connection.execute("INSERT INTO written DEFAULT VALUES")

    server.execute("CREATE TABLE IF NOT EXISTS written (at timestamptz DEFAULT clock_timestamp())")
    thread = threading.Thread(target=write, name="writer")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_every_rule_can_be_evaluated_on_what_is_exported(stack: Stack) -> None:
    _until(
        lambda: all(
            rule["health"] != "unknown"
            for rule in stack.prometheus.rules()
            if rule["name"] != "RegiondriftLinkUnwatched"
        ),
        30,
    )
    assert [rule["name"] for rule in stack.prometheus.rules() if rule["health"] == "err"] == []


def test_an_idle_primary_and_a_restarted_exporter_page_nobody(stack: Stack) -> None:
    """For longer than a page would take. Pending counts, too: nothing may even be on its way to a page."""
    end = time.monotonic() + _allowed(BREACHED) + 2
    middle = time.monotonic() + _allowed(BREACHED) / 2
    restarted = False
    while time.monotonic() < end:
        assert stack.critical("firing") == set()
        if not restarted:
            assert stack.critical("pending") == set()
            assert (stack.worst("upper") or 0) < OBJECTIVE
        if not restarted and time.monotonic() > middle:
            stack.exporter.stop()
            stack.exporter.start("/-/ready")
            restarted = True
        time.sleep(1)
    _until(lambda: stack.critical("pending") == set(), 15)
    assert stack.pager.pages() == []


def test_a_silent_cut_pages_within_the_objective_and_two_intervals(stack: Stack) -> None:
    source, replica = stack.regions.servers
    with writer(source):
        _until(lambda: (stack.worst("upper") or OBJECTIVE) < OBJECTIVE, 15)
        assert stack.pager.pages() == []
        cut = time.time()
        stack.regions.link.set("blackhole")
        page = stack.pager.wait(lambda page: page.receiver == "/page", _allowed(BREACHED) + 30)
        assert page, f"no page; firing: {stack.prometheus.alerts()}, pending: {stack.prometheus.alerts('pending')}"
        took = page.arrived - cut
        print(f"paged {took:.1f} s after the cut; allowed {_allowed(BREACHED)} s")
        _reads_well(page, source.name, replica.name, cut)
        assert took <= _allowed(BREACHED)
        assert took > OBJECTIVE
        # The lower bound is that of the replica's own looks, not of its fallback for replicas without a probe.
        orphans = (
            "exporter:regiondrift_replica_behind_since_timestamp_seconds:unrefuted"
            " unless on (instance, collector, target) regiondrift_probe_last_success_timestamp_seconds"
        )
        assert stack.prometheus.instant(orphans) == []
    # Certain and blind are never both said of one replica.
    assert [page.name for page in stack.pager.pages()] == [BREACHED]


def _reads_well(page: Page, source: str, replica: str, cut: float) -> None:
    assert page.status == "firing"
    assert page.labels == {
        "alertname": BREACHED,
        "severity": "critical",
        "system": "postgresql",
        "link": "orders",
        "replica": f"{replica}-1",
        "source_region": source,
        "target_region": replica,
    }
    assert page.annotations["summary"] == f"Replica {replica}-1 of orders is behind its recovery point objective."
    text = re.fullmatch(
        rf"postgresql orders, {source} to {replica}: {replica}-1 lacks data that the source held "
        r"at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \+0000 UTC\. "
        r"A failover now loses at least ([\d.]+)s of commits; the objective is 5s\. "
        r"First: regiondrift probe /etc/regiondrift/regiondrift\.yaml orders",
        page.annotations["description"],
    )
    assert text, page.annotations["description"]
    assert float(text[2]) > OBJECTIVE
    since = time.strptime(text[1], "%Y-%m-%d %H:%M:%S")
    # Not before the cut, for until then the replica had everything; and soon after, for the writer is busy.
    assert cut <= calendar.timegm(since) + 1 <= cut + 2 * PROBE + 3
    assert page.annotations["runbook_url"].endswith(f"/alerts/runbooks/{BREACHED}.md")
