"""`pooling`: where the answer is read, from the POST to the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForSequenceClassification

from core.domains.transformer.model import read_model
from core.spec.errors import SpecError
from tests.tiny import TARGET, done, rows, save_table, spec_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {TARGET: save_table(tmp_path_factory.mktemp("rows") / "rows.parquet", rows(120))}


@pytest.mark.slow
def test_the_mean_is_read_in_every_file_and_by_the_next_job(
    averaging: Path, table: Mapping[str, Path], tmp_path: Path
) -> None:
    """The report is verified in a fresh process, in each of the files."""
    asked: dict[str, Any] = {"export": {"formats": ["onnx", "onnx-int8"]}, "hidden_size": "trim"}
    report = done(spec_of(**asked), averaging, table, tmp_path / "first")
    assert "it has none of its own; it reads the mean of the tokens" in report.task.head
    assert report.verified.changed_predictions == 0
    first = tmp_path / "first/output"
    assert json.loads((first / "config.json").read_text())["topwork"]["pooling"] == "mean"
    loaded = AutoModelForSequenceClassification.from_pretrained(first, trust_remote_code=True).eval()
    ids, mask = torch.tensor([[2, 7, 9, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.inference_mode():
        padded = loaded(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(loaded(input_ids=ids[:, :4], attention_mask=None).logits, padded)
        torch.testing.assert_close(loaded(ids[:, :4], mask[:, :4], return_dict=False)[0], padded)
    again = done(spec_of(), first, table, tmp_path / "second")
    assert again.task.head == "its own head for 2 labels; it reads the mean of the tokens"
    assert again.results.given and again.results.given.test == pytest.approx(report.results.pruned.test)
    with pytest.raises(SpecError, match="was trained to read another place"):
        done(spec_of(pooling="first"), first, table, tmp_path / "third")


def test_without_attention_a_mean_still_reads_words(averaging: Path) -> None:
    """The first token would see none, so that a head has to stay there."""
    spec = spec_of(pooling="first")
    first, _ = read_model(averaging).answering(spec, ["neg", "pos"])
    mean, _ = read_model(averaging).answering(spec_of(), ["neg", "pos"])
    assert (first.architecture.anatomy.stays, mean.architecture.anatomy.stays) == ("attention", None)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"pooling": "mean", "export": {"layout": "regular"}}, "no plain config.json of this family can say 'mean'"),
        ({"pooling": "mean", "budget": {"sparsity": 0.5}}, "no plain config.json of this family can say 'mean'"),
    ],
)
def test_what_cannot_be_said_is_refused(averaging: Path, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why) as caught:
        read_model(averaging).answering(spec_of(**asked), ["neg", "pos"])
    assert caught.value.field == "/pooling"
    del asked["pooling"]
    model, head = read_model(averaging).answering(spec_of(**asked), ["neg", "pos"])
    assert model.architecture.family.reads_one and "reads" not in head.says


def test_a_task_without_such_a_head_is_refused() -> None:
    task = {"data": {"dataset": TARGET}, "type": "sentence-similarity", "text": ["text"]}
    with pytest.raises(ValidationError, match="sentence-similarity has no such head: leave it out"):
        spec_of(task=task, pooling="mean")
