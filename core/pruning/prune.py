"""Learn which units to drop: hard-concrete masks under a Lagrangian budget (`l0`, after CoFi, ACL 2022).

The network shrinks while it is pruned: whatever the masks have given up is cut out at intervals, so that the steps
get cheaper as the target rises. The budget itself is met by `fit` at the end, not by the masks' expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from core.pruning.batches import Rows, draw
from core.pruning.coupling import Phase
from core.pruning.cut import cut
from core.pruning.fit import fit
from core.pruning.masks import Masks, gated
from core.pruning.network import Network, device
from core.pruning.train import EVALUATIONS, History, Pace, Report, batch_loss, dev_scores, optimizer_for, rate_at
from core.spec.cost import CostModel
from core.spec.structure import Structure

RAMP = 0.6  # of the steps: the target sparsity rises linearly, then stays
CUTS = 8  # times that dead units are cut out on the way
MARGIN = 1.5  # the network on the way keeps at least this multiple of what its target asks
MASK_TRAVEL = 12.0  # how far a log-alpha could move in a stage
LAMBDA_TRAVEL = 60.0  # how far a lambda could rise in a stage


@dataclass(frozen=True)
class Pruned:
    """The network, cut to `structure` (dense numbering), and how it got there."""

    structure: Structure
    history: History


def prune(
    network: Network,
    cost: CostModel,
    limit: int,
    plan: Sequence[Phase],
    dev: Rows,
    *,
    steps: int,
    rate: float,
    seed: int,
    report: Report,
) -> Pruned:
    """Train weights and masks together, then cut `network` in place to at most `limit` encoder parameters.

    Loss = task + lambda1 (t - s) + lambda2 (t - s)^2 with s the expected sparsity and t its target; the lambdas
    rise by gradient ascent. Rates of masks and lambdas are scaled so that a short stage can close a mask at all.
    """
    where = device()
    network.to(where).train()
    torch.manual_seed(seed)
    generator = torch.Generator(where).manual_seed(seed)
    masks = Masks(cost).to(where)
    lambdas = torch.zeros(2, device=where, requires_grad=True)
    optimizer = optimizer_for(network, rate)
    mask_rate = max(1e-2, MASK_TRAVEL / steps)
    mask_optimizer = torch.optim.Adam(masks.parameters(), lr=mask_rate)
    lambda_optimizer = torch.optim.Adam([lambdas], lr=LAMBDA_TRAVEL / steps, maximize=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_at, steps=steps))

    dense = Structure.dense(cost.architecture)
    dense_params = cost.encoder_params(dense)
    goal = 1 - limit / dense_params
    reserve = 2 * cost.head // cost.neuron + cost.architecture.layers  # neurons that let the last fit be exact
    present = dense
    history, pace = History(), Pace(report, "prune", steps)
    batches = _batches(plan, steps, seed)
    for step in range(steps):
        target = goal * min(1.0, (step + 1) / (RAMP * steps))
        streams, index = next(batches)
        with gated(network, masks.draw(generator), present):
            loss = batch_loss(network, streams, index)
        gap = target - (1 - masks.expected_params() / dense_params)
        total = loss + lambdas[0] * gap + lambdas[1] * gap.square()
        for each in (optimizer, mask_optimizer, lambda_optimizer):
            each.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for each in (optimizer, mask_optimizer, lambda_optimizer):
            each.step()
        schedule.step()
        masks.clamp()

        if (step + 1) % max(1, steps // CUTS) == 0 and step + 1 < steps:
            room = min(dense_params, int(MARGIN * (1 - target) * dense_params))
            inner = fit(masks.scores(), cost, max(limit, room))
            if sum(map(len, inner.neurons)) >= reserve:
                cut(network, inner.within(present), optimizer)
                present = inner
                masks.keep(present)
        if (step + 1) % max(1, steps // EVALUATIONS) == 0:
            history.points.append(_look(network, masks, present, dev, step + 1, target, gap, lambdas))
            pace.dev = {k: history.points[-1][k] for k in ("accuracy", "loss")}
        pace.step(step + 1, sparsity=1 - cost.encoder_params(present) / dense_params)

    structure = fit(masks.scores(), cost, limit)
    cut(network, structure.within(present))
    history.kept_step = steps
    return Pruned(structure, history)


def _batches(plan: Sequence[Phase], steps: int, seed: int) -> Any:
    done = 0
    for number, phase in enumerate(plan):
        count = steps - done if number == len(plan) - 1 else round(phase.part * steps)
        done += count
        for index in draw([(stream.rows, stream.share) for stream in phase.streams], count, seed + number):
            yield phase.streams, index


def _look(
    network: Network,
    masks: Masks,
    present: Structure,
    dev: Rows,
    step: int,
    target: float,
    gap: torch.Tensor,
    lambdas: torch.Tensor,
) -> dict[str, float]:
    with torch.no_grad(), gated(network, masks.median(), present):
        scores = dev_scores(network, dev)
    expected = target - float(gap.detach())
    return {"step": step, "target": target, "sparsity": expected, "lambda1": float(lambdas[0].detach()), **scores}
