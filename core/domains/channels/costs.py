"""Every cost of an image classifier, and what a budget asks of its channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from core.domains.channels.cost import Bilinear, ChannelCosts
from core.domains.channels.fit import fit_channels
from core.domains.channels.graph import Graph
from core.domains.channels.own_readers.cover import covered
from core.domains.channels.own_readers.fit import fit_own
from core.domains.channels.own_readers.order import ordered
from core.domains.channels.reach import Reach
from core.domains.fit import Scores
from core.domains.structure import Structure
from core.spec.budget import Budget
from core.spec.job import HiddenSize, Layout, Precision


@dataclass(frozen=True, eq=False)
class ImageCosts(ChannelCosts):
    """Of one network, for a picture of `side` pixels; widths are multiples of `multiple` channels."""

    length: int = 0  # the side
    multiple: int = 1
    activations: int = 0  # numbers that convolutions and linear layers give for a picture
    matrices: int = 0  # weights of convolutions and linear layers, but the head's: what 'sparsity' is of
    in_fours: int = 0  # of these, where input channels fill groups of four: what N:M patterns are of
    own: Graph | None = None  # where readers may read their own channels

    @classmethod
    def at(
        cls, graph: Graph, side: int, multiple: int, precision: Precision = "float32", head: str = "classifier"
    ) -> ImageCosts:
        """From what a graph says of the weights; `head`: where the head's are."""
        found = ChannelCosts.of(graph, precision)
        named = {name: weight for name, weight in graph.weights.items() if weight.positions}
        layers, zeros = [*named.values()], [weight for name, weight in named.items() if not name.startswith(f"{head}.")]
        return cls(
            found.params,
            found.macs,
            found.bytes,
            side,
            multiple,
            activations=sum(weight.positions * weight.shape[0] for weight in layers),
            matrices=sum(prod(weight.shape) for weight in zeros),
            in_fours=sum(prod(weight.shape) for weight in zeros if weight.shape[1] % 4 == 0),
            own=graph if graph.columns.paths else None,
        )

    def find(self, scores: Scores, cost: Bilinear, limit: int) -> Structure:
        """The structure of the best scores whose cost, but for `outside`, is at most `limit`."""
        if self.own is None:
            return fit_channels(scores, cost, limit, self.multiple)
        found = ordered(self.own, fit_own(scores, cost, limit, self.multiple))
        return covered(self.own, cost, limit, found, self.multiple)

    def of(self, structure: Structure) -> ImageCosts:  # type: ignore[override]
        """The same: no structure changes a price."""
        return self

    def limit(self, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> tuple[Bilinear, int]:
        """Give the cost that `budget` limits, and the most that channels may cost; SpecError if out of reach."""
        limit = self.reach.limit(budget)
        if budget.kind == "sparsity":
            return self.params, self.params.dense
        cost: Bilinear = getattr(self, budget.kind)
        return cost, min(limit - cost.outside, cost.dense)

    @property
    def reach(self) -> Reach:
        """The range of each cost, and what there is to cut."""
        costs = {"params": self.params, "macs": self.macs, "bytes": self.bytes}
        return Reach(
            side=self.length,
            multiple=self.multiple,
            blocks=len(self.macs.anatomy.blocks),
            channels=self.macs.anatomy.size,
            removable=self.macs.removable,
            activations=self.activations,
            matrices=self.matrices,
            in_fours=self.in_fours,
            dense={name: cost.before for name, cost in costs.items()},
            lowest={name: cost.least(self.multiple) + cost.outside for name, cost in costs.items()},
            finest={name: cost.smallest + cost.outside for name, cost in costs.items()},
            apart=int(self.own.columns.free.sum()) if self.own else None,
        )
