"""What can be configured of PostgreSQL? Entries are systems; their nodes are listed, and their roles discovered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from regiondrift.model import Conninfo, Duration, EntryOptions, RegionName, SecretFile, option


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One server of the system."""

    name: str = option("Name of the node; the label `replica` of its series.")
    region: RegionName = option("Region that it stands in.")
    conninfo: Conninfo = option(
        "libpq connection string, as keywords or as a URI.", example="host=pg.ymq dbname=postgres user=regiondrift"
    )
    password_file: SecretFile | None = option(
        "File with the password, read at each new connection.", default=None, example="/run/secrets/pg"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(EntryOptions):
    """One system: servers that share a system identifier and replicate from each other by streaming WAL."""

    recovery_point: Duration | None = option(
        "Recovery point objective. Default: `objectives.recovery_point`.", default=None, example="30s"
    )
    system_identifier: str | None = option(
        "System identifier that the nodes must have. Default: the remembered one, else that of the earliest listed node that answers.",
        default=None,
    )
    nodes: tuple[Node, ...] = option("The servers, source or replica; at least one.")

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str]]:
        if not self.nodes:
            yield ("nodes",), "at least one node is needed"
        seen: set[str] = set()
        for i, node in enumerate(self.nodes):
            if not node.name or len(node.name) > 200 or "/" in node.name or not node.name.isprintable():
                yield ("nodes", i, "name"), "a node's name is 1 to 200 printable characters without '/'"
            if node.name in seen:
                yield ("nodes", i, "name"), f"node {node.name!r} stands in this entry twice"
            seen.add(node.name)
        if self.system_identifier is not None and not self.system_identifier.isdecimal():
            yield ("system_identifier",), "a system identifier is a number, as pg_controldata prints it"
