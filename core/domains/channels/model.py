"""An image classifier's folder, as far as it can be told without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from core.domains.channels.families import Family, family_of, only_side
from core.domains.folder import UNEVEN, entries, require_model
from core.domains.transformer.families import head_labels
from core.domains.weights import read_all_shapes, require_weights
from core.rows.image.config import read_config as read_preprocessor
from core.rows.image.config import side_of
from core.spec.errors import SpecError
from core.spec.job import JobSpec

KEPT = 256  # folders whose facts are held
NO_PART = "its config.json has a 'topwork' that is no part of the model that it describes"
READ_APART = (
    "its layers read channels of their own ('channels.readers': 'own'), which is not pruned again: give the model that "
    "it was made of"
)
Shapes = Mapping[str, tuple[int, ...]]  # by the name of a weight
SIDELESS = "the model's preprocessor names no size of square pictures: give the pixels of a side"


@dataclass(frozen=True)
class LocalImageModel:
    """An image classifier that can be pruned without a download."""

    name: str
    family: Family
    shapes: Mapping[str, tuple[int, ...]]
    size_bytes: int
    folder: Path
    side: int | None  # pixels of a picture's side; None where its preprocessor does not say
    only_side: int | None = None  # the one that it reads; None where it reads any
    labels: tuple[str, ...] = ()  # that its head knows, where it has one
    uneven: bool = False  # of other shapes than its config.json describes
    pruned: bool = False  # by an earlier job: parts of it are parts of what that has left

    @property
    def params(self) -> int:
        """Numbers of the weights' file, without a head."""
        head = f"{self.family.head}."
        return sum(prod(shape) for name, shape in self.shapes.items() if not name.startswith(head))

    def require(self, spec: JobSpec) -> None:
        """Raises SpecError for what a job asks that the model cannot be."""
        if self.uneven and spec.budget.sparsity is not None:
            raise SpecError("/budget/sparsity", f"in place of units {UNEVEN}")

    def side_of(self, spec: JobSpec) -> int:
        """Pixels of a picture's side in a job; SpecError('/train/image_size') where nobody says, or it reads others."""
        side = spec.train.image_size or self.side
        if side is None:
            raise SpecError("/train/image_size", SIDELESS)
        if self.only_side not in (None, side):
            raise SpecError(
                "/train/image_size",
                f"this model reads pictures of {self.only_side} pixels a side alone, and not of {side}",
            )
        return side


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
    side = side_of(read_preprocessor(folder))
    files = require_weights(folder)
    shapes, earlier = read_all_shapes(files), earlier_of(values)
    if odd := [name for name, shape in earlier.items() if shapes.get(name, shape) != shape]:
        raise SpecError("/model", f"its weights are not what config.json says under 'topwork' of {odd[0][:80]}")
    head = [shape for name, shape in shapes.items() if name.startswith(f"{family.head}.") and len(shape) == 2]
    labels = head_labels(values.get("id2label"), head[-1][0]) if head else ()
    size = sum(file.stat().st_size for file in files)
    uneven = bool(earlier)
    pruned = uneven or (folder / "structure.json").is_file()
    return LocalImageModel(folder.name, family, shapes, size, folder, side, only_side(values), labels, uneven, pruned)


def earlier_of(values: Mapping[str, Any]) -> Shapes:
    """The shapes of weights that an earlier job changed, as its config.json says them; SpecError('/model') if odd."""
    if values.get("topwork") is None:
        return {}
    if values["topwork"].get("reads"):
        raise SpecError("/model", READ_APART)
    said = values["topwork"].get("shapes")
    sizes = [*said.values()] if isinstance(said, dict) else []
    if not sizes or not all(isinstance(one, list) and all(type(n) is int and n > 0 for n in one) for one in sizes):
        raise SpecError("/model", NO_PART)
    return {name: tuple(shape) for name, shape in said.items()}
