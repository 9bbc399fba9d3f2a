"""What units cost in time: a few cut copies of the model are measured whole, and prices of units fitted to them.

Measured in the model, since sub-layers by themselves err by up to a quarter, and with blocks that are gone, since the
first head of a block costs far more than the next. ZipLM (Kurtic, Frantar, Alistarh, NeurIPS 2023) has a table of
levels for each layer; here a block and each of its units have a price, so that `fit` serves every cost. What that
misses, the measured correction in `budget.py` mends.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.domains.cost import Additive, Cost
from core.domains.fit import Scores
from core.domains.structure import ATTENTION, FFN, Rows, Structure
from core.domains.transformer.costs import least, smallest_regular
from core.domains.transformer.families import Architecture
from core.domains.transformer.fit_regular import fit_of
from core.pruning.latency.runtimes import Conditions
from core.pruning.latency.stopwatch import Measure, Reading
from core.pruning.system.files import write_json
from core.spec.job import ONNX_FILES, Layout

Find = Callable[[Scores, Any, int], Structure]
Table = list[dict[str, Any]]  # of each level: heads and neurons that each layer keeps, and "ratio" to the dense latency

DENSE = 1_000_000_000  # the dense model's latency in the unit of the prices: a part in 10^9 of it


class Pricing(Protocol):
    """What a kind of model costs in time, before any structure that was fitted is measured."""

    @property
    def unit(self) -> str:
        """What the length of a row is counted in."""

    @property
    def find(self) -> Find:
        """What makes a structure of scores."""

    @property
    def smallest(self) -> Structure:
        """What is measured first: next to nothing."""

    @property
    def fastest(self) -> Structure:
        """The fastest that `find` can give, near enough."""

    def key(self, under: Conditions) -> dict[str, Any]:
        """All that a table depends on: sizes, not weights; the machine; the libraries."""

    def learn(self, measure: Measure, first: Reading) -> Table:
        """The table; `first` is the reading of the smallest."""

    def prices(self, table: Table) -> Cost:
        """The cost model nearest to the table."""

    def least(self, cost: Cost) -> int:
        """What `find` can go down to."""

    @property
    def fingerprint(self) -> str:
        """Names the model's sizes, as those that plan a job know them."""

    def ratio(self, cost: Cost, part: float) -> float:
        """About what such a part of it takes, in parts of the dense latency."""


@dataclass(frozen=True)
class ByUnits:
    """A transformer's: a price a head, a neuron, and each of their blocks."""

    architecture: Architecture
    layout: Layout = "free"
    unit: str = "tokens"

    @property
    def find(self) -> Find:
        return fit_of(self.layout, self.architecture)

    @property
    def smallest(self) -> Structure:
        return smallest(self.architecture)

    @property
    def fastest(self) -> Structure:
        return self.smallest if self.layout == "free" else smallest_regular(self.architecture)

    def key(self, under: Conditions) -> dict[str, Any]:
        return key_of(self.architecture, under)

    def learn(self, measure: Measure, first: Reading) -> Table:
        return learn(measure, self.architecture, first)

    def prices(self, table: Table) -> Cost:
        return prices(self.architecture, table)

    def least(self, cost: Cost) -> int:
        assert isinstance(cost, Additive)
        return least(cost, self.layout, self.architecture)

    @property
    def fingerprint(self) -> str:
        return self.architecture.fingerprint

    def ratio(self, cost: Cost, part: float) -> float:
        """Of units that go evenly from all blocks."""
        kept = (range(max(1, round(part * block.size))) for block in self.architecture.anatomy.blocks)
        return cost.model(Structure(tuple(tuple(units) for units in kept))) / DENSE


def smallest(architecture: Architecture) -> Structure:
    """A single unit, a neuron if it may be one: what pruning can reach at the utmost, near enough."""
    blocks, last = architecture.anatomy.blocks, architecture.anatomy.last
    least = next((i for i in last if blocks[i].kind == FFN), last[0])
    return Structure(tuple((0,) if i == least else () for i in range(len(blocks))))


