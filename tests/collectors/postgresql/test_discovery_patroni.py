"""What is said of a system whose nodes Patroni knows? Real members on a real etcd, looked at by a real exporter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from faults.exporter import PROGRAM, Exporter, Scrape, document, exporter, until
from servers.patroni import Cluster, cluster, role

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

EXPECTED = "regiondrift_replication_expected_replicas"


def patroni_entry(made: Cluster, **more: Any) -> dict[str, Any]:
    asked = {
        "urls": [member.url for member in made.members.values()],
        "regions": {"ymq*": "montreal", "ams*": "amsterdam"},
        "region_tag": "dc",
        "conninfo": "dbname=postgres user=regiondrift",
        "password_file": str(made.home / "role.password"),
        **more,
    }
    return {
        "name": "orders",
        "interval": "500ms",
        "timeout": "2s",
        "recovery_point": "30s",
        "patroni": [{key: value for key, value in asked.items() if value is not None}],
    }


def region_of(found: Scrape) -> set[str]:
    name = "regiondrift_recovery_point_timestamp_seconds"
    return {dict(labels)["source_region"] for n, labels in found.series if n == name}


@dataclass(frozen=True, slots=True)
class Scene:
    cluster: Cluster
    exporter: Exporter
    first: str
    """Name of the member that led at first; its tag leads to its region."""

    @property
    def second(self) -> str:
        return next(name for name in self.cluster.members if name != self.first)


REGIONS = {"a": "montreal", "b": "amsterdam"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("patroni")
    with ExitStack() as stack:
        made = stack.enter_context(cluster({"a": {"dc": "ymq"}, "b": {"dc": "ams"}}))
        (made.home / "role.password").write_text(role(made))
        first = made.leader().name
        config = document(patroni_entry(made), state_dir=str(home / "state"))
        running = stack.enter_context(exporter(home, config))
        yield Scene(made, running, first)
        print(running.said())


def test_members_are_nodes_and_their_tag_tells_their_region(scene: Scene) -> None:
    found = scene.exporter.until(lambda s: s.state(scene.second) == "streaming", 20, "streaming")
    assert {found.success(f"orders/{part}") for part in ("patroni", "a", "b")} == {1}
    assert found.value(EXPECTED) == 1
    assert found.value("regiondrift_replication_sources") == 1
    (labels,) = (dict(its) for n, its in found.series if n == "regiondrift_recovery_point_timestamp_seconds")
    assert labels["source_region"] == REGIONS[scene.first]
    assert labels["target_region"] == REGIONS[scene.second]


def test_readiness_waits_for_what_is_discovered(scene: Scene) -> None:
    until(scene.exporter.ready, 10, "ready")


def test_a_failover_is_followed_and_the_member_that_went_stays_expected(scene: Scene) -> None:
    """The lost leader leaves Patroni's answer, as every member does whose machine is down."""
    scene.cluster.members[scene.first].stop()
    scene.cluster.until(lambda answer: [m["name"] for m in answer["members"]] == [scene.second], 40)
    found = scene.exporter.until(
        lambda s: s.value("regiondrift_replication_failovers_total") == 1 and s.state(scene.first) == "unreachable",
        20,
        "the other one is the source",
    )
    assert found.success("orders/patroni") == 1
    words = 'msg="member no longer named; it is looked at and expected as before"'
    until(lambda: scene.exporter.lines(words, f"member={scene.first}"), 10, "it is said")
    status = json.loads(scene.exporter.ask("/api/v1/status")[1])
    (asked,) = (target for target in status["targets"] if target["target"] == "orders/patroni")
    assert asked["notes"]["no longer named"] == scene.first
    assert scene.exporter.scrape().value(EXPECTED) == 1


def test_what_was_discovered_outlives_a_restart_though_nobody_tells_it_again(scene: Scene) -> None:
    assert scene.exporter.stop() == 0
    nobody = document(
        patroni_entry(scene.cluster, urls=["http://127.0.0.1:1"]), state_dir=str(scene.exporter.home / "state")
    )
    scene.exporter.configure(nobody)
    scene.exporter.start()
    found = scene.exporter.until(lambda s: s.success(f"orders/{scene.second}") == 1, 10, "remembered")
    assert found.value(EXPECTED) == 1
    found = scene.exporter.until(lambda s: s.reasons("orders/patroni"), 10, "nobody tells")
    assert found.reasons("orders/patroni").keys() == {"unreachable"}
    assert found.state(scene.first) == "unreachable"
    # There may be nodes that nobody tells us of: how many accept writes is not known.
    assert found.value("regiondrift_replication_sources") is None


