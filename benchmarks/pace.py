"""How long image classifiers take for a picture, against what they compute: what estimates start from without jobs.

    python -m benchmarks.pace

Networks with random weights, one thread, eager PyTorch, batches of 32; time is that of the processor, the least of
some turns, so that a busy machine counts less. Matrix products take time by their multiply-accumulates; norms,
activations and depthwise convolutions by how many numbers the layers give. Two constants are fitted, so that the
squares of the relative errors of a training step are least. Writes benchmarks/results/pace.md.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from core.domains.channels.families import FAMILIES
from core.domains.channels.load import graph_of
from core.domains.channels.network import ChannelNetwork
from core.domains.network import TARGET
from core.schedule import TRAIN

SIDES, BATCH, LABELS, TURNS = (64, 96), 32, 10, 3
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "MobileNetV1": ("mobilenet_v1", {}),
    "MobileNetV2": ("mobilenet_v2", {}),
    "EfficientNet-B0": ("efficientnet", {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}),
    "ResNet-18": (
        "resnet",
        {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
    ),
    "ResNet-50": ("resnet", {}),
    "HGNetV2": ("hgnet_v2", {}),
    "ConvNeXt-T": ("convnext", {}),
    "MobileViT-S": ("mobilevit", {}),
    "PoolFormer-S12": ("poolformer", {}),
}


def measured(name: str, side: int) -> tuple[int, int, float, float]:
    """Of a picture: multiply-accumulates, numbers given, seconds of a training step, seconds of a pass."""
    kind, options = NETS[name]
    family = FAMILIES[kind]
    torch.manual_seed(0)
    task_class = getattr(transformers, family.task_class)
    body = task_class(task_class.config_class(num_labels=LABELS, **options))
    network = ChannelNetwork(body, family, graph_of(body, side), side)
    reach = network.costs(side).reach
    inputs = {"pixel_values": torch.randn(BATCH, 3, side, side)}
    labels = torch.arange(BATCH) % LABELS
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.train().logits(inputs, TARGET), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.inference_mode()
    def look() -> None:
        network.eval().logits(inputs, TARGET)

    return reach.dense["macs"], reach.activations, least(step) / BATCH, least(look) / BATCH


def least(run: Callable[[], None]) -> float:
    """Give the processor's seconds of the quickest of some turns, after one to warm up."""
    found = []
    for _ in range(TURNS + 1):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found[1:])


def fitted(rows: list[tuple[int, int, float, float]]) -> tuple[float, float]:
    """Give seconds of a multiply-accumulate and of a number given, by training steps, of `TRAIN` passes each."""
    sizes = np.array([[macs, numbers] for macs, numbers, *_ in rows], float)
    taken = np.array([train / TRAIN for *_, train, _ in rows])
    (macs, numbers), *_ = np.linalg.lstsq(sizes / taken[:, None], np.ones(len(taken)), rcond=None)
    return float(macs), float(numbers)


def main() -> None:
    """Measure each, and write the table."""
    torch.set_num_threads(1)
    found = {}
    for side in SIDES:
        for name in NETS:
            found[name, side] = measured(name, side)
            print(name, side, found[name, side], file=sys.stderr, flush=True)
            gc.collect()
    macs, numbers = fitted([*found.values()])
    lines = [
        "# What a picture takes, against what is computed",
        "",
        f"`python -m benchmarks.pace` printed this: one thread, batches of {BATCH}. Fitted to the training steps:",
        f"{macs:.2g} s a multiply-accumulate and {numbers:.2g} s a number that a convolution or linear layer gives, "
        f"{TRAIN} times each",
        "a step.",
        "Of 10^12 multiply-accumulates: in a step, which takes three times as many as a pass, and in a pass.",
        "",
        "| network | pixels | 10^6 MACs | 10^6 numbers | step, ms | s / 10^12, step | s / 10^12, pass | fitted/took |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (name, side), (work, given, train, look) in found.items():
        cells = [f"{work / 1e6:,.0f}", f"{given / 1e6:.2f}", f"{train * 1e3:.1f}", f"{train / TRAIN / work * 1e12:.0f}"]
        cells += [f"{look / work * 1e12:.0f}", f"{TRAIN * (macs * work + numbers * given) / train:.2f}"]
        lines.append(f"| {name} | {side} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "pace.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
