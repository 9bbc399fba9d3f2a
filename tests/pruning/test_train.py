"""The training loop's rates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from core.domains.cost import Additive
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import matrices
from core.pruning.masking import l0, pdp
from core.pruning.scoring.fitter import Fitter
from core.pruning.training import train as module
from core.pruning.training.coupling import Phase
from core.pruning.training.predict import predict
from core.pruning.training.train import Training, rank, recovery_rate, train
from core.spec.errors import SpecError
from core.tasks import task_of
from tests.draws import draws
from tests.tiny import stream

LAYERS, HEADS, NEURONS = 3, 4, 128  # of the tiny model


def test_recovery_learns_faster_where_little_is_left(network: TransformerNetwork) -> None:
    def rate(heads: int, neurons: int) -> float:
        student = copy.deepcopy(network)
        cut(student, Structure.of([range(heads)] * LAYERS, [range(neurons)] * LAYERS))
        return recovery_rate(1.0, student, network)

    assert rate(HEADS, NEURONS) == rate(1, NEURONS // 4) == 1.0
    assert rate(0, NEURONS // 8) == rate(0, 0) == 3.0


def test_zeros_are_nothing_that_is_left(network: TransformerNetwork) -> None:
    student = copy.deepcopy(network)
    with torch.no_grad():
        for weight in matrices(student).values():
            weight.flatten()[: int(0.9 * weight.numel())] = 0
    assert recovery_rate(1.0, student, network) == 3.0


def scored(said: list[str], truth: list[str], loss: float) -> dict[str, float]:
    """A look at dev."""
    problem = task_of("single_label_classification", ["a", "b"])
    labels = problem.encode(truth)
    return problem.quality(torch.nn.functional.one_hot(problem.encode(said), 2).float(), labels) | {"loss": loss}


def test_a_look_that_gives_one_answer_is_not_kept_before_one_that_has_learned(
    network: TransformerNetwork, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """71 of 100 dev rows are of one class, as in a job whose teacher always said it: its loss was the least, too."""
    truth = ["a"] * 71 + ["b"] * 29
    learned = ["a"] * 60 + ["b"] * 11 + ["b"] * 9 + ["a"] * 20
    looks = [scored(["a"] * 100, truth, 0.60), scored(learned, truth, 1.20), scored(["a"] * 99 + ["b"], truth, 0.55)]
    assert looks[1]["accuracy"] < looks[0]["accuracy"] < looks[2]["accuracy"]
    shown = iter(looks)
    monkeypatch.setattr(module, "dev_scores", lambda *_: next(shown))
    plan = [Phase((stream(tiny, 1, seed=0),))]
    dev = plan[0].streams[0].rows
    monkeypatch.setattr(module, "EVALUATIONS", 3)
    history = train(network, plan, dev, Training(3, 1e-4, 0), stage="teach", metric="accuracy")
    assert history.kept_step == 2


@draws(50)
@given(st.lists(st.tuples(st.lists(st.booleans(), min_size=20, max_size=20), st.floats(0, 3)), min_size=2, max_size=12))
def test_of_classes_with_as_many_rows_each_accuracy_alone_counts(answers: list[tuple[list[bool], float]]) -> None:
    truth = ["a", "b"] * 10
    looks = [scored(["ab"[said] for said in each], truth, loss) for each, loss in answers]
    chosen = max(range(len(looks)), key=lambda i: rank(looks[i], "accuracy"))
    assert chosen == max(range(len(looks)), key=lambda i: (looks[i]["accuracy"], -looks[i]["loss"]))


@pytest.mark.parametrize(
    ("metric", "one_answer", "learned"),
    [
        ("subset_accuracy", {"subset_accuracy": 0.8, "macro_f1": 0.0}, {"subset_accuracy": 0.78, "macro_f1": 0.4}),
        ("token_accuracy", {"token_accuracy": 0.9, "entity_f1": 0.0}, {"token_accuracy": 0.89, "entity_f1": 0.5}),
        ("token_accuracy", {"token_accuracy": 0.8}, {"token_accuracy": 0.9}),  # of tags that are no IOB2
        ("pearson", {"pearson": 0.0, "r2": 0.0}, {"pearson": 0.3, "r2": -0.1}),
    ],
)
def test_other_metrics_that_one_answer_may_win(
    metric: str, one_answer: dict[str, float], learned: dict[str, float]
) -> None:
    assert rank(learned | {"loss": 2.0}, metric) > rank(one_answer | {"loss": 0.5}, metric)


def test_training_that_goes_astray_says_what_to_mend(
    network: TransformerNetwork, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "dev_scores", lambda *_: {"accuracy": 0.5, "loss": float("nan")})
    plan = [Phase((stream(tiny, 4, seed=0),))]
    with pytest.raises(SpecError, match="at step 1 of 'recover' the loss is no number") as caught:
        train(network, plan, plan[0].streams[0].rows, Training(2, 1e-4, 0), stage="recover", metric="accuracy")
    assert caught.value.field == "/train/learning_rate"


def test_a_trial_that_goes_astray_says_so_as_well(network: TransformerNetwork, tiny: Path) -> None:
    """Which looks at no dev rows."""
    with torch.no_grad():
        next(network.heads["target"].parameters()).fill_(float("nan"))
    plan = [Phase((stream(tiny, 4, seed=0),))]
    with pytest.raises(SpecError, match="at step 2 of 'teach' the loss is no number"):
        train(network, plan, None, Training(2, 1e-4, 0), stage="teach", metric="accuracy")


@pytest.mark.parametrize("method", [l0.prune, pdp.prune])
def test_masks_that_go_astray_say_so_as_well(
    network: TransformerNetwork, tiny: Path, cost: Additive, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    for part in (l0, pdp):
        monkeypatch.setattr(part, "dev_scores", lambda *_: {"accuracy": 0.5, "loss": float("nan")})
    rows = stream(tiny, 20, seed=0)
    with pytest.raises(SpecError, match="of 'prune' the loss is no number"):
        method(network, Fitter(cost, cost.dense // 2), [Phase((rows,))], rows.rows, Training(4, 1e-4, 0))


def test_what_is_measured_is_computed_as_a_cpu_does(network: TransformerNetwork, tiny: Path) -> None:
    seen = []
    rows = stream(tiny, 4, seed=0).rows
    handle = network.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    predict(network, rows)
    handle.remove()
    assert seen == [False] and torch.backends.cudnn.allow_tf32 == before
