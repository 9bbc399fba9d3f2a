"""What of an image classifier can be cut, and what that leaves, in numbers that a process of its own has found out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from core.spec.budget import GROUPS, Budget
from core.spec.errors import SpecError
from core.spec.job import Precision

FORM = 5  # of what is kept of it, and of the rules that it is made by
MADE_BY = ("torch", "transformers")  # whose versions tell in what is found out
UNITS = {"params": "parameters", "macs": "multiply-accumulates for a picture of {side} pixels", "bytes": "bytes"}


@dataclass(frozen=True)
class Reach:
    """The range of every cost of an image model, for pictures of `side` pixels, widths in multiples of `multiple`."""

    side: int
    multiple: int
    blocks: int  # of channels that lie in the same tensors
    channels: int  # counted once where several layers share them
    removable: float  # part of the multiply-accumulates that can go at all
    activations: int  # numbers that convolutions and linear layers give for a picture
    matrices: int  # weights of these, but the head's: what 'sparsity' is of
    in_fours: int  # of these, where input channels fill groups of four: what N:M patterns are of
    dense: Mapping[str, int]  # params, macs, bytes: of the whole model
    lowest: Mapping[str, int]
    finest: Mapping[str, int]  # the lowest where widths may be any
    apart: int | None = None  # layers that may read their own channels, where that is asked for

    @property
    def fingerprint(self) -> str:
        """Of the dense model."""
        return fingerprint(self.dense["macs"], self.dense["params"])

    def limit(self, budget: Budget) -> int:
        """Give the most that a budget which is counted allows; SpecError if that is out of reach."""
        kind = budget.kind
        if kind == "sparsity":
            weights = self.in_fours if budget.pattern in GROUPS else self.matrices
            if not weights:
                raise SpecError("/budget/pattern", "this model has no weights whose input channels fill groups of four")
            return weights - round((budget.sparsity or 0) * weights)
        dense, low = self.dense[kind], self.lowest[kind]
        limit = budget.limit(dense)
        if limit < low:
            advice = f'; with "channels": {{"multiple": 1}} it can have {self.finest[kind]:,}' * (self.multiple > 1)
            raise SpecError(
                f"/budget/{kind}",
                f"out of reach: this model can have {low:,} to {dense:,} {UNITS[kind].format(side=self.side)} "
                f"({low / dense:.4f} of the dense count), asked were {limit:,}{advice}",
            )
        return min(limit, dense)


def fingerprint(macs: int, params: int) -> str:
    """Name an image model by what it computes for a picture, and by its size."""
    return f"image-{macs}-{params}"


def key_of(
    folder: Path, side: int, labels: int, multiple: int, own: bool = False, precision: Precision = "float32"
) -> str:
    """Name what `survey.reach_of` gives: it depends on nothing else."""
    config = json.loads((folder / "config.json").read_bytes())
    for name in ("id2label", "label2id", "_name_or_path"):  # of which the number of labels alone is asked for
        config.pop(name, None)
    made_by = {name: version(name) for name in MADE_BY}
    known = json.dumps([FORM, config, side, labels, multiple, own, precision, made_by], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:32]
