"""What if one server is known by two names? A floating address, or a service, beside the server that it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.exporter import document, entry, exporter
from servers.postgresql import pair

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("version", [15, 18])
def test_it_is_no_split_brain_and_the_second_name_is_told(version: int, tmp_path: Path) -> None:
    with pair(version) as regions:
        primary, standby = (server.conninfo() for server in regions.servers)
        alias = primary.replace("host=127.0.0.1", "host=localhost hostaddr=127.0.0.1")
        with exporter(tmp_path, document(entry("orders", primary, standby, alias))) as made:
            found = made.until(lambda s: s.state("n1") == "streaming", 15, "streaming")
            found = made.until(lambda s: s.reasons("orders/n2").get("wrong_system", 0) >= 2, 15, "told")
            assert found.reasons("orders/n2").keys() == {"wrong_system"}
            assert made.lines("this is n0 under another name")
            assert found.state("n1") == "streaming"
            assert found.value("regiondrift_replication_sources") is None
            assert found.value("regiondrift_replication_failovers_total") == 0
