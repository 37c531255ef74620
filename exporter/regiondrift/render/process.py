"""What does the process itself cost? The families ``process_*`` and ``python_info`` of prometheus-client, as bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from regiondrift.render.lines import label_text, number
from regiondrift.render.publisher import Foreign

OLDEST: Final = 1.0
"""Seconds for which they are not read anew."""


def process_families() -> Foreign:
    """A function that renders them as they are now, or were a moment ago: as text, as OpenMetrics."""
    process = ProcessCollector(registry=None)
    platform = tuple(PlatformCollector(registry=None).collect())
    last: tuple[float, tuple[bytes, bytes]] = (-OLDEST, (b"", b""))

    def render() -> tuple[bytes, bytes]:
        nonlocal last
        now = time.monotonic()
        if now - last[0] >= OLDEST or not last[1][0]:
            families = [*process.collect(), *platform]
            last = now, (_lines(families, False), _lines(families, True))
        return last[1]

    return render


def _lines(families: Iterable[Family], openmetrics: bool) -> bytes:
    out = []
    for family in families:
        name = family.name + ("_total" if family.type == "counter" and not openmetrics else "")
        out.append(f"# HELP {name} {family.documentation}\n# TYPE {name} {family.type}\n")
        for sample in family.samples:
            labels = ",".join(f'{k}="{label_text(v)}"' for k, v in sample.labels.items())
            out.append(f"{sample.name}{{{labels}}} " if labels else sample.name + " ")
            out.append(number(sample.value, 0.0) + "\n")
    return "".join(out).encode()
