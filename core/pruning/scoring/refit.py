"""Least squares after the cut: what is left makes up for what is gone, without any training.

After Kwon et al. (NeurIPS 2022, arXiv 2204.09656), who rescale the kept units of a layer so that its output on a few
rows is as near as can be to the dense model's. Ours: the whole output projection is solved for, not one factor a unit,
and at last what gives the logits, for layers that are gone altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from core.domains.network import TARGET, Network, last_linears
from core.domains.structure import Structure
from core.pruning.training.batches import draw
from core.pruning.training.coupling import Phase
from core.pruning.training.losses import padded

BATCHES = 10  # of rows, target's and sources', that the outputs are compared on
HEAD = "head"
RIDGE = 0.1  # how strongly the projection is held where it was, against the mean square of its inputs


class SeenError(Exception):
    """Nothing further of this forward pass is needed."""


@torch.no_grad()
def refit(
    student: Network,
    teacher: Network,
    plan: Sequence[Phase],
    seed: int,
    structure: Structure,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Solve for the output projections of `student`, in place, from the first block up, and for the head's last Linear.

    Each sees what is below it as it is now, and is to say what the dense `teacher` says there. No label is needed.
    `structure`: what the student was cut to. `alive` is called after each batch. One batch is held at a time.
    """
    streams = [stream for phase in plan for stream in phase.streams]
    where = next(student.parameters()).device
    drawn = draw([(stream.rows, stream.share) for stream in streams], BATCHES, seed)
    batches = [batch for index in drawn for batch in padded(streams, index, where)]
    student.eval()
    teacher.to(where).eval()
    kept = slice(None) if structure.hidden is None else list(structure.hidden)
    dense, left = (
        network.projections(dropped) | last_linear(network.heads[TARGET])
        for network, dropped in ((teacher, ()), (student, structure.dropped))
    )
    for name, projection in left.items():
        gram, cross = torch.zeros(0), torch.zeros(0)
        for number, batch in enumerate(batches):
            inputs, given = seen(student, projection, batch)
            _, wanted = seen(teacher, dense[name], batch)
            double = inputs.double()
            if projection.bias is not None:
                double = torch.cat([double, double.new_ones(len(double), 1)], 1)
            missing = (wanted if name == HEAD else wanted[:, kept]) - given
            products = double.T @ double, double.T @ missing.double()
            gram, cross = products if not number else (gram + products[0], cross + products[1])
            alive()
        solve(projection, gram, cross)


def last_linear(head: nn.Module) -> dict[str, nn.Linear]:
    """What gives a head's answers, under the name `HEAD`; of one that only pools, nothing."""
    return dict.fromkeys([HEAD], found[0][1]) if (found := last_linears(head)) else {}


def seen(network: Network, module: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What `module` gets and gives at every token but padding, or every row: (N, features). What follows is not run."""
    real, found = batch["attention_mask"].bool(), list[Tensor]()

    def keep(_module: nn.Module, args: Any, output: Tensor) -> None:
        for part in args[0], output:
            of_rows = part.ndim == 2 and len(part) == len(real)
            found.append(part if of_rows else part.reshape(*real.shape, -1)[real])
        raise SeenError

    handle = module.register_forward_hook(keep)
    try:
        with suppress(SeenError), network.in_one():
            network.logits(batch)
    finally:
        handle.remove()
    inputs, outputs = found
    return inputs, outputs


def solve(projection: nn.Linear, gram: Tensor, cross: Tensor) -> None:
    """Move weight and bias, measured from where they are, to the ridge solution.

    gram: inputs' products with each other, (features, features); cross: with what is missing, (features, outputs).
    """
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    change = torch.linalg.solve(gram, cross).to(projection.weight.dtype)
    width = projection.in_features
    projection.weight.add_(change[:width].T)
    if projection.bias is not None:
        projection.bias.add_(change[width])
