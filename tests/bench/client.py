"""How long does an answer take? One client for all servers, a process of its own: ``client.py JOB`` prints JSON.

JOB is JSON: ``urls`` asked in turn (A B A B ...), ``rounds``, ``pause`` between rounds, ``fresh`` connections or kept
ones, ``gzip``. Nothing but bytes is handled, so that the client's own time, which all servers share, is small.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of every answer, in order, and the bytes of the last body."""

    seconds: list[float]
    size: int


def measure(urls: Sequence[str], rounds: int, *, pause: float, fresh: bool, gzip: bool) -> list[Times]:
    """Ask every URL `rounds` times, in turn, from another process."""
    job = {"urls": list(urls), "rounds": rounds, "pause": pause, "fresh": fresh, "gzip": gzip}
    done = subprocess.run([sys.executable, __file__, json.dumps(job)], stdout=subprocess.PIPE, check=True, timeout=900)
    return [Times(**one) for one in json.loads(done.stdout)]


class _Server:
    def __init__(self, url: str, fresh: bool, gzip: bool) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        coding = "Accept-Encoding: gzip\r\n" if gzip else ""
        last = "Connection: close\r\n" if fresh else ""
        self._request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{coding}{last}\r\n".encode()
        self._fresh, self._gzip = fresh, gzip
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(1 << 20))
        self.size = 0

    def ask(self) -> float:
        """Seconds from before connecting or sending until the last byte of the body."""
        began = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._socket
        connection.sendall(self._request)
        read = connection.recv_into(self._buffer)
        end = bytes(self._buffer[:2048]).find(b"\r\n\r\n")
        while end < 0:
            more = connection.recv_into(self._buffer[read:])
            if not more:
                raise ConnectionError("closed within the headers")
            read += more
            end = bytes(self._buffer[:read]).find(b"\r\n\r\n")
        head = bytes(self._buffer[:end]).lower()
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        left = length - (read - end - 4)
        while left:
            got = connection.recv_into(self._buffer)
            if not got:
                raise ConnectionError(f"closed {left} bytes too early")
            left -= got
        took = time.perf_counter() - began
        if b" 200 " not in head.split(b"\r\n")[0] or (b"content-encoding: gzip" in head) != self._gzip:
            raise ValueError(f"not what was asked for: {head!r}")
        self.size = length
        if self._fresh:
            connection.close()
            self._socket = None
        return took


def main() -> None:
    job = json.loads(sys.argv[1])
    servers = [_Server(url, job["fresh"], job["gzip"]) for url in job["urls"]]
    for server in servers:
        for _ in range(3):
            server.ask()
    seconds: list[list[float]] = [[] for _ in servers]
    for _ in range(job["rounds"]):
        for server, its in zip(servers, seconds, strict=True):
            its.append(server.ask())
        time.sleep(job["pause"])
    json.dump([{"seconds": s, "size": server.size} for s, server in zip(seconds, servers, strict=True)], sys.stdout)


if __name__ == "__main__":
    main()
