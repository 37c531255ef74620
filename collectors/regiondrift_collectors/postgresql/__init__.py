"""How far behind is each PostgreSQL replica? Looks at one server: its identity, role, position and link."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

from regiondrift.model import (
    Collector,
    Failure,
    Kept,
    Link,
    Look,
    Objectives,
    Observation,
    ProbeError,
    Reason,
    RefusedValueError,
    SourcePosition,
    Target,
)
from regiondrift_collectors.postgresql import (
    backups,
    conflicts,
    logical,
    logical_detail,
    receiver,
    slots,
    statement,
    synchronous,
)
from regiondrift_collectors.postgresql.connection import Connection, Rows, connect, files
from regiondrift_collectors.postgresql.discovery import Discovery, asking, known, member_target
from regiondrift_collectors.postgresql.identity import SECTION as IDENTITY
from regiondrift_collectors.postgresql.options import Options
from regiondrift_collectors.postgresql.section import Section, Server

log = logging.getLogger(__name__)

STATEMENT_TIMEOUT: Final = 10.0
"""Seconds, on the server: a statement of ours ends there even if we cannot tell it to. The deadline of a look is shorter
or not, as configured."""

SECTIONS: Final[tuple[Section, ...]] = (
    IDENTITY,
    receiver.SECTION,
    slots.SECTION,
    synchronous.SECTION,
    conflicts.COUNTS,
    conflicts.WAITING,
    backups.SECTION,
    logical.EXISTS,
    logical.CHANNELS,
    logical.FOLLOWERS,
)
"""In the order in which they are asked."""


def plan(options: Options, objectives: Objectives) -> tuple[tuple[Target, ...], Link | None]:
    """One target per node that is known and per Patroni cluster, and the link between the nodes."""
    nodes = (Target(options.name, n.name, n.region, n, files(n)) for n in known(options))
    targets = (*nodes, *asking(options))
    objective = options.recovery_point if options.recovery_point is not None else objectives.recovery_point
    return targets, Link("postgresql", objective, options.system_identifier)


async def look(target: Target, kept: Kept) -> Look:
    """Ask one server once, over the kept connection or a new one; or Patroni."""
    if isinstance(target.options, Discovery):
        # Only then, so that who lists all nodes needs no HTTP client.
        from regiondrift_collectors.postgresql import discovery_http

        return await discovery_http.look(target, kept)
    connection: Connection | None = kept.value
    if connection is None or not connection.usable:
        connection = await connect(target.options, STATEMENT_TIMEOUT)
        kept.put(connection, connection.close)
    version = connection.server_version
    asked, sections = _everything(version, logical_detail.wanted(kept.memory))
    now = kept.now()
    results, refused = await connection.ask(asked)
    if results and statement.turned(results[0]):
        # Half of the answer is a standby's and half a primary's.
        now = kept.now()
        results, refused = await connection.ask(asked)
    if not results:
        raise refused or ProbeError(Reason.PROTOCOL, "no result")
    found = statement.read(results[0], version)
    writes = any(isinstance(o, SourcePosition) for o in found.observations)
    more: list[Observation] = []
    failures: list[Failure] = []
    notes = dict(found.notes or {})
    for section, rows in zip(sections, results[1:], strict=False):
        memory = kept.memory.setdefault(section.name, {})
        server = Server(target.entry, target.part, version, not writes, now, memory, notes)
        failures += _read(section, rows, server, more)
    if refused is not None:
        failures.append(refused.failure)
    failures += await _logical(target, kept, connection, writes, more)
    return Look((*found.observations, *more), tuple(failures), notes)


async def _logical(
    target: Target, kept: Kept, connection: Connection, writes: bool, into: list[Observation]
) -> list[Failure]:
    """Add both halves of the logical links that end here; what stands in each database is asked there, one a look."""
    channels, subscriptions = logical_detail.take(kept.memory)
    databases = kept.memory.setdefault("databases", {})
    its = subscriptions or () if writes else ()
    if channels is not None and subscriptions is not None:
        logical_detail.forget(databases, channels, its)
    name = logical_detail.due(databases, channels or (), its, connection.database, kept.now())
    if name is not None:
        errors = sum(s.sync_errors or 0 for s in its if s.database == name)
        here = connection.database == name
        await logical_detail.look_into(name, databases, target.options, connection, here, errors, kept.now)
    labels = ("postgresql", target.entry, target.part)
    into += logical_detail.observations(labels, channels, subscriptions if writes else None, databases, kept.now())
    return [d.failure for d in databases.values() if d.failure is not None]


def _read(section: Section, rows: Rows, server: Server, into: list[Observation]) -> list[Failure]:
    """Add what the section reads, or say why it cannot."""
    try:
        into += section.read(rows, server)
    except ProbeError as error:
        return [error.failure]
    except RefusedValueError as error:
        return [Failure(Reason.REFUSED_VALUE, f"{section.name}: {error}")]
    return []


@lru_cache(maxsize=64)
def _everything(version: int, logical_too: bool = True) -> tuple[bytes, tuple[Section, ...]]:
    """All statements for a version in one text, and the sections that they belong to. What is kept of it makes a version
    that nobody has tried be warned of once."""
    if version > statement.NEWEST:
        log.warning(
            "PostgreSQL is newer than any that was tried, and is asked like the newest of these",
            extra={"fields": {"version": version // 10000, "newest": statement.NEWEST // 10000}},
        )
    first = statement.statement(version).decode()
    asked = [(section, sql) for section in SECTIONS if (sql := section.statement(version)) is not None]
    if not logical_too:
        asked = [(section, sql) for section, sql in asked if section not in (logical.CHANNELS, logical.FOLLOWERS)]
    text = ";".join([first, *(sql for _, sql in asked)])
    return text.encode(), tuple(section for section, _ in asked)


COLLECTOR = Collector(
    name="postgresql",
    options=Options,
    plan=plan,
    look=look,
    member=member_target,
    metrics=tuple(metric for section in SECTIONS for metric in section.metrics),
)
