"""First dimensions that serve alone: vectors are turned, and stay as far from each other as they were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.pruning.reading.rotation import directions, last_map


def drawn(rows: int, width: int) -> Tensor:
    """Vectors that lie about a common direction, and vary along few others."""
    generator = torch.Generator().manual_seed(0)
    along = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    spread = torch.tensor([0.05] * (width - 3) + [1.0, 2.0, 0.0])
    return torch.randn(rows, width, generator=generator) * spread @ along.T + 5 * along[:, -1]


def test_turned_vectors_have_the_same_cosines_and_tell_most_by_their_first_dimensions() -> None:
    vectors = drawn(200, 8)
    found = directions(vectors)
    torch.testing.assert_close(found @ found.T, torch.eye(8, dtype=torch.double))
    turned = vectors.double() @ found.T
    torch.testing.assert_close(turned @ turned.T, (vectors @ vectors.T).double(), rtol=1e-4, atol=1e-3)
    spread = turned.std(0)
    assert (spread[:-1].diff() <= 1e-9).all() and spread[:2].tolist() > [1.8, 0.9] and spread[2] < 0.1
    assert turned[:, -1].mean().abs() > 4 and turned[:, :-1].mean(0).abs().max() < 1e-6  # the common one is the last


def test_of_fewer_vectors_than_dimensions_there_are_directions_for_all() -> None:
    found = directions(drawn(3, 8))
    torch.testing.assert_close(found @ found.T, torch.eye(8, dtype=torch.double))


def test_only_a_linear_end_can_be_turned() -> None:
    linear = nn.Linear(4, 4)
    ends = nn.Sequential()
    ends.add_module("dense0", linear)
    ends.add_module("activation0", nn.Identity())
    ends.add_module("unit", nn.Identity())
    assert last_map(ends) is linear
    ends.activation0 = nn.Tanh()
    assert last_map(ends) is None and last_map(nn.Sequential()) is None
