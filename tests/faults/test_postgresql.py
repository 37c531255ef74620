"""Does every fault of a real server cost its own target alone, under its right name, and for no longer than it lasts?

One exporter looks at a healthy pair and at every broken thing at once, as in production. Servers are real; the few
listeners here stand for what is no PostgreSQL. Answers that no real server gives: tests/collectors/postgresql/.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest

from faults.exporter import PROGRAM, Exporter, Scrape, document, entry, exporter, until
from faults.postgresql import fake, is_version
from regiondrift.demo.postgres import free_port
from servers.postgresql import Pair, Server, pair, standalone
from servers.proxy import Proxy

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

MISSED = secrets.token_hex(12)
"""A password that is wrong everywhere."""


@contextmanager
def listener(first: bytes = b"", *, answers: bytes = b"") -> Iterator[int]:
    """A port where every client is greeted with `first`, answered with `answers`, and otherwise left alone."""
    server = socket.create_server(("127.0.0.1", 0))
    clients: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            clients.append(client)
            with suppress(OSError):
                client.sendall(first)
                if answers and client.recv(65536):
                    client.sendall(answers)
                    client.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for client in clients:
            client.close()


def admit(server: Server, line: str) -> None:
    """Put a line before all others of pg_hba.conf."""
    file = server.directory / "pg_hba.conf"
    file.write_text(line + "\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert server.process
    server.process.send_signal(signal.SIGHUP)


def conninfo(server: Server, *, role: str | None = None, password: str | None = None, more: str = "") -> str:
    who = f"user={role or 'regiondrift'} password={password or server.secrets.role}"
    return f"host=127.0.0.1 port={server.port} dbname=postgres {who} {more}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Real servers, every fault at once, and one exporter that looks at all of it."""

    regions: Pair
    stranger: Server
    starting: Server
    exporter: Exporter
    expected: dict[str, str]
    """Reason of each target that fails."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        regions = stack.enter_context(pair())
        stranger = stack.enter_context(standalone("stranger"))
        starting = stack.enter_context(standalone("starting"))
        primary = regions.primary
        primary.execute("CREATE ROLE unprivileged LOGIN PASSWORD 'unprivileged'")
        primary.execute("CREATE ROLE crowded LOGIN PASSWORD 'crowded' CONNECTION LIMIT 0 IN ROLE pg_monitor")
        primary.execute("CREATE ROLE nologin PASSWORD 'nologin' IN ROLE pg_monitor")
        primary.execute("CREATE ROLE rejected LOGIN PASSWORD 'rejected' IN ROLE pg_monitor")
        admit(primary, "host all rejected all reject")
        regions.wait_caught_up()
        # A standby that lets nobody in answers like any server that is still starting.
        starting.stop()
        starting.configure(hot_standby="off")
        (starting.directory / "standby.signal").touch()
        owner = starting.directory.stat()
        os.chown(starting.directory / "standby.signal", owner.st_uid, owner.st_gid)
        starting._configure()
        starting._launch()

        refusing = stack.enter_context(Proxy(("127.0.0.1", primary.port)))
        refusing.set("refuse")
        black_hole = stack.enter_context(Proxy(("127.0.0.1", primary.port)))
        black_hole.set("blackhole")
        mute = stack.enter_context(listener())
        web = stack.enter_context(listener(answers=b"HTTP/1.1 400 Bad Request\r\n\r\n<html>"))
        shell = stack.enter_context(listener(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"))
        hang_up = stack.enter_context(listener(answers=b"S"))
        old = stack.enter_context(fake(is_version("12.20")))
        gone = home / "gone.secret"
        unreadable = home / "directory.secret"
        unreadable.mkdir()

        def at(port: int) -> str:
            return f"host=127.0.0.1 port={port} dbname=postgres user=regiondrift password={MISSED} "

        faults: dict[str, tuple[str, str]] = {
            "closed": (at(free_port()), "unreachable"),
            "nameless": ("host=no-such-host.invalid user=regiondrift", "unreachable"),
            "routeless": ("host=255.255.255.255 user=regiondrift", "unreachable"),
            "refusing": (at(refusing.port), "unreachable"),
            "halfopen": (at(hang_up) + " sslmode=require", "unreachable"),
            "mute": (at(mute), "timeout"),
            "blackhole": (at(black_hole.port), "timeout"),
            "password": (conninfo(primary, password=MISSED), "authentication"),
            "nobody": (conninfo(primary, role="nobody-here", password=MISSED), "authentication"),
            "nologin": (conninfo(primary, role="nologin", password="nologin"), "authentication"),
            "rejected": (conninfo(primary, role="rejected", password="rejected"), "authentication"),
            "nopassword": (f"host=127.0.0.1 port={primary.port} dbname=postgres user=regiondrift", "authentication"),
            "unprivileged": (conninfo(primary, role="unprivileged", password="unprivileged"), "permission"),
            "crowded": (conninfo(primary, role="crowded", password="crowded"), "overloaded"),
            "nodatabase": (conninfo(primary).replace("dbname=postgres", "dbname=nowhere"), "protocol"),
            "starting": (conninfo(starting), "starting"),
            "tlsnone": (conninfo(regions.standby, more="sslmode=require"), "tls"),
            "web": (at(web), "protocol"),
            "shell": (at(shell), "protocol"),
            "old": (at(old.port), "unsupported_version"),
        }  # fmt: skip
        entries = [
            entry("orders", conninfo(primary), conninfo(regions.standby), recovery_point="30s"),
            *(entry(name, text) for name, (text, _) in faults.items()),
            entry("mixed", conninfo(primary), conninfo(stranger)),
            entry("nofile", conninfo(primary)),
            entry("badfile", conninfo(primary)),
        ]
        entries[-2]["nodes"][0] |= {"conninfo": at(primary.port).replace(MISSED, "''"), "password_file": str(gone)}
        entries[-1]["nodes"][0] |= {"conninfo": at(primary.port), "password_file": str(unreadable)}
        expected = {f"{name}/n0": reason for name, (_, reason) in faults.items()}
        expected |= {"mixed/n1": "wrong_system", "nofile/n0": "authentication", "badfile/n0": "authentication"}
        made = stack.enter_context(exporter(home, document(*entries)))
        yield Scene(regions, stranger, starting, made, expected)


def test_each_fault_is_its_own_targets_and_has_its_own_name(scene: Scene) -> None:
    until(scene.exporter.ready, 10, "ready")
    found = scene.exporter.scrape()
    assert {target: found.reasons(target).keys() for target in scene.expected} == {
        target: {reason} for target, reason in scene.expected.items()
    }
    assert {target: found.success(target) for target in scene.expected} == dict.fromkeys(scene.expected, 0.0)
    for target in scene.expected:
        assert found.value("regiondrift_probe_last_success_timestamp_seconds", target=target) is None


def test_what_is_healthy_is_not_concerned(scene: Scene) -> None:
    found = scene.exporter.until(lambda s: s.state("n1", link="orders") == "streaming", what="streaming")
    assert (found.success("orders/n0"), found.success("orders/n1")) == (1, 1)
    assert found.reasons("orders/n0") == found.reasons("orders/n1") == {}
    assert found.value("regiondrift_replication_sources", link="orders") == 1
    assert found.success("mixed/n0") == 1


def test_of_what_was_never_seen_nothing_is_said(scene: Scene) -> None:
    found = scene.exporter.scrape()
    seen = {"orders", "mixed"}
    for name, labels in found.series:
        link = dict(labels).get("link")
        if name.startswith("regiondrift_") and link not in {None, *seen}:
            assert name in ("regiondrift_replication_expected_replicas", "regiondrift_replication_failovers_total"), (
                name
            )
    # Another system's standby or primary is no replica of ours that could be behind.
    assert found.values("regiondrift_recovery_point_timestamp_seconds", link="mixed") == []
    assert found.values("regiondrift_replication_sources", link="mixed") == []
    assert found.state("n1", link="mixed") == "unreachable"


def test_each_breaks_with_one_line_and_says_why(scene: Scene) -> None:
    scene.exporter.until(lambda s: s.reasons("closed/n0").get("unreachable", 0) >= 3, what="three failures")
    for target, reason in scene.expected.items():
        lines = scene.exporter.lines('msg="look failed"', f"target={target} ")
        assert len(lines) == 1, lines
        assert f"reason={reason} " in lines[0]
        assert re.search(r'detail="?\S', lines[0])
    assert "raceback" not in scene.exporter.said()


def test_no_secret_is_shown_anywhere(scene: Scene) -> None:
    secrets_ = {MISSED}
    for server in (*scene.regions.servers, scene.stranger, scene.starting):
        secrets_ |= {server.secrets.role, server.secrets.superuser}
    shown = {path: scene.exporter.ask(path)[1] for path in ("/", "/metrics", "/api/v1/status")}
    shown["log"] = scene.exporter.said()
    for command in ("check", "probe"):
        arguments = [*PROGRAM, command, str(scene.exporter.file), *(["closed"] if command == "probe" else [])]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
        shown[command] = done.stdout + done.stderr
    assert len(shown["/api/v1/status"]) > 1000
    for where, text in shown.items():
        for secret in secrets_:
            assert secret not in text, where


def heals(scene: Scene, target: str, within: float) -> Scrape:
    """Until the target is looked at again; then it has said so once."""
    found = scene.exporter.until(lambda s: s.success(target) == 1, within, f"{target} heals")
    until(lambda: scene.exporter.lines('msg="look succeeds again"', f"target={target} "), 5, "it is said")
    assert len(scene.exporter.lines('msg="look succeeds again"', f"target={target} ")) == 1
    return found


def test_a_granted_privilege_is_taken_without_a_restart(scene: Scene) -> None:
    scene.regions.primary.execute("GRANT pg_monitor TO unprivileged")
    found = heals(scene, "unprivileged/n0", 31)
    assert found.reasons("unprivileged/n0").keys() == {"permission"}


def test_a_role_that_may_connect_again_is_taken(scene: Scene) -> None:
    scene.regions.primary.execute("ALTER ROLE crowded CONNECTION LIMIT 5")
    heals(scene, "crowded/n0", 31)


def test_there_is_one_connection_per_node_and_never_more(scene: Scene) -> None:
    """Counted by the server: orders, mixed, unprivileged and crowded look at the primary; failing ones hold nothing."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'regiondrift' AND backend_type = 'client backend'"
    with scene.regions.primary.connect() as connection:
        most = 0
        for _ in range(100):
            most = max(most, connection.execute(count.encode()).fetchall()[0][0])
    assert 4 <= most <= 4 + 2, "two more may be in the middle of failing"
    with scene.regions.standby.connect() as connection:
        for _ in range(100):
            assert connection.execute(count.encode()).fetchall()[0][0] <= 1


