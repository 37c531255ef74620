"""How do tests get a real Patroni cluster? Members from PyPI on one etcd of Debian, each with a PostgreSQL of its own."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yaml

from regiondrift.demo.leash import Account, account, command
from regiondrift.demo.postgres import SETTINGS, Secrets, free_port
from regiondrift.demo.programs import Programs
from servers.daemon import required as required_program
from servers.postgresql import required

API_USER: Final = "patroni"


class Process:
    """One program of the cluster, run as the servers' user."""

    def __init__(self, argv: list[str], home: Path, name: str, user: Account | None) -> None:
        self.log = home / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(argv, user), cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, *, kill: bool = False) -> None:
        (self._process.kill if kill else self._process.terminate)()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Member:
    """A Patroni agent and the PostgreSQL that it runs."""

    def __init__(self, cluster: Cluster, name: str, tags: Mapping[str, str]) -> None:
        self.name, self.tags = name, dict(tags)
        self.port, self.api_port = free_port(), free_port()
        self._cluster = cluster
        self._agent: Process | None = None

    @property
    def url(self) -> str:
        return f"{self._cluster.scheme}://127.0.0.1:{self.api_port}"

    def start(self) -> None:
        """Start the agent, which starts PostgreSQL. Waits for nothing."""
        self._agent = Process(
            [sys.executable, "-m", "patroni", str(self._cluster.configuration(self))],
            self._cluster.home,
            self.name,
            self._cluster.user,
        )

    def stop(self) -> None:
        """As ``systemctl stop patroni`` does: PostgreSQL ends, too, and the member leaves the cluster."""
        if self._agent:
            self._agent.end()
            self._agent = None

    def said(self) -> str:
        return self._agent.said() if self._agent else ""


class Cluster:
    """Members of one scope."""

    def __init__(
        self,
        home: Path,
        using: Programs,
        user: Account | None,
        scope: str,
        members: Mapping[str, Mapping[str, str]],
        etcd: int,
        api: Mapping[str, Any] | None = None,
    ) -> None:
        self.home, self.using, self.user, self.scope, self._etcd = home, using, user, scope, etcd
        self.api = dict(api or {})
        self.secrets = Secrets()
        self.members = {name: Member(self, name, tags) for name, tags in members.items()}

    @property
    def scheme(self) -> str:
        return "https" if "certfile" in self.api else "http"

    def configuration(self, member: Member) -> Path:
        """Patroni's own YAML for one member."""
        superuser = {"username": "postgres", "password": self.secrets.superuser}
        document = {
            "scope": self.scope,
            "name": member.name,
            "restapi": {
                "listen": f"127.0.0.1:{member.api_port}",
                "connect_address": f"127.0.0.1:{member.api_port}",
                **self.api,
            },
            "etcd3": {"hosts": f"127.0.0.1:{self._etcd}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "maximum_lag_on_failover": 1048576,
                    "postgresql": {"parameters": {"max_connections": 60}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{member.port}",
                "connect_address": f"127.0.0.1:{member.port}",
                "data_dir": str(self.home / member.name),
                "bin_dir": str(self.using.directory),
                "pgpass": str(self.home / f"{member.name}.pgpass"),
                "authentication": {"superuser": superuser, "replication": superuser},
                "parameters": {k: v for k, v in SETTINGS.items() if k in KEPT},
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"],
            },
            "tags": member.tags,
        }  # fmt: skip
        path = self.home / f"{member.name}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        path.chmod(0o600)
        if self.user:
            self.user.owns(path)
        return path

    def start(self) -> None:
        """Until every member streams."""
        for member in self.members.values():
            member.start()
        self.until(lambda answer: self._whole(answer), 60)

    def _whole(self, answer: Any) -> bool:
        states = {m["name"]: (m["role"], m["state"]) for m in answer["members"]}
        leads = [role for role, state in states.values() if role == "leader" and state == "running"]
        return len(states) == len(self.members) and bool(leads) and all(s in ("running", "streaming") for _, s in states.values())  # fmt: skip

    def until(self, holds: Callable[[Any], object], within: float = 30) -> Any:
        """Until what a member says of the cluster is so: that answer."""
        end, last = time.monotonic() + within, None
        while True:
            for member in self.members.values():
                try:
                    last = self.ask(member)
                    if holds(last):
                        return last
                except (OSError, ValueError, KeyError):
                    continue
            if time.monotonic() > end:
                logs = "\n".join(f"{m.name}: {m.said()[-1500:]}" for m in self.members.values())
                raise AssertionError(f"not within {within:g} s: {last}\n{logs}")
            time.sleep(0.1)

    def ask(self, member: Member) -> Any:
        """What it says at /cluster."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        encryption = context if self.scheme == "https" else None
        with urllib.request.urlopen(f"{member.url}/cluster", timeout=2, context=encryption) as answer:
            return json.loads(answer.read())

    def leader(self) -> Member:
        answer = self.until(lambda a: any(m["role"] == "leader" and m["state"] == "running" for m in a["members"]))
        return self.members[next(m["name"] for m in answer["members"] if m["role"] == "leader")]

    def execute(self, statement: str, member: Member | None = None) -> list[tuple[Any, ...]]:
        """On a member, else on the leader, as superuser."""
        conninfo = f"host=127.0.0.1 port={(member or self.leader()).port} dbname=postgres user=postgres"
        with psycopg.connect(conninfo, password=self.secrets.superuser, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        for member in self.members.values():
            member.stop()


KEPT: Final = frozenset({"unix_socket_directories", "fsync", "shared_buffers", "dynamic_shared_memory_type", "jit"})
"""Those of the house's settings that Patroni leaves to us."""


@contextmanager
def cluster(
    members: Mapping[str, Mapping[str, str]],
    *,
    scope: str = "orders",
    version: int | None = None,
    api: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Iterator[Cluster]:
    """A running cluster with these members and their tags. `api` makes what its REST API is to be, from a directory."""
    using = required(version)
    if os.environ.get("CI") != "true":
        pytest.importorskip("patroni")
    etcd = required_program("etcd", "etcd-server")
    home = Path(tempfile.mkdtemp(prefix="regiondrift-patroni-"))
    user = account([using.directory / "postgres", home / "x"])
    if user:
        user.owns(home)
    client, peer = free_port(), free_port()
    store = Process(
        [
            etcd,
            f"--data-dir={home / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        home,
        "etcd.out",
        user,
    )
    made: Cluster | None = None
    try:
        _until_healthy(client, store)
        made = Cluster(home, using, user, scope, members, client, api(home) if api else None)
        made.start()
        yield made
    finally:
        if made:
            made.stop()
        store.end()
        shutil.rmtree(home)


def _until_healthy(port: int, store: Process) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                if b"true" in answer.read():
                    return
        except (urllib.error.URLError, OSError):
            pass
        assert store.running, store.said()
        assert time.monotonic() < end, store.said()
        time.sleep(0.05)


def role(made: Cluster, name: str = "regiondrift") -> str:
    """Make the exporter's role, known to every member: its password."""
    made.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{made.secrets.role}' IN ROLE pg_monitor")
    for member in made.members.values():
        while not made.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'", member):
            time.sleep(0.02)
    return made.secrets.role
