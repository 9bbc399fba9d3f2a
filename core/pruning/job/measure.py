"""The stage `measure`: the test rows, once, in float32; sizes; latency of all models in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from torch import Tensor

from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.job.on_dev import on_dev
from core.pruning.job.precision import round_weights
from core.pruning.job.prepare import Prepared
from core.pruning.job.stages import Shrunk, Taught
from core.pruning.job.verdict import lead
from core.pruning.latency.files import Times, write_and_time
from core.pruning.latency.passes import SEQUENCE_LENGTH, latencies_ms
from core.pruning.latency.stopwatch import waiting
from core.pruning.reading.inputs import Inputs
from core.pruning.training.batches import Rows
from core.pruning.training.predict import predict
from core.rows.example import labels_of
from core.spec.report import BudgetMet, Given, Interval, Recall, Result, Results, Tested
from core.tasks import Task
from core.tasks.number import Regression


@dataclass(frozen=True)
class Measured:
    """What was measured of one size."""

    results: Results
    logits: Tensor  # of the pruned model on the test rows
    dense: Tensor  # of the dense one
    test: Rows  # numbers in their own unit
    latency: BudgetMet | None  # how a budget in time was met
    on_dev: Interval | None  # of several sizes: the task's metric on the dev rows less that of dense, paired
    files: tuple[Times, Times]  # milliseconds of the files of ONNX Runtime, dense and pruned


def measure(shared: Prepared, taught: Taught, sizes: Sequence[Shrunk]) -> list[Measured]:
    """The dense model and every size of it.

    Beside them, what always giving the commonest training answer comes to, and how far each model leads that; and,
    where its own head knows the labels, the model as it was given, with how far the others are from it.
    """
    one, inputs = shared.one, shared.inputs
    metric, alive, dense = one.spec.task.metric, one.teller.alive, taught.teacher.eval()
    students = [size.student.eval() for size in sizes]
    for student in students:
        round_weights(student, one.spec.export.precision)
    apart = on_dev(inputs.dev, dense, students, metric, alive) if one.spec.budgets else [None] * len(sizes)
    test = in_their_unit(inputs, dense, *students)
    task, labels = test.task, test.labels
    usual = task.usual(labels_of(inputs.splits.train), labels)
    length = dense.longest(SEQUENCE_LENGTH)
    networks = {str(i): network.assembled() for i, network in enumerate((dense, *students))}
    times, waited = waiting(lambda: latencies_ms(networks, test.blank, length, alive))
    speed = [*times.values()]

    @cache
    def quality(said: Tensor) -> dict[str, Any]:
        """Of a model, once; intervals of many rows take a while."""
        found: dict[str, Any] = {"test": task.intervals(said, labels)}
        alive()
        found["lead"] = lead(task, metric, said, labels, usual)
        alive()
        found["shorter"] = {n: task.intervals(said[..., :n], labels) for n in one.spec.task.dimensions} or None
        alive()
        return found

    def measured(network: Network, size: Prepared, kept: Structure, ms: dict[str, float], said: Tensor) -> Result:
        cost = size.goal.costs.of(kept)
        return Result(
            **quality(said),
            encoder_params=cost.params.of(kept),
            model_params=cost.params.model(kept),
            macs=cost.macs.model(kept),
            macs_length=size.goal.costs.length,
            bytes=network.file_bytes("float32" if network is dense else one.spec.export.precision),
            latency_length=length,
            latency_ms=ms,
            speedup={b: round(speed[0][b] / took, 2) for b, took in ms.items()},
        )

    def told(prepared: Prepared, network: Network, name: str) -> Tensor:
        return predict(network, test, alive=alive, checkpoint=prepared.one.state.checkpoints.at(f"recover-test-{name}"))

    baseline, of_dense, found = Tested(test=task.intervals(usual, labels)), told(shared, dense, "dense"), []
    answers = [told(size.prepared, student, "pruned") for size, student in zip(sizes, students, strict=True)]
    files: list[tuple[Times, Times]] = [({}, {})] * len(sizes)
    if one.spec.onnx_formats and not one.control:
        folders = {size.prepared.one.output: student for size, student in zip(sizes, students, strict=True)}
        of_dense_files, each = write_and_time(dense, folders, one.spec.onnx_formats, test.blank, length, alive)
        files = [(of_dense_files, times) for times in each.values()]
    for size, student, said, ms, dev, times in zip(sizes, students, answers, speed[1:], apart, files, strict=True):
        prepared, structure = size.prepared, size.pruned.structure
        given, latency = None, prepared.goal.latency
        if inputs.given is not None:
            pairs = {"dense": of_dense, "pruned": said}
            before, tags = inputs.given.logits, inputs.given.tags if inputs.given.tags is not None else labels
            change = {name: task.apart(one, before, labels, tags) for name, one in pairs.items()}
            given = Given(test=task.intervals(before, tags), change=change)
        results = Results(
            dense=measured(dense, prepared, Structure.dense(dense.anatomy), speed[0], of_dense),
            pruned=measured(student, prepared, structure, ms, said),
            change=task.apart(said, of_dense, labels),
            recall=recalls(task, of_dense, said, labels),
            baseline=baseline,
            given=given,
            waited=round(waited, 3),
        )
        alive()
        met = latency.report(structure, size.pruned.fits) if latency else None
        found.append(Measured(results, said, of_dense, test, met, dev, times))
    return found


def recalls(task: Task, dense: Tensor, pruned: Tensor, labels: Tensor) -> dict[str, Recall]:
    """Of both models, by label."""
    before, after = (task.recalls(said, labels) for said in (dense, pruned))
    return {name: Recall(rows=rows, dense=before[name][1], pruned=found) for name, (rows, found) in after.items()}


def in_their_unit(inputs: Inputs, *models: Network) -> Rows:
    """The test rows; of numbers, models and rows speak in the labels' own unit from here on."""
    if not isinstance(inputs.task, Regression):
        return inputs.test
    for network in models:
        network.rescale(inputs.task.deviation, inputs.task.mean)
    unscaled = inputs.task.unscaled()
    return replace(inputs.test, labels=unscaled.truth(labels_of(inputs.splits.test)), task=unscaled)
