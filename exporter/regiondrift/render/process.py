"""What does the process itself cost? The families ``process_*`` and ``python_info`` of prometheus-client, as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric as Family
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from regiondrift.render.lines import label_text, number
from regiondrift.render.publisher import Foreign


def process_families() -> Foreign:
    """A function that renders them as they are now: as text, as OpenMetrics."""
    collectors = (ProcessCollector(registry=None), PlatformCollector(registry=None))

    def render() -> tuple[bytes, bytes]:
        families = [f for c in collectors for f in c.collect()]
        return _lines(families, False), _lines(families, True)

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
