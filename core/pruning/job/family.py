"""What several sizes of one model come to: their curve, the one to take, and the files beside their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log

from core.pruning.export.family_page import write_family_page
from core.pruning.export.files import write_manifest
from core.pruning.job.layouts import not_worse
from core.pruning.job.passes import Pass
from core.pruning.job.publish import Finished, manifest, peak_memory_bytes
from core.pruning.system.files import write_json
from core.spec.errors import SpecError
from core.spec.job import ONNX_FILES
from core.spec.report import FamilyReport, Report, Size, Tested


def publish_family(
    one: Pass, done: Sequence[Finished], failed: Mapping[str, SpecError], reports: Mapping[str | None, Report]
) -> FamilyReport:
    """Write `report.json`, `report.html` and `manifest.json` of all sizes, which lie in folders of their own."""
    first = reports[done[0].name]
    metric, made = first.task.metric, largest_first([size_of(size, reports[size.name]) for size in done])
    missing = [Size(name=name, error=error.message) for name, error in failed.items()]
    seconds = Counter[str]()
    for size in done:
        seconds.update(size.size.prepared.one.teller.timings.maps[0])
    report = FamilyReport(
        task=first.task,
        transfer=first.transfer,
        warnings=warnings({str(name): one.warnings for name, one in reports.items()}),
        data=first.data,
        timings_s={name: round(spent, 1) for name, spent in (one.teller.timings | seconds).items()},
        work_macs=first.work_macs,
        peak_memory_bytes=peak_memory_bytes(),
        environment=first.environment,
        dense=first.results.dense,
        baseline=first.results.baseline,
        given=first.results.given and Tested(test=first.results.given.test),
        sizes=made + missing,
        recommended=recommended(made),
        knee=knee(made, metric),
    )
    write_json(one.output / "report.json", report.to_json())
    write_family_page(report, one.spec, one.model, one.output / "report.html")
    write_manifest(manifest(done[0].size) | {"spec": one.spec.model_dump(mode="json", exclude={"webhook"})}, one.output)
    return report


def warnings(each: Mapping[str, Sequence[str]]) -> list[str]:
    """What is said of all sizes, once; of others which they are. What files lose comes first."""
    by_text: dict[str, list[str]] = {}
    for name, said in each.items():
        for text in said:
            by_text.setdefault(text, []).append(name)
    by_text = dict(sorted(by_text.items(), key=lambda said: not said[0].startswith(tuple(ONNX_FILES.values()))))
    return [text if len(names) == len(each) else f"{', '.join(names)}: {text}" for text, names in by_text.items()]


def size_of(done: Finished, report: Report) -> Size:
    """What is said of a size beside the others."""
    assert done.name is not None and report.results.change is not None
    return Size(
        name=done.name,
        budget=report.budget,
        result=report.results.pruned,
        control=report.control,
        change=report.results.change[report.task.metric],
        on_dev=done.measured.on_dev,
        structure=report.structure,
        files=report.files,
    )


def largest_first(sizes: Sequence[Size]) -> list[Size]:
    """By what they compute; those that compute as much, as they were ordered by their budgets."""
    return sorted(sizes, key=lambda size: -size.result.macs if size.result else 0)


def recommended(sizes: Sequence[Size]) -> str | None:
    """The smallest of those that the dev rows do not tell to be worse than dense, and none that is larger either.

    `sizes`: the largest first. Few rows tell little: none is taken that loses more than `LOST` on them. Dev rows
    choose; test rows only forbid what the report calls useless.
    """
    found = None
    for size in sizes:
        if size.on_dev is None or not not_worse(size.on_dev) or useless(size):
            break
        found = size.name
    return found


def useless(size: Size) -> bool:
    """Whether it leads one answer for all test rows by no more than chance, as far as that can be told."""
    return bool(size.result and size.result.lead and size.result.lead.low <= 0)


def knee(sizes: Sequence[Size], metric: str) -> str | None:
    """The size that lies farthest above the line from the smallest to the largest, by quality over the log of its
    parameters (Satopaa et al., 2011); None of fewer than three, or where none lies above."""
    points = [
        (log(size.result.model_params), size.result.test[metric].value, size.name) for size in sizes if size.result
    ]
    (x1, y1, _), (x0, y0, _) = points[0], points[-1]
    if len(points) < 3 or x1 <= x0 or y1 <= y0:
        return None
    above = {name: (y - y0) / (y1 - y0) - (x - x0) / (x1 - x0) for x, y, name in points[1:-1]}
    best = max(above, key=above.__getitem__)
    return best if above[best] > 0 else None
