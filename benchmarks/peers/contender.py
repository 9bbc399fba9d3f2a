"""What is compared: a classifier, made from a cell's rows, that answers texts on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.data import Given, Target, told
from benchmarks.peers.serve import Predict


@dataclass(frozen=True)
class Made:
    """One way to answer."""

    name: str
    predict: Predict
    bytes: int  # of the files that answer
    seconds: float  # of this core, from rows to files; of what is made together, of all of it


@dataclass(frozen=True)
class Cell:
    """Of a target, so many labelled rows, drawn and trained by `seed`; `base`: the pre-trained model's folder."""

    target: Target
    rows: int
    seed: int
    base: Path

    def __str__(self) -> str:
        return f"{self.target.table}, {told(self.rows)}, seed {self.seed}"


Make = Callable[[Cell, Given, Path], Iterator[Made]]  # the last: a folder to work in
