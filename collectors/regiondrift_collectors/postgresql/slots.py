"""What does each replication slot keep, how much longer may it, and since when has nobody used it?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from regiondrift.model import Metric, Moment, Observation, ProbeError, Reason, Sample
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server
from regiondrift_collectors.postgresql.statement import lsn

_LABELS: Final = ("system", "link", "member", "slot")

RETAINED: Final = Metric(
    "regiondrift_replication_slot_retained_bytes",
    "Log that the member keeps for the slot: from the slot's restart position to the end of the log; absent where it keeps none, or none any more.",
    _LABELS,
    unit="bytes",
)
SAFE: Final = Metric(
    "regiondrift_replication_slot_safe_bytes",
    "Log that may still be written before the slot can be lost; below 0 once it can. Absent while the member sets no limit, and once the slot is lost.",
    _LABELS,
    unit="bytes",
)
INACTIVE_SINCE: Final = Metric(
    "regiondrift_replication_slot_inactive_since_timestamp_seconds",
    "Since when nobody has used the slot: from PostgreSQL 17 on as the member knows it; before, our first look that found it inactive after it had been active. Absent while it is active, and where that is unknown.",
    _LABELS,
    unit="timestamp_seconds",
)
STATES: Final = ("reserved", "extended", "unreserved", "lost")
STATE: Final = Metric(
    "regiondrift_replication_slot_state",
    "Whether the log that the slot needs is there: exactly one is 1. Absent while the slot needs none.",
    (*_LABELS, "state"),
    states=STATES,
)
INFO: Final = Metric(
    "regiondrift_postgresql_slot_info",
    "The slot exists and is physical or logical; always 1.",
    (*_LABELS, "kind"),
    unit="info",
)
ACTIVE: Final = Metric("regiondrift_postgresql_slot_active", "Whether somebody uses the slot at this moment.", _LABELS)
TWO_PHASE: Final = Metric(
    "regiondrift_postgresql_slot_two_phase",
    "Whether a logical slot decodes prepared transactions when they are prepared (PostgreSQL 14 and newer).",
    _LABELS,
)
FAILOVER: Final = Metric(
    "regiondrift_postgresql_slot_failover",
    "Whether a primary's logical slot is to be there after a failover, too (PostgreSQL 17 and newer).",
    _LABELS,
)
SYNCED: Final = Metric(
    "regiondrift_postgresql_slot_synced",
    "Whether a standby's logical slot is one that it keeps in step with the primary's (PostgreSQL 17 and newer).",
    _LABELS,
)
SYNCHRONIZES: Final = Metric(
    "regiondrift_postgresql_synchronizes_slots",
    "Whether a standby is set up to keep failover slots in step with the primary's: sync_replication_slots (PostgreSQL 17 and newer).",
    ("system", "link", "member"),
)
REASONS: Final = ("wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout", "unknown")
INVALIDATION: Final = Metric(
    "regiondrift_postgresql_slot_invalidation",
    "Why the slot is lost: exactly one reason is 1. Absent while it is not lost.",
    (*_LABELS, "reason"),
    states=REASONS,
)
METRICS: Final = (
    RETAINED,
    SAFE,
    INACTIVE_SINCE,
    STATE,
    INFO,
    ACTIVE,
    TWO_PHASE,
    FAILOVER,
    SYNCED,
    SYNCHRONIZES,
    INVALIDATION,
)

# Temporary slots end with their session and carry its process id in their name: a series for each would never end.
# The end of the log is read after the slots, so that none is ahead of it.
# A standby's wal_status and safe_wal_size are computed from where its log ended when it started (LAB 13 to 18), so we
# need the settings to do better.
_STATEMENT: Final = """
SELECT {synchronizes}, slot_name, slot_type, active, wal_status, safe_wal_size, restart_lsn, confirmed_flush_lsn,
       CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn() END,
       {two_phase}, {reason}, {failover}, {synced}, {since}, {age},
       CASE WHEN pg_is_in_recovery() THEN (SELECT concat_ws(' ',
            pg_size_bytes(current_setting('wal_segment_size')), pg_size_bytes(current_setting('max_wal_size')),
            pg_size_bytes(current_setting('wal_keep_size')), pg_size_bytes(current_setting('max_slot_wal_keep_size')))) END
  FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots ON NOT temporary
