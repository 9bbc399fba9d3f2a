"""Which image classifiers of transformers channels can be cut of, and where their heads are. No torch.

Adding a family is adding a row: what of it can go is traced (`trace.py`), and a family of which nothing can is refused
with its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.spec.errors import SpecError

AUTO_CLASS = "AutoModelForImageClassification"


@dataclass(frozen=True)
class Family:
    """Where transformers keeps the parts of an image classifier."""

    model_type: str
    task_class: str
    base: str  # the body's attribute, and so what names of its weights begin with; "" where it has none of its own
    head: str = "classifier"
    one_size: bool = False  # reads pictures of config.json's `image_size` alone


FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family("convnext", "ConvNextForImageClassification", "convnext"),
        Family("deit", "DeiTForImageClassification", "deit", one_size=True),
        Family("dinov2", "Dinov2ForImageClassification", "dinov2"),
        Family("efficientnet", "EfficientNetForImageClassification", "efficientnet"),
        Family("focalnet", "FocalNetForImageClassification", "focalnet"),
        Family("hgnet_v2", "HGNetV2ForImageClassification", "", "fc"),
        Family("levit", "LevitForImageClassification", "levit", one_size=True),
        Family("mobilenet_v1", "MobileNetV1ForImageClassification", "mobilenet_v1"),
        Family("mobilenet_v2", "MobileNetV2ForImageClassification", "mobilenet_v2"),
        Family("mobilevit", "MobileViTForImageClassification", "mobilevit"),
        Family("mobilevitv2", "MobileViTV2ForImageClassification", "mobilevitv2"),
        Family("poolformer", "PoolFormerForImageClassification", "poolformer"),
        Family("pvt_v2", "PvtV2ForImageClassification", "pvt_v2"),
        Family("regnet", "RegNetForImageClassification", "regnet"),
        Family("resnet", "ResNetForImageClassification", "resnet"),
        Family("swin", "SwinForImageClassification", "swin"),
        Family("textnet", "TextNetForImageClassification", "textnet", "fc"),
        Family("vit", "ViTForImageClassification", "vit", one_size=True),
    )
}
TIMM = "timm_wrapper"
UNFIT = {  # image classifiers of transformers that are no row, and why
    "bit": "its convolutions standardise each filter over all channels that it reads: none of them can go alone",
    "convnextv2": "its layers normalise over all channels at once (GRN): none of them can go alone",
    "pp_lcnet": "transformers gives its answers as hidden states, without a loss, so that it cannot be trained",
    "swiftformer": "it answers with the mean of two heads, where the head of a task has to be one",
}


def family_of(config: Mapping[str, Any]) -> Family:
    """Find the family of a config.json; SpecError('/model') says which there are."""
    name = str(config.get("model_type"))
    if name in FAMILIES:
        return FAMILIES[name]
    require_fit(name)
    if name == TIMM or ("architecture" in config and "pretrained_cfg" in config):
        raise SpecError(
            "/model",
            "it is a model of timm, which transformers only wraps: give a model of transformers' own (resnet, "
            "mobilenet_v2, convnext, ...), to which timm's weights can be converted where transformers has a script",
        )
    raise SpecError(
        "/model", f"architecture '{name[:60]}' classifies no pictures here; these do: {', '.join(FAMILIES)}"
    )


def only_side(config: Mapping[str, Any]) -> int | None:
    """Pixels of a side of the only pictures that a model of a config.json reads; None where there are others."""
    if not family_of(config).one_size:
        return None
    sizes = config.get("image_size", 224)
    first, last = (sizes[0], sizes[-1]) if isinstance(sizes, list) and sizes else (sizes, sizes)
    return first if isinstance(first, int) and first == last else None


def require_fit(model_type: str) -> None:
    """Raise SpecError('/model') for an image classifier that is known, and cannot be pruned."""
    if why := UNFIT.get(model_type):
        known = ", ".join(FAMILIES)
        raise SpecError("/model", f"architecture '{model_type}' is not supported: {why}; these are: {known}")
