"""Are secrets read when they are needed, taken when they change, and told nobody? On a real server."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.exporter import Exporter, document, entry, exporter, until
from servers.postgresql import Pair, Server, pair

pytestmark = [pytest.mark.servers, pytest.mark.timeout(90)]

TAKEN_WITHIN = 15
PIDS = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE usename = 'regiondrift'"


@pytest.fixture(scope="module")
def regions() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def server(regions: Pair) -> Iterator[Server]:
    made = regions.primary
    yield made
    made.execute(f"ALTER ROLE regiondrift PASSWORD '{made.secrets.role}'")


def node(server: Server, password_file: Path, name: str = "orders") -> dict[str, Any]:
    made = entry(name, server.conninfo(password=False))
    made["nodes"][0]["password_file"] = str(password_file)
    return made


def drop_connections(server: Server) -> None:
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'regiondrift'")


def test_a_new_password_is_taken_while_the_wrong_one_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    wrong, right = secrets.token_hex(12), secrets.token_hex(12)
    secret = tmp_path / "secret"
    secret.write_text(wrong + "\n", encoding="utf-8")
    with exporter(tmp_path, document(node(server, secret))) as made:
        made.until(lambda s: s.reasons("orders/n0").get("authentication"), what="refused")
        server.execute(f"ALTER ROLE regiondrift PASSWORD '{right}'")
        # The file was written before the role changed, so only its next change is worth a try.
        time.sleep(2)
        assert made.scrape().reasons("orders/n0") == {"authentication": 1}, "every try may count towards a lockout"
        secret.write_text(right, encoding="utf-8")
        began = time.monotonic()
        made.until(lambda s: s.success("orders/n0") == 1, TAKEN_WITHIN, "taken")
        assert time.monotonic() - began < TAKEN_WITHIN
        until(lambda: made.lines('msg="look succeeds again"'), 5, "said")
        tells_nobody(made, wrong, right)
        assert made.stop() == 0


def test_a_password_that_is_replaced_before_anybody_noticed_is_taken(server: Server, tmp_path: Path) -> None:
    """The file changes right after the look that failed: no look at the file in between may miss it."""
    secret = tmp_path / "secret"
    secret.write_text("wrong", encoding="utf-8")
    with exporter(tmp_path, document(node(server, secret))) as made:
        until(lambda: made.lines("reason=authentication"), 10, "refused")
        secret.write_text(server.secrets.role, encoding="utf-8")
        made.until(lambda s: s.success("orders/n0") == 1, TAKEN_WITHIN, "taken")
        assert made.stop() == 0


def test_a_symlink_that_is_swapped_is_a_new_password(server: Server, tmp_path: Path) -> None:
    """As Kubernetes renews secrets."""
    for name, text in (("one", "wrong"), ("two", server.secrets.role)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "password").write_text(text, encoding="utf-8")
    (tmp_path / "data").symlink_to("one")
    with exporter(tmp_path, document(node(server, tmp_path / "data" / "password"))) as made:
        until(lambda: made.lines("reason=authentication"), 10, "refused")
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").replace(tmp_path / "data")
        made.until(lambda s: s.success("orders/n0") == 1, TAKEN_WITHIN, "taken")
        assert made.stop() == 0


def test_a_password_that_was_removed_is_not_remembered(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(server.secrets.role, encoding="utf-8")
    with exporter(tmp_path, document(node(server, secret))) as made:
        made.until(lambda s: s.success("orders/n0") == 1, what="let in")
        secret.unlink()
        drop_connections(server)
        found = made.until(lambda s: "authentication" in s.reasons("orders/n0"), what="nothing to show")
        assert found.success("orders/n0") == 0
        assert made.lines("reason=authentication", str(secret), "No such file or directory")
        tells_nobody(made, server.secrets.role)
        secret.write_text(server.secrets.role, encoding="utf-8")
        made.until(lambda s: s.success("orders/n0") == 1, TAKEN_WITHIN, "taken again")
        assert made.stop() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_password_that_may_not_be_read_is_said(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x", encoding="utf-8")
    secret.chmod(0)
    with exporter(tmp_path, document(node(server, secret))) as made:
        made.until(lambda s: s.reasons("orders/n0").get("authentication"), what="refused")
        assert made.lines("reason=authentication", "Permission denied")


def test_a_password_file_that_blocks_costs_its_own_target_only(server: Server, tmp_path: Path) -> None:
    """A file on a file system that does not answer; a pipe behaves as one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    config = document(node(server, pipe, "blocked"), entry("fine", server.conninfo()))
    # Reading it for `check`'s sake must not hold up the start either.
    with exporter(tmp_path, config) as made:
        made.until(lambda s: s.success("fine/n0") == 1, 5, "the other is looked at")
        found = made.until(lambda s: s.success("blocked/n0") == 0, 10, "it is said")
        assert found.reasons("blocked/n0").keys() <= {"timeout", "authentication"}
        assert found.reasons("fine/n0") == {}
        began = time.monotonic()
        assert made.stop() == 0
        assert time.monotonic() - began < 5


