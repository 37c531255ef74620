"""What is asked, and what was answered? One statement per look, one round trip, everything of one moment."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Final

from regiondrift.model import (
    History,
    LinkState,
    Look,
    ProbeError,
    Reason,
    ReplicaPosition,
    SourcePosition,
)

OLDEST: Final = 130000
"""server_version_num of the oldest version that is understood."""
NEWEST: Final = 189999
"""... of the newest that was tried; newer ones are asked like it."""

_LSN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_MAX_LAG: Final = 2.0**33
"""Seconds: 272 years, older than any commit."""
MAX_NOTE: Final = 100
"""Characters of a server's own text that the status page shows."""
_MAX_BRANCH: Final = 2**32 - 1

# Nothing of this locks, writes or reads a table. Functions that fail in the other role stand behind CASE.
# primary_conninfo holds a password: only whether it is set leaves the server.
_STATEMENT: Final = r"""
SELECT pg_is_in_recovery(),
       (SELECT system_identifier FROM pg_control_system()),
       CASE WHEN pg_is_in_recovery()
            THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()),
                          (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
                          receiver.received_tli)
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::bigint END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       CASE WHEN pg_is_in_recovery()
            THEN greatest((SELECT redo_lsn FROM pg_control_checkpoint()),
                          (SELECT min_recovery_end_lsn FROM pg_control_recovery())) END,
       receiver.pid,
       receiver.status,
       CASE WHEN pg_is_in_recovery() AND pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
            THEN current_setting('primary_conninfo') <> '' END,
       CASE WHEN pg_is_in_recovery() THEN {paused} END,
       (1000 * extract(epoch FROM current_setting('recovery_min_apply_delay')::interval))::bigint,
       CASE WHEN NOT pg_is_in_recovery() THEN NULL
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
       pg_last_wal_receive_lsn(),
       receiver.sender,
       receiver.name,
       senders.feeds,
       senders.copies,
       host(inet_server_addr()),
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()),
       pg_is_in_recovery()
  FROM (SELECT 1) AS one
  LEFT JOIN (SELECT pid, status, received_tli, concat_ws(':', sender_host, sender_port) AS sender,
                    coalesce(substring(conninfo FROM '(?:^| )application_name=(\S+)'),
                             substring(conninfo FROM '(?:^| )fallback_application_name=(\S+)')) AS name
               FROM pg_stat_wal_receiver) AS receiver ON true
 CROSS JOIN (SELECT json_agg(application_name) FILTER (WHERE state <> 'backup') AS feeds,
                    array_to_json(array_agg(application_name) FILTER (WHERE state = 'backup')
                                  || array_agg(host(client_addr)) FILTER (WHERE state = 'backup')) AS copies
               FROM pg_stat_replication) AS senders
"""
_PAUSED: Final = {
    130000: "CASE WHEN pg_is_wal_replay_paused() THEN 'paused' END",
    140000: "pg_get_wal_replay_pause_state()",
}


def statement(version: int) -> bytes:
    """The statement for a server of this ``server_version_num``.

    Raises:
        ProbeError: the version is older than any that is understood.
    """
    if version <= 0:
        raise ProbeError(Reason.PROTOCOL, "the server does not tell its version")
    if version < OLDEST:
        raise ProbeError(Reason.UNSUPPORTED_VERSION, f"PostgreSQL {version // 10000} is older than {OLDEST // 10000}")
    paused = max(v for v in _PAUSED if v <= version)
    return _STATEMENT.format(paused=_PAUSED[paused]).encode()


