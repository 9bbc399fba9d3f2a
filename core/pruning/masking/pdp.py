"""`pdp`: a mask without parameters, which follows from the size of the weights that it drops.

Cho, Adya, Naik, "PDP: Parameter-free Differentiable Pruning is All You Need" (NeurIPS 2023, arXiv 2305.11203), for
single weights: m(w) = sigmoid((w^2 - t^2) / tau), with the threshold t midway between the smallest weight that is kept
and the largest that is dropped (so in sparsity.py). Masks on heads, neurons and blocks are our extension: a unit's size
is the root mean square of its weights, against the mean of its layer in the dense model; heads and neurons each have a
threshold of their own for the same share of both; tau = KAPPA t^2; the mask multiplies the unit's output, once. A
block's mask is that of its largest unit: it goes with its last unit.

Thresholds are computed anew each step while the share that is dropped rises. Then the network is cut to what the masks
say, and the rest of the steps train it as it is: no soft mask is left to be folded into any weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import islice
from math import ceil
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.domains.fit import Scores
from core.domains.gates import Gates, Grid
from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.scoring.fitter import Fitter
from core.pruning.system import parallel
from core.pruning.system.device import device
from core.pruning.system.malloc import trim_heap
from core.pruning.training.batches import Rows, draw
from core.pruning.training.checkpoint import State, random_state, restore, set_random_state, trained
from core.pruning.training.coupling import Phase, Stream
from core.pruning.training.losses import batch_loss
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

RAMP = 0.6  # of the steps: the share that is dropped rises linearly, then stays
HARD = 0.8  # of the steps: then the network is cut
CUTS = 6  # times that units far below the threshold are cut out on the way
MARGIN = 1.5  # the network on the way keeps at least this multiple of what its target asks
KAPPA = 0.05  # how soft: of t^2
TINY = 1e-6  # of a layer's mean size: a threshold is 0 where more is gone than is to be dropped

Sizes = list[Tensor]  # of the units of each kind, in the dense numbering; 0 for what is gone


def threshold(sizes: Tensor, dropped: int) -> Tensor:
    """Midway between the largest of the `dropped` smallest sizes and the next one; without a gradient."""
    flat = sizes.detach().abs().flatten()
    pair = dropped - 1, min(dropped, len(flat) - 1)
    # On a CPU a sort takes ten times as long.
    ordered = flat.sort().values if flat.is_cuda else torch.from_numpy(np.partition(flat.numpy(), pair))
    return (ordered[pair[0]] + ordered[pair[1]]) / 2


def soft_mask(sizes: Tensor, dropped: int, tau: float | None = None) -> Tensor:
    """The mask of each of `sizes`, of any shape, when so many of the smallest are dropped; tau: KAPPA t^2 unless given.

    Exactly `dropped` masks are below 1/2, ties aside. With nothing to drop there is no threshold, and every mask is 1.
    """
    if not dropped:
        return torch.ones_like(sizes)
    square = threshold(sizes, dropped).square()
    return torch.sigmoid((sizes.square() - square) / (KAPPA * square.clamp(min=TINY**2) if tau is None else tau))


class Course(Protocol):
    """What is pruned, and how far. `share` is that of the way to the budget, from 0 to 1."""

    network: Network
    hard: bool  # masks are gone: what they dropped is out
    goal: float  # part of the encoder that is dropped in the end

    def backward(self, streams: Sequence[Stream], index: Sequence[Sequence[int]], share: float) -> None:
        """Gradients of the loss of a batch under the masks."""

    def under_masks(self, share: float) -> AbstractContextManager[None]:
        """Inside, the network is as the masks make it."""

    def thin(self, share: float, optimizer: torch.optim.AdamW) -> None:
        """Now and then: a chance to remove what will not come back."""

    def harden(self, optimizer: torch.optim.AdamW) -> None:
        """Drop for good what the masks say, to meet the budget."""

    def borrow(self, streams: Sequence[Stream]) -> None:
        """A phase of sources alone is over."""

    def state(self) -> State:
        """What `resume` needs beside the weights."""

    def resume(self, state: State, weights: Mapping[str, Tensor]) -> None:
        """Be as far as when this was the `state`, and these what had been `trained`."""


def follow(course: Course, plan: Sequence[Phase], dev: Rows, training: Training) -> History:
    """Train under masks while the share that is dropped rises, then without."""
    steps, seed, checkpoint = training.steps, training.seed, training.checkpoint
    network = course.network
    network.to(device()).train()
    torch.manual_seed(seed)
    if (saved := checkpoint.load()) is not None:
        course.resume(saved["course"], saved["network"])
    optimizer = optimizer_for(network, training.rate)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0  # it would shrink for good what is masked now
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_at, steps=steps))
    weights = learn(plan[-1], dev, steps, seed) if training.learned_weights else None
    history, pace, step, first = History(), Pace(training.report, "prune", steps), 0, 0
    if saved is not None:
        first, history, pace.dev = saved["step"], History(**saved["history"]), saved["dev"]
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        if weights:
            weights.resume(saved["weights"])
        set_random_state(saved["random"])
    for number, phase in enumerate(plan):
        count = steps - step if number == len(plan) - 1 else round(phase.part * steps)
        done = max(0, min(first - step, count))
        step += done
        drawn = draw([(stream.rows, stream.share) for stream in phase.streams], count, seed + number)
        for index in islice(drawn, done, None):
            share = min(1.0, step / (RAMP * steps))
            if step >= ceil(HARD * steps) and not course.hard:
                course.harden(optimizer)
            elif step and step % max(1, steps // CUTS) == 0 and not course.hard:
                course.thin(share, optimizer)
            optimizer.zero_grad(set_to_none=True)
            course.backward(weights.streams if weights else phase.streams, index, share)
            parallel.average(parameter.grad for parameter in network.parameters())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if weights:
                weights.update(network, step, index, partial(course.under_masks, share))
            if step % max(1, steps // EVALUATIONS) == 0:
                with course.under_masks(share):
                    pace.dev = dev_scores(network, dev, pace.alive)
                require_number(pace.dev["loss"], step, "prune")
                gone = share * course.goal
                history.points.append({"step": step, "target": gone, "sparsity": gone, **pace.dev})
            pace.step(step, sparsity=share * course.goal)
            if step < steps and checkpoint.due():
                checkpoint.save(
                    {
                        "step": step,
                        "history": asdict(history),
                        "dev": pace.dev,
                        "course": course.state(),
                        "network": trained(network),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "weights": weights and weights.state(),
                        "random": random_state(),
                    }
                )
        if number < len(plan) - 1 and step >= first:
            course.borrow(phase.streams)
    if not course.hard:
        course.harden(optimizer)
    history.kept_step, history.weights = steps, weights.curve if weights else []
    return history


def prune(
    network: Network, fitter: Fitter, plan: Sequence[Phase], dev: Rows, training: Training
) -> tuple[Structure, History]:
    """Train the weights under masks that follow from them, then under none; cut `network` in place on the way.

    Where sources come first, in a phase of their own, the sizes that they leave are averaged into those that decide, by
    the sources' weight, if they share masks. Source rows that do not share masks see them, and no gradient of theirs
    runs through them; but as they train the weights, they move the sizes that the masks follow from.
    """
    course = Units(network.to(device()), fitter)
    history = follow(course, plan, dev, training)
    return course.present, history


class Units:
    """A `Course` that drops units: their sizes, and the masks that follow."""

    def __init__(self, network: Network, fitter: Fitter) -> None:
        self.network, self.fitter, self.cost = network, fitter, fitter.cost
        self.present = Structure.dense(self.cost.anatomy)
        self.goal = 1 - fitter.limit / self.cost.dense
        self.hard = False
        self.means = [float(sizes.detach().mean()) for sizes in network.norms()]
        self.grids = [Grid(self.cost.anatomy, kind) for kind in self.cost.anatomy.kinds]
        self.lent: tuple[Sizes, float] | None = None

    def sizes(self) -> Sizes:
        """Of the units that are left, averaged with what a source has lent; 0 for those that are gone."""
        found = torch.zeros(self.cost.anatomy.size, device=device())
        lent, weight = (torch.cat(self.lent[0]), self.lent[1]) if self.lent else (None, 0.0)
        blocks = zip(self.cost.anatomy.spans, self.present.kept, self.network.norms(), self.means, strict=True)
        for span, kept, sizes, mean in blocks:
            if kept:
                units = [span.start + unit for unit in kept]
                size = sizes / mean
                found[units] = size if lent is None else (size + weight * lent[units]) / (1 + weight)
        return [found[grid.units] for grid in self.grids]

    def dropped(self, size: Tensor, share: float) -> int:
        """How many units of a kind are dropped at this `share` of the way to the budget; one at least is left."""
        return max(0, min(size.numel() - 1, round(share * self.goal * size.numel())))

    def gates(self, share: float) -> Gates | None:
        """None once the network is cut, and before anything is dropped. A unit's times its block's is its mask."""
        if self.hard or not share:
            return None
        units, blocks = [], []
        for grid, size in zip(self.grids, self.sizes(), strict=True):
            masks = grid.rows(soft_mask(size, self.dropped(size, share)))
            block = masks.amax(1).clamp(min=TINY)
            units.append(grid.flat(masks / block[:, None]))
            blocks.append(block)
        return Gates(self.cost.anatomy, torch.cat(units), torch.cat(blocks))

    def scores(self, share: float) -> Scores:
        """The masks before their sigmoid, s^2 / t^2 - 1: above 0 is kept."""
        found = torch.cat(
            [
                (size.detach() / threshold(size, max(1, self.dropped(size, share))).clamp(min=TINY)).square()
                for size in self.sizes()
                if len(size)
            ]
        )
        has = Gates.of(self.present, self.cost.anatomy).units.bool()
        return Scores((found.cpu().double() - 1).where(has, -torch.inf).numpy())

    def backward(self, streams: Sequence[Stream], index: Sequence[Sequence[int]], share: float) -> None:
        """Rows that do not share masks see them, but move none."""
        loss = gated_loss(self.network, streams, index, self.gates(share), self.present)
        loss.backward()  # type: ignore[no-untyped-call]

    def under_masks(self, share: float) -> AbstractContextManager[None]:
        """Inside, the units' outputs are masked; no gradient goes to the masks."""
        with torch.no_grad():
            gates = self.gates(share)
        return nullcontext() if gates is None else self.network.gated(gates, self.present)

    def thin(self, share: float, optimizer: torch.optim.AdamW) -> None:
        """Cut out what is far below the thresholds."""
        room = int(MARGIN * (1 - share * self.goal) * self.cost.dense)
        if room < self.cost.of(self.present):
            inner = self.fitter.on_the_way(self.scores(share), max(self.fitter.limit, room))
            if inner is not None:
                self._cut(inner, optimizer)

    def harden(self, optimizer: torch.optim.AdamW) -> None:
        """Cut to the budget."""
        self._cut(self.fitter(self.scores(1.0)), optimizer)
        self.hard = True

    def _cut(self, inner: Structure, optimizer: torch.optim.AdamW) -> None:
        self.network.cut(inner.within(self.present), optimizer)
        trim_heap()
        self.present = inner

    def borrow(self, streams: Sequence[Stream]) -> None:
        """Remember the sizes that sources have left, if they share masks."""
        lending = [stream for stream in streams if stream.masks == "shared"]
        if lending:
            weight = sum(stream.label_weight * stream.share for stream in lending) / sum(s.share for s in lending)
            self.lent = [size.detach() for size in self.sizes()], weight

    def state(self) -> State:
        """What `resume` needs beside the weights."""
        return {"present": self.present.to_json(), "hard": self.hard, "lent": self.lent}

    def resume(self, state: State, weights: Mapping[str, Tensor]) -> None:
        """Be as far as when this was the `state`."""
        self.present, self.hard = Structure.from_json(state["present"]), state["hard"]
        if state["lent"]:
            sizes, weight = state["lent"]
            self.lent = [size.to(device()) for size in sizes], weight
        self.network.cut(self.present)
        restore(self.network, weights)


def gated_loss(
    network: Network,
    streams: Sequence[Stream],
    index: Sequence[Sequence[int]],
    gates: Gates | None,
    present: Structure,
    own: Sequence[Gates] = (),
) -> Tensor:
    """Loss of one batch under the target's masks; rows that may not move them see them as they are.

    `own`: the masks of streams that have such. Streams under the same masks share one forward pass.
    """
    if gates is None:
        return batch_loss(network, streams, index)
    still = gates.each(Tensor.detach)
    uses = [[i for i, stream in enumerate(streams) if stream.masks == use] for use in ("shared", "fixed", "own")]
    groups = [(gates, uses[0]), (still, uses[1]), *((values, [i]) for values, i in zip(own, uses[2], strict=True))]
    loss, rows = torch.zeros((), device=gates.units.device), sum(map(len, index))
    for values, members in groups:
        if members:
            taken = [index[i] for i in members]
            with network.gated(values, present):
                part = batch_loss(network, [streams[i] for i in members], taken)
            loss = loss + part * (sum(map(len, taken)) / rows)
    return loss
