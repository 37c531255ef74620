"""How do tests break a link? The demo's TCP proxy; by hand: ``python tests/servers/proxy.py HOST:PORT``, modes on stdin."""

from __future__ import annotations

import sys
from typing import cast

from regiondrift.demo.proxy import Mode, Proxy

__all__ = ["Mode", "Proxy"]


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    with Proxy((host, int(port))) as proxy:
        print(f"127.0.0.1:{proxy.port}  (pass, refuse, blackhole or slow RATE)", flush=True)
        for line in sys.stdin:
            mode, _, rate = line.strip().partition(" ")
            proxy.set(cast("Mode", mode), int(rate or 0))


if __name__ == "__main__":
    main()