def read(rows: Sequence[Sequence[str | None]], version: int) -> Look:
    """From the statement's only row to observations.

    Raises:
        ProbeError: a privilege is missing, or a value cannot be true.
    """
    if len(rows) != 1:
        raise ProbeError(Reason.PROTOCOL, f"{len(rows)} rows where one was asked for")
    row = rows[0]
    if len(row) != 20:
        raise ProbeError(Reason.PROTOCOL, f"{len(row)} columns where 20 were asked for")
    in_recovery, system, branch, position, may_read, floor, pid, status, conninfo, paused, delay, lag = row[:12]
    received, sender, name, feeds, copies, address, up_for, _ = row[12:]
    if turned(rows):
        raise ProbeError(Reason.STARTING, "its role changed while it answered")
    if in_recovery not in ("t", "f") or may_read not in ("t", "f"):
        raise ProbeError(Reason.REFUSED_VALUE, "a truth value is neither true nor false")
    if may_read == "f" or (pid is not None and status is None) or (in_recovery == "t" and conninfo is None):
        raise ProbeError(Reason.PERMISSION, "the role is not a member of pg_monitor (GRANT pg_monitor TO it)")
    history = History(_identifier(system), _whole("timeline", branch, 1, _MAX_BRANCH))
    notes = {"version": f"{version // 10000}.{version % 10000}"}
    if in_recovery == "f":
        source = SourcePosition(history, lsn(position), _names(feeds), _names(copies))
        return Look((source,), notes={**notes, "role": "primary"})
    if position is None:
        raise ProbeError(Reason.REFUSED_VALUE, "a standby without a replay position")
    if received is not None:
        notes["received"] = received[:MAX_NOTE]
    if sender:
        notes["receives from"] = sender[:MAX_NOTE]
    link = LinkState(
        up=pid is not None if conninfo == "t" else None,
        paused=paused == "paused",
        intended_delay=_whole("recovery_min_apply_delay", delay, 0, 2**31) / 1000,
        name=name,
        session=pid,
        reported_lag=_seconds("the claimed lag", lag),
    )
    replica = ReplicaPosition(
        history,
        lsn(position),
        lsn(floor),
        feeds=_names(feeds),
        copies=_names(copies),
        known_as=frozenset(n for n in (name, address) if n),
        up_for=_seconds("the uptime", up_for),
    )
    return Look((replica, link), notes={**notes, "role": "standby"})


def turned(rows: Sequence[Sequence[str | None]]) -> bool:
    """Whether the server was promoted between the first column and the last."""
    return len(rows) == 1 and {rows[0][0], rows[0][-1]} == {"t", "f"}


def lsn(text: str | None) -> int:
    """A ``pg_lsn`` as an integer: ``16/B374D848``. An int, since doubles lose bytes above 2^53."""
    found = _LSN.fullmatch(text or "")
    value = (int(found[1], 16) << 32) | int(found[2], 16) if found else 0
    # 0/0 is how PostgreSQL writes that there is none: taken for a position, anything would cover it.
    if not value:
        raise ProbeError(Reason.REFUSED_VALUE, f"{_shown(text)} is no position in the log")
    return value


def _identifier(text: str | None) -> str:
    if text is None or not _NUMBER.fullmatch(text) or not 0 < int(text) < 2**64:
        raise ProbeError(Reason.REFUSED_VALUE, f"{_shown(text)} is no system identifier")
    return text


def _whole(what: str, text: str | None, low: int, high: int) -> int:
    value = int(text) if text is not None and _NUMBER.fullmatch(text) else low - 1
    if not low <= value <= high:
        raise ProbeError(Reason.REFUSED_VALUE, f"{what} is {_shown(text)}")
    return value


def _names(text: str | None) -> frozenset[str]:
    try:
        names = json.loads(text) if text is not None else []
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(n is None or isinstance(n, str) for n in names):
        raise ProbeError(Reason.REFUSED_VALUE, "the names of the WAL senders are no list of names")
    return frozenset(n for n in names if n)


def _seconds(what: str, text: str | None) -> float | None:
    """A span that the server claims; None where it claims none, or one below zero by a clock that was set back."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _MAX_LAG:
        raise ProbeError(Reason.REFUSED_VALUE, f"{what} is {_shown(text)}")
    return value if value >= 0 else None


def _shown(text: str | None) -> str:
    return "NULL" if text is None else repr(text[:40])
