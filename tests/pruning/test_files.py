"""The files of a download, each with a quality of its own: int8 beside float32, and weights of half precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from transformers import AutoTokenizer

from core.pruning.job import publish
from core.pruning.job.verdict import losses
from core.pruning.latency.int8 import round_tables
from core.spec.report import FileMeasured
from tests.tiny import SOURCE, TARGET, done, rows, save_table
from tests.tiny import spec_of as shortest

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
    kinds = {node.op_type for node in onnx.load(output / INT8).graph.node}
    assert "MatMulInteger" in kinds
    assert report.verified is not None and report.verified.max_difference_onnx is None
    for page in ("report.html", "README.md"):
        assert INT8 in (output / page).read_text()
    assert INT8 in json.loads((output / "manifest.json").read_text())["files"]
