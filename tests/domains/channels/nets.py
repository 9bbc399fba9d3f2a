"""Small networks: transformers' image classifiers from configs, and plain ones with what these do not have."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from core.domains.channels.graph import Graph
from core.domains.channels.tracing.trace import trace
from core.domains.channels.tracing.trial import answers, scatter

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2]}),
    "resnet_basic": (
        "ResNet",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"},
    ),
    "regnet_x": (
        "RegNet",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "groups_width": 4, "layer_type": "x"},
    ),
    "regnet_y": (
        "RegNet",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "groups_width": 4, "layer_type": "y"},
    ),
    "mobilenet_v1": ("MobileNetV1", {"depth_multiplier": 0.25}),
    "mobilenet_v2": ("MobileNetV2", {"depth_multiplier": 0.35}),
    "efficientnet": (
        "EfficientNet",
        {
            "width_coefficient": 0.5,
            "depth_coefficient": 0.5,
            "in_channels": [32, 16, 24],
            "out_channels": [16, 24, 40],
            "kernel_sizes": [3, 3, 5],
            "strides": [1, 2, 2],
            "expand_ratios": [1, 6, 6],
            "num_block_repeats": [1, 2, 2],
            "depthwise_padding": [],
            "hidden_dim": 640,
        },
    ),
    "hgnet_v2": (
        "HGNetV2",
        {
            "stem_channels": [3, 8, 12],
            "embedding_size": 12,
            "hidden_sizes": [16, 24],
            "stage_in_channels": [12, 16],
            "stage_mid_channels": [8, 8],
            "stage_out_channels": [16, 24],
            "stage_num_blocks": [1, 2],
            "stage_downsample": [False, True],
            "stage_light_block": [False, True],
            "stage_kernel_size": [3, 5],
            "stage_numb_of_layers": [3, 3],
            "depths": [1, 2],
        },
    ),
    "textnet": (
        "TextNet",
        {
            "stem_out_channels": 8,
            "conv_layer_kernel_sizes": [[[3, 3]], [[3, 1], [1, 3]], [[3, 3]], [[3, 3]]],
            "conv_layer_strides": [[1], [2, 1], [2], [2]],
            "hidden_sizes": [8, 12, 16, 16, 24],
        },
    ),
    "convnext": ("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}),
    "convnextv2": ("ConvNextV2", {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}),
    "mobilevit": (
        "MobileViT",
        {
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
            "num_attention_heads": 4,
            "expand_ratio": 2.0,
        },
    ),
    "mobilevitv2": ("MobileViTV2", {"width_multiplier": 0.125, "base_attn_unit_dims": [32, 48, 64]}),
    "levit": (
        "Levit",
        {
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "image_size": 64,
        },
    ),
    "swiftformer": ("SwiftFormer", {"embed_dims": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}),
    "poolformer": ("PoolFormer", {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}),
    "focalnet": (
        "FocalNet",
        {"image_size": 64, "embed_dim": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "focal_levels": [2, 2]}
        | {"focal_windows": [3, 3]},
    ),
    "vit": (
        "ViT",
        {"image_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"intermediate_size": 32},
    ),
    "deit": (
        "DeiT",
        {"image_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"intermediate_size": 32},
    ),
    "dinov2": ("Dinov2", {"image_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}),
    "swin": ("Swin", {"image_size": 64, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4}),
    "pvt_v2": ("PvtV2", {"image_size": 64, "hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]}),
    "pp_lcnet": ("PPLCNet", {"scale": 0.25}),
    "bit": ("Bit", {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8}),
}


class Plain(nn.Module):
    """Takes pictures as transformers' models do."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 5)."""
        answer: Tensor = self.run(pixel_values)
        return answer

    def run(self, x: Tensor) -> Tensor:
        """What a network is."""
        raise NotImplementedError


def unit(inputs: int, outputs: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=groups == 1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU(inplace=True))


class Dense(Plain):
    """DenseNet: each layer reads all before it, norm first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(3, 8)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(8 + 4 * i), nn.ReLU(), nn.Conv2d(8 + 4 * i, 4, 3, 1, 1)) for i in range(3)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.head = nn.Linear(10, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(self.transition(x).mean((2, 3)))


class Inception(Plain):
    """Branches side by side, one of them a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(3, 8, stride=2)
        self.one, self.three = unit(8, 6, 1), nn.Sequential(unit(8, 4, 1), unit(4, 6))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(8, 4, 1))
        self.last, self.head = unit(24, 8), nn.Linear(8, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.one(x), self.three(x), self.pooled(x), nn.functional.avg_pool2d(x, 3, 1, 1)], 1)
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(self.last(x), 1), 1))


