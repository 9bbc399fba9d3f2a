"""The stage `data`: rows, the dense network, what its units cost, and what is to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from core.domains.cost import Costs
from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.job.goal import Goal, goal_of
from core.pruning.job.passes import Pass
from core.pruning.job.progress import Prices
from core.pruning.reading.inputs import Inputs
from core.pruning.reading.read import read_inputs
from core.pruning.system.device import device
from core.pruning.training.batches import Rows
from core.pruning.training.predict import predict
from core.schedule import Sized, Work, part_left, sized, training_steps, work
from core.spec.budget import of_size
from core.spec.errors import SpecError, SpecErrors
from core.spec.job import JobSpec
from core.spec.messages import Listener, Message, StageProgress


@dataclass(frozen=True)
class Plan:
    """Optimiser steps and learning rates, filled in."""

    steps: Mapping[str, int]
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Prepared:
    """What the stages of one size start from."""

    one: Pass
    inputs: Inputs
    goal: Goal
    nested: bool  # cut out of the next larger size
    plan: Plan
    work: Work  # of the whole job
    progress: Listener  # hears of steps, and says how far the whole job is
    regular: Prepared | None = None  # the same size in a regular layout, where both are to be made

    @property
    def alone(self) -> Prepared:
        """The same, cut from the dense model."""
        spec = self.one.spec
        steps = training_steps(spec, len(self.inputs.splits.train), part_left(spec, self.goal.costs))
        return replace(self, nested=False, plan=replace(self.plan, steps=steps))


@dataclass(frozen=True)
class Family:
    """All sizes, the largest first; and those that are out of reach, with the reason."""

    one: Pass
    sizes: Sequence[Prepared]
    failed: dict[str, SpecError]
    progress: Listener

    @property
    def shared(self) -> Prepared:
        """What is done once for all: for the smallest, with as many steps as any size takes."""
        smallest = self.sizes[-1]
        steps = {stage: max(size.plan.steps[stage] for size in self.sizes) for stage in smallest.plan.steps}
        return replace(smallest, one=self.one, plan=replace(smallest.plan, steps=steps), progress=self.progress)


def prepare(one: Pass) -> tuple[Family, Network]:
    """Read the rows and the dense network. Raises SpecError for what cannot be met, of several sizes if all cannot."""

    def hear(network: Network, rows: Rows, name: str) -> Tensor:
        done = one.state.checkpoints.at(name)
        return predict(network.to(device()), rows, alive=one.teller.alive, checkpoint=done)

    inputs, network = read_inputs(one.spec, one.model.path, one.datasets, hear)
    spared = inputs.vocabulary.spared if inputs.vocabulary else 0
    rows = [inputs.train, *(source.rows for source in inputs.sources)]
    mean = round(float(torch.cat([part.lengths for part in rows]).float().mean()))
    row_macs = network.costs(mean).macs.model(Structure.dense(network.anatomy))
    sizes = {size.spec.budget.name: size for size in one.sizes()}
    precision = one.spec.export.precision
    costs = {name: network.costs(network.longest(size.spec.length), spared, precision) for name, size in sizes.items()}
    left = [part_left(size.spec, costs[name]) for name, size in sizes.items()]
    planned = sized(one.spec, left, len(inputs.splits.train))
    done = work(one.spec, [*planned.values()], row_macs, len(inputs.test))
    progress = one.teller.weighing(stage_prices(one.spec, {sizes[name].teller.size: planned[name] for name in planned}))
    found, failed = list[Prepared](), dict[str, SpecError]()
    for name, each in planned.items():
        size = sizes[name]
        try:
            goal = goal_of(size, network, costs[name], inputs.test.blank)
        except SpecError as error:
            failed[name] = error
            continue
        plan = plan_training(size.spec, each.steps, network.rate)
        made = Prepared(size, inputs, goal, each.nested, plan, done, size.teller.sized(progress))
        if each.nested and not found:  # since the larger ones have failed
            made = made.alone
        found.append(in_both_layouts(made, network, costs[name]) if each.twice else made)
    if not found:
        raise together(one.spec, failed)
    return Family(one, found, failed, progress), network


def in_both_layouts(made: Prepared, network: Network, costs: Costs) -> Prepared:
    """With the regular layout beside the free one, where that can be as small."""
    free, regular = (made.one.laid(layout) for layout in ("free", "regular"))
    free_half, regular_half = (partial(half, made.progress, number) for number in range(2))
    first = replace(made, one=free, progress=free_half)
    try:
        goal = goal_of(regular, network, costs, made.inputs.test.blank)
    except SpecError as error:
        made.one.teller.note(f"the free layout alone is made: {error.message}")
        return replace(made, one=free)
    return replace(first, regular=replace(made, one=regular, goal=goal, progress=regular_half))


def half(progress: Listener, number: int, said: Message) -> None:
    """Pass on steps of one of two as those of both."""
    if isinstance(said, StageProgress):
        done = said.step + number * said.steps
        said = said.model_copy(update={"step": done, "steps": 2 * said.steps})
    progress(said)


def together(spec: JobSpec, failed: Mapping[str, SpecError]) -> SpecError:
    """Every size's own fault, in the order of the sizes; of one budget, its own."""
    if not spec.budgets:
        [error] = failed.values()
        return error
    faults = [
        SpecError(of_size(fault.field, i), fault.message)
        for i, budget in enumerate(spec.budgets)
        if budget.name in failed
        for fault in failed[budget.name].faults
    ]
    return SpecErrors(faults)


def plan_training(spec: JobSpec, steps: Mapping[str, int], rate: float) -> Plan:
    """`rate`: of learning, if none is asked for."""
    return Plan(steps, dict.fromkeys(steps, spec.train.learning_rate or rate))


def stage_prices(spec: JobSpec, sizes: Mapping[str | None, Sized]) -> Prices:
    """Of what each stage trains, in steps of the dense model; the smallest size last, which trials are of.

    Trials take as much as all of it.
    """
    *_, smallest = sizes.values()
    shared = {"auto": sum(smallest.dense_steps.values())} if spec.coupling == "auto" else {}
    shared["teach"] = smallest.dense_steps["teach"]
    own = {(name, stage): size.dense_steps[stage] for name, size in sizes.items() for stage in ("prune", "recover")}
    return {(None, stage): price for stage, price in shared.items()} | own
