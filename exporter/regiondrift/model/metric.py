"""What may be said, and how is it said? A metric is declared once, as data, and called to make a sample."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

FORBIDDEN_LABELS: Final = frozenset({"region", "cluster", "zone", "env", "service", "job", "instance", "dc", "az"})
"""Names that scrape configurations set; Prometheus would rename ours to ``exported_…``."""

UNITS: Final = frozenset({"seconds", "timestamp_seconds", "bytes", "ratio", "info", ""})
MAX_LABEL_BYTES: Final = 1024

_NAME = re.compile(r"regiondrift_[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_NOT_A_BASE_UNIT = re.compile(r"_(ms|milliseconds|minutes|hours|days|kb|kilobytes|mb|megabytes|percent)(_total)?$")


class Kind(Enum):
    """The Prometheus type of a family."""

    GAUGE = "gauge"
    COUNTER = "counter"


class Moment(float):
    """A point in time on the exporter's own clock (see `regiondrift.clock`).

    It becomes Unix time only where bytes are made, so that a step of the wall clock moves all of them together.
    Times named by another system are plain floats, in Unix time already.
    """

    __slots__ = ()


class RefusedValueError(ValueError):
    """A sample that its declaration does not allow: wrong labels, or a value that is no finite number."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """The declaration of one family. Calling it makes a `Sample`.

    `unit` is the base unit that the name must end with (before ``_total``); `states` closes the values of the last
    label: exactly one of them is 1.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    kind: Kind = Kind.GAUGE
    states: tuple[str, ...] = ()
    _label_set: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise TypeError(f"metric {self.name!r}: {problem}")
        object.__setattr__(self, "_label_set", frozenset(self.labels))

    def _problem(self) -> str | None:
        base = self.name.removesuffix("_total")
        if not _NAME.fullmatch(self.name):
            return "the name is not regiondrift_ and snake_case"
        if (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            return "counters, and only counters, end in _total"
        if self.unit not in UNITS:
            return f"{self.unit!r} is not a base unit"
        if self.unit and not base.endswith("_" + self.unit):
            return f"the name does not end in its unit {self.unit}"
        if _NOT_A_BASE_UNIT.search(self.name):
            return "the name ends in something that is not a base unit"
        if not self.help or "\n" in self.help or not self.help.endswith("."):
            return "help is not one sentence on one line"
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                return f"label {label!r} is not snake_case"
            if label in FORBIDDEN_LABELS:
                return f"label {label!r} clashes with target labels"
        if len(set(self.labels)) != len(self.labels):
            return "a label is named twice"
        if self.states and (not self.labels or len(set(self.states)) != len(self.states)):
            return "states need a label to stand in, and differ"
        return None

    def __call__(self, value: float, **labels: str) -> Sample:
        """A sample of this family.

        Raises:
            RefusedValueError: the labels are not exactly the declared ones, or the value is not finite.
        """
        if labels.keys() != self._label_set:
            raise RefusedValueError(f"{self.name}: labels are {sorted(labels)}, declared are {sorted(self.labels)}")
        return self.at(value, tuple([labels[name] for name in self.labels]))

    def at(self, value: float, values: tuple[str, ...]) -> Sample:
        """A sample from label values in the declared order; what `__call__` does, for hot paths."""
        try:
            finite = math.isfinite(value)
        except (TypeError, OverflowError):
            finite = False
        if not finite:
            raise RefusedValueError(f"{self.name}: not a finite number")
        if len(values) != len(self.labels):
            raise RefusedValueError(f"{self.name}: {len(values)} label values for {len(self.labels)} labels")
        for text in values:
            if not isinstance(text, str):
                raise RefusedValueError(f"{self.name}: a label value is {type(text).__name__}, not text")
        if self.kind is Kind.COUNTER and value < 0:
            raise RefusedValueError(f"{self.name}: a counter cannot be {value!r}")
        return Sample(self, values, value)

    def in_state(self, state: str, values: tuple[str, ...]) -> tuple[Sample, ...]:
        """One sample per declared state, 1 for `state` and 0 for the others."""
        if state not in self.states:
            raise RefusedValueError(f"{self.name}: {state!r} is not one of {self.states}")
        return tuple([Sample(self, (*values, name), 1 if name == state else 0) for name in self.states])


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series. Made by calling a `Metric`, never by hand.

    As an observation it passes from a collector straight to the exposition.
    """

    metric: Metric
    values: tuple[str, ...]
    value: float

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(zip(self.metric.labels, self.values, strict=True))
