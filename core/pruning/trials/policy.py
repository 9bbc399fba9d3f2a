"""`auto`: which way to transfer, and from which sources, found by short trials that never see the test rows.

A trial is the job in small, at the job's own budget, on a new split of the target's train and dev rows: teach, cut at
once to the budget by `importance`, recover, score on the rows held out. The trials of a split share their teachers. As
in successive halving (Jamieson, Talwalkar, AISTATS 2016) every choice is tried on the first split, and the better half
again on the next. A few hundred rows tell choices apart only roughly, so what the trials show is weighed against what
is to be expected (PRIORS): the fewer rows, the more that decides.

The target's own text, where there is some, is in every choice but `none`, and has a prior of its own (OWN_TEXT).

Before that, a model taught by each source alone answers the target's rows. Labels that have nothing in common with the
target's are left out (relatedness.py): such a source is text.

All trials together cost at most what the job itself does, in optimiser steps weighted by their price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, sqrt
from statistics import mean
from typing import Any, Protocol

import torch
from torch import Tensor

from core.pruning.trials.relatedness import RELATED, WELL_RELATED
from core.spec.job import Stage

SPLITS = 2
NOISE = 0.015  # deviation of a score from training alone: what runs of one cell differed by in first trials
FIDELITY = 0.03  # deviation of a trial's lead from the job's: a few dozen steps are not the job (docs/log.md)
ROWS = 0.2  # least deviation of a row's gain: students that have hardly learned agree, and that is no evidence
TIE = 0.005  # a lead of less goes to the simpler choice

Split = tuple[list[int], list[int]]  # row numbers to train on, and those held out


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
OWN_TEXT = (0.04, 0.03)  # at least, with the target's own text: it was worth as much as a large labelled source


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


def choices(
    stages: Sequence[Stage], labelled: Sequence[int], sources: Sequence[int], own: int | None = None
) -> list[Choice]:
    """What is tried, the simplest first, within the stages that the job allows; `labelled`: sources with labels.

    `own`: the number of the target's own text, which is in every choice; `sequential` could not use it.
    """
    text = tuple(stage for stage in stages if stage != "teach")
    found = [NONE]
    if own is not None and sources:
        found.append(Choice("teacher", text, (own,)))
    sources = [*sources, *([] if own is None else [own])]
    if text:
        found.append(Choice("teacher", text, tuple(sources)))
    if labelled:
        if own is None:
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


def splits(strata: Tensor, held: int, count: int, seed: int) -> list[Split]:
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


@dataclass(frozen=True)
class Policy:
    """What is tried, with what is known of the sources; of each, whether it has labels, and how far they are related.

    `apart`: each source is tried alone, too. `own`: the number of the target's own text, which comes after theirs.
    `scatter`: how many times as far leads scatter as PRIORS say, which are of texts.
    """

    stages: Sequence[Stage]
    labels: Sequence[bool]
    related: Sequence[float | None]
    apart: bool
    own: int | None = None
    scatter: float = 1.0

    @property
    def choices(self) -> list[Choice]:
        """All of them, the simplest first."""
        everything = range(len(self.labels))
        return choices(self.stages, self.labelled(everything), everything, self.own)

    @property
    def alone(self) -> list[Choice]:
        """Each source by itself, as text or, where there is no other way, by its labels."""
        everything = range(len(self.labels))
        first = choices(self.stages, self.labelled(everything), everything)[1]
        return [replace(first, sources=(i,)) for i in first.sources] if self.apart and len(first.sources) > 1 else []

    @property
    def strange(self) -> list[int]:
        """Sources whose labels have nothing in common with the target's."""
        return [i for i, value in enumerate(self.related) if value is not None and value < RELATED]

    @property
    def survivors(self) -> int:
        """Choices, beside `none`, that are tried on the second split."""
        return ceil((len(self.choices) - 1) / 2)

    @property
    def most(self) -> int:
        """How many trials, at most."""
        several = len(self.labels) * self.apart
        return len(self.choices) + several + (SPLITS - 1) * (1 + self.survivors + bool(several))

    def labelled(self, sources: Sequence[int]) -> list[int]:
        """Those of the sources that have labels, but for those that were found to be unrelated."""
        return [i for i in sources if i != self.own and self.labels[i] and i not in self.strange]

    def teaching(self, choice: Choice) -> tuple[int, ...]:
        """Sources whose labels enter the teacher."""
        return tuple(self.labelled(choice.sources)) if "teach" in choice.stages else ()

    def prior(self, choice: Choice) -> tuple[float, float]:
        """Lead to expect, mean and deviation: of labels the less, the less the best of the sources is related."""
        expected, spread = PRIORS[choice.way]
        known = [value for i in self.labelled(choice.sources) if (value := self.related[i]) is not None]
        if choice.by_labels and known:
            expected *= min(1.0, (max(known) - RELATED) / (WELL_RELATED - RELATED))
        expected, spread = max((expected, spread), OWN_TEXT) if self.own in choice.sources else (expected, spread)
        return expected, self.scatter * spread

    def about_labels(self) -> str:
        """Which were not used, and why."""
        if not self.strange:
            return ""
        found = ", ".join(f"source {i} ({self.related[i]:.2f})" for i in self.strange)
        return f"; labels that have nothing in common with the target's (under {RELATED}) were not used: {found}"


