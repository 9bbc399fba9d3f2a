"""What ways to 8 bits cost in quality, and gain in size and time: MiniLM's vectors, MobileNetV2's pictures.

    python -m benchmarks.files [--data-dir FOLDER]

Both models as they were given, float32 weights, with a linear probe (ridge, 400 rows, solved on what the float32 file
says) on top, so that nothing but the file differs: product reviews in two classes, Twemoji in eight at 64 pixels. How
alike answers are is the mean cosine with those of the float32 file. Files of ONNX Runtime, one thread, all in turn;
asked in batches of 64, texts in order of their length. Writes benchmarks/results/files.md.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image
from transformers import AutoTokenizer, MobileNetV2ForImageClassification

from core.domains.transformer.embedder import load_embedder
from core.domains.transformer.pooling import read_recipe
from core.pruning.export.files import environment
from core.pruning.latency.files import passes
from core.pruning.latency.int8 import write_int8
from core.pruning.latency.onnx import write_onnx
from core.pruning.latency.passes import in_turn_ms
from core.rows.modality import Batch
from core.rows.text.processor import IDS

RESULTS = Path(__file__).parent / "results"
TEXTS, PROBED, SIDE, LENGTH, CALIBRATED = 900, 400, 64, 64, 64
Array = NDArray[Any]
FLOAT, OURS = "float32", "as exported (`onnx-int8`)"
DYNAMIC: Mapping[str, Mapping[str, Any]] = {
    "products alone, one scale a matrix": {"op_types_to_quantize": ["MatMul"]},
    "products alone, one a column": {"op_types_to_quantize": ["MatMul"], "per_channel": True},
    "products alone, one a column, 7 bits": {
        "op_types_to_quantize": ["MatMul"],
        "per_channel": True,
        "reduce_range": True,
    },
    "products alone, unsigned": {"op_types_to_quantize": ["MatMul"], "weight_type": QuantType.QUInt8},
    "tables alone": {"op_types_to_quantize": ["Gather"]},
}
STATIC: Mapping[str, Mapping[str, Any]] = {
    "static, calibrated on 64 pictures": {"per_channel": True},
    "static, 7 bits": {"per_channel": True, "reduce_range": True},
}


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Rows, one at a time."""

    def __init__(self, rows: Array) -> None:
        """Pictures, (N, 3, side, side)."""
        self._rows = iter(rows[:, None])

    def get_next(self) -> dict[str, Array] | None:
        """Give the next one."""
        row = next(self._rows, None)
        return None if row is None else {"pixel_values": row}


@dataclass(frozen=True)
class Case:
    """Files by name, batches of rows, their labels, and what makes a batch to time."""

    files: Mapping[str, Path]
    batches: Sequence[Mapping[str, Array]]
    labels: Array
    blank: Callable[[int, int], Batch]


def texts(data: Path, folder: Path) -> Case:
    """Of MiniLM, as vectors."""
    model = data / "models/all-minilm-l6-v2"
    table = pq.read_table(data / "tables/products.parquet").to_pydict()
    rows = sorted(zip(table["text"][:TEXTS], table["label"][:TEXTS], strict=True), key=lambda row: len(row[0]))
    tokenizer = AutoTokenizer.from_pretrained(model)
    options = {"padding": True, "truncation": True, "max_length": LENGTH}
    batches = [
        dict(tokenizer([text for text, _ in rows[i : i + 64]], return_tensors="np", **options))
        for i in range(0, len(rows), 64)
    ]
    given = load_embedder(model, read_recipe(model), trusted=False).eval()
    files = {name: folder / f"{i}.onnx" for i, name in enumerate((FLOAT, *DYNAMIC, OURS))}
    write_onnx(given, tokenizer(["a b", "c d e"], padding=True, return_tensors="pt"), files[FLOAT])
    for name, how in DYNAMIC.items():
        exact = onnx.load(files[FLOAT])
        add_pre_process_metadata(exact)
        quantize_dynamic(exact, files[name], **how)
    write_int8(files[FLOAT], files[OURS])

    def blank(count: int, size: int) -> Batch:
        ids = torch.randint(1000, 20000, (count, size), generator=torch.Generator().manual_seed(0))
        return {name: ids if name == IDS else torch.ones_like(ids) * ("mask" in name) for name in batches[0]}

    labels = np.array([label == rows[0][1] for _, label in rows]).astype(int)
    return Case(files, batches, labels, blank)


