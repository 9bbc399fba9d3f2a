"""What is to be met: the budget as a limit on the encoder layers, and scores fitted to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.domains.channels.costs import ImageCosts
from core.domains.channels.network import ChannelNetwork
from core.domains.cost import Cost, Costs
from core.domains.fit import Scores
from core.domains.network import Network
from core.domains.structure import Structure
from core.domains.transformer.network import TransformerNetwork
from core.pruning.job.passes import Pass
from core.pruning.latency.budget import LatencyBudget
from core.pruning.latency.macs import ByMacs
from core.pruning.latency.prices import ByUnits, Pricing
from core.pruning.latency.quiet import quieten
from core.pruning.latency.runtimes import conditions
from core.pruning.latency.stopwatch import Stopwatch
from core.pruning.masking import sparsity
from core.pruning.scoring.fitter import Fitter
from core.pruning.system import parallel
from core.rows.modality import Blank
from core.spec.errors import SpecError
from core.spec.job import Layout
from core.spec.latency import Latency
from core.spec.messages import LatencyMeasured
from core.spec.methods import METHODS


@dataclass(frozen=True)
class Goal:
    """What everything costs, what makes a structure of scores, and the clock of a budget in time."""

    costs: Costs
    fitter: Fitter
    latency: LatencyBudget | None = None  # in the process that measures


def goal_of(one: Pass, network: Network, costs: Costs, blank: Blank) -> Goal:
    """What the budget asks for; SpecError if it is out of reach. `blank` makes what is run to be timed."""
    spec, budget, layout = one.spec, one.spec.budget, one.spec.export.first_layout
    if (budget.sequence_length or 0) > (reads := network.longest(spec.length)):
        raise SpecError("/budget/sequence_length", f"this model reads at most {reads} tokens")
    if budget.sparsity is not None:
        pattern = budget.pattern or "unstructured"
        sparsity.require_rest(sparsity.weights_of(network, pattern), budget.sparsity, pattern)
    if not budget.timed:
        fitter = Fitter.counted(costs, budget, layout, spec.hidden_size)
        if METHODS[spec.method.name].trains:  # which is of the free layout alone
            fitter = replace(fitter, layouts=None)
        return Goal(costs, fitter)
    found: list[LatencyBudget] = []

    def measured() -> tuple[Cost, int]:
        found.append(latency_budget(one, network, blank))
        return found[0].cost, found[0].limit

    def timed(scores: Scores) -> Structure:
        return found[0].fit(scores)

    cost, limit = parallel.agree(measured)
    multiple = costs.multiple if isinstance(costs, ImageCosts) else 1
    return Goal(costs, Fitter(cost, limit, pricing_of(network, layout).find, timed, multiple=multiple), *found)


def pricing_of(network: Network, layout: Layout) -> Pricing:
    """What is known of its time before it is measured."""
    if isinstance(network, ChannelNetwork):
        return ByMacs(network.costs(network.side))
    assert isinstance(network, TransformerNetwork)
    return ByUnits(network.architecture, layout)


def latency_budget(one: Pass, network: Network, blank: Blank) -> LatencyBudget:
    """The limit by what is measured."""
    budget = one.spec.budget
    under = conditions(budget, network.longest(one.spec.length))
    one.teller.note(f"measuring latency: {under.runtime} on {under.device_name}")
    watch = Stopwatch(network, blank, under, one.teller.alive)
    # What one size, or one of two layouts, has measured of the model, others need not.
    earlier = next(iter(sorted(one.state.folder.glob("*latency.json"))), None)
    pricing = pricing_of(network, one.spec.export.first_layout)

    def hear(latency: Latency) -> None:
        one.teller.say(LatencyMeasured(model=pricing.fingerprint, latency=latency))

    def settle() -> bool:
        return quieten(one.teller.note, one.teller.alive)

    state = one.state.shared("latency.json")  # the control prunes the same model
    found = LatencyBudget(budget, pricing, under, watch.measure, state, one.cache, earlier, hear, settle)
    one.teller.saved("data")
    return found
