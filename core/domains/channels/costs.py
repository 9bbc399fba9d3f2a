"""Every cost of an image classifier, and what a budget asks of its channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from core.domains.channels.cost import Bilinear, ChannelCosts
from core.domains.channels.graph import Graph
from core.domains.structure import Structure
from core.spec.budget import Budget
from core.spec.errors import SpecError
from core.spec.job import HiddenSize, Layout

UNITS = {"params": "parameters", "macs": "multiply-accumulates for a picture of {side} pixels", "bytes": "bytes"}


@dataclass(frozen=True, eq=False)
class ImageCosts(ChannelCosts):
    """Of one network, for a picture of `side` pixels; widths are multiples of `multiple` channels."""

    length: int = 0  # the side
    multiple: int = 1
    activations: int = 0  # numbers that convolutions and linear layers give for a picture
    matrices: int = 0  # weights of convolutions and linear layers: what 'sparsity' is of

    @classmethod
    def at(cls, graph: Graph, side: int, multiple: int) -> ImageCosts:
        """From what a graph says of the weights."""
        found = ChannelCosts.of(graph)
        matrices = sum(prod(weight.shape) for weight in graph.weights.values() if weight.positions)
        activations = sum(weight.positions * weight.shape[0] for weight in graph.weights.values() if weight.positions)
        return cls(found.params, found.macs, found.bytes, side, multiple, activations, matrices)

    def of(self, structure: Structure) -> ImageCosts:  # type: ignore[override]
        """The same: no structure changes a price."""
        return self

    def limit(self, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> tuple[Bilinear, int]:
        """Give the cost that `budget` limits, and the most that channels may cost; SpecError if out of reach."""
        if budget.kind == "sparsity":
            return self.params, self.params.dense
        cost: Bilinear = getattr(self, budget.kind)
        dense, low = cost.before, cost.least(self.multiple) + cost.outside
        limit = budget.limit(dense)
        if limit < low:
            advice = f'; with "channels": {{"multiple": 1}} it can have {cost.smallest + cost.outside:,}'
            raise SpecError(
                f"/budget/{budget.kind}",
                f"out of reach: this model can have {low:,} to {dense:,} {UNITS[budget.kind].format(side=self.length)} "
                f"({low / dense:.4f} of the dense count), asked were {limit:,}{advice * (self.multiple > 1)}",
            )
        return cost, min(limit, dense) - cost.outside
