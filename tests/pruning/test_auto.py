"""`auto`: splits, scores, what weighs against what, its price, and that a source which hurts is switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.domains.cost import Cost
from core.domains.transformer.network import TransformerNetwork
from core.pruning.scoring.fitter import Fitter
from core.pruning.training.batches import Rows
from core.pruning.training.checkpoint import NOWHERE, Checkpoint, Checkpoints
from core.pruning.training.coupling import TaskRows
from core.pruning.trials import allot, trials
from core.pruning.trials import policy as auto
from core.pruning.trials.allot import BATCHES, FORWARD
from core.pruning.trials.policy import (
    FIDELITY,
    NOISE,
    NONE,
    OWN_TEXT,
    PRIORS,
    SPLITS,
    TIE,
    Choice,
    Decision,
    Lead,
    Policy,
    Seen,
    best,
    choices,
    splits,
    weigh,
)
from core.pruning.trials.relatedness import RELATED
from core.pruning.trials.trials import Ground, Trials, plan
from core.schedule import prices
from core.spec.job import Stage
from core.spec.messages import Listener
from core.tasks.classes import SingleLabel
from tests.tiny import task_rows

ALL: list[Stage] = ["teach", "prune", "recover"]


def shuffled(source: TaskRows) -> TaskRows:
    """With labels that say nothing."""
    labels = source.rows.labels[torch.randperm(len(source.rows), generator=torch.Generator().manual_seed(0))]
    return replace(source, rows=replace(source.rows, labels=labels))


def ground_of(
    tiny: Path,
    network: TransformerNetwork,
    cost: Cost,
    sources: int = 1,
    rows: int = 80,
    held: int = 30,
    **changes: Any,
) -> Ground:
    """Of a small job."""
    return Ground(
        network=network,
        rows=task_rows(tiny, rows, 0).rows,
        held=held,
        sources=[task_rows(tiny, 60, 1 + i) for i in range(sources)],
        fitter=Fitter(cost, sum(cost.fixed) + (cost.dense - sum(cost.fixed)) // 4),
        **{"rate": 1e-3, "batch_size": 16, "balanced": False, "seed": 0, **changes},
    )


STEPS = {"teach": 400, "prune": 0, "recover": 1200}


def decide(
    ground: Ground,
    steps: Mapping[str, int] = STEPS,
    stages: Sequence[Stage] = ALL,
    report: Listener = lambda _message: None,
    checkpoints: Callable[[str], Checkpoint] = lambda _name: NOWHERE,
) -> Decision:
    return trials.decide(ground, stages, steps, report, checkpoints)


def test_choices_are_those_that_the_stages_and_the_sources_allow() -> None:
    assert [str(c) for c in choices(ALL, [0], [0])] == [
        "none", "teacher in prune, recover", "sequential in teach, prune, recover", "teacher in teach, prune, recover",
    ]  # fmt: skip
    assert [str(c) for c in choices(ALL, [], [0])] == ["none", "teacher in prune, recover"]
    assert [str(c) for c in choices(["recover"], [0], [0])] == ["none", "teacher in recover", "sequential in recover"]
    assert [str(c) for c in choices(["teach"], [0], [0])] == ["none", "sequential in teach"]
    assert choices(ALL, [1], [0, 1])[2].sources == (1,)  # only labels can be learned in sequence
    for labelled in ([0], []):
        for stages in (ALL, ["recover"], ["prune", "recover"]):
            assert all(c.way in PRIORS for c in choices(stages, labelled, [0])[1:])  # type: ignore[arg-type]


def test_splits_hold_the_classes_in_proportion_and_score_other_rows_each_time() -> None:
    labels = torch.tensor([0] * 75 + [1] * 25)
    (train_1, held_1), (train_2, held_2) = splits(labels, 40, 2, seed=3)
    for train, held in ((train_1, held_1), (train_2, held_2)):
        assert sorted(train + held) == list(range(100)) and len(held) == 40
        assert int(labels[held].sum()) == 10
    assert not set(held_1) & set(held_2)
    assert splits(labels, 40, 2, seed=3) == splits(labels, 40, 2, seed=3) != splits(labels, 40, 2, seed=4)


def test_score_of_sure_predictions_is_accuracy_and_classes_can_count_alike() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[50.0, 0.0]]).expand(4, 2)
    assert SingleLabel().worth(logits, labels, balanced=False).mean() == pytest.approx(0.75)
    assert SingleLabel().worth(logits, labels, balanced=True).mean() == pytest.approx(0.5)
    unsure = torch.zeros(4, 2)
    assert SingleLabel().worth(unsure, labels, balanced=False).tolist() == pytest.approx([0.75] * 4)


def test_few_rows_leave_the_prior_and_many_overrule_it() -> None:
    prior = (0.03, 0.03)
    few = weigh(torch.tensor([-0.9, 0.7, -0.6, 0.4]), 1, prior)
    assert few.seen == pytest.approx(-0.1) and few.error > 0.3
    assert 0.02 < few.weighed < 0.03
    alike = weigh(torch.tensor([0.001, -0.001, 0.001]), 1, prior)  # students that have hardly learned
    assert alike.error > 0.1 and 0.025 < alike.weighed < 0.03
    many = weigh(torch.tensor([-0.06, -0.04] * 2000), 2, prior)
    assert many.error == pytest.approx((NOISE**2 + FIDELITY**2) ** 0.5, rel=0.05)  # no number of rows takes that away
    assert -0.02 < many.weighed < 0
    assert weigh(torch.full((4000,), -0.2), 2, prior).weighed < -0.05


def test_a_tie_goes_to_the_simpler() -> None:
    _, text, _, labelled = choices(ALL, [0], [0])

    def lead(weighed: float) -> Lead:
        return Lead(0.0, 0.0, weighed)

    assert best({text: lead(TIE), labelled: lead(TIE)}) == NONE
    assert best({text: lead(0.03), labelled: lead(0.03 + TIE / 2)}) == text
    assert best({text: lead(0.03), labelled: lead(0.03 + 2 * TIE)}) == labelled


class Paying(Trials):
    """Adds up what is really asked for, in steps of a job of twice the batch size, and does none of it."""

    spent = 0.0

    def train(self, _network: Any, _plan: Any, stage: str, steps: int, *_: Any, **__: Any) -> None:
        self.spent += steps / 2 * prices(self.ground.fitter.limit / self.ground.fitter.cost.dense)[stage]

    def label(self, _teacher: Any, task: TaskRows, _head: str) -> TaskRows:
        self.spent += FORWARD * len(task.rows) / 2 / self.batch_size
        return task

    def cut(self, *_: Any) -> None:
        self.spent += BATCHES / 2

    def relatedness(self, *_: Any) -> float:
        return 1.0

    def worth(self, _student: Any, held: Rows) -> torch.Tensor:
        return torch.zeros(len(held))


@pytest.mark.parametrize(
    ("stages", "sources", "own"),
    [
        *((stages, count, None) for stages in (ALL, ["recover"], ["teach"]) for count in (1, 2, 8)),
        *((stages, 3, 2) for stages in (ALL, ["recover"])),  # own text has no place in teaching alone
    ],
)
@pytest.mark.parametrize("rows", [80, 3000])
@pytest.mark.parametrize(("teach", "prune", "recover"), [(200, 0, 900), (2000, 300, 600), (30, 300, 4000), (30, 0, 30)])
def test_the_trials_cost_no_more_than_the_job(
    stages: list[Stage],
    sources: int,
    own: int | None,
    rows: int,
    teach: int,
    prune: int,
    recover: int,
    tiny: Path,
    network: TransformerNetwork,
    cost: Cost,
) -> None:
    steps = {"teach": teach, "prune": prune, "recover": recover}
    ground = ground_of(tiny, network, cost, sources, held=max(30, rows // 4 * (rows > 80)), batch_size=32)
    ground = replace(ground, rows=ground.rows.take([i % 80 for i in range(rows)]), own=own)
    policy, room = plan(ground, stages, steps)
    runner = Paying(ground, room, lambda _message: None, lambda _name: NOWHERE)
    auto.decide(policy, room, runner)
    price = prices(ground.fitter.limit / cost.dense)
    job = sum(price[stage] * count for stage, count in steps.items())  # without any source
    assert runner.spent <= 1.01 * job
    assert (runner.spent == 0) == (room.trials == room.probe == 0)
    if teach + recover > 1000 and sources == 1:
        assert runner.spent > job / 4 and room.recover >= 30


Quality = Callable[[Choice], float]


class Judged:
    """A runner whose students are right as often as `quality` says, and sure of it."""

    def __init__(self, ground: Ground, quality: Quality) -> None:
        self.ground, self.quality = ground, quality
        self.scores: dict[Choice, dict[int, torch.Tensor]] = {}
        self.seen = Seen(splits(ground.rows.labels, ground.held, SPLITS, ground.seed), self.scores)

    def related(self, _most: int) -> list[float | None]:
        return [None] * len(self.ground.sources)

    def run(self, number: int, tried: Mapping[Choice, tuple[int, ...]], _most: int) -> None:
        for choice in tried:
            held = self.ground.rows.take(self.seen.splits[number][1])
            right = torch.arange(len(held)) < round(self.quality(choice) * len(held))
            said = torch.nn.functional.one_hot(torch.where(right, held.labels, 1 - held.labels), 2) * 20.0
            self.scores.setdefault(choice, {})[number] = held.task.worth(said, held.labels, False)


def judged(ground: Ground, quality: Quality) -> Decision:
    return auto.decide(*plan(ground, ALL, STEPS), Judged(ground, quality))


def test_what_helps_is_chosen_and_what_hurts_is_switched_off(
    tiny: Path, network: TransformerNetwork, cost: Cost
) -> None:
    wide = ground_of(tiny, network, cost, rows=800, held=400)
    good = judged(wide, lambda c: 0.9 if c.coupling == "teacher" and "teach" in c.stages else 0.6)
    assert str(good.choice) == "teacher in teach, prune, recover"
    assert "+30.0%" in good.why
    labels_hurt = judged(wide, lambda c: 0.5 if "teach" in c.stages else 0.8 if c == NONE else 0.85)
    assert str(labels_hurt.choice) == "teacher in prune, recover"
    all_hurt = judged(wide, lambda c: 0.8 if c == NONE else 0.6)
    assert all_hurt.choice == NONE and "no other choice" in all_hurt.why
    assert all_hurt.trials[0]["choice"] == "none" and len(all_hurt.trials) == 4


def test_a_source_that_hurts_is_left_out_and_the_others_stay(
    tiny: Path, network: TransformerNetwork, cost: Cost
) -> None:
    ground = ground_of(tiny, network, cost, sources=3, rows=800, held=400)

    def quality(choice: Choice) -> float:
        return 0.7 if choice == NONE else 0.5 if choice.sources == (1,) else 0.6 if 1 in choice.sources else 0.9

    decision = judged(ground, quality)
    assert decision.choice.sources == (0, 2)
    assert "on 400 held-out rows" in decision.why  # the first split never saw these two together
    assert decision.why.endswith("left out: source 1")
    assert max(t["splits"] for t in decision.trials if t["sources"] == [0, 2]) == 1


def test_sources_whose_labels_help_stay_though_their_text_does_not(
    tiny: Path, network: TransformerNetwork, cost: Cost
) -> None:
    ground = ground_of(tiny, network, cost, sources=2, rows=800, held=400)
    decision = judged(ground, lambda c: 0.9 if "teach" in c.stages else 0.7 if c == NONE else 0.6)
    assert "teach" in decision.choice.stages and decision.choice.sources == (0, 1)


def test_a_job_too_short_for_trials_goes_by_the_prior(tiny: Path, network: TransformerNetwork, cost: Cost) -> None:
    decision = decide(ground_of(tiny, network, cost), {"teach": 5, "prune": 0, "recover": 5})
    assert (str(decision.choice), decision.trials) == ("sequential in teach, prune, recover", [])


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, int]:
    """Steps of a job that is as short as one with trials can be: units are scored on few batches."""
    for module in (allot, trials):
        monkeypatch.setattr(module, "BATCHES", 2)
    return {"teach": 120, "prune": 0, "recover": 300}


@pytest.mark.slow
def test_trials_of_real_networks(
    tiny: Path, network: TransformerNetwork, cost: Cost, quickly: Mapping[str, int]
) -> None:
    said: list[Any] = []
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    steps = quickly
    ground = ground_of(tiny, network, cost)
    policy, room = plan(ground, ALL, steps)
    decision = decide(ground, steps, report=said.append)
    assert {t["choice"] for t in decision.trials} == {str(c) for c in policy.choices}
    assert [t["splits"] for t in decision.trials].count(2) == 1 + policy.survivors
    assert all(0 < t["score"] <= 1 and t["error"] >= 0 for t in decision.trials)
    assert all(value is not None and value > RELATED for value in decision.related)
    assert said[-1].step == said[-1].steps == room.trials
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert decide(ground_of(tiny, network, cost), steps) == decision


def test_labels_that_have_nothing_in_common_with_the_targets_are_not_tried(
    tiny: Path, network: TransformerNetwork, cost: Cost, quickly: Mapping[str, int]
) -> None:
    ground = ground_of(tiny, network, cost, sources=2)
    other = replace(ground, sources=[ground.sources[0], shuffled(ground.sources[1])])
    decision = decide(other, quickly)
    good, strange = decision.related
    assert good is not None and strange is not None and strange < RELATED < good
    assert {tuple(t["sources"]) for t in decision.trials if t["choice"].startswith("sequential")} == {(0,)}
    assert f"were not used: source 1 ({strange:.2f})" in decision.why


class Unrelated(Paying):
    """A runner to which no labels are related."""

    def relatedness(self, *_: Any) -> float:
        return 0.0


def test_without_related_labels_text_is_all_that_is_tried(tiny: Path, network: TransformerNetwork, cost: Cost) -> None:
    steps = {"teach": 200, "prune": 0, "recover": 600}

    def decided(ground: Ground, stages: list[Stage]) -> Decision:
        policy, room = plan(ground, stages, steps)
        runner = Unrelated(ground, room, lambda _message: None, lambda _name: NOWHERE)
        return auto.decide(policy, room, runner)

    for sources in (1, 2):
        ground = ground_of(tiny, network, cost, sources=sources)
        assert {t["choice"] for t in decided(ground, ALL).trials} == {"none", "teacher in prune, recover"}
        taught = decided(ground, ["teach"])
        assert (taught.choice, taught.trials) == (NONE, [])


class Forgetful(Trials):
    """A runner that probes no source."""

    def probed(self, _i: int) -> tuple[Rows, Rows | None]:
        raise AssertionError("probed again")


def test_a_source_is_not_probed_again_after_an_interruption(
    tiny: Path, network: TransformerNetwork, cost: Cost, tmp_path: Path
) -> None:
    ground = ground_of(tiny, network, cost, sources=2)
    _, room = plan(ground, ALL, STEPS)
    first, again = (
        kind(ground, room, lambda _message: None, Checkpoints(tmp_path, "", lambda: None).at)
        for kind in (Trials, Forgetful)
    )
    found = first.related(room.trials)
    assert again.related(room.trials) == found and None not in found


def test_labels_are_asked_even_where_trials_do_not_fit(tiny: Path, network: TransformerNetwork, cost: Cost) -> None:
    steps = {"teach": 200, "prune": 0, "recover": 300}
    ground = ground_of(tiny, network, cost, sources=4, rows=1300, held=325, batch_size=32)
    ground = replace(ground, sources=[shuffled(ground.sources[0]), *ground.sources[1:]])
    said: list[Any] = []
    _, room = plan(ground, ALL, steps)
    assert not room.trials and room.probe
    decision = decide(ground, steps, report=said.append)
    assert decision.choice == Choice("sequential", tuple(ALL), (1, 2, 3)) and decision.as_text == [0]
    assert "too short for trials" in decision.why and "source 0" in decision.why
    assert all(0 <= message.step <= message.steps for message in said)


def test_many_sources_are_tried_together_where_each_alone_would_take_too_long(
    tiny: Path, network: TransformerNetwork, cost: Cost
) -> None:
    steps = {"teach": 200, "prune": 0, "recover": 900}
    for sources, rows, apart in ((1, 200, False), (3, 200, True), (3, 1300, False)):
        policy, room = plan(ground_of(tiny, network, cost, sources, rows, rows // 4, batch_size=32), ALL, steps)
        assert room.trials and room.probe and policy.apart == apart
    many = ground_of(tiny, network, cost, sources=8, rows=1300, held=325, batch_size=32)
    _, room = plan(many, ALL, steps | {"recover": 300})
    assert room.trials or room.probe  # nothing is transferred unseen


def test_what_would_tell_nothing_is_not_asked(tiny: Path, network: TransformerNetwork, cost: Cost) -> None:
    ground = ground_of(tiny, network, cost)
    unlabelled = replace(ground, sources=[task_rows(tiny, 60, 1, classes=0)])
    for one, teach, recover in ((ground, 0, 2000), (ground, 5, 5), (unlabelled, 200, 900)):
        assert plan(one, ALL, {"teach": teach, "prune": 0, "recover": recover})[1].probe == 0


def test_less_is_expected_of_labels_that_are_less_related() -> None:
    _, text, sequential, taught = Policy(ALL, [True, True], [None, None], apart=False).choices
    for related, share in ([None, None], 1), ([0.9, 0.11], 1), ([0.2, 0.15], 0.5), ([RELATED, 0.02], 0):
        policy = Policy(ALL, [True, True], related, apart=False)
        assert policy.prior(text) == PRIORS[text.way]
        for choice in sequential, taught:
            expected, spread = PRIORS[choice.way]
            assert policy.prior(choice) == (pytest.approx(share * expected), spread)
            assert replace(policy, scatter=2.0).prior(choice) == (pytest.approx(share * expected), 2 * spread)


def test_where_leads_scatter_more_trials_have_more_say() -> None:
    """A lead that was seen to be a loss, on digits with other digits as the source: benchmarks/results/images.md."""
    policy = Policy(ALL, [True], [0.28], apart=False)
    sequential = policy.choices[2]
    gains = torch.full((200,), -0.0168)
    assert weigh(gains, 2, policy.prior(sequential)).weighed > TIE
    assert weigh(gains, 2, replace(policy, scatter=2.0).prior(sequential)).weighed < TIE


def test_own_text_is_in_every_choice_and_has_a_prior_of_its_own(
    tiny: Path, network: TransformerNetwork, cost: Cost
) -> None:
    policy = Policy(ALL, [True, False], [None, None], apart=True, own=2)
    assert [(str(choice), choice.sources) for choice in policy.choices] == [
        ("none", ()),
        ("teacher in prune, recover", (2,)),
        ("teacher in prune, recover", (0, 1, 2)),
        ("teacher in teach, prune, recover", (0, 1, 2)),
    ]
    assert [choice.sources for choice in policy.alone] == [(0,), (1,)]
    assert [policy.prior(choice) for choice in policy.choices[1:]] == [OWN_TEXT] * 3
    ground = replace(ground_of(tiny, network, cost, sources=3, rows=800, held=400), own=2)
    short = decide(ground, {"teach": 5, "prune": 0, "recover": 5})
    assert (str(short.choice), short.choice.sources) == ("teacher in prune, recover", (2,))
    found = judged(
        ground, lambda c: 0.6 if c == NONE else 0.5 if c.sources == (0,) else 0.9 if c.sources == (1, 2) else 0.7
    )
    assert found.choice.sources == (1, 2) and found.why.endswith("left out: source 0")
    [last] = [one for one in found.trials if one["sources"] == [1] and one["unlabelled"]]
    assert last["choice"].startswith("teacher")
    only = Policy(ALL, [], [], apart=False, own=0)
    assert [choice.sources for choice in only.choices] == [(), (0,)] and only.alone == []


def test_many_rows_that_see_harm_switch_related_labels_off(tiny: Path, network: TransformerNetwork, cost: Cost) -> None:
    ground = ground_of(tiny, network, cost, rows=800, held=400)
    decision = judged(ground, lambda c: 0.8 if c == NONE else 0.72)
    assert decision.choice == NONE
