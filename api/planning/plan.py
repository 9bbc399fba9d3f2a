"""What a job would do, from the same checks that accept it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from api.amounts import duration
from api.planning.checks import Checked
from api.planning.latency import unmeasured
from api.planning.prose import sentences
from api.schemas import ChannelUnits, Estimate, Plan, PlannedSize, Reach, Rows, Seconds, Units
from core import schedule as estimate
from core.domains.channels import reach as image
from core.domains.cost import Additive
from core.domains.folder import PRUNED
from core.domains.structure import Structure
from core.domains.transformer.costs import Costs, least
from core.domains.transformer.model import LocalModel
from core.ledger.tables import Job
from core.ledger.workers import Needs
from core.rows.image.views import views_of
from core.rows.survey import Survey
from core.spec.budget import Budget
from core.spec.job import JobSpec
from core.spec.report import Report, stored
from core.spec.task import PAIRED, SEARCHING

FEW = 100  # test rows: a share is then known to about 10 points


def plan(
    spec: JobSpec,
    checked: Checked,
    earlier: Sequence[Job],
    devices: Sequence[Mapping[str, Any]],
    lacking: str | None = None,
) -> Plan:
    """Of a specification that has passed `check`; by jobs that have succeeded, what the workers have or lack."""
    rows, head = checked.survey, checked.head
    costs = checked.costs[0] if checked.costs else None
    of_each: Sequence[Costs | image.Reach | None] = checked.costs or [None] * len(spec.sizes)
    known = zip(spec.sizes, of_each, strict=True)
    limits = [None if cost is None or size.budget.timed else _limit(cost, size) for size, cost in known]
    sizes = [PlannedSize(name=size.budget.name, limit=limit) for size, limit in zip(spec.sizes, limits, strict=True)]
    foretold = _estimate(spec, rows, checked, earlier, devices) if costs else None
    found = Plan(
        spec=spec.model_dump(mode="json"),
        labels=rows.labels,
        head=head.says if head else None,
        rows=Rows(**{name: getattr(rows, name) for name in Rows.model_fields}),
        units=costs and _units(costs),
        limit=limits[0] if len(limits) == 1 else None,
        sizes=sizes if spec.budgets else [],
        reach=_reach(costs, spec) if costs else [],
        latency=[*checked.latency],
        estimate=foretold,
        warnings=[
            *_warnings(spec, rows, checked),
            *unmeasured(spec, checked.costs, checked.latency),
            *_long(spec, foretold),
            *([f"{lacking}: the job would wait for one"] if lacking else []),
        ],
        notes=rows.notes,
        understood={i: known and asdict(known) for i, known in checked.understood.items()},
    )
    return found.model_copy(update={"says": [*sentences(found)]})


def _estimate(
    spec: JobSpec,
    rows: Survey,
    checked: Checked,
    earlier: Sequence[Job],
    devices: Sequence[Mapping[str, Any]],
) -> Estimate:
    alike = [job for job in earlier if _alike(job.spec, spec)]
    reports = [(job, report) for job in alike if isinstance(report := stored(job.metrics), Report)]
    seen = [(_device(report), found) for job, report in reports if (found := _seen(job, report)) is not None]
    needs = Needs.of(spec.model_dump(mode="json"))
    asked = [needs.device] if needs.device else []
    kinds = [d["type"] for d in devices if needs.met_by(d)] or asked or [kind for kind, _ in seen[:1]] or ["cpu"]
    kind = "cuda" if "cuda" in kinds else "cpu"
    cpus = min((device["cpus"] for device in devices if device["type"] == kind and needs.met_by(device)), default=1)
    own = [found for of, found in seen if of == kind]
    if isinstance(checked.model, LocalModel):
        return foretell(spec, rows, checked.model, own, kind, cpus)
    reaches = [reach for reach in checked.costs if isinstance(reach, image.Reach)]
    return foretell_images(spec, rows, reaches, own, kind, cpus)


def _long(spec: JobSpec, foretold: Estimate | None) -> Iterator[str]:
    most = spec.limits.max_runtime_s
    if foretold and foretold.seconds and foretold.seconds.high > most:
        yield (
            f"it may take {duration(foretold.seconds.high)}, and is ended after {duration(most)}: "
            "give 'limits.max_runtime_s' (seconds)"
        )


def foretell(
    spec: JobSpec, rows: Survey, model: LocalModel, seen: Sequence[estimate.Seen], device: str, cpus: int
) -> Estimate:
    """By jobs that were seen on such a device."""
    length = min(spec.train.max_length, model.reads or spec.train.max_length)
    costs = model.costs(len(rows.labels), rows.tokens)
    memory = estimate.memory_bytes(
        model.architecture,
        costs.params.dense,
        costs.params.before,
        spec.train.batch_size * spec.task.encoded,
        length,
    )
    left = [estimate.part_left(size, _costs(model, size, rows)) for size in spec.sizes]
    row_macs = costs.macs.model(Structure.dense(model.architecture.anatomy))
    return _foretold(spec, rows, left, row_macs, memory, seen, device, cpus)


def _costs(model: LocalModel, spec: JobSpec, rows: Survey) -> Costs:
    return model.costs(len(rows.labels), spec.length, precision=spec.export.precision)


def foretell_images(
    spec: JobSpec, rows: Survey, reaches: Sequence[image.Reach], seen: Sequence[estimate.Seen], device: str, cpus: int
) -> Estimate:
    """As `foretell`, of an image model."""

    def left_of(budget: Budget, reach: image.Reach) -> float:
        counted = reach.dense.get(budget.kind)
        halved = 0.5 if budget.kind == "bytes" and spec.export.precision != "float32" else 1.0
        return reach.limit(budget) / (halved * counted) if counted else 1 / (budget.speedup or 1)

    learned = [rows.train, *rows.sources, rows.unlabelled]
    views = sum(count * (views_of(count) if spec.task.augment else 1) for count in learned)
    left, reach = [left_of(size.budget, one) for size, one in zip(spec.sizes, reaches, strict=True)], reaches[0]
    pixels = (views + rows.dev + rows.test) * reach.side**2
    memory = estimate.image_memory_bytes(reach.dense["params"], reach.activations, spec.train.batch_size, pixels)
    pace = estimate.image_seconds_per_mac(reach.dense["macs"], reach.activations)
    return _foretold(spec, rows, left, reach.dense["macs"], memory, seen, device, cpus, pace)


def _foretold(
    spec: JobSpec,
    rows: Survey,
    left: Sequence[float],
    row_macs: float,
    memory: float,
    seen: Sequence[estimate.Seen],
    device: str,
    cpus: int,
    per_mac: float = estimate.SECONDS_PER_MAC,
) -> Estimate:
    sizes = estimate.sized(spec, left, rows.train)
    asked = estimate.work(spec, [*sizes.values()], row_macs, rows.test)
    low, high = estimate.probe_seconds(spec) if spec.probe else estimate.seconds(asked, seen, cpus, per_mac)
    what = "" if spec.task.image is None else " of pictures"
    if spec.probe:
        basis = "a probe measures, and trains nothing"
    elif seen:
        basis = f"from {len(seen)} finished job{'s' * (len(seen) > 1)}{what} on {device}"
    else:
        basis = f"no finished jobs{what} on {device} yet: " + ("rough" if device == "cpu" else "nothing to go by")
    return Estimate(
        device="cuda" if device == "cuda" else "cpu",
        seconds=Seconds(low=round(low, 1), high=round(high, 1)) if seen or device == "cpu" else None,
        basis=basis,
        memory_bytes=round(memory + (estimate.BASE_BYTES if device == "cpu" else 0)),
    )


def _alike(earlier: Mapping[str, Any], spec: JobSpec) -> bool:
    """Whether a job was of texts where another is, or of pictures, and on as many GPUs: the pace is the same then."""
    images = earlier["task"].get("image") is not None
    return images == (spec.task.image is not None) and (Needs.of(earlier).gpus or 1) == (spec.resources.gpus or 1)


def _device(report: Report) -> str:
    return "cpu" if report.environment.device.startswith("CPU") else "cuda"


def _seen(job: Job, report: Report) -> estimate.Seen | None:
    """What a job computed and took; None of one whose timings hold something else, too."""
    if not (macs := report.work_macs) or not job.started_at or not job.finished_at:
        return None
    if report.control or report.budget.measured:
        return None
    train_s = sum(report.timings_s.get(stage, 0.0) for stage in ("auto", "teach", "prune", "recover"))
    return estimate.Seen(estimate.Work(macs.train, macs.measure), train_s, (job.finished_at - job.started_at) / 1000)


def _units(costs: Costs | image.Reach) -> Units | ChannelUnits:
    if isinstance(costs, image.Reach):
        parts = {"blocks": costs.blocks, "channels": costs.channels, "apart": costs.apart}
        return ChannelUnits(**parts, removable=round(costs.removable, 4))
    a = costs.architecture
    return Units(layers=a.layers, hidden=a.hidden, **a.widest)


def _limit(costs: Costs | image.Reach, spec: JobSpec) -> int:
    if isinstance(costs, image.Reach):
        return costs.limit(spec.budget)
    if spec.budget.sparsity is not None:
        return costs.matrices - round(spec.budget.sparsity * costs.matrices)
    cost: Additive = getattr(costs, spec.budget.kind)
    return spec.budget.limit(cost.dense if spec.budget.counted == "encoder" else cost.before)


def _reach(costs: Costs | image.Reach, spec: JobSpec) -> list[Reach]:
    if isinstance(costs, image.Reach):
        return _reach_of_images(costs)
    small = costs.smallest(spec.hidden_size)

    def lowest(cost: Additive) -> int:
        return least(cost, spec.export.first_layout, costs.architecture)

    params, macs, size = costs.params, costs.macs, costs.bytes
    counted = [
        ("params", "encoder", lowest(small.params), params.dense),
        ("params", "model", lowest(small.params) + small.params.outside, params.dense + params.outside),
        ("macs", "model", lowest(small.macs) + small.macs.outside, macs.dense + macs.outside),
        ("bytes", "model", lowest(small.bytes) + small.bytes.outside, size.before),
    ]
    return [
        Reach.model_validate(
            {
                "cost": name,
                "of": of,
                "lowest": low,
                "dense": dense,
                "sequence_length": costs.length if name == "macs" else None,
            }
        )
        for name, of, low, dense in counted
    ]


def _reach_of_images(found: image.Reach) -> list[Reach]:
    return [
        Reach.model_validate(
            {
                "cost": name,
                "of": "model",
                "lowest": found.lowest[name],
                "dense": dense,
                "sequence_length": found.side if name == "macs" else None,
            }
        )
        for name, dense in found.dense.items()
    ]


def _warnings(spec: JobSpec, rows: Survey, checked: Checked) -> Iterator[str]:
    what = "texts" if spec.task.image is None else "pictures"
    if not spec.task.unlabelled and rows.train < 1000 and spec.task.problem != "text_embedding":
        yield (
            f"give the target's own unlabelled {what} in task.unlabelled: with few training rows some thousand of them "
            "help a small model as much as a large labelled source"
            + " (and so can related ones in 'sources', even without labels)"
            * (not spec.sources)
        )
    if checked.head and checked.head.hint:
        yield checked.head.hint
    reads = checked.model.reads if isinstance(checked.model, LocalModel) else None
    if reads and spec.train.max_length > reads:
        yield f"'max_length' is {spec.train.max_length}, but the model reads {reads} tokens: texts are cut there"
    if checked.model is None:
        yield "the model is not here yet: the worker fetches it, and checks the budget against it, when the job runs"
    elif not checked.costs:
        yield (
            "what of the model can go is not found out here, which takes torch, and time and memory for copies of the "
            "model: the worker checks the budget"
        )
    if checked.model and checked.model.pruned:
        yield PRUNED
    if spec.vocabulary == "trim":
        yield "'reach' is that of the whole vocabulary: how much is left of it, the worker finds out"
    if any(budget.sparsity is not None for budget in spec.every_budget):
        yield "zeros alone make no dense kernel faster: a budget in 'params', 'macs' or 'bytes' removes whole units"
    if any(budget.timed for budget in spec.every_budget):
        yield "latency is measured by the worker: before anything is trained it finds out what can be reached there"
    if rows.test < FEW and spec.task.problem not in PAIRED:  # which are told by documents and queries
        what = "models apart roughly" if spec.task.type in SEARCHING else "accuracies apart by ten points"
        yield f"{rows.test} test rows tell {what} at best; give more if you can"
    yield from rows.doubts
