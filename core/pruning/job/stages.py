"""The stages that train: teach, prune, recover. Each takes what was found before, and gives a value of its own.

What a stage has saved is not done again. A network is trained and cut in place, so that later values name it, too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.domains.network import TARGET, Network
from core.domains.structure import Structure
from core.pruning.job.decide import Decided
from core.pruning.job.passes import Pass
from core.pruning.job.prepare import Prepared
from core.pruning.masking import sparsity
from core.pruning.methods import pruning, zeroing
from core.pruning.scoring.importance import BATCHES
from core.pruning.scoring.refit import refit
from core.pruning.scoring.settle import cut_settled
from core.pruning.system.device import device
from core.pruning.training.coupling import Phase, TaskRows, add_heads, first_rows, phases, teacher_head
from core.pruning.training.losses import labelled_by
from core.pruning.training.train import History, Training, recovery_rate, train
from core.spec.messages import StageName
from core.spec.methods import METHODS
from core.spec.report import Curve, Layout


@dataclass(frozen=True)
class Taught:
    """The dense model, fine-tuned: the teacher, and where the student starts."""

    teacher: Network
    curve: Curve


@dataclass(frozen=True)
class Labelled:
    """Rows with the teacher's logits, for both stages that need them."""

    target: TaskRows
    sources: Sequence[TaskRows]


@dataclass(frozen=True)
class Pruned:
    """The student, cut."""

    student: Network
    structure: Structure
    curve: Curve
    rows: Labelled
    layout: Layout | None  # what a regular structure has, beside the free one
    fits: Sequence[Mapping[str, Any]]  # structures that were measured for a budget in time


@dataclass(frozen=True)
class Recovered:
    """The student, trained again."""

    student: Network
    curve: Curve
    rate: float


def teach(one: Pass, prepared: Prepared, decided: Decided, network: Network) -> Taught:
    """Fine-tune the dense model."""
    inputs = prepared.inputs
    plan = decided.phases("teach", inputs.target, decided.sources, one.spec.train.batch_size)
    add_heads(network, plan, decided.sources)
    curve = fine_tune(one, prepared, plan, network, training(one, prepared, decided, "teach"), "teach")
    return Taught(network.to(device()).eval(), curve)


def prune(one: Pass, prepared: Prepared, decided: Decided, taught: Taught) -> Pruned:
    """Choose the units on a copy of the teacher, and cut it."""
    student = copy.deepcopy(taught.teacher)
    rows = labelled(one, prepared, decided, taught.teacher)
    plan = decided.phases("prune", rows.target, rows.sources, one.spec.train.batch_size)
    add_heads(student, plan, decided.sources)
    labels = prepared.inputs.splits.labels
    if (facts := one.state.load("prune", labels)) is not None:
        structure = Structure.from_json(facts["structure"])
        student.reshape(structure)
        student.load_state_dict(one.state.weights("prune"), strict=True)
        layout = Layout(**facts["layout"]) if facts.get("layout") else None
        curve, fits = Curve(**facts["history"]), facts.get("fits", [])
        return Pruned(student.to(device()), structure, curve, rows, layout, fits)
    student, structure, history, layout = chosen(one, prepared, decided, taught, student, plan)
    solvable = bool(student.projections())
    if solvable and refitted(one, prepared, decided) and not prepared.goal.fitter.spares_all:
        alone = phases("none", "prune", False, rows.target, [], one.spec.train.batch_size)
        taken = plan if "weights" in decided.transfer.share else alone
        refit(student, taught.teacher, taken, one.spec.train.seed, structure, one.teller.alive)
    fits = prepared.goal.latency.fits if prepared.goal.latency else []
    facts = {"history": asdict(history), "structure": structure.to_json(), "fits": fits}
    one.state.save("prune", facts | {"layout": layout and layout.model_dump()}, student, labels)
    return Pruned(student.to(device()), structure, Curve(**asdict(history)), rows, layout, fits)


