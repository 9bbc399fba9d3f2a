"""`Fitter`: what a job's budget makes of scores. Made once for a job, and handed to whoever scores units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core.domains.channels.cost import Bilinear
from core.domains.channels.costs import ImageCosts
from core.domains.channels.fit import fit_channels
from core.domains.cost import Additive, Cost, Costs
from core.domains.fit import SLACK, Scores, fit, stays_exact, within
from core.domains.structure import Structure
from core.domains.transformer import costs as transformer
from core.domains.transformer.costs import least
from core.domains.transformer.families import Architecture
from core.domains.transformer.fit_hidden import fit_narrow
from core.domains.transformer.fit_regular import compare, fit_of
from core.pruning.system import parallel
from core.spec.budget import Budget
from core.spec.job import HiddenSize, Layout


@dataclass
class Fitter:
    """Scores -> the `Structure` that costs at most `limit` of `cost` in the encoder layers."""

    cost: Cost
    limit: int
    find: Callable[[Scores, Any, int], Structure] = fit
    measured: Callable[[Scores], Structure] | None = None  # under a budget in time: the clock has the last word
    hidden: bool = False  # scores of hidden dimensions are wanted, too
    multiple: int = 1  # of channels, that widths are multiples of
    layouts: Architecture | None = None  # whose units may also be laid regularly: both layouts are fitted
    beside: dict[str, Any] | None = field(default=None, init=False)  # what regularity costs, as far as it is counted

    @classmethod
    def counted(cls, costs: Costs, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> Fitter:
        """Under a budget that is counted; SpecError if it is out of reach."""
        cost, limit = costs.limit(budget, layout, hidden_size)
        if isinstance(costs, ImageCosts):
            return cls(cost, limit, costs.find, multiple=costs.multiple)
        assert isinstance(costs, transformer.Costs)
        if hidden_size == "keep":
            a = costs.architecture
            assert isinstance(cost, Additive)
            comparable = a.earlier is None and limit >= least(cost, "regular", a)
            return cls(cost, limit, fit_of(layout, a), layouts=a if comparable else None)

        def narrowed(scores: Scores, _cost: Cost, limit: int) -> Structure:
            assert isinstance(costs, transformer.Costs)
            return fit_narrow(scores, costs, budget.kind, budget.counted == "model", limit)

        return cls(cost, limit, narrowed, hidden=True)

    @property
    def spares_all(self) -> bool:
        """Whether the whole encoder is within the limit, so that nothing is to be scored."""
        return self.measured is None and self.limit >= self.cost.dense

    def __call__(self, scores: Scores, every: Scores | None = None) -> Structure:
        """The first process decides for all. `every`: the scores of all units, where some are gone already."""
        counted = partial(self.find, scores, self.cost, self.limit)
        structure = parallel.agree(partial(self.measured, scores) if self.measured else counted)
        if self.layouts and self.measured is None:
            assert isinstance(self.cost, Additive)
            self.beside = compare(scores, every or scores, self.cost, self.limit, self.layouts)
        return structure

    def reaches(self, scores: Scores, present: Structure) -> bool:
        """Whether the units that are `present` come as close to the limit as it is to be met, or all come no closer."""

        def met(given: Scores) -> bool:
            return self.cost.of(self.find(given, self.cost, self.limit)) >= (1 - SLACK) * self.limit

        return parallel.agree(lambda: met(within(scores, self.cost, present)) or not met(scores))

    def on_the_way(self, scores: Scores, limit: int) -> Structure | None:
        """What can be cut out before the last fit, which is to stay exact; None where too few fine units would stay."""
        if isinstance(self.cost, Bilinear):
            return fit_channels(scores, self.cost, limit, self.multiple)
        assert isinstance(self.cost, Additive)
        inner = fit(scores, self.cost, limit)
        return inner if stays_exact(inner, self.cost) else None
