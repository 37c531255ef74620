"""When did the source hold what? The position samples of one history, in bounded memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import MutableSequence
from typing import Any, Final

from regiondrift.model import Moment, Position

CAPACITY: Final = 4000
"""Samples kept per link. Seven days of a 5 s interval fit with an uncertainty of less than 1 % of the age."""
_PRUNED: Final = CAPACITY // 8


class Timeline:
    """Samples of a source's position, oldest first.

    Sample i says: everything committed by `asked[i]` is at or below `positions[i]`, and at `answered[i]` the source
    already held `positions[i]`. While the position stands still one sample serves: its `asked` moves on, its `answered`
    stays the first. Positions only grow, so what a replica covers is always a prefix, for partial orders too.

    Between samples i and i+1 the truth is uncertain by ``answered[i+1] - asked[i]``. When memory runs out, those
    samples go whose loss widens an uncertainty least, measured against its age.
    """

    def __init__(self) -> None:
        self.asked: array[float] = array("d")
        self.answered: array[float] = array("d")
        self.positions: MutableSequence[Any] = array("Q")
        self.numbers: array[int] = array("q")
        """Row numbers in the state file, rising."""
        self.changed: set[int] = set()
        self.removed: set[int] = set()
        self._next = 0

    def __len__(self) -> int:
        return len(self.asked)

    def skip(self, other: Timeline) -> None:
        """Begin with row numbers that `other` has not used."""
        self._next = other._next

    def add(self, asked: float, answered: float, position: Position) -> bool:
        """Note that the source, asked at `asked`, said `position` at `answered`.

        A position that is not at or above the newest sample voids the samples above it: the source lost them. Then the
        answer is True.
        """
        lost = len(self) > 0 and not self.positions[-1] <= position
        while len(self) and not self.positions[-1] <= position:
            self._remove(len(self) - 1)
        if len(self) and position <= self.positions[-1]:
            self.asked[-1] = max(asked, self.asked[-1])
            self.changed.add(self.numbers[-1])
            return lost
        self.restore(self._next, asked, answered, position)
        self.changed.add(self.numbers[-1])
        if len(self) > CAPACITY:
            self._prune(answered)
        return lost

    def restore(self, number: int, asked: float, answered: float, position: Position) -> None:
        """Append a sample as the state file had it."""
        if not len(self) and not isinstance(position, int):
            self.positions = []
        self.asked.append(asked)
        self.answered.append(answered)
        self.positions.append(position)
        self.numbers.append(number)
        self._next = number + 1

    def covered(self, position: Position) -> int:
        """How many samples, from the oldest on, a replica at `position` covers."""
        if isinstance(self.positions, array):
            return bisect_right(self.positions, position)
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.positions[middle] <= position:
                low = middle + 1
            else:
                high = middle
        return low

    def recovery_point(self, position: Position, look: float) -> Moment | None:
        """The latest moment not after `look` by which everything committed is proven to be at or below `position`.

        A covered sample taken after the look proves the look itself: what was committed by then is below it, too.
        """
        n = self.covered(position)
        return Moment(min(self.asked[n - 1], look)) if n else None

    def behind_since(self, position: Position, look: float) -> Moment | None:
        """The earliest known moment at which the source held more than `position`, if it did so before `look`."""
        n = self.covered(position)
        return Moment(self.answered[n]) if n < len(self) and self.answered[n] <= look else None

    def touch(self) -> None:
        """Count every row as changed."""
        self.changed.update(self.numbers)

    def take_changes(self) -> tuple[dict[int, tuple[float, float, Any]], set[int]]:
        """Rows changed (number -> asked, answered, position) and removed since the last call."""
        if not self.changed and not self.removed:
            return {}, set()
        rows = {}
        first = min(self.changed, default=0)
        for i in range(len(self) - 1, -1, -1):
            if self.numbers[i] < first:
                break
            if self.numbers[i] in self.changed:
                rows[self.numbers[i]] = (self.asked[i], self.answered[i], self.positions[i])
        removed, self.changed, self.removed = self.removed, set(), set()
        return rows, removed

    def _remove(self, i: int) -> None:
        self.removed.add(self.numbers[i])
        self.changed.discard(self.numbers[i])
        del self.asked[i], self.answered[i], self.positions[i], self.numbers[i]

    def _prune(self, now: float) -> None:
        asked, answered = self.asked, self.answered
        costs = sorted(
            ((answered[i + 1] - asked[i - 1]) / (now - asked[i - 1] + 1e-9), i) for i in range(1, len(self) - 1)
        )
        gone: set[int] = set()
        for _, i in costs:
            # Of two neighbours only one, since the loss of the other has grown by then.
            if i - 1 not in gone and i + 1 not in gone:
                gone.add(i)
                if len(gone) == _PRUNED:
                    break
        kept = [i for i in range(len(self)) if i not in gone]
        for i in gone:
            self.removed.add(self.numbers[i])
            self.changed.discard(self.numbers[i])
        self.asked = array("d", [asked[i] for i in kept])
        self.answered = array("d", [answered[i] for i in kept])
        self.numbers = array("q", [self.numbers[i] for i in kept])
        positions = [self.positions[i] for i in kept]
        self.positions = array("Q", positions) if isinstance(self.positions, array) else positions
