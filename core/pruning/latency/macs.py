"""What channels cost in time, as far as their multiply-accumulates tell: a line through the dense and the least model.

They are no proxy by themselves (a runtime is slow at odd widths, and every layer has a cost of its own): it is the
measured correction in `budget.py` that meets a limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from core.domains.channels.costs import ImageCosts
from core.domains.channels.reach import fingerprint
from core.domains.cost import Cost
from core.domains.fit import Scores
from core.domains.structure import Structure
from core.pruning.latency.prices import Table
from core.pruning.latency.runtimes import Conditions
from core.pruning.latency.stopwatch import Measure, Reading
from core.spec.job import ONNX_FILES


@dataclass(frozen=True)
class ByMacs:
    """An image model's."""

    costs: ImageCosts
    unit: str = "pixels a side"

    @property
    def find(self) -> Callable[[Scores, Any, int], Structure]:
        return self.costs.find

    @property
    def smallest(self) -> Structure:
        return self.find(Scores(np.zeros(self.costs.macs.anatomy.size)), self.costs.macs, 0)

    @property
    def fastest(self) -> Structure:
        return self.smallest

    def key(self, under: Conditions) -> dict[str, Any]:
        macs = self.costs.macs
        shape = hashlib.sha256(repr([macs.price.tolist(), macs.rows.tolist(), macs.columns.tolist()]).encode())
        libraries = ("torch", "transformers", *["onnxruntime"] * (under.runtime in ONNX_FILES))
        known = {"macs": macs.before, "shape": shape.hexdigest()[:16], "multiple": self.costs.multiple}
        known |= {"readers": "own"} if self.costs.own else {}
        return {**asdict(under), **known, **{name: version(name) for name in libraries}}

    def learn(self, measure: Measure, first: Reading) -> Table:
        return [{"ratio": first.ratio}]

    def prices(self, table: Table) -> Cost:
        macs, ratio = self.costs.macs, float(table[0]["ratio"])
        part = macs.model(self.smallest) / macs.before
        always = max(0.0, (ratio - part) / max(1e-9, 1 - ratio))  # in parts of the dense model's
        return replace(macs, outside=macs.outside + round(always * macs.before))

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.costs.macs.before, self.costs.params.before)

    def ratio(self, cost: Cost, part: float) -> float:
        before, always = self.costs.macs.before, cost.outside - self.costs.macs.outside
        return (part * before + always) / (before + always)

    def least(self, cost: Cost) -> int:
        return self.costs.macs.least(self.costs.multiple)