def pictures(data: Path, folder: Path) -> Case:
    """Of MobileNetV2, as what its classifier reads."""
    table = pq.read_table(data / "images/twemoji.parquet").to_pydict()
    found = [Image.open(io.BytesIO(one["bytes"])).convert("RGB").resize((SIDE, SIDE)) for one in table["image"]]
    pixels = np.stack([np.asarray(one, np.float32).transpose(2, 0, 1) / 127.5 - 1 for one in found])
    order = np.random.default_rng(0).permutation(len(pixels))
    names = sorted(set(table["label"]))
    pixels, labels = pixels[order], np.array([names.index(label) for label in table["label"]])[order]
    given: Any = MobileNetV2ForImageClassification.from_pretrained(data / "models/mobilenet-v2")
    given.eval()
    given.classifier = torch.nn.Identity()
    dynamic, without = "dynamic, convolutions too", "dynamic, without them"
    files = {name: folder / f"{i}.onnx" for i, name in enumerate((FLOAT, dynamic, *STATIC, without))}
    write_onnx(given, {"pixel_values": torch.from_numpy(pixels[:2])}, files[FLOAT], ("batch",))
    write_int8(files[FLOAT], files[without])
    ready = folder / "ready.onnx"
    quant_pre_process(files[FLOAT], ready, auto_merge=True)
    quantize_dynamic(ready, files[dynamic], per_channel=True, weight_type=QuantType.QUInt8)  # s8 has no ConvInteger
    for name, options in STATIC.items():
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(ready, files[name], Calibration(pixels[:CALIBRATED]), **types, **options)
    batches = [{"pixel_values": pixels[i : i + 64]} for i in range(0, len(pixels), 64)]
    return Case(files, batches, labels, lambda count, _size: {"pixel_values": torch.from_numpy(pixels[:count])})


def measured(case: Case) -> Iterator[list[str]]:
    """Cells of a line for each file."""
    files, labels = case.files, case.labels
    times = in_turn_ms({name: passes(file, "onnx", case.blank, LENGTH) for name, file in files.items()})
    said = {name: answers(file, case.batches) for name, file in files.items()}
    exact = said[FLOAT]
    order = np.random.default_rng(1).permutation(len(labels))
    train, test = order[:PROBED], order[PROBED:]
    features, wanted = with_one(exact)[train], np.eye(labels.max() + 1)[labels[train]]
    ridge = 0.1 * np.trace(features.T @ features) / features.shape[1] * np.eye(features.shape[1])
    probe = np.linalg.solve(features.T @ features + ridge, features.T @ wanted)
    right = {name: (with_one(one)[test] @ probe).argmax(1) == labels[test] for name, one in said.items()}
    for name, file in files.items():
        cosine = (unit(said[name]) * unit(exact)).sum(1).mean()
        change = 100 * (right[name].mean() - right[FLOAT].mean())
        size, ms = file.stat().st_size / 1e6, [f"{times[name][batch]:.1f}" for batch in ("1", "32")]
        yield [name, f"{size:.1f}", f"{cosine:.4f}", f"{100 * right[name].mean():.1f}", f"{change:+.1f}", *ms]


def answers(file: Path, batches: Sequence[Mapping[str, Array]]) -> Array:
    """What a file says of all rows."""
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return np.concatenate([session.run(None, {name: batch[name] for name in names})[0] for batch in batches])


def unit(rows: Array) -> Array:
    """Rows of length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def with_one(rows: Array) -> Array:
    """Rows of length one, and what an intercept is a weight of."""
    return np.concatenate([unit(rows), np.ones((len(rows), 1))], 1).astype(np.float64)


def main() -> None:
    """Measure both, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    data = parser.parse_args().data_dir
    torch.set_num_threads(1)
    text = ["# Ways to 8 bits", "", "`python -m benchmarks.files --help` says what was measured.", ""]
    for title, make in {"all-minilm-l6-v2, vectors": texts, "mobilenet-v2, pictures": pictures}.items():
        with tempfile.TemporaryDirectory() as folder:
            lines = [*measured(make(data, Path(folder)))]
        text += [f"## {title}", "", "| file | MB | cosine | accuracy | change | ms, batch 1 | ms, batch 32 |"]
        text += ["|---|---|---|---|---|---|---|", *(f"| {' | '.join(line)} |" for line in lines), ""]
    text.append(f"On {environment().device}, {environment().cpu}.")
    (RESULTS / "files.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
