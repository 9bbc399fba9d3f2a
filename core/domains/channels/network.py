"""An image classifier, as it is trained and pruned: units are channels that go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from core.domains.anatomy import Anatomy
from core.domains.channels import norms
from core.domains.channels.costs import ImageCosts
from core.domains.channels.cut import cut, reshape
from core.domains.channels.families import Family
from core.domains.channels.gates import gated
from core.domains.channels.graph import Graph
from core.domains.channels.magnitude import column_sizes
from core.domains.channels.magnitude import norms as sizes
from core.domains.channels.tensorflow import as_torch_means
from core.domains.gates import Gates
from core.domains.network import TARGET, Network
from core.domains.structure import Structure
from core.domains.weights import file_bytes
from core.spec.job import Precision

RATE = 1e-4


class ChannelNetwork(Network):
    """BatchNorm keeps its running statistics while it is trained: batches are small, and so is the data.

    So the masked network is the cut one while it trains, too; what a cut changes of them is carried over (`remember`).
    """

    def __init__(
        self, body: Any, family: Family, graph: Graph, side: int, multiple: int = 1, earlier: Iterable[str] = ()
    ) -> None:
        """`graph`: of `body` with its head, for pictures of `side` pixels; widths are multiples of `multiple`.

        `earlier`: names of weights whose shapes are not those that config.json describes: an earlier job cut them.
        """
        super().__init__(body, family.head, graph.anatomy)
        self.family, self.side, self.multiple = family, side, multiple
        self.given = self.graph = graph  # of the dense network, and of what it is now
        self.earlier = frozenset(earlier)
        as_torch_means(self)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for norm in norms.norms(self).values():
            norm.eval()
        return self

    @property
    def rate(self) -> float:
        return RATE

    @property
    def probe(self) -> int:
        return 2400

    @property
    def scatter(self) -> float:
        """From +8 points of emoji to -9 of digits (benchmarks/results/images.md)."""
        return 2.0

    @property
    def wide(self) -> bool:
        """Convolutions in bfloat16 are no faster on most CPUs."""
        return False

    @property
    def here(self) -> Anatomy:
        return self.graph.anatomy

    def units(self) -> Structure:
        return Structure.dense(self.graph.anatomy)

    def norms(self) -> list[Tensor]:
        return sizes(self.assembled(), self.graph)

    @property
    def columns(self) -> int:
        return len(self.given.columns.unit)

    def column_norms(self) -> Tensor:
        return column_sizes(self.assembled(), self.given)

    def matrices(self) -> dict[str, nn.Parameter]:
        parameters = dict(self.body.named_parameters())
        return {
            name: parameters[name] for name, one in self.graph.weights.items() if one.positions and name in parameters
        }

    def costs(self, length: int, spared: int = 0, precision: Precision = "float32") -> ImageCosts:
        return ImageCosts.at(self.given, self.side, self.multiple, precision, self.head_name)

    def file_bytes(self, precision: Precision = "float32") -> int:
        state = self.assembled().state_dict()
        floats, whole = (
            {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point() is wanted}
            for wanted in (True, False)
        )
        return file_bytes(floats, precision, whole)

    def longest(self, wanted: int) -> int:
        """All pictures are of one size."""
        return self.side

    def gated(self, gates: Gates, present: Structure) -> AbstractContextManager[None]:
        blocks = gates.blocks[torch.from_numpy(self._graph_of(gates.anatomy).owner).to(gates.blocks.device)]
        graph = self._with_heads(self._graph_of(gates.anatomy))
        return gated(self, graph, gates.units * blocks, present, gates.columns)

    def cut(self, structure: Structure, optimizer: torch.optim.AdamW | None = None) -> None:
        cut(self, self._with_heads(self.graph), structure, optimizer)
        self.graph = self.graph.cut(structure)

    def reshape(self, structure: Structure) -> None:
        reshape(self, self._with_heads(self.graph), structure)
        self.graph = self.graph.cut(structure)

    def remember(self, batches: Iterable[Mapping[str, Tensor]]) -> Callable[[Structure], None]:
        if not norms.norms(self):
            return super().remember(batches)
        seen = [*batches]
        before, graph = norms.statistics(self, seen), self._with_heads(self.graph)

        def settle(structure: Structure) -> None:
            norms.match(self, seen, before, graph, structure)

        return settle

    def narrower(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of each weight that has another than config.json describes, by its name in the body."""
        given = self.given.weights
        return {
            name: one.shape
            for name, one in self.graph.weights.items()
            if name in self.earlier or one.shape != given[name].shape
        }

    def _graph_of(self, anatomy: Anatomy) -> Graph:
        return self.graph if anatomy == self.graph.anatomy else self.given

    def _with_heads(self, graph: Graph) -> Graph:
        """By the names of this network's own weights; every head reads what the target's does."""
        head, found = f"{self.head_name}.", {}
        for name, weight in graph.weights.items():
            if not name.startswith(head):
                found[f"body.{name}"] = weight
                continue
            for task, module in self.heads.items():
                path = name.removeprefix(head)
                owner, _, part = path.rpartition(".")
                tensor = getattr(module.get_submodule(owner), part)
                shape = weight.shape if task == TARGET else (tensor.shape[0], *weight.shape[1:])
                found[f"heads.{task}.{path}"] = replace(weight, shape=tuple(shape))
        return replace(graph, weights=found)