"""
_WORDS: Final = {
    130000: {
        "synchronizes": "NULL",
        "two_phase": "NULL",
        "reason": "CASE wal_status WHEN 'lost' THEN 'wal_removed' END",
        "failover": "NULL",
        "synced": "NULL",
        "since": "NULL",
        "age": "NULL",
    },
    140000: {"two_phase": "two_phase"},
    # Only a slot whose log is gone loses its position; in which other way it conflicted is not told.
    160000: {"reason": "CASE wal_status WHEN 'lost' THEN CASE WHEN restart_lsn IS NULL THEN 'wal_removed' ELSE 'unknown' END END"},
    170000: {
        "synchronizes": "CASE WHEN pg_is_in_recovery() THEN current_setting('sync_replication_slots') END",
        "reason": "invalidation_reason",
        "failover": "failover",
        "synced": "synced",
        "since": "extract(epoch FROM inactive_since)",
        "age": "extract(epoch FROM clock_timestamp() - inactive_since)",
    },
}  # fmt: skip
_COLUMNS: Final = 16
_Row: TypeAlias = Sequence[str | None]
_KNOWS_SINCE: Final = 170000
_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
_SIZE: Final = re.compile(r"-?[0-9]{1,19}")


def statement(version: int) -> str:
    """One row per slot; one of NULLs where there is none."""
    words: dict[str, str] = {}
    for since, more in _WORDS.items():
        if since <= version:
            words |= more
    return _STATEMENT.format(**words)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is remembered of a slot from one look to the next."""

    active: bool
    reached: tuple[int, int]
    """Restart and confirmed position; 0: none."""
    since: Moment | None
    claimed: str | None
    """The server's own words for `since`."""


def read(rows: Rows, server: Server) -> list[Observation]:
    """Samples of every slot; in `server.memory` what the next look needs to know."""
    out: list[Observation] = []
    seen: dict[str, _Seen] = {}
    before: dict[str, _Seen] = server.memory.get("slots", {})
    for row in rows:
        if len(row) != _COLUMNS:
            raise ProbeError(Reason.PROTOCOL, f"slots: {len(row)} columns where {_COLUMNS} were asked for")
        if row[0] is not None and not out:
            out.append(SYNCHRONIZES.at(int(row[0] == "on"), server.labels))
        name = row[1]
        if name is None:
            continue
        if not _NAME.fullmatch(name):
            raise ProbeError(Reason.REFUSED_VALUE, f"{name[:40]!r} is no name of a slot")
        seen[name] = _used(row, before.get(name), server)
        out += _samples((*server.labels, name), row, seen[name], server)
    server.memory["slots"] = seen
    return out


def _samples(labels: tuple[str, ...], row: _Row, seen: _Seen, server: Server) -> Iterator[Sample]:
    _, _, kind, _, status, safe, restart, _, end, two_phase, reason, failover, synced, _, _, settings = row
    if kind not in ("physical", "logical"):
        raise ProbeError(Reason.REFUSED_VALUE, "a slot is neither physical nor logical")
    yield INFO.at(1, (*labels, kind))
    yield ACTIVE.at(int(seen.active), labels)
    if seen.since is not None:
        yield INACTIVE_SINCE.at(seen.since, labels)
    if kind == "logical":
        if two_phase is not None:
            yield TWO_PHASE.at(_truth(two_phase), labels)
        if failover is not None and not server.in_recovery:
            yield FAILOVER.at(_truth(failover), labels)
        # On a promoted standby it is left over and means nothing.
        if synced is not None and server.in_recovery:
            yield SYNCED.at(_truth(synced), labels)
    if status == "lost" or reason is not None:
        yield from STATE.in_state("lost", labels)
        yield from INVALIDATION.in_state(reason if reason in REASONS else "unknown", labels)
        return
    # A slot that was never used keeps nothing, whatever the server computes for it.
    if status is None or restart is None:
        return
    if status not in STATES:
        raise ProbeError(Reason.REFUSED_VALUE, f"{status[:40]!r} is no status of a slot")
    kept_from, ends = lsn(restart), lsn(end)
    left = _size(safe) if safe is not None else None
    if settings is not None:
        status, left = standing(kept_from, ends, *_sizes(settings))
    yield from STATE.in_state(status, labels)
    yield RETAINED.at(max(ends - kept_from, 0), labels)
    if left is not None:
        yield SAFE.at(left, labels)


