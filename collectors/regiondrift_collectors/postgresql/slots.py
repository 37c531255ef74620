"""What does each replication slot keep, how much longer may it, and since when has nobody used it?"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

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

# One text for all slots, since a value takes the exporter longer to fetch than the server to write: per slot what rarely
# changes, a bar, and what does with every write. No value holds a separator, and NULL is an empty one.
# Temporary slots end with their session and carry its process id in their name: a series for each would never end.
# The end of the log is read after the slots, so that none is ahead of it.
# A standby's wal_status and safe_wal_size are computed from where its log ended when it started (LAB 13 to 18), so we
# need the settings to do better.
_STATEMENT: Final = """
SELECT {synchronizes}, slots.told,
       CASE WHEN slots.told IS NULL THEN NULL
            WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN slots.told IS NOT NULL AND pg_is_in_recovery() THEN concat_ws(',',
            pg_size_bytes(current_setting('wal_segment_size')), pg_size_bytes(current_setting('max_wal_size')),
            pg_size_bytes(current_setting('wal_keep_size')), pg_size_bytes(current_setting('max_slot_wal_keep_size'))) END
  FROM (SELECT string_agg(concat(slot_name, ',', slot_type, ',', active, ',', wal_status, ',', restart_lsn, ',',
                                 confirmed_flush_lsn, ',', {two_phase}, ',', {reason}, ',', {failover}, ',', {synced}, ',',
                                 {since}, '|', safe_wal_size, ',', {age}), ' ') AS told
          FROM pg_replication_slots WHERE NOT temporary) AS slots
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
_KNOWS_SINCE: Final = 170000
_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
_SIZE: Final = re.compile(r"-?[0-9]{1,19}")


def statement(version: int) -> str:
    """One row, whatever slots there are."""
    words: dict[str, str] = {}
    for since, more in _WORDS.items():
        if since <= version:
            words |= more
    return _STATEMENT.format(**words)


NAMED: Final = 5
"""Slots that the note for a person names."""


@dataclass(slots=True)
class _Slot:
    """What is known of a slot from its last look, and what was said then, to be said again where nothing changed."""

    active: bool
    state: str | None
    """By the server; None: it keeps nothing."""
    restart: int
    reached: tuple[int, int]
    """Last restart and confirmed position; 0: none."""
    since: Moment | None
    claimed: str
    """The server's own words for `since`."""
    fixed: tuple[Sample, ...]
    lost: bool
    moving: tuple[tuple[str, int, int | None], tuple[Sample, ...]] = (("", 0, None), ())
    """State, retained and safe bytes, and what is said of them."""


def read(rows: Rows, server: Server) -> list[Observation]:
    """Samples of every slot; in `server.memory` what the next look needs to know.

    Raises:
        ProbeError: a slot cannot be as it is told.
    """
    if len(rows) != 1 or len(rows[0]) != 4:
        raise ProbeError(Reason.PROTOCOL, "slots: an answer that was not asked for")
    synchronizes, told, end, settings = rows[0]
    out: list[Observation] = []
    if synchronizes is not None:
        out.append(SYNCHRONIZES.at(int(synchronizes == "on"), server.labels))
    before: dict[str, _Slot] = server.memory.get("by name", {})
    # A standby's words mean something else once it is promoted.
    same = server.memory.get("in recovery") == server.in_recovery
    known: dict[str, tuple[str, _Slot]] = server.memory.get("by text", {}) if same else {}
    by_name: dict[str, _Slot] = {}
    by_text: dict[str, tuple[str, _Slot]] = {}
    if told is not None:
        ends, sizes = lsn(end), _sizes(settings) if settings is not None else None
        for one in told.split(" "):
            text, _, now = one.partition("|")
            safe, _, age = now.partition(",")
            name, slot = known.get(text) or _parsed(text, age, before, server)
            by_text[text], by_name[name] = (name, slot), slot
            out += slot.fixed
            if slot.state is not None:
                out += _moving(slot, (*server.labels, name), ends, safe, sizes)
    server.memory.update({"by name": by_name, "by text": by_text, "in recovery": server.in_recovery})
    if by_name:
        server.notes["slots"] = _for_a_person(by_name)
    return out


def _for_a_person(slots: dict[str, _Slot]) -> str:
    """How many there are, and those that something is up with."""
    said = []
    for name, slot in sorted(slots.items()):
        state = slot.moving[0][0] if slot.state is not None else "lost" if slot.lost else ""
        up = [*([state] if state not in ("", "reserved") else []), *([] if slot.active else ["inactive"])]
        if up:
            said.append(f"{name} {' and '.join(up)}")
    more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return f"{len(slots)}" + (f", of which {', '.join(said[:NAMED])}{more}" if said else "")


