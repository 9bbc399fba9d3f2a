"""The stage `measure`: the test rows, once, in float32; sizes; latency of both models in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.job.inputs import Inputs
from core.pruning.job.passes import Pass
from core.pruning.job.prepare import Prepared
from core.pruning.job.stages import Pruned, Recovered, Taught
from core.pruning.job.verdict import lead
from core.pruning.latency.medians import SEQUENCE_LENGTH, latencies_ms
from core.pruning.training.batches import Rows
from core.pruning.training.predict import predict
from core.rows.example import labels_of
from core.spec.report import BudgetMet, Given, Result, Results, Tested
from core.tasks.number import Regression


@dataclass(frozen=True)
class Measured:
    """What was measured."""

    results: Results
    logits: Tensor  # of the pruned model on the test rows
    dense: Tensor  # of the dense one
    test: Rows  # numbers in their own unit
    latency: BudgetMet | None  # how a budget in time was met


def measure(one: Pass, prepared: Prepared, taught: Taught, pruned: Pruned, recovered: Recovered) -> Measured:
    """Both models.

    Beside them, what always giving the commonest training answer comes to, and how far each model leads that; and,
    where its own head knows the labels, the model as it was given, with how far the others are from it.
    """
    inputs, costs, alive = prepared.inputs, prepared.goal.costs, one.teller.alive
    models = {"dense": taught.teacher.eval(), "pruned": recovered.student.eval()}
    structures = {"dense": Structure.dense(taught.teacher.anatomy), "pruned": pruned.structure}
    test = in_their_unit(inputs, *models.values())
    task, labels = test.task, test.labels
    usual = task.usual(labels_of(inputs.splits.train), labels)
    length = taught.teacher.longest(SEQUENCE_LENGTH)
    networks = {name: network.assembled() for name, network in models.items()}
    speed = latencies_ms(networks, test.blank, length, alive)
    results, logits = {}, {}
    for name, network in models.items():
        done = one.state.checkpoints.at(f"recover-test-{name}")
        said = logits[name] = predict(network, test, alive=alive, checkpoint=done)
        structure, cost = structures[name], costs.of(structures[name])
        results[name] = Result(
            test=task.intervals(said, labels),
            encoder_params=cost.params.of(structure),
            model_params=cost.params.model(structure),
            macs=cost.macs.model(structure),
            macs_length=costs.length,
            bytes=network.file_bytes(),
            latency_length=length,
            latency_ms=speed[name],
            speedup={b: round(speed["dense"][b] / ms, 2) for b, ms in speed[name].items()},
            lead=lead(task, one.spec.task.metric, said, labels, usual),
            shorter={size: task.intervals(said[..., :size], labels) for size in one.spec.task.dimensions} or None,
        )
    given = None
    if inputs.given is not None:
        change = {name: task.apart(said, inputs.given, labels) for name, said in logits.items()}
        given = Given(test=task.intervals(inputs.given, labels), change=change)
    baseline = Tested(test=task.intervals(usual, labels))
    latency = prepared.goal.latency
    met = latency.report(pruned.structure, pruned.fits) if latency else None
    return Measured(Results(**results, baseline=baseline, given=given), logits["pruned"], logits["dense"], test, met)


def in_their_unit(inputs: Inputs, *models: Network) -> Rows:
    """The test rows; of numbers, models and rows speak in the labels' own unit from here on."""
    if not isinstance(inputs.task, Regression):
        return inputs.test
    for network in models:
        network.rescale(inputs.task.deviation, inputs.task.mean)
    unscaled = inputs.task.unscaled()
    return replace(inputs.test, labels=unscaled.truth(labels_of(inputs.splits.test)), task=unscaled)
