"""Who is paged? A receiver of Alertmanager's webhooks; by hand: ``python tests/servers/webhook.py [PORT]``."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Page:
    """One alert of one notification."""

    arrived: float
    """Unix time."""
    receiver: str
    """Path that it was posted to, which names the receiver."""
    status: str
    """firing or resolved."""
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]


class Webhook:
    """Keeps every page in the order of arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pages: list[Page] = []
        self._changed = threading.Condition()

    def receive(self, receiver: str, notification: bytes) -> None:
        """Take one notification, a JSON document of Alertmanager's webhook version 4."""
        now = time.time()
        pages = [
            Page(now, receiver, alert["status"], alert["labels"], alert["annotations"])
            for alert in json.loads(notification)["alerts"]
        ]
        with self._changed:
            self._pages += pages
            self._changed.notify_all()

    def pages(self, receiver: str = "/page") -> list[Page]:
        with self._changed:
            return [page for page in self._pages if page.receiver == receiver]

    def wait(self, wanted: Callable[[Page], bool], timeout: float) -> Page | None:
        """The first page that is wanted, as soon as it is there; None after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(wanted, self._pages)), timeout)
            return next(filter(wanted, self._pages), None)

    def follow(self) -> Iterator[Page]:
        """Every page, the next as soon as it is there; without end."""
        for number in itertools.count():
            with self._changed:
                while len(self._pages) <= number:
                    self._changed.wait()
                page = self._pages[number]
            yield page


@contextmanager
def webhook(port: int = 0) -> Iterator[Webhook]:
    """A receiver on loopback; any path is taken and names the receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.receive(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        received = Webhook(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, name="webhook")
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Print every page until Ctrl-C."""
    with webhook(int(sys.argv[1]) if sys.argv[1:] else 0) as received:
        print(received.url, flush=True)
        try:
            for page in received.follow():
                text = page.annotations.get("description", page.annotations.get("summary", ""))
                print(f"{page.receiver} {page.status} {page.name}: {text}", flush=True)
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
