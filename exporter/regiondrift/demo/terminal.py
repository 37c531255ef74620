"""How does the demo speak, and how does it listen to keys? On a terminal and in a pipe, with or without a reader."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


def say(text: str) -> None:
    """A line on stdout, at once; lost if nobody reads any more."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """A line on stderr."""
    _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        # Also for the interpreter's last flush.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def step(text: str) -> Iterator[None]:
    """Something that takes seconds: a spinner on a terminal, silence in a pipe."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextmanager
def keys() -> Iterator[int | None]:
    """The terminal, giving each key at once; None if stdin is none or we are in its background."""
    try:
        number = sys.stdin.fileno()
        if os.tcgetpgrp(number) != os.getpgrp():
            yield None
            return
        before: list[Any] = termios.tcgetattr(number)
    except (AttributeError, ValueError, OSError, termios.error):
        yield None
        return
    tty.setcbreak(number)
    try:
        yield number
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(number, termios.TCSADRAIN, before)
