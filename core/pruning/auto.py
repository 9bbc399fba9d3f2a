"""`auto`: which way to transfer, and from which sources, found by short trials that never see the test rows.

A trial is the job in small, at the job's own budget, on a new split of the target's train and dev rows: teach, cut at
once to the budget by `importance`, recover, score on the rows held out. The trials of a split share their teachers. As
in successive halving (Jamieson, Talwalkar, AISTATS 2016) every choice is tried on the first split, and the better half
again on the next. A few hundred rows tell choices apart only roughly, so what the trials show is weighed against what
is to be expected (PRIORS): the fewer rows, the more that decides.

Before that, a model taught by each source alone answers the target's rows. Labels that have nothing in common with the
target's are left out (related.py): such a source is text.

All trials together cost at most what the job itself does, in optimiser steps weighted by their price.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil, sqrt
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from core.pruning import parallel
from core.pruning.batches import Rows
from core.pruning.checkpoint import Checkpoint, restore, trained
from core.pruning.coupling import Phase, TaskRows, add_heads, first_rows, phases, teacher_head
from core.pruning.cut import cut
from core.pruning.fitter import Fitter
from core.pruning.importance import importance
from core.pruning.losses import labelled_by
from core.pruning.network import TARGET, Network, device, predict
from core.pruning.related import RELATED, WELL_RELATED, relatedness
from core.pruning.train import Report, Training, recovery_rate, train
from core.spec.estimate import prices
from core.spec.job import Stage

SPLITS = 2
PROBE = 960, 320  # rows that a source is taught by to see whether its labels are related; with fewer, it is not asked
PROBED = 400  # rows of the target that are answered, at most
PROBES = 1 / 4  # of what the trials may cost, for all of that, at most; all of it, where no trial is to come
BATCHES = 24  # that the units of a trial are scored on
NOISE = 0.015  # deviation of a score from training alone: what runs of one cell differed by in first trials
FIDELITY = 0.03  # deviation of a trial's lead from the job's: a few dozen steps are not the job (docs/methods.md)
ROWS = 0.2  # least deviation of a row's gain: students that have hardly learned agree, and that is no evidence
TIE = 0.005  # a lead of less goes to the simpler choice
FORWARD = 1 / 3  # of the price of a dense step: to label a batch by the teacher


@dataclass(frozen=True)
class Choice:
    """A way to transfer: a coupling, the stages it enters, and the sources (their numbers) that it uses."""

    coupling: str
    stages: tuple[Stage, ...] = ()
    sources: tuple[int, ...] = ()

    @property
    def by_labels(self) -> bool:
        """Whether the sources' own labels are used."""
        return self.coupling == "sequential" or "teach" in self.stages

    @property
    def way(self) -> tuple[str, bool]:
        """What a prior is known of: the coupling, and whether source labels enter the teacher."""
        return self.coupling, "teach" in self.stages

    def __str__(self) -> str:
        return f"{self.coupling} in {', '.join(self.stages)}" if self.stages else self.coupling


NONE = Choice("none")
# Lead over `none` to expect, mean and deviation over tasks, in parts of 1: after benchmarks/results/transfer.md, of
# sources whose labels are well related; few pairs, so that the deviation is rather wide. `sequential` was run in all
# stages, and what it is worth without teaching is assumed.
PRIORS: Mapping[tuple[str, bool], tuple[float, float]] = {
    ("teacher", False): (0.01, 0.02),
    ("sequential", False): (0.015, 0.03),
    ("sequential", True): (0.045, 0.03),
    ("teacher", True): (0.04, 0.03),
}


@dataclass(frozen=True)
class Lead:
    """How far a choice is ahead of `none`: what the trials saw, its standard error, and weighed against the prior."""

    seen: float
    error: float
    weighed: float


@dataclass(frozen=True)
class Decision:
    """What was chosen, and everything that was tried."""

    choice: Choice
    why: str
    trials: list[dict[str, Any]]
    related: list[float | None]  # of each source, how far its labels go with the target's; None: not asked
    as_text: list[int]  # sources whose labels are not used


