"""Cascades, archives, delays and rebuilt copies: real servers, looked at by the collector and judged by the reducer."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from regiondrift.clock import Clock
from regiondrift.model import Conninfo, Kept, LinkStatus, ProbeError, ReplicaStatus, State
from regiondrift.model.collector import Link, Plan, Target
from regiondrift.reduce import said
from regiondrift.reduce.memory import LinkMemory
from regiondrift.reduce.recovery import LinkReducer
from regiondrift_collectors.postgresql import look
from regiondrift_collectors.postgresql.options import Node
from servers.postgresql import Pair, Server, pair, required, wanted

INTERVAL = 0.5
"""Seconds of the link: what is older than three of them is catching up."""


class Watch:
    """The exporter's eyes and judgement, a round at a time."""

    def __init__(self, *servers: Server) -> None:
        self._clock = Clock()
        self.servers = servers
        plan = Plan("postgresql", "orders", tuple(map(_target, servers)), INTERVAL, 5.0, Link("postgresql", 30.0))
        self._link = LinkReducer(plan, LinkMemory(), self._clock.now())
        self._status: LinkStatus | None = None

    async def round(self) -> None:
        """Look at every node once."""
        for server in self.servers:
            kept = Kept(self._clock.now)
            asked = self._clock.now()
            try:
                found = await look(_target(server), kept)
            except ProbeError as error:
                self._link.observe(server.name, error.failure, asked, self._clock.now())
            else:
                self._link.observe(server.name, found, asked, self._clock.now())
            finally:
                kept.drop()
        self._status = said.status(self._link, self._clock.now(), self._clock.wall)

    async def until(self, holds: Callable[[Watch], bool], rounds: int = 400) -> None:
        for _ in range(rounds):
            await self.round()
            if holds(self):
                return
        raise AssertionError(f"not within {rounds} rounds: {self._status}")

    def of(self, name: str) -> ReplicaStatus:
        assert self._status is not None
        return next(r for r in self._status.replicas if r.replica == name)

    def age(self, name: str) -> float:
        """Seconds since its recovery point."""
        point = self.of(name).recovery_point
        assert point is not None
        return self._clock.wall(self._clock.now()) - point


def _target(server: Server) -> Target:
    node = Node(name=server.name, region=server.name, conninfo=Conninfo(server.conninfo()))  # type: ignore[arg-type]
    return Target("orders", server.name, server.name, node)


