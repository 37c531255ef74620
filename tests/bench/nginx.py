"""What is the fastest that anybody would serve it? nginx, sending files."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import running
from regiondrift.demo.leash import command
from regiondrift.demo.postgres import free_port

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type "text/plain; version=0.0.4; charset=utf-8";
    sendfile on;
    tcp_nopush on;
    gzip_static on;
    keepalive_requests 1000000;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    server {{ listen 127.0.0.1:{port}; root {home}/files; }}
}}
"""


@contextmanager
def nginx(home: Path, plain: bytes, gzip: bytes) -> Iterator[str]:
    """Serves these bytes as ``/metrics``; the address of that. Sends files, as Debian configures it."""
    files = home / "files"
    files.mkdir()
    (files / "metrics").write_bytes(plain)
    (files / "metrics.gz").write_bytes(gzip)
    now = time.time()
    for file in files.iterdir():
        os.utime(file, (now, now))
    port = free_port()
    configuration = home / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_CONFIGURATION.format(home=home, port=port, user=user))
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or "nginx"
    process = subprocess.Popen(command([program, "-p", str(home), "-c", str(configuration)], None))
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        end = time.monotonic() + 10
        while not running.answers(url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("nginx does not answer")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)
