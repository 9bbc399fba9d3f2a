"""`auto`: splits, scores, what weighs against what, its price, and that a source which hurts is switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.pruning import auto
from core.pruning.auto import (
    BATCHES,
    FIDELITY,
    FORWARD,
    NOISE,
    NONE,
    PRIORS,
    SPLITS,
    TIE,
    Choice,
    Decision,
    Lead,
    Trials,
    best,
    choices,
    splits,
    weigh,
)
from core.pruning.batches import tokenise
from core.pruning.checkpoint import NOWHERE, Checkpoints
from core.pruning.coupling import TaskRows
from core.pruning.fitter import Fitter
from core.pruning.network import TARGET, Network, load_tokenizer
from core.pruning.problem import SingleLabel
from core.pruning.related import RELATED
from core.spec.cost import Cost
from core.spec.data import Example
from core.spec.estimate import prices
from core.spec.job import Stage
from tests.tiny import rows as made_rows

ALL: list[Stage] = ["teach", "prune", "recover"]


def task_rows(tiny: Path, count: int, seed: int, classes: int = 2) -> TaskRows:
    """Rows of the tiny task; without classes, their text alone."""
    table = made_rows(count, seed)
    examples = [Example((str(text),), label) for text, label in zip(table["text"], table["label"], strict=True)]
    problem = SingleLabel(("neg", "pos") if classes else ())
    return TaskRows(tokenise(examples, problem, load_tokenizer(tiny), 32), TARGET, classes)


def shuffled(source: TaskRows) -> TaskRows:
    """With labels that say nothing."""
    labels = source.rows.labels[torch.randperm(len(source.rows), generator=torch.Generator().manual_seed(0))]
    return replace(source, rows=replace(source.rows, labels=labels))


def trials_of(
    tiny: Path, network: Network, cost: Cost, sources: int = 1, rows: int = 80, held: int = 30, **changes: Any
) -> Trials:
    """Of a small job."""
    options: dict[str, Any] = {
        "stages": ALL,
        "steps": {"teach": 400, "prune": 0, "recover": 1200},
        "rate": 1e-3,
        "batch_size": 16,
        "balanced": False,
        "seed": 0,
        "report": lambda _message: None,
        "checkpoints": lambda _name: NOWHERE,
    }
    given = [task_rows(tiny, 60, 1 + i) for i in range(sources)]
    fitter = Fitter(cost, sum(cost.fixed) + (cost.dense - sum(cost.fixed)) // 4)
    return Trials(network, fitter, task_rows(tiny, rows, 0).rows, held, given, **(options | changes))


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


@pytest.mark.parametrize("sources", [1, 2, 8])
@pytest.mark.parametrize("stages", [ALL, ["recover"], ["teach"]])
@pytest.mark.parametrize("rows", [80, 3000])
@pytest.mark.parametrize(("teach", "prune", "recover"), [(200, 0, 900), (2000, 300, 600), (30, 300, 4000), (30, 0, 30)])
def test_the_trials_cost_no_more_than_the_job(
    sources: int,
    stages: list[Stage],
    rows: int,
    teach: int,
    prune: int,
    recover: int,
    tiny: Path,
    network: Network,
    cost: Cost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = {"teach": teach, "prune": prune, "recover": recover}
    trials = trials_of(tiny, network, cost, sources, stages=stages, steps=steps, batch_size=32)
    if rows > 80:
        trials.rows = trials.rows.take([i % 80 for i in range(rows)])
        trials.splits = splits(trials.rows.labels, rows // 4, SPLITS, 0)
        trials.planned, trials.probe_steps, trials.teach_steps, trials.recover_steps = trials.plan(steps)
    price = prices(trials.fitter.limit / cost.dense)
    spent = 0.0

    def pay(price: float) -> None:
        nonlocal spent
        spent += price

    def label(_teacher: Network, task: TaskRows, *_: object) -> TaskRows:
        pay(FORWARD * len(task.rows) / 32)
        return task

    # What is really asked for, not what was planned; the batches of a trial are half as large as the job's.
    monkeypatch.setattr(
        Trials, "train", lambda _self, _net, _plan, stage, steps, *_, **__: pay(steps / 2 * price[stage])
    )
    monkeypatch.setattr(auto, "labelled_by", label)
    monkeypatch.setattr(Trials, "relatedness", lambda *_args: 1.0)
    monkeypatch.setattr(auto, "importance", lambda *_args, **_options: pay(BATCHES / 2))
    monkeypatch.setattr(Fitter, "__call__", lambda *_args: None)
    monkeypatch.setattr(auto, "cut", lambda *_args: None)
    monkeypatch.setattr(auto, "predict", lambda _student, held, **_: torch.zeros(len(held), 2))
    trials.decide()
    job = sum(price[stage] * count for stage, count in steps.items())  # without any source
    assert spent <= 1.01 * job
    assert (spent == 0) == (trials.planned == trials.probe_steps == 0)
    if teach + recover > 1000 and sources == 1:
        assert spent > job / 4 and trials.recover_steps >= 30


Quality = Callable[[Choice], float]


def decided(monkeypatch: pytest.MonkeyPatch, trials: Trials, quality: Quality) -> Decision:
    """With students that are right as often as `quality` says, and sure of it."""
    monkeypatch.setattr(Trials, "probe", lambda _self: None)
    monkeypatch.setattr(Trials, "teach", lambda *_args: None)
    monkeypatch.setattr(Trials, "student", lambda _self, choice, *_args: choice)

    def predict(choice: Choice, rows: Any, **_options: Any) -> torch.Tensor:
        right = torch.arange(len(rows)) < round(quality(choice) * len(rows))
        said = torch.where(right, rows.labels, 1 - rows.labels)
        return torch.nn.functional.one_hot(said, 2) * 20.0

    monkeypatch.setattr(auto, "predict", predict)
    monkeypatch.setattr(auto, "labelled_by", lambda _teacher, task, *_: task)
    return trials.decide()


def test_what_helps_is_chosen_and_what_hurts_is_switched_off(
    tiny: Path, network: Network, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = trials_of(tiny, network, cost, rows=800, held=400)
    good = decided(monkeypatch, wide, lambda c: 0.9 if c.coupling == "teacher" and "teach" in c.stages else 0.6)
    assert str(good.choice) == "teacher in teach, prune, recover"
    assert "+30.0%" in good.why
    wide.seen.clear()
    labels_hurt = decided(monkeypatch, wide, lambda c: 0.5 if "teach" in c.stages else 0.8 if c == NONE else 0.85)
    assert str(labels_hurt.choice) == "teacher in prune, recover"
    wide.seen.clear()
    all_hurt = decided(monkeypatch, wide, lambda c: 0.8 if c == NONE else 0.6)
    assert all_hurt.choice == NONE and "no other choice" in all_hurt.why
    assert all_hurt.trials[0]["choice"] == "none" and len(all_hurt.trials) == 4


def test_a_source_that_hurts_is_left_out_and_the_others_stay(
    tiny: Path, network: Network, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(tiny, network, cost, sources=3, rows=800, held=400)

    def quality(choice: Choice) -> float:
        return 0.7 if choice == NONE else 0.5 if choice.sources == (1,) else 0.6 if 1 in choice.sources else 0.9

    decision = decided(monkeypatch, trials, quality)
    assert decision.choice.sources == (0, 2)
    assert "on 400 held-out rows" in decision.why  # the first split never saw these two together
    assert decision.why.endswith("left out: source 1")
    assert max(t["splits"] for t in decision.trials if t["sources"] == [0, 2]) == 1


def test_sources_whose_labels_help_stay_though_their_text_does_not(
    tiny: Path, network: Network, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(tiny, network, cost, sources=2, rows=800, held=400)
    decision = decided(monkeypatch, trials, lambda c: 0.9 if "teach" in c.stages else 0.7 if c == NONE else 0.6)
    assert "teach" in decision.choice.stages and decision.choice.sources == (0, 1)


def test_a_job_too_short_for_trials_goes_by_the_prior(tiny: Path, network: Network, cost: Cost) -> None:
    trials = trials_of(tiny, network, cost, steps={"teach": 5, "prune": 0, "recover": 5})
    decision = trials.decide()
    assert (str(decision.choice), decision.trials) == ("sequential in teach, prune, recover", [])


def test_trials_of_real_networks(tiny: Path, network: Network, cost: Cost) -> None:
    said: list[Any] = []
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    steps = {"teach": 200, "prune": 0, "recover": 600}
    trials = trials_of(tiny, network, cost, report=said.append, steps=steps)
    decision = trials.decide()
    assert {t["choice"] for t in decision.trials} == {str(c) for c in trials.choices}
    assert [t["splits"] for t in decision.trials].count(2) == 1 + trials.survivors
    assert all(0 < t["score"] <= 1 and t["error"] >= 0 for t in decision.trials)
    assert all(value is not None and value > RELATED for value in decision.related)
    assert said[-1]["step"] == said[-1]["steps"] == trials.planned
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    again = trials_of(tiny, network, cost, steps=steps).decide()
    assert again == decision


def test_labels_that_have_nothing_in_common_with_the_targets_are_not_tried(
    tiny: Path, network: Network, cost: Cost
) -> None:
    trials = trials_of(tiny, network, cost, sources=2, steps={"teach": 200, "prune": 0, "recover": 600})
    trials.sources[1] = shuffled(trials.sources[1])
    decision = trials.decide()
    good, strange = decision.related
    assert good is not None and strange is not None and strange < RELATED < good
    assert {tuple(t["sources"]) for t in decision.trials if t["choice"].startswith("sequential")} == {(0,)}
    assert f"were not used: source 1 ({strange:.2f})" in decision.why


def test_without_related_labels_text_is_all_that_is_tried(
    tiny: Path, network: Network, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trials, "relatedness", lambda *_args: 0.0)
    steps = {"teach": 200, "prune": 0, "recover": 600}
    for sources in (1, 2):
        decision = trials_of(tiny, network, cost, sources=sources, steps=steps).decide()
        assert {t["choice"] for t in decision.trials} == {"none", "teacher in prune, recover"}
        decision = trials_of(tiny, network, cost, sources=sources, steps=steps, stages=["teach"]).decide()
        assert (decision.choice, decision.trials) == (NONE, [])


def test_a_source_is_not_probed_again_after_an_interruption(
    tiny: Path, network: Network, cost: Cost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_args: Any) -> None:
        raise KeyboardInterrupt

    options = {"checkpoints": Checkpoints(tmp_path, "", lambda: None).at}
    first = trials_of(tiny, network, cost, sources=2, **options)
    monkeypatch.setattr(Trials, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        first.decide()
    monkeypatch.setattr(Trials, "probed", stop)
    again = trials_of(tiny, network, cost, sources=2, **options)
    again.probe()
    assert again.related == first.related and None not in again.related


def test_labels_are_asked_even_where_trials_do_not_fit(tiny: Path, network: Network, cost: Cost) -> None:
    steps = {"teach": 200, "prune": 0, "recover": 300}
    trials = trials_of(tiny, network, cost, sources=4, rows=1300, held=325, steps=steps, batch_size=32)
    trials.sources[0] = shuffled(trials.sources[0])
    said: list[Any] = []
    trials.report = said.append
    assert not trials.planned and trials.probe_steps
    decision = trials.decide()
    assert decision.choice == Choice("sequential", tuple(ALL), (1, 2, 3)) and decision.as_text == [0]
    assert "too short for trials" in decision.why and "source 0" in decision.why
    assert all(0 <= message["step"] <= message["steps"] for message in said)


def test_many_sources_are_tried_together_where_each_alone_would_take_too_long(
    tiny: Path, network: Network, cost: Cost
) -> None:
    steps = {"teach": 200, "prune": 0, "recover": 900}
    for sources, rows, apart in ((1, 200, False), (3, 200, True), (3, 1300, False)):
        trials = trials_of(tiny, network, cost, sources, rows, rows // 4, steps=steps, batch_size=32)
        assert trials.planned and trials.probe_steps and trials.apart == apart
    many = trials_of(tiny, network, cost, sources=8, rows=1300, held=325, steps=steps | {"recover": 300}, batch_size=32)
    assert many.planned or many.probe_steps  # nothing is transferred unseen


def test_what_would_tell_nothing_is_not_asked(tiny: Path, network: Network, cost: Cost) -> None:
    fitted = trials_of(tiny, network, cost, steps={"teach": 0, "prune": 0, "recover": 2000})
    short = trials_of(tiny, network, cost, steps={"teach": 5, "prune": 0, "recover": 5})
    unlabelled = trials_of(tiny, network, cost)
    unlabelled.sources = [task_rows(tiny, 60, 1, classes=0)]
    assert fitted.probe_steps == short.probe_steps == 0
    assert unlabelled.plan({"teach": 200, "prune": 0, "recover": 900})[1] == 0


def test_less_is_expected_of_labels_that_are_less_related(tiny: Path, network: Network, cost: Cost) -> None:
    trials = trials_of(tiny, network, cost, sources=2)
    text, sequential, taught = (choice for choice in trials.choices if choice != NONE)
    for related, share in ([None, None], 1), ([0.9, 0.11], 1), ([0.2, 0.15], 0.5), ([RELATED, 0.02], 0):
        trials.related = related
        assert trials.prior(text) == PRIORS[text.way]
        for choice in sequential, taught:
            expected, spread = PRIORS[choice.way]
            assert trials.prior(choice) == (pytest.approx(share * expected), spread)


def test_many_rows_that_see_harm_switch_related_labels_off(
    tiny: Path, network: Network, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(tiny, network, cost, rows=800, held=400)
    decision = decided(monkeypatch, trials, lambda c: 0.8 if c == NONE else 0.72)
    assert decision.choice == NONE
