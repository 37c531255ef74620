"""What can be configured? Field types and the field helper of options classes, which are the configuration's schema."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NewType

Duration = NewType("Duration", float)
"""Seconds; written as ``30s``, ``5m``, ``1h30m``. Always positive."""

RegionName = NewType("RegionName", str)
"""Must be one of the document's ``regions``."""

SecretFile = NewType("SecretFile", str)
"""Path of a file that holds a secret. Read at each use, never kept; ``check`` warns where it cannot be read."""


class Secret:
    """Text that is never shown: repr, str, format and pickle give ``***``. Only `reveal` tells.

    Equal secrets compare equal, so that a reload sees what changed.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, ("***",)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


class Conninfo(Secret):
    """A libpq connection string. ``${ENV}`` inside it is replaced by the variable's value, quoted by libpq's rules."""

    __slots__ = ()


def option(help: str, /, *, default: Any = dataclasses.MISSING, example: str | None = None) -> Any:
    """A configurable field: its sentence for the schema and the documentation, and its default if it has one."""
    return dataclasses.field(default=default, metadata={"help": help, "example": example}, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryOptions:
    """What every entry of every collector takes. A collector's options class inherits it and is frozen, too."""

    name: str = option("Name of the entry; the label `link`, `name` or `group` of its series.")
    interval: Duration | None = option("Time between two looks at one target. Default: the collector's.", default=None)
    timeout: Duration | None = option("Deadline of one look at one target. Default: the collector's.", default=None)