def choices(stages: Sequence[Stage], labelled: Sequence[int], sources: Sequence[int]) -> list[Choice]:
    """What is tried, the simplest first, within the stages that the job allows; `labelled`: sources with labels."""
    text = tuple(stage for stage in stages if stage != "teach")
    found = [NONE]
    if text:
        found.append(Choice("teacher", text, tuple(sources)))
    if labelled:
        found.append(Choice("sequential", tuple(stages), tuple(labelled)))
        if text and "teach" in stages:
            found.append(Choice("teacher", tuple(stages), tuple(sources)))
    return found


def weigh(gains: Tensor, splits: int, prior: tuple[float, float]) -> Lead:
    """Mean of the rows' gains over `none` (N,), and its normal posterior under the prior (mean, deviation)."""
    seen = float(gains.mean())
    error = sqrt(max(float(gains.var()), ROWS**2) / len(gains) + 2 * NOISE**2 / splits + FIDELITY**2)
    expected, spread = prior
    trust = spread**2 / (spread**2 + error**2)
    return Lead(seen, error, trust * seen + (1 - trust) * expected)


def best(leads: Mapping[Choice, Lead]) -> Choice:
    """The choice with the largest weighed lead; within TIE of it, the first. `none` leads itself by 0."""
    weighed = {NONE: 0.0} | {choice: lead.weighed for choice, lead in leads.items()}
    top = max(weighed.values())
    return next(choice for choice in weighed if weighed[choice] >= top - TIE)