def standing(restart: int, end: int, segment: int, most: int, keep: int, limit: int) -> tuple[str, int | None]:
    """State, and bytes until it can be lost, of a slot that needs the log from `restart` on where the log ends at `end`:
    what PostgreSQL's GetWALAvailability and pg_get_replication_slots say of a primary's slot.

    `segment`, `most`, `keep`, `limit`: ``wal_segment_size``, ``max_wal_size``, ``wal_keep_size``,
    ``max_slot_wal_keep_size`` in bytes; a negative limit is none.
    """
    needed, current = restart // segment, end // segment
    state = "reserved" if needed >= current - (most // segment + 1) else "extended"
    if limit < 0:
        return state, None
    kept = max(limit, keep) // segment
    if needed < current - kept:
        state = "unreserved"
    return state, (needed + kept + 1) * segment - end


def _used(row: _Row, before: _Seen | None, server: Server) -> _Seen:
    """Whether the slot is in use, and since when it is not."""
    active = bool(_truth(row[3]))
    reached = [_position(text) for text in row[6:8]]
    if before is not None:
        # A slot that is lost loses its position, too; nobody has moved it.
        reached = [new or old for new, old in zip(reached, before.reached, strict=True)]
    since = None if active else _since(row, before, reached, server)
    return _Seen(active, (reached[0], reached[1]), since, row[13])


def _since(row: _Row, before: _Seen | None, reached: list[int], server: Server) -> Moment | None:
    """Since when a slot that is inactive now has been."""
    if server.version >= _KNOWS_SINCE:
        claimed, age = row[13:15]
        if age is None:
            return None
        if before is not None and before.claimed == claimed and before.since is not None:
            return before.since
        # An age, put on our clock once: the server's clock may be wrong, but is so at both ends.
        return Moment(server.now - max(_seconds(age), 0.0))
    if before is None:
        return None
    if before.active:
        return server.now
    moved = [new - old for new, old in zip(reached, before.reached, strict=True)]
    if min(moved) < 0:
        # Another slot of that name, or one that a crash has set back.
        return None
    # Only who uses a slot moves it on.
    return server.now if max(moved) > 0 else before.since


def _position(text: str | None) -> int:
    return 0 if text is None else lsn(text)


def _truth(text: str | None) -> int:
    if text not in ("t", "f"):
        raise ProbeError(Reason.REFUSED_VALUE, "a slot's truth value is neither true nor false")
    return int(text == "t")


def _size(text: str) -> int:
    if not _SIZE.fullmatch(text):
        raise ProbeError(Reason.REFUSED_VALUE, f"{text[:40]!r} is no number of bytes")
    return int(text)


def _sizes(text: str) -> tuple[int, int, int, int]:
    segment, most, keep, limit = [_size(word) for word in text.split(" ")] if text.count(" ") == 3 else (0, 0, 0, 0)
    if segment <= 0:
        raise ProbeError(Reason.REFUSED_VALUE, "the sizes of the log are no sizes")
    return segment, most, keep, limit


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 2.0**33:
        raise ProbeError(Reason.REFUSED_VALUE, f"a slot is inactive for {text[:40]!r} seconds")
    return value


SECTION: Final = Section("slots", statement, read, METRICS)
