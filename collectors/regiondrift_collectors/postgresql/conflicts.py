"""What has queries on a standby cost replay, is it waiting for one now, and for whose?"""

from __future__ import annotations

import re
from typing import Final

from regiondrift.model import Kind, Metric, Observation, ProbeError, Reason
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server

_LABELS: Final = ("system", "link", "member", "kind")

CONFLICTS: Final = Metric(
    "regiondrift_postgresql_recovery_conflicts_total",
    "Queries that a standby cancelled because they conflicted with replay, in all databases, by kind.",
    _LABELS,
    kind=Kind.COUNTER,
)
KINDS: Final = ("lock", "snapshot", "bufferpin", "tablespace")
BLOCKED: Final = Metric(
    "regiondrift_postgresql_replay_blocked",
    "Whether replay on a standby waits for a query to end that conflicts with it, by kind.",
    _LABELS,
)
# Only databases that ever had a conflict: of a thousand that is hardly one. The subquery is asked once, and where it says
# no, nothing is read at all.
_COUNTERS: Final = """
SELECT datid, {columns} FROM pg_stat_database_conflicts
 WHERE (SELECT pg_is_in_recovery()) AND pg_stat_get_db_conflict_all(datid) > 0
"""
_COLUMNS: Final = {
    "tablespace": "confl_tablespace",
    "lock": "confl_lock",
    "snapshot": "confl_snapshot",
    "bufferpin": "confl_bufferpin",
    "deadlock": "confl_deadlock",
}
_COLUMNS_16: Final = {**_COLUMNS, "logicalslot": "confl_active_logicalslot"}

# pg_blocking_pids() does not know the startup process (LAB 13 to 18), so who holds what it waits for is read from the
# locks, and only while it waits for one. Whose snapshot it waits for nobody tells: the oldest are named. Nor whose pin.
_WAITING: Final = """
WITH startup AS MATERIALIZED (
     SELECT pid, CASE WHEN wait_event_type = 'Lock' THEN 'lock' WHEN wait_event_type = 'BufferPin' THEN 'bufferpin'
                      WHEN wait_event = 'RecoveryConflictSnapshot' THEN 'snapshot'
                      WHEN wait_event = 'RecoveryConflictTablespace' THEN 'tablespace' END AS kind
       FROM pg_stat_get_activity(NULL) WHERE (SELECT pg_is_in_recovery()) AND backend_type = 'startup')
SELECT kind, other.pid, other.application_name, other.state
  FROM startup LEFT JOIN LATERAL (
       SELECT a.pid, a.application_name, a.state
         FROM pg_lock_status() AS wanted
         JOIN pg_lock_status() AS held ON held.granted AND held.locktype = wanted.locktype
              AND held.database = wanted.database AND held.relation = wanted.relation AND held.pid <> wanted.pid
        CROSS JOIN pg_stat_get_activity(held.pid) AS a
        WHERE startup.kind = 'lock' AND wanted.pid = startup.pid AND NOT wanted.granted
        UNION ALL
       (SELECT a.pid, a.application_name, a.state FROM pg_stat_get_activity(NULL) AS a
         WHERE startup.kind = 'snapshot' AND a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
         ORDER BY age(a.backend_xmin) DESC)
       LIMIT 3) AS other ON true
"""

_NUMBER: Final = re.compile(r"[0-9]{1,19}")


def _counted(version: int) -> dict[str, str]:
    return _COLUMNS_16 if version >= 160000 else _COLUMNS


def count_statement(version: int) -> str:
    """One row per database that ever had a conflict; none on a primary."""
    return _COUNTERS.format(columns=", ".join(_counted(version).values()))


def read_counts(rows: Rows, server: Server) -> list[Observation]:
    """Sums that never shrink, though a database may be dropped and its counters with it. They are in `server.memory`.

    Raises:
        ProbeError: a count is none.
    """
    if not server.in_recovery:
        server.memory.clear()
        return []
    kinds = tuple(_counted(server.version))
    seen: dict[str | None, list[int]] = server.memory.get("seen", {})
    totals: list[int] = server.memory.get("totals", [0] * len(kinds))
    now = {row[0]: [_count(text) for text in row[1:]] for row in rows}
    for database, counts in now.items():
        if len(counts) != len(kinds):
            raise ProbeError(Reason.PROTOCOL, f"conflicts: {len(counts)} counts where {len(kinds)} were asked for")
        before = seen.get(database, [0] * len(kinds))
        # Less than before: they were reset, and all of it is new.
        totals = [t + (n - b if n >= b else n) for t, n, b in zip(totals, counts, before, strict=True)]
    server.memory.update(seen=now, totals=totals)
    return [CONFLICTS.at(total, (*server.labels, kind)) for kind, total in zip(kinds, totals, strict=True)]


def wait_statement(version: int) -> str:
    """A row of NULL while a standby's replay waits for nobody, else one per process that it may wait for; none on a
    primary."""
    return _WAITING


def read_waiting(rows: Rows, server: Server) -> list[Observation]:
    """Raises:
    ProbeError: it waits for something that was not asked for.
    """
    if not rows:
        return []
    if any(len(row) != 4 for row in rows) or rows[0][0] not in (None, *KINDS):
        raise ProbeError(Reason.PROTOCOL, "conflicts: an answer that was not asked for")
    waits = rows[0][0]
    if waits is not None:
        who = [f"process {pid}, {(name or 'without a name')[:63]} ({state})" for _, pid, name, state in rows if pid]
        perhaps = "perhaps for " if waits == "snapshot" else "for "
        server.notes["replay waits"] = f"{waits} conflict" + (f", {perhaps}" + "; ".join(who) if who else "")
    return [BLOCKED.at(int(kind == waits), (*server.labels, kind)) for kind in KINDS]


def _count(text: str | None) -> int:
    if text is None or not _NUMBER.fullmatch(text):
        raise ProbeError(Reason.REFUSED_VALUE, f"{(text or 'NULL')[:40]!r} is no count of conflicts")
    return int(text)


COUNTS: Final = Section("recovery conflicts", count_statement, read_counts, (CONFLICTS,))
WAITING: Final = Section("blocked replay", wait_statement, read_waiting, (BLOCKED,))