def chosen(
    one: Pass, prepared: Prepared, decided: Decided, taught: Taught, student: Network, plan: Sequence[Phase]
) -> tuple[Network, Structure, History, Layout | None]:
    """What the method makes of the student; of a regular structure, how it compares."""
    name, budget, fitter = one.spec.method.name, one.spec.budget, prepared.goal.fitter
    dev, how = prepared.inputs.dev, training(one, prepared, decided, "prune")
    if budget.sparsity is not None:
        structure, pattern = Structure.dense(student.anatomy), budget.pattern or "unstructured"
        history = zeroing(name)(student, budget.sparsity, pattern, plan, dev, how)
    elif fitter.spares_all and not METHODS[name].trains:  # the vocabulary alone is trimmed, say
        structure, history = Structure.dense(student.anatomy), History()
    else:
        structure, history = pruning(name)(student, fitter, plan, dev, how)
    if "weights" not in decided.transfer.share:  # the structure is all that the sources may give
        student = copy.deepcopy(taught.teacher)
        add_heads(student, plan, decided.sources)
        cut_settled(student, structure, plan, one.spec.train.seed)
    return student, structure, history, Layout(**fitter.beside) if fitter.beside else None


def refitted(one: Pass, prepared: Prepared, decided: Decided) -> bool:
    """Whether least squares make up for the cut: where units went at once, and no training follows."""
    trained = METHODS[one.spec.method.name].trains and "weights" in decided.transfer.share
    return one.spec.budget.sparsity is None and not trained and not prepared.plan.steps["recover"]


def recover(one: Pass, prepared: Prepared, decided: Decided, taught: Taught, pruned: Pruned) -> Recovered:
    """Train what is left."""
    student, rows = pruned.student, pruned.rows
    plan = decided.phases("recover", rows.target, rows.sources, one.spec.train.batch_size)
    add_heads(student, plan, decided.sources)
    rate = recovery_rate(prepared.plan.rates["recover"], student, taught.teacher)
    student.drop_nothing()
    if one.spec.budget.sparsity is not None:
        sparsity.hold(student)
    how = replace(training(one, prepared, decided, "recover"), rate=rate)
    return Recovered(student, fine_tune(one, prepared, plan, student, how, "recover"), rate)


def labelled(one: Pass, prepared: Prepared, decided: Decided, teacher: Network) -> Labelled:
    """What the teacher says of the rows that will be drawn."""
    coupling, steps = str(decided.transfer.coupling), prepared.plan.steps
    drawn = max(BATCHES, steps["prune"]) + steps["recover"]
    active = {*decided.transfer.active} & {"prune", "recover"}
    given = first_rows(coupling, decided.sources, drawn, one.spec.train.batch_size) if active else []

    def label(task: TaskRows, head: str, name: str) -> TaskRows:
        done = one.state.checkpoints.at(f"teach-labels-{name}")
        return labelled_by(teacher, task, head, one.teller.alive, done)

    sources = [label(source, teacher_head(coupling, source), str(i)) for i, source in enumerate(given)]
    return Labelled(label(prepared.inputs.target, TARGET, "target"), sources)


def fine_tune(
    one: Pass, prepared: Prepared, plan: Sequence[Phase], network: Network, how: Training, stage: StageName
) -> Curve:
    """One stage of plain training; of none, where it has no steps."""
    labels = prepared.inputs.splits.labels
    if (facts := one.state.load(stage, labels)) is not None:
        network.load_state_dict(one.state.weights(stage), strict=True)
        return Curve(**facts["history"])
    history = History()
    if how.steps:
        history = train(network, plan, prepared.inputs.dev, how, stage=stage, metric=one.spec.task.metric)
    one.state.save(stage, {"history": asdict(history)}, network, labels)
    return Curve(**asdict(history))


def training(one: Pass, prepared: Prepared, decided: Decided, stage: StageName) -> Training:
    """What a stage trains with."""
    steps, rate, seed = prepared.plan.steps[stage], prepared.plan.rates[stage], one.spec.train.seed
    learned = decided.transfer.weighting == "learned"
    return Training(steps, rate, seed, prepared.progress, learned, one.state.checkpoints.at(stage))
