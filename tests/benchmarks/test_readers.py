"""What benchmarks/readers cuts to: the budget, or the same part for every reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.readers.cells import READERS, structure_of
from benchmarks.readers.data import Pictures
from benchmarks.readers.nets import DenseNet, fisher
from benchmarks.readers.table import table
from core.domains.channels.costs import ImageCosts
from core.domains.channels.own_readers.readers import own_readers
from core.domains.channels.tracing.trace import trace


@pytest.mark.parametrize("readers", READERS)
def test_cells_are_of_equal_cost_or_of_equal_ratio(readers: str) -> None:
    torch.manual_seed(0)
    model, x = DenseNet(3, layers=2, growth=4).eval(), torch.randn(8, 3, 16, 16)
    inputs = {"pixel_values": x[:1]}
    graph = own_readers(model, trace(model, inputs), inputs)
    costs = ImageCosts.at(graph, 16, 1)
    scores = fisher(model, graph, costs, Pictures(x, torch.zeros(8), x, torch.zeros(8)))
    by_cost, by_ratio = (structure_of(graph, costs, scores, 0.5, by, readers) for by in ("macs", "ratio"))
    assert 0.45 < costs.macs.model(by_cost) / costs.macs.before <= 0.5
    columns = graph.columns
    read = graph.has(by_ratio)[columns.unit] & ~columns.left_out(by_ratio)
    group = columns.reader * len(costs.macs.sizes) + graph.owner[columns.unit]
    every, left = np.bincount(group), np.bincount(group, read)
    assert readers == "own" or (left == np.round(every / 2)).all()  # some may be read to cover a gap
    assert (left >= np.round(every / 2)).all()


def test_the_page_has_a_row_a_cell() -> None:
    quality = {"accuracy": 0.5, "agrees": 0.25}
    cell = {"removed": 0.3, "by": "macs", "readers": "own", "macs": 0.7, "own": 3, "gathered": 1}
    cell |= {"at once": quality, "recovered": quality, "latency": {"torch": 0.8, "onnx": 0.6}}
    lines = [{"net": "densenet", "seed": seed, "dense": quality, **cell} for seed in (1, 0)]
    lines[0] = lines[0] | {"latency": {}}  # the seed that is not timed may have run first
    assert "| 30% | macs | own | 2 | 70.0% | 3 | 1 | 50.0 ± 0.0 | 50.0 ± 0.0 | 25.0 ± 0.0 | 0.80 | 0.60 |" in table(
        lines
    )
