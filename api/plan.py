"""What a job would do, from the same checks that accept it."""

from __future__ import annotations

from collections.abc import Iterator

from api.schemas import Plan, Reach, Rows, Units
from core.spec.cost import CostModel, Costs
from core.spec.data import Splits
from core.spec.job import JobSpec

FEW = 100  # test rows: an accuracy is then known to about 10 points


def plan(spec: JobSpec, splits: Splits, costs: Costs | None) -> Plan:
    """Of a specification that has passed `check`."""
    return Plan(
        spec=spec.model_dump(mode="json"),
        labels=splits.labels,
        rows=Rows(
            train=len(splits.train),
            dev=len(splits.dev),
            test=len(splits.test),
            sources=[len(rows) for rows in splits.sources],
            dropped=dict(splits.dropped),
        ),
        units=costs and _units(costs),
        limit=None if costs is None or spec.budget.timed else _limit(costs, spec),
        reach=_reach(costs, spec) if costs else [],
        warnings=list(_warnings(spec, splits, costs)),
    )


def _units(costs: Costs) -> Units:
    a = costs.params.architecture
    return Units(layers=a.layers, heads=a.heads, neurons=a.neurons, hidden=a.hidden)


def _limit(costs: Costs, spec: JobSpec) -> int:
    if spec.budget.sparsity is not None:
        return costs.matrices - round(spec.budget.sparsity * costs.matrices)
    cost: CostModel = getattr(costs, spec.budget.kind)
    return spec.budget.limit(cost.dense if spec.budget.counted == "encoder" else cost.before)


def _reach(costs: Costs, spec: JobSpec) -> list[Reach]:
    small = costs.smallest(spec.hidden_size)

    def least(cost: CostModel) -> int:
        return cost.least(spec.export.layout)

    params, macs, size = costs.params, costs.macs, costs.bytes
    counted = [
        ("params", "encoder", least(small.params), params.dense),
        ("params", "model", least(small.params) + small.params.outside, params.dense + params.outside),
        ("macs", "model", least(small.macs) + small.macs.outside, macs.dense + macs.outside),
        ("bytes", "model", least(small.bytes) + small.bytes.outside, size.dense + size.outside),
    ]
    return [
        Reach.model_validate(
            {
                "cost": name,
                "of": of,
                "lowest": lowest,
                "dense": dense,
                "sequence_length": costs.length if name == "macs" else None,
            }
        )
        for name, of, lowest, dense in counted
    ]


def _warnings(spec: JobSpec, splits: Splits, costs: Costs | None) -> Iterator[str]:
    if costs is None:
        yield "the model is not here yet: the worker fetches it, and checks the budget against it, when the job runs"
    if spec.vocabulary == "trim":
        yield "'reach' is that of the whole vocabulary: how much is left of it, the worker finds out"
    if spec.budget.sparsity is not None:
        yield "zeros alone make no dense kernel faster: a budget in 'params', 'macs' or 'bytes' removes whole units"
    if spec.budget.timed:
        yield "latency is measured by the worker: before anything is trained it finds out what can be reached there"
    if len(splits.test) < FEW:
        yield f"{len(splits.test)} test rows tell accuracies apart by ten points at best; give more if you can"
    if not spec.sources and len(splits.train) < 1000:
        yield "few training rows and no 'sources': related text, even without labels, can help a small model a lot"
