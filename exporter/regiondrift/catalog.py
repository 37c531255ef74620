"""Which collectors are there? Found through entry points by name; imported only when configured."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final

from regiondrift.model import Collector, Metric
from regiondrift.model.replication import REPLICATION
from regiondrift.self_metrics import SELF

GROUP: Final = "regiondrift.collectors"


class CatalogError(Exception):
    """A collector cannot be had. The text says which package is missing, for a person."""


class Catalog:
    """The installed collectors. An entry point named ``foo`` is the object ``module:COLLECTOR`` with that name."""

    def __init__(self, points: dict[str, EntryPoint] | None = None) -> None:
        self._points = {p.name: p for p in entry_points(group=GROUP)} if points is None else points
        self._loaded: dict[str, Collector] = {}
        self._metrics: dict[str, Metric] = {m.name: m for m in (*REPLICATION, *SELF)}

    def names(self) -> tuple[str, ...]:
        """All of them, without importing any."""
        return tuple(sorted(self._points))

    def load(self, name: str) -> Collector:
        """Import one.

        Raises:
            CatalogError: it cannot be imported, or is not what it says.
        """
        if name not in self._loaded:
            point = self._points[name]
            try:
                collector = point.load()
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise CatalogError(f"collector {name} ({point.value}) cannot be imported: {why}") from error
            if not isinstance(collector, Collector) or collector.name != name:
                raise CatalogError(f"entry point {name} ({point.value}) is not a Collector of that name")
            for metric in collector.metrics:
                # Two families of one name would make Prometheus refuse the whole exposition.
                if self._metrics.setdefault(metric.name, metric) is not metric:
                    raise CatalogError(f"collector {name} declares {metric.name}, which is declared already")
            self._loaded[name] = collector
        return self._loaded[name]
