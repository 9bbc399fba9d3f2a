"""Teaching by pairs: what is drawn together, and the head that is fitted behind it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from core.domains.head import Head
from core.domains.network import last_linear
from core.domains.transformer.model import read_model
from core.domains.transformer.network import TransformerNetwork
from core.pruning.training import contrast
from core.pruning.training.checkpoint import Checkpoints, trained
from core.pruning.training.contrast import by_pairs, fit_head, pair_loss
from core.pruning.training.coupling import Phase
from core.pruning.training.predict import predict
from core.pruning.training.train import Training, optimizer_of, train
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from tests.tiny import SOURCE, TARGET, done, rows, save_table, spec_of, stream

LABELS = ["neg", "pos"]


def said(vectors: list[list[float]], labels: list[int], network: TransformerNetwork, tiny: Path) -> float:
    """The loss of a batch of which the body says `vectors`."""
    rows = stream(tiny, len(labels), seed=0)
    rows = replace(rows, rows=replace(rows.rows, labels=torch.tensor(labels)))
    given = torch.tensor(vectors)

    def features(*_args: object) -> list[tuple[Tensor, dict[str, Tensor]]]:
        return [(given, {})]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "features_of", features)
        return float(pair_loss(network, [rows], [list(range(len(labels)))]))


def test_rows_of_one_class_are_drawn_together_and_others_apart(network: TransformerNetwork, tiny: Path) -> None:
    east, north = [2.0, 0.0], [0.0, 0.5]
    assert said([east, east, north, north], [0, 0, 1, 1], network, tiny) == pytest.approx(0)
    assert said([east, north, east, north], [0, 0, 1, 1], network, tiny) == pytest.approx(1 + 0.5)


def test_a_batch_with_pairs_of_one_kind_alone_has_a_loss(network: TransformerNetwork, tiny: Path) -> None:
    east = [1.0, 0.0]
    assert said([east, east], [0, 0], network, tiny) == pytest.approx(0)
    assert said([east, east], [0, 1], network, tiny) == pytest.approx(1)
    assert said([east], [0], network, tiny) == 0


def test_each_kind_of_pair_counts_alike(network: TransformerNetwork, tiny: Path) -> None:
    """One pair of a class is as far apart as it can be; five of six pairs are of others, and right."""
    vectors = [[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]
    assert said(vectors, [0, 0, 1, 2], network, tiny) == pytest.approx(4)


def test_a_fitted_head_answers_the_rows_that_it_was_fitted_to(network: TransformerNetwork, tiny: Path) -> None:
    rows, before = stream(tiny, contrast.FEW, seed=0), copy.deepcopy(network.body.state_dict())
    network.eval()
    fit_head(network, rows)
    logits = predict(network, rows.rows)
    assert rows.rows.task.quality(logits, rows.rows.labels)["accuracy"] > 0.8
    assert all(torch.equal(value, before[name]) for name, value in network.body.state_dict().items())
    assert [*network.heads] == ["target"]
    # Where the gradient of the loss, with its penalty, is nothing.
    _, last = last_linear(network.heads["target"])
    with network.reading("target") as reading:
        features = predict(network, rows.rows, reading).clone()
    scale = (features - features.mean(0)).square().sum(1).mean()
    loss = len(rows.rows) * rows.rows.task.loss(features @ last.weight.T + last.bias, rows.rows.labels)
    (loss + scale * last.weight.square().sum() / (2 * contrast.STRENGTH)).backward()
    assert last.weight.grad is not None
    assert float(last.weight.grad.norm()) < 1e-2 * float((scale * last.weight.detach() / contrast.STRENGTH).norm())


def test_a_head_without_a_bias_is_fitted_too(network: TransformerNetwork, tiny: Path) -> None:
    """As those of Llama and Qwen are."""
    rows, (_, last) = stream(tiny, contrast.FEW, seed=0), last_linear(network.heads["target"])
    last.register_parameter("bias", None)
    network.eval()
    fit_head(network, rows)
    assert last.bias is None
    assert rows.rows.task.quality(predict(network, rows.rows), rows.rows.labels)["accuracy"] > 0.8


def test_of_a_few_rows_the_length_says_nothing(tiny: Path) -> None:
    """Of two directions; of one class all vectors are long, by chance, and they lie between."""
    rows = stream(tiny, 6, seed=0).rows
    rows = replace(rows, labels=torch.tensor([0, 0, 0, 1, 1, 1]))
    across = torch.tensor([[1.0, 0.2], [1.0, 0.0], [1.0, -0.2], [0.2, 1.0], [0.0, 1.0], [-0.2, 1.0]])
    lengths = torch.tensor([[5.0], [5.0], [5.0], [1.0], [1.0], [1.0]])

    def answers(given: Tensor) -> list[int]:
        weight, bias = contrast.regression(given, rows)
        return [int(i) for i in (across @ weight.T + bias).argmax(1)]

    assert answers(across / across.norm(dim=1, keepdim=True) * lengths) == [0, 0, 0, 1, 1, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "FEW", 0)  # as with many rows: what is short is of the second class
        assert answers(across / across.norm(dim=1, keepdim=True) * lengths) != [0, 0, 0, 1, 1, 1]


def test_many_rows_are_not_all_looked_at(
    network: TransformerNetwork, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()

    def heard(_features: Tensor, rows: contrast.Rows, _biased: bool) -> tuple[Tensor, Tensor]:
        seen.append(len(rows))
        _, last = last_linear(network.heads["target"])
        return last.weight, last.bias

    monkeypatch.setattr(contrast, "FITTED", 7)
    monkeypatch.setattr(contrast, "regression", heard)
    fit_head(network, stream(tiny, 24, seed=0))
    assert seen == [6]


def test_half_of_the_last_phase_is_by_pairs(tiny: Path) -> None:
    target, source = stream(tiny, 8, seed=0), stream(tiny, 8, seed=1)
    alone, after = by_pairs([Phase((target,))]), by_pairs([Phase((source,), 0.5), Phase((target,), 0.5)])
    assert [(phase.part, phase.pairs, phase.fitted) for phase in alone] == [(0.5, True, False), (0.5, False, True)]
    assert [(phase.part, phase.pairs) for phase in after] == [(0.5, False), (0.25, True), (0.25, False)]


@pytest.mark.parametrize("coupling", ["joint", "tied"])
def test_where_teaching_mixes_tasks_there_are_no_pairs(averaging: Path, coupling: str) -> None:
    """And none are told of."""

    def asked(contrastive: bool | str = "auto", **transfer: Any) -> JobSpec:
        sources = [{"data": {"dataset": SOURCE}, "label": "label"}]
        transfer = {"coupling": coupling} | transfer
        return spec_of(sources=sources, transfer=transfer, train={"contrastive": contrastive})

    model = read_model(averaging)
    assert "pairs" not in model.answering(asked(), LABELS)[1].says
    assert "pairs" in model.answering(asked(stages=["prune"]), LABELS)[1].says
    with pytest.raises(ValidationError, match=f"has no place where '{coupling}' mixes tasks"):
        asked(True)


def test_the_fitted_head_may_be_what_is_kept(network: TransformerNetwork, tiny: Path) -> None:
    """As dev had it before the first step; nothing is looked at while pairs are taught, when no head is."""
    target = stream(tiny, 24, seed=0)
    history = train(
        network,
        by_pairs([Phase((target,))]),
        target.rows,
        Training(16, 1e-3, seed=0),
        stage="teach",
        metric="accuracy",
    )
    assert history.points[0]["step"] == 8
    assert {point["phase"] for point in history.points} == {1}


class Killed(Exception):
    """In place of a signal."""


@pytest.mark.parametrize("at", [3, 11])
def test_it_goes_on_where_it_was_killed(network: TransformerNetwork, tiny: Path, tmp_path: Path, at: int) -> None:
    target, folder = stream(tiny, 24, seed=0), Checkpoints(tmp_path, "", lambda: None)
    plan, start = by_pairs([Phase((target,))]), copy.deepcopy(network)

    def taught(network: TransformerNetwork, training: Training) -> dict[str, Tensor]:
        train(network, plan, target.rows, training, stage="teach", metric="accuracy")
        return trained(network)

    whole = taught(network, Training(16, 1e-3, seed=0))
    saves = 0

    def killed() -> None:
        nonlocal saves
        saves += 1
        if saves == at:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "due", lambda _self: True)
        dying = Checkpoints(tmp_path, "", killed).at("teach")
        with pytest.raises(Killed):
            taught(copy.deepcopy(start), Training(16, 1e-3, seed=0, checkpoint=dying))
    resumed = taught(start, Training(16, 1e-3, seed=0, checkpoint=folder.at("teach")))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_models_of_text_vectors_are_taught_by_pairs(averaging: Path, tiny: Path) -> None:
    def by_pairs(folder: Path, contrastive: bool | str = "auto") -> bool:
        spec, model = spec_of(train={"contrastive": contrastive}), read_model(folder)
        _, head = model.answering(spec, LABELS)
        assert ("pairs of rows" in head.says) == model.by_pairs(spec, head)
        return model.by_pairs(spec, head)

    assert [by_pairs(folder) for folder in (averaging, tiny)] == [True, False]
    assert [by_pairs(folder, True) for folder in (averaging, tiny)] == [True, True]
    assert [by_pairs(folder, False) for folder in (averaging, tiny)] == [False, False]


@pytest.mark.parametrize(
    "task",
    [
        {"label": "score", "problem_type": "regression"},
        {"label": "labels", "problem_type": "multi_label_classification"},
        {"type": "sentence-similarity", "text": ["text"]},
    ],
)
def test_where_rows_have_no_class_pairs_are_refused(task: dict[str, Any], averaging: Path) -> None:
    task = {"data": {"dataset": TARGET}} | task
    with pytest.raises(ValidationError, match="it is of texts that have one of several classes"):
        spec_of(task=task, train={"contrastive": True})
    spec = spec_of(task=task)
    assert not read_model(averaging, spec.task.problem).by_pairs(spec, Head(False, (), ""))


def test_a_whole_job_is_taught_by_pairs(averaging: Path, tmp_path: Path) -> None:
    """And the head that it has then is its own, before which no pairs are taught."""
    table = {TARGET: save_table(tmp_path / "rows.parquet", rows(120))}
    report = done(spec_of(), averaging, table, tmp_path / "first")
    assert "pairs of rows are taught before it" in report.task.head
    points, steps = report.curves["teach"].points, spec_of().train.steps.teach
    assert steps and points[0]["step"] == steps // 2
    found = tmp_path / "first/output"
    with pytest.raises(SpecError, match="is for a fresh head, and this model keeps its own") as caught:
        done(spec_of(train={"contrastive": True}), found, table, tmp_path / "second")
    assert caught.value.field == "/train/contrastive"


def test_few_rows_move_the_encoder_gently(network: TransformerNetwork, tiny: Path) -> None:
    rows = stream(tiny, 20, seed=0)

    def rates(phase: Phase) -> list[float]:
        return [group["lr"] for group in optimizer_of(phase, network, 1.0).param_groups]

    pairs, fitted = by_pairs([Phase((rows,))])
    assert rates(pairs) == rates(fitted) == pytest.approx([0.1] * 3)
    assert rates(Phase((rows,))) == [1.0, 1.0, 10.0]
    many = replace(rows, rows=rows.rows.take([0] * 8000))
    assert rates(replace(fitted, streams=(many,))) == [1.0] * 3
