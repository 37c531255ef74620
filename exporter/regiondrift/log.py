"""What is told while it runs? Log lines as logfmt or JSON, written by a thread that nobody ever waits for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TextIO

Format = Literal["logfmt", "json"]

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
MAX_LINES: Final = 10_000
MAX_BYTES: Final = 4 << 20
"""Of lines that wait to be written. What comes beyond that is counted and lost."""
MAX_VALUE: Final = 16_384
"""Characters of one value; the middle of a longer one is left out."""
FLUSH_WITHIN: Final = 0.5
SAY_LOST_EVERY: Final = 10.0
"""Seconds, while lines keep being lost."""

_KEY: Final = re.compile(r"[^A-Za-z0-9_.]")
_BARE: Final = re.compile(r"[A-Za-z0-9_./:@%+,*#~-]+")


def setup(level: str = "info", format: Format = "logfmt", stream: TextIO | None = None) -> Handler:
    """Log everything to `stream` (default: standard error), Python's warnings and the errors of threads included.

    `level` is one of `LEVELS`. Fields come from ``extra={"fields": {...}}``. A second call replaces the first.
    """
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, Handler)]:
        root.removeHandler(old)
        old.close()
    handler = Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(LogfmtFormatter() if format == "logfmt" else JsonFormatter())
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable
    return handler


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        error = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
        logging.getLogger("threading").error("a thread has ended", exc_info=error, extra={"fields": {"thread": name}})


def _unraisable(args: Any) -> None:
    error = (args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value else None
    where = getattr(args.object, "__qualname__", type(args.object).__name__)
    logging.getLogger("python").error(
        args.err_msg or "an exception was ignored", exc_info=error, extra={"fields": {"where": where}}
    )


# ---- records to lines


def _pairs(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """The keys and values of a line, in order; never raises."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    yield "time", f"{seconds}.{int(record.created % 1 * 1000):03d}Z"
    level = record.levelno
    yield "level", "error" if level >= 40 else "warn" if level >= 30 else "info" if level >= 20 else "debug"
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001  whatever an argument's repr raises
        message = f"{record.msg} (its arguments cannot be shown)"
    yield "msg", _short(message.strip())
    if not record.name.startswith("regiondrift"):
        yield "logger", record.name
    fields = getattr(record, "fields", None)
    if isinstance(fields, dict):
        for key, value in fields.items():
            name = _KEY.sub("_", str(key)) or "_"
            yield (f"{name}_" if name in ("time", "level", "msg", "logger", "traceback") else name), _simple(value)
    if record.exc_info and record.exc_info[0] is not None:
        yield "traceback", _short("".join(traceback.format_exception(*record.exc_info)).strip())


def _simple(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    try:
        return _short(str(value))
    except Exception as error:  # noqa: BLE001  as above
        return f"({type(error).__name__} while showing a {type(value).__name__})"


def _short(text: str) -> str:
    if len(text) <= MAX_VALUE:
        return text
    half = MAX_VALUE // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"


class LogfmtFormatter(logging.Formatter):
    """``time=2026-11-24T07:00:00.000Z level=info msg="..." target=orders/ymq-1``, as Prometheus writes it."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join([f"{key}={_logfmt(value)}" for key, value in _pairs(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(dict(_pairs(record)))


def _logfmt(value: str | int | float | bool | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if _BARE.fullmatch(text) else '"' + "".join([_escaped(c) for c in text]) + '"'


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# ---- lines to the stream


class Handler(logging.Handler):
    """Puts lines into a bounded queue; a daemon thread writes them. A reader that does not read costs lines, not time."""

    def __init__(self, stream: TextIO, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._write = _writer(stream)
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._writing = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines lost and not yet said to be."""
        return self._lost

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001  logging must not break what logs; the standard way would write to a full pipe
            line = b'level=error msg="a log line could not be made"\n'
        with self._changed:
            if self._closed or len(self._lines) >= self._max_lines or self._bytes + len(line) > self._max_bytes:
                self._lost += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written, but not for long."""
        with self._changed:
            if self._thread.is_alive():
                self._changed.wait_for(lambda: not self._lines and not self._writing, FLUSH_WITHIN)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            # logging flushes and then closes each handler at exit: waiting twice would double the bound.
            with self._changed:
                self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        said = time.monotonic()
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                line = self._lines.popleft()
                self._bytes -= len(line)
                self._writing = True
            written = self._write(line)
            if not written:
                with self._changed:
                    self._lost += 1
            elif self._lost and (not self._lines or time.monotonic() - said >= SAY_LOST_EVERY):
                self._say_lost()
                said = time.monotonic()

    def _say_lost(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, 0
        record = logging.LogRecord(
            __name__, logging.WARNING, "", 0, "log lines were lost: they were not read", (), None
        )
        record.fields = {"lost": lost}
        if not self._write(self.format(record).encode() + b"\n"):
            with self._changed:
                self._lost += lost


def _writer(stream: TextIO) -> Callable[[bytes], bool]:
    """What writes bytes to `stream` and waits as long as it takes; False if it cannot be written to."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):

        def to_object(line: bytes) -> bool:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.write(line.decode())
                stream.flush()
                return True
            return False

        return to_object

    # Past the stream's own buffer: a thread that is stuck inside its lock would abort the interpreter's exit.
    def to_descriptor(line: bytes) -> bool:
        while line:
            try:
                line = line[os.write(descriptor, line) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll(1000)
            except OSError:
                return False
        return True

    return to_descriptor
