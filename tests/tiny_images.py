"""A tiny image classifier, and pictures that it can learn to tell apart."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.rows.files.asked import Limits
from core.rows.files.read import read
from core.spec.job import JobSpec
from tests.rows.image.made import saved
from tests.tiny import SOURCE, TARGET

SIDE = 32
KINDS = {"bars": 0, "blots": 1, "dots": 2}
RESNET: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "basic"}
LIMITS = Limits(2**26, 10_000, 50, 10_000)


def save_tiny_resnet(folder: Path, **config: Any) -> Path:
    """Write config.json, model.safetensors and preprocessor_config.json of a ResNet without a head."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    ResNetModel(ResNetConfig(**RESNET | config)).save_pretrained(folder)
    return save_preprocessor(folder)


def save_tiny_mobilenet(folder: Path) -> Path:
    """As `save_tiny_resnet`, a MobileNetV2: depthwise convolutions, and BatchNorm with TensorFlow's momentum."""
    import torch
    from transformers import MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(0)
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25)).save_pretrained(folder)
    return save_preprocessor(folder)


def save_tiny_vit(folder: Path) -> Path:
    """As `save_tiny_resnet`, a ViT of two layers with four heads each."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    ViTModel(ViTConfig(image_size=SIDE, patch_size=8, **sizes)).save_pretrained(folder)
    return save_preprocessor(folder)


def save_pruned_resnet(folder: Path, whole: Path) -> Path:
    """As a job leaves it of the model in `whole`: half of the channels of each block."""
    from core.domains.channels.load import load_images
    from core.domains.structure import ChannelStructure
    from core.pruning.export.images import write_image_model
    from core.rows.image.processor import Images

    network = load_images(whole, ["cat", "dog"], 0, "single_label_classification", side=SIDE)
    network.cut(ChannelStructure(tuple(tuple(range(block.size // 2)) for block in network.anatomy.blocks)))
    write_image_model(network, network.units(), Images.of(whole, SIDE, False), folder)
    return folder


def save_preprocessor(folder: Path) -> Path:
    """As the hub's ResNets have one."""
    from transformers import ConvNextImageProcessor

    ConvNextImageProcessor(size={"shortest_edge": SIDE}, crop_pct=1.0).save_pretrained(folder)
    return folder


def pictures(count: int, seed: int = 0) -> dict[str, bytes]:
    """So many pictures in a folder of each kind: what tells these apart is drawn onto noise."""
    rng, found = np.random.default_rng(seed), {}
    for number in range(count):
        kind = [*KINDS][number % len(KINDS)]
        pixels = rng.integers(0, 120, (SIDE, SIDE, 3)).astype(np.uint8)
        if kind == "bars":
            pixels[:: rng.integers(3, 6)] += np.uint8(120)
        elif kind == "dots":
            pixels[:: rng.integers(3, 6), :: rng.integers(3, 6)] += np.uint8(130)
        else:
            top, left = rng.integers(0, SIDE // 2, 2)
            pixels[top : top + SIDE // 2, left : left + SIDE // 2] += np.uint8(100)
        found[f"{kind}/{number}.png"] = saved(Image.fromarray(pixels))
    return found


def save_pictures(target: Path, count: int, seed: int = 0) -> Path:
    """As a stored data set."""
    packed = target.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in pictures(count, seed).items():
            archive.writestr(name, content)
    read([packed], packed.name, target, LIMITS)
    return target


def spec_of(**changes: Any) -> JobSpec:
    """A job of pictures that takes seconds."""
    body: dict[str, Any] = {
        "model": "tiny",
        "task": {
            "type": "image-classification",
            "data": {"dataset": TARGET},
            "split": {"train": 60, "dev": 30, "test": 60},
        },
        "budget": {"macs": 0.4},
        "train": {"steps": {"teach": 40, "recover": 20}, "learning_rate": 3e-3},
    }
    return JobSpec.model_validate(body | changes)


def with_source(**changes: Any) -> JobSpec:
    """The same, with a source."""
    return spec_of(sources=[{"data": {"dataset": SOURCE}, "label": "label"}], **changes)
