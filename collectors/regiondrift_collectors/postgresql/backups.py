"""Is a base backup being taken from this server, how far is it, and who receives it?"""

from __future__ import annotations

import re
from typing import Final

from regiondrift.model import Metric, Observation, ProbeError, Reason
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server

_LABELS: Final = ("system", "link", "member")

BACKUPS: Final = Metric(
    "regiondrift_postgresql_base_backups", "Base backups that the member is sending at this moment.", _LABELS
)
STREAMED: Final = Metric(
    "regiondrift_postgresql_base_backup_streamed_bytes",
    "Bytes sent so far of the base backups that the member is sending; absent while it sends none.",
    _LABELS,
    unit="bytes",
)
TOTAL: Final = Metric(
    "regiondrift_postgresql_base_backup_total_bytes",
    "Bytes that the base backups under way will come to, as the member estimates; absent where it was not asked to.",
    _LABELS,
    unit="bytes",
)

_STATEMENT: Final = """
SELECT p.pid, p.phase, p.backup_streamed, nullif(p.backup_total, 0), a.application_name, host(a.client_addr)
  FROM pg_stat_progress_basebackup AS p LEFT JOIN pg_stat_get_activity(p.pid) AS a ON true
 ORDER BY p.pid
"""
_SIZE: Final = re.compile(r"[0-9]{1,19}")
_MOST_NOTED: Final = 3


def statement(version: int) -> str:
    """One row per base backup that is being sent, in either role."""
    return _STATEMENT


def read(rows: Rows, server: Server) -> list[Observation]:
    """Raises:
    ProbeError: a number of bytes is none.
    """
    out: list[Observation] = [BACKUPS.at(len(rows), server.labels)]
    if not rows:
        return out
    sizes: list[tuple[int, int | None]] = []
    for row in rows:
        if len(row) != 6:
            raise ProbeError(Reason.PROTOCOL, f"base backups: {len(row)} columns where 6 were asked for")
        sizes.append((_size(row[2]), _size(row[3]) if row[3] is not None else None))
    out.append(STREAMED.at(sum(sent for sent, _ in sizes), server.labels))
    totals = [total for _, total in sizes if total is not None]
    if len(totals) == len(sizes):
        out.append(TOTAL.at(sum(totals), server.labels))
    said = [_said(*row) for row in rows[:_MOST_NOTED]]
    if len(rows) > _MOST_NOTED:
        said.append(f"{len(rows) - _MOST_NOTED} more")
    server.notes["base backups"] = "; ".join(said)
    return out


def _said(
    pid: str | None, phase: str | None, sent: str | None, total: str | None, name: str | None, address: str | None
) -> str:
    """For a person: to whom, and how far."""
    share = f", {100 * int(sent) // int(total)} %" if sent and total else ""
    return f"to {(name or '?')[:63]} at {address or 'this machine'} ({phase}{share}; process {pid})"


def _size(text: str | None) -> int:
    if text is None or not _SIZE.fullmatch(text):
        raise ProbeError(Reason.REFUSED_VALUE, f"{(text or 'NULL')[:40]!r} is no number of bytes")
    return int(text)


SECTION: Final = Section("base backups", statement, read, (BACKUPS, STREAMED, TOTAL))
