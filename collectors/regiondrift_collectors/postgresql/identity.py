"""Which running server answered? A name, an address that floats, or a service may lead to one that is known by another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from regiondrift.model import Instance, Observation, ProbeError, Reason
from regiondrift_collectors.postgresql.connection import Rows
from regiondrift_collectors.postgresql.section import Section, Server

_STATEMENT: Final = "SELECT (1000000 * extract(epoch FROM pg_postmaster_start_time()))::bigint"


def statement(version: int) -> str:
    """When it was started, in microseconds: no two servers of one system share that, and it needs no privilege."""
    return _STATEMENT


def read(rows: Rows, server: Server) -> Iterable[Observation]:
    """Raises:
    ProbeError: not one row of one number.
    """
    if len(rows) != 1 or len(rows[0]) != 1 or rows[0][0] is None or not rows[0][0].isdecimal():
        raise ProbeError(Reason.REFUSED_VALUE, "the server's start is no time")
    return (Instance(rows[0][0]),)


SECTION: Final = Section("identity", statement, read)
