"""What does it cost to be there? Memory with one link, the time of --help, the time until ready."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from bench import running
from bench.result import Result, median
from servers.postgresql import pair

REPEATS = 9


def run() -> Iterator[Result]:
    yield Result(
        "`regiondrift --help`, wall clock",
        f"median of {REPEATS}",
        median([_help() for _ in range(REPEATS)]),
        150.0,
        " ms",
    )
    with pair() as servers:
        addresses = [server.conninfo() for server in servers.servers]
        ready = []
        for _ in range(REPEATS):
            with running.exporter(_document(addresses, 5), site=False) as served:
                ready.append(served.ready_after)
        yield Result(
            "ready with 10 targets (5 links of 2 PostgreSQL servers)",
            f"from exec to 200 of /-/ready, median of {REPEATS}",
            median(ready),
            1.0,
            " s",
        )
        with running.exporter(_document(addresses, 1), site=False) as served:
            for _ in range(20):
                running.get(served.url + "/metrics", gzip=True)
                time.sleep(1.5)
            memory, most = running.resident(served.pid), running.peak(served.pid)
        yield Result(
            "memory with one link of two PostgreSQL servers",
            f"after 30 s of probes and scrapes; at most {most:.1f} MB",
            memory,
            60.0,
            " MB",
        )


def _help() -> float:
    began = time.perf_counter()
    subprocess.run([running.PROGRAM, "--help"], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


def _document(addresses: list[str], links: int) -> str:
    lines = ["version: 1", "regions: [montreal, amsterdam]", "objectives: {recovery_point: 30s}", "postgresql:"]
    lines[3:3] = ["state_dir: {home}/state"]
    for i in range(links):
        lines += [f"  - name: orders-{i}", "    interval: 5s", "    nodes:"]
        for name, address in zip(("montreal", "amsterdam"), addresses, strict=True):
            lines.append(f"      - {{name: {name}, region: {name}, conninfo: '{address}'}}")
    return "\n".join([*lines, ""])
