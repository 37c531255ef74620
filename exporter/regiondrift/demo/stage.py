"""What does the demo start, in which order, and how does all of it end? The stage on which two regions drift apart."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from regiondrift.demo import COMMANDS, KEYS, control, monitoring
from regiondrift.demo.leash import account, command
from regiondrift.demo.pair import Pair
from regiondrift.demo.play import Play
from regiondrift.demo.postgres import EndedError, ServerError, free_port
from regiondrift.demo.programs import Programs, programs
from regiondrift.demo.terminal import complain, keys, say, step
from regiondrift.demo.writer import TABLE, Writer

PORT: Final = 10930
VERSION: Final = 18
INTERVAL: Final = 1
"""Seconds between two looks."""
OBJECTIVE: Final = 30
"""Seconds of orders that the shop may lose."""
_TIMEOUT: Final = "5s"
"""After which the two ends notice a silent link; PostgreSQL's own default is a minute."""
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ChildError(Exception):
    """Something that the demo started ended by itself or did not come up. The text says which and its last words."""


def run() -> int:
    """Run a demo until it is told to end; the exit code."""
    ended = threading.Event()
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in _ENDS:
        signal.signal(number, lambda *_: ended.set())
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        # Sent to the background, the demo goes on without keys.
        signal.signal(number, signal.SIG_IGN)
    using = programs(VERSION)
    if using is None:
        complain(f"PostgreSQL {VERSION} is not installed: pip install 'regiondrift[demo]', or make demo")
        return 2
    try:
        claim = control.Claim()
    except control.RunningError as error:
        complain(str(error))
        return 2
    except OSError as error:
        complain(f"{control.directory()}: {error.strerror}")
        return 1
    stage = None
    try:
        stage = Stage(claim.path, using, ended, woken)
        stage.start()
        stage.play()
        return 0
    except EndedError:
        return 0
    except (ChildError, ServerError) as error:
        complain(str(error))
        return 1
    finally:
        ended.set()
        try:
            if stage:
                stage.close()
        finally:
            claim.release()


