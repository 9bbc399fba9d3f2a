"""Zeros: exact in number, in the pattern asked for, never moved again; the gradient runs through the masks."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.nn.utils import prune as torch_prune

from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import matrices
from core.pruning.masking import sparsity as module
from core.pruning.masking.sparsity import (
    Weights,
    as_matrix,
    as_weight,
    hold,
    kept,
    mask,
    masked,
    pdp,
    require_rest,
    semi_structured,
    targets,
)
from core.pruning.training import weighting
from core.pruning.training.coupling import Phase
from core.pruning.training.train import Training, dev_scores, train
from core.pruning.training.weighting import gate_gradient
from core.spec.budget import GROUPS, Budget, Pattern
from core.spec.errors import SpecError
from tests.draws import draws
from tests.pruning.conftest import costs_of
from tests.tiny import stream

PATTERNS: list[tuple[Pattern, float]] = [("unstructured", 0.9), ("2:4", 0.5), ("1:4", 0.75), ("channel", 0.4)]


def zeros(network: TransformerNetwork) -> int:
    """In the encoder's matrices."""
    return sum(int((weight == 0).sum()) for weight in matrices(network).values())


def follows(network: TransformerNetwork, pattern: Pattern) -> bool:
    """Whether every group (or row) has the zeros that the pattern says."""
    for weight in matrices(network).values():
        if pattern in GROUPS:
            stay, size = GROUPS[pattern]
            if not ((weight.reshape(-1, size) != 0).sum(1) == stay).all():
                return False
        elif pattern == "channel" and not ((weight == 0).all(1) | (weight != 0).all(1)).all():
            return False
    return True


@pytest.mark.parametrize(("pattern", "sparsity"), PATTERNS)
def test_the_number_of_zeros_is_exact_and_they_stay_zero(
    pattern: Pattern, sparsity: float, network: TransformerNetwork, tiny: Path
) -> None:
    plan, dev = [Phase((stream(tiny, 16, seed=0),))], stream(tiny, 20, seed=5).rows
    total = costs_of(network).matrices
    before = {name: weight.detach().clone() for name, weight in matrices(network).items()}
    assert total == sum(weight.numel() for weight in before.values())
    history = pdp(network, sparsity, pattern, plan, dev, Training(10, 1e-3, seed=0))
    count = zeros(network)
    if pattern == "channel":
        assert 0 <= count - round(sparsity * total) < 128  # a row at most
    else:
        assert count == round(sparsity * total)
    assert follows(network, pattern)
    assert dev_scores(network, dev)["loss"] == history.points[-1]["loss"]  # what is left is what was looked at

    alive = {name: weight != 0 for name, weight in matrices(network).items()}
    hold(network)
    train(network, plan, dev, Training(3, 1e-3, seed=0), stage="recover", metric="accuracy")
    after = matrices(network)
    assert all(torch.equal(alive[name], weight != 0) for name, weight in after.items())
    assert all((weight != before[name])[alive[name]].any() for name, weight in after.items())


def test_learned_weights_are_of_the_network_under_its_masks(
    network: TransformerNetwork, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: list[float] = []

    def gradient(network: TransformerNetwork, *given: Any) -> torch.Tensor:
        flat = torch.cat([weight.flatten() for weight in matrices(network).values()])
        small.append(float((flat.abs() < 1e-3).float().mean()))
        return gate_gradient(network, *given)

    monkeypatch.setattr(weighting, "gate_gradient", gradient)
    one, two, dev = (stream(tiny, 16, seed) for seed in range(3))
    training = Training(20, 1e-3, seed=0, learned_weights=True)
    pdp(network, 0.9, "unstructured", [Phase((one, two))], dev.rows, training)
    open_, masked_ = small[0], small[3 * 14]  # the ramp is over at 12 of 20 steps, the cut comes at 16
    assert open_ < 0.3 and masked_ > 0.7


def test_the_gradient_through_masks_is_autograds_in_double_precision() -> None:
    """Of sum(c m(w) w): c times m + (2 w^2 / tau) m (1 - m), thresholds held fixed."""
    generator = torch.Generator().manual_seed(0)
    for pattern, lost in (("unstructured", 90), ("2:4", 2)):
        weight = torch.nn.Parameter(torch.randn(8, 16, dtype=torch.float64, generator=generator) * 0.02)
        c = torch.randn(8, 16, dtype=torch.float64, generator=generator)
        before = weight.detach().clone()
        m = mask(before, lost, pattern)  # type: ignore[arg-type]
        with masked({"w": weight}, {"w": lost}, pattern, 1.0):  # type: ignore[arg-type]
            torch.testing.assert_close(weight.detach(), m * before)
            (c * weight).sum().backward()  # type: ignore[no-untyped-call]
        assert torch.equal(weight.detach(), before)
        torch.testing.assert_close(
            weight.grad, c * (m + 2 * before.square() / module.TAU * m * (1 - m)), rtol=1e-10, atol=1e-12
        )
        assert ((m > 0.05) & (m < 0.95)).any()


@draws(40)
@given(seed=st.integers(0, 10_000), pattern=st.sampled_from([p for p, _ in PATTERNS]), ties=st.booleans())
def test_hard_masks_drop_the_smallest_and_soft_ones_agree(seed: int, pattern: Pattern, ties: bool) -> None:
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed))
    if ties:
        weight = weight.round()
    lost = {"unstructured": 30, "2:4": 2, "1:4": 3, "channel": 2}[pattern]
    keep = kept(weight, lost, pattern)
    assert int((~keep).sum()) == {"unstructured": 30, "2:4": 24, "1:4": 36, "channel": 16}[pattern]
    if not ties:
        assert torch.equal(mask(weight, lost, pattern) > 0.5, keep)


