"""The stages that train: teach, prune, recover. Each takes what was found before, and gives a value of its own.

What a stage has saved is not done again. A network is trained and cut in place, so that later values name it, too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from core.domains.fit import Scores, within
from core.domains.network import TARGET, Network
from core.domains.structure import Structure
from core.pruning.job.decide import Decided
from core.pruning.job.prepare import Prepared
from core.pruning.masking import sparsity
from core.pruning.methods import Scored, pruning, zeroing
from core.pruning.scoring.importance import BATCHES
from core.pruning.scoring.refit import refit
from core.pruning.scoring.settle import cut_settled
from core.pruning.system.device import device
from core.pruning.training.contrast import by_pairs
from core.pruning.training.coupling import Phase, TaskRows, add_heads, first_rows, phases, teacher_head
from core.pruning.training.losses import labelled_by
from core.pruning.training.train import History, Training, recovery_rate, train
from core.spec.messages import StageName
from core.spec.methods import METHODS
from core.spec.report import Curve, Layout


@dataclass(frozen=True)
class Labelled:
    """Rows with the teacher's logits, for both stages that need them."""

    target: TaskRows
    sources: Sequence[TaskRows]


@dataclass(frozen=True)
class Taught:
    """The dense model, fine-tuned: the teacher, where every student starts, and what it says of the rows."""

    teacher: Network
    curve: Curve
    rows: Labelled
    scores: dict[tuple[float, ...], Scores] = field(default_factory=dict)  # by the prices that they were weighed by


@dataclass(frozen=True)
class Pruned:
    """The student, cut."""

    student: Network
    structure: Structure
    curve: Curve
    layout: Layout | None  # what a regular structure has, beside the free one
    fits: Sequence[Mapping[str, Any]]  # structures that were measured for a budget in time
    nested: bool = False  # cut out of the next larger size


@dataclass(frozen=True)
class Recovered:
    """The student, trained again."""

    student: Network
    curve: Curve
    rate: float


@dataclass(frozen=True)
class Shrunk:
    """One size, from the first stage to the last."""

    prepared: Prepared
    decided: Decided
    pruned: Pruned
    recovered: Recovered
    taught: Curve

    @property
    def student(self) -> Network:
        """What is left."""
        return self.recovered.student

    @property
    def curves(self) -> dict[str, Curve]:
        """By stage."""
        return {"teach": self.taught, "prune": self.pruned.curve, "recover": self.recovered.curve}


def teach(prepared: Prepared, decided: Decided, network: Network) -> Taught:
    """Fine-tune the dense model."""
    one, inputs = prepared.one, prepared.inputs
    plan = decided.phases("teach", inputs.target, decided.sources, one.spec.train.batch_size)
    plan = by_pairs(plan) if inputs.pairs else plan
    add_heads(network, plan, decided.sources)
    curve = fine_tune(prepared, plan, network, training(prepared, decided, "teach"), "teach")
    teacher = network.to(device()).eval()
    rows = labelled(prepared, decided, teacher)
    one.state.lasted("teach")
    return Taught(teacher, curve, rows)


def prune(prepared: Prepared, decided: Decided, taught: Taught, larger: Shrunk | None = None) -> Pruned:
    """Choose the units on a copy of the teacher, or of the next `larger` size where that can be cut again; cut it."""
    one, rows, labels = prepared.one, taught.rows, prepared.inputs.splits.labels
    facts = one.state.load("prune", labels)
    plan = decided.phases("prune", rows.target, rows.sources, one.spec.train.batch_size)
    larger = larger if prepared.nested and facts is None else None
    if larger and not cuts_again(prepared, decided, taught, plan, larger):
        one.teller.note(f"{one.teller.size} is cut from the dense model: no units of the larger size meet its budget")
        larger = None
    student = copy.deepcopy(larger.student if larger else taught.teacher)
    add_heads(student, plan, decided.sources)
    if facts is not None:
        structure = Structure.from_json(facts["structure"])
        student.reshape(structure)
        weights = one.state.weights("prune")
        if weights.keys() - student.state_dict().keys():  # cut out of a larger size, with the heads it recovered with
            later = decided.phases("recover", rows.target, rows.sources, one.spec.train.batch_size)
            add_heads(student, later, decided.sources)
        student.load_state_dict(weights, strict=True)
        layout = Layout(**facts["layout"]) if facts.get("layout") else None
        curve, fits, nested = Curve(**facts["history"]), facts.get("fits", []), facts.get("nested", prepared.nested)
        return Pruned(student.to(device()), structure, curve, layout, fits, nested)
    student, structure, history, layout = chosen(prepared, decided, taught, student, plan, larger)
    if one.spec.budget.sparsity is None:
        one.teller.fitted(structure, taught.teacher.anatomy)
    solvable = bool(student.projections())
    if solvable and refitted(prepared, decided) and not prepared.goal.fitter.spares_all:
        alone = phases("none", "prune", False, rows.target, [], one.spec.train.batch_size)
        taken = plan if "weights" in decided.transfer.share else alone
        refit(student, taught.teacher, taken, one.spec.train.seed, structure, one.teller.alive)
    fits = prepared.goal.latency.fits if prepared.goal.latency else []
    nested = larger is not None
    facts = {"history": asdict(history), "structure": structure.to_json(), "fits": fits, "nested": nested}
    one.state.save("prune", facts | {"layout": layout and layout.model_dump()}, student, labels)
    return Pruned(student.to(device()), structure, Curve(**asdict(history)), layout, fits, nested)


