"""How do tests get a real Alertmanager? By hand, in tests/: ``python -m servers.alertmanager CONFIG``."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regiondrift.demo.postgres import free_port
from servers.daemon import Daemon, required

PACKAGE = "prometheus-alertmanager"


@contextmanager
def alertmanager(config: str) -> Iterator[Daemon]:
    """Alertmanager with `config` (YAML), alone: no cluster, no port but its own."""
    program = required("prometheus-alertmanager", PACKAGE)
    with tempfile.TemporaryDirectory(prefix="regiondrift-alertmanager-") as directory:
        home = Path(directory)
        file = home / "alertmanager.yaml"
        file.write_text(config, encoding="utf-8")
        listen = f"127.0.0.1:{free_port()}"
        daemon = Daemon(
            [
                program,
                f"--config.file={file}",
                f"--storage.path={home / 'data'}",
                f"--web.listen-address={listen}",
                "--cluster.listen-address=",
            ],
            f"http://{listen}",
            home,
        )
        try:
            daemon.start("/-/ready")
            yield daemon
        finally:
            daemon.stop()


def amtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run amtool; its verdict is the return code."""
    program = required("amtool", PACKAGE)
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def main() -> None:
    """Until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with alertmanager(Path(sys.argv[1]).read_text(encoding="utf-8")) as running:
        print(f"alertmanager {running.url}\n  log {running.log}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