def test_a_terminated_backend_is_unreachable_for_a_moment(scene: Scene) -> None:
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'regiondrift'"
    scene.regions.standby.execute(kill)
    scene.exporter.until(lambda s: s.reasons("orders/n1") == {"unreachable": 1}, what="unreachable")
    heals(scene, "orders/n1", 10)
    assert scene.exporter.scrape().reasons("orders/n1") == {"unreachable": 1}


def test_a_locked_catalog_ends_as_timeout_and_leaves_no_backends_behind(scene: Scene) -> None:
    """Fault 10: an exporter that queues up behind a lock makes an outage of it."""
    server = scene.regions.primary
    with server.connect() as blocker, server.connect() as watcher:
        with blocker.transaction():
            blocker.execute("LOCK TABLE pg_stat_wal_receiver IN ACCESS EXCLUSIVE MODE")
            scene.exporter.until(lambda s: s.reasons("mixed/n0").get("timeout", 0) >= 2, 20, "timeout")
            count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'regiondrift' AND wait_event_type = 'Lock'"
            for _ in range(50):
                # orders, mixed, unprivileged, crowded: one each, and one that the server has not missed yet.
                assert watcher.execute(count.encode()).fetchall()[0][0] <= 8
        scene.exporter.until(lambda s: s.success("mixed/n0") == 1, 31, "after the lock")


