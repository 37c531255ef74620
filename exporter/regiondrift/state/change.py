"""What is to be remembered, and what do two changes in a row come to? Pure; knows nothing of files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_DELETES: Final = 4096
"""Deletes kept of one key while nothing can be written. Beyond it the key's rows in the file are given up as a whole (as
if by `Change.clear`): a disk that is away for days costs remembered rows, not memory, and brings no deleted row back."""

_SMALLEST, _GREATEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Whose memory it is: an entry of the configuration."""

    collector: str
    entry: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that is kept of a key. `rows` stand by rising number."""

    document: str | None = None
    rows: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one key: first `clear`, then `deletes`, then `upserts`.

    Raises:
        ValueError: a number that is no 64-bit integer, or text that is no Unicode (a lone surrogate).
    """

    key: Key
    document: str | None = None
    """None: as it was."""
    upserts: Mapping[int, str] = field(default_factory=dict)
    deletes: Collection[int] = ()
    clear: bool = False
    """Delete all rows of the key first."""

    def __post_init__(self) -> None:
        # One change that can never be written would hold back all others of its transaction.
        for number in self.upserts:
            if not _SMALLEST <= number <= _GREATEST:
                raise ValueError(f"row number {number} does not fit in 64 bits")
        for text in (self.key.collector, self.key.entry, self.document or "", *self.upserts.values()):
            if not text.isascii():
                text.encode()


class _Pending:
    """Changes of one key, merged."""

    __slots__ = ("clear", "deletes", "document", "upserts")

    def __init__(self) -> None:
        self.document: str | None = None
        self.upserts: dict[int, str] = {}
        self.deletes: set[int] = set()
        self.clear = False

    def add(self, change: Change) -> None:
        if change.document is not None:
            self.document = change.document
        if change.clear:
            self.clear = True
            self.upserts.clear()
            self.deletes.clear()
        for number in change.deletes:
            self.upserts.pop(number, None)
        if not self.clear:
            self.deletes.update(change.deletes)
        self.upserts.update(change.upserts)

    def bound(self) -> None:
        if len(self.deletes) > MAX_DELETES:
            self.clear = True
            self.deletes.clear()

    def over(self, remembered: Remembered) -> Remembered:
        rows = {} if self.clear else dict(remembered.rows)
        for number in self.deletes:
            rows.pop(number, None)
        rows.update(self.upserts)
        return Remembered(remembered.document if self.document is None else self.document, tuple(sorted(rows.items())))


class Backlog:
    """Changes that wait, at most one per key: the later document wins, upserts and deletes merge in order."""

    def __init__(self) -> None:
        self._keys: dict[Key, _Pending] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> frozenset[Key]:
        return frozenset(self._keys)

    def add(self, change: Change, *, bounded: bool = False) -> None:
        """`bounded`: nothing is being written; see `MAX_DELETES`."""
        pending = self._keys.get(change.key)
        if pending is None:
            pending = self._keys[change.key] = _Pending()
        pending.add(change)
        if bounded:
            pending.bound()

    def changes(self) -> tuple[Change, ...]:
        """What waits, without taking it away."""
        return tuple([Change(key, p.document, p.upserts, p.deletes, p.clear) for key, p in self._keys.items()])

    def clear(self) -> None:
        self._keys.clear()

    def over(self, key: Key, remembered: Remembered) -> Remembered:
        """What `remembered` will be once this is written."""
        pending = self._keys.get(key)
        return remembered if pending is None else pending.over(remembered)
