"""A cut at once: what it changes of running statistics is made up for, by the rows that are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from core.domains.network import Network
from core.domains.structure import Structure
from core.pruning.training.batches import draw
from core.pruning.training.coupling import Phase
from core.pruning.training.losses import padded
from core.rows.modality import Batch

BATCHES = 16


def cut_settled(network: Network, structure: Structure, plan: Sequence[Phase], seed: int) -> None:
    """Cut `network` in place, before anything of it is selected; rows of target and sources, without their labels."""
    settle = network.remember(_batches(network, plan, seed))
    network.cut(structure)
    settle(structure)


def _batches(network: Network, plan: Sequence[Phase], seed: int) -> Iterator[Batch]:
    """Drawn only if they are looked at."""
    streams = [*chain.from_iterable(phase.streams for phase in plan)]
    where = next(network.parameters()).device
    for index in draw([(stream.rows, stream.share) for stream in streams], BATCHES, seed):
        yield from padded(streams, index, where)