def levels(architecture: Architecture) -> list[Structure]:
    """What else is measured beside the dense model: each kind of block alone, and both at some sizes.

    Uneven over the layers and odd, as what `fit` gives: sizes that repeat or suit the machine's vectors would flatter.
    """
    dense = Structure.dense(architecture.anatomy)
    nothing = [()] * architecture.layers
    alone = [Structure.of(dense.heads, nothing), Structure.of(nothing, dense.neurons)]
    parts = [(6, 2), (1, 16), (2, 4), (6, 16)]
    return [*alone, *(Structure.of(_uneven(dense.heads, h), _uneven(dense.neurons, n)) for h, n in parts)]


def _uneven(rows: Rows, part: float) -> list[tuple[int, ...]]:
    """Of the units of each layer one in `part`, from three quarters to five quarters of that; one at least."""
    shares = (0.75 + 0.5 * (i + 0.5) / len(rows) for i in range(len(rows)))
    return [row[: max(1, round(len(row) / part * share))] for row, share in zip(rows, shares, strict=True)]


def learn(measure: Measure, architecture: Architecture, first: Reading) -> Table:
    """The table; `first` is the reading of the smallest."""
    readings = [(smallest(architecture), first), *((level, measure(level)) for level in levels(architecture))]
    return [{**structure.sizes(), "ratio": reading.ratio} for structure, reading in readings]


def prices(architecture: Architecture, table: Table) -> Cost:
    """The cost model nearest to the table, in parts of DENSE: least squares of the relative errors, no price negative.

    What no unit can change, LayerNorms too, is `outside`.
    """
    every = [{**Structure.dense(architecture.anatomy).sizes(), "ratio": 1.0}, *table]
    counts = np.array([[count / level["ratio"] for count in _counts(level)] for level in every])
    found = DENSE * _least_squares(counts, np.ones(len(every)))
    head, attention_block, neuron, ffn_block, fixed = (int(price) for price in found.round())
    each = {ATTENTION: (max(1, head), attention_block), FFN: (max(1, neuron), ffn_block)}
    return Additive.alike(architecture.anatomy, each, outside=fixed, measured=True)


def _counts(level: Mapping[str, Any]) -> list[int]:
    """Heads, attention blocks, neurons, FFN blocks, and 1."""
    return [count for row in (level["heads"], level["neurons"]) for count in (sum(row), sum(map(bool, row)))] + [1]


def _least_squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 that is best for a x = b: of the solutions with some columns left out, the best that is not negative.

    Exact, and quick for a handful of columns.
    """
    best, least = np.zeros(a.shape[1]), np.inf
    for size in range(1, a.shape[1] + 1):
        for chosen in map(list, combinations(range(a.shape[1]), size)):
            x = np.zeros(a.shape[1])
            x[chosen] = np.linalg.lstsq(a[:, chosen], b, rcond=None)[0]
            error = float(np.square(a @ x - b).sum())
            if x.min() >= 0 and error < least:
                best, least = x, error
    return best


def kept(folder: Path | None, key: Mapping[str, Any], make: Callable[[], Table]) -> Table:
    """The table of that key in `folder`; else it is made, and left there."""
    if folder is None:
        return make()
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{name}.json"
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        if saved["key"] == key:
            return list(saved["table"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not whole
    table = make()
    with suppress(OSError):  # a folder that cannot be written to costs time, nothing else
        folder.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(f".{os.getpid()}")
        write_json(scratch, {"key": key, "table": table})
        scratch.replace(file)
    return table


def key_of(architecture: Architecture, under: Conditions) -> dict[str, Any]:
    """All that a table depends on: sizes, not weights; the machine; the libraries."""
    libraries = ("torch", "transformers", *["onnxruntime"] * (under.runtime in ONNX_FILES))
    return {**asdict(under), **architecture.timed_by, **{name: version(name) for name in libraries}}
