"""The command line: every wrong word is a sentence and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.sample import COLLECTOR, ENTRY, Point, catalog
from regiondrift import __version__
from regiondrift.cli import listen_address, main


def run(*arguments: str, stdout: Any = subprocess.PIPE) -> tuple[int, str, str]:
    """Exit code and output of the program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "regiondrift", *arguments],
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stdout or "", done.stderr


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tests' own collector is installed."""
    monkeypatch.setattr("regiondrift.catalog.Catalog", catalog)


@pytest.fixture
def delegate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[tuple[Any, ...]]]:
    """Puts a recorder in the place of a module's function; its calls are answered with 7."""

    def put(module: str, function: str) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        def record(*arguments: Any) -> int:
            calls.append(arguments)
            return 7

        stand_in = types.ModuleType(f"regiondrift.{module}")
        setattr(stand_in, function, record)
        monkeypatch.setitem(sys.modules, f"regiondrift.{module}", stand_in)
        monkeypatch.setattr(f"regiondrift.{module}", stand_in, raising=False)
        return calls

    return put


# ---- help, version, wrong words


def test_help_names_the_commands() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for command in ("serve", "check", "probe", "demo", "schema"):
        assert f"\n    {command} " in out


def test_help_of_serve_names_its_flags() -> None:
    code, out, _ = run("serve", "--help")
    assert code == 0
    for flag in ("--config.file", "--web.listen-address", "--web.config.file", "--log.level", "--log.format"):
        assert flag in out


def test_version() -> None:
    assert run("--version") == (0, f"regiondrift {__version__}\n", "")


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from regiondrift.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {
        "asyncio",
        "aiohttp",
        "yaml",
        "rich",
        "psycopg",
        "prometheus_client",
        "regiondrift.model",
        "logging",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("frobnicate",), ("serve",), ("serve", "--no.such.flag=1"), ("serve", "--config=x"), ("check",), ("check", "a", "b"),
        ("schema", "tables"), ("serve", "--config.file=x", "--log.level=loud"), ("serve", "--config.file=x", "extra"),
        ("serve", "--config.file=x", "--web.listen-address=127.0.0.1"),
    ],
)  # fmt: skip
def test_wrong_words_end_with_2_and_the_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: regiondrift")
    assert "error: " in said.err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10930", ("", 10930)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("db-1.example_x.org:80", ("db-1.example_x.org", 80)),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1", "has no port"),
        ("", "has no port"),
        ("host:", "has no port"),
        ("nonsense:port", "has no port"),
        ("host:-1", "has no port"),
        ("host:٣", "has no port"),
        ("127.0.0.1:99999", "at most 65535"),
        ("h:" + "9" * 5000, "at most 65535"),
        ("::1:80", "stands in brackets"),
        ("[::g]:80", "no IPv6 address"),
        ("[127.0.0.1]:80", "no IPv6 address"),
        ("http://x:80", "stands in brackets"),
        ("a b:80", "neither a host's name nor an address"),
    ],
)
def test_what_is_no_listen_address(text: str, why: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=why):
        listen_address(text)


# ---- what is handed on


def test_serve_hands_on_the_file_and_the_addresses(delegate: Callable[[str, str], list[tuple[Any, ...]]]) -> None:
    calls, before = delegate("serve", "run"), signal.getsignal(signal.SIGTERM)
    delegate("log", "setup")
    assert main(["serve", "--config.file=a.yaml"]) == 7
    assert (
        main(["serve", "--config.file", "a.yaml", *["--web.listen-address=:1"] * 2, "--web.listen-address=[::1]:2"])
        == 7
    )
    assert calls == [(Path("a.yaml"), [("", 10930)]), (Path("a.yaml"), [("", 1), ("::1", 2)])]
    assert signal.getsignal(signal.SIGTERM) is before


def test_serve_sets_up_the_log_first(delegate: Callable[[str, str], list[tuple[Any, ...]]]) -> None:
    delegate("serve", "run")
    calls = delegate("log", "setup")
    main(["serve", "--config.file=a.yaml"])
    main(["serve", "--config.file=a.yaml", "--log.level=debug", "--log.format=json"])
    assert calls == [("info", "logfmt"), ("debug", "json")]


