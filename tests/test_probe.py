"""What does ``regiondrift probe`` say of a real pair, and how does it end?"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.exporter import PROGRAM, document, entry, exporter
from faults.postgresql import fake, mute
from servers.postgresql import Pair, pair

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def regions() -> Iterator[Pair]:
    with pair() as made:
        yield made


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str
    took: float


def probe(home: Path, config: dict[str, Any], *arguments: str) -> Done:
    file = home / "probe.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    began = time.monotonic()
    argv = [*PROGRAM, "probe", str(file), *arguments]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def orders(regions: Pair, **options: Any) -> dict[str, Any]:
    return entry(
        "orders",
        regions.primary.conninfo(),
        regions.standby.conninfo(),
        **{"interval": "2s", "timeout": "5s", "recovery_point": "30s", **options},
    )


def test_a_healthy_link_is_0(regions: Pair, tmp_path: Path) -> None:
    done = probe(tmp_path, document(orders(regions)))
    assert done.code == 0, done
    assert "within its objective" in done.out
    assert "orders" in done.out
    assert done.err == ""
    assert done.took < 15


def test_one_entry_is_looked_at_if_one_is_named(regions: Pair, tmp_path: Path) -> None:
    config = document(orders(regions), entry("other", "host=127.0.0.1 port=1"))
    done = probe(tmp_path, config, "orders")
    assert done.code == 0, done
    assert "other" not in done.out


def test_an_entry_that_is_not_there_is_2_and_those_that_are_are_named(regions: Pair, tmp_path: Path) -> None:
    done = probe(tmp_path, document(orders(regions)), "oders")
    assert (done.code, done.out) == (2, "")
    assert "orders" in done.err


def test_a_wrong_configuration_is_2(tmp_path: Path) -> None:
    done = probe(tmp_path, {"version": 1, "regions": ["a"], "postgresql": [{"name": "x", "nodes": []}]})
    assert done.code == 2
    assert "at least one node is needed" in done.err
    assert "raceback" not in done.err


def test_a_busy_link_is_proven_by_a_second_look(regions: Pair, tmp_path: Path) -> None:
    writes = "DO $$ BEGIN FOR i IN 1..60 LOOP PERFORM pg_logical_emit_message(true, 'x', repeat('x', 1000)); COMMIT; PERFORM pg_sleep(0.05); END LOOP; END $$"
    url = regions.primary.url
    writer = subprocess.Popen(
        [os.fspath(regions.primary._programs.directory / "psql"), url, "-qc", writes],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert probe(tmp_path, document(orders(regions))).code == 0
    finally:
        writer.kill()
        writer.wait()


def test_a_node_that_cannot_be_looked_at_is_2(regions: Pair, tmp_path: Path) -> None:
    config = document(entry("orders", regions.primary.conninfo(), "host=127.0.0.1 port=1", recovery_point="30s"))
    done = probe(tmp_path, config)
    assert done.code == 2, done
    assert "refused" in done.out
    assert done.err == "", "it stands in the table"


def test_a_target_that_hangs_is_2_within_its_deadlines(regions: Pair, tmp_path: Path) -> None:
    with fake(mute) as server:
        config = document(entry("orders", server.conninfo, interval="2s", timeout="1s"))
        done = probe(tmp_path, config)
    assert done.code == 2
    # Up to three looks, none of which begins later than two intervals after the first; and a machine that is busy.
    assert done.took < 2 * 2 + 1 + 15
    assert server.most == 1
    assert 2 <= server.total <= 3


def test_certainly_behind_is_1(regions: Pair, tmp_path: Path) -> None:
    regions.standby.pause()
    try:
        regions.primary.execute("SELECT pg_logical_emit_message(true, 'x', 'y')")
        done = probe(tmp_path, document(orders(regions, recovery_point="1s")))
    finally:
        regions.standby.resume()
    assert done.code == 1, done
    assert "behind its objective" in done.out
    regions.wait_caught_up()


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in directory.iterdir()}


def test_it_knows_what_a_running_exporter_remembers_and_touches_nothing(regions: Pair, tmp_path: Path) -> None:
    """The standby is down: only the state file can tell what was proven of it."""
    state = tmp_path / "state"
    config = document(orders(regions, interval="500ms", recovery_point="1h"), state_dir=str(state))
    without = document(orders(regions, interval="500ms", recovery_point="1h"))
    home = tmp_path / "serve"
    home.mkdir()
    with exporter(home, config) as made:
        made.until(lambda s: s.state("n1") == "streaming", what="streaming")
        regions.standby.stop()
        made.until(lambda s: s.state("n1") == "unreachable", what="unreachable")
        # Its looks go on being written; ours are about what it has by now.
        time.sleep(1.5)
        beside = probe(tmp_path, config)
        assert made.scrape().value("regiondrift_state_healthy") == 1
        assert made.stop() == 0
    before = snapshot(state)
    done = probe(tmp_path, config)
    assert snapshot(state) == before
    regions.standby.start()
    # Within its objective by what is remembered, and not looked at: nobody can be sure.
    for one in (beside, done):
        assert one.code == 2, one
        assert "unreachable" in one.out
        assert "unknown" not in one.out.splitlines()[0].lower()
    forgotten = probe(
        tmp_path,
        without
        | {"postgresql": [entry("orders", regions.primary.conninfo(), "host=127.0.0.1 port=1", recovery_point="1h")]},
    )
    assert "cannot be proven" in forgotten.out or "unknown" in forgotten.out


def test_two_sources_are_1(regions: Pair, tmp_path: Path) -> None:
    """The last test: the pair is none afterwards."""
    regions.wait_caught_up()
    regions.standby.promote()
    done = probe(tmp_path, document(orders(regions)))
    assert done.code == 1, done
    assert "is broken" in done.out
