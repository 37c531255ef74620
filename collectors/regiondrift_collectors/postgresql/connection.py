"""How is a server asked? One kept libpq connection per node, driven by the event loop, gone as soon as it is cancelled."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import importlib
import ipaddress
import os
import socket
import sys
import termios
from collections.abc import Sequence
from typing import Final, TypeAlias

from psycopg import conninfo as libpq_conninfo
from psycopg import pq
from psycopg.errors import OperationalError, ProgrammingError
from psycopg.pq.misc import find_libpq_full_path

from regiondrift.bulkhead import Bulkhead, BusyError
from regiondrift.model import ProbeError, Reason
from regiondrift_collectors.postgresql import failures
from regiondrift_collectors.postgresql.options import Node

_VERBOSE: Final = 2
"""PQERRORS_VERBOSE of libpq-fe.h."""

MOST_BYTES: Final = 1 << 20
"""Of one connecting or one answer; ours take a few thousand. libpq would gather all that comes until the deadline."""

_SESSION: Final = {
    "default_transaction_read_only": "on",
    "lock_timeout": "1s",
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "extra_float_digits": "1",
}
_GO_DIRECTLY: Final = "give the address of PostgreSQL itself in conninfo"

_names = Bulkhead()
"""For getaddrinfo: libpq would resolve on the event loop, and the default executor is everybody's."""


Rows: TypeAlias = Sequence[Sequence[str | None]]


