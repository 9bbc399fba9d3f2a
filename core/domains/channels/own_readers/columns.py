"""`Columns`: what each reader reads of each unit, where readers may read their own channels (UPSCALE's unconstrained
mode: Wan et al., ICML 2023, arXiv 2307.08771).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.domains.channels.weight import Weight
from core.domains.structure import ChannelStructure, Structure

Array = NDArray[np.int64]
LeftOut = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class Columns:
    """A column is all that one reader reads of one unit. Those of a reader lie side by side, units ascending."""

    names: tuple[str, ...]  # of the readers' weights
    paths: tuple[str, ...]  # of the readers
    free: NDArray[np.bool_]  # (readers,): whether it may leave out what others read
    pinned: Array  # (readers,): input channels that always stay
    reader: Array  # (columns,)
    unit: Array  # (columns,)
    count: Array  # (columns,): input channels of the unit there

    @classmethod
    def of(cls, weights: Mapping[str, Weight]) -> Columns:
        """Of every weight that names a reader; several may read for one (heads of other tasks)."""
        found: dict[str, str] = {}
        for name, weight in weights.items():
            if weight.reader:
                found.setdefault(weight.reader, name)
        sides = [np.array(weights[name].sides[1], np.int64) for name in found.values()]
        each = [np.unique(side[side >= 0], return_counts=True) for side in sides]
        empty = np.zeros(0, np.int64)
        return cls(
            tuple(found.values()),
            tuple(found),
            np.array([weights[name].free for name in found.values()], np.bool_),
            np.array([int((side < 0).sum()) for side in sides], np.int64),
            np.repeat(np.arange(len(found)), [len(units) for units, _ in each]),
            np.concatenate([empty, *(units for units, _ in each)]),
            np.concatenate([empty, *(counts for _, counts in each)]),
        )

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Path of a reader -> where its columns lie."""
        ends = np.cumsum(np.bincount(self.reader, minlength=len(self.paths)))
        starts = [0, *ends[:-1].tolist()]
        return {path: slice(start, end) for path, start, end in zip(self.paths, starts, ends.tolist(), strict=False)}

    def where(self, path: str, units: Array) -> Array:
        """The column of each of these units, which that reader reads."""
        span = self.spans[path]
        return np.asarray(span.start + np.searchsorted(self.unit[span], units))

    def left_out(self, structure: Structure) -> NDArray[np.bool_]:
        """Whether each column is one that its reader alone leaves out, (columns,)."""
        out = np.zeros(len(self.unit), np.bool_)
        if isinstance(structure, ChannelStructure):
            for path, units in structure.left_out:
                out[self.where(path, np.array(units, np.int64))] = True
        return out

    def said(self, out: NDArray[np.bool_]) -> LeftOut:
        """Inverse of `left_out`."""
        found = ((path, tuple(self.unit[span][out[span]].tolist())) for path, span in self.spans.items())
        return tuple((path, units) for path, units in found if units)
