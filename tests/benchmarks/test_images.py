"""benchmarks.images: what is to be run can be run, and what was run is told."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.images.cells import ARMS, Cell, order, spec_of, teacher_key
from benchmarks.images.groups import group_magnitude
from benchmarks.images.table import markdown
from core.domains.channels.families import family_of
from core.domains.channels.load import graph_of
from core.domains.channels.network import ChannelNetwork
from core.pruning.scoring.fitter import Fitter
from core.spec.budget import Budget


def test_every_cell_is_a_job_that_the_api_would_take() -> None:
    cells = [cell for block in order().values() for cell in block]
    assert len({*cells}) == len(cells) and {cell.arm for cell in cells} == {*ARMS}
    for cell in cells:
        assert spec_of(cell, "model").transfer.coupling == ARMS[cell.arm].coupling


def test_a_teacher_is_shared_by_cells_that_teach_alike() -> None:
    def key(arm: str, macs: float = 0.3, seed: int = 0) -> str:
        return teacher_key(Cell("noto->twemoji", 100, macs, arm, seed), "abc")

    assert key("teacher") == key("random") == key("sequential") == key("l0", macs=0.5)
    assert len({key("teacher"), key("none"), key("joint"), key("teacher", seed=1)}) == 4


def test_the_table_pairs_seeds() -> None:
    def line(arm: str, seed: int, value: float) -> dict[str, Any]:
        one = {"accuracy": {"value": value}}
        return {
            "cell": asdict(Cell("noto->twemoji", 100, 0.3, arm, seed)),
            "metric": "accuracy",
            "dense": one,
            "pruned": one,
            "baseline": {"accuracy": {"value": 0.25}},
            "data": {"test": 637},
            "transfer": None,
        }

    page = markdown([line("none", 0, 0.4), line("none", 1, 0.5), line("teacher", 0, 0.45), line("teacher", 1, 0.55)])
    assert "| teacher | 2 | 50.0 | 50.0 ± 63.5 | +5.0 ± 0.0 |" in page
    assert "accuracy on 637 rows; commonest 25.0." in page
    assert "- noto->twemoji, 100 rows, 30 % of the multiply-accumulates, auto, seed 0" in page


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2"])
def test_torch_pruning_ranks_all_units(family: str) -> None:
    import transformers

    small = {"resnet": {"hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "basic", "embedding_size": 16}}
    row = family_of({"model_type": family})
    config = getattr(transformers, row.task_class).config_class(num_labels=3, **small.get(family, {}))
    body = getattr(transformers, row.task_class)(config).eval()
    network = ChannelNetwork(body, row, graph_of(body, 64), 64, 8)
    fitter = Fitter.counted(network.costs(64), Budget(macs=0.5))
    assert fitter.cost.of(fitter(group_magnitude(network, fitter, [], 0))) <= fitter.limit
