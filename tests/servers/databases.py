"""How are a thousand databases had in a second? Rows of the catalogue: who never connects to one needs no files of it."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from regiondrift.demo.postgres import SUPERUSER, Server

_FIRST: Final = 1_000_000
"""Object identifiers that nothing else reaches."""
# CREATE DATABASE copies 300 files and writes two checkpoints for each, which takes a thousand some minutes.
_INSERT: Final = """
INSERT INTO pg_database
SELECT (jsonb_populate_record(model, jsonb_build_object(
            'oid', {first} + n, 'datname', 'tenant_' || lpad(n::text, 4, '0'),
            'datallowconn', true, 'datistemplate', false))).*
  FROM pg_database AS model, generate_series(1, {count}) AS n
 WHERE model.datname = 'template0'
"""


def idle(server: Server, count: int) -> None:
    """Add databases named ``tenant_0001`` and so on that nobody can connect to, though the catalogue says so."""
    with server.connect() as connection:
        connection.execute("SET allow_system_table_mods = on")
        connection.execute(_INSERT.format(first=_FIRST, count=count).encode())


def connect(server: Server, database: str) -> psycopg.Connection[Any]:
    """A connection of the superuser to a real one, every statement its own transaction."""
    conninfo = server.conninfo(role=SUPERUSER).replace("dbname=postgres", f"dbname={database}")
    return psycopg.connect(conninfo, autocommit=True, connect_timeout=5)
