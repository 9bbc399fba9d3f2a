"""`task.dimensions`: vectors are turned so that their first dimensions tell texts apart the most.

Principal directions of the texts' vectors, without centring, so that every cosine stays what it was; the direction of
their mean, which tells nothing apart, comes last (as Mu, Bhat and Viswanath, ICLR 2018, leave it out).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.domains.network import TARGET, Network
from core.pruning.reading.inputs import Encoded, Hear

LOOKED_AT = 5000  # rows of each table


def turn(network: Network, rows: Encoded, hear: Hear) -> None:
    """Turn what a network of vectors says, by the train and source rows; one whose vectors end otherwise stays."""
    train, _, _, sources = rows
    if (last := last_map(network.heads[TARGET])) is None:
        return
    parts = [part.take(range(min(LOOKED_AT, len(part)))) for part in (train, *(source.rows for source in sources))]
    said = [hear(network, part, f"turned-{i}").flatten(0, 1) for i, part in enumerate(parts)]
    turned = directions(torch.cat(said)).to(last.weight)
    with torch.no_grad():
        last.weight.copy_(turned @ last.weight)
        if last.bias is not None:
            last.bias.copy_(turned @ last.bias)


def last_map(head: nn.Module) -> nn.Linear | None:
    """The Dense layer that vectors end with, normalised or not; None if there is none, or something else follows."""
    layers = [module for name, module in head.named_children() if name != "unit"]
    match layers[-2:]:
        case [nn.Linear() as linear, nn.Identity()]:
            return linear
    return None


def directions(vectors: Tensor) -> Tensor:
    """Orthogonal directions (D, D), a row each, of vectors (M, D): of the largest second moment first."""
    vectors = vectors.double().cpu()
    mean = F.normalize(vectors.mean(0), dim=0)
    rest = vectors - (vectors @ mean).unsqueeze(1) * mean
    found: Tensor = torch.linalg.eigh(rest.T @ rest)[1]
    return found.flip(1).T
