"""An image classifier's folder, as far as it can be told without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.domains.channels.families import Family, family_of
from core.domains.folder import entries, require_model
from core.domains.transformer.families import head_labels
from core.domains.weights import read_all_shapes, require_weights
from core.spec.errors import SpecError

KEPT = 256  # folders whose facts are held
PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class LocalImageModel:
    """An image classifier that can be pruned without a download."""

    name: str
    family: Family
    shapes: Mapping[str, tuple[int, ...]]
    size_bytes: int
    labels: tuple[str, ...] = ()  # that its head knows, where it has one


def read_image_model(folder: Path) -> LocalImageModel:
    """The model in a folder; raises SpecError('/model') that says what else it is, or what is wrong, and the mend."""
    stamp = tuple((name, s and (s.st_mtime_ns, s.st_size, s.st_ino)) for name, s in sorted(entries(folder).items()))
    found = _look(folder, stamp)
    if isinstance(found, str):
        raise SpecError("/model", found)
    return found


@lru_cache(KEPT)
def _look(folder: Path, stamp: Any) -> LocalImageModel | str:
    """`stamp` tells one state of the folder from another. What is wrong is an answer, too, and kept like any."""
    try:
        return _read(folder)
    except SpecError as error:
        return error.message


def _read(folder: Path) -> LocalImageModel:
    values = require_model(folder)
    family = family_of(values)
    if "topwork" in values:
        raise SpecError("/model", "it was pruned already, and image models cannot be again; give what it was made of")
    if not (folder / PREPROCESSOR).is_file():
        raise SpecError(
            "/model", f"it has no {PREPROCESSOR}: copy it from where the model comes from, beside config.json"
        )
    files = require_weights(folder)
    shapes = read_all_shapes(files)
    head = [shape for name, shape in shapes.items() if name.startswith(f"{family.head}.") and len(shape) == 2]
    labels = head_labels(values.get("id2label"), head[-1][0]) if head else ()
    return LocalImageModel(folder.name, family, shapes, sum(file.stat().st_size for file in files), labels)
