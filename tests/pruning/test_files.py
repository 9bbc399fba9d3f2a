"""The files of a download, each with a quality of its own: int8 beside float32, and weights of half precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime import InferenceSession
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from core.domains.transformer.network import TransformerNetwork
from core.pruning.job.precision import round_weights
from core.pruning.job.publish import verify
from core.pruning.job.run import ModelRef, run
from core.pruning.job.verdict import losses
from core.pruning.latency import stopwatch
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.report import FamilyReport, FileMeasured
from tests.tiny import SOURCE, TARGET, done, rows, run_apart, save_table
from tests.tiny import spec_of as shortest
from tests.tiny_images import save_pictures, save_tiny_resnet
from tests.tiny_images import spec_of as pictures_of

INT8, EXACT, WHOLE = "model.int8.onnx", "model.onnx", "model.safetensors"
TRAIN = {"steps": {"teach": 30, "recover": 30}, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        TARGET: save_table(folder / "target.parquet", rows(160, seed=0)),
        SOURCE: save_table(folder / "source.parquet", rows(100, seed=1)),
    }


def said_by(output: Path, file: str) -> np.ndarray:
    """Logits of each test row, asked alone."""
    session = InferenceSession(output / file, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(output)
    lines = [json.loads(line) for line in (output / "test.jsonl").read_text().splitlines()]
    found = []
    for line in lines:
        batch = tokenizer(line["text"][0], return_tensors="np")
        found.append(session.run(None, {one.name: batch[one.name] for one in session.get_inputs()})[0])
    return np.concatenate(found)


def test_int8_alone_is_a_file_with_a_quality_of_its_own(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    spec = shortest(budget={"params": 0.5}, train=TRAIN, export={"formats": ["onnx-int8"]})
    report = done(spec, tiny, tables, tmp_path)
    output = tmp_path / "output"
    assert not (output / EXACT).exists() and (output / INT8).stat().st_size < (output / WHOLE).stat().st_size / 2
    assert [*report.files] == [WHOLE, INT8]
    whole, own = report.files.values()
    assert whole.test == report.results.pruned.test and whole.change is None
    assert own.bytes == (output / INT8).stat().st_size and own.latency_ms.keys() == own.speedup.keys() == {"1", "32"}
    said, exact = (
        said_by(output, INT8),
        np.array([line["logits"] for line in map(json.loads, (output / "test.jsonl").open())]),
    )
    assert 0 < np.abs(said - exact).max() < 0.1
    assert own.change is not None and own.change["accuracy"].low <= own.change["accuracy"].value
    assert own.test["accuracy"].value - whole.test["accuracy"].value == pytest.approx(own.change["accuracy"].value)
    graph = onnx.load(output / INT8).graph
    assert "MatMulInteger" in {node.op_type for node in graph.node}
    floats = [one for one in graph.initializer if one.data_type == TensorProto.FLOAT and len(one.dims) > 1]
    assert floats == []  # neither of products nor of embeddings
    assert report.verified is not None and report.verified.max_difference_onnx is None
    for page in ("report.html", "README.md"):
        assert INT8 in (output / page).read_text()
    assert INT8 in json.loads((output / "manifest.json").read_text())["files"]


def test_a_file_that_answers_no_number_fails(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    report = done(shortest(export={"formats": ["onnx", "onnx-int8"]}), tiny, tables, tmp_path)
    output = tmp_path / "output"
    assert [*report.files] == [WHOLE, INT8, EXACT] and report.files[EXACT].change is not None
    assert report.files[EXACT].change["accuracy"].value == 0 and report.verified is not None
    assert 0 < (report.verified.max_difference_onnx or 0) < 1e-4
    broken = onnx.load(output / INT8)
    scale = next(one for one in broken.graph.initializer if one.name.endswith("_scale") and [*one.dims] == [2])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32("nan"), scale.name))
    onnx.save(broken, output / INT8)
    with pytest.raises(RuntimeError, match=r"model\.int8\.onnx answers what is no number"):
        verify(output, report.results.pruned)


@pytest.mark.slow
def test_a_budget_in_time_of_int8_brings_its_file(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", 0.05)
    spec = shortest(budget={"speedup": 1.3, "runtime": "onnx-int8"})
    report = done(spec, tiny, tables, tmp_path)
    assert report.budget.measured is not None and report.budget.measured.runtime == "onnx-int8"
    assert [*report.files] == [WHOLE, INT8] and report.budget.met <= report.budget.limit
    assert "ONNX Runtime in int8" in (tmp_path / "output/report.html").read_text()


def file_of(value: float, change: float | None, metric: str = "accuracy") -> FileMeasured:
    def around(value: float) -> dict[str, Any]:
        return {metric: {"value": value, "low": value - 0.01, "high": value + 0.01}}

    moved = None if change is None else around(change)
    return FileMeasured.model_validate(
        {"test": around(value), "change": moved, "bytes": 9, "latency_ms": {"1": 1.0}, "speedup": {"1": 2.0}}
    )


def test_a_file_that_loses_more_than_a_point_is_named_with_its_numbers() -> None:
    files = {WHOLE: file_of(0.9, None), EXACT: file_of(0.9, 0.0), INT8: file_of(0.876, -0.024)}
    (said,) = losses(files, "accuracy")
    assert said.startswith("model.int8.onnx loses more than a point: its accuracy is 87.6%, that of model.safetensors")
    assert "90.0% (-2.4 points, -3.4 to -1.4, paired)" in said
    assert [*losses(files | {INT8: file_of(0.892, -0.008)}, "accuracy")] == []
    (said,) = losses({WHOLE: file_of(0.9, None, "cosine"), INT8: file_of(0.88, -0.02, "cosine")}, "cosine")
    assert "is 0.88, that of model.safetensors 0.9 (-0.02, -0.03 to -0.01, paired)" in said


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "layout"), [("float16", "free"), ("bfloat16", "regular")])
def test_half_precision_is_what_was_measured_and_what_bytes_count(
    precision: str, layout: str, tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    export = {"precision": precision, "layout": layout}
    report = done(shortest(budget={"bytes": 0.3}, train=TRAIN, export=export), tiny, tables, tmp_path)
    output = tmp_path / "output"
    size, budget = (output / WHOLE).stat().st_size, report.budget
    assert budget.dense == report.results.dense.bytes and budget.limit == int(0.3 * budget.dense)
    assert 0.97 * budget.limit <= size == budget.met == report.results.pruned.bytes <= budget.limit
    assert report.results.pruned.model_params > 0.5 * report.results.dense.model_params
    assert {tensor.dtype for tensor in load_file(output / WHOLE).values()} == {getattr(torch, precision)}
    assert json.loads((output / "config.json").read_text())["dtype"] == precision
    assert report.verified is not None and report.verified.max_difference_to_measured < 1e-5
    coded = layout == "free"
    assert f"Its weights are rounded to {precision}" in (output / "README.md").read_text()
    model = AutoModelForSequenceClassification.from_pretrained(output, trust_remote_code=coded)
    assert model.dtype == getattr(torch, precision)
    batch = AutoTokenizer.from_pretrained(output)("good w1", return_tensors="pt")
    assert model.eval()(**batch).logits.isfinite().all()
    card = (output / "README.md").read_text().split("```python\n")[1].split("```")[0]
    run_apart(card + "assert {str(one.dtype) for one in model.parameters()} == {'torch.float32'}", output)


@pytest.mark.slow
def test_channels_of_half_precision(tmp_path: Path) -> None:
    """Running means are rounded, too; what counts batches is none of these."""
    table = save_pictures(tmp_path / "target.parquet", 160)
    spec = pictures_of(budget={"bytes": 0.3}, export={"precision": "float16"})
    report = done(spec, save_tiny_resnet(tmp_path / "tiny"), {TARGET: table}, tmp_path / "work")
    file, budget = tmp_path / "work/output" / WHOLE, report.budget
    assert budget.dense == report.results.dense.bytes and budget.limit == int(0.3 * budget.dense)
    assert 0.9 * budget.limit <= file.stat().st_size == budget.met <= budget.limit
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16, torch.int64}
    assert report.verified is not None and report.verified.max_difference_to_measured < 1e-4
    card = (tmp_path / "work/output/README.md").read_text().split("```python\n")[1].split("```")[0]
    Image.new("RGB", (40, 50)).save(tmp_path / "work/output/a picture.jpg")
    run_apart(card + "assert model(**batch).logits.isfinite().all()", tmp_path / "work/output")


def test_weights_that_a_precision_cannot_say_are_named(network: TransformerNetwork) -> None:
    weight = network.heads["target"].weight
    with torch.no_grad():
        weight[0, 0] = 1e5
    with pytest.raises(SpecError, match=r"classifier.weight holds 1e\+05, which 'float16' cannot say: give 'bfloat16'"):
        round_weights(network, "float16")
    round_weights(network, "bfloat16")
    assert weight[0, 0] == torch.tensor(1e5).bfloat16() and weight.dtype == torch.float32


def refused(**changes: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        shortest(**changes)
    (error,) = caught.value.errors()
    return error["type"], error["msg"]


def test_what_cannot_be_is_refused_by_name() -> None:
    pictures = {"data": {"dataset": TARGET}, "type": "image-classification", "image": "image"}
    numbers = {"data": {"dataset": TARGET}, "problem_type": "regression"}
    for pointer, mend, changes in (
        ("/export/formats", "give 'onnx' instead", {"task": pictures, "export": {"formats": ["onnx-int8"]}}),
        ("/budget/runtime", "give 'onnx'", {"task": pictures, "budget": {"speedup": 2, "runtime": "onnx-int8"}}),
        ("/export/precision", "leave 'precision' out", {"task": numbers, "export": {"precision": "float16"}}),
        ("budget", "leave 'device' out", {"budget": {"speedup": 2, "runtime": "onnx-int8", "device": "cuda"}}),
    ):
        found = refused(**changes)
        assert found[0] == pointer and mend in found[1], found


def test_sizes_of_a_family_have_the_same_files() -> None:
    budgets = [{"params": 0.5}, {"speedup": 3, "runtime": "onnx-int8"}]
    spec = JobSpec.model_validate(
        {"model": "tiny", "task": {"data": {"dataset": TARGET}}, "budgets": budgets, "export": {"formats": ["onnx"]}}
    )
    assert spec.onnx_formats == ("onnx", "onnx-int8")


@pytest.mark.slow
def test_each_size_of_a_family_has_files_of_its_own(tiny: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    budgets = [{"params": 0.6}, {"params": 0.3}]
    spec = shortest(budget=None, budgets=budgets, export={"formats": ["onnx-int8"]})
    report = run(spec, ModelRef(tiny, spec.model), {TARGET: tables[TARGET]}, tmp_path, lambda _message: None)
    assert isinstance(report, FamilyReport)
    for size in report.sizes:
        assert size.files[INT8].bytes == (tmp_path / "output" / size.name / INT8).stat().st_size
    assert (tmp_path / "output/report.html").read_text().count(f">{INT8}</th>") == len(report.sizes)
