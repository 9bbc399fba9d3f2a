"""Learned source weights: a source counts as far as its gradient agrees with the target's on dev.

After META-TARTAN (Dery, Michel, Talwalkar, Neubig, ICLR 2022; arXiv 2109.07437): w = softmax(omega), and omega_k rises
by the cosine between the gradient of task k and that of the target on dev rows. Ours: the gradient is taken by the
gates of the units, some 1e4 numbers that exist in every stage, not by all weights. It says whether a source wants the
same units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from core.domains.gates import Gates, Grid
from core.domains.network import TARGET, Network
from core.pruning.system import parallel
from core.pruning.training.batches import Rows, draw
from core.pruning.training.coupling import Stream
from core.pruning.training.losses import batch_loss

UPDATES = 24  # of the weights in a stage
RATE = 0.5  # of an update: a source that always agrees (or never does) ends far from where it began


class LearnedWeights:
    """One weight for each stream of a phase, the target's first; they sum to the number of streams."""

    def __init__(self, streams: Sequence[Stream], dev: Rows, steps: int, seed: int) -> None:
        self._plain = list(streams)
        self.streams = list(streams)  # with their losses weighted
        self.omega = torch.zeros(len(streams))
        self.every = max(1, steps // UPDATES)
        self.curve: list[list[float]] = []
        rows = sum(stream.share for stream in streams)
        self.dev = Stream(dev, rows, TARGET, 1.0, 0.0)
        self._dev_rows = draw([(dev, rows)], steps, seed + 101)

    def values(self) -> list[float]:
        """The weights in force."""
        weights: list[float] = (torch.softmax(self.omega, 0) * len(self.omega)).tolist()
        return weights

    def update(
        self,
        network: Network,
        step: int,
        drawn: Sequence[Sequence[int]],
        under_masks: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Now and then, compare gradients on the batch that `drawn` names, and move the weights.

        `under_masks`: makes the network, inside, the one that is being trained.
        """
        if step % self.every:
            return
        training = network.training
        network.eval()  # dropout would tell two looks at the same rows apart
        with under_masks():
            wanted = gate_gradient(network, self.dev, next(self._dev_rows)[0])
            for k, (stream, index) in enumerate(zip(self._plain, drawn, strict=True)):
                found = gate_gradient(network, stream, index)
                self.omega[k] += RATE * float(torch.cosine_similarity(wanted, found, dim=0))
        network.train(training)
        self.curve.append([step, *(round(value, 4) for value in self.values())])
        self._weigh()

    def _weigh(self) -> None:
        self.streams = [
            replace(stream, label_weight=stream.label_weight * w, distil_weight=stream.distil_weight * w)
            for stream, w in zip(self._plain, self.values(), strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """What `resume` goes on from."""
        return {"omega": self.omega, "curve": self.curve}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where another has been: as many updates are behind as its curve has points."""
        self.omega, self.curve = state["omega"], state["curve"]
        for _ in self.curve:
            next(self._dev_rows)
        if self.curve:
            self._weigh()


def gate_gradient(network: Network, stream: Stream, index: Sequence[int]) -> Tensor:
    """Gradient of one stream's loss by the gate of every unit that the network has, at 1: flat, on the CPU."""
    where = next(network.parameters()).device
    present = network.units()
    gates = Gates.of(present, network.here).each(lambda ones: ones.to(where).requires_grad_())
    with network.gated(gates, present):
        loss = batch_loss(network, [stream], [index])
    found = torch.autograd.grad(loss, [gates.units], allow_unused=True, materialize_grads=True)
    parallel.average(found)
    grids = [Grid(gates.anatomy, kind) for kind in gates.anatomy.kinds]  # zeros in between: they round sums another way
    return torch.cat([grid.rows(found[0][grid.units]).flatten() for grid in grids]).float().cpu()
