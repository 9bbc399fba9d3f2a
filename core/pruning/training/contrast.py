"""Teach a sentence encoder by pairs first: rows of one class are drawn together, all others apart; then fit a head.

From SetFit (Tunstall et al., 2022, arXiv 2209.11055), whose pairs are drawn one by one; here they are all pairs of a
batch. Training a fresh head and the encoder at once would lose what its vectors know (Kumar et al., 2022, arXiv
2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.domains.network import Network, last_linear
from core.pruning.system import parallel
from core.pruning.training.batches import Rows
from core.pruning.training.coupling import Phase, Stream
from core.pruning.training.losses import features_of
from core.pruning.training.predict import autocast, predict

STRENGTH = 10.0  # of the regression: of a row's loss against half the square of the weights, of features of length 1
FITTED = 10_000  # rows that it looks at, at most
FEW = 32  # fewer rows do not say what the length of a vector means


def by_pairs(plan: Sequence[Phase]) -> list[Phase]:
    """The plan of `teach` whose last phase, which is on the target alone, is half by pairs, half by labels."""
    *before, last = plan
    half = last.part / 2
    return [*before, replace(last, part=half, pairs=True), replace(last, part=half, fitted=True)]


def pair_loss(network: Network, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> Tensor:
    """Mean square of 1 less the cosine of pairs of one class, and of the cosine of all others.

    Both means count alike, however many pairs a batch has of either.
    """
    [stream], [index] = streams, drawn
    with autocast(network):
        [(features, _)] = features_of(network, streams, drawn)
    if features.ndim > 2:  # (B, T, F) where the head pools by itself, by the first token, or the mean in its place
        features = features[:, 0]
    labels = stream.rows.labels[index].to(features.device)
    unit = F.normalize(features.float(), dim=1)
    first, second = torch.triu_indices(len(index), len(index), 1, device=features.device)
    cosine, alike = (unit @ unit.T)[first, second], labels[first] == labels[second]
    parts = [(cosine[alike] - 1).square(), cosine[~alike].square()]
    return torch.stack([part.mean() if len(part) else part.sum() for part in parts]).sum()


def fit_head(network: Network, stream: Stream, alive: Callable[[], None] = lambda: None) -> None:
    """Set the last Linear of the stream's head by regression on what it reads, with an L2 penalty.

    `alive` is called after each batch that is read.
    """
    rows = stream.rows.take(range(0, len(stream.rows), -(-len(stream.rows) // FITTED)))
    _, last = last_linear(network.heads[stream.head])
    biased = last.bias is not None

    def fitted() -> tuple[Tensor, Tensor]:
        with network.reading(stream.head) as reading:
            return regression(predict(network, rows, reading, alive=alive), rows, biased)

    weight, bias = parallel.agree(fitted)
    with torch.no_grad():
        last.weight.copy_(weight)
        if biased:
            last.bias.copy_(bias)


def regression(features: Tensor, rows: Rows, biased: bool = True) -> tuple[Tensor, Tensor]:
    """Weights, (C, F), and biases, (C,), 0 unless `biased`, that answer rows from their `features`, (N, F), by L-BFGS.

    Fewer than FEW rows are looked at at one length, their mean: which class the long ones are of may be chance.
    """
    if len(features) < FEW:
        lengths = features.norm(dim=1, keepdim=True).clamp(min=1e-6)
        features = features * (lengths.mean() / lengths)
    middle = features.mean(0) if biased else torch.zeros_like(features[0])
    scale = (features - middle).square().sum(1).mean().sqrt().clamp(min=1e-6)
    features, classes = (features - middle) / scale, len(rows.task.labels)
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=biased)
    solver = torch.optim.LBFGS([weight, bias] if biased else [weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        found = len(rows) * rows.task.loss(features @ weight.T + bias, rows.labels)
        found = found + weight.square().sum() / (2 * STRENGTH)
        found.backward()  # type: ignore[no-untyped-call]
        return found

    solver.step(loss)  # type: ignore[no-untyped-call]
    weight = weight.detach() / scale
    return weight, bias.detach() - weight @ middle