def _parsed(text: str, age: str, before: dict[str, _Slot], server: Server) -> tuple[str, _Slot]:
    """A slot that is new, or has changed since the last look."""
    words = text.split(",")
    if len(words) != 11:
        raise ProbeError(Reason.PROTOCOL, f"slots: {len(words)} words where 11 were asked for")
    name, kind, used, status, restart, confirmed, two_phase, reason, failover, synced, claimed = words
    if not _NAME.fullmatch(name):
        raise ProbeError(Reason.REFUSED_VALUE, f"{name[:40]!r} is no name of a slot")
    if kind not in ("physical", "logical"):
        raise ProbeError(Reason.REFUSED_VALUE, "a slot is neither physical nor logical")
    labels = (*server.labels, name)
    active, last = bool(_truth(used)), before.get(name)
    reached = (_position(restart), _position(confirmed))
    if last is not None:
        # A slot that is lost loses its position, too; nobody has moved it.
        reached = (reached[0] or last.reached[0], reached[1] or last.reached[1])
    since = None if active else _since(claimed, age, last, reached, server)
    fixed = [INFO.at(1, (*labels, kind)), ACTIVE.at(int(active), labels)]
    if since is not None:
        fixed.append(INACTIVE_SINCE.at(since, labels))
    if kind == "logical":
        if two_phase:
            fixed.append(TWO_PHASE.at(_truth(two_phase), labels))
        if failover and not server.in_recovery:
            fixed.append(FAILOVER.at(_truth(failover), labels))
        # On a promoted standby it is left over and means nothing.
        if synced and server.in_recovery:
            fixed.append(SYNCED.at(_truth(synced), labels))
    lost = status == "lost" or reason
    if lost:
        fixed += STATE.in_state("lost", labels)
        fixed += INVALIDATION.in_state(reason if reason in REASONS else "unknown", labels)
    # A slot that was never used keeps nothing, whatever the server computes for it.
    state = None if lost or not status or not restart else status
    if state is not None and state not in STATES:
        raise ProbeError(Reason.REFUSED_VALUE, f"{status[:40]!r} is no status of a slot")
    return name, _Slot(active, state, _position(restart), reached, since, claimed, tuple(fixed), bool(lost))


def _moving(
    slot: _Slot, labels: tuple[str, ...], end: int, safe: str, sizes: tuple[int, int, int, int] | None
) -> tuple[Sample, ...]:
    """What changes as the log grows."""
    assert slot.state is not None
    state, left = slot.state, _size(safe) if safe else None
    if sizes is not None:
        state, left = standing(slot.restart, end, *sizes)
    now = (state, max(end - slot.restart, 0), left)
    before, said = slot.moving
    if now != before:
        states = said[: len(STATES)] if state == before[0] else STATE.in_state(state, labels)
        said = (*states, RETAINED.at(now[1], labels))
        if left is not None:
            said = (*said, SAFE.at(left, labels))
        slot.moving = (now, said)
    return said


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


def _since(claimed: str, age: str, last: _Slot | None, reached: tuple[int, int], server: Server) -> Moment | None:
    """Since when a slot that is inactive now has been."""
    if server.version >= _KNOWS_SINCE:
        if not age:
            return None
        if last is not None and last.claimed == claimed and last.since is not None:
            return last.since
        # An age, put on our clock once: the server's clock may be wrong, but is so at both ends.
        return Moment(server.now - max(_seconds(age), 0.0))
    if last is None:
        return None
    if last.active:
        return server.now
    moved = [new - old for new, old in zip(reached, last.reached, strict=True)]
    if min(moved) < 0:
        # Another slot of that name, or one that a crash has set back.
        return None
    # Only who uses a slot moves it on.
    return server.now if max(moved) > 0 else last.since


def _position(text: str) -> int:
    return lsn(text) if text else 0


def _truth(text: str) -> int:
    if text not in ("t", "f"):
        raise ProbeError(Reason.REFUSED_VALUE, "a slot's truth value is neither true nor false")
    return int(text == "t")


def _size(text: str) -> int:
    if not _SIZE.fullmatch(text):
        raise ProbeError(Reason.REFUSED_VALUE, f"{text[:40]!r} is no number of bytes")
    return int(text)


def _sizes(text: str) -> tuple[int, int, int, int]:
    segment, most, keep, limit = [_size(word) for word in text.split(",")] if text.count(",") == 3 else (0, 0, 0, 0)
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