def test_a_password_from_the_environment_is_quoted_and_told_nobody(server: Server, tmp_path: Path) -> None:
    odd = f'it\'s \\ a "{secrets.token_hex(8)}" ${{X}} user=postgres'
    with server.connect() as connection:
        quoted = "'" + odd.replace("'", "''") + "'"
        connection.execute(f"ALTER ROLE regiondrift PASSWORD {quoted}".encode())
    config = document(entry("orders", server.conninfo(password=False) + " password=${PG_SECRET}"))
    with exporter(tmp_path, config, {"PG_SECRET": odd}) as made:
        made.until(lambda s: s.success("orders/n0") == 1, what="let in")
        tells_nobody(made, odd, odd[14:30])
        made.configure(
            document(entry("orders", server.conninfo(password=False) + " password=${PG_SECRET"), entry("orders"))
        )
        assert made.ask("/-/reload", "POST")[0] == 500
        tells_nobody(made, odd, odd[14:30])
        assert made.stop() == 0


def tells_nobody(made: Exporter, *words: str) -> None:
    shown = [made.said(), *(made.ask(path)[1] for path in ("/", "/metrics", "/api/v1/status", "/-/ready", "/nowhere"))]
    arguments = Path(f"/proc/{made.process.pid}/cmdline").read_text(encoding="utf-8") if made.process else ""
    for text in (*shown, arguments):
        for word in words:
            assert word not in text


@pytest.mark.parametrize("how", ["POST", "SIGHUP", "change"])
def test_a_reload_keeps_the_connections_of_what_did_not_change(
    regions: Pair, server: Server, tmp_path: Path, how: str
) -> None:
    """Seen by the server: the same backends before and after."""
    kept = entry("orders", *(s.conninfo() for s in regions.servers))
    with exporter(tmp_path, document(kept)) as made:
        made.until(lambda s: s.state("n1") == "streaming", what="streaming")
        before = [s.value(PIDS) for s in regions.servers]
        assert [len(pids) for pids in before] == [1, 1]
        made.configure(document(kept, entry("new", server.conninfo()), objectives={"recovery_time": "5m"}))
        if how == "POST":
            assert made.ask("/-/reload", "POST") == (200, "Reloaded.\n")
        elif how == "SIGHUP":
            made.signal(signal.SIGHUP)
        made.until(lambda s: s.success("new/n0") == 1, 2 if how != "change" else 15, "taken")
        after = [s.value(PIDS) for s in regions.servers]
        assert set(before[0]) < set(after[0])
        assert before[1] == after[1]
        made.configure("version: 1\nregions: [montreal\n")
        assert made.ask("/-/reload", "POST")[0] == 500
        assert [s.value(PIDS) for s in regions.servers] == after, "a bad one touches nothing"
        assert made.scrape().state("n1") == "streaming"
        assert made.stop() == 0
    for one in regions.servers:
        until(lambda one=one: not one.value(PIDS), 5, "no connection outlives the exporter")  # type: ignore[misc]


def test_a_changed_password_in_the_configuration_is_a_new_connection(server: Server, tmp_path: Path) -> None:
    with exporter(tmp_path, document(entry("orders", server.conninfo()))) as made:
        made.until(lambda s: s.success("orders/n0") == 1, what="let in")
        made.configure(document(entry("orders", server.conninfo().replace(server.secrets.role, "wrong"))))
        assert made.ask("/-/reload", "POST")[0] == 200
        made.until(lambda s: s.reasons("orders/n0").get("authentication"), 2, "the new one is tried at once")
        made.configure(document(entry("orders", server.conninfo())))
        assert made.ask("/-/reload", "POST")[0] == 200
        made.until(lambda s: s.success("orders/n0") == 1, 2, "and the next one, whatever the backoff said")
        assert made.stop() == 0
