"""What is at stake in the demo? A shop that takes a few orders a second, wherever the primary is."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any, Final

from regiondrift.demo.postgres import Server

PER_SECOND: Final = 4
TABLE: Final = "CREATE TABLE orders (id bigserial PRIMARY KEY, placed timestamptz DEFAULT now(), amount numeric(8,2))"


class Writer:
    """Writes orders to `primary()`, which may change; what fails is tried again, as an application would."""

    def __init__(self, primary: Callable[[], Server]) -> None:
        self._primary = primary
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(2)

    def _run(self) -> None:
        import psycopg

        connection: psycopg.Connection[Any] | None = None
        server: Server | None = None
        while not self._ended.wait(1 / PER_SECOND):
            try:
                if connection is None or server is not self._primary():
                    if connection:
                        connection.close()
                    server = self._primary()
                    connection = server.connect("shop")
                connection.execute("INSERT INTO orders (amount) VALUES (%s)", [round(random.uniform(5, 500), 2)])
            except psycopg.Error:
                with contextlib.suppress(psycopg.Error):
                    if connection:
                        connection.close()
                connection = None
        if connection:
            connection.close()
