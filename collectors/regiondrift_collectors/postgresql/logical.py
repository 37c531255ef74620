"""Who takes logical changes from this server, and which subscriptions does it have itself?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from regiondrift.model import Channel, Kind, Metric, Observation, ProbeError, Reason
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server
from regiondrift_collectors.postgresql.statement import lsn

_LABELS: Final = ("system", "link", "member", "database", "subscription")

ENABLED: Final = Metric("regiondrift_postgresql_subscription_enabled", "Whether the subscription is enabled.", _LABELS)
TWO_PHASE: Final = Metric(
    "regiondrift_postgresql_subscription_two_phase",
    "Whether the subscription takes prepared transactions when they are prepared, or is about to (PostgreSQL 15 and newer).",
    _LABELS,
)
APPLY_ERRORS: Final = Metric(
    "regiondrift_postgresql_subscription_apply_errors_total",
    "Times that changes could not be applied; a connection to the publisher that ends while in use counts, too (PostgreSQL 15 and newer).",
    _LABELS,
    kind=Kind.COUNTER,
)
SYNC_ERRORS: Final = Metric(
    "regiondrift_postgresql_subscription_sync_errors_total",
    "Times that the first copy of a table failed (PostgreSQL 15 and newer).",
    _LABELS,
    kind=Kind.COUNTER,
)
CONFLICTS: Final = Metric(
    "regiondrift_postgresql_subscription_conflicts_total",
    "Conflicts between a change and what the subscriber holds, by PostgreSQL's name for the kind (PostgreSQL 18 and newer).",
    (*_LABELS, "conflict"),
    kind=Kind.COUNTER,
)
TABLES: Final = Metric(
    "regiondrift_postgresql_subscription_tables",
    "Tables of the subscription by the state of their first copy; absent where its database cannot be looked at.",
    (*_LABELS, "state"),
)
METRICS: Final = (ENABLED, TWO_PHASE, APPLY_ERRORS, SYNC_ERRORS, CONFLICTS, TABLES)

TABLE_STATES: Final = {"i": "waiting", "d": "copying", "f": "copied", "s": "synchronized", "r": "ready"}
"""`pg_subscription_rel.srsubstate`. From `synchronized` on the table holds all that was committed before."""
COMPLETE: Final = frozenset({"synchronized", "ready"})

WHETHER: Final = "logical replication"
SLOTS: Final = "logical slots"
SUBSCRIPTIONS: Final = "subscriptions"
_CONFLICT: Final = re.compile(r"[a-z][a-z0-9_]{0,60}")

# What most servers answer with no, in a hundredth of the time that the rest would take them to plan.
_WHETHER: Final = """
SELECT NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_subscription),
       EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.slot_type = 'logical')
"""

# Slots of first copies (pg_OID_sync_...) come and go by themselves; a synced slot serves nobody before a promotion.
_CHANNELS: Final = r"""
SELECT s.slot_name, s.confirmed_flush_lsn, s.active, w.application_name, s.database, {guarded},
       extract(epoch FROM w.replay_lag)
  FROM pg_replication_slots AS s
  LEFT JOIN pg_stat_replication AS w ON w.pid = s.active_pid
 WHERE s.slot_type = 'logical' AND s.plugin = 'pgoutput' AND NOT s.temporary
   AND s.slot_name !~ '^pg_[0-9]+_sync_[0-9]+_' AND {serves}
