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


class _FamilyLines:
    """What one owner says in one family: the samples, and the label block of each."""

    __slots__ = ("heads", "samples")

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.heads: list[str] = []

    def update(self, metric: Metric, samples: list[Sample], step: float) -> bytes:
        """The lines of `samples`. A label block is made anew only where the series of that place has changed."""
        before, heads = self.samples, self.heads
        known, lines = len(before), []
        for i, sample in enumerate(samples):
            if i >= known:
                heads.append(series(metric, sample.values))
            elif before[i].values != sample.values:
                heads[i] = series(metric, sample.values)
            lines.append(heads[i] + number(sample.value, step))
        del heads[len(samples) :]
        self.samples = samples
        lines.append("")
        return "\n".join(lines).encode()


class OwnerLines:
    """The lines of one owner's samples (a target's, a link's), family by family, with what can be kept from the last time."""

    __slots__ = ("_families", "pieces")

    def __init__(self) -> None:
        self.pieces: dict[Metric, bytes] = {}
        self._families: dict[Metric, _FamilyLines] = {}

    def update(self, samples: Iterable[Sample], step: float, stepped: bool) -> set[Metric]:
        """Take the owner's samples of now; the families whose piece changed."""
        given: dict[Metric, list[Sample]] = {}
        last_metric, into = None, []
        for sample in samples:
            if sample.metric is not last_metric:
                last_metric = sample.metric
                into = given.setdefault(last_metric, [])
            into.append(sample)
        known = self._families
        changed: set[Metric] = set()
        if not known.keys() <= given.keys():
            changed = {metric for metric in known if metric not in given}
            for metric in changed:
                del self.pieces[metric], known[metric]
        for metric, its in given.items():
            family = known.get(metric)
            if family is None:
                family = known[metric] = _FamilyLines()
            # Samples that were kept are the same objects: comparing those costs next to nothing.
            elif family.samples == its and not stepped:
                continue
            self.pieces[metric] = family.update(metric, its, step)
            changed.add(metric)
        return changed

    def samples(self) -> list[Sample]:
        """As they were put last."""
        return [sample for family in self._families.values() for sample in family.samples]

    def __len__(self) -> int:
        return sum([len(family.samples) for family in self._families.values()])
