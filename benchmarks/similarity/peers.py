"""What a user would take instead of pruning: the dense model in int8, and a static model of its vocabulary."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.similarity.cells import LENGTH, Cell, spec_of, tables
from core.domains.transformer.load import load_network
from core.pruning.latency.onnx import write_onnx
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.batches import encode
from core.rows.example import Example
from core.rows.modality import Blank
from core.rows.splitting.splits import prepare
from core.rows.table import read_tables
from core.rows.text.processor import Text
from core.tasks import task_of

BATCH = 64


def test_pairs(cell: Cell, pairs: Path, folder: Path) -> list[Example]:
    """The rows that the product's job of this cell is measured on."""

    spec = spec_of(cell, "any")
    return prepare(spec, read_tables(spec, tables(pairs, cell, folder))).test


def quality(rows: list[Example], vectors: Tensor) -> dict[str, Any]:
    """Metrics with intervals of vectors (N, 2, D)."""
    task = task_of("text_retrieval", ["match"], texts=2)
    return task.intervals(vectors, task.encode([row.label for row in rows]))


def int8(cell: Cell, model: Path, pairs: Path) -> dict[str, Any]:
    """model.onnx of the dense model after ONNX Runtime's quantize_dynamic."""
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import quantize_dynamic

    network = load_network(model, ["match"], 0, "text_retrieval")
    tokenizer = load_tokenizer(model)
    text = Text(tokenizer, LENGTH, apart=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = test_pairs(cell, pairs, folder)
        names = ("input_ids", "attention_mask", "token_type_ids")
        write_onnx(network.assembled(), Blank(text, names).traced, folder / "model.onnx")
        quantize_dynamic(folder / "model.onnx", folder / "int8.onnx")
        session = InferenceSession(folder / "int8.onnx", providers=["CPUExecutionProvider"])
        encoded = encode(rows, task_of("text_retrieval", ["match"], texts=2), text)
        size = (folder / "int8.onnx").stat().st_size

        def run(batch: dict[str, Tensor]) -> Any:
            return session.run(None, {one.name: batch[one.name].numpy() for one in session.get_inputs()})[0]

        parts = [run(encoded.collate(range(i, min(i + BATCH, len(rows))))) for i in range(0, len(rows), BATCH)]
    vectors = torch.from_numpy(np.concatenate(parts)).reshape(len(rows), 2, -1)
    return {"pruned": quality(rows, vectors), "bytes": {"pruned": size}}


def static(cell: Cell, model: Path, pairs: Path) -> dict[str, Any]:
    """model2vec: a vector for each token of the vocabulary, by the model itself, whose mean is the text's."""
    from model2vec.distill import distill  # type: ignore[import-not-found,unused-ignore]

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        rows = test_pairs(cell, pairs, Path(scratch))
        small = distill(model_name=str(model))
        texts = [text for row in rows for text in row.text]
        vectors = torch.from_numpy(small.encode(texts)).reshape(len(rows), 2, -1)
    return {"pruned": quality(rows, vectors), "seconds": {"all": round(time.monotonic() - began, 1)}}


PEERS = {"dense, int8": int8, "static (model2vec)": static}
