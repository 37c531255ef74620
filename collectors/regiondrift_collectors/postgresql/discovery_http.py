"""How is Patroni asked? One GET at each look, of whichever of its members answers first; certificates are verified."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from regiondrift.bulkhead import Bulkhead, BusyError
from regiondrift.model import Kept, Look, ProbeError, Reason, Target
from regiondrift_collectors.postgresql import discovery
from regiondrift_collectors.postgresql.options import Patroni, PatroniAPI

NEXT: Final = 1.0
"""Seconds without an answer after which the next member is asked, too."""
MOST_BYTES: Final = 1 << 20

_files = Bulkhead()
"""For files and getaddrinfo, both of which may hang."""


async def look(target: Target, kept: Kept) -> Look:
    """Ask for the members. The one that answered last is asked first."""
    patroni: Patroni = target.options.patroni
    last = kept.memory.get("answered")
    urls = sorted(patroni.urls, key=lambda url: url != last)
    context, authorization = await _credentials(target.label, patroni.api)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_Resolver(target.label), ssl=context, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        headers={"Accept": "application/json", **authorization},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        url, answer = await _first([(url, _get(session, url)) for url in urls])
    found = discovery.members(answer, patroni)
    kept.memory["answered"] = url
    notes = {
        "scope": found.group,
        "members": str(len(found.members)),
        "leader": discovery.leader(answer),
        "answered by": urlsplit(url).netloc,
    }
    return Look((found,), notes={name: text[:100] for name, text in notes.items() if text})


async def _first(asks: list[tuple[str, Coroutine[Any, Any, Any]]]) -> tuple[str, Any]:
    """The first answer; each is asked as soon as the one before failed or is late.

    Raises:
        ProbeError: none answered. What speaks of more than a member that is down comes first.
    """
    waiting = list(asks)
    asked: dict[asyncio.Task[Any], str] = {}
    running: set[asyncio.Task[Any]] = set()
    failures: list[ProbeError] = []
    try:
        while waiting or running:
            if waiting:
                url, ask = waiting.pop(0)
                task = asyncio.get_running_loop().create_task(ask)
                asked[task] = url
                running.add(task)
            done, running = await asyncio.wait(
                running, timeout=NEXT if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if isinstance(error, ProbeError):
                    failures.append(error)
                elif error is not None:
                    raise error
            if good := [task for task in done if task.exception() is None]:
                return asked[good[0]], good[0].result()
        raise next((e for e in failures if e.failure.reason is not Reason.UNREACHABLE), failures[0])
    finally:
        for _, ask in waiting:
            ask.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    where = urlsplit(url).netloc
    try:
        async with session.get(f"{url.rstrip('/')}/cluster", allow_redirects=False) as response:
            if response.status != 200:
                raise ProbeError(_of_status(response.status), f"{where} answers with status {response.status}")
            body = await _body(response)
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise ProbeError(Reason.TLS, f"{where}: {_words(error)}") from None
    except (aiohttp.ClientConnectionError, OSError) as error:
        raise ProbeError(Reason.UNREACHABLE, f"{where}: {_words(error)}") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise ProbeError(Reason.PROTOCOL, f"{where}: {type(error).__name__}") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ProbeError(Reason.PROTOCOL, f"{where}: the answer is no JSON") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while chunk := await response.content.read(65536):
        body += chunk
        if len(body) > MOST_BYTES:
            raise ProbeError(Reason.PROTOCOL, f"more than {MOST_BYTES >> 20} MiB came where a few lines were asked for")
    return body


def _of_status(status: int) -> Reason:
    if status == 401:
        return Reason.AUTHENTICATION
    if status == 403:
        return Reason.PERMISSION
    if status == 429:
        return Reason.OVERLOADED
    # Patroni's own store does not answer it, or it does not answer its proxy.
    return Reason.UNREACHABLE if status >= 500 else Reason.PROTOCOL


def _words(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    return str(getattr(cause, "strerror", None) or getattr(cause, "verify_message", None) or cause)[:200]


class _Resolver(AbstractResolver):
    """aiohttp's own would use the executor that everybody shares."""

    def __init__(self, label: str) -> None:
        self._label = label

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await _files.run(
                f"name of {self._label} {host}:{port}", socket.getaddrinfo, host, port, family, socket.SOCK_STREAM
            )
        except BusyError:
            raise OSError(None, "the resolver has not answered an earlier question yet") from None
        except UnicodeError:
            raise OSError(None, "not a name that can be resolved") from None
        return [
            ResolveResult(hostname=host, host=str(at[0]), port=int(at[1]), family=kind, proto=proto, flags=0)
            for kind, _, proto, _, at in found
        ]

    async def close(self) -> None:
        """Nothing is kept."""


async def _credentials(label: str, api: PatroniAPI) -> tuple[ssl.SSLContext, dict[str, str]]:
    try:
        return await _files.run(f"files of {label}", _read, api)
    except BusyError:
        raise ProbeError(Reason.AUTHENTICATION, "reading its files has not returned yet") from None


def _read(api: PatroniAPI) -> tuple[ssl.SSLContext, dict[str, str]]:
    """What the files hold now: they are replaced when certificates and passwords are."""
    for file in (api.ca_file, api.cert_file, api.key_file, api.password_file):
        try:
            if file is not None:
                with Path(file).open("rb") as stream:
                    stream.read(1)
        except OSError as error:
            raise ProbeError(Reason.AUTHENTICATION, f"file {file}: {error.strerror}") from None
    try:
        context = ssl.create_default_context(cafile=api.ca_file)
        if api.cert_file is not None:
            # A key that is encrypted is refused: without this, OpenSSL would ask for its password at the terminal.
            context.load_cert_chain(api.cert_file, api.key_file, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ProbeError(
            Reason.TLS, f"certificates cannot be used: {getattr(error, 'reason', None) or error}"
        ) from None
    if api.username is None or api.password_file is None:
        return context, {}
    try:
        password = Path(api.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ProbeError(Reason.AUTHENTICATION, f"password file {api.password_file}: {what}") from None
    return context, {"Authorization": aiohttp.encode_basic_auth(api.username, password)}
