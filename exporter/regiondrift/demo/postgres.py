"""How are real PostgreSQL servers started, broken and removed? From any directory of programs, as any user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from regiondrift.demo.leash import Account, command
from regiondrift.demo.programs import Programs

if TYPE_CHECKING:
    import psycopg

SUPERUSER: Final = "postgres"
ROLE: Final = "regiondrift"
"""Whom the exporter connects as: a member of pg_monitor, no more."""

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    # In the data directory, so that a killed server leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "60",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "wal_keep_size": "64MB",
    "min_wal_size": "16MB",
    "max_wal_size": "256MB",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "500ms",
    "jit": "off",
    "log_line_prefix": "%m %b ",
}

How = Literal["fast", "immediate", "kill"]
_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}


class ServerError(Exception):
    """A server, or one of its programs, did not do what it was told. The text holds its own words."""


class EndedError(Exception):
    """Waiting was given up because whoever waits was told to end."""


def free_port() -> int:
    """A TCP port of loopback that nothing listens on.

    Below the range that the kernel takes for outgoing connections, so that it is still free when its server restarts.
    """
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise ServerError("no free port on 127.0.0.1")


@dataclass(frozen=True, slots=True)
class Secrets:
    """The passwords of one system; random for each, since loopback is open to every user of a machine."""

    superuser: str = field(default_factory=lambda: secrets.token_hex(12))
    role: str = field(default_factory=lambda: secrets.token_hex(12))


class Server:
    """One PostgreSQL server in `home`/`name`, listening on loopback only, its log in `home`/`name`.log.

    `home` belongs to `user`. `ended`: set by whoever wants every wait given up (`EndedError`).
    """

    def __init__(
        self,
        name: str,
        home: Path,
        using: Programs,
        user: Account | None = None,
        *,
        settings: dict[str, str] | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        self.name = name
        self.directory = home / name
        self.log = home / f"{name}.log"
        self.port = free_port()
        self.secrets = Secrets()
        self.settings = {**SETTINGS, **(settings or {})}
        self._home = home
        self._programs = using
        self._user = user
        self._ended = ended or threading.Event()
        self.process: subprocess.Popen[bytes] | None = None

    # --- making and removing

    def initialise(self) -> None:
        """Make a new system with the role that the exporter uses, and start it."""
        password = self._home / f"{self.name}.password"
        self._write(password, self.secrets.superuser)
        try:
            self._run(
                "initdb",
                f"--pgdata={self.directory}",
                f"--username={SUPERUSER}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--wal-segsize=1",
                "--locale=C",
                "--encoding=UTF8",
                "--data-checksums",
                "--no-sync",
                # It could not yet be told to keep them to itself.
                *(["--no-instructions"] if self._programs.version >= 14 else []),
            )
        finally:
            password.unlink()
        with (self.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("include 'house.conf'\n")
        self.start()
        self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.secrets.role}' IN ROLE pg_monitor")

    def clone(self, source: Server, through: int, *, rate: str | None = None) -> None:
        """Become a standby of `source` by a base backup, replicating through the port `through`. Does not start.

        `rate`: what it may send in a second, in kB or with the suffix M; as fast as it can, if None.
        """
        shutil.rmtree(self.directory, ignore_errors=True)
        self.secrets = source.secrets
        self._run(
            "pg_basebackup",
            f"--pgdata={self.directory}",
            "--host=127.0.0.1",
            f"--port={source.port}",
            f"--username={SUPERUSER}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--no-sync",
            *([f"--max-rate={rate}"] if rate else []),
            password=source.secrets.superuser,
        )
        self._write(self.directory / "standby.signal", "")
        self.follow(through)

    def follow(self, through: int) -> None:
        """Replicate from what listens on the port `through`, from the next start or `reload` on."""
        self.settings["primary_conninfo"] = (
            f"host=127.0.0.1 port={through} user={SUPERUSER} password={self.secrets.superuser}"
            f" application_name={self.name} sslmode=disable connect_timeout=3"
        )

    def remove(self) -> None:
        """Stop at once and leave nothing behind."""
        if self.running:
            self.thaw()
        self.stop("immediate")
        self._release()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def _release(self) -> None:
        # A killed postmaster leaves a System V segment; its pid file names it.
        with contextlib.suppress(OSError, IndexError, ValueError):
            lines = (self.directory / "postmaster.pid").read_text(encoding="ascii").splitlines()
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), 0, None)

    # --- running

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, wait: float = 30) -> None:
        """Start and wait until it takes connections, as primary or as hot standby.

        Raises:
            ServerError: it did not within `wait` seconds.
        """
        end = time.monotonic() + wait
        while True:
            self._configure()
            beginning = self.log.stat().st_size if self.log.exists() else 0
            self._launch()
            while self.running and time.monotonic() < end:
                if self._ready():
                    return
                self._pause(0.02)
            said = self.log.read_bytes()[beginning:].decode(errors="replace")
            if self.running:
                self.stop("immediate")
                raise ServerError(f"{self.name} did not start within {wait:.0f} s: {said[-500:]}")
            fresh = not (self.directory / "postmaster.opts").exists()
            if "Address already in use" in said and fresh:
                self.port = free_port()
            elif "shared memory block" not in said or time.monotonic() > end:
                # Otherwise children of a killed postmaster hold it for a moment longer.
                self.process = None
                raise ServerError(f"{self.name} did not start: {said[-500:]}")
            self._pause(0.1)

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(
                    [str(self._programs.directory / "postgres"), "-D", str(self.directory)], self._user, signal.SIGQUIT
                ),
                cwd=self._home,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        assert self.process
        try:
            lines = (self.directory / "postmaster.pid").read_text(encoding="ascii").splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def stop(self, how: How = "fast", wait: float = 20) -> None:
        """End the server; a fast stop that takes longer than `wait` seconds becomes an immediate one."""
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(_SIGNALS[how])
            try:
                self.process.wait(wait)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(10)
        self.process = None

    def freeze(self) -> None:
        """Stop every process of the server as it stands (SIGSTOP): connections stay open and mute."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        for pid in (self.process.pid, *map(int, children.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def configure(self, **settings: str) -> None:
        """Change settings, at once where the server can."""
        self.settings.update(settings)
        self._configure()
        if self.running:
            assert self.process
            self.process.send_signal(signal.SIGHUP)

    def _configure(self) -> None:
        # In a file and not on the command line, which every user of the machine can read.
        settings = {**self.settings, "port": str(self.port)}
        text = "".join("{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in settings.items())
        self._write(self.directory / "house.conf", text)

    # --- asking

    def conninfo(self, *, role: str = ROLE, port: int | None = None, password: bool = True) -> str:
        """libpq's connection string; `port` where the server is reached through a proxy."""
        text = f"host=127.0.0.1 port={port or self.port} dbname=postgres user={role}"
        secret = self.secrets.superuser if role == SUPERUSER else self.secrets.role
        return f"{text} password={secret}" if password else text

    @property
    def url(self) -> str:
        """For a person with psql; the superuser."""
        return f"postgresql://{SUPERUSER}:{self.secrets.superuser}@127.0.0.1:{self.port}/postgres"

    def connect(self, application_name: str = "house") -> psycopg.Connection[Any]:
        """A connection of the superuser, every statement its own transaction."""
        import psycopg

        return psycopg.connect(
            self.conninfo(role=SUPERUSER), autocommit=True, connect_timeout=5, application_name=application_name
        )

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own; its rows, if it has any."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, parameters: Sequence[Any] | None = None) -> Any:
        """The first column of the first row."""
        return self.execute(statement, parameters)[0][0]

    def is_standby(self) -> bool:
        return bool(self.value("SELECT pg_is_in_recovery()"))

    def promote(self, wait: int = 30) -> None:
        """Make a standby the primary of a new timeline.

        Raises:
            ServerError: it is not within `wait` seconds.
        """
        if not self.value("SELECT pg_promote(true, %s)", [wait]):
            raise ServerError(f"{self.name} is not promoted after {wait} s")

    def pause(self) -> None:
        """Pause replay; returns when it is paused."""
        self.execute("SELECT pg_wal_replay_pause()")
        self._until("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def resume(self) -> None:
        self.execute("SELECT pg_wal_replay_resume()")

    def wait_caught_up(self, source: Server, wait: float = 20) -> None:
        """Until everything that `source` has flushed by now is replayed here.

        Raises:
            ServerError: it is not within `wait` seconds.
        """
        position = source.value("SELECT pg_current_wal_flush_lsn()::text")
        self._until("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position], wait)

    def _until(self, statement: str, parameters: Sequence[Any] | None = None, wait: float = 20) -> None:
        end = time.monotonic() + wait
        with self.connect() as connection:
            while not connection.execute(statement.encode(), parameters).fetchall()[0][0]:
                if time.monotonic() > end:
                    raise ServerError(f"{self.name}: not within {wait:.0f} s: {statement}")
                self._pause(0.02)

    # --- files and programs

    def _pause(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise EndedError

    def _write(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        path.touch(0o600, exist_ok=False)
        path.write_text(text, encoding="utf-8")
        if self._user:
            self._user.owns(path)

    def _run(self, program: str, *arguments: str, password: str | None = None) -> None:
        environment = _environment() | ({"PGPASSWORD": password} if password else {})
        process = subprocess.Popen(
            command([str(self._programs.directory / program), *arguments], self._user),
            cwd=self._home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with process:
            while True:
                try:
                    said, _ = process.communicate(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    if self._ended.is_set():
                        # Its children too: both programs have some.
                        os.killpg(process.pid, signal.SIGKILL)
                        raise EndedError from None
        if process.returncode:
            raise ServerError(f"{program}: {said.decode(errors='replace').strip()[-500:]}")


def _environment() -> dict[str, str]:
    """Ours, less what would lead libpq or the server elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON"))}
    return {**kept, "LC_ALL": "C"}
