"""Are the goals met? Measures them, prints the table and writes it into README.md: ``run.py [NAME...]``."""

from __future__ import annotations

import datetime
import importlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[0] = str(HERE.parent)

from bench.result import Result, table  # noqa: E402  after the path that it is found on

BENCHMARKS = ("scrape", "stall", "links", "peer", "fleet", "start")
README = HERE / "README.md"
BEGIN, END = "<!-- results of {} -->\n", "<!-- end of {} -->\n"


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    missed = 0
    for name in names or BENCHMARKS:
        results: list[Result] = []
        for result in importlib.import_module(f"bench.{name}").run():
            results.append(result)
            print(f"{name}: {' | '.join(cell for cell in result.cells() if cell)}", file=sys.stderr, flush=True)
        missed += sum(result.met is False for result in results)
        print(f"\n{table(results)}\n", flush=True)
        _write(name, results)
    return 1 if missed else 0


def _write(name: str, results: list[Result]) -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN.format(name))
    _, _, after = rest.partition(END.format(name))
    made = f"{BEGIN.format(name)}\n{_conditions()}\n\n{table(results)}\n\n{END.format(name)}"
    README.write_text(before + made + after, encoding="utf-8")


def _conditions() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = int(next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) / 1e6
    packages = ", ".join(f"{name} {version(name)}" for name in ("regiondrift", "aiohttp", "psycopg"))
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr if nginx else ""
    peer = said.strip().rpartition("/")[2]
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, {len(os.sched_getaffinity(0))} cores ({model}), {memory:.0f} GB, Linux {platform.release()}, "
        f"load {os.getloadavg()[1]:.1f}; Python {platform.python_version()}, {packages}"
        f"{f', nginx {peer}' if peer else ''}."
    )


def _lines(file: str) -> list[str]:
    return Path(file).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
