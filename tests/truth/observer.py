"""Who scrapes? A thread beside the test that holds every scrape against the truth, whatever the test is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from truth import judge
from truth.exporter import INTERVAL, Exporter, Scrape
from truth.judge import Case
from truth.world import World

EVERY = 0.3
SOON = 3 * INTERVAL
"""What a probe sees is exported within three intervals."""
GRACE = 1.0
"""For our own scrapes, three a second, and what lies between two looks of ours at the truth."""


class Observer:
    """Scrapes one exporter, about three times a second, for as long as it runs."""

    def __init__(self, world: World, exporter: Exporter) -> None:
        self.world, self.exporter = world, exporter
        self.lies: dict[str, str] = {}
        """Each with what else the scrape said; told once per kind."""
        self.judged = 0
        self._scrapes: list[Scrape] = []
        self._new = threading.Condition()
        self._failure: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the exporter, and scrape it."""
        self.exporter.start()
        self._scrapes = []
        self._scrape_on()

    def kill(self) -> None:
        """kill -9 the exporter."""
        self._rest()
        self.exporter.kill()

    def freeze(self, seconds: float) -> None:
        """Stop the exporter as it stands, and let it go on after a while."""
        self._rest()
        self.exporter.freeze()
        time.sleep(seconds)
        self.exporter.thaw()
        self._scrape_on()

    def _rest(self) -> None:
        self._closed = True
        if self._thread is not None:
            self._thread.join()

    def _scrape_on(self) -> None:
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed:
                began = time.monotonic()
                scrape = self.exporter.scrape()
                before = judge.digested(self._scrapes)
                for lie in judge.lies(Case(self.world, scrape, before)):
                    self.lies.setdefault(
                        "".join(c for c in lie if not c.isdigit()), f"{lie}\n    said: {scrape.told()}"
                    )
                with self._new:
                    self._scrapes.append(scrape)
                    self.judged += 1
                    self._new.notify_all()
                time.sleep(max(0.05, EVERY - (time.monotonic() - began)))
        except BaseException as error:  # noqa: BLE001  raised in the test's own thread
            with self._new:
                self._failure = error
                self._new.notify_all()

    # ---- for the test

    @property
    def last(self) -> Scrape:
        return self.until("an exposition", lambda s: True)

    def until(self, what: str, holds: Callable[[Scrape], bool], within: float = SOON) -> Scrape:
        """The first scrape from now on of which `holds` is true.

        Raises:
            AssertionError: a miss: there was none in time.
        """
        begin, number = time.monotonic(), self.judged
        with self._new:
            while True:
                if self._failure is not None:
                    raise self._failure
                if self.judged > number:
                    number = self.judged
                    if holds(self._scrapes[-1]):
                        return self._scrapes[-1]
                    took = time.monotonic() - begin
                    if took > within + GRACE + self.world.noise():
                        raise AssertionError(
                            f"missed: {what}, not said within {took:.1f} s\n    said: {self._scrapes[-1].told()}\n"
                            + self._told()
                        )
                self._new.wait(5)

    def watch(self, seconds: float) -> list[Scrape]:
        """Everything that is said in the next `seconds`."""
        begin = len(self._scrapes)
        time.sleep(seconds)
        if self._failure is not None:
            raise self._failure
        return self._scrapes[begin:]

    def verdict(self) -> None:
        """
        Raises:
            AssertionError: something false was said.
        """
        assert not self.lies, self._told()

    def _told(self) -> str:
        lies = "\n".join(f"lie: {lie}" for lie in self.lies.values())
        return f"{lies}\nits log ends:\n{self.exporter.log[-2000:]}"