"""


def _channels(version: int) -> str:
    if version < 170000:
        return _CHANNELS.format(guarded="false", serves="true")
    return _CHANNELS.format(
        guarded="s.failover AND current_setting('synchronized_standby_slots') <> ''",
        serves="NOT (s.synced AND pg_is_in_recovery())",
    )


# A standby has its primary's subscriptions in its catalog, and no worker: the primary tells of them.
# subconninfo holds a password, and only superusers may read it: it is not asked for. Before 15 not everybody may read the
# oid, but everybody may see it in pg_stat_subscription. Who may not execute pg_show_replication_origin_status() may not
# even name it in a statement, so its name stands in a text that is run only where it is allowed: ts_stat() runs a query
# and returns the words that it finds. Progress counts from when it cannot be lost any more.
_FOLLOWERS: Final = r"""
SELECT s.id, d.datname, s.subname, s.subslotname, s.subenabled, w.pid IS NOT NULL, w.received_lsn, {counts},
       {two_phase}, array_to_json(s.subpublications),
       CASE WHEN d.datname = current_database() THEN
         (SELECT coalesce(json_object_agg(t.state, t.n), '{{}}') FROM
           (SELECT r.srsubstate AS state, count(*) AS n FROM pg_subscription_rel AS r WHERE r.srsubid = s.id GROUP BY 1) AS t)
       END,
       coalesce(copying.n, 0) + coalesce(copied.n, 0),
       split_part(origin.word, ' ', 2)
  FROM {subscription} AS s
  JOIN pg_database AS d ON d.oid = s.subdbid
  LEFT JOIN pg_stat_subscription AS w ON w.subid = s.id AND w.relid IS NULL AND {apply}
  {stats}
  LEFT JOIN (SELECT subid, count(*) AS n FROM pg_stat_subscription WHERE relid IS NOT NULL GROUP BY 1) AS copying
    ON copying.subid = s.id
  LEFT JOIN (SELECT split_part(roname, '_', 2) AS id, count(*) AS n FROM pg_replication_origin
              WHERE roname ~ '^pg_[0-9]+_[0-9]+$' GROUP BY 1) AS copied ON copied.id = s.id::text
  LEFT JOIN ts_stat(
    CASE WHEN has_function_privilege('pg_show_replication_origin_status()', 'EXECUTE')
           AND NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_subscription)
         THEN 'SELECT array_to_tsvector(array_agg(external_id || '' '' || remote_lsn))
                 FROM pg_show_replication_origin_status()
                WHERE external_id ~ ''^pg_[0-9]+$'' AND remote_lsn > ''0/0'' AND local_lsn <= pg_current_wal_flush_lsn()'
         ELSE 'SELECT NULL::tsvector' END) AS origin ON split_part(origin.word, ' ', 1) = 'pg_' || s.id
 WHERE NOT pg_is_in_recovery()
"""
_BY_NAME: Final = """(
    SELECT p.subdbid, p.subname, p.subslotname, p.subenabled, p.subpublications,
           CASE WHEN count(*) OVER (PARTITION BY p.subname) = 1
                THEN (SELECT max(v.subid) FROM pg_stat_subscription AS v WHERE v.subname = p.subname) END AS id
      FROM pg_subscription AS p)"""
_BY_OID: Final = """(
    SELECT p.oid AS id, p.subdbid, p.subname, p.subslotname, p.subenabled, p.subpublications, p.subtwophasestate
      FROM pg_subscription AS p)"""


def _followers(version: int) -> str:
    counted = version >= 150000
    return _FOLLOWERS.format(
        counts="to_json(c)" if counted else "NULL",
        two_phase="s.subtwophasestate <> 'd'" if counted else "NULL",
        subscription=_BY_OID if counted else _BY_NAME,
        apply="w.leader_pid IS NULL" if version >= 160000 else "true",
        stats="LEFT JOIN pg_stat_subscription_stats AS c ON c.subid = s.id" if counted else "",
    )


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription as the shared catalogs and statistics tell of it."""

    id: str | None
    """None where two databases have one of this name and the version does not tell them apart."""
    database: str
    name: str
    slot: str | None
    enabled: bool
    works: bool | None
    """It has an apply worker."""
    received: int | None
    apply_errors: int | None
    sync_errors: int | None
    conflicts: Mapping[str, int]
    two_phase: bool | None
    publications: frozenset[str]
    tables: Mapping[str, int] | None
    """By state, where we are connected to its database."""
    copying: int
    """First copies that are seen to go on, from whatever database."""
    applied: int | None
    """The publisher's position up to which it is durable here; needs a grant."""


def read_whether(rows: Rows, server: Server) -> Iterable[Observation]:
    """Whether there are subscriptions, and slots."""
    ((subscriptions, channels),) = _columns(rows, 2) or [[None, None]]
    server.memory["now"] = (_truth(subscriptions), _truth(channels))
    return ()


