"""A model's own preprocessor (`preprocessor_config.json`), for pictures of another size, too."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from core.rows.faults import shown
from core.rows.image.config import COPY, read_config
from core.rows.image.config import NAME as CONFIG
from core.spec.errors import SpecError

MAX_SIDE = 1024  # pixels that it may ask for
Sizes = dict[str, int]


def loaded(folder: Path, side: int | None) -> Any:
    """The processor of transformers, by PIL, that gives pictures of `side` pixels, or of its own size.

    Raises SpecError('/model') where there is none, or it is of no kind that is supported.
    """
    config = read_config(folder)
    try:
        processor = opened(folder)
        sizes = {"size": _sizes(processor.size)}
        if getattr(processor, "do_center_crop", False):
            sizes["crop_size"] = _sizes(processor.crop_size)
        if side is not None:
            sizes = _resized(sizes, side)
            processor = opened(folder, **sizes)
    except Exception as error:  # of whatever a strange file makes of it
        raise unsupported(config, error) from error
    for pixels in (value for size in sizes.values() for value in size.values()):
        if not 1 <= pixels <= MAX_SIDE:
            raise SpecError("/model", f"its {CONFIG} asks for {pixels:,} pixels a side; at most {MAX_SIDE:,} are read")
    return processor


def squared(folder: Path, processor: Any) -> Any:
    """The same; one that scales the shorter side alone, and so leaves pictures oblong (TextNet's), crops them, too."""
    size = _sizes(processor.size)
    if [*size] != ["shortest_edge"] or getattr(processor, "do_center_crop", False) or not _is_oblong(processor):
        return processor
    crop = dict.fromkeys(("height", "width"), size["shortest_edge"])
    return opened(folder, size=size, crop_size=crop, do_center_crop=True)


def unsupported(config: Mapping[str, Any], why: object) -> SpecError:
    """The error that refuses a preprocessor."""
    name = shown(config.get("image_processor_type", config.get("feature_extractor_type", "no type")), 60)
    return SpecError("/model", f"its {CONFIG} ({name}) is not supported: {shown(why, 150)}; {COPY}")


def known_options(processor: Any) -> set[str]:
    """The names of what its call takes."""
    named = {*signature(processor.preprocess).parameters}  # of earlier versions all, of later ones none
    return named if "do_resize" in named else {*processor.valid_kwargs.__annotations__}


def opened(folder: Path, **changes: Any) -> Any:
    """What transformers makes of the folder, by PIL, but for `changes` of what it says."""
    from transformers import AutoImageProcessor

    # Where torchvision is there, too, its scaling differs. Earlier versions have the same class under "slow".
    named = find_spec("transformers.image_processing_backends") is not None
    by_pil: dict[str, Any] = {"backend": "pil"} if named else {"use_fast": False}
    load: Any = AutoImageProcessor.from_pretrained
    processor = load(str(folder), local_files_only=True, trust_remote_code=False, **by_pil, **changes)
    if type(processor).__name__.startswith("Timm"):
        raise ValueError("those of timm are not")
    return processor


def _is_oblong(processor: Any) -> bool:
    """Whether it makes of an oblong picture one that is so, too."""
    from PIL import Image

    (made,) = processor(Image.new("RGB", (64, 40)), return_tensors=None)["pixel_values"]
    return bool(made.shape[-1] != made.shape[-2])


def _sizes(given: Any) -> Sizes:
    """Those that are said."""
    found = {} if given is None else dict(given)
    return {name: int(value) for name, value in found.items() if isinstance(value, int | float)}


def _resized(sizes: dict[str, Sizes], side: int) -> dict[str, Sizes]:
    """Such that pictures have `side` pixels: where they are scaled and then cropped, both in proportion."""
    before = max((sizes.get("crop_size") or {}).values(), default=None)
    found = {name: round(value * side / before) if before else side for name, value in sizes["size"].items()}
    return {name: found if name == "size" else dict.fromkeys(size, side) for name, size in sizes.items()}
