"""In a process of its own: load downloaded checkpoints of pictures by their own load.py and ONNX file, and measure.

    python -m cli.measure_images PICTURES.zip CHECKPOINT...

PICTURES.zip is the data set that the jobs had; test.jsonl names the pictures in it that none of them was trained on.
Only what lies in the checkpoints is used, besides torch, transformers, pillow and onnxruntime. Prints one JSON object:
by checkpoint, accuracy by load.py and by model.onnx, parameters, and latency in ONNX Runtime; and the latency of a
dense model of the same configuration.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import onnxruntime
import torch
from PIL import Image
from torch import Tensor
from torch.export import Dim
from transformers import AutoConfig, AutoModelForImageClassification

from cli.busy import scheduled, waited
from cli.measure import in_turn

BATCH = 64
Pixels = Callable[[Sequence[Image.Image]], Tensor]


def main(pictures: Path, checkpoints: list[Path]) -> dict[str, Any]:
    """See the module."""
    for folder in checkpoints:
        if missing := [name for name in ("load.py", "model.onnx") if not (folder / name).is_file()]:
            raise SystemExit(f'{folder}: holds no {missing[0]}; ask for "formats": ["safetensors", "onnx"]')
        if json.loads((folder / "config.json").read_bytes()).get("problem_type") != "single_label_classification":
            raise SystemExit(f"{folder}: is not for one class a picture; only the accuracy of such is measured here")
    result: dict[str, Any] = {}
    sessions = {}
    for folder in checkpoints:
        name = str(folder)
        here = run_path(str(folder / "load.py"))
        model, processor = here["load"]()
        sessions[name] = session(folder / "model.onnx")
        pixels = partial(pixels_of, processor, here["rgb"])
        shares = accuracy(folder, pictures, pixels, model, sessions[name])
        params = sum(parameter.numel() for parameter in model.parameters())
        result[name] = {"accuracy": shares[0], "onnx_accuracy": shares[1], "model_params": params}
        size = next(batches(folder, pictures, pixels))[1].shape[1:]
    with tempfile.TemporaryDirectory() as scratch:
        sessions["dense"] = dense(checkpoints[0], size, Path(scratch) / "dense.onnx")
    before = scheduled()
    for name, found in in_turn({name: partial(run, one, size) for name, one in sessions.items()}).items():
        result.setdefault(name, {})["latency_ms"] = found
    result["dense"]["waited"] = waited(before, scheduled())
    return result


def pixels_of(processor: Any, rgb: Any, images: Sequence[Image.Image]) -> Tensor:
    """(rows, 3, H, W), as the checkpoint's own files make them."""
    pixels: Tensor = processor([rgb(image) for image in images], return_tensors="pt")["pixel_values"]
    return pixels


def batches(folder: Path, pictures: Path, pixels: Pixels) -> Iterator[tuple[list[str], Tensor]]:
    """Labels and pixels, (rows, 3, H, W), of the test rows."""
    with (folder / "test.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    with zipfile.ZipFile(pictures) as archive:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            images = [opened(archive, row["image"]) for row in part]
            yield [row["label"] for row in part], pixels(images)


def opened(archive: zipfile.ZipFile, name: str) -> Image.Image:
    """As it was uploaded."""
    with archive.open(name) as file, Image.open(file) as image:
        image.load()
        return image


@torch.inference_mode()
def accuracy(folder: Path, pictures: Path, pixels: Pixels, model: Any, file: Any) -> tuple[float, float]:
    """Share of the test rows that the model gets right, and that its ONNX file does."""
    right, exported, rows = 0, 0, 0
    for labels, batch in batches(folder, pictures, pixels):
        (logits,) = file.run(None, {"pixel_values": batch.numpy()})
        answers = model(pixel_values=batch).logits.argmax(1).tolist(), logits.argmax(1).tolist()
        for label, one, other in zip(labels, *answers, strict=True):
            right += model.config.id2label[one] == label
            exported += model.config.id2label[other] == label
        rows += len(labels)
    return right / rows, exported / rows


def dense(folder: Path, size: torch.Size, target: Path) -> Any:
    """An unpruned model of the checkpoint's configuration: its speed does not depend on its weights."""
    values = json.loads((folder / "config.json").read_bytes())
    family = values.pop("model_type").removeprefix("topwork-")
    plain = {name: value for name, value in values.items() if name not in ("auto_map", "architectures", "topwork")}
    build: Any = AutoModelForImageClassification.from_config
    model = build(AutoConfig.for_model(family, **plain)).eval()
    pixels = {"pixel_values": torch.zeros(2, *size)}
    open_sizes = {"pixel_values": {0: Dim("batch")}}
    program: Any = torch.onnx.export(model, (), kwargs=pixels, dynamic_shapes=open_sizes, dynamo=True, verbose=False)
    program.save(target)
    return session(target)


def session(file: Path) -> Any:
    """ONNX Runtime's, whose threads stop with a call: those of several models would slow each other down."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run(one: Any, size: torch.Size, batch_size: int) -> Callable[[], object]:
    """A call that runs so many pictures once."""
    pixels = {"pixel_values": torch.rand(batch_size, *size).numpy()}
    return lambda: one.run(None, pixels)


if __name__ == "__main__":
    if not sys.argv[2:]:
        raise SystemExit("give a zip of pictures and the folders of checkpoints: " + (__doc__ or "").splitlines()[2])
    first, *others = map(Path, sys.argv[1:])
    print(json.dumps(main(first, others)))
