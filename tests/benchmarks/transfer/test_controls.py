"""The controls, and a run of a tiny model from end to end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.transfer import cofi, data
from benchmarks.transfer.__main__ import main
from benchmarks.transfer.cells import (
    read_results,
)
from benchmarks.transfer.controls import small_dense
from core.domains.network import TARGET
from core.domains.transformer.load import load_network
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.batches import encode
from core.pruning.training.coupling import Stream
from core.rows.example import Example
from core.rows.text.processor import Text
from core.tasks.classes import SingleLabel
from tests.builders import MINILM, cost_of
from tests.tiny import rows, save_tiny_model


@pytest.mark.parametrize("kept", [0.05, 0.1, 0.2])
def test_the_small_dense_control_has_the_size_that_was_asked(kept: float) -> None:
    """Of MiniLM's shapes."""
    cost = cost_of(MINILM, 4 * 384 * 32 + 96, 384, 769, 384, layer=4 * 384)
    limit = int(kept * cost.dense)
    small = small_dense(cost, limit, MINILM)
    assert 0.98 * limit <= cost.of(small) <= limit
    sizes = small.sizes()
    assert sizes["heads"][3:] == sizes["neurons"][3:] == [0, 0, 0]
    assert len(set(sizes["heads"][:3])) == len(set(sizes["neurons"][:3])) == 1


def test_runs_of_a_tiny_model_go_through_and_are_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    save_tiny_model(tmp_path / "tiny")
    (tmp_path / "data").mkdir()
    for name, count, seed in (("yelp", 250, 0), ("movies", 60, 1)):
        cells = rows(count, seed)
        labels = {"pos": "positive", "neg": "negative"}
        pairs = zip(cells["text"], cells["label"], strict=True)
        data.write(tmp_path / "data" / f"{name}.parquet", [(str(text), labels[str(label)]) for text, label in pairs])
    arguments = ["--pair", "movies->yelp", "--rows", "40", "--kept", "0.4", "--seeds", "0", "--steps", "2", "4", "2"]
    arms = ("none", "random", "small-dense", "magnitude", "cofi", "auto")
    arguments += ["--arm", *arms, "--workers", "2"]
    for option, name in (("--data", "data"), ("--model", "tiny"), ("--results", "x.jsonl")):
        arguments += [option, str(tmp_path / name)]
    assert main(arguments) == 0
    results = {r["cell"]["arm"]: r for r in read_results(tmp_path / "x.jsonl")}
    assert set(results) == set(arms)
    assert results["auto"]["transfer"]["auto"]["chosen"].startswith(results["auto"]["transfer"]["coupling"])
    assert {name: r["fraction"] for name, r in results.items() if not 0.39 < r["fraction"] <= 0.4} == {}
    assert results["magnitude"]["environment"]["torch-pruning"] == "1.6.1"
    assert results["random"]["dense"] == results["magnitude"]["dense"]  # one teacher
    assert results["none"]["dense"] == results["cofi"]["dense"]
    assert sum(results[arm]["teacher_reused"] for arm in arms[:-1]) == 3
    assert len({json.dumps(r["structure"]) for r in results.values()}) >= 5
    assert "0 left" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "6 stand, 0 to run" in capsys.readouterr().err
    assert len(read_results(tmp_path / "x.jsonl")) == 6


def test_the_losses_of_cofi_are_nothing_for_the_teacher_itself_and_reach_every_layer(tmp_path: Path) -> None:
    network = load_network(save_tiny_model(tmp_path / "tiny", layers=6), ["neg", "pos"], seed=0).eval()
    identity = torch.nn.Linear(64, 64, bias=False)
    torch.nn.init.eye_(identity.weight)
    network.heads[cofi.MAP] = identity
    table = rows(8)
    examples = [Example((str(text),), label) for text, label in zip(table["text"], table["label"], strict=True)]
    some = encode(examples, SingleLabel(("neg", "pos")), Text(load_tokenizer(tmp_path / "tiny"), 16))
    streams = [Stream(some, 8, TARGET, 1.0, 1.0)]
    student = copy.deepcopy(network)
    assert cofi.distil(student, network, streams, [range(8)]).item() == pytest.approx(
        0, abs=1e-4
    )  # two passes in bfloat16
    with torch.no_grad():
        for parameter in student.body.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    loss = cofi.distil(student, network, streams, [range(8)])
    assert loss.item() > 1e-3
    loss.backward()  # type: ignore[no-untyped-call]
    layers: Any = student.body.bert.encoder.layer
    assert float(layers[0].output.dense.weight.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in network.parameters())
