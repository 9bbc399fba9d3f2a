"""Pictures of one job: its curves, what each layer keeps, quality against size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from api.amounts import size
from api.page import charts, words
from api.routes.results import curves as series_of
from core.ledger.tables import Event
from core.spec.messages import SizeTrained
from core.spec.metrics import METRICS
from core.spec.report import FamilyReport, Report, Sizes

KINDS = {"heads": "heads", "neurons": "neurons", "channels": "channels"}


@dataclass(frozen=True)
class Kept:
    """What one block has kept of its units."""

    name: str
    kind: str
    kept: int
    of: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.kept / self.of if self.of else 0.0


@dataclass(frozen=True)
class Picture:
    """What a model keeps, block by block; `size` where there are several."""

    size: str | None
    control: bool
    blocks: list[Kept]


def curves(events: Sequence[Event], metric: str) -> list[charts.Chart]:
    """The task's metric and the loss on dev, and the part that is removed, over the steps of each stage."""
    found: dict[str, dict[str, Sequence[charts.Point]]] = {}
    for one in series_of(event for event in events if event.type == "progress").series:
        stage, _, rest = one.stage.partition(" ")
        name = f"{words.stage(stage)} {rest}".strip() if stage != "control" else f"control: {rest}"
        found.setdefault(one.name, {})[name] = one.points
    titles: dict[str, tuple[str, charts.Format]] = {
        f"dev.{metric}": (f"{METRICS.get(metric, metric)} on dev", words.value(metric)),
        "dev.loss": ("loss on dev", "{:.3g}".format),
        "sparsity": ("part of the units that is removed", words.value("accuracy")),
    }
    return [charts.lines(title, found[name], show) for name, (title, show) in titles.items() if name in found]


def structures(events: Sequence[Event], report: Report | FamilyReport | None) -> list[Picture]:
    """What was fitted, as soon as it is known; else what the report says."""
    fitted = {
        (event.data.get("control", False), event.data.get("size")): event.data
        for event in events
        if event.type == "structure"
    }
    found = [Picture(size, control, [*_blocks(data)]) for (control, size), data in fitted.items()]
    if found or report is None:
        return found
    if isinstance(report, Report):
        return [Picture(None, False, [*_of_report(report.structure)])]
    return [Picture(size.name, False, [*_of_report(size.structure)]) for size in report.sizes if size.structure]


def family(report: FamilyReport) -> charts.Chart | None:
    """Quality of each size against its bytes."""
    metric = report.task.metric
    made = [("dense", report.dense), *((size.name, size.result) for size in report.sizes if size.result)]
    points = {}
    for name, result in made:
        if result is not None and metric in result.test:
            value = result.test[metric]
            points[name] = [(float(result.bytes), value.value, value.low, value.high)]
    title = f"{METRICS.get(metric, metric)} on the test rows against size"
    return charts.against(title, points, words.value(metric), size, "bytes") if points else None


def trained(events: Sequence[Event]) -> list[SizeTrained]:
    """What is known of the sizes that are trained, in that order; of one that is trained twice, the last time."""
    found = {}
    for event in events:
        if event.type == "size" and (said := _size_trained(event.data)) is not None:
            found[said.size, said.control] = said
    return [*found.values()]


def growing(sizes: Sequence[SizeTrained]) -> charts.Chart | None:
    """Quality on dev of each size so far against its bytes."""
    if not sizes:
        return None
    metric, dense = sizes[0].metric, sizes[0].dense
    points = {"dense": [(float(sizes[0].dense_bytes), dense.value, dense.low, dense.high)]}
    for one in sizes:
        point = float(one.bytes), one.quality.value, one.quality.low, one.quality.high
        points.setdefault("control" if one.control else "sizes", []).append(point)
    title = f"{METRICS.get(metric, metric)} on the dev rows against size"
    return charts.against(title, points, words.value(metric), size, "bytes", joined=True)


def _size_trained(data: Mapping[str, Any]) -> SizeTrained | None:
    """Of an event as it is stored; None of one of another version that this one cannot read."""
    try:
        return SizeTrained.model_validate(data)
    except ValidationError:
        return None


def _blocks(data: Mapping[str, Any]) -> Iterator[Kept]:
    for kind in KINDS:
        for i, pair in enumerate(data.get(kind) or []):
            yield Kept(_name(kind, i), kind, int(pair[0]), int(pair[1]))


def _of_report(sizes: Sizes) -> Iterator[Kept]:
    """The most of any layer stands for what there was: an earlier version did not say."""
    for kind in KINDS:
        counts: list[int] = getattr(sizes, kind)
        for i, kept in enumerate(counts):
            yield Kept(_name(kind, i), kind, kept, max(counts))


def _name(kind: str, i: int) -> str:
    return f"{'block' if kind == 'channels' else 'layer'} {i + 1}"
