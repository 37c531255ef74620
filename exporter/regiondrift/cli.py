"""What can be asked on the command line? Flags and exit codes; each command imports what it needs, so that --help is quick."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence

DEFAULT_PORT = 10930
LOG_LEVELS = ("debug", "info", "warn", "error")

OK, FAILED, REFUSED = 0, 1, 2
"""Exit codes. REFUSED: what was asked for, or the configuration, is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else OK if ended.code is None else FAILED
    except KeyboardInterrupt:
        return OK if arguments[:1] == ["serve"] else 128 + signal.SIGINT
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        if error.errno == errno.ENOSPC:
            sys.stderr.write(f"regiondrift: cannot write: {error.strerror}\n")
        # The interpreter flushes once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    return code


def _open_closed_streams() -> None:
    """Where the shell closed them (``>&-``), what is written goes nowhere instead of being an error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  kept open, and quick


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["demo"]:
        from regiondrift import demo

        return demo.main(arguments[1:])
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.error("a command is needed")
    if chosen.command == "serve":
        return _serve(chosen)
    if chosen.command == "check":
        return _check(chosen.file)
    if chosen.command == "probe":
        from pathlib import Path

        from regiondrift import probe

        return probe.run(Path(chosen.file), chosen.entry)
    return _schema_of_metrics() if chosen.what == "metrics" else _schema()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="regiondrift",
        description="A Prometheus exporter for the space between regions: recovery point, recovery time, parity.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the exporter", allow_abbrev=False)
    serve.add_argument("--config.file", dest="config_file", metavar="FILE", required=True, help="the configuration")
    serve.add_argument(
        "--web.listen-address",
        dest="listen",
        metavar="ADDRESS",
        action="append",
        type=listen_address,
        help=f"HOST:PORT, :PORT or [IPv6]:PORT; may be repeated (default: :{DEFAULT_PORT})",
    )
    serve.add_argument(
        "--web.config.file", dest="web_config_file", metavar="FILE", help="TLS and authentication; not supported yet"
    )
    serve.add_argument("--log.level", dest="log_level", choices=LOG_LEVELS, default="info", help="(default: info)")
    serve.add_argument(
        "--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt", help="(default: logfmt)"
    )

    check = commands.add_parser("check", help="say whether a configuration is valid", allow_abbrev=False)
    check.add_argument("file", metavar="FILE")

    probe = commands.add_parser("probe", help="look once and print a table", allow_abbrev=False)
    probe.add_argument("file", metavar="FILE")
    probe.add_argument("entry", metavar="ENTRY", nargs="?", help="only this entry of the configuration")

    commands.add_parser("demo", help="two regions on this machine, to be broken and healed at will", add_help=False)

    schema = commands.add_parser(
        "schema", help="print the JSON Schema of the configuration, or every metric", allow_abbrev=False
    )
    schema.add_argument("what", metavar="metrics", nargs="?", choices=("metrics",), help="print the metrics instead")
    return parser


class _Version(argparse.Action):
    """Prints the version, imported only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from regiondrift import __version__

        sys.stdout.write(f"regiondrift {__version__}\n")
        parser.exit()


def listen_address(text: str) -> tuple[str, int]:
    """Host and port; the host of ``:PORT`` is empty and means every address.

    Raises:
        argparse.ArgumentTypeError: with what is wrong with it.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} has no port; write HOST:PORT, :PORT or [IPv6]:PORT")
    if len(port) > 5 or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a port is at most 65535")
    if host.startswith("[") and host.endswith("]"):
        import ipaddress

        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: what stands in brackets is no IPv6 address") from None
    if ":" in host:
        raise argparse.ArgumentTypeError(f"{text!r}: an IPv6 address stands in brackets, as in [::1]:{DEFAULT_PORT}")
    if host and not all(c.isalnum() or c in "-._" for c in host):
        raise argparse.ArgumentTypeError(f"{text!r}: {host!r} is neither a host's name nor an address")
    return host, int(port)


def _serve(chosen: argparse.Namespace) -> int:
    if chosen.web_config_file:
        sys.stderr.write(
            "regiondrift: --web.config.file is not supported by this version: TLS and authentication come later\n"
        )
        return REFUSED
    # A stop that comes while modules are still being imported is a stop like any other; a reload has nothing to do yet.
    before = signal.signal(signal.SIGTERM, _end), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        from pathlib import Path

        from regiondrift import log, serve

        log.setup(chosen.log_level, chosen.log_format)
        listen = list(dict.fromkeys(chosen.listen or [("", DEFAULT_PORT)]))
        return serve.run(Path(chosen.config_file), listen)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


def _end(*_: object) -> None:
    # Nothing is running yet. An exception could come up inside an import, which may make another one of it.
    os._exit(OK)


def _check(file: str) -> int:
    from pathlib import Path

    from regiondrift.catalog import Catalog
    from regiondrift.config import ConfigurationError, load

    try:
        configuration = load(Path(file), Catalog())
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    for w in configuration.warnings:
        sys.stderr.write(f"{w.file}:{w.line}:{w.column}: warning: {w.message}\n")
    shown = os.fsencode(file).decode(errors="backslashreplace")
    entries, targets = len(configuration.plans), sum(len(plan.targets) for plan in configuration.plans)
    sys.stdout.write(f"{shown}: ok, {_count(entries, 'entry', 'entries')}, {_count(targets, 'target', 'targets')}\n")
    return OK


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _schema() -> int:
    import json

    from regiondrift.catalog import Catalog
    from regiondrift.config import schema

    sys.stdout.write(json.dumps(schema(Catalog()), indent=2) + "\n")
    return OK


def _schema_of_metrics() -> int:
    import json

    from regiondrift.catalog import Catalog, CatalogError
    from regiondrift.model.replication import REPLICATION
    from regiondrift.self_metrics import SELF

    catalog = Catalog()
    metrics = [*SELF, *REPLICATION]
    for name in catalog.names():
        try:
            metrics += catalog.load(name).metrics
        except CatalogError as error:
            sys.stderr.write(f"regiondrift: left out: {error}\n")
    declared = [
        {"name": m.name, "type": m.kind.value, "unit": m.unit, "labels": list(m.labels), "help": m.help}
        for m in {m.name: m for m in metrics}.values()
    ]
    sys.stdout.write(json.dumps(declared, indent=2) + "\n")
    return OK
