"""What does the process do when its surroundings fail? Signals, ports, disks, clocks, pipes and freezes."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from faults.exporter import Exporter, document, entry, exporter, until
from faults.misbehaving import install
from faults.postgresql import PRIMARY, Session, answer, fake, good, mute
from regiondrift.demo.postgres import free_port

pytestmark = pytest.mark.timeout(60)

HEARTBEAT = "regiondrift_scheduler_heartbeat_timestamp_seconds"
LAST = "regiondrift_probe_last_success_timestamp_seconds"
HEALTHY = "regiondrift_state_healthy"


@pytest.fixture(scope="module")
def silence() -> Iterator[str]:
    """Connection string of a server that accepts and never speaks."""
    with fake(mute) as server:
        yield server.conninfo


@pytest.fixture(scope="module")
def speaker() -> Iterator[str]:
    """... of one that answers as a primary does."""
    with fake(good) as server:
        yield server.conninfo


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(tmp_path_factory.mktemp("site") / "packages")


# ---- an event loop that does not turn any more; these take half a minute, during which the rest is tested


def _freezing(home: Path, packages: dict[str, str]) -> Exporter:
    home.mkdir()
    odd = {"name": "bad", "interval": "15s", "how": "freezes"}
    return Exporter(home, document(odd, collector="misbehaving"), packages)


@pytest.fixture(scope="module", autouse=True)
def frozen(
    tmp_path_factory: pytest.TempPathFactory, packages: dict[str, str]
) -> Iterator[dict[str, tuple[Exporter, float]]]:
    """Exporters whose loop is frozen, by what becomes of their log, and since when."""
    home = tmp_path_factory.mktemp("frozen")
    made = {name: _freezing(home / name, packages) for name in ("read", "unread")}
    receiving, sending = os.pipe()
    fcntl.fcntl(sending, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(sending, False)
    with suppress(BlockingIOError):
        while True:
            os.write(sending, b"x")
    os.set_blocking(sending, True)
    made["read"].launch()
    made["unread"].launch(stderr=sending)
    os.close(sending)
    try:
        yield {name: (one, time.monotonic()) for name, one in made.items()}
    finally:
        os.close(receiving)
        for one in made.values():
            one.kill()


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2, 50])
def test_it_ends_well_while_every_target_hangs(
    tmp_path: Path, silence: str, number: signal.Signals, times: int
) -> None:
    with exporter(tmp_path, document(entry("hung", *[silence] * 5, timeout="60s"))) as made:
        made.until(lambda s: s.value(HEARTBEAT), what="it runs")
        began = time.monotonic()
        made.signal(number)
        if times == 2:
            made.signal(number)
        while times > 2 and made.process and made.process.poll() is None:
            made.process.send_signal(number)
            time.sleep(0.001)
        assert made.wait(5) == 0
        assert time.monotonic() - began < 5
        assert "raceback" not in made.said()
        assert len(made.lines("msg=ended")) == 1


def _catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return bool(int(re.search(r"SigCgt:\s+([0-9a-f]+)", status)[1], 16) & 1 << number - 1)  # type: ignore[index]


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5])
def test_a_stop_during_the_start_is_a_stop(tmp_path: Path, silence: str, delay: float) -> None:
    made = Exporter(tmp_path, document(entry("hung", silence)))
    made.launch()
    assert made.process
    try:
        until(lambda: _catches(made.process, signal.SIGTERM), 10, "its own handler")  # type: ignore[arg-type]
        time.sleep(delay)
        made.signal(signal.SIGHUP)
        made.signal(signal.SIGTERM)
        assert made.wait(5) == 0
        assert "raceback" not in made.said()
    finally:
        made.kill()


def test_a_storm_of_reloads_loses_and_doubles_nothing(tmp_path: Path, silence: str, speaker: str) -> None:
    config = document(entry("fine", speaker), entry("hung", *[silence] * 3, timeout="30s"))
    with exporter(tmp_path, config) as made:
        until(lambda: made.scrape().success("fine/n0") == 1, 10, "first look")
        before = made.descriptors()
        for i in range(300):
            if i == 150:
                made.configure(document(entry("fine", speaker), entry("other", speaker)))
            made.signal(signal.SIGHUP)
            time.sleep(0.005)
        found = made.until(lambda s: s.success("other/n0") == 1, 5, "the last one counts")
        assert {dict(its)["target"] for name, its in found.series if name == "regiondrift_probe_interval_seconds"} == {
            "fine/n0",
            "other/n0",
        }
        assert found.reasons("fine/n0") == {}
        until(lambda: made.descriptors() <= before, 5, "no descriptor is left")
        began = time.monotonic()
        assert made.ask("/-/reload", "POST") == (200, "Reloaded.\n")
        assert time.monotonic() - began < 2
        assert made.stop() == 0


# ---- what is needed to start


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path, speaker: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made = Exporter(tmp_path, document(entry("fine", speaker)))
        made.port = taken.getsockname()[1]
        done = subprocess.run(made.argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"regiondrift: cannot listen on 127.0.0.1:{made.port}: Address already in use\n" in done.stderr
    assert "raceback" not in done.stderr


def test_a_configuration_that_is_wrong_is_exit_code_2(tmp_path: Path) -> None:
    made = Exporter(tmp_path, "version: 1\nregions: [a]\npostgresql:\n  - {name: x, nods: []}\n")
    done = subprocess.run(made.argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert f"{made.file}:4:" in done.stderr
    assert "raceback" not in done.stderr


# ---- the state directory


def with_state(directory: Path | str, *conninfos: str) -> dict[str, Any]:
    return document(entry("orders", *conninfos), state_dir=str(directory))


def test_a_state_directory_in_use_is_refused(tmp_path: Path, speaker: str) -> None:
    state = tmp_path / "state"
    with exporter(tmp_path, with_state(state, speaker)) as made:
        second = tmp_path / "second"
        second.mkdir()
        other = Exporter(second, with_state(state, speaker))
        done = subprocess.run(other.argv, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        assert str(state) in done.stderr
        assert "raceback" not in done.stderr
        assert made.scrape().value(HEALTHY) == 1
        made.kill()
        with exporter(second, with_state(state, speaker)) as after:
            assert after.scrape().value(HEALTHY) == 1, "kill -9 leaves no lock behind"


def _corrupt(file: Path) -> None:
    file.write_bytes(b"\x00not a database\xff" * 1000)


def _torn(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[100 : len(raw) // 2] = random.Random(3).randbytes(len(raw) // 2 - 100)
    file.write_bytes(raw)


def _future(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize("harm", [_corrupt, _torn, _future])
def test_a_state_that_cannot_be_read_is_set_aside_and_said(tmp_path: Path, speaker: str, harm: Any) -> None:
    state = tmp_path / "state"
    with exporter(tmp_path, with_state(state, speaker)) as made:
        made.until(lambda s: s.success("orders/n0") == 1, what="a look")
        assert made.stop() == 0
        file = state / "regiondrift.sqlite"
        for beside in state.glob("regiondrift.sqlite-*"):
            beside.unlink()
        harm(file)
        made.start()
        found = made.until(lambda s: s.success("orders/n0") == 1, what="a look")
        assert found.value(HEALTHY) == 1, "there is a new one"
        assert made.lines("aside"), made.said()
        assert list(state.glob("*.set-aside-*"))
        assert json.loads(made.ask("/api/v1/status")[1])
        assert made.stop() == 0


def test_a_state_directory_that_cannot_be_used_is_said_and_not_fatal(tmp_path: Path, speaker: str) -> None:
    (tmp_path / "file").touch()
    for where in ("/proc/regiondrift", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        home = tmp_path / f"{abs(hash(where))}"
        home.mkdir()
        with exporter(home, with_state(where, speaker)) as made:
            found = made.until(lambda s: s.success("orders/n0") == 1, what="a look")
            assert found.value(HEALTHY) == 0
            assert [line for line in made.lines(where) if "level=info" not in line], made.said()
            assert where in made.ask("/")[1]
            assert made.stop() == 0


def test_a_state_directory_that_is_taken_away_is_said_and_taken_again(tmp_path: Path, speaker: str) -> None:
    state = tmp_path / "state"
    with exporter(tmp_path, with_state(state, speaker)) as made:
        made.until(lambda s: s.value(HEALTHY) == 1, what="healthy")
        shutil.rmtree(state)
        made.until(lambda s: s.value(HEALTHY) == 0 or (state / "regiondrift.sqlite").exists(), 20, "it is noticed")
        assert made.scrape().success("orders/n0") == 1
        assert made.stop() == 0


# ---- time


@contextmanager
def wall_clock(home: Path) -> Iterator[tuple[dict[str, str], mmap.mmap]]:
    """An environment in which the wall clock is off by what is written to the map (a double, seconds)."""
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no C compiler")
        pytest.skip("no C compiler")
    library, step = home / "wallclock.so", home / "step"
    source = Path(__file__).with_name("wallclock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=30)
    step.write_bytes(struct.pack("d", 0.0))
    with step.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        yield {"LD_PRELOAD": str(library), "WALL_CLOCK_STEP": str(step)}, shared


@pytest.mark.parametrize("step", [3600.0, -3600.0, -50 * 365 * 86400.0])
def test_a_stepped_wall_clock_moves_every_moment_and_nothing_else(tmp_path: Path, speaker: str, step: float) -> None:
    with (
        wall_clock(tmp_path) as (environment, shift),
        exporter(tmp_path, document(entry("fine", speaker)), environment) as made,
    ):
        before = made.until(lambda s: s.success("fine/n0") == 1, what="a look")
        assert abs((before.value(HEARTBEAT) or 0) - time.time()) < 2
        loaded = before.value("regiondrift_config_last_reload_success_timestamp_seconds") or 0
        shift[:8] = struct.pack("d", step)
        after = made.scrape()
        now = time.time() + step
        # At the very next scrape nothing is later than now, and everything has moved as one.
        assert abs((after.value("regiondrift_config_last_reload_success_timestamp_seconds") or 0) - loaded - step) < 0.1
        for name, labels in after.series:
            if name.startswith("regiondrift_") and name.endswith("timestamp_seconds"):
                value = after.series[name, labels]
                assert now - 10 < value <= now + 0.1, (name, value - now)
        durations = after.values("regiondrift_probe_duration_seconds")
        assert all(0 <= d < 1 for d in durations)
        later = made.until(lambda s: (s.value(LAST, target="fine/n0") or 0) > now + 0.5, 5, "it goes on")
        assert later.reasons("fine/n0") == {}
        assert len(made.lines("the wall clock was stepped")) == 1
        assert made.stop() == 0


def test_a_process_that_was_stopped_goes_on_without_a_burst(tmp_path: Path, silence: str) -> None:
    looks: list[float] = []

    async def counted(session: Session) -> None:
        await session.let_in()
        while True:
            await session.statement()
            looks.append(time.monotonic())
            await session.send(answer(PRIMARY))

    with fake(counted) as server:
        config = document(entry("fine", server.conninfo), entry("hung", *[silence] * 3))
        with exporter(tmp_path, config) as made:
            made.until(lambda s: s.success("fine/n0") == 1, what="a look")
            made.signal(signal.SIGSTOP)
            stopped = time.time()
            time.sleep(5)
            before, gone_on = len(looks), time.monotonic()
            made.signal(signal.SIGCONT)
            found = made.scrape()
            # Whatever this first scrape says, it does not call what is old new.
            last = found.value(LAST, target="fine/n0") or 0
            assert last <= stopped + 0.1 or last >= stopped + 4.9
            time.sleep(1.5)
            assert 1 <= len([at for at in looks[before:] if at <= gone_on + 1.5]) <= 5, "half a second apart, as ever"
            found = made.scrape()
            assert time.time() - (found.value(LAST, target="fine/n0") or 0) < 2
            assert found.reasons("fine/n0").keys() <= {"timeout"}
            assert server.most == 1
            assert made.stop() == 0


# ---- what it says


def test_a_log_that_is_not_read_holds_up_nothing(tmp_path: Path, speaker: str) -> None:
    receiving, sending = os.pipe()
    fcntl.fcntl(sending, fcntl.F_SETPIPE_SZ, 4096)
    made = Exporter(tmp_path, document(entry("fine", speaker)))
    made.port = free_port()
    try:
        made.launch(stdout=sending, stderr=sending)
        os.close(sending)

        def answers() -> bool:
            with suppress(OSError):
                return made.ready()
            return False

        until(answers, 15, "ready")
        for i in range(100):
            made.configure(document(entry("fine", speaker), entry(f"x{i}" + "x" * 100, speaker)))
            began = time.monotonic()
            assert made.ask("/-/reload", "POST")[0] == 200
            assert made.ask("/metrics")[0] == 200
            assert time.monotonic() - began < 1
        found = made.scrape()
        assert time.time() - (found.value(HEARTBEAT) or 0) < 2
        began = time.monotonic()
        assert made.stop() == 0
        assert time.monotonic() - began < 5
    finally:
        os.close(receiving)
        made.kill()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle(tmp_path: Path, speaker: str, silence: str, closed: str) -> None:
    made = Exporter(tmp_path, document(entry("fine", speaker), entry("hung", silence)))
    made.port = free_port()
    made.process = subprocess.Popen(["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *made.argv])
    try:

        def answers() -> bool:
            with suppress(OSError):
                return made.scrape().success("fine/n0") == 1
            return False

        until(answers, 15, "it serves")
        made.until(lambda s: s.success("hung/n0") == 0, what="it says nothing of it, to nobody")
        assert made.stop() == 0
    finally:
        made.kill()


# ---- reload


def test_a_bad_reload_changes_nothing_and_says_so(tmp_path: Path, speaker: str) -> None:
    good_one = document(entry("fine", speaker))
    with exporter(tmp_path, good_one) as made:
        made.until(lambda s: s.success("fine/n0") == 1, what="a look")
        loaded = made.scrape().value("regiondrift_config_last_reload_success_timestamp_seconds")
        for bad in ("version: 1\nregions: [a]\nregionz: [b]\n", "{", "", "\x00", "&a [*a]", "version: 1\n" * 2):
            made.configure(bad)
            status, why = made.ask("/-/reload", "POST")
            assert status == 500
            assert str(made.file) in why
            found = made.until(lambda s: s.value("regiondrift_config_last_reload_successful") == 0, 2, "it is said")
            assert found.value("regiondrift_config_last_reload_success_timestamp_seconds") == loaded
            assert found.success("fine/n0") == 1
        made.file.unlink()
        assert made.ask("/-/reload", "POST")[0] == 500
        until(lambda: len(made.lines("level=error", "the configuration is not taken")) == 7, 5, "one line each")
        made.configure(good_one)
        assert made.ask("/-/reload", "POST")[0] == 200
        made.until(lambda s: s.value("regiondrift_config_last_reload_successful") == 1, 2, "it is said")
        assert made.stop() == 0


@pytest.mark.parametrize("how", ["POST", "SIGHUP", "change", "symlink"])
def test_a_good_reload_keeps_what_did_not_change(tmp_path: Path, how: str) -> None:
    with fake(good) as server, fake(good) as other:
        kept = entry("kept", server.conninfo)
        config = document(kept, entry("gone", other.conninfo))
        with exporter(tmp_path, config) as made:
            made.until(lambda s: s.success("kept/n0") == s.success("gone/n0") == 1, what="first looks")
            last = made.scrape().value(LAST, target="kept/n0") or 0
            after = document(kept, entry("new", other.conninfo))
            if how == "symlink":
                real = made.file.with_name("real.yaml")
                made.configure(after)
                made.file.rename(real)
                made.file.with_name("link").symlink_to(real)
                made.file.with_name("link").rename(made.file)
            else:
                made.configure(after)
            if how == "POST":
                assert made.ask("/-/reload", "POST")[0] == 200
            elif how == "SIGHUP":
                made.signal(signal.SIGHUP)
            patience = 2 if how in ("POST", "SIGHUP") else 15
            found = made.until(lambda s: s.success("new/n0") == 1, patience, "taken")
            assert (found.value(LAST, target="kept/n0") or 0) >= last
            assert found.success("gone/n0") is None
            assert not [its for _, its in found.series if ("link", "gone") in its]
            until(lambda: other.open == 1, 5, "the connection of what is gone is closed")
            assert (server.total, server.open) == (1, 1), "the connection of what stayed is kept"
            assert made.stop() == 0


# ---- many at once


def test_a_hundred_mute_targets_do_not_slow_a_healthy_one(tmp_path: Path) -> None:
    with fake(mute) as silent, fake(good) as server:
        hung = [entry(f"hung{i}", silent.conninfo, interval="1s", timeout="2s") for i in range(100)]
        with exporter(tmp_path, document(*hung, entry("fine", server.conninfo, interval="200ms"))) as made:
            made.until(lambda s: s.success("fine/n0") == 1, 5, "a look")
            began, latest, slowest = time.monotonic(), 0.0, 0.0
            while time.monotonic() - began < 4:
                asked = time.monotonic()
                found = made.scrape()
                slowest = max(slowest, time.monotonic() - asked)
                latest = max(latest, time.time() - (found.value(LAST, target="fine/n0") or 0))
                time.sleep(0.05)
            assert latest < 1.5, "the newest look is never older than a few intervals"
            assert slowest < 0.5
            assert found.reasons("fine/n0") == {}
            assert found.reasons("hung7/n0").keys() == {"timeout"}
            assert silent.most <= 100, "never two at one target"
            assert server.most == 1
            assert made.threads() < 20
            began = time.monotonic()
            assert made.stop() == 0
            assert time.monotonic() - began < 5


def test_descriptors_that_run_out_are_no_end(tmp_path: Path, silence: str, speaker: str) -> None:
    """Fault 33: with fewer than the targets need, some fail and are named; the exporter lives, and recovers."""
    config = document(
        entry("fine", speaker, interval="200ms"), *(entry(f"h{i}", silence, timeout="3s") for i in range(60))
    )
    made = Exporter(tmp_path, config)
    made.port = free_port()
    argv = ["/bin/sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *made.argv]
    with made.log.open("ab") as log:
        made.process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:

        def failed() -> bool:
            with suppress(OSError):
                return bool(made.scrape().values("regiondrift_probe_failures_total", reason="internal"))
            return False

        until(failed, 20, "descriptors ran out")
        made.configure(document(entry("fine", speaker, interval="200ms")))
        made.signal(signal.SIGHUP)

        def alone() -> bool:
            with suppress(OSError):
                found = made.scrape()
                return found.success("fine/n0") == 1 and found.success("h0/n0") is None
            return False

        until(alone, 20, "it recovers")
        assert made.lines("too few file descriptors")
        assert len(made.lines("accept")) <= 1, made.said()
        assert made.stop() == 0
    finally:
        made.kill()


# ---- at the end: what was frozen at the beginning


@pytest.mark.parametrize("log", ["read", "unread"])
def test_a_frozen_event_loop_ends_the_process(frozen: dict[str, tuple[Exporter, float]], log: str) -> None:
    made, began = frozen[log]
    assert made.wait(max(0.1, 32 - (time.monotonic() - began))) == 1
    if log == "read":
        assert "the event loop is frozen; ending" in made.said()
        assert "misbehaving.py" in made.said(), "it says where"