def splits(strata: Tensor, held: int, count: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """`count` times (train, held out) row numbers, strata in proportion, held-out rows as different as can be."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.empty(len(strata))
    for stratum in range(int(strata.max()) + 1):
        rows = (strata == stratum).nonzero().flatten()
        place[rows] = (torch.randperm(len(rows), generator=generator) + 0.5) / len(rows)
    order = place.argsort(stable=True).tolist()  # every window of it holds the strata in proportion
    found = []
    for i in range(count):
        turned = order[i * held % len(order) :] + order[: i * held % len(order)]
        found.append((turned[held:], turned[:held]))
    return found


class Trials:
    """The trials of one job."""

    def __init__(
        self,
        network: Network,
        fitter: Fitter,
        rows: Rows,
        held: int,
        sources: Sequence[TaskRows],
        *,
        stages: Sequence[Stage],
        steps: Mapping[str, int],
        rate: float,
        batch_size: int,
        balanced: bool,
        seed: int,
        report: Report,
        checkpoints: Callable[[str], Checkpoint],
    ) -> None:
        """`rows`: the target's train and dev rows; `held` of them are scored on in each split. `steps`: the job's.

        A student is cut to what `fitter` makes of its scores.
        """
        self.network, self.fitter = network, fitter
        self.rows, self.sources = rows, sources
        self.rate, self.balanced, self.seed, self.report = rate, balanced, seed, report
        self.batch_size = max(1, batch_size // 2)  # for the same price, more steps tell more than larger ones
        self.cheaper = batch_size / self.batch_size  # a step of a trial than the job's
        self.stages = stages
        self.related: list[float | None] = [None] * len(sources)
        self.choices = self.allowed()
        self.splits = splits(rows.problem.strata(rows.labels), held, SPLITS, seed)
        self.apart = len(sources) > 1  # each source is tried alone, too, where there is the time
        found = self.plan(steps)
        if self.apart and not found[0]:
            self.apart = False
            found = self.plan(steps)
        self.planned, self.probe_steps, self.teach_steps, self.recover_steps = found
        self.checkpoints = checkpoints
        self.seen: dict[Choice, dict[int, Tensor]] = {}  # choice -> split -> score of each held-out row
        for value in (checkpoints("auto").load() or {"seen": []})["seen"]:
            choice = Choice(value["coupling"], tuple(value["stages"]), tuple(value["sources"]))
            self.seen[choice] = value["scores"]

    def allowed(self) -> list[Choice]:
        """What is tried, with what is known of the sources."""
        everything = range(len(self.sources))
        return choices(self.stages, self.labelled(everything), everything)

    @property
    def survivors(self) -> int:
        """Choices, beside `none`, that are tried on the second split."""
        return ceil((len(self.choices) - 1) / 2)

    def students(self) -> int:
        """How many trials, at most."""
        several = len(self.sources) * self.apart
        return len(self.choices) + several + (SPLITS - 1) * (1 + self.survivors + bool(several))

    def plan(self, steps: Mapping[str, int]) -> tuple[int, int, int, int]:
        """How many trials at most, the steps of a probe, and those of a trial's teaching and recovery.

        They keep all within the job's own cost. 0 trials if the job is too short for any.
        """
        after = steps["prune"] + steps["recover"]
        price = prices(self.fitter.limit / self.fitter.cost.dense)
        job = sum(steps[stage] * price[stage] for stage in price) * self.cheaper  # from here on in steps of a trial
        several = len(self.sources) * self.apart
        students = self.students()
        sets = any("teach" in choice.stages for choice in self.choices) * (1 + bool(several))  # of sources, taught
        teachers = SPLITS + sets * SPLITS + several * ("teach" in self.choices[1].stages)
        probe, probes = self.plan_probes(PROBES * job if steps["teach"] else 0)
        fixed = students * BATCHES + teachers * FORWARD * len(self.rows) / self.batch_size + probes
        room = job - fixed
        if room < job / 3:
            return 0, probe or self.plan_probes(job if steps["teach"] else 0)[0], 0, 0
        teach = min(steps["teach"], room / 2 / teachers)
        recover = min(after, (room - teachers * teach) / students / (price["recover"] + FORWARD))
        return students, probe, max(1, int(teach)), max(1, int(recover))

    def plan_probes(self, room: float) -> tuple[int, float]:
        """Steps of each probe, and the price of all, at most `room`; 0 if too few rows would teach it.

        A model that is not taught, as it is fitted to the target's labels, can tell nothing of the source alone.
        """
        labelled = len(self.labelled(range(len(self.sources))))
        most, least = (ceil(rows / self.batch_size) for rows in PROBE)
        answers = FORWARD * min(PROBED, len(self.rows)) / self.batch_size
        steps = min(most, int(room / max(1, labelled) - answers))
        return (steps, labelled * (steps + answers)) if labelled and steps >= least else (0, 0.0)

    def decide(self) -> Decision:
        """Run the trials. Sources that do not lead when each is tried alone stay out of one more choice."""
        if self.probe_steps:
            self.probe()
        if not self.planned or len(self.choices) == 1:
            leads = {choice: Lead(0.0, 0.0, self.prior(choice)[0]) for choice in self.choices[1:]}
            why = (
                "nothing else is left to try" if self.planned else "the job is too short for trials: by the prior alone"
            )
            return Decision(best(leads), why + self.about_labels(), [], self.related, self.strange)
        usable = self.choices[1].sources
        alone = [replace(self.choices[1], sources=(i,)) for i in usable] if self.apart and len(usable) > 1 else []
        self.run(0, [*self.choices, *alone])
        ranked = sorted(self.choices[1:], key=lambda choice: -self.lead(choice).weighed)
        tried = [choice for choice in self.choices if choice in ranked[: self.survivors]]
        kept = [choice.sources[0] for choice in alone if self.lead(choice).weighed >= 0]
        if kept and len(kept) < len(alone):
            fewer = choices(self.stages, self.labelled(kept), kept)[1:]
            tried.append(next((f for r in ranked for f in fewer if f.way == r.way), fewer[0]))
        for number in range(1, SPLITS):
            self.run(number, [NONE, *tried])
        return self.decision(best({choice: self.lead(choice) for choice in tried}))

    def labelled(self, sources: Sequence[int]) -> list[int]:
        """Those of the sources that have labels, but for those that were found to be unrelated."""
        return [i for i in sources if self.sources[i].classes and i not in self.strange]

    def prior(self, choice: Choice) -> tuple[float, float]:
        """Lead to expect, mean and deviation: of labels the less, the less the best of the sources is related."""
        expected, spread = PRIORS[choice.way]
        known = [value for i in self.labelled(choice.sources) if (value := self.related[i]) is not None]
        if choice.by_labels and known:
            expected *= min(1.0, (max(known) - RELATED) / (WELL_RELATED - RELATED))
        return expected, spread

    @property
    def strange(self) -> list[int]:
        """Sources whose labels have nothing in common with the target's."""
        return [i for i, value in enumerate(self.related) if value is not None and value < RELATED]

    def probe(self) -> None:
        """How far the labels of each source go with the target's; those that do not are not tried."""
        saved = self.checkpoints("auto-related").load() or {"related": []}
        for i, source in enumerate(self.sources):
            if i < len(saved["related"]):
                self.related[i] = saved["related"][i]
            elif source.classes:
                self.related[i] = parallel.agree(partial(self.relatedness, source, self.probed(i)))
            self.checkpoints("auto-related").keep({"related": self.related[: i + 1]})
        self.choices = self.allowed()
        self.planned = self.planned and self.students()

    def probed(self, i: int) -> Rows:
        """Rows of the target, with the answers of a model that knows source `i` alone."""
        network = copy.deepcopy(self.network).to(device())
        source = replace(self.sources[i], head="probe")  # the target's may know its labels already
        plan = phases("none", "teach", False, source, [], self.batch_size)
        add_heads(network, plan, [source])
        self.train(network, plan, "teach", self.probe_steps, self.rate, 0, loop=f"auto-probe-{i}")
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self.seed))[:PROBED]
        rows = TaskRows(self.rows.take(order.tolist()), source.head, source.classes)
        return labelled_by(network.eval(), rows, source.head, self.tell).rows

    def run(self, number: int, tried: Sequence[Choice]) -> None:
        """One split: a student of each choice, and the teachers they need."""
        training, held = (self.rows.take(index) for index in self.splits[number])
        target = TaskRows(training, TARGET, 0)
        teachers: dict[tuple[int, ...], tuple[Network, TaskRows]] = {}
        for choice in tried:
            if number in self.seen.get(choice, {}):
                continue  # before an interruption
            taught = tuple(self.labelled(choice.sources)) if "teach" in choice.stages else ()
            if taught not in teachers:
                teacher = self.teach(target, taught, number)
                teachers[taught] = teacher, labelled_by(teacher, target, TARGET, self.tell)
            student = self.student(choice, *teachers[taught], number)
            worth = parallel.agree(partial(self.worth, student, held))
            self.seen.setdefault(choice, {})[number] = worth
            self.checkpoints("auto").keep({"seen": [asdict(c) | {"scores": s} for c, s in self.seen.items()]})
            self.tell()
        for taught in teachers:
            self.teacher(taught, number).drop()

    def relatedness(self, source: TaskRows, rows: Rows) -> float:
        """Of the source's labels to the target's."""
        assert rows.logits is not None
        return relatedness(rows.logits, rows.labels, rows.problem, source.head == TARGET)

    def worth(self, student: Network, held: Rows) -> Tensor:
        """Of each row that was held out."""
        return held.problem.worth(predict(student, held, alive=self.tell), held.labels, self.balanced)

    def teacher(self, taught: Sequence[int], number: int) -> Checkpoint:
        """A teacher of a split, once it is trained."""
        return self.checkpoints("-".join(map(str, ("auto-teacher", number, *taught))))

    def tell(self) -> None:
        """How many trials are done."""
        done = sum(map(len, self.seen.values()))
        steps = max(1, done, self.planned)
        facts = {"step": done, "steps": steps, "sparsity": None, "dev": None}
        self.report({"event": "progress", "stage": "auto", **facts})

    def teach(self, target: TaskRows, taught: Sequence[int], number: int) -> Network:
        """A dense model, taught in short; with the labels of the sources `taught` if there are any."""
        network = copy.deepcopy(self.network).to(device())
        sources = [self.sources[i] for i in taught]
        plan = phases("sequential", "teach", bool(sources), target, sources, self.batch_size)
        add_heads(network, plan, sources)
        if (saved := self.teacher(taught, number).load()) is not None:
            restore(network, saved["network"])
        else:
            self.train(network, plan, "teach", self.teach_steps, self.rate, number)
            self.teacher(taught, number).keep({"network": trained(network)})
        return network.eval()

    def student(self, choice: Choice, teacher: Network, target: TaskRows, number: int) -> Network:
        """Cut at once, and recovered in short."""
        given = [self.sources[i] for i in choice.sources]
        given = first_rows(choice.coupling, given, self.recover_steps, self.batch_size)
        sources = [labelled_by(teacher, task, teacher_head(choice.coupling, task), self.tell) for task in given]
        student = copy.deepcopy(teacher)
        plans = [
            phases(choice.coupling, stage, stage in choice.stages, target, sources, self.batch_size)
            for stage in ("prune", "recover")
        ]
        for plan in plans:
            add_heads(student, plan, sources)
        scores = importance(student, self.fitter, plans[0], self.seed, BATCHES, lambda _done: self.tell())
        cut(student, self.fitter(scores))
        student.drop_nothing()
        rate = recovery_rate(self.rate, student, teacher)
        self.train(student, plans[1], "recover", self.recover_steps, rate, number)
        return student

    def train(
        self, network: Network, plan: Sequence[Phase], stage: str, steps: int, rate: float, number: int, loop: str = ""
    ) -> None:
        """The last step counts: there is no dev to select on."""
        checkpoint = self.checkpoints(loop or f"auto-{stage}-{sum(map(len, self.seen.values()))}")
        # Steps inside a trial are a sign of life, and no more.
        training = Training(steps, rate, self.seed + number, lambda _message: self.tell(), checkpoint=checkpoint)
        train(network, plan, None, training, stage="auto", metric="")
        checkpoint.drop()

    def lead(self, choice: Choice) -> Lead:
        """Over `none`, on the splits that the choice was tried on; a row that was scored twice counts once."""
        tried = self.seen[choice]
        gains: dict[int, list[float]] = {}
        for number, values in tried.items():
            for row, gain in zip(self.splits[number][1], (values - self.seen[NONE][number]).tolist(), strict=True):
                gains.setdefault(row, []).append(gain)
        means = torch.tensor([mean(values) for values in gains.values()])
        return weigh(means, len(tried), self.prior(choice))

    def decision(self, choice: Choice) -> Decision:
        """With the report of what was tried."""
        trials = []
        for tried, values in self.seen.items():
            lead = Lead(0.0, 0.0, 0.0) if tried == NONE else self.lead(tried)
            facts = {"choice": str(tried), "sources": list(tried.sources), "splits": len(values)}
            figures = {"score": float(torch.cat(list(values.values())).mean()), **asdict(lead)}
            trials.append(facts | {name: round(value, 4) for name, value in figures.items()})
        rows = len({row for number in self.seen[choice] for row in self.splits[number][1]})
        if choice == NONE:
            why = f"no other choice leads it by more than {TIE:.1%} on {rows} held-out rows, the prior weighed in"
        else:
            lead = self.lead(choice)
            why = (
                f"it leads no transfer by {lead.seen:+.1%} (standard error {lead.error:.1%}) on {rows} held-out rows, "
                f"and by {lead.weighed:+.1%} once the prior is weighed in"
            )
            if left := [str(i) for i in range(len(self.sources)) if i not in choice.sources]:
                why += f"; left out: source {', '.join(left)}"
        why += self.about_labels()
        return Decision(choice, why, trials, self.related, self.strange)

    def about_labels(self) -> str:
        """Which were not used, and why."""
        if not self.strange:
            return ""
        found = ", ".join(f"source {i} ({self.related[i]:.2f})" for i in self.strange)
        return f"; labels that have nothing in common with the target's (under {RELATED}) were not used: {found}"