@pytest.mark.parametrize("pattern", [p for p, _ in PATTERNS])
def test_a_convolution_loses_what_its_matrix_does(pattern: Pattern) -> None:
    weight = torch.randn(6, 8, 3, 2, generator=torch.Generator().manual_seed(0))
    flat = weight.permute(0, 2, 3, 1).reshape(6, 48)
    assert torch.equal(as_matrix(weight), flat) and torch.equal(as_weight(flat, weight), weight)
    lost = {"unstructured": 30, "2:4": 2, "1:4": 3, "channel": 2}[pattern]
    for of in (kept, mask):
        assert torch.equal(as_matrix(of(weight, lost, pattern)), of(flat, lost, pattern))


def test_nothing_is_masked_at_the_start(network: TransformerNetwork) -> None:
    before = {name: weight.detach().clone() for name, weight in matrices(network).items()}
    with Weights(network, 0.5, "2:4").under_masks(0.0):
        assert all(torch.equal(weight, before[name]) for name, weight in matrices(network).items())


def test_magnitude_zeroes_what_torchs_global_pruning_does(network: TransformerNetwork) -> None:
    other = copy.deepcopy(network)
    module.magnitude(network, 0.7, "unstructured")
    parts: list[Any] = [(other.body.get_submodule(name.removesuffix(".weight")), "weight") for name in matrices(other)]
    torch_prune.global_unstructured(parts, torch_prune.L1Unstructured, amount=0.7)
    for weight, (linear, _) in zip(matrices(network).values(), parts, strict=True):
        assert torch.equal(weight, linear.weight)


def test_one_sort_of_all_spares_the_matrix_with_the_larger_weights(network: TransformerNetwork) -> None:
    weights = matrices(network)
    first, *_ = weights
    with torch.no_grad():
        weights[first].mul_(100)
    lost = targets(weights, 0.5, "unstructured")
    assert lost[first] < 0.05 * weights[first].numel()
    assert sum(lost.values()) == round(0.5 * sum(weight.numel() for weight in weights.values()))


def test_a_model_whose_rows_groups_do_not_fill_is_refused(network: TransformerNetwork) -> None:
    costs = costs_of(network)
    costs.limit(Budget(sparsity=0.5, pattern="2:4"))
    odd = replace(costs, architecture=replace(network.architecture, neurons=130))
    with pytest.raises(SpecError, match="rows of 130") as caught:
        odd.limit(Budget(sparsity=0.5, pattern="2:4"))
    assert caught.value.field == "/budget/pattern"
    odd.limit(Budget(sparsity=0.9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="2:4 kernels are of GPUs")
def test_sparse_tensor_cores_say_the_same() -> None:
    """MiniLM's shapes: the kernels want multiples of 32 and 64."""
    dense = torch.nn.Sequential(torch.nn.Linear(384, 1536), torch.nn.Linear(1536, 384)).cuda().half()
    for linear in (dense[0], dense[1]):
        with torch.no_grad():
            linear.weight.mul_(kept(linear.weight, 2, "2:4"))
    x = torch.randn(64, 384, device="cuda", dtype=torch.half)
    sparse = semi_structured(copy.deepcopy(dense), ["0.weight", "1.weight"])
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-2, atol=1e-2)


def test_no_matrix_loses_all_of_its_rows() -> None:
    """As one would whose weights are small, since a norm follows it."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: scale * torch.randn(8, 16, generator=generator) for name, scale in (("small", 1e-3), ("large", 1))}
    half, nearly = (targets(weights, sparsity, "channel") for sparsity in (0.5, 14 / 16))
    assert sum(half.values()) == 8 and min(half.values()) > 1
    assert nearly == {"small": 7, "large": 7}


@pytest.mark.parametrize(("pattern", "rest"), [("unstructured", 1), ("channel", 16 + 32)])
def test_something_has_to_stay(pattern: Pattern, rest: int) -> None:
    weights = {"one": torch.ones(8, 16), "other": torch.ones(4, 32)}
    require_rest(weights, 1 - rest / 256, pattern)
    with pytest.raises(SpecError, match="nothing of the encoder would stay") as caught:
        require_rest(weights, 1 - (rest - 1) / 256, pattern)
    assert caught.value.field == "/budget/sparsity"