@pytest.fixture(params=[wanted()])
def regions(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair(request.param, settings={"wal_keep_size": "64MB"}) as made:
        made.primary.execute("CREATE TABLE orders (n int)")
        yield made


@contextmanager
def third(regions: Pair, through: int) -> Iterator[Server]:
    """One more standby, that follows what listens on `through`."""
    home = regions.primary.directory.parent
    made = Server("rome", home, regions.primary._programs, regions.primary._user)
    try:
        made.clone(regions.primary, through)
        made.start()
        yield made
    finally:
        made.remove()


@contextmanager
def writing(server: Server) -> Iterator[None]:
    done = threading.Event()

    def write() -> None:
        with server.connect() as connection:
            while not done.wait(0.02):
                connection.execute("INSERT INTO orders VALUES (1)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


async def test_a_cascade_is_measured_against_the_root_and_names_the_hop_that_holds_it_up(regions: Pair) -> None:
    with third(regions, regions.standby.port) as rome, writing(regions.primary):
        watch = Watch(regions.primary, regions.standby, rome)
        await watch.until(lambda w: w.of("rome").state is State.STREAMING and w.of("rome").upstream == "amsterdam")
        assert watch.of("amsterdam").upstream == "montreal"
        regions.link.set("blackhole")
        await watch.until(lambda w: w.of("rome").held_up == "amsterdam")
        rome_t, amsterdam_t = watch.of("rome").recovery_point, watch.of("amsterdam").recovery_point
        assert rome_t is not None
        assert amsterdam_t is not None
        assert rome_t <= amsterdam_t
        regions.link.set("pass")
        await watch.until(lambda w: w.of("rome").held_up is None and w.of("rome").state is State.STREAMING)
        rome.pause()
        await watch.until(lambda w: w.of("rome").held_up == "rome")
        assert watch.of("amsterdam").state is State.STREAMING


async def test_a_standby_fed_from_an_archive_has_no_link_to_be_down(regions: Pair) -> None:
    home = regions.primary.directory.parent
    archive = home / "archive"
    archive.mkdir()
    if regions.primary._user:
        regions.primary._user.owns(archive)
    regions.primary.settings["archive_mode"] = "on"
    regions.primary.settings["archive_command"] = f"cp %p {archive}/%f"
    regions.primary.stop()
    regions.primary.start()
    with third(regions, regions.primary.port) as rome:
        del rome.settings["primary_conninfo"]
        rome.settings["restore_command"] = f"cp {archive}/%f %p"
        rome.stop()
        rome.start()
        watch = Watch(regions.primary, rome)
        await watch.round()
        regions.primary.execute("INSERT INTO orders VALUES (1)")
        regions.primary.execute("SELECT pg_switch_wal()")
        await watch.until(lambda w: rome.value("SELECT count(*) FROM orders") == 1)
        await watch.until(lambda w: w.of("rome").state is State.STREAMING)
        regions.primary.execute("INSERT INTO orders VALUES (2)")
        await watch.until(lambda w: w.of("rome").state is State.CATCHING_UP)
        assert watch.of("rome").behind_since is not None


async def test_a_delay_on_purpose_is_told_apart_from_a_lag(regions: Pair) -> None:
    regions.standby.configure(recovery_min_apply_delay="2s")
    watch = Watch(*regions.servers)
    with writing(regions.primary):
        await watch.until(lambda w: w.of("amsterdam").state is State.DELAYED)
        assert watch.of("amsterdam").intended_delay == 2.0
        await watch.until(lambda w: w.of("amsterdam").recovery_point is not None and w.age("amsterdam") > 1.9)
        regions.standby.stop()
        await watch.round()
        assert (watch.of("amsterdam").state, watch.of("amsterdam").intended_delay) == (State.UNREACHABLE, 2.0)


async def test_a_replica_rebuilt_by_a_base_backup_is_one_resync(regions: Pair) -> None:
    primary, standby = regions.servers
    primary.execute("INSERT INTO orders SELECT generate_series(1, 200000)")
    watch = Watch(*regions.servers)
    await watch.until(lambda w: w.of("amsterdam").state is State.STREAMING)
    standby.stop()
    await watch.round()
    assert watch.of("amsterdam").state is State.UNREACHABLE
    shutil.rmtree(standby.directory)
    slow = _slowly(standby, primary)
    try:
        await watch.until(lambda w: bool(primary.value("SELECT count(*) FROM pg_stat_progress_basebackup")))
        await watch.round()
        assert watch.of("amsterdam").resyncs == 0
        primary.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = 'backup'")
    finally:
        slow.wait()
    standby.clone(primary, regions.link.port)
    standby.start()
    with writing(primary):
        await watch.until(lambda w: w.of("amsterdam").state is State.STREAMING)
        assert watch.of("amsterdam").resyncs == 1
        for _ in range(5):
            await watch.round()
    assert watch.of("amsterdam").resyncs == 1


async def test_a_replica_that_only_restarts_is_no_resync(regions: Pair) -> None:
    watch = Watch(*regions.servers)
    await watch.until(lambda w: w.of("amsterdam").state is State.STREAMING)
    for how in ("fast", "kill"):
        regions.standby.stop(how)
        await watch.round()
        regions.primary.execute("INSERT INTO orders VALUES (1)")
        regions.standby.start()
        await watch.until(lambda w: w.of("amsterdam").state is State.STREAMING)
    assert watch.of("amsterdam").resyncs == 0


async def test_a_replica_restored_from_an_old_backup_loses_what_it_had_proven(regions: Pair) -> None:
    primary, standby = regions.servers
    watch = Watch(*regions.servers)
    regions.wait_caught_up()
    standby.stop()
    old = standby.directory.with_name("old")
    shutil.copytree(standby.directory, old, copy_function=shutil.copy2)
    standby.start()
    for _ in range(3):
        primary.execute("INSERT INTO orders SELECT generate_series(1, 1000)")
        primary.execute("CHECKPOINT")
        regions.wait_caught_up()
        standby.execute("CHECKPOINT")
    await watch.until(lambda w: w.of("amsterdam").state is State.STREAMING)
    proven = watch.of("amsterdam").recovery_point
    assert proven is not None
    regions.link.set("refuse")
    standby.stop()
    await watch.round()
    shutil.rmtree(standby.directory)
    old.rename(standby.directory)
    _give_back(standby)
    standby.start()
    await watch.until(lambda w: w.of("amsterdam").state is not State.UNREACHABLE)
    then = watch.of("amsterdam")
    assert then.resyncs == 1
    assert then.recovery_point is None or then.recovery_point < proven
    assert standby.value("SELECT count(*) FROM orders") == 0
    regions.link.set("pass")
    await watch.until(lambda w: w.of("amsterdam").state is State.STREAMING)
    assert watch.of("amsterdam").resyncs == 1


def _give_back(server: Server) -> None:
    """A copy made by root becomes the server's own again."""
    if server._user:
        for path in (server.directory, *server.directory.rglob("*")):
            server._user.owns(path)


def _slowly(standby: Server, source: Server) -> subprocess.Popen[bytes]:
    """A base backup that takes long enough to be seen, from the replica's own address."""
    required(standby._programs.version)
    return subprocess.Popen(
        [
            str(standby._programs.directory / "pg_basebackup"),
            f"--pgdata={standby.directory}",
            f"--dbname=host=127.0.0.1 port={source.port} user=postgres password={source.secrets.superuser}",
            "--checkpoint=fast",
            "--wal-method=none",
            "--max-rate=1M",
            "--no-sync",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
