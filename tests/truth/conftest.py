"""What do the tests of truth share? Two regions and an exporter, until one of them leaves both in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from truth.claims import AGAIN, healthy, watched
from truth.observer import Observer
from truth.world import world


class Stage:
    """The regions and the exporter, set anew after they were struck."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._seen: Observer | None = None

    def set(self) -> Observer:
        if self._seen is None:
            regions = self._stack.enter_context(world())
            self._seen = self._stack.enter_context(watched(regions))
        return self._seen

    def strike(self) -> None:
        self._seen = None
        self._stack.close()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    one = Stage()
    yield one
    one.strike()


@pytest.fixture
def seen(stage: Stage) -> Iterator[Observer]:
    """The exporter's view of two healthy regions; whatever the test does to them, it never says anything false."""
    one = stage.set()
    healed = False
    try:
        healthy(one, AGAIN)
        yield one
        one.verdict()
        healed = one.last.state(one.world.replica.name) == "streaming"
        print(f"{one.judged} scrapes held against the truth")
    finally:
        if not healed:
            stage.strike()
