"""Is a base backup seen while it is taken, and only then?"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from collectors.postgresql.looks import Looks, said
from regiondrift.model import Moment, ProbeError, Sample
from regiondrift_collectors.postgresql.backups import BACKUPS, STREAMED, TOTAL, read
from regiondrift_collectors.postgresql.section import Server
from servers.postgresql import pair, required

NOTE = "base backups"


@pytest.mark.servers
@pytest.mark.parametrize("version", [15, 18])
def test_a_base_backup_is_seen_from_its_beginning_to_its_end(version: int) -> None:
    # A standby gives none that lacks full pages.
    settings = {"full_page_writes": "on"}
    with (
        pair(version, names=("ymq-1", "ams-1"), settings=settings) as regions,
        tempfile.TemporaryDirectory() as directory,
    ):
        for server in regions.servers:
            looks = Looks(server)
            found = looks.look()
            assert said(found, BACKUPS, server.name) == {(): 0}
            assert said(found, STREAMED, server.name) == said(found, TOTAL, server.name) == {}
            taken = subprocess.Popen(
                [
                    required(version).directory / "pg_basebackup",
                    f"--pgdata={Path(directory) / server.name}",
                    f"--dbname={server.conninfo(role='postgres').replace('dbname=postgres', '')} application_name=waw-1",
                    "--checkpoint=fast",
                    "--wal-method=none",
                    "--max-rate=2M",
                    "--no-sync",
                ],
                stderr=subprocess.DEVNULL,
            )
            try:
                looks.until(STREAMED, lambda sent: sent.get((), 0) > 0)
                found = looks.look()
                (sent,), (total,) = (said(found, m, server.name).values() for m in (STREAMED, TOTAL))
                assert 0 < sent < total < 1 << 30
                assert said(found, BACKUPS, server.name) == {(): 1}
                assert (found.notes or {})[NOTE].startswith("to waw-1 at 127.0.0.1 (streaming database files, ")
                looks.until(STREAMED, lambda now, before=sent: now[()] > before)  # type: ignore[misc]
            finally:
                taken.terminate()
                taken.wait()
            end = time.monotonic() + 20
            while NOTE in ((found := looks.look()).notes or {}):
                assert time.monotonic() < end
                time.sleep(0.05)
            assert said(found, BACKUPS, server.name) == {(): 0}
            assert said(found, STREAMED, server.name) == said(found, TOTAL, server.name) == {}


def values(*rows: list[str | None]) -> tuple[dict[str, float], str]:
    server = Server("orders", "ymq-1", 180000, False, Moment(0.0))
    found = {o.metric.name.rpartition("base_backup")[2]: o.value for o in read(rows, server) if isinstance(o, Sample)}
    return found, server.notes.get(NOTE, "")


def backup(sent: str | None = "10", total: str | None = "40", name: str | None = "waw-1") -> list[str | None]:
    return ["7", "streaming database files", sent, total, name, None]


def test_backups_are_added_up() -> None:
    found, note = values(backup(), backup("5", "5", "ams-1"))
    assert found == {"s": 2, "_streamed_bytes": 15, "_total_bytes": 45}
    assert "to waw-1 at this machine (streaming database files, 25 %; process 7); to ams-1" in note


def test_a_total_that_is_not_known_of_each_is_not_known() -> None:
    assert values(backup(), backup(total=None))[0] == {"s": 2, "_streamed_bytes": 20}


def test_a_hundred_backups_are_noted_in_short() -> None:
    found, note = values(*[backup(name="x" * 10_000)] * 100)
    assert found["s"] == 100
    assert note.endswith("97 more")
    assert len(note) < 500


@pytest.mark.parametrize("row", [["7"], backup(sent=None), backup(sent="-1"), backup(total="much")])
def test_what_is_no_progress_is_refused(row: list[str | None]) -> None:
    with pytest.raises(ProbeError):
        values(row)
