"""Which tables are published, and which followed? That stands in each database; one is asked at a time, now and then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from psycopg import conninfo

from regiondrift.model import (
    Channel,
    Channels,
    Conninfo,
    Failure,
    Follower,
    Followers,
    Observation,
    ProbeError,
    Reason,
)
from regiondrift_collectors.postgresql.connection import Connection, Rows, connect
from regiondrift_collectors.postgresql.logical import (
    COMPLETE,
    SLOTS,
    SUBSCRIPTIONS,
    TABLE_STATES,
    TABLES,
    WHETHER,
    Subscription,
)
from regiondrift_collectors.postgresql.options import Node

SYSTEM: Final = "postgresql_logical"
EVERY: Final = 60.0
"""Seconds between two looks into a database in which nothing is known to happen."""
EVERY_HERE: Final = 15.0
"""The same for the one that we are connected to anyway."""
WITHIN: Final = 2.0
"""Seconds that a look into another database may take; the rest of the look must not wait longer for it."""
STALE: Final = 3 * EVERY
"""Seconds after which what was seen is given up if the database cannot be looked into any more."""

_FOLLOWED: Final = """
SELECT r.srsubid, r.srsubstate, count(*),
       json_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) FILTER (WHERE c.oid IS NOT NULL)
  FROM pg_subscription_rel AS r
  LEFT JOIN pg_class AS c ON c.oid = r.srrelid
  LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IS DISTINCT FROM 'S'
 GROUP BY 1, 2
"""

# pg_publication_tables would do, but it opens the tables, and waits where somebody holds a lock.
_PUBLISHED: Final = """
WITH RECURSIVE chosen AS (
  SELECT p.prpubid AS publication, p.prrelid AS relation FROM pg_publication_rel AS p
  {schemas}
  UNION
  SELECT p.oid, c.oid FROM pg_publication AS p JOIN pg_class AS c ON p.puballtables
     AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
), tree AS (
  SELECT publication, relation, false AS below FROM chosen
  UNION
  SELECT t.publication, i.inhrelid, true FROM tree AS t
    JOIN pg_class AS c ON c.oid = t.relation AND c.relkind = 'p'
    JOIN pg_inherits AS i ON i.inhparent = t.relation
), published AS (
  SELECT DISTINCT p.oid AS publication, t.relation FROM pg_publication AS p
    JOIN tree AS t ON t.publication = p.oid
    JOIN pg_class AS c ON c.oid = t.relation
   WHERE CASE WHEN p.pubviaroot
              THEN NOT t.below AND NOT EXISTS (SELECT FROM tree AS u
                WHERE u.publication = t.publication AND u.relation = t.relation AND u.below)
              ELSE c.relkind = 'r' END
)
SELECT p.pubname,
       json_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) FILTER (WHERE c.oid IS NOT NULL)
  FROM pg_publication AS p
  LEFT JOIN published AS d ON d.publication = p.oid
  LEFT JOIN pg_class AS c ON c.oid = d.relation
  LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
 GROUP BY 1
"""
_SCHEMAS: Final = """
  UNION
  SELECT s.pnpubid, c.oid FROM pg_publication_namespace AS s
    JOIN pg_class AS c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
"""


def statement(version: int) -> bytes:
    """What is asked in a database."""
    return (_FOLLOWED + ";" + _PUBLISHED.format(schemas=_SCHEMAS if version >= 150000 else "")).encode()


@dataclass(slots=True)
class Database:
    """What the last look into one database found."""

    tried: float | None = None
    seen: float | None = None
    failure: Failure | None = None
    states: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By subscription's number: tables by state."""
    followed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    offers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    errors: int = 0
    """Failed first copies so far, when it was looked into."""

    def known(self, now: float) -> bool:
        return self.seen is not None and (self.failure is None or now - self.seen <= STALE)


def take(memory: Mapping[str, dict[str, Any]]) -> tuple[tuple[Channel, ...] | None, tuple[Subscription, ...] | None]:
    """What this look's sections found; None where one was refused or not asked. It is told once."""
    whether, channels, subscriptions = (memory.get(n, {}).pop("now", None) for n in (WHETHER, SLOTS, SUBSCRIPTIONS))
    if whether is not None:
        # From now on, or no more.
        memory[WHETHER]["asked"] = any(whether)
        subscriptions = subscriptions if whether[0] else ()
        channels = channels if whether[1] else ()
    return channels, subscriptions


def wanted(memory: Mapping[str, dict[str, Any]]) -> bool:
    """Whether the next look must ask for slots and subscriptions: the last found some, or there was none."""
    return bool(memory.get(WHETHER, {}).get("asked", True))


def due(
    databases: Mapping[str, Database],
    channels: Iterable[Channel],
    subscriptions: Iterable[Subscription],
    here: str,
    now: float,
) -> str | None:
    """The database that has waited longest of those that must be looked into."""
    urgent: dict[str, bool] = {c.scope: False for c in channels if c.scope}
    for s in subscriptions:
        its = databases.get(s.database, Database())
        news = s.id is not None and s.id not in its.states
        going_on = s.tables is None and (s.copying > 0 or _uncopied(its.states.get(s.id or "", {})) > 0)
        stepped = s.tables is None and (s.sync_errors or 0) > its.errors
        urgent[s.database] = urgent.get(s.database, False) or (
            its.failure is None and (going_on or stepped or (news and s.tables != {}))
        )
    waiting = []
    for name, at_once in urgent.items():
        tried = databases.get(name, Database()).tried
        if tried is None or at_once or now - tried >= (EVERY_HERE if name == here else EVERY):
            waiting.append((float("-inf") if tried is None else tried, name))
    return min(waiting)[1] if waiting else None


