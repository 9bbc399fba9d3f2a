"""The trials of `auto`: teach, cut at once to the job's budget, recover, and score on rows that were held out.

What is tried, and what follows from it, is `policy.py`. A trial that is done, and the teachers of a split, are not made
again by a resumed job.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from core.domains.network import TARGET, Network
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.importance import importance
from core.pruning.scoring.settle import cut_settled
from core.pruning.system import parallel
from core.pruning.system.device import device
from core.pruning.training.batches import Rows
from core.pruning.training.checkpoint import Checkpoint, restore, trained
from core.pruning.training.contrast import by_pairs
from core.pruning.training.coupling import Phase, TaskRows, add_heads, first_rows, phases, teacher_head
from core.pruning.training.losses import labelled_by
from core.pruning.training.predict import predict
from core.pruning.training.train import Training, recovery_rate, train
from core.pruning.trials import policy as auto
from core.pruning.trials.allot import BATCHES, OWN, PROBED, allot, trial_batch
from core.pruning.trials.policy import SPLITS, Choice, Decision, Policy, Room, Seen, splits
from core.pruning.trials.relatedness import against_own, relatedness
from core.spec.job import Stage
from core.spec.messages import Listener, StageProgress


@dataclass(frozen=True)
class Ground:
    """What all trials of a job have in common."""

    network: Network
    rows: Rows  # the target's train and dev rows
    held: int  # of them, scored on in each split
    sources: Sequence[TaskRows]
    fitter: Fitter  # a student is cut to what it makes of its scores
    rate: float
    batch_size: int  # the job's
    balanced: bool  # whether classes count alike
    seed: int
    pairs: bool = False  # whether teaching is by pairs first
    own: int | None = None  # the number of the target's own text, the last of the sources


def decide(
    ground: Ground,
    stages: Sequence[Stage],
    steps: Mapping[str, int],
    report: Listener,
    checkpoints: Callable[[str], Checkpoint],
) -> Decision:
    """Which way to transfer in `stages`, and from which sources; `steps`: the job's."""
    policy, room = plan(ground, stages, steps)
    return auto.decide(policy, room, Trials(ground, room, report, checkpoints))


def plan(ground: Ground, stages: Sequence[Stage], steps: Mapping[str, int]) -> tuple[Policy, Room]:
    """What is tried, and what it may cost; each source alone, too, where there is the time."""
    labels = [bool(source.classes) for source in ground.sources[: ground.own]]
    left, probe = ground.fitter.limit / ground.fitter.cost.dense, ground.network.probe
    sizes = steps, len(ground.rows), ground.batch_size, left, probe
    policy = Policy(stages, labels, [None] * len(labels), len(labels) > 1, ground.own, ground.network.scatter)
    room = allot(policy, *sizes)
    if policy.apart and not room.trials:
        policy = replace(policy, apart=False)
        room = allot(policy, *sizes)
    return policy, room


