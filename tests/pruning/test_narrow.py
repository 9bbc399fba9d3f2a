"""Fewer hidden dimensions: budgets that units alone cannot reach are met, and the file is what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given

from core.domains.cost import Cost
from core.domains.fit import SLACK
from core.domains.transformer.costs import Costs, hidden_sizes
from core.domains.transformer.fit_hidden import _tried, fit_narrow
from core.domains.transformer.magnitude import stream_norms
from core.domains.transformer.network import TransformerNetwork
from core.pruning.methods.random import at_random
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.importance import importance
from core.pruning.scoring.magnitude import magnitude
from core.pruning.training.coupling import Phase
from core.spec.budget import Budget
from core.spec.errors import SpecError
from tests.builders import MINILM, bert_costs, scores_of
from tests.draws import draws
from tests.pruning.conftest import costs_of
from tests.tiny import SOURCE, TARGET, done, rows, save_table, spec_of, stream

COSTS = bert_costs(replace(MINILM, neurons=600))


@draws(12)
@example(kind="params", place=0.03125, seed=0)  # no size of the ladder uses the limit to 1 %
@given(
    kind=st.sampled_from(["params", "macs", "bytes"]),
    place=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_budget_of_the_whole_model_is_met_wherever_it_is_in_reach(kind: str, place: float, seed: int) -> None:
    costs, rng = COSTS, np.random.default_rng(seed)
    a, dense = costs.architecture, getattr(costs, kind)
    small: Cost = getattr(costs.smallest("trim"), kind)
    lowest, highest = small.smallest + small.outside, dense.dense + dense.outside
    asked = int(lowest + (0.02 + 0.98 * place) * (highest - lowest))
    scores = scores_of(rng.random((a.layers, a.heads)), rng.random((a.layers, a.neurons)), rng.random(a.hidden))
    _, limit = costs.limit(Budget.model_validate({kind: asked, "of": "model"}), hidden_size="trim")
    structure = fit_narrow(scores, costs, kind, True, limit)
    met = getattr(costs.of(structure), kind).model(structure)
    assert (1 - SLACK) * asked <= met <= asked
    assert structure == fit_narrow(scores, costs, kind, True, limit)
    if structure.hidden is not None:
        kept = scores.hidden
        assert kept is not None
        ladder, order = hidden_sizes(a.hidden), np.argsort(-kept, kind="stable")
        steps = _tried(scores, order, ladder, costs, kind, True, limit)
        assert len(structure.hidden) in ladder or all(left > SLACK for left, _, _ in steps)
        assert min(kept[list(structure.hidden)]) >= max(np.delete(kept, structure.hidden))


def test_a_vocabulary_of_many_languages_leaves_no_gap() -> None:
    """Between steps of 32 dimensions whose embeddings alone cost more than all units that the next step has."""
    shapes = COSTS.shapes | {"bert.embeddings.word_embeddings.weight": (250_000, 384)}
    costs = Costs.from_shapes(COSTS.architecture, shapes, length=128)
    below, above = (costs.at(hidden).params for hidden in (32, 64))
    asked = (below.dense + below.outside + above.smallest + above.outside) // 2
    _, limit = costs.limit(Budget.model_validate({"params": asked, "of": "model"}), hidden_size="trim")
    structure = fit_narrow(scores_of(np.ones((6, 12)), np.ones((6, 600)), np.ones(384)), costs, "params", True, limit)
    assert structure.hidden is not None and 32 < len(structure.hidden) < 64
    assert 0.99 * asked <= costs.of(structure).params.model(structure) <= asked


def test_a_budget_of_the_encoder_is_of_the_whole_encoder() -> None:
    costs, rng = COSTS, np.random.default_rng(0)
    _, limit = costs.limit(Budget(params=0.1), hidden_size="trim")
    scores = scores_of(rng.random((6, 12)), rng.random((6, 600)), rng.random(384))
    structure = fit_narrow(scores, costs, "params", False, limit)
    met = costs.of(structure).params.of(structure)
    assert limit == int(0.1 * costs.params.dense) and 0.99 * limit <= met <= limit


def test_dimensions_go_where_they_are_worth_less_than_what_they_make_room_for() -> None:
    _, limit = COSTS.limit(Budget.model_validate({"params": 0.3, "of": "model"}), hidden_size="trim")
    few_neurons, few_dimensions = np.full((6, 600), 1e-9), np.full(384, 1e-9)
    few_neurons[:, :20] = few_dimensions[:128] = 1.0
    sizes = []
    for neurons, hidden in ((np.ones((6, 600)), few_dimensions), (few_neurons, np.ones(384))):
        found = fit_narrow(scores_of(np.full((6, 12), 1e-9), neurons, hidden), COSTS, "params", True, limit)
        sizes.append(len(found.hidden or range(384)))
    assert sizes == [128, 160]


def test_out_of_reach_names_the_range_with_fewer_dimensions() -> None:
    costs = COSTS
    with pytest.raises(SpecError, match=r'with "hidden_size": "trim" .* it can have ([\d,]+)') as caught:
        costs.limit(Budget.model_validate({"params": 0.3, "of": "model"}))
    lowest = int(str(caught.value).rsplit(" ", 1)[1].replace(",", ""))
    costs.limit(Budget.model_validate({"params": lowest, "of": "model"}), hidden_size="trim")
    with pytest.raises(SpecError, match=rf"out of reach: this model can have {lowest:,} to [\d,]+ parameters \(.*\)"):
        costs.limit(Budget.model_validate({"params": lowest - 1, "of": "model"}), hidden_size="trim")


def test_units_score_as_they_do_alone_and_dimensions_by_the_slope_of_their_gate(
    network: TransformerNetwork, tiny: Path
) -> None:
    cost, plan = costs_of(network).params, [Phase((stream(tiny, 1, seed=0),))]
    alone = importance(network, Fitter(cost, 0), plan, 0, batches=1)
    both = importance(network, Fitter(cost, 0, hidden=True), plan, 0, batches=1)
    np.testing.assert_allclose(both.units, alone.units, rtol=1e-3, atol=1e-12)
    assert both.hidden is not None and both.hidden.shape == (64,) and (both.hidden > 0).all()
    with torch.no_grad():  # a dimension that is 0 everywhere, and that nothing reads, moves the statistics alone
        for name, parameter in network.named_parameters():
            if parameter.shape[-1:] == (64,) and "pooler.dense.bias" not in name:
                parameter[..., 7] = 0.0
    again = importance(network, Fitter(cost, 0, hidden=True), plan, 0, batches=1)
    assert again.hidden is not None and again.hidden[7] < 0.1 * np.median(again.hidden)


def test_controls_rank_dimensions_too(network: TransformerNetwork) -> None:
    fitter = Fitter(costs_of(network).params, 0)
    trim = replace(fitter, hidden=True)
    found = magnitude(network, trim).hidden
    assert found is not None
    assert found.argsort().tolist() == stream_norms(network).argsort(stable=True).tolist()
    drawn = at_random(network, trim, [], 3)
    assert drawn.hidden is not None and sorted(set(drawn.hidden)) == sorted(drawn.hidden)
    np.testing.assert_array_equal(drawn.units, at_random(network, fitter, [], 3).units)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Rows of the target, which are the source's, too."""
    return {TARGET: save_table(tmp_path_factory.mktemp("rows") / "rows.parquet", rows(120))}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"export": {"formats": ["onnx"]}, "vocabulary": "trim"},
        {"method": {"name": "magnitude"}, "train": {"steps": {"teach": 4, "recover": 0}}},
    ],
    ids=["recovered", "refitted"],
)
def test_a_whole_job(tiny: Path, table: Mapping[str, Path], tmp_path: Path, changes: dict[str, Any]) -> None:
    """Of so few bytes that heads and neurons alone cannot reach them."""
    if "vocabulary" not in changes:
        with pytest.raises(SpecError, match="out of reach"):
            done(spec_of(**changes, budget={"bytes": 0.05}), tiny, table, tmp_path / "no")
    spec = spec_of(**changes, budget={"bytes": 0.15}, hidden_size="trim")
    report = done(spec, tiny, table, tmp_path / "w")
    budget, kept = report.budget, report.structure.hidden
    assert kept in hidden_sizes(64) and kept < 64
    assert 0.9 * budget.limit <= budget.met <= budget.limit == int(0.15 * budget.dense)
    assert budget.met == (tmp_path / "w/output/model.safetensors").stat().st_size
    assert report.verified.max_difference_between_loaders < 1e-5
    assert (report.verified.max_difference_onnx or 0) < 1e-4
    card = (tmp_path / "w/output/README.md").read_text()
    assert f", with a hidden size of {kept}" in card
    assert f"{kept} of 64 hidden dimensions" in (tmp_path / "w/output/report.html").read_text()


def test_trials_cut_as_the_job_does(tiny: Path, table: Mapping[str, Path], tmp_path: Path) -> None:
    other = save_table(tmp_path / "other.parquet", rows(200, seed=5))
    spec = spec_of(
        sources=[{"data": {"dataset": SOURCE}}],
        budget={"params": 0.15, "of": "model"},
        hidden_size="trim",
        train={"steps": {"teach": 60, "recover": 120}, "batch_size": 8},
    )
    report = done(spec, tiny, {**table, SOURCE: other}, tmp_path / "w")
    assert report.transfer.auto.trials
    assert 0.99 * report.budget.limit <= report.budget.met <= report.budget.limit
    assert report.structure.hidden < 64
