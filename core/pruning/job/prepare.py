"""The stage `data`: rows, the dense network, what its units cost, and what is to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.job.goal import Goal, goal_of
from core.pruning.job.inputs import Inputs
from core.pruning.job.passes import Pass
from core.pruning.job.read import read_inputs
from core.pruning.system.device import device
from core.pruning.training.batches import Rows
from core.pruning.training.predict import predict
from core.schedule import Work, part_left, prices, training_steps, work
from core.spec.job import JobSpec
from core.spec.messages import Listener


@dataclass(frozen=True)
class Plan:
    """Optimiser steps and learning rates, filled in."""

    steps: Mapping[str, int]
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Prepared:
    """What all stages start from."""

    inputs: Inputs
    goal: Goal
    plan: Plan
    work: Work
    progress: Listener  # hears of steps, and says how far the whole job is


def prepare(one: Pass) -> tuple[Prepared, Network]:
    """Read the rows and the dense network. Raises SpecError for what cannot be met."""
    spec = one.spec

    def hear(network: Network, rows: Rows, name: str) -> Tensor:
        done = one.state.checkpoints.at(name)
        return predict(network.to(device()), rows, alive=one.teller.alive, checkpoint=done)

    inputs, network = read_inputs(spec, one.model.path, one.datasets, hear)
    spared = inputs.vocabulary.spared if inputs.vocabulary else 0
    rows = [inputs.train, *(source.rows for source in inputs.sources)]
    mean = round(float(torch.cat([part.lengths for part in rows]).float().mean()))
    row_macs = network.costs(mean).macs.model(Structure.dense(network.anatomy))
    costs = network.costs(network.longest(spec.length), spared)
    left = part_left(spec, costs)
    plan = plan_training(spec, len(inputs.splits.train), left, network.rate)
    done = work(spec, plan.steps, left, row_macs, len(inputs.test))
    goal = goal_of(one, network, costs, inputs.test.blank)
    return Prepared(inputs, goal, plan, done, one.teller.weighing(stage_prices(spec, plan, left))), network


def plan_training(spec: JobSpec, train_rows: int, left: float, rate: float) -> Plan:
    """Steps as in `core.schedule`; `rate`: of learning, if none is asked for."""
    steps = training_steps(spec, train_rows, left)
    return Plan(steps, dict.fromkeys(steps, spec.train.learning_rate or rate))


def stage_prices(spec: JobSpec, plan: Plan, left: float) -> dict[str, float]:
    """Of what each stage trains, in steps of the dense model. Trials take as much as all of it."""
    each = {stage: plan.steps[stage] * price for stage, price in prices(left).items()}
    return ({"auto": sum(each.values())} if spec.coupling == "auto" else {}) | each