class Stage:
    """All that one demo started."""

    def __init__(self, home: Path, using: Programs, ended: threading.Event, woken: socket.socket) -> None:
        self._home = home
        self._ended = ended
        self._woken = woken
        needed = [using.directory / "postgres", Path(sys.executable), Path(__file__), home / "any"]
        self._user = account(needed)
        if self._user and not self._user.passes:
            home.chmod(0o711)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._urls: dict[str, str] = {}
        self._writer: Writer | None = None
        self._pager: monitoring.Pager | None = None
        self._listener = control.listen(home)
        self._pair = Pair(
            self._folder("postgresql"),
            using,
            self._user,
            settings={"wal_receiver_timeout": _TIMEOUT, "wal_sender_timeout": _TIMEOUT},
            ended=ended,
        )

    # --- starting

    def start(self) -> None:
        with step("Starting PostgreSQL in montreal, copying it to amsterdam ..."):
            self._pair.start()
            self._pair.primary.execute(TABLE)
        for server in self._pair.servers:
            self._announce(server.name, server.url)
        self._writer = Writer(lambda: self._pair.primary)
        with step("Starting regiondrift ..."):
            exporter = self._start_exporter()
        self._announce("regiondrift", f"http://{exporter}/")
        with step("Starting Prometheus and Alertmanager ..."):
            self._start_monitoring(exporter)

    def _folder(self, name: str) -> Path:
        """A directory of one server, its own alone."""
        path = self._home / name
        path.mkdir(0o700)
        if self._user:
            self._user.owns(path)
        return path

    def _file(self, path: Path, text: str) -> Path:
        path.touch(0o600)
        path.write_text(text, encoding="utf-8")
        if self._user:
            self._user.owns(path)
        return path

    def _announce(self, name: str, url: str) -> None:
        self._urls[name] = url
        say(f"{name} {url}")

    def _start_exporter(self) -> str:
        folder = self._folder("regiondrift")
        nodes = [
            {
                "name": server.name,
                "region": server.name,
                "conninfo": server.conninfo(password=False),
                "password_file": str(self._file(folder / f"{server.name}.password", server.secrets.role)),
            }
            for server in self._pair.servers
        ]
        configuration = {
            "version": 1,
            "regions": [server.name for server in self._pair.servers],
            "objectives": {"recovery_point": f"{OBJECTIVE}s"},
            "state_dir": str(self._folder("regiondrift/state")),
            "postgresql": [
                {
                    "name": "orders",
                    "interval": f"{INTERVAL}s",
                    "timeout": "3s",
                    "recovery_point": f"{OBJECTIVE}s",
                    "nodes": nodes,
                }
            ],
        }
        file = self._file(folder / "regiondrift.yaml", json.dumps(configuration, indent=1))
        address = f"127.0.0.1:{_own_port()}"
        program = [sys.executable, "-P", "-c", "import sys; from regiondrift.cli import main; sys.exit(main())"]
        self._child("regiondrift", [*program, "serve", f"--config.file={file}", f"--web.listen-address={address}"])
        self._until_ready("regiondrift", address)
        return address

    def _start_monitoring(self, exporter: str) -> None:
        found = {name: monitoring.program(name) for name in ("alertmanager", "prometheus")}
        for name, path in found.items():
            if not path:
                complain(f"{name} is not installed: the demo goes on without it (Debian: {monitoring.package(name)})")
        alertmanager = None
        if found["alertmanager"] and found["prometheus"]:
            folder = self._folder("alertmanager")
            self._pager = monitoring.Pager(say)
            file = self._file(folder / "alertmanager.yml", monitoring.alertmanager_configuration(self._pager.url))
            alertmanager = f"127.0.0.1:{free_port()}"
            self._child(
                "alertmanager",
                [
                    found["alertmanager"],
                    f"--config.file={file}",
                    f"--storage.path={folder}",
                    f"--web.listen-address={alertmanager}",
                    "--cluster.listen-address=",
                ],
            )
        prometheus = None
        if found["prometheus"]:
            folder = self._folder("prometheus")
            rules = monitoring.shipped_rules()
            for rule in rules:
                self._file(folder / rule.name, rule.read_text(encoding="utf-8"))
            text = monitoring.prometheus_configuration(exporter, alertmanager, rules)
            file = self._file(folder / "prometheus.yml", text)
            prometheus = f"127.0.0.1:{free_port()}"
            self._child(
                "prometheus",
                [
                    found["prometheus"],
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={prometheus}",
                    "--log.level=warn",
                ],
            )
        for name, address in (("prometheus", prometheus), ("alertmanager", alertmanager)):
            if address:
                self._until_ready(name, address)
                self._announce(name, f"http://{address}/")

    def _child(self, name: str, argv: list[str]) -> None:
        with self._log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(
                command(argv, self._user),
                cwd=self._home / name,
                env={**os.environ, "HOME": str(self._home / name)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self._home / f"{name}.log"

    def _until_ready(self, name: str, address: str, wait: float = 30) -> None:
        end = time.monotonic() + wait
        while not _ready(address):
            self._check()
            if time.monotonic() > end:
                raise ChildError(f"{name} is not ready after {wait:.0f} s: {self._last_words(self._log(name))}")
            if self._ended.wait(0.05):
                raise EndedError

    # --- running

    def play(self) -> None:
        """Take keys and commands until the end.

        Raises:
            ChildError: something ended by itself.
        """
        play = Play(self._pair, self._urls, OBJECTIVE)
        with selectors.DefaultSelector() as selector, keys() as terminal:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            if terminal is not None:
                selector.register(terminal, selectors.EVENT_READ)
                say("keys: " + "  ".join(f"{key} {name}" for key, name in KEYS.items()) + "  q quit")
            program = "regiondrift" if shutil.which("regiondrift") else sys.argv[0]
            say(f"from a second terminal: {program} demo {'|'.join(COMMANDS)}")
            while not self._ended.is_set():
                for key, _ in selector.select(0.5):
                    if key.fileobj is self._listener:
                        self._serve(play)
                    elif key.fd == terminal:
                        if not self._key(terminal, play):
                            selector.unregister(terminal)
                    else:
                        self._woken.recv(4096)
                self._check()

    def _serve(self, play: Play) -> None:
        received = control.receive(self._listener)
        if received:
            name, connection = received
            with connection:
                code, text = self._do(play, name)
                control.answer(connection, code, text)

    def _key(self, terminal: int, play: Play) -> bool:
        """False at the end of the terminal."""
        try:
            pressed = os.read(terminal, 1).decode(errors="replace")
        except OSError:
            return False
        if pressed == "q":
            self._ended.set()
        elif pressed in KEYS:
            self._do(play, KEYS[pressed])
        return bool(pressed)

    def _do(self, play: Play, name: str) -> tuple[int, str]:
        with step(f"{name} ..."):
            code, text = play.do(name)
        say(text)
        return code, text

    def _check(self) -> None:
        """Whether all that should run does."""
        for name, process in self._children.items():
            if process.poll() is not None:
                words = self._last_words(self._log(name))
                raise ChildError(f"{name} ended by itself ({process.returncode}): {words}")
        for server in self._pair.servers:
            if server.process is not None and not server.running:
                words = self._last_words(server.log)
                raise ChildError(f"{server.name} ended by itself ({server.process.returncode}): {words}")

    @staticmethod
    def _last_words(log: Path) -> str:
        return log.read_text(encoding="utf-8", errors="replace")[-800:].strip()

    # --- ending

    def close(self) -> None:
        """End everything, whatever state it is in; a few seconds at most."""
        self._listener.close()
        for process in self._children.values():
            process.terminate()
        if self._writer:
            self._writer.close()
        self._pair.remove()
        end = time.monotonic() + 3
        for process in self._children.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._pager:
            self._pager.close()


def _own_port() -> int:
    """The usual port, else a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return free_port()
        return PORT


def _ready(address: str) -> bool:
    connection = HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
