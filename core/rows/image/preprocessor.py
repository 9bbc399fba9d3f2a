"""A model's own preprocessor (`preprocessor_config.json`), for pictures of another size, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.rows.faults import shown
from core.spec.errors import SpecError

CONFIG = "preprocessor_config.json"
MAX_BYTES = 2**20
MAX_SIDE = 1024  # pixels that it may ask for
COPY = "copy it from where the model comes from, beside config.json"
Sizes = dict[str, int]


def configured(folder: Path, side: int | None) -> dict[str, Any]:
    """What the file says, made to give pictures of `side` pixels; SpecError('/model') where that cannot be.

    Where a picture is scaled and then cropped, both change in proportion.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise SpecError("/model", f"has no {CONFIG}, which says how its pictures are made: {COPY}")
    try:
        config = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_BYTES else None
    except (ValueError, RecursionError, OSError):
        config = None
    if not isinstance(config, dict):
        raise SpecError("/model", f"its {CONFIG} is no JSON object that can be read: {COPY}")
    if "auto_map" in config:
        raise SpecError("/model", f"its {CONFIG} asks for code of its own ('auto_map'), which is not run")
    return config


def loaded(folder: Path, side: int | None) -> Any:
    """The processor of transformers, by PIL, that gives pictures of `side` pixels; by default of its own size."""
    from transformers import AutoImageProcessor

    config = configured(folder, side)
    try:
        processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil", local_files_only=True)
        if type(processor).__name__.startswith("Timm"):
            raise ValueError("processors of timm are not supported")
        size, crop = _sizes(processor.size), _sizes(processor.crop_size)
        if side is not None:
            size, crop = _resized(size, crop if processor.do_center_crop else None, side)
            processor = AutoImageProcessor.from_pretrained(
                str(folder), backend="pil", local_files_only=True, size=size, **({"crop_size": crop} if crop else {})
            )
    except SpecError:
        raise
    except Exception as error:  # of whatever a strange file makes of it
        name = shown(config.get("image_processor_type", config.get("feature_extractor_type", "no type")), 60)
        raise SpecError("/model", f"its {CONFIG} ({name}) is not supported: {shown(error, 150)}; {COPY}") from error
    if too_large := [n for n in (*size.values(), *(crop or {}).values()) if not 1 <= n <= MAX_SIDE]:
        raise SpecError("/model", f"its {CONFIG} asks for {too_large[0]:,} pixels a side, more than {MAX_SIDE:,}")
    return processor


def _sizes(given: Any) -> Sizes:
    """Those that are said."""
    found = {} if given is None else dict(given)
    return {name: int(value) for name, value in found.items() if isinstance(value, int | float)}


def _resized(size: Sizes, crop: Sizes | None, side: int) -> tuple[Sizes, Sizes | None]:
    """The sizes that give pictures of `side` pixels."""
    if not crop:
        return dict.fromkeys(size, side), None
    before = max(crop.values())
    return {name: round(value * side / before) for name, value in size.items()}, dict.fromkeys(crop, side)
