"""What `preprocessor_config.json` says, without the library that follows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.spec.errors import SpecError

NAME = "preprocessor_config.json"
MAX_BYTES = 2**20
COPY = "copy it from where the model comes from, beside config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """Read the file; raises SpecError('/model') where there is none, or none that is followed."""
    path = folder / NAME
    if not path.is_file():
        raise SpecError("/model", f"has no {NAME}, which says how its pictures are made: {COPY}")
    try:
        config = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_BYTES else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise SpecError("/model", f"its {NAME} is no JSON object that can be read: {COPY}")
    if "auto_map" in config:
        raise SpecError("/model", f"its {NAME} asks for code of its own ('auto_map'), which is not run")
    return config


def side_of(config: Mapping[str, Any]) -> int | None:
    """Pixels of a side of the square pictures that it makes; None where it does not say, or where they are none."""
    crops = config.get("do_center_crop", "EfficientNet" not in str(config.get("image_processor_type")))
    for given in (config.get("crop_size") if crops else None, config.get("size")):
        sides = list(given.values()) if isinstance(given, Mapping) else [given]
        pixels = [side for side in sides if isinstance(side, int) and not isinstance(side, bool) and side > 0]
        if isinstance(given, Mapping) and given.get("height") != given.get("width"):
            return None
        if pixels:
            return max(pixels)
    return None
