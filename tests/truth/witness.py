"""What is the truth? A writer that knows when each row was acknowledged, and a monitor that asks a server directly."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from regiondrift.demo.postgres import Server

EVERY: Final = 0.1
"""Seconds between two looks of a monitor."""

LOOK: Final = b"""
SELECT pg_is_in_recovery(),
       coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0')
           - '0/0'::pg_lsn,
       EXISTS (SELECT FROM pg_stat_wal_receiver),
       EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming'),
       CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE false END,
       current_setting('recovery_min_apply_delay') <> '0'
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One committed transaction."""

    id: int
    node: str
    """Where it was committed."""
    sent: float
    acked: float


class Writer:
    """Commits numbered rows, `rate` a second, on one server at a time."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.width = 20
        """Characters that each row carries."""
        self._server: Server | None = None
        self._rows: list[Row] = []
        self._number = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def rows(self, node: str) -> list[Row]:
        """What was committed on `node` and acknowledged, oldest first."""
        return [row for row in self._rows[:] if row.node == node]

    def to(self, server: Server | None) -> None:
        """Write there from now on."""
        self._server = server

    def keep(self, ids: set[int]) -> None:
        """Every other row was lost with the history that it was committed in, as is known and meant."""
        self._rows = [row for row in self._rows if row.id in ids]

    def close(self) -> None:
        self._closed = True
        self._thread.join()

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        where: Server | None = None
        while not self._closed:
            server, rate = self._server, self.rate
            if connection is not None and (where is not server or connection.broken):
                connection.close()
                connection = None
            if server is None or not rate:
                time.sleep(0.02)
                continue
            began = time.monotonic()
            with contextlib.suppress(psycopg.Error):
                if connection is None:
                    connection, where = server.connect("writer"), server
                self._number += 1
                sent = time.time()
                connection.execute("INSERT INTO ledger VALUES (%s, repeat('x', %s))", (self._number, self.width))
                self._rows.append(Row(self._number, server.name, sent, time.time()))
            time.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))
        if connection is not None:
            connection.close()


@dataclass(frozen=True, slots=True)
class Glance:
    """A server as it was between `asked` and `answered`."""

    asked: float
    answered: float
    up: bool = False
    standby: bool = False
    position: int = 0
    """What it has flushed as a source, or replayed as a standby."""
    receives: bool = False
    sends: bool = False
    paused: bool = False
    delayed: bool = False

    @property
    def writes(self) -> bool:
        return self.up and not self.standby

    @property
    def follows(self) -> bool:
        return self.up and self.standby


class Monitor:
    """Glances at one server, ten times a second."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._glances: deque[Glance] = deque(maxlen=3000)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"monitor of {server.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends with the server's next answer, or with the server."""
        self._closed = True
        self._thread.join()

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._closed:
            asked = time.time()
            try:
                connection = connection or self._server.connect("monitor")
                standby, position, *rest = connection.execute(LOOK).fetchall()[0]
                self._glances.append(Glance(asked, time.time(), True, standby, int(position), *rest))
            except psycopg.Error:
                if connection is not None:
                    connection.close()
                    connection = None
                self._glances.append(Glance(asked, time.time()))
            time.sleep(max(0.02, EVERY - (time.time() - asked)))
        if connection is not None:
            connection.close()

    def glances(self) -> list[Glance]:
        return list(self._glances.copy())

    def since(self, holds: Callable[[Glance], bool]) -> float | None:
        """From when on `holds` was true of every glance; None if it is not now, or if nobody knows."""
        glances = self.glances()
        if not glances or glances[-1].answered < time.time() - 1.0:
            return None
        begin = None
        for glance in reversed(glances):
            if not holds(glance):
                break
            begin = glance.answered
        return begin

    def before(self, moment: float) -> Glance | None:
        """The newest glance answered by `moment`."""
        glances = self.glances()
        i = bisect_right(glances, moment, key=lambda g: g.answered)
        return glances[i - 1] if i else None

    def after(self, moment: float) -> Glance | None:
        """The oldest glance asked at or after `moment`."""
        glances = self.glances()
        i = bisect_left(glances, moment, key=lambda g: g.asked)
        return glances[i] if i < len(glances) else None

    def next(self, moment: float) -> Glance | None:
        """The oldest glance asked at or after `moment`, which may have to be waited for a little."""
        end = time.monotonic() + 3 * EVERY
        while (found := self.after(moment)) is None and time.monotonic() < end:
            time.sleep(EVERY / 5)
        return found

    def latest(self) -> float:
        """How late the machine ran this thread, at worst, in the last quarter of a minute. In seconds."""
        recent = [g.answered for g in self.glances() if g.answered > time.time() - 15]
        return max([0.0, *(b - a - EVERY - 0.03 for a, b in itertools.pairwise(recent))])
