"""What happens to the regions? Two servers, the link between them, the ways to them, and who knows the truth about it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from regiondrift.demo.leash import account, command
from regiondrift.demo.postgres import ROLE, SUPERUSER, How, ServerError
from regiondrift.demo.proxy import Mode, Proxy
from servers.postgresql import Pair, Server, pair, required
from truth.witness import Glance, Monitor, Writer

MONTREAL: Final = "ymq-1"
AMSTERDAM: Final = "ams-1"
REGIONS: Final = {MONTREAL: "montreal", AMSTERDAM: "amsterdam"}

SETTINGS: Final = {
    # pg_rewind insists on it.
    "full_page_writes": "on",
    "autovacuum": "off",
}


@dataclass
class Node:
    """A server as the exporter knows it: reached through `way`."""

    server: Server
    way: Proxy
    monitor: Monitor
    hidden_since: float | None = None
    """Since when nobody, the exporter included, can reach it by `way`."""
    shown_since: float = 0.0
    started: float = 0.0
    frozen: bool = False
    diverged: bool = False
    """Its history has left the source's."""
    copies: int = 0
    """How often it was copied anew."""

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def region(self) -> str:
        return REGIONS[self.name]


@dataclass
class World:
    """Every method that breaks something notes what becomes true by it, and when."""

    pair: Pair
    nodes: dict[str, Node] = field(default_factory=dict)
    writer: Writer = field(default_factory=Writer)
    promotions: int = 0
    split_since: float | None = None
    """Since when two nodes may have accepted writes at the same time; never, if None."""
    parted: float = 0.0
    """When a promotion or a copy last changed who descends from whom."""
    lost_from: tuple[str, str] | None = None
    """The last promoted node, and the source that it left."""

    def __post_init__(self) -> None:
        for server in self.pair.servers:
            now = time.time()
            way = Proxy(("127.0.0.1", server.port))
            self.nodes[server.name] = Node(server, way, Monitor(server), shown_since=now, started=now)
        self.pair.primary.execute("CREATE TABLE ledger (id bigint PRIMARY KEY, content text)")
        self.writer.to(self.pair.primary)
        self.pair.wait_caught_up()

    def close(self) -> None:
        self.writer.close()
        for node in self.nodes.values():
            if node.frozen:
                self.thaw(node.name)
        for node in self.nodes.values():
            node.monitor.close()
            node.way.close()

    @property
    def source(self) -> Node:
        return self.nodes[self.pair.primary.name]

    @property
    def replica(self) -> Node:
        return self.nodes[self.pair.standby.name]

    def configured(self) -> list[dict[str, str]]:
        """The nodes as the exporter's configuration lists them."""
        return [
            {"name": n.name, "region": n.region, "conninfo": n.server.conninfo(port=n.way.port)}
            for n in self.nodes.values()
        ]

    # ---- the truth

    def ids(self, node: Node) -> set[int] | None:
        """The rows that it has; None if it cannot be asked."""
        if node.frozen or not node.server.running:
            return None
        try:
            return {row[0] for row in node.server.execute("SELECT id FROM ledger")}
        except psycopg.Error:
            return None

    def first_missing_row(self) -> float | None:
        """When the first row that the replica lacks was sent to the source."""
        have = self.ids(self.replica)
        if have is None:
            return None
        return next((row.sent for row in self.writer.rows(self.source.name) if row.id not in have), None)

    def first_missing_byte(self) -> float | None:
        """When the source may first have held a byte that the replica lacks, be it of a row or of its housekeeping."""
        held = self.replica.monitor.glances()[-1].position
        glances = self.source.monitor.glances()
        n = bisect_right(glances, held, key=lambda g: g.position)
        return glances[n - 1].asked if 0 < n < len(glances) else None

    def noise(self) -> float:
        """Seconds that a deadline is stretched by, for this machine is as slow as it is."""
        return min(4.0, 2 * max(n.monitor.latest() for n in self.nodes.values()))

    # ---- the link

    def link(self, mode: Mode, rate: int = 0) -> None:
        self.pair.link.set(mode, rate)

    # ---- the ways from the exporter

    def hide(self, node: Node, mode: Mode = "refuse") -> None:
        node.way.set(mode)
        node.hidden_since = time.time()

    def show(self, node: Node) -> None:
        node.hidden_since = None
        node.way.set("pass")
        node.shown_since = time.time()

    # ---- the servers

    def stop(self, node: Node, how: How = "fast") -> None:
        node.server.stop(how)
        node.hidden_since = time.time()

    def start(self, node: Node) -> None:
        node.hidden_since = None
        node.server.start()
        node.shown_since = node.started = time.time()

    def freeze(self, node: Node) -> None:
        node.frozen = True
        node.server.freeze()
        node.hidden_since = time.time()

    def thaw(self, name: str) -> None:
        node = self.nodes[name]
        node.hidden_since = None
        node.server.thaw()
        node.shown_since = time.time()
        node.frozen = False

    def settle(self) -> None:
        """Nothing is written any more, and the replica has everything."""
        self.writer.rate = 0
        time.sleep(0.1)
        self.pair.wait_caught_up()

    # ---- who is the source

    def promote(self, node: Node) -> None:
        """The standby `node` accepts writes; whether the other one still does is the caller's doing."""
        other = next(n for n in self.nodes.values() if n is not node)
        self.promotions += 1
        self.lost_from = (node.name, other.name)
        if other.server.running:
            self.split_since = self.split_since or time.time()
            node.diverged = True
        else:
            other.diverged = True
        node.server.promote()
        self.parted = time.time()

    def fail_over(self) -> None:
        """The promoted replica is the source from now on: writes go there, the old source has yet to rejoin."""
        self.pair.primary, self.pair.standby = self.pair.standby, self.pair.primary
        self.writer.to(self.pair.primary)

    def switch(self) -> None:
        """The source is shut down, its replica promoted, and the old source follows it as it is."""
        old, new = self.source, self.replica
        self.stop(old)
        self.promotions += 1
        self.lost_from = None
        new.server.promote()
        self.parted = time.time()
        self.fail_over()
        self.pair.link.target = ("127.0.0.1", new.server.port)
        old.server.follow(self.pair.link.port)
        self.demote(old)

    def demote(self, node: Node) -> None:
        """Restart it as a standby of what the link leads to, its history as it is."""
        self.stop(node)
        signal = node.server.directory / "standby.signal"
        signal.touch(0o600)
        if user := account([node.server.directory]):
            user.owns(signal)
        self.start(node)

    def undo_demotion(self, node: Node) -> None:
        """Restart a standby as what it was before, on the same timeline: nothing was promoted."""
        self.stop(node)
        (node.server.directory / "standby.signal").unlink()
        self.start(node)

    def rejoin(self, node: Node, *, rewind: bool) -> None:
        """Make `node`, whose history has left the source's, its standby again: rewound, or copied anew."""
        source = self.source
        assert node is self.replica
        self.stop(node)
        self.pair.link.target = ("127.0.0.1", source.server.port)
        self.lost_from = None
        self.writer.keep(self.ids(source) or set())
        if rewind:
            source.server.execute("CHECKPOINT")
            self._rewind(node.server, source.server)
            node.server.follow(self.pair.link.port)
        else:
            node.copies += 1
            node.server.clone(source.server, self.pair.link.port)
        node.diverged = False
        self.parted = time.time()
        self.start(node)

    def copy(self, node: Node, rate: str) -> None:
        """Replace what a stopped standby has by a new base backup, sent at no more than `rate`."""
        assert node is self.replica
        node.copies += 1
        node.server.clone(self.source.server, self.pair.link.port, rate=rate)
        node.diverged = False
        self.parted = time.time()

    # ---- what a person keeps aside, and brings back

    def cold_copy(self) -> Path:
        """What the source has now. It is stopped for that, and started again."""
        source = self.source
        kept = source.server.directory.with_name("cold")
        self.stop(source)
        shutil.copytree(source.server.directory, kept, copy_function=shutil.copy2)
        self.start(source)
        return kept

    def restore(self, kept: Path) -> None:
        """Both are stopped; the source comes back as it was when it was copied, on the timeline that it had then, and
        the replica as it is."""
        source, replica = self.source, self.replica
        self.stop(replica)
        self.stop(source)
        shutil.rmtree(source.server.directory)
        kept.rename(source.server.directory)
        if user := account([source.server.directory]):
            for path in (source.server.directory, *source.server.directory.rglob("*")):
                user.owns(path)
        replica.diverged = True
        self.parted = time.time()
        self.start(source)
        self.start(replica)

    # ---- who may look

    def revoke(self) -> None:
        """The role that the exporter connects as may look at nothing any more, on either node."""
        self.source.server.execute(f"REVOKE pg_monitor FROM {ROLE}")
        self.pair.wait_caught_up()
        for node in self.nodes.values():
            node.hidden_since = time.time()

    def grant(self) -> None:
        for node in self.nodes.values():
            node.hidden_since = None
        self.source.server.execute(f"GRANT pg_monitor TO {ROLE}")
        self.pair.wait_caught_up()
        for node in self.nodes.values():
            node.shown_since = time.time()

    def _rewind(self, target: Server, source: Server) -> None:
        programs = required()
        user = account([programs.directory / "postgres", target.directory])
        arguments = [f"--target-pgdata={target.directory}", f"--source-server={source.conninfo(role=SUPERUSER)}"]
        done = subprocess.run(
            command([str(programs.directory / "pg_rewind"), *arguments, "--no-sync"], user),
            cwd=target.directory,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"pg_rewind: {done.stderr}")
        signal = target.directory / "standby.signal"
        signal.touch(0o600)
        if user:
            user.owns(signal)

    # ---- what holds, for the judge

    def sole_source(self) -> tuple[Node, float] | None:
        """The only node that accepts writes, and since when nothing about that has changed."""
        since = []
        writers = []
        for node in self.nodes.values():
            if (writes := node.monitor.since(_writes)) is not None:
                writers.append(node)
                since.append(writes)
            elif (silent := node.monitor.since(_does_not_write)) is not None:
                since.append(silent)
            else:
                return None
        return (writers[0], max(since)) if len(writers) == 1 else None


def _writes(glance: Glance) -> bool:
    return glance.writes


def _does_not_write(glance: Glance) -> bool:
    return not glance.writes


@contextlib.contextmanager
def world(home: Path | None = None, **settings: Any) -> Iterator[World]:
    """A source in Montréal, its replica in Amsterdam, and nothing broken yet."""
    with pair(names=(MONTREAL, AMSTERDAM), settings={**SETTINGS, **settings}) as made:
        whole = World(made)
        try:
            yield whole
        finally:
            whole.close()