def test_no_secret_and_no_connection_string_is_in_the_state_file(scene: Scene) -> None:
    assert scene.exporter.stop() == 0
    kept = b"".join(path.read_bytes() for path in (scene.exporter.home / "state").iterdir())
    assert b"orders/patroni" in kept
    for secret in (scene.cluster.secrets.role, scene.cluster.secrets.superuser, "user=regiondrift"):
        assert secret.encode() not in kept


def test_a_member_that_comes_back_is_the_replica_it_was_expected_to_be(scene: Scene) -> None:
    scene.exporter.configure(document(patroni_entry(scene.cluster), state_dir=str(scene.exporter.home / "state")))
    scene.exporter.start()
    scene.cluster.members[scene.first].start()
    found = scene.exporter.until(lambda s: s.state(scene.first) == "streaming", 60, "streaming again")
    assert region_of(found) == {REGIONS[scene.second]}
    assert found.value(EXPECTED) == 1


def test_probe_asks_patroni_before_the_members(scene: Scene) -> None:
    done = subprocess.run(
        [*PROGRAM, "probe", str(scene.exporter.file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"orders/patroni", "orders/a", "orders/b"} <= set(done.stdout.split())


def test_a_listed_node_is_not_doubled(scene: Scene) -> None:
    """Neither one that Patroni gives the same address, nor one of the same name, which keeps the address listed."""
    first, second = (scene.cluster.members[name] for name in (scene.first, scene.second))
    at = f"host=127.0.0.1 dbname=postgres user=regiondrift password={scene.cluster.secrets.role}"
    entry = patroni_entry(scene.cluster)
    entry["nodes"] = [
        {"name": "mine", "region": "montreal", "conninfo": f"{at} port={first.port}"},
        {"name": second.name, "region": "montreal", "conninfo": f"{at} port={second.port} connect_timeout=7"},
    ]
    scene.exporter.configure(document(entry, state_dir=str(scene.exporter.home / "state")))
    found = scene.exporter.until(lambda s: s.success("orders/mine") == 1, 20, "reloaded")
    targets = {dict(labels)["target"] for name, labels in found.series if name == "regiondrift_probe_success"}
    assert targets == {"orders/mine", f"orders/{second.name}", "orders/patroni"}
    assert found.value(EXPECTED) == 1


def test_a_member_without_a_region_makes_the_discovery_partial(scene: Scene) -> None:
    entry = patroni_entry(scene.cluster, regions={"ymq*": "montreal"})
    scene.exporter.configure(document(entry, state_dir=str(scene.exporter.home / "state")))
    found = scene.exporter.until(lambda s: s.reasons("orders/patroni").get("refused_value"), 20, "refused")
    assert found.success("orders/patroni") == 0
    assert found.success("orders/a") == 1
    assert found.value("regiondrift_replication_sources") is None
    assert scene.exporter.lines("no pattern of `regions` fits")


def test_another_scope_is_another_system(scene: Scene) -> None:
    scene.exporter.configure(document(patroni_entry(scene.cluster, scope="invoices")))
    scene.exporter.until(lambda s: s.reasons("orders/patroni").get("wrong_system"), 20, "refused")


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def encrypted(authority: trustme.CA) -> Iterator[Cluster]:
    def api(home: Path) -> Mapping[str, Any]:
        issued = authority.issue_cert("127.0.0.1", "localhost")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (home / "api.pem").write_bytes(issued.private_key_pem.bytes() + chain)
        (home / "api.pem").chmod(0o644)
        return {"certfile": str(home / "api.pem")}

    with cluster({"a": {}}, api=api) as made:
        (made.home / "role.password").write_text(role(made))
        yield made


def test_certificates_are_verified(encrypted: Cluster, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    entry = patroni_entry(encrypted, region="montreal", regions=None, region_tag=None)
    with exporter(tmp_path, document(entry)) as made:
        found = made.until(lambda s: s.reasons("orders/patroni"), 10, "refused")
        assert found.reasons("orders/patroni").keys() == {"tls"}
        assert found.value(EXPECTED) is None, "nobody knows how many there are"
        entry["patroni"][0]["api"] = {"ca_file": str(tmp_path / "ca.pem")}
        made.configure(document(entry))
        found = made.until(lambda s: s.success("orders/a") == 1, 20, "trusted")
        assert found.value("regiondrift_replication_sources") == 1
        assert found.value(EXPECTED) == 0
