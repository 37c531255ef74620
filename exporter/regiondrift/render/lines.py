"""How is a sample written down? Lines of the Prometheus text format 0.0.4, which are OpenMetrics 1.0 lines as well."""

from __future__ import annotations

from collections.abc import Iterable

from regiondrift.model import Kind, Metric, Moment, Sample
from regiondrift.model.metric import MAX_LABEL_BYTES

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def label_text(value: str) -> str:
    """A label value as it stands between quotes: escaped, encodable, at most `MAX_LABEL_BYTES` long."""
    raw = value.encode("utf-8", "replace")
    if len(raw) > MAX_LABEL_BYTES:
        raw = raw[:MAX_LABEL_BYTES]
    return raw.decode("utf-8", "ignore").translate(_ESCAPES)


def series(metric: Metric, values: tuple[str, ...]) -> str:
    """Name and label block, with the blank that the value follows."""
    if not values:
        return metric.name + " "
    block = ",".join([f'{name}="{label_text(value)}"' for name, value in zip(metric.labels, values, strict=True)])
    return f"{metric.name}{{{block}}} "


def number(value: float, step: float) -> str:
    """A value; moments become Unix time, to the microsecond, by adding `step`."""
    if type(value) is Moment:
        return repr(round(value + step, 6))
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(float(value))


def header(metric: Metric, openmetrics: bool) -> bytes:
    """HELP, TYPE and, in OpenMetrics, UNIT."""
    name = metric.name
    text = metric.help.replace("\\", r"\\")
    unit = ""
    if openmetrics:
        name = name.removesuffix("_total") if metric.kind is Kind.COUNTER else name
        text = text.replace('"', r"\"")
        base_unit = metric.unit.removeprefix("timestamp_")
        unit = f"# UNIT {name} {base_unit}\n" if base_unit and base_unit != "info" else ""
    return f"# HELP {name} {text}\n# TYPE {name} {metric.kind.value}\n{unit}".encode()


class OwnerLines:
    """The lines of one owner's samples (a target's, a link's), family by family, with what can be kept from the last time."""

    __slots__ = ("_heads", "_last", "pieces")

    def __init__(self) -> None:
        self.pieces: dict[Metric, bytes] = {}
        self._last: dict[Metric, list[Sample]] = {}
        self._heads: dict[tuple[int, tuple[str, ...]], str] = {}

    def update(self, samples: Iterable[Sample], step: float, stepped: bool) -> set[Metric]:
        """Take the owner's samples of now; the families whose piece changed."""
        families: dict[Metric, list[Sample]] = {}
        last_metric, into = None, []
        for sample in samples:
            if sample.metric is not last_metric:
                last_metric = sample.metric
                into = families.setdefault(last_metric, [])
            into.append(sample)
        changed = {metric for metric in self._last if metric not in families}
        for metric in changed:
            del self.pieces[metric]
        old_heads, heads = self._heads, {}
        for metric, its in families.items():
            same = not stepped and self._last.get(metric) == its
            lines = []
            for sample in its:
                key = (id(metric), sample.values)
                head = old_heads.get(key)
                heads[key] = head = series(metric, sample.values) if head is None else head
                if not same:
                    lines.append(head + number(sample.value, step))
            if not same:
                lines.append("")
                self.pieces[metric] = "\n".join(lines).encode()
                changed.add(metric)
        self._last, self._heads = families, heads
        return changed

    def samples(self) -> list[Sample]:
        """As they were put last."""
        return [sample for its in self._last.values() for sample in its]

    def __len__(self) -> int:
        return sum(map(len, self._last.values()))