def test_a_frozen_server_is_a_timeout_and_gets_no_second_connection(scene: Scene) -> None:
    server = scene.stranger
    server.freeze()
    try:
        scene.exporter.until(lambda s: s.reasons("mixed/n1").get("timeout", 0) >= 1, 31, "timeout")
    finally:
        server.thaw()
    scene.exporter.until(lambda s: s.reasons("mixed/n1")["wrong_system"] >= 2, 31, "it answers again")


def test_a_server_that_shuts_down_is_unreachable_until_it_is_back(scene: Scene) -> None:
    before = scene.exporter.scrape().reasons("orders/n1")
    scene.regions.standby.stop("fast")
    found = scene.exporter.until(lambda s: s.success("orders/n1") == 0, what="seen")
    assert found.reasons("orders/n1").keys() == {"unreachable"}
    assert found.state("n1", link="orders") == "unreachable"
    assert found.value("regiondrift_replication_lag_bytes", link="orders") is None
    assert found.value("regiondrift_replication_sources", link="orders") is None
    assert found.value("regiondrift_recovery_point_timestamp_seconds", link="orders") is not None
    assert found.reasons("orders/n1")["unreachable"] > before.get("unreachable", 0)
    scene.regions.standby.start()
    scene.exporter.until(lambda s: s.state("n1", link="orders") == "streaming", 31, "streaming again")


def test_after_all_that_every_fault_still_has_its_one_name(scene: Scene) -> None:
    found = scene.exporter.scrape()
    healed = {"unprivileged/n0", "crowded/n0", "mixed/n1"}
    for target in scene.expected.keys() - healed:
        # The server that has no TLS was down for a while, just now.
        true = {scene.expected[target], *(["unreachable"] if target.startswith("tlsnone/") else [])}
        assert {scene.expected[target]} <= found.reasons(target).keys() <= true
    assert scene.exporter.stop() == 0
    assert "raceback" not in scene.exporter.said()
