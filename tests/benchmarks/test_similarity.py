"""benchmarks.similarity: what is to be run can be run."""

from __future__ import annotations

from benchmarks.similarity.cells import PEERS, order, spec_of


def test_every_cell_of_our_own_is_a_job_that_the_api_would_take() -> None:
    cells = [cell for block in order().values() for cell in block if cell.arm not in PEERS]
    assert {cell.arm for cell in cells} > {"ours", "ours, shorter vectors"}
    for cell in cells:
        spec = spec_of(cell, "model")
        assert spec.task.dimensions == ([64, 128] if cell.arm == "ours, shorter vectors" else [])
