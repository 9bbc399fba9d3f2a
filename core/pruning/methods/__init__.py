"""The pruning methods: what a method is. Each is a file beside this one, and the file's name is the method's.

A method's file says in FACTS, a dict of literals, what core/spec/methods.py asks of it, and holds `prune`, a `Method`:
a function that gets the taught network, scores what can be cut, and leaves the network as the fitter decides. One
that only ranks units, without training, need only be a `Score`: `Scored` makes a method of it. One that can zero single
weights holds `zero`, too, a `Zeroing`. Nothing else is to be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from core.domains.fit import Scores
from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.importance import BATCHES
from core.pruning.scoring.settle import cut_settled
from core.pruning.system.device import device
from core.pruning.training.batches import Rows
from core.pruning.training.checkpoint import NOWHERE, Checkpoint
from core.pruning.training.coupling import Phase
from core.pruning.training.train import History, Training
from core.spec.budget import Pattern
from core.spec.messages import StageProgress


class Method(Protocol):
    """Cuts `network` in place to what the fitter makes of the scores that decide."""

    def __call__(
        self, network: Network, fitter: Fitter, plan: Sequence[Phase], dev: Rows, training: Training
    ) -> tuple[Structure, History]:
        """Returns what it was cut to, in the dense network's numbering, and the learning curve.

        `plan` says which rows to use, target and sources, and which of them may move masks; `training.steps` is 0 for
        a method that does not train.
        """


class Score(Protocol):
    """Ranks the units of a network, higher for what is rather kept; `report` hears how many batches are done."""

    def __call__(
        self,
        network: Network,
        fitter: Fitter,
        plan: Sequence[Phase],
        seed: int,
        /,
        *,
        report: Callable[[int], None],
        checkpoint: Checkpoint = NOWHERE,
    ) -> Scores:
        """Scores in one scale for all units; of hidden dimensions, too, where the fitter wants them."""


class Zeroing(Protocol):
    """Sets this part of the encoder's weights to zero, in that pattern; shapes stay."""

    def __call__(
        self,
        network: Network,
        sparsity: float,
        pattern: Pattern,
        plan: Sequence[Phase],
        dev: Rows,
        training: Training,
        /,
    ) -> History:
        """Returns the learning curve. Arguments as a `Method` has them."""


@dataclass(frozen=True)
class Scored:
    """The method that scores once, and cuts once."""

    score: Score

    def __call__(
        self, network: Network, fitter: Fitter, plan: Sequence[Phase], dev: Rows, training: Training
    ) -> tuple[Structure, History]:
        """As a `Method`."""
        structure = fitter(self.scores(network.to(device()), fitter, plan, training))
        cut_settled(network, structure, plan, training.seed)
        return structure, History()

    def scores(self, network: Network, fitter: Fitter, plan: Sequence[Phase], training: Training) -> Scores:
        """Of a network that stays as it is."""

        def heard(done: int) -> None:
            training.report(StageProgress(stage="prune", step=done, steps=BATCHES))

        return self.score(network, fitter, plan, training.seed, report=heard, checkpoint=training.checkpoint)


def pruning(name: str) -> Method:
    """How the method cuts whole units."""
    return cast(Method, import_module(f"{__name__}.{name}").prune)


def zeroing(name: str) -> Zeroing:
    """How the method zeroes single weights."""
    return cast(Zeroing, import_module(f"{__name__}.{name}").zero)
