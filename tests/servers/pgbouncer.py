"""How do tests get a real PgBouncer in front of a real PostgreSQL? Debian's program, in each of its modes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regiondrift.demo.leash import account, command
from regiondrift.demo.postgres import SUPERUSER, Server, free_port
from servers.daemon import required


@contextmanager
def pgbouncer(server: Server, mode: str) -> Iterator[int]:
    """The port of a pooler that lends out one connection to `server`. It knows the passwords of both roles."""
    program = required("pgbouncer", "pgbouncer")
    home = Path(tempfile.mkdtemp(prefix="regiondrift-pgbouncer-"))
    user = account([Path(program), home / "x"])
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": home / "users",
        "stats_users": "regiondrift",
        "pool_mode": mode,
        "default_pool_size": 1,
    }
    (home / "users").write_text(
        f'"regiondrift" "{server.secrets.role}"\n"{SUPERUSER}" "{server.secrets.superuser}"\n', encoding="utf-8"
    )
    (home / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in settings.items()),
        encoding="utf-8",
    )
    if user:
        for path in (home, home / "users", home / "pgbouncer.ini"):
            user.owns(path)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command([program, str(home / "pgbouncer.ini")], user), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 10
        while not _listens(port):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < end, (home / "log").read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
