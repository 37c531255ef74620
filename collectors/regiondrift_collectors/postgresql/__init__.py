"""How far behind is each PostgreSQL replica? Looks at one server: its identity, role, position and link."""

from __future__ import annotations

from typing import Final

from regiondrift.model import Collector, Kept, Link, Look, Objectives, Target
from regiondrift_collectors.postgresql import statement
from regiondrift_collectors.postgresql.connection import Connection, connect, files
from regiondrift_collectors.postgresql.options import Options

STATEMENT_TIMEOUT: Final = 10.0
"""Seconds, on the server: a statement of ours ends there even if we cannot tell it to. The deadline of a look is shorter
or not, as configured."""


def plan(options: Options, objectives: Objectives) -> tuple[tuple[Target, ...], Link | None]:
    """One target per node, and the link between them."""
    targets = tuple(Target(options.name, node.name, node.region, node, files(node)) for node in options.nodes)
    objective = options.recovery_point if options.recovery_point is not None else objectives.recovery_point
    return targets, Link("postgresql", objective, options.system_identifier)


async def look(target: Target, kept: Kept) -> Look:
    """Ask one server once, over the kept connection or a new one."""
    connection: Connection | None = kept.value
    if connection is None or not connection.usable:
        connection = await connect(target.options, STATEMENT_TIMEOUT)
        kept.put(connection, connection.close)
    row = await connection.row(statement.statement(connection.server_version))
    return statement.read(row, connection.server_version)


COLLECTOR = Collector(name="postgresql", options=Options, plan=plan, look=look)
