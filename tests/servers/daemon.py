"""How does a test start a program that serves HTTP? On the leash, in a directory of its own, ready when it says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from regiondrift.demo.leash import command


def required(program: str, package: str) -> str:
    """Path of `program`. Without it a test is skipped; in CI it fails, for there nothing may be missing."""
    found = shutil.which(program)
    if found:
        return found
    text = f"{program} is not installed (Debian's {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class Daemon:
    """One running program with an address, a log and an end. It does not outlive the thread that starts it."""

    def __init__(self, argv: list[str], url: str, home: Path) -> None:
        self.argv, self.url = argv, url
        self.log = home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: str, wait: float = 20) -> None:
        """Until `ready`, a path, answers 200.

        Raises:
            RuntimeError: the program ended, or was not ready in time; with the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(self.argv, None), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.log.parent
            )
        end = time.monotonic() + wait
        while not self._answers(ready):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{self.argv[0]} is not ready: {self.said()[-2000:]}")
            time.sleep(0.05)

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def said(self) -> str:
        """What it wrote to its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, wait: float = 10) -> None:
        """End it, by force after `wait` seconds."""
        process, self._process = self._process, None
        if not process:
            return
        process.terminate()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