class Connection:
    """A connection that can be asked one statement at a time. Cancelling a call leaves it unusable: close it."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn
        self._arrived = 0
        self._heard = False

    @property
    def server_version(self) -> int:
        """As ``server_version_num``: 180006."""
        return self._pgconn.server_version

    @property
    def database(self) -> str:
        """The one that it is connected to."""
        return self._pgconn.db.decode("utf-8", "replace")

    @property
    def usable(self) -> bool:
        return bool(self._pgconn.status == pq.ConnStatus.OK)

    def close(self) -> None:
        """Close the socket. Sends at most a goodbye and waits for nothing."""
        self._pgconn.finish()

    async def ask(self, statement: bytes) -> tuple[list[Rows], ProbeError | None]:
        """The rows of every statement in `statement`, in one round trip. One that the server refuses ends the answer:
        then the error is that of the first statement that has no rows.

        Raises:
            ProbeError: the server is gone, or what it says cannot be understood.
        """
        pgconn = self._pgconn
        self._arrived = 0
        results: list[Rows] = []
        refused: ProbeError | None = None
        try:
            pgconn.send_query(statement)
            while pgconn.flush():
                await _ready(pgconn.socket, True)
            while (result := await self._next_result()) is not None:
                if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
                    state = result.error_field(pq.DiagnosticField.SQLSTATE)
                    words = result.error_message.decode("utf-8", "replace")
                    refused = failures.in_query(state.decode() if state else None, words)
                elif result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                    raise ProbeError(Reason.PROTOCOL, "the server wants to copy")
                else:
                    results.append(_rows(result))
        except (OperationalError, ProgrammingError, OSError) as error:
            raise failures.in_query(None, str(error)) from None
        if refused is not None and not self.usable:
            raise refused
        return results, refused

    async def _establish(self) -> None:
        while (step := self._pgconn.connect_poll()) != pq.PollingStatus.OK:
            if step == pq.PollingStatus.FAILED:
                raise failures.at_connect(_message(self._pgconn))
            if step == pq.PollingStatus.WRITING:
                await _ready(self._pgconn.socket, True)
            else:
                await self._readable()
                self._hear()

    def _hear(self) -> None:
        """Is the first word one of PostgreSQL's? Its S, for encryption, stands alone. Of ``SSH-2.0`` and the like libpq
        takes the first letter for that, and waits for the rest of a handshake until the deadline."""
        if not self._heard:
            self._heard = True
            with socket.socket(fileno=os.dup(self._pgconn.socket)) as peek:
                first = peek.recv(8, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if first.startswith(b"S") and len(first) > 1:
                raise ProbeError(Reason.PROTOCOL, f"the server begins with {first!r}")

    async def _settle_in(self, statement_timeout: float) -> None:
        """Make the session read-only and impatient, unless there is no session: a pooler lends others' for one statement,
        and would pass on to them what we set. It is told by the process that answers, which is not the one it named."""
        pgconn = self._pgconn
        if (pgconn.parameter_status(b"server_version") or b"").endswith(b"bouncer"):
            raise ProbeError(Reason.PROTOCOL, f"this is PgBouncer's own console: {_GO_DIRECTLY}")
        settings = {**_SESSION, "statement_timeout": f"{max(int(statement_timeout * 1000), 1)}ms"}
        calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
        itself = f"pg_backend_pid() = {pgconn.backend_pid}"
        results, refused = await self.ask(
            f"SELECT pg_backend_pid(), CASE WHEN {itself} THEN concat({calls}) END".encode()
        )
        if refused is not None:
            raise refused
        if not results or not results[0] or results[0][0][:1] != [str(pgconn.backend_pid)]:
            raise ProbeError(Reason.PROTOCOL, f"a pooler such as PgBouncer answers for the server: {_GO_DIRECTLY}")

    async def _readable(self) -> None:
        """Until there is something to read; what waits to be read counts."""
        descriptor = self._pgconn.socket
        await _ready(descriptor, False)
        self._arrived += int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
        if self._arrived > MOST_BYTES:
            raise ProbeError(Reason.PROTOCOL, f"more than {MOST_BYTES >> 20} MiB came where a few lines were asked for")

    async def _next_result(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            await self._readable()
            self._pgconn.consume_input()
        return self._pgconn.get_result()


def _rows(result: pq.abc.PGresult) -> Rows:
    columns = range(result.nfields)
    return [
        [None if (v := result.get_value(i, c)) is None else v.decode("utf-8", "replace") for c in columns]
        for i in range(result.ntuples)
    ]


async def connect(node: Node, statement_timeout: float) -> Connection:
    """A new connection to `node`: password file read, names resolved off the loop, session made read-only.

    Raises:
        ProbeError: classified by what the server or libpq said.
    """
    pgconn = pq.PGconn.connect_start(await _parameters(node))
    connection = Connection(pgconn)
    try:
        if pgconn.status == pq.ConnStatus.BAD:
            raise failures.at_connect(_message(pgconn))
        _be_verbose(pgconn)
        await connection._establish()
        # Not before: it would clear the name of the host from what libpq has to say.
        pgconn.nonblocking = 1
        await connection._settle_in(statement_timeout)
    except OSError as error:
        connection.close()
        raise ProbeError(Reason.UNREACHABLE, error.strerror or str(error)) from None
    except BaseException:
        connection.close()
        raise
    return connection


async def _ready(descriptor: int, write: bool) -> None:
    """Until the socket can be written to, or read from."""
    if descriptor < 0:
        raise ProbeError(Reason.UNREACHABLE, "the connection is closed")
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    (loop.add_writer if write else loop.add_reader)(descriptor, wake)
    try:
        await ready
    finally:
        (loop.remove_writer if write else loop.remove_reader)(descriptor)


async def _parameters(node: Node) -> bytes:
    try:
        given = {k: str(v) for k, v in libpq_conninfo.conninfo_to_dict(node.conninfo.reveal()).items() if v is not None}
    except ProgrammingError:
        # The message quotes the string, and with it a password.
        raise ProbeError(Reason.PROTOCOL, "the connection string cannot be read") from None
    if node.password_file is not None:
        given["password"] = await _secret(node)
    defaults = {
        "application_name": "regiondrift",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "15000",
        # A credential cache must not be searched on the event loop for every server without Kerberos.
        "gssencmode": "disable",
    }
    given = {**defaults, **given}
    if not given.get("host") and not given.get("hostaddr"):
        # What libpq takes from elsewhere it would resolve itself, on the event loop.
        if given.get("service") or os.environ.get("PGSERVICE"):
            raise ProbeError(Reason.PROTOCOL, "the host of a service file is not used: name host and port in conninfo")
        given["host"] = os.environ.get("PGHOST", "")
    if "hostaddr" not in given and given["host"]:
        given = await _resolved(node, given)
    return libpq_conninfo.make_conninfo("", **given).encode()


def files(node: Node) -> tuple[str, ...]:
    """The files whose content decides whether `node` lets us in."""
    try:
        given = libpq_conninfo.conninfo_to_dict(node.conninfo.reveal())
    except ProgrammingError:
        given = {}
    named = [given.get(k) for k in ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl")]
    return tuple(str(f) for f in (node.password_file, *named) if f and f != "system")


async def _secret(node: Node) -> str:
    path = str(node.password_file)
    try:
        # A key of its own for each node: what many share would be busy with one while the others ask.
        text = await _names.run(f"password of {hash(node)}", _read, path)
    except BusyError:
        raise ProbeError(Reason.AUTHENTICATION, f"reading {path} has not returned yet") from None
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ProbeError(Reason.AUTHENTICATION, f"password file {path}: {what}") from None
    return text.rstrip("\r\n")


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as f:  # noqa: PTH123  a path from the configuration, read whole
        return f.read(65536)


async def _resolved(node: Node, given: dict[str, str]) -> dict[str, str]:
    """The parameters with an address for every host name, so that libpq need not resolve."""
    hosts = given["host"].split(",")
    if any(h.startswith(("/", "@")) for h in hosts):
        return given
    ports = (given.get("port") or os.environ.get("PGPORT") or "5432").split(",")
    out: list[tuple[str, str, str]] = []
    for i, host in enumerate(hosts):
        port = ports[i] if len(ports) > 1 and i < len(ports) else ports[0]
        out += [(host, address, port) for address in await _addresses(node, host)]
    return {
        **given,
        "host": ",".join(h for h, _, _ in out),
        "hostaddr": ",".join(a for _, a, _ in out),
        "port": ",".join(p for _, _, p in out),
    }


async def _addresses(node: Node, host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = await _names.run(f"name {hash(node)} {host}", socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM)
    except BusyError:
        raise ProbeError(
            Reason.UNREACHABLE, f"name {host}: the resolver has not answered an earlier question yet"
        ) from None
    except (OSError, UnicodeError) as error:
        raise ProbeError(Reason.UNREACHABLE, f"name {host}: {getattr(error, 'strerror', None) or error}") from None
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _message(pgconn: pq.abc.PGconn) -> str:
    return pgconn.error_message.decode("utf-8", "replace")


def _be_verbose(pgconn: pq.abc.PGconn) -> None:
    """Have libpq tell the SQLSTATE of a refused connection, which psycopg has no call for (PQsetErrorVerbosity)."""
    _set_verbosity(pgconn.pgconn_ptr, _VERBOSE)  # type: ignore[attr-defined]  # every implementation has it


def _libpq() -> ctypes.CDLL:
    """The libpq that psycopg has loaded, found through the module that links it."""
    if pq.__impl__ == "python":
        return ctypes.CDLL(find_libpq_full_path())
    module = importlib.import_module("psycopg_binary._psycopg" if pq.__impl__ == "binary" else "psycopg_c._psycopg")
    return ctypes.CDLL(module.__file__)


_set_verbosity = _libpq().PQsetErrorVerbosity
_set_verbosity.argtypes, _set_verbosity.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
