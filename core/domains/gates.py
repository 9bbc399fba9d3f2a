"""Gates on units and their blocks, and hard-concrete masks that learn them (Louizos, Welling, Kingma, ICLR 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from core.domains.anatomy import Anatomy
from core.domains.channels.cost import Bilinear
from core.domains.cost import Additive, Cost
from core.domains.fit import Scores
from core.domains.structure import Structure

BETA = 2 / 3  # temperature
GAMMA, ZETA = -0.1, 1.1  # stretch
SHIFT = -BETA * log(-GAMMA / ZETA)  # P(z > 0) = sigmoid(a + SHIFT)
START = 2.5  # a mask starts open: a median sample is exactly 1
CLAMP = 4.605


def sample(log_alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One draw of z in [0, 1] for each mask."""
    u = torch.rand(log_alpha.shape, device=log_alpha.device, generator=generator).clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((u.log() - (1 - u).log() + log_alpha) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def alive(log_alpha: Tensor) -> Tensor:
    """P(z > 0) of each mask."""
    return torch.sigmoid(log_alpha + SHIFT)


@dataclass(frozen=True)
class Gates:
    """A value in [0, 1] for each unit of the anatomy, (units,), and for each of its blocks, (blocks,).

    And for each hidden dimension, (D,), shared by all layers, and for each column that one reader of channels has of a
    unit, (columns,); None: all are 1.
    """

    anatomy: Anatomy
    units: Tensor
    blocks: Tensor
    hidden: Tensor | None = None
    columns: Tensor | None = None

    @classmethod
    def of(cls, structure: Structure, anatomy: Anatomy, size: int = 0) -> Gates:
        """0/1 gates that mask a network of this anatomy as `structure` would cut it; `size`: its hidden size."""
        units = torch.zeros(anatomy.size)
        for span, kept in zip(anatomy.spans, structure.kept, strict=True):
            units[span][list(kept)] = 1.0
        hidden = None
        if structure.hidden is not None:
            hidden = torch.zeros(size)
            hidden[list(structure.hidden)] = 1.0
        return cls(anatomy, units, torch.tensor([float(bool(kept)) for kept in structure.kept]), hidden)

    def each(self, change: Callable[[Tensor], Tensor]) -> Gates:
        """With the values of units and of blocks changed alike."""
        return replace(self, units=change(self.units), blocks=change(self.blocks))


class Grid:
    """Units of one kind of block as rows, one a block, filled up with zeros behind those of the smaller blocks."""

    def __init__(self, anatomy: Anatomy, kind: str) -> None:
        self.blocks, self.units = anatomy.kinds[kind]  # where they lie among all
        sizes = [block.size for block in anatomy.blocks[self.blocks]]
        self.shape = len(sizes), max(1, *sizes)
        there = torch.arange(self.shape[1]) < torch.tensor(sizes)[:, None]
        self.full, self.places = bool(there.all()), there.flatten().nonzero().flatten()

    def rows(self, units: Tensor) -> Tensor:
        """(units of the kind,) -> (blocks, widest)."""
        if not self.full:
            empty = units.new_zeros(self.shape[0] * self.shape[1])
            units = empty.index_copy(0, self.places.to(units.device), units)
        return units.view(self.shape)

    def flat(self, rows: Tensor) -> Tensor:
        """Inverse of `rows`."""
        units = rows.flatten()
        return units if self.full else units[self.places.to(units.device)]


class Masks(nn.Module):
    """The learned log-alphas, in the dense model's numbering, and which units the network still has.

    A parameter a kind of block, (blocks, widest) and (blocks,): random numbers are drawn for a kind at once.
    """

    def __init__(self, cost: Cost) -> None:
        super().__init__()
        assert isinstance(cost, Additive | Bilinear)
        self.cost = cost
        self.grids = {kind: Grid(cost.anatomy, kind) for kind in cost.anatomy.kinds}
        self.units = nn.ParameterDict({kind: torch.full(grid.shape, START) for kind, grid in self.grids.items()})
        self.blocks = nn.ParameterDict({kind: torch.full(grid.shape[:1], START) for kind, grid in self.grids.items()})
        self.register_buffer("has", torch.ones(cost.anatomy.size))
        self.has: Tensor

    def gates(self, value: Callable[[Tensor], Tensor]) -> Gates:
        """What `value` makes of the log-alphas: of the units kind by kind, then of the blocks."""
        units = [grid.flat(value(self.units[kind])) for kind, grid in self.grids.items()]
        blocks = [value(self.blocks[kind]) for kind in self.grids]
        return Gates(self.cost.anatomy, torch.cat(units), torch.cat(blocks))

    def draw(self, generator: torch.Generator | None = None) -> Gates:
        """One sample of every gate."""
        return self.gates(partial(sample, generator=generator))

    @torch.no_grad()
    def median(self) -> Gates:
        """The gates without noise (u = 1/2)."""
        return self.gates(lambda a: (torch.sigmoid(a / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1))

    def expected(self) -> Tensor:
        """Expected cost of the encoder layers, a scalar: a unit's survival times its block's, times the unit's cost."""
        if isinstance(self.cost, Bilinear):
            return self._of_channels(self.cost)
        total: Any = sum(self.cost.fixed)
        apart = []
        for kind, grid in self.grids.items():
            has, block = grid.rows(self.has[grid.units]), alive(self.blocks[kind])
            kept = (alive(self.units[kind]) * has).sum(1) * block
            total = total + priced(kept, self.cost.unit[grid.blocks])
            apart.append(priced(block * has.amax(1), self.cost.block[grid.blocks]))
        expected: Tensor = total + sum(apart)
        return expected

    def _of_channels(self, cost: Bilinear) -> Tensor:
        """Of weights with kept rows and columns: the product of both expectations."""
        kept = [self.has.new_ones(1)]
        for kind, grid in self.grids.items():
            survive = alive(self.units[kind]) * grid.rows(self.has[grid.units])
            kept.append(survive.sum(1) * alive(self.blocks[kind]))
        counts = torch.cat(kept)
        price, rows, columns = (torch.from_numpy(part).to(counts) for part in (cost.price, cost.rows, cost.columns))
        expected: Tensor = (price / cost.dense * (rows @ counts) * (columns @ counts)).sum() * cost.dense
        return expected

    def apart(self, others: Sequence[Masks]) -> Tensor:
        """How far the survival probabilities of other masks are from these: mean square, weighted by cost."""
        total, c = torch.zeros((), device=self.has.device), self.cost
        unit = c.unit if isinstance(c, Additive) else c.shared
        whole = tuple(price * block.size for price, block in zip(unit, c.anatomy.blocks, strict=True))
        for other in others:
            for mine, theirs, prices in ((self.units, other.units, unit), (self.blocks, other.blocks, whole)):
                for kind, grid in self.grids.items():
                    gap = alive(mine[kind]) - alive(theirs[kind])
                    total = total + priced(gap.square(), prices[grid.blocks], c.dense)
        return total

    def clamp(self) -> None:
        """Keep the log-alphas where their gradient lives."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.clamp_(-CLAMP, CLAMP)

    def keep(self, structure: Structure) -> None:
        """The network was cut to `structure` (dense numbering)."""
        self.has.copy_(Gates.of(structure, self.cost.anatomy).units)

    @torch.no_grad()
    def scores(self) -> Scores:
        """Survival of each unit: its own times its block's; units that are gone score minus infinity."""
        kinds = self.grids.items()
        units = [grid.flat(alive(self.units[kind]) * alive(self.blocks[kind])[:, None]) for kind, grid in kinds]
        return Scores(torch.cat(units).where(self.has.bool(), -torch.inf).double().cpu().numpy())


def priced(values: Tensor, prices: Sequence[float], unit: int = 1) -> Tensor:
    """Sum of the values of blocks, (blocks,) or (blocks, widest), times their prices in this unit."""
    most = max(1, *prices)
    parts = values.new_tensor([price / most for price in prices])  # 1 where blocks cost alike
    return (values * parts.view(-1, *[1] * (values.ndim - 1))).sum() * (most / unit)
