"""What is to be met: the budget as a limit on the encoder layers, and scores fitted to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from core.pruning import parallel, sparsity
from core.pruning.fit import Scores
from core.pruning.job import Pass
from core.pruning.meet import LatencyBudget
from core.pruning.narrow import fit_narrow
from core.pruning.network import Network, longest_text, matrices
from core.pruning.regular import fit_to
from core.pruning.runtimes import conditions
from core.pruning.stopwatch import Stopwatch
from core.rows.modality import Blank
from core.spec.cost import CostModel, Costs
from core.spec.job import JobSpec
from core.spec.problems import SpecError
from core.spec.structure import Structure


@dataclass(frozen=True)
class Goal:
    """The cost that a job limits, and the most that the encoder layers may cost."""

    spec: JobSpec
    costs: Costs
    cost: CostModel
    limit: int
    latency: LatencyBudget | None = None  # of a budget in time, in the process that measures

    @property
    def narrow(self) -> bool:
        """Whether hidden dimensions may go."""
        return self.spec.hidden_size == "trim"

    def fit(self, scores: Scores, cost: CostModel, limit: int) -> Structure:
        """The structure that meets the budget in the layout; a latency is measured until it does."""
        if self.spec.budget.timed:
            return parallel.agree(partial(self._timed, scores))
        return self.fit_counted(scores, cost, limit)

    def _timed(self, scores: Scores) -> Structure:
        assert self.latency is not None
        return self.latency.fit(scores)

    def fit_counted(self, scores: Scores, cost: CostModel, limit: int) -> Structure:
        """As `fit`, with nothing measured: a latency is what its table says."""
        if self.narrow:
            budget = self.spec.budget
            whole = budget.counted == "model"
            return parallel.agree(partial(fit_narrow, scores, self.costs, budget.kind, whole, limit))
        return parallel.agree(partial(fit_to, self.spec.export.layout, scores, cost, limit))


def goal_of(one: Pass, network: Network, costs: Costs, blank: Blank) -> Goal:
    """What the budget asks for; SpecError if it is out of reach. `blank` makes what is run to be timed."""
    spec, budget = one.spec, one.spec.budget
    if (budget.sequence_length or 0) > (reads := longest_text(network, spec.length)):
        raise SpecError("/budget/sequence_length", f"this model reads at most {reads} tokens")
    if budget.sparsity is not None:
        sparsity.require_rest(matrices(network), budget.sparsity, budget.pattern or "unstructured")
    if not budget.timed:
        return Goal(spec, costs, *costs.limit(budget, spec.export.layout, spec.hidden_size))
    found: list[LatencyBudget] = []

    def measured() -> tuple[CostModel, int]:
        found.append(latency_budget(one, network, blank))
        return found[0].cost, found[0].limit

    return Goal(spec, costs, *parallel.agree(measured), *found)


def latency_budget(one: Pass, network: Network, blank: Blank) -> LatencyBudget:
    """The limit by what is measured."""
    budget = one.spec.budget
    under = conditions(budget, longest_text(network, one.spec.length))
    one.teller.note(f"measuring latency: {under.runtime} on {under.device_name}")
    watch = Stopwatch(network, blank, under, one.teller.alive)
    state = one.state.folder / "latency.json"  # the control's, too: it prunes the same model
    layout = one.spec.export.layout
    found = LatencyBudget(budget, network.architecture, under, watch.measure, state, one.cache, layout)
    one.teller.saved("data")
    return found
