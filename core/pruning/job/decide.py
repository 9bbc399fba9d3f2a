"""The stage `auto`: how it is borrowed, and from what; trials settle it where the job leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from core.domains.network import Network
from core.pruning.job.prepare import Prepared
from core.pruning.job.state import Facts
from core.pruning.training.coupling import Phase, TaskRows, phases
from core.pruning.trials import trials
from core.pruning.trials.policy import Choice
from core.spec.job import Stage, Transfer
from core.spec.methods import METHODS
from core.spec.report import Auto

NOTHING = (
    "nothing was borrowed: all of the encoder fits the budget, and no stage trains with other rows; give a smaller "
    "budget, or 'train.steps.recover'"
)


@dataclass(frozen=True)
class Decided:
    """Coupling, stages and weighting, and the sources that are used."""

    transfer: Transfer
    used: Sequence[int]  # their numbers; the target's own text comes after them
    sources: Sequence[TaskRows]
    auto: Auto | None = None

    def phases(self, stage: str, target: TaskRows, sources: Sequence[TaskRows], batch_size: int) -> list[Phase]:
        """What is trained on in a stage."""
        transfer = self.transfer
        active = stage in transfer.active
        return phases(str(transfer.coupling), stage, active, target, sources, batch_size, transfer.share)

    def entered(self, prepared: Prepared) -> list[Stage]:
        """The stages of a size that it borrows in: those that transfer may enter, and that train or score."""
        transfer, method, steps = self.transfer, METHODS[prepared.one.spec.method.name], prepared.plan.steps
        scored = method.reads_rows and "masks" in transfer.share
        refitted = "weights" in transfer.share and not steps["recover"]
        does = {
            "teach": steps["teach"] and (transfer.coupling != "teacher" or any(one.classes for one in self.sources)),
            "prune": method.trains or ((scored or refitted) and not prepared.goal.fitter.spares_all),
            "recover": steps["recover"],
        }
        return [stage for stage in transfer.active if does[stage] and self.sources and transfer.coupling != "none"]


def decide(prepared: Prepared, network: Network) -> Decided:
    """What the job asks for, or what trials on the train and dev rows show; none where no stage could borrow."""
    found = settled(prepared, network)
    if found.transfer.coupling == "none" or found.entered(prepared):
        return found
    prepared.one.teller.note(NOTHING)
    return Decided(Transfer(coupling="none"), [], [], found.auto)


def settled(prepared: Prepared, network: Network) -> Decided:
    """By the job, or by trials, of which none is run twice."""
    one = prepared.one
    transfer, sources = one.spec.transfer.model_copy(update={"coupling": one.spec.coupling}), prepared.inputs.sources
    if transfer.coupling != "auto":
        return Decided(transfer, range(len(sources)), sources)
    with one.teller.stage("auto"):
        if (facts := one.state.load("auto")) is None:
            facts = tried(prepared, transfer, network)
            one.state.save("auto", facts)
    choice = Choice(**facts["choice"])
    learned = transfer.weighting == "learned" and choice.coupling == "teacher"
    chosen = {
        "coupling": choice.coupling,
        "stages": list(choice.stages) or None,
        "weighting": "learned" if learned else "fixed",
    }
    said = Auto(**{name: facts[name] for name in Auto.model_fields if name in facts})
    found = [replace(sources[i], classes=0) if i in said.as_text else sources[i] for i in choice.sources]
    return Decided(transfer.model_copy(update=chosen), list(choice.sources), found, said)


def tried(prepared: Prepared, transfer: Transfer, network: Network) -> Facts:
    """Run the trials."""
    one, inputs, plan = prepared.one, prepared.inputs, prepared.plan
    train = one.spec.train
    rows = inputs.train.examples.beside(inputs.dev)
    ground = trials.Ground(
        network=network,
        rows=rows,
        held=max(2, len(inputs.dev), len(rows) // 4),
        sources=inputs.sources,
        fitter=replace(prepared.goal.fitter, measured=None),
        rate=plan.rates["teach"],
        batch_size=train.batch_size,
        balanced=one.spec.task.metric in ("balanced_accuracy", "f1"),
        seed=train.seed,
        pairs=inputs.pairs,
        own=len(one.spec.sources) if one.spec.task.unlabelled else None,
    )
    decision = trials.decide(ground, transfer.active, plan.steps, prepared.progress, one.state.checkpoints.at)
    return asdict(decision) | {"chosen": str(decision.choice)}
