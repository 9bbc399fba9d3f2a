"""`Fitter`: what a job's budget makes of scores. Made once for a job, and handed to whoever scores units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core.domains.cost import Cost, Costs
from core.domains.fit import Scores, fit
from core.domains.structure import Structure
from core.domains.transformer import costs as transformer
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
    find: Callable[[Scores, Cost, int], Structure] = fit
    measured: Callable[[Scores], Structure] | None = None  # under a budget in time: the clock has the last word
    hidden: bool = False  # scores of hidden dimensions are wanted, too
    regular: bool = False
    beside: dict[str, Any] | None = field(default=None, init=False)  # what regularity cost, as far as it is counted

    @classmethod
    def counted(cls, costs: Costs, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> Fitter:
        """Under a budget that is counted; SpecError if it is out of reach."""
        cost, limit = costs.limit(budget, layout, hidden_size)
        assert isinstance(costs, transformer.Costs)
        if hidden_size == "keep":
            return cls(cost, limit, fit_of(layout, costs.architecture), regular=layout == "regular")

        def narrowed(scores: Scores, _cost: Cost, limit: int) -> Structure:
            assert isinstance(costs, transformer.Costs)
            return fit_narrow(scores, costs, budget.kind, budget.counted == "model", limit)

        return cls(cost, limit, narrowed, hidden=True)

    @property
    def spares_all(self) -> bool:
        """Whether the whole encoder is within the limit, so that nothing is to be scored."""
        return self.measured is None and self.limit >= self.cost.dense

    def __call__(self, scores: Scores) -> Structure:
        """The first process decides for all."""
        counted = partial(self.find, scores, self.cost, self.limit)
        structure = parallel.agree(partial(self.measured, scores) if self.measured else counted)
        if self.regular and self.measured is None:
            self.beside = compare(scores, self.cost, self.limit, structure)
        return structure
