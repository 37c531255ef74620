"""What of that which we ask does each PostgreSQL version have? Recorded from real servers, to be asked without them.

``python -m collectors.postgresql.catalogue``, in tests/, records every version that is installed anew.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from regiondrift_collectors.postgresql import _everything
from servers.postgresql import standalone

VERSIONS: Final = (13, 14, 15, 16, 17, 18)
RECORDED: Final = Path(__file__).parent / "catalogues"
SCHEMA: Final = "recorded"

Catalogue: TypeAlias = dict[str, Any]
"""``relations``: columns and their types; ``functions``: for each overload its arguments and, where it returns rows, their
columns; ``settings``: names."""


def asked(version: int) -> str:
    """All that a server of that major version is asked in one look."""
    return _everything(version * 10000)[0].decode()


def names(text: str) -> set[str]:
    """Relations and functions in a statement; texts in quotes are none."""
    return set(re.findall(r"\bpg_\w+", re.sub(r"'[^']*'", "", text)))


def settings(text: str) -> set[str]:
    return set(re.findall(r"current_setting\('(\w+)'", text))


@cache
def recorded(version: int) -> Catalogue:
    found: Catalogue = json.loads((RECORDED / f"{version}.json").read_text("utf-8"))
    return found


def record(connection: psycopg.Connection[Any]) -> Catalogue:
    """What this server has of everything that any version is asked."""
    text = "".join(asked(version) for version in VERSIONS)
    relations, functions = {}, {}
    for name in sorted(names(text)):
        columns = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
            " AND attrelid = to_regclass('pg_catalog.' || %s) ORDER BY attnum",
            [name],
        ).fetchall()
        if columns:
            relations[name] = [list(column) for column in columns]
        overloads = connection.execute(
            "SELECT oidvectortypes(proargtypes), (SELECT json_agg(json_build_array(n, format_type(t, NULL)) ORDER BY i)"
            " FROM unnest(proargnames, proallargtypes, proargmodes) WITH ORDINALITY AS a (n, t, m, i) WHERE m IN ('o', 't'))"
            " FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = %s ORDER BY 1",
            [name],
        ).fetchall()
        if overloads:
            functions[name] = [list(overload) for overload in overloads]
    known = connection.execute("SELECT name FROM pg_settings WHERE name = ANY(%s)", [sorted(settings(text))]).fetchall()
    return {
        "version": str(connection.info.server_version),
        "relations": relations,
        "functions": functions,
        "settings": sorted(name for (name,) in known),
    }


def install(connection: psycopg.Connection[Any], catalogue: Catalogue) -> None:
    """Give the connection the relations and functions of a recorded version in place of the server's own."""
    schema = sql.Identifier(SCHEMA)
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    for name, columns in catalogue["relations"].items():
        # A table could have no column named xmin.
        nulls = sql.SQL(", ").join(sql.SQL(f"NULL::{kind} AS {{}}").format(sql.Identifier(n)) for n, kind in columns)
        connection.execute(sql.SQL("CREATE VIEW {}.{} AS SELECT {}").format(schema, sql.Identifier(name), nulls))
    for name, overloads in catalogue["functions"].items():
        for arguments, columns in overloads:
            if columns:
                nulls = sql.SQL(", ").join(sql.SQL(f"NULL::{kind}") for _, kind in columns)
                table = sql.SQL(", ").join(sql.SQL(f"{{}} {kind}").format(sql.Identifier(n)) for n, kind in columns)
                connection.execute(
                    sql.SQL("CREATE FUNCTION {}.{} ({}) RETURNS TABLE ({}) LANGUAGE sql AS $$ SELECT {} $$").format(
                        schema, sql.Identifier(name), sql.SQL(arguments), table, nulls
                    )
                )
    connection.execute(sql.SQL("SET search_path = {}, pg_catalog").format(schema))


def main() -> None:
    RECORDED.mkdir(exist_ok=True)
    for version in VERSIONS:
        with standalone("ymq-1", version) as server, server.connect() as connection:
            found = record(connection)
        text = json.dumps(found, indent=1, sort_keys=True)
        # A pair on one line.
        text = re.sub(r'\[\s+("[^"]*"),\s+("[^"]*")\s+\]', r"[\1, \2]", text)
        (RECORDED / f"{version}.json").write_text(text + "\n", "utf-8")
        print(f"{version}: {found['version']}")


if __name__ == "__main__":
    main()