async def look_into(
    name: str,
    databases: dict[str, Database],
    node: Node,
    kept: Connection,
    here: bool,
    errors: int,
    now: Callable[[], float],
) -> None:
    """Look into one database, over the kept connection if that is `here`, else over one that ends with this."""
    its = databases.setdefault(name, Database())
    its.tried = now()
    try:
        results = await _asked(name, node, kept, here)
        its.states, its.followed, its.offers = _read(results)
        its.seen, its.failure, its.errors = now(), None, errors
    except ProbeError as error:
        its.failure = Failure(error.failure.reason, f"database {name}: {error.failure.detail}")


async def _asked(name: str, node: Node, kept: Connection, here: bool) -> list[Rows]:
    if here:
        results, refused = await kept.ask(statement(kept.server_version))
        if refused is not None:
            raise refused
        return results
    other = replace(node, conninfo=Conninfo(conninfo.make_conninfo(node.conninfo.reveal(), dbname=name)))
    connection: Connection | None = None
    try:
        async with asyncio.timeout(WITHIN):
            connection = await connect(other, WITHIN)
            results, refused = await connection.ask(statement(connection.server_version))
    except TimeoutError:
        raise ProbeError(Reason.TIMEOUT, f"no answer within {WITHIN:g} s") from None
    finally:
        if connection is not None:
            connection.close()
    if refused is not None:
        raise refused
    return results


def _read(
    results: list[Rows],
) -> tuple[dict[str, dict[str, int]], dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    if len(results) != 2 or any(len(r) != 4 for r in results[0]) or any(len(r) != 2 for r in results[1]):
        raise ProbeError(Reason.PROTOCOL, "rows that were not asked for")
    states: dict[str, dict[str, int]] = {}
    followed: dict[str, set[str]] = {}
    for number, state, count, names in results[0]:
        if number is None or count is None or not count.isdecimal():
            raise ProbeError(Reason.REFUSED_VALUE, "a count that is none")
        by_state = states.setdefault(number, {})
        word = TABLE_STATES.get(state or "", "waiting")
        by_state[word] = by_state.get(word, 0) + int(count)
        followed.setdefault(number, set()).update(_names(names))
    offers = {name: frozenset(_names(names)) for name, names in results[1] if name is not None}
    return states, {number: frozenset(names) for number, names in followed.items()}, offers


def _names(text: str | None) -> list[str]:
    try:
        found = json.loads(text) if text is not None else []
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ProbeError(Reason.REFUSED_VALUE, "the names of tables are no list of names")
    return found


def _uncopied(states: Mapping[str, int]) -> int:
    return sum(n for state, n in states.items() if state not in COMPLETE)


def observations(
    labels: tuple[str, str, str],
    channels: tuple[Channel, ...] | None,
    subscriptions: tuple[Subscription, ...] | None,
    databases: Mapping[str, Database],
    now: float,
) -> Iterator[Observation]:
    """Both halves of every logical link, with what is known of the tables."""
    known = {name: d for name, d in databases.items() if d.known(now)}
    if channels is not None:
        scopes = {c.scope for c in channels} & known.keys()
        offers = {f"{name}/{offer}": items for name in scopes for offer, items in known[name].offers.items()}
        yield Channels(channels, offers, frozenset(scopes))
    if subscriptions is None:
        return
    followers = []
    for s in subscriptions:
        its = known.get(s.database)
        states = s.tables if s.tables is not None else (its.states.get(s.id, {}) if its and s.id is not None else None)
        if states is not None:
            for state in TABLE_STATES.values():
                yield TABLES.at(states.get(state, 0), (*labels, s.database, s.name, state))
        followers.append(_follower(s, its, states))
    yield Followers(SYSTEM, tuple(followers))


def _follower(s: Subscription, its: Database | None, states: Mapping[str, int] | None) -> Follower:
    uncopied = s.copying or None
    if states is not None:
        uncopied = max(_uncopied(states), s.copying if s.tables is None else 0)
    items = its.followed.get(s.id, frozenset()) if its is not None and s.id is not None else None
    return Follower(
        name=f"{s.database}/{s.name}",
        identity=s.id or f"{s.database}/{s.name}",
        channel=s.slot,
        consumer=s.name,
        up=s.works if s.enabled else False,
        paused=not s.enabled,
        position=s.applied,
        received=s.received,
        apply_failures=s.apply_errors,
        copy_failures=s.sync_errors,
        uncopied=uncopied,
        takes=s.publications,
        items=items,
    )


def forget(databases: dict[str, Database], channels: Iterable[Channel], subscriptions: Iterable[Subscription]) -> None:
    """Keep nothing of databases that have neither a slot nor a subscription any more."""
    for name in databases.keys() - {c.scope for c in channels} - {s.database for s in subscriptions}:
        del databases[name]