@dataclass(frozen=True)
class Room:
    """What the trials may cost: how many there are at most (0: the job is too short), and the steps of each part."""

    trials: int
    probe: int
    teach: int
    recover: int


@dataclass(frozen=True)
class Seen:
    """What trials have shown: by choice and split, the score of each row that was held out."""

    splits: Sequence[Split]
    scores: Mapping[Choice, Mapping[int, Tensor]]

    def lead(self, choice: Choice, prior: tuple[float, float]) -> Lead:
        """Over `none`, on the splits that the choice was tried on; a row that was scored twice counts once."""
        tried = self.scores[choice]
        gains: dict[int, list[float]] = {}
        for number, values in tried.items():
            for row, gain in zip(self.splits[number][1], (values - self.scores[NONE][number]).tolist(), strict=True):
                gains.setdefault(row, []).append(gain)
        means = torch.tensor([mean(values) for values in gains.values()])
        return weigh(means, len(tried), prior)

    def rows(self, choice: Choice) -> int:
        """How many the choice was scored on."""
        return len({row for number in self.scores[choice] for row in self.splits[number][1]})

    def table(self, policy: Policy) -> list[dict[str, Any]]:
        """For the report."""
        found = []
        for tried, values in self.scores.items():
            lead = Lead(0.0, 0.0, 0.0) if tried == NONE else self.lead(tried, policy.prior(tried))
            facts = {
                "choice": str(tried),
                "sources": [i for i in tried.sources if i != policy.own],
                "unlabelled": policy.own in tried.sources,
                "splits": len(values),
            }
            figures = {"score": float(torch.cat(list(values.values())).mean()), **asdict(lead)}
            found.append(facts | {name: round(value, 4) for name, value in figures.items()})
        return found


class Runner(Protocol):
    """Who runs the trials."""

    @property
    def seen(self) -> Seen:
        """Of all that was run."""

    def related(self, most: int) -> Sequence[float | None]:
        """How far the labels of each source go with the target's. `most`: trials that may follow."""

    def run(self, number: int, tried: Mapping[Choice, tuple[int, ...]], most: int) -> None:
        """One split: a student of each choice; the sources whose labels teach it."""


def decide(policy: Policy, room: Room, runner: Runner) -> Decision:
    """Have the trials run. Sources that do not lead when each is tried alone stay out of one more choice."""
    if room.probe:
        policy = replace(policy, related=runner.related(room.trials))
    most = policy.most if room.trials else 0
    if not most or len(policy.choices) == 1:
        leads = {choice: Lead(0.0, 0.0, policy.prior(choice)[0]) for choice in policy.choices[1:]}
        why = "nothing else is left to try" if most else "the job is too short for trials: by the prior alone"
        return Decision(best(leads), why + policy.about_labels(), [], list(policy.related), policy.strange)

    def run(number: int, tried: Sequence[Choice]) -> None:
        runner.run(number, {choice: policy.teaching(choice) for choice in tried}, most)

    def lead(choice: Choice) -> Lead:
        return runner.seen.lead(choice, policy.prior(choice))

    alone = policy.alone
    run(0, [*policy.choices, *alone])
    ranked = sorted(policy.choices[1:], key=lambda choice: -lead(choice).weighed)
    tried = [choice for choice in policy.choices if choice in ranked[: policy.survivors]]
    kept = [choice.sources[0] for choice in alone if lead(choice).weighed >= 0]
    if kept and len(kept) < len(alone):
        every = choices(policy.stages, policy.labelled(kept), kept, policy.own)[1:]
        fewer = [choice for choice in every if choice.sources != (policy.own,)]
        tried.append(next((f for r in ranked for f in fewer if f.way == r.way), fewer[0]))
    for number in range(1, SPLITS):
        run(number, [NONE, *tried])
    return settled(best({choice: lead(choice) for choice in tried}), policy, runner.seen)


def settled(choice: Choice, policy: Policy, seen: Seen) -> Decision:
    """With the report of what was tried."""
    rows = seen.rows(choice)
    if choice == NONE:
        why = f"no other choice leads it by more than {TIE:.1%} on {rows} held-out rows, the prior weighed in"
    else:
        lead = seen.lead(choice, policy.prior(choice))
        why = (
            f"it leads no transfer by {lead.seen:+.1%} (standard error {lead.error:.1%}) on {rows} held-out rows, "
            f"and by {lead.weighed:+.1%} once the prior is weighed in"
        )
        if left := [str(i) for i in range(len(policy.labels)) if i not in choice.sources]:
            why += f"; left out: source {', '.join(left)}"
    why += policy.about_labels()
    return Decision(choice, why, seen.table(policy), list(policy.related), policy.strange)