def read_channels(rows: Rows, server: Server) -> Iterable[Observation]:
    """The slots, for `detail.observations`."""
    found = []
    for name, position, active, consumer, database, guarded, lag in _columns(rows, 7):
        if not name:
            raise ProbeError(Reason.REFUSED_VALUE, "a slot without a name")
        at = lsn(position) if position is not None else None
        found.append(
            Channel(name, at, _truth(active), consumer or None, database or "", _truth(guarded), _seconds(lag))
        )
    server.memory["now"] = tuple(found)
    return ()


def read_followers(rows: Rows, server: Server) -> Iterable[Observation]:
    """The subscriptions, for `detail.observations`, and what is counted of each."""
    found: list[Subscription] = []
    out: list[Observation] = []
    for row in _columns(rows, 13):
        one = _subscription(row)
        found.append(one)
        values = (*server.labels, one.database, one.name)
        out.append(ENABLED.at(int(one.enabled), values))
        for metric, value in (
            (TWO_PHASE, one.two_phase), (APPLY_ERRORS, one.apply_errors), (SYNC_ERRORS, one.sync_errors)
        ):  # fmt: skip
            if value is not None:
                out.append(metric.at(int(value), values))
        out += [CONFLICTS.at(n, (*values, kind)) for kind, n in one.conflicts.items()]
    server.memory["now"] = tuple(found)
    return out


def _subscription(row: list[str | None]) -> Subscription:
    id_, database, name, slot, enabled, works, received, counts, two_phase, publications = row[:10]
    tables, copying, applied = row[10:]
    if not database or not name or (id_ is not None and not id_.isdecimal()):
        raise ProbeError(Reason.REFUSED_VALUE, "a subscription without a name, a number or a database")
    counted = _object(counts)
    by_state: dict[str, int] | None = None
    if tables is not None and id_ is not None:
        by_state = {}
        for state, n in _object(tables).items():
            word = TABLE_STATES.get(state, "waiting")
            by_state[word] = by_state.get(word, 0) + _count(n)
    return Subscription(
        id=id_,
        database=database,
        name=name,
        slot=slot or None,
        enabled=_truth(enabled),
        works=_truth(works) if id_ is not None else None,
        received=lsn(received) if received not in (None, "0/0") else None,
        apply_errors=_count(counted["apply_error_count"]) if "apply_error_count" in counted else None,
        # From 19 on there is one counter per kind of what is copied.
        sync_errors=sum(_count(v) for k, v in counted.items() if k.startswith("sync_") and k.endswith("error_count"))
        if counted
        else None,
        conflicts={
            k.removeprefix("confl_"): _count(v)
            for k, v in counted.items()
            if _CONFLICT.fullmatch(k) and k[:6] == "confl_"
        },
        two_phase=_truth(two_phase) if two_phase is not None else None,
        publications=frozenset(str(p) for p in _list(publications)),
        tables=by_state,
        copying=_count(int(copying) if copying is not None and copying.isdecimal() else 0),
        applied=lsn(applied) if applied else None,
    )


def _columns(rows: Rows, n: int) -> list[list[str | None]]:
    if any(len(row) != n for row in rows):
        raise ProbeError(Reason.PROTOCOL, f"rows of other than {n} columns")
    return [list(row) for row in rows]


def _truth(text: str | None) -> bool:
    if text not in ("t", "f"):
        raise ProbeError(Reason.REFUSED_VALUE, "a truth value is neither true nor false")
    return text == "t"


def _object(text: str | None) -> dict[str, Any]:
    found = _json(text)
    return {str(k): v for k, v in found.items() if v is not None} if isinstance(found, dict) else {}


def _list(text: str | None) -> list[Any]:
    found = _json(text)
    return found if isinstance(found, list) else []


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        raise ProbeError(Reason.REFUSED_VALUE, "a list that is none") from None


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ProbeError(Reason.REFUSED_VALUE, f"a count of {str(value)[:40]!r}")
    return value


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    return value if 0 <= value < 2**33 else None


EXISTS: Final = Section(WHETHER, lambda version: _WHETHER, read_whether)
CHANNELS: Final = Section(SLOTS, _channels, read_channels)
FOLLOWERS: Final = Section(SUBSCRIPTIONS, _followers, read_followers, METRICS)