def cuts_again(prepared: Prepared, decided: Decided, taught: Taught, plan: Sequence[Phase], larger: Shrunk) -> bool:
    """Whether what the larger size keeps has units fine enough for this one's budget."""
    method, fitter = pruning(prepared.one.spec.method.name), prepared.goal.fitter
    if fitter.spares_all or not isinstance(method, Scored):
        return True
    every = scores(prepared, taught, method, plan, training(prepared, decided, "prune"))
    return fitter.reaches(every, larger.pruned.structure)


def chosen(
    prepared: Prepared,
    decided: Decided,
    taught: Taught,
    student: Network,
    plan: Sequence[Phase],
    larger: Shrunk | None,
) -> tuple[Network, Structure, History, Layout | None]:
    """What the method makes of the student; of a regular structure, how it compares."""
    one, fitter = prepared.one, prepared.goal.fitter
    name, budget = one.spec.method.name, one.spec.budget
    dev, how = prepared.inputs.dev, training(prepared, decided, "prune")
    if budget.sparsity is not None:
        structure, pattern = Structure.dense(student.anatomy), budget.pattern or "unstructured"
        history = zeroing(name)(student, budget.sparsity, pattern, plan, dev, how)
    elif fitter.spares_all and not METHODS[name].trains:  # the vocabulary alone is trimmed, say
        structure, history = Structure.dense(student.anatomy), History()
    elif isinstance(method := pruning(name), Scored):
        every = scores(prepared, taught, method, plan, how)
        there = within(every, fitter.cost, larger.pruned.structure) if larger else every
        structure, history = fitter(there, every), History()
        cut_settled(student, structure.within(larger.pruned.structure) if larger else structure, plan, how.seed)
    else:
        structure, history = method(student, fitter, plan, dev, how)
    if "weights" not in decided.transfer.share:  # the structure is all that the sources may give
        student = copy.deepcopy(taught.teacher)
        add_heads(student, plan, decided.sources)
        cut_settled(student, structure, plan, one.spec.train.seed)
    return student, structure, history, Layout(**fitter.beside) if fitter.beside else None


def scores(prepared: Prepared, taught: Taught, method: Scored, plan: Sequence[Phase], how: Training) -> Scores:
    """What the units are worth to the teacher, asked once for all sizes."""
    fitter = prepared.goal.fitter
    prices = tuple(fitter.cost.shared)
    if prices not in taught.scores:
        taught.scores[prices] = method.scores(taught.teacher, fitter, plan, how)
    return taught.scores[prices]


def refitted(prepared: Prepared, decided: Decided) -> bool:
    """Whether least squares make up for the cut: where units went at once, and no training follows."""
    one = prepared.one
    trained = METHODS[one.spec.method.name].trains and "weights" in decided.transfer.share
    return one.spec.budget.sparsity is None and not trained and not prepared.plan.steps["recover"]


def recover(prepared: Prepared, decided: Decided, taught: Taught, pruned: Pruned) -> Recovered:
    """Train what is left."""
    one, student, rows = prepared.one, pruned.student, taught.rows
    plan = decided.phases("recover", rows.target, rows.sources, one.spec.train.batch_size)
    add_heads(student, plan, decided.sources)
    rate = recovery_rate(prepared.plan.rates["recover"], student, taught.teacher)
    student.drop_nothing()
    if one.spec.budget.sparsity is not None:
        sparsity.hold(student)
    how = replace(training(prepared, decided, "recover"), rate=rate)
    return Recovered(student, fine_tune(prepared, plan, student, how, "recover"), rate)


def labelled(prepared: Prepared, decided: Decided, teacher: Network) -> Labelled:
    """What the teacher says of the rows that will be drawn."""
    one, coupling, steps = prepared.one, str(decided.transfer.coupling), prepared.plan.steps
    drawn = max(BATCHES, steps["prune"]) + steps["recover"]
    active = {*decided.transfer.active} & {"prune", "recover"}
    given = first_rows(coupling, decided.sources, drawn, one.spec.train.batch_size) if active else []

    def label(task: TaskRows, head: str, name: str) -> TaskRows:
        done = one.state.checkpoints.at(f"teach-labels-{name}")
        return labelled_by(teacher, task, head, one.teller.alive, done)

    sources = [label(source, teacher_head(coupling, source), str(i)) for i, source in enumerate(given)]
    return Labelled(label(prepared.inputs.target, TARGET, "target"), sources)


def fine_tune(prepared: Prepared, plan: Sequence[Phase], network: Network, how: Training, stage: StageName) -> Curve:
    """One stage of plain training; of none, where it has no steps."""
    one, labels = prepared.one, prepared.inputs.splits.labels
    if (facts := one.state.load(stage, labels)) is not None:
        network.load_state_dict(one.state.weights(stage), strict=True)
        return Curve(**facts["history"])
    history = History()
    if how.steps:
        history = train(network, plan, prepared.inputs.dev, how, stage=stage, metric=one.spec.task.metric)
    one.state.save(stage, {"history": asdict(history)}, network, labels)
    return Curve(**asdict(history))


def training(prepared: Prepared, decided: Decided, stage: StageName) -> Training:
    """What a stage trains with."""
    one, steps, rate = prepared.one, prepared.plan.steps[stage], prepared.plan.rates[stage]
    learned = decided.transfer.weighting == "learned"
    return Training(steps, rate, one.spec.train.seed, prepared.progress, learned, one.state.checkpoints.at(stage))
