"""Learn which units to drop: hard-concrete masks under a Lagrangian budget (`l0`, after CoFi, ACL 2022).

The network shrinks while it is pruned: whatever the masks have given up is cut out at intervals, so that the steps
get cheaper as the target rises. The budget itself is met by `fit` at the end, not by the masks' expectation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from itertools import islice

import torch

from core.domains.gates import Masks
from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.masking.pdp import gated_loss
from core.pruning.scoring.fitter import Fitter
from core.pruning.system import parallel
from core.pruning.system.device import device
from core.pruning.system.malloc import trim_heap
from core.pruning.training.batches import Rows, draw
from core.pruning.training.checkpoint import random_state, restore, set_random_state, trained
from core.pruning.training.coupling import Phase, Stream
from core.pruning.training.train import (
    EVALUATIONS,
    History,
    Pace,
    Training,
    dev_scores,
    learn,
    optimizer_for,
    rate_at,
    require_number,
)

RAMP = 0.6  # of the steps: the target sparsity rises linearly, then stays
CUTS = 8  # times that dead units are cut out on the way
MARGIN = 1.5  # the network on the way keeps at least this multiple of what its target asks
MASK_TRAVEL = 12.0  # how far a log-alpha could move in a stage
LAMBDA_TRAVEL = 60.0  # how far a lambda could rise in a stage
TIE = 10.0  # how hard tied masks are pulled together


def prune(
    network: Network, fitter: Fitter, plan: Sequence[Phase], dev: Rows, training: Training
) -> tuple[Structure, History]:
    """Train weights and masks together, then cut `network` in place to what the fitter makes of the masks.

    Returns what it was cut to, in the dense network's numbering, and how it got there.

    Loss = task + lambda1 (t - s) + lambda2 (t - s)^2 with s the expected sparsity and t its target; the lambdas
    rise by gradient ascent. Tied sources have masks of their own under the same constraint, and TIE times their
    distance from the target's masks is added; the target's decide. Rates of masks and lambdas are scaled so that a
    short stage can close a mask at all. Steps of rows that may not move masks come before all of that: by size alone
    all masks would close alike.
    """
    steps, seed, checkpoint = training.steps, training.seed, training.checkpoint
    cost, limit, where = fitter.cost, fitter.limit, device()
    network.to(where).train()
    torch.manual_seed(seed)
    generator = torch.Generator(where).manual_seed(seed)
    tied = sum(stream.masks == "own" for stream in plan[-1].streams)
    every = [Masks(cost).to(where) for _ in range(1 + tied)]  # the target's masks, then those of tied sources
    masks = every[0]
    dense = Structure.dense(cost.anatomy)
    saved = checkpoint.load()
    present = Structure.from_json(saved["present"]) if saved else dense
    if saved:
        network.cut(present)
    lambdas = torch.zeros(2, device=where, requires_grad=True)
    optimizer = optimizer_for(network, training.rate)
    before = _unmoved(plan, steps)
    mask_rate = max(1e-2, MASK_TRAVEL / (steps - before))
    mask_optimizer = torch.optim.Adam([p for each in every for p in each.parameters()], lr=mask_rate)
    lambda_optimizer = torch.optim.Adam([lambdas], lr=LAMBDA_TRAVEL / (steps - before), maximize=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_at, steps=steps))

    goal = 1 - limit / cost.dense
    history, pace, first = History(), Pace(training.report, "prune", steps), 0
    weights = learn(plan[-1], dev, steps, seed) if training.learned_weights else None
    optimizers = {"network": optimizer, "masks": mask_optimizer, "lambdas": lambda_optimizer}
    if saved:
        first, history, pace.dev = saved["step"], History(**saved["history"]), saved["dev"]
        restore(network, saved["network"])
        for own, state in zip(every, saved["masks"], strict=True):
            own.load_state_dict(state)
        lambdas.data.copy_(saved["lambdas"])
        for name, each in optimizers.items():
            each.load_state_dict(saved["optimizers"][name])
        schedule.load_state_dict(saved["schedule"])
        if weights:
            weights.resume(saved["weights"])
        generator.set_state(saved["generator"])
        set_random_state(saved["random"])

    def under_masks(present: Structure) -> AbstractContextManager[None]:
        return network.gated(masks.median(), present)

    for step, (streams, index) in enumerate(islice(_batches(plan, steps, seed), first, None), first):
        target = goal * min(1.0, max(0, step + 1 - before) / (RAMP * (steps - before)))
        gates, *others = (one.draw(generator) for one in every)
        loss = gated_loss(network, weights.streams if weights else streams, index, gates, present, others)
        gaps = torch.stack([target - (1 - each.expected() / cost.dense) for each in every])
        total = loss
        if step >= before:
            total = total + (lambdas[0] * gaps + lambdas[1] * gaps.square()).sum() + TIE * masks.apart(every[1:])
        for each in optimizers.values():
            each.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        moved = [p for each in optimizers.values() for group in each.param_groups for p in group["params"]]
        parallel.average(parameter.grad for parameter in moved)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for each in optimizers.values():
            each.step()
        schedule.step()
        for own in every:
            own.clamp()
        if weights:
            weights.update(network, step + 1, index, partial(under_masks, present))

        if (step + 1) % max(1, steps // CUTS) == 0 and step + 1 < steps:
            room = min(cost.dense, int(MARGIN * (1 - target) * cost.dense))
            inner = fitter.on_the_way(masks.scores(), max(limit, room))
            if inner is not None:
                network.cut(inner.within(present), optimizer)
                trim_heap()
                present = inner
                for own in every:
                    own.keep(present)
        if (step + 1) % max(1, steps // EVALUATIONS) == 0:
            with torch.no_grad(), under_masks(present):
                pace.dev = dev_scores(network, dev, pace.alive)
            require_number(pace.dev["loss"], step + 1, "prune")
            facts = {
                "target": target,
                "sparsity": target - float(gaps[0].detach()),
                "lambda1": float(lambdas[0].detach()),
            }
            history.points.append({"step": step + 1, **facts, **pace.dev})
        pace.step(step + 1, sparsity=1 - cost.of(present) / cost.dense)
        if step + 1 < steps and checkpoint.due():
            checkpoint.save(
                {
                    "step": step + 1,
                    "history": asdict(history),
                    "dev": pace.dev,
                    "present": present.to_json(),
                    "network": trained(network),
                    "masks": [own.state_dict() for own in every],
                    "lambdas": lambdas,
                    "optimizers": {name: each.state_dict() for name, each in optimizers.items()},
                    "schedule": schedule.state_dict(),
                    "weights": weights and weights.state(),
                    "generator": generator.get_state(),
                    "random": random_state(),
                }
            )

    structure = fitter(masks.scores())
    network.cut(structure.within(present))
    history.kept_step = steps
    history.weights = weights.curve if weights else []
    return structure, history


def _unmoved(plan: Sequence[Phase], steps: int) -> int:
    """Steps at the start in which no stream may move the masks."""
    fixed = [all(stream.masks == "fixed" for stream in phase.streams) for phase in plan]
    return sum(count for count, still in zip(_counts(plan, steps), fixed, strict=True) if still)


def _counts(plan: Sequence[Phase], steps: int) -> list[int]:
    first = [round(phase.part * steps) for phase in plan[:-1]]
    return [*first, steps - sum(first)]


def _batches(plan: Sequence[Phase], steps: int, seed: int) -> Iterator[tuple[Sequence[Stream], list[list[int]]]]:
    for number, (phase, count) in enumerate(zip(plan, _counts(plan, steps), strict=True)):
        for index in draw([(stream.rows, stream.share) for stream in phase.streams], count, seed + number):
            yield phase.streams, index