class Trials:
    """Runs them."""

    def __init__(self, ground: Ground, room: Room, report: Listener, checkpoints: Callable[[str], Checkpoint]) -> None:
        self.ground, self.room, self.report, self.checkpoints = ground, room, report, checkpoints
        self.batch_size, self.most = trial_batch(ground.batch_size), room.trials
        self.scores: dict[Choice, dict[int, Tensor]] = {}
        for value in (checkpoints("auto").load() or {"seen": []})["seen"]:
            choice = Choice(value["coupling"], tuple(value["stages"]), tuple(value["sources"]))
            self.scores[choice] = value["scores"]
        rows = ground.rows
        self.seen = Seen(splits(rows.task.strata(rows.labels), ground.held, SPLITS, ground.seed), self.scores)

    def related(self, most: int) -> list[float | None]:
        """How far the labels of each source go with the target's; None of text alone."""
        self.most = most
        saved = self.checkpoints("auto-related").load() or {"related": []}
        found: list[float | None] = saved["related"]
        for i, source in list(enumerate(self.ground.sources[: self.ground.own]))[len(found) :]:
            value = parallel.agree(partial(self.relatedness, *self.probed(i))) if source.classes else None
            found = [*found, value]
            self.checkpoints("auto-related").keep({"related": found})
        return found

    def probed(self, i: int) -> tuple[Rows, Rows | None]:
        """Rows of the target, with the answers of a model that knows source `i` alone.

        Beside them, where that has the target's labels, rows of its own that the model has not seen.
        """
        rows, generator = self.ground.rows, torch.Generator().manual_seed(self.ground.seed)
        network, source = copy.deepcopy(self.ground.network).to(device()), self.ground.sources[i]
        own, taught = held_out(source.rows, generator) if source.head == TARGET else (None, source.rows)
        source = replace(source, rows=taught, head="probe")  # the target's may know its labels already
        plan = phases("none", "teach", False, source, [], self.batch_size)
        add_heads(network, plan, [source])
        self.train(network, plan, "teach", self.room.probe, self.ground.rate, 0, loop=f"auto-probe-{i}")
        order = torch.randperm(len(rows), generator=generator)[:PROBED]
        network.eval()

        def answered(rows: Rows) -> Rows:
            return self.label(network, TaskRows(rows, source.head, source.classes), source.head).rows

        return answered(rows.take(order.tolist())), answered(own) if own else None

    def run(self, number: int, tried: Mapping[Choice, tuple[int, ...]], most: int) -> None:
        """One split: a student of each choice, and the teachers they need."""
        self.most = most
        training, held = (self.ground.rows.take(index) for index in self.seen.splits[number])
        target = TaskRows(training, TARGET, 0)
        teachers: dict[tuple[int, ...], tuple[Network, TaskRows]] = {}
        for choice, taught in tried.items():
            if number in self.scores.get(choice, {}):
                continue  # before an interruption
            if taught not in teachers:
                teacher = self.teach(target, taught, number)
                teachers[taught] = teacher, self.label(teacher, target, TARGET)
            student = self.student(choice, *teachers[taught], number)
            self.scores.setdefault(choice, {})[number] = parallel.agree(partial(self.worth, student, held))
            seen = [asdict(one) | {"scores": scores} for one, scores in self.scores.items()]
            self.checkpoints("auto").keep({"seen": seen})
            self.tell()
        for taught in teachers:
            self.teacher(taught, number).drop()

    def relatedness(self, rows: Rows, own: Rows | None) -> float:
        """Of the source's labels to the target's."""
        assert rows.logits is not None
        found = relatedness(rows.logits, rows.labels, rows.task, own is not None)
        if own is None:
            return found
        assert own.logits is not None
        return against_own(found, relatedness(own.logits, own.labels, own.task, True))

    def worth(self, student: Network, held: Rows) -> Tensor:
        """Of each row that was held out."""
        return held.task.worth(predict(student, held, alive=self.tell), held.labels, self.ground.balanced)

    def label(self, teacher: Network, task: TaskRows, head: str) -> TaskRows:
        """With the teacher's logits."""
        return labelled_by(teacher, task, head, self.tell)

    def teacher(self, taught: Sequence[int], number: int) -> Checkpoint:
        """A teacher of a split, once it is trained."""
        return self.checkpoints("-".join(map(str, ("auto-teacher", number, *taught))))

    def tell(self) -> None:
        """How many trials are done."""
        done = sum(map(len, self.scores.values()))
        self.report(StageProgress(stage="auto", step=done, steps=max(1, done, self.most)))

    def teach(self, target: TaskRows, taught: Sequence[int], number: int) -> Network:
        """A dense model, taught in short; with the labels of the sources `taught` if there are any."""
        network = copy.deepcopy(self.ground.network).to(device())
        sources = [self.ground.sources[i] for i in taught]
        plan = phases("sequential", "teach", bool(sources), target, sources, self.batch_size)
        plan = by_pairs(plan) if self.ground.pairs else plan
        add_heads(network, plan, sources)
        if (saved := self.teacher(taught, number).load()) is not None:
            restore(network, saved["network"])
        else:
            self.train(network, plan, "teach", self.room.teach, self.ground.rate, number)
            self.teacher(taught, number).keep({"network": trained(network)})
        return network.eval()

    def student(self, choice: Choice, teacher: Network, target: TaskRows, number: int) -> Network:
        """Cut at once, and recovered in short."""
        given = [self.ground.sources[i] for i in choice.sources]
        given = first_rows(choice.coupling, given, self.room.recover, self.batch_size)
        sources = [self.label(teacher, task, teacher_head(choice.coupling, task)) for task in given]
        student = copy.deepcopy(teacher)
        plans = [
            phases(choice.coupling, stage, stage in choice.stages, target, sources, self.batch_size)
            for stage in ("prune", "recover")
        ]
        for plan in plans:
            add_heads(student, plan, sources)
        self.cut(student, plans[0])
        student.drop_nothing()
        rate = recovery_rate(self.ground.rate, student, teacher)
        self.train(student, plans[1], "recover", self.room.recover, rate, number)
        return student

    def cut(self, student: Network, plan: Sequence[Phase]) -> None:
        """To the job's budget."""
        ground = self.ground
        scores = importance(student, ground.fitter, plan, ground.seed, BATCHES, lambda _done: self.tell())
        cut_settled(student, ground.fitter(scores), plan, ground.seed)

    def train(
        self, network: Network, plan: Sequence[Phase], stage: str, steps: int, rate: float, number: int, loop: str = ""
    ) -> None:
        """The last step counts: there is no dev to select on."""
        checkpoint = self.checkpoints(loop or f"auto-{stage}-{sum(map(len, self.scores.values()))}")
        # Steps inside a trial are a sign of life, and no more.
        training = Training(steps, rate, self.ground.seed + number, lambda _message: self.tell(), checkpoint=checkpoint)
        train(network, plan, None, training, stage="auto", metric="")
        checkpoint.drop()


def held_out(rows: Rows, generator: torch.Generator) -> tuple[Rows, Rows]:
    """A fifth of the rows, `OWN` at most, as they are, and all others with their views."""
    order = torch.randperm(len(rows) // rows.views, generator=generator).tolist()
    count = min(OWN, len(order) // 5)
    rest = [one * rows.views + view for one in sorted(order[count:]) for view in range(rows.views)]
    return rows.take([one * rows.views for one in order[:count]]), rows.take(rest)