def test_a_web_configuration_is_refused_and_not_ignored(
    delegate: Callable[[str, str], list[tuple[Any, ...]]], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = delegate("serve", "run")
    assert main(["serve", "--config.file=a.yaml", "--web.config.file=web.yaml"]) == 2
    assert "--web.config.file is not supported by this version" in capsys.readouterr().err
    assert calls == []


def test_sigterm_during_the_start_is_a_stop_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the process then and there; that it does is tried on a real one in tests/faults."""
    ended: list[int] = []
    monkeypatch.setattr("regiondrift.cli.os._exit", ended.append)
    stand_in = types.ModuleType("regiondrift.serve")
    stand_in.run = lambda *_: signal.raise_signal(signal.SIGTERM)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "regiondrift.serve", stand_in)
    monkeypatch.setattr("regiondrift.serve", stand_in, raising=False)
    monkeypatch.setattr("regiondrift.log.setup", lambda *_: None)
    main(["serve", "--config.file=a.yaml"])
    assert ended == [0]


def test_probe_hands_on_the_file_and_the_entry(delegate: Callable[[str, str], list[tuple[Any, ...]]]) -> None:
    calls = delegate("probe", "run")
    assert main(["probe", "a.yaml"]) == 7
    assert main(["probe", "a.yaml", "orders"]) == 7
    assert calls == [(Path("a.yaml"), None), (Path("a.yaml"), "orders")]


def test_demo_gets_all_that_follows(delegate: Callable[[str, str], list[tuple[Any, ...]]]) -> None:
    calls = delegate("demo", "main")
    assert main(["demo"]) == 7
    assert main(["demo", "cut", "--help"]) == 7
    assert calls == [([],), (["cut", "--help"],)]


# ---- check


@pytest.mark.usefixtures("things")
def test_check_of_a_valid_file_counts_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ENTRY)
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr() == (f"{file}: ok, 1 entry, 1 target\n", "")
    file.write_text(
        ENTRY + "  - {name: b, members: [{name: a, region: here}, {name: b, region: there, password_file: none}]}\n"
    )
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr() == (
        f"{file}: ok, 2 entries, 3 targets\n",
        f"{file}:6:90: warning: password_file: the file does not exist\n",
    )


@pytest.mark.usefixtures("things")
def test_check_of_a_file_with_mistakes_names_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ENTRY.replace("here}", "her}") + "    intervall: 5s\n")
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr() == (
        "",
        f"{file}:5:33: region: 'her' is none of the regions, did you mean 'here'?\n"
        f"{file}:6:5: unknown key 'intervall', did you mean 'interval'?\n",
    )


def test_check_of_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/none.yaml"]) == 2
    assert capsys.readouterr().err == "/none.yaml:1:1: cannot be read: No such file or directory\n"


# ---- schema


@pytest.mark.usefixtures("things")
def test_schema_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "thing" in json.loads(capsys.readouterr().out)["properties"]


def test_schema_metrics_prints_every_declared_metric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "regiondrift.catalog.Catalog",
        lambda: catalog(thing=Point(COLLECTOR), other=Point(ImportError("no module named x"))),
    )
    assert main(["schema", "metrics"]) == 0
    said = capsys.readouterr()
    metrics = {m["name"]: m for m in json.loads(said.out)}
    assert metrics["regiondrift_replication_failovers_total"] == {
        "name": "regiondrift_replication_failovers_total",
        "type": "counter",
        "unit": "",
        "labels": ["system", "link"],
        "help": "Times that a node on a newer history became the only one seen accepting writes.",
    }
    assert metrics["regiondrift_replication_state"]["labels"][-1] == "state"
    assert "regiondrift_build_info" in metrics
    assert said.err.startswith("regiondrift: left out: collector other")


# ---- output that goes nowhere


def test_a_full_disk_and_closed_streams_make_no_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        code, _, err = run("schema", stdout=full)
    assert (code, err) == (1, "regiondrift: cannot write: No space left on device\n")
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m regiondrift check /none.yaml >&- 2>&-; echo $?'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_reader_that_goes_away_makes_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "regiondrift", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1
