"""`Weight`: which units lie along the dimensions of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PINNED = -1  # in place of a unit: a channel that stays
Side = tuple[int, ...]
WeightKind = Literal["parameter", "buffer", "integers"]  # integers: a buffer of 64-bit ones


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer, and of each dimension that may shrink the unit of every index, or PINNED."""

    shape: tuple[int, ...]
    sides: Mapping[int, Side]
    kind: WeightKind = "parameter"
    positions: int = 0  # how often each number is multiplied for one picture, by convolutions and linear layers
    groups: int = 1  # of a convolution
    saved: bool = True  # whether the checkpoint has it
    reader: str = ""  # where readers may read their own channels: the path of the layer that this weight reads for
    free: bool = False  # whether that one may
