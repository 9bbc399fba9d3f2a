"""Readers with their own channels (UPSCALE, arXiv 2307.08771) against shared ones, and torch-pruning's choice of these.

    python -m benchmarks.readers [--data-dir DIR] [--nets densenet mobilenet_v2] [--removed 0.5 ...] [--seeds 0 1 2]

A DenseNet-like network learns Fashion-MNIST from random weights (6,000 pictures, 32 pixels), MobileNetV2 from those of
ImageNet the 8 categories of emoji (1,200 of two hands, 64 pixels); each is scored by `fisher` and cut: to shared
channels, to own ones, and to shared ones by torch-pruning's group magnitudes, of the same multiply-accumulates, or so
that each reader keeps the same part of what it reads. Of each cut: accuracy and agreement with the dense network,
before and after a short recovery; of seed 0 the latency beside the dense network, one thread, eager, in ONNX Runtime,
and in OpenVINO where that can be imported, with own channels in the order that serves most readers, and as they come. A
line of results/readers.jsonl is a cut, which is not run again; results/readers.md is made of all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.readers.cells import cells, keys
from benchmarks.readers.data import Pictures, emoji_of_two_hands, fashion
from benchmarks.readers.nets import COURSES, DenseNet, learn, quality
from benchmarks.readers.table import table
from benchmarks.transfer.cells import append_result, read_results, revision
from cli.fetch_images import fetch_model
from core.domains.channels.tensorflow import as_torch_means
from core.pruning.export.files import environment

RESULTS = Path(__file__).parents[1] / "results" / "readers.jsonl"
REMOVED = 0.3, 0.5, 0.7, 0.9


def begun(name: str, seed: int, data_dir: Path) -> tuple[nn.Module, Pictures]:
    """A network and its pictures."""
    torch.manual_seed(seed)
    if name == "densenet":
        return DenseNet(10), fashion(data_dir / "images")
    model = fetch_model(data_dir, lambda line: print(line, file=sys.stderr))
    kind: Any = transformers.MobileNetV2ForImageClassification
    return kind.from_pretrained(model, num_labels=8), emoji_of_two_hands(data_dir / "demo")


def main() -> None:
    """Run what is left, and make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--nets", nargs="*", default=[*COURSES], choices=[*COURSES])
    parser.add_argument("--removed", type=float, nargs="*", default=REMOVED)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = read_results(RESULTS)
    done = {(line["net"], line["seed"], line["removed"], line["by"], line["readers"]) for line in lines}
    for seed in asked.seeds:
        for name in asked.nets:
            left = [key for key in keys(asked.removed, seed) if (name, seed, *key) not in done]
            if not left:
                continue
            model, data = begun(name, seed, asked.data_dir)
            as_torch_means(model)
            learn(model, data, COURSES[name], seed)
            same = {"dense": quality(model, model, data), "revision": revision()}
            same["environment"] = environment().model_dump(mode="json")
            for cell in cells(model, data, COURSES[name], seed, left):
                print(cell, file=sys.stderr, flush=True)
                append_result(RESULTS, {"net": name, "seed": seed, **cell, **same})
    RESULTS.with_suffix(".md").write_text(table(read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