class Shuffle(Plain):
    """ShuffleNet v2: half of the channels pass, both halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(3, 32, stride=2)
        self.branches = nn.ModuleList(
            nn.Sequential(unit(16, 16, 1), unit(16, 16, 3, 16)[:2], unit(16, 16, 1)) for _ in range(2)
        )
        self.last, self.head = unit(32, 12, 1), nn.Linear(12, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, branch(right)], 1)
            b, c, h, w = x.shape
            x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(self.last(x).mean((2, 3)))


class Ghost(Plain):
    """DLA and GhostNet: what was added before lies side by side, so that a class lies in one tensor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cheap = unit(3, 8), unit(8, 8, 3, 8)
        self.project, self.side, self.root = unit(16, 8, 1), unit(8, 8), unit(24, 8, 1)
        self.head = nn.Linear(8, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.project(torch.cat([x, self.cheap(x)], 1)) + x
        z = self.side(y) + y
        return self.head(self.root(torch.cat([z, x, y], 1)).mean((2, 3)))


class Squeeze(Plain):
    """Squeeze and excitation, a grouped convolution before it, PReLU, and a scale by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = unit(3, 16), nn.Sequential(unit(16, 24, 3, 4), nn.PReLU(24))
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 6, 1), nn.ReLU(), nn.Conv2d(6, 24, 1))
        self.scale = nn.Parameter(torch.rand(24, 1, 1))
        self.last, self.head = unit(24, 8, 1), nn.Linear(8, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.grouped(self.stem(x))
        x = x * self.squeeze(x).sigmoid() * self.scale
        return self.head(self.last(x).amax((2, 3)))


class Flat(Plain):
    """Channels and positions flattened into one dimension, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        mirrored = nn.Conv2d(6, 8, 3, 2, 1, padding_mode="reflect")
        self.body = nn.Sequential(unit(3, 6, stride=2), mirrored, nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(128, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5))

    def run(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Twice(Plain):
    """One module that is used twice, and two that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = unit(3, 8), unit(8, 8)
        self.one, self.other = nn.Conv2d(8, 6, 1, bias=False), nn.Conv2d(8, 6, 1, bias=False)
        self.other.weight = self.one.weight
        self.head = nn.Linear(6, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.again(self.again(x))
        return self.head((self.one(x) * self.other(y)).mean((2, 3)))


class Padded(Plain):
    """ResNet's shortcut without weights, which adds channels of zeros; a mean over channels as attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = unit(3, 8), nn.Sequential(unit(8, 6), unit(6, 12, stride=2))
        self.attend, self.last, self.head = nn.Conv2d(1, 1, 3, 1, 1), unit(12, 8), nn.Linear(8, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + self.block(x)
        y = self.last(x)
        return self.head((y * self.attend(y.detach().mean(1, keepdim=True)).sigmoid()).mean((2, 3)))


class Written(Plain):
    """Code that has sizes written down: halves of 8, a view of 12."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = unit(3, 16), unit(8, 6), unit(8, 6)
        self.inner, self.head = unit(12, 10), nn.Linear(10, 5)

    def run(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.left(x[:, :8]), self.right(x[:, 8:])], 1)
        b, _, h, w = x.shape
        x = x.view(b, -1, 3, h, w).flatten(1, 2)
        return self.head(self.inner(x).mean((2, 3)))


PLAIN: dict[str, Callable[[], Plain]] = {
    "dense": Dense,
    "inception": Inception,
    "shuffle": Shuffle,
    "ghost": Ghost,
    "squeeze": Squeeze,
    "flat": Flat,
    "twice": Twice,
    "padded": Padded,
    "written": Written,
}


def make(name: str) -> nn.Module:
    """A network with random weights, in float64 and evaluation mode, and scattered statistics of its norms."""
    torch.manual_seed(0)
    if name in PLAIN:
        model: Any = PLAIN[name]()
    else:
        family, options = FAMILIES[name]
        config = getattr(transformers, f"{family}Config")(num_labels=5, **options)
        model = getattr(transformers, f"{family}ForImageClassification")(config)
        model.set_attn_implementation("eager")  # what else there is, torch's counter does not see
    return scattered(model.double().eval())


@cache
def traced(name: str) -> tuple[nn.Module, Graph]:
    """A network and its graph; both are to be left as they are."""
    model = make(name)
    return model, trace(model, pictures())


def scattered(model: nn.Module) -> nn.Module:
    """With vectors (norms, scales, biases) as if it had learned."""
    with torch.no_grad():
        scatter(model, torch.Generator().manual_seed(1))
    return model


def pictures(rows: int = 1, size: int = 64) -> dict[str, Tensor]:
    """Random pictures."""
    return {"pixel_values": torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(2)).double()}


def answer(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Logits, or what else it gives first."""
    return answers(model(**inputs))[0]
