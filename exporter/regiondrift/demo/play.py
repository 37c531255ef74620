"""What happens at a key? The faults of the demo, and what they teach, in a sentence each."""

from __future__ import annotations

import time
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

from regiondrift.demo.pair import Pair
from regiondrift.demo.postgres import ServerError

SLOW: Final = 200
"""Bytes per second; the shop writes about three times that."""


class Play:
    """The commands on a running pair."""

    def __init__(self, pair: Pair, urls: dict[str, str], objective: float) -> None:
        self._pair = pair
        self._urls = urls
        self._objective = objective
        self._paused = False

    def do(self, name: str) -> tuple[int, str]:
        """Carry a command out; exit code and what it says."""
        import psycopg

        actions = {
            "cut": self._cut,
            "heal": self._heal,
            "pause": self._pause,
            "lag": self._lag,
            "promote": self._promote,
            "status": self._status,
        }
        if name not in actions:
            return 2, f"unknown command: {name}"
        try:
            if name not in ("heal", "status") and not self._pair.standby.running:
                return 1, f"{name}: {self._pair.standby.name} is lost and there is no standby; heal rebuilds it"
            return 0, actions[name]()
        except (ServerError, psycopg.Error) as error:
            return 1, f"{name}: {error}"

    @property
    def _ways(self) -> str:
        return f"{self._pair.primary.name} -> {self._pair.standby.name}"

    def _cut(self) -> str:
        self._pair.link.set("blackhole")
        return (
            f"cut: {self._ways} carries nothing any more, and tells nobody. Both databases are up;"
            f" the recovery point stands still, and the page comes once {self._objective:.0f} s are passed"
        )

    def _heal(self) -> str:
        if not self._pair.primary.running:
            self._pair.primary.start()
        if not self._pair.standby.running:
            self._pair.attach()
            self._paused = False
            return (
                f"heal: {self._pair.standby.name} is rebuilt from a base backup and follows {self._pair.primary.name}"
            )
        self._pair.link.set("pass")
        self._pair.standby.resume()
        self._paused = False
        return f"heal: {self._ways} carries everything again, and replay goes on"

    def _pause(self) -> str:
        self._pair.standby.pause()
        self._paused = True
        return f"pause: {self._pair.standby.name} receives everything and applies nothing"

    def _lag(self) -> str:
        self._pair.link.set("slow", SLOW)
        return f"lag: {self._ways} carries {SLOW} bytes a second, the shop writes more: the copy falls behind for good"

    def _promote(self) -> str:
        lost = self._pair.primary.name
        self._pair.fail_over()
        self._paused = False
        return (
            f"promote: {lost} is lost, {self._pair.primary.name} takes the orders now. What the last recovery point"
            " did not cover is gone; heal rebuilds the lost region"
        )

    def _status(self) -> str:
        pair = self._pair
        orders = pair.primary.value("SELECT count(*) FROM orders")
        link = {"pass": "healthy", "blackhole": "cut", "slow": f"slow ({SLOW} B/s)", "refuse": "refusing"}
        lines = [f"{name} {url}" for name, url in self._urls.items()]
        lines.append(f"link: {link[pair.link.mode]}")
        lines.append(f"{pair.primary.name}: primary, {orders} orders")
        if pair.standby.running:
            copied = pair.standby.value("SELECT count(*) FROM orders")
            said = "paused standby" if self._paused else "standby"
            lines.append(f"{pair.standby.name}: {said}, {copied} orders")
        else:
            lines.append(f"{pair.standby.name}: lost")
        return "\n".join([*lines, *self._exporter()])

    def _exporter(self) -> list[str]:
        """What regiondrift says of the standby."""
        from prometheus_client.parser import text_string_to_metric_families

        connection = HTTPConnection(urlsplit(self._urls["regiondrift"]).netloc, timeout=2)
        try:
            connection.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
            text = connection.getresponse().read().decode()
        except (OSError, HTTPException) as error:
            return [f"regiondrift does not answer: {error}"]
        finally:
            connection.close()
        point, state = None, "nothing"
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("replica") != self._pair.standby.name:
                    continue
                if sample.name == "regiondrift_recovery_point_timestamp_seconds":
                    point = sample.value
                elif sample.name == "regiondrift_replication_state" and sample.value == 1:
                    state = sample.labels["state"]
        proven = "nothing is proven" if point is None else f"a failover now loses at most {time.time() - point:.1f} s"
        return [f"regiondrift says of {self._pair.standby.name}: {state}; {proven} (objective {self._objective:.0f} s)"]
