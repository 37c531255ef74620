"""Logging: lines that machines can read, and a reader that stops reading costs lines but never time."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regiondrift import log
from regiondrift.model import Secret

SECRET_OF_NOBODY = "hunter2"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root, hooks = logging.getLogger(), (threading.excepthook, sys.unraisablehook)
    level = root.level
    yield
    for handler in [h for h in root.handlers if isinstance(h, log.Handler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)
    threading.excepthook, sys.unraisablehook = hooks


def said(level: int, message: str, *arguments: object, format: log.Format = "logfmt", **more: Any) -> str:
    """The one line that a record comes to."""
    stream = io.StringIO()
    handler = log.setup("debug", format, stream)
    logging.getLogger("regiondrift.test").log(level, message, *arguments, **more)
    handler.flush()
    assert stream.getvalue().count("\n") == 1
    return stream.getvalue().rstrip("\n")


def test_a_line_of_logfmt() -> None:
    line = said(logging.INFO, "look failed", extra={"fields": {"target": "orders/ymq-1", "reason": "timeout", "n": 3}})
    assert re.fullmatch(
        r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info msg="look failed" target=orders/ymq-1 reason=timeout n=3',
        line,
    )


def test_the_time_is_utc_and_never_rounded_up() -> None:
    record = logging.LogRecord("regiondrift", logging.INFO, "", 0, "x", (), None)
    record.created = 1795503599.9996
    assert log.LogfmtFormatter().format(record).startswith("time=2026-11-24T06:59:59.999Z level=info msg=x")


@pytest.mark.parametrize(
    ("level", "word"),
    [
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (logging.WARNING, "warn"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "error"),
    ],
)
def test_levels_have_the_words_of_the_flag(level: int, word: str) -> None:
    assert f" level={word} " in said(level, "x")


def test_what_is_below_the_level_is_not_said() -> None:
    stream = io.StringIO()
    handler = log.setup("warn", "logfmt", stream)
    logging.getLogger("regiondrift.test").info("quiet")
    logging.getLogger("regiondrift.test").warning("loud")
    handler.flush()
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain-1.2:3/x", "plain-1.2:3/x"),
        ("", '""'),
        ("a b", '"a b"'),
        ('say "no"', r'"say \"no\""'),
        ("C:\\x", r'"C:\\x"'),
        ("two\nlines\r\t", r'"two\nlines\r\t"'),
        ("\x1b[31m\x00", r'"\u001b[31m\u0000"'),
        ("\u202eevil\u2028", r'"\u202eevil\u2028"'),
        ("\ud800", r'"\ud800"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("Zürich", '"Zürich"'),
        (None, "null"),
        (True, "true"),
        (0.25, "0.25"),
        (float("nan"), "nan"),
        (Path("/a b"), '"/a b"'),
        (Secret(SECRET_OF_NOBODY), "***"),
    ],
)
def test_values_cannot_break_out_of_their_line(value: object, written: str) -> None:
    assert said(logging.INFO, "x", extra={"fields": {"key": value}}).endswith(f" key={written}")


def test_keys_cannot_either_nor_take_the_place_of_others() -> None:
    line = said(logging.INFO, "x", extra={"fields": {'a b="c': 1, "level": 2, "": 3}})
    assert line.endswith(" msg=x a_b__c=1 level_=2 _=3")


def test_a_line_of_json() -> None:
    line = said(
        logging.WARNING,
        'two\n"lines" %s',
        "\ud800",
        format="json",
        extra={"fields": {"a": 1, "b": float("inf"), "c": None}},
    )
    found = json.loads(line)
    assert line.isascii()
    assert (found["level"], found["msg"], found["a"], found["b"], found["c"]) == (
        "warn",
        'two\n"lines" \ud800',
        1,
        "inf",
        None,
    )


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_a_traceback_is_one_field_of_the_same_line(format: log.Format) -> None:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        line = said(logging.ERROR, "failed", format=format, exc_info=True)
    assert "ValueError: broken\\nin two" in line
    assert "test_log.py" in line


def test_a_long_value_is_cut_in_the_middle() -> None:
    line = said(logging.INFO, "x", extra={"fields": {"key": "a" * 50_000 + "end"}})
    assert len(line) < log.MAX_VALUE + 200
    assert line.endswith('end"')


def test_arguments_that_do_not_fit_are_said_and_harm_nobody() -> None:
    record = logging.LogRecord("regiondrift", logging.INFO, "", 0, "%d", ("x",), None)
    assert log.LogfmtFormatter().format(record).endswith(' msg="%d (its arguments cannot be shown)"')


def test_a_value_that_cannot_be_shown_harms_nobody() -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError(SECRET_OF_NOBODY)

    line = said(logging.INFO, "x", extra={"fields": {"key": Rude()}})
    assert line.endswith('key="(RuntimeError while showing a Rude)"')


def test_warnings_other_loggers_and_errors_of_threads_go_the_same_way() -> None:
    stream = io.StringIO()
    handler = log.setup("info", "logfmt", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    logging.getLogger("asyncio").error("Task was destroyed")

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    handler.flush()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "old ways" in lines[0]
    assert "logger=py.warnings" in lines[0]
    assert 'msg="Task was destroyed" logger=asyncio' in lines[1]
    assert "thread=worker" in lines[2]
    assert "ValueError: in a thread" in lines[2]


def test_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    log.setup("info", "logfmt", first)
    handler = log.setup("info", "json", second)
    logging.getLogger("regiondrift.test").info("once")
    handler.flush()
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["msg"] == "once"


# ---- a reader that does not read


def test_a_full_pipe_costs_lines_and_no_time_and_is_said_when_it_is_read_again() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, os.fdopen(read, "rb") as reader:
        handler = log.setup("info", "logfmt", stream)
        logger = logging.getLogger("regiondrift.test")
        text = "x" * 200
        began, longest = time.monotonic(), 0.0
        for i in range(log.MAX_LINES * 2):
            before = time.monotonic()
            logger.info("%s %d", text, i)
            longest = max(longest, time.monotonic() - before)
        assert handler.lost > 0
        assert longest < 1.0
        assert time.monotonic() - began < 30.0

        lines: list[bytes] = []
        for line in reader:
            lines.append(line)
            if b"log lines were lost" in line:
                break
        lost = int(re.search(rb"lost=(\d+)", lines[-1])[1])  # type: ignore[index]
        assert b"level=warn" in lines[-1]
        assert len(lines) - 1 + lost == log.MAX_LINES * 2
        assert handler.lost == 0


def test_flush_waits_for_a_reader_but_not_for_long() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "w") as stream:
        handler = log.setup("info", "logfmt", stream)
        for _ in range(100):
            logging.getLogger("regiondrift.test").info("x" * 5000)
        began = time.monotonic()
        handler.flush()
        assert log.FLUSH_WITHIN * 0.9 <= time.monotonic() - began < 2.0
        assert sum(len(reader.readline()) > 5000 for _ in range(100)) == 100


def test_a_reader_that_is_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        handler = log.setup("info", "logfmt", stream)
        logging.getLogger("regiondrift.test").info("to nobody")
        handler.flush()
        assert handler.lost == 1


def test_a_descriptor_that_does_not_block_is_waited_for() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with os.fdopen(write, "w") as stream, os.fdopen(read, "rb") as reader:
        handler = log.setup("info", "logfmt", stream)
        for _ in range(100):
            logging.getLogger("regiondrift.test").info("x" * 5000)
        assert sum(len(reader.readline()) > 5000 for _ in range(100)) == 100
        handler.flush()
        assert handler.lost == 0


PROGRAM = """
import logging, sys
from regiondrift import log
log.setup("info", "logfmt")
for i in range(int(sys.argv[1])):
    logging.getLogger("regiondrift").info("%d %s", i, "x" * 1000)
"""


def test_at_exit_everything_is_written() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "3000"], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 3000


def test_at_exit_nobody_waits_for_a_reader_that_does_not_read() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "1000"], stderr=subprocess.PIPE) as process:
        began = time.monotonic()
        code = process.wait(20)
        took = time.monotonic() - began
        assert process.stderr is not None
        assert b"Fatal" not in process.stderr.read()
    assert code == 0
    assert took < 5.0
