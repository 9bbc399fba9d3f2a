"""Sparsity: single weights at zero, in a model that keeps its shapes. Anything that loads the dense model loads it.

`pdp` as its paper has it (Cho, Adya, Naik, NeurIPS 2023): one sort of all weights of the taught model says how many
each matrix loses; while that number rises, m(w) = sigmoid((w^2 - t^2) / TAU) multiplies each weight, and the gradient
runs through it; then the masks are hard. N of M: the threshold of each group of M keeps N. Channels: the same rule for
the norms of a matrix's rows, over the matrix's mean. `magnitude` takes the smallest at once. A convolution's matrix
has a row for each output channel, and goes along the input channels of each place in its kernel.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from core.domains.network import Network, root_mean_square
from core.pruning.latency.passes import SEQUENCE_LENGTH, latencies_ms
from core.pruning.masking.pdp import follow, soft_mask
from core.pruning.system.device import device
from core.pruning.training.batches import Rows
from core.pruning.training.checkpoint import State, restore
from core.pruning.training.coupling import Phase, Stream
from core.pruning.training.losses import batch_loss
from core.pruning.training.train import History, Training
from core.rows.modality import Blank
from core.spec.budget import GROUPS, Pattern
from core.spec.errors import SpecError
from core.spec.report import Zeros

TAU = 1e-4  # as published


def weights_of(network: Network, pattern: Pattern) -> dict[str, nn.Parameter]:
    """What the pattern is asked of, by name: of N:M, where input channels fill groups of M (not a depthwise one).

    Raises SpecError('/budget/pattern') where there is nothing.
    """
    _, size = GROUPS.get(pattern, (1, 1))
    found = {name: weight for name, weight in network.matrices().items() if weight.shape[1] % size == 0}
    if not found:
        raise SpecError("/budget/pattern", f"this model has no weights whose input channels fill groups of {size}")
    return found


def as_matrix(weight: Tensor) -> Tensor:
    """(rows, columns) of a linear layer's weight, (out, in), or a convolution's, (out, in, *kernel)."""
    return weight.movedim(1, -1).flatten(1)


def as_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """Undo `as_matrix`, in the shape of `weight`."""
    out, columns, *kernel = weight.shape
    return matrix.reshape(out, *kernel, columns).movedim(-1, 1)


def targets(weights: Mapping[str, Tensor], sparsity: float, pattern: Pattern) -> dict[str, int]:
    """How many weights each matrix loses (rows, for channels), from one sort over all; in sum exact to a weight or row.

    Rows are compared over the mean of their matrix, whose scale norms take out, and one of each stays: a layer without
    any would let nothing through. Of N:M patterns, how many each group loses.
    """
    if pattern in GROUPS:
        kept, group = GROUPS[pattern]
        return dict.fromkeys(weights, group - kept)
    sizes = {name: measured(weight.detach(), pattern) for name, weight in weights.items()}
    if pattern == "channel":
        for name, size in sizes.items():
            sizes[name] = size / size.mean().clamp_min(torch.finfo(size.dtype).tiny)
            sizes[name][size.argmax()] = torch.inf
    every = torch.cat([size.flatten().cpu() for size in sizes.values()])
    counts = torch.tensor([size.numel() for size in sizes.values()])
    owner = torch.arange(len(sizes), dtype=torch.int16).repeat_interleave(counts)
    price = torch.tensor([weight.numel() for weight in weights.values()]) // counts
    order = owner[every.argsort(stable=True)].int()
    reached = price.int()[order].cumsum(0) >= wanted_zeros(weights, sparsity)
    lost = torch.bincount(order[: int(reached.int().argmax()) + 1], minlength=len(sizes)).tolist()
    return dict(zip(weights, lost, strict=True))


def require_rest(weights: Mapping[str, Tensor], sparsity: float, pattern: Pattern) -> None:
    """Raises SpecError('/budget/sparsity') where not one weight, or one row of each matrix, would stay."""
    least = sum(weight[0].numel() for weight in weights.values()) if pattern == "channel" else 1
    if sum(weight.numel() for weight in weights.values()) - wanted_zeros(weights, sparsity) < least:
        raise SpecError("/budget/sparsity", "nothing of the encoder would stay; ask for less")


def wanted_zeros(weights: Mapping[str, Tensor], sparsity: float) -> int:
    """How many weights that asks for: one at least."""
    return max(1, round(sparsity * sum(weight.numel() for weight in weights.values())))


def measured(weight: Tensor, pattern: Pattern) -> Tensor:
    """What is compared: weights by size, or the root mean squares of rows, (rows, 1)."""
    return root_mean_square(as_matrix(weight)).unsqueeze(1) if pattern == "channel" else as_matrix(weight).abs()


def mask(weight: Tensor, lost: int, pattern: Pattern, share: float = 1.0) -> Tensor:
    """The soft mask of a weight that is to lose `lost` (see `targets`), at this share of the way; gradient attached.

    N:M has no half way, so that its mask fades in.
    """
    if pattern not in GROUPS:
        soft = soft_mask(measured(weight, pattern), round(share * lost), TAU)
        return as_weight(soft.expand_as(as_matrix(weight)), weight)
    groups = as_matrix(weight).reshape(len(weight), -1, GROUPS[pattern][1])
    ordered = groups.detach().abs().sort(-1).values
    threshold = (ordered[..., lost - 1] + ordered[..., lost]).unsqueeze(-1) / 2
    soft = torch.sigmoid((groups.square() - threshold.square()) / TAU).flatten(1)
    return as_weight(1 - share + share * soft, weight)


def kept(weight: Tensor, lost: int, pattern: Pattern) -> Tensor:
    """The hard mask: True for what stays. Exact in number, also where sizes are equal."""
    if pattern in GROUPS:
        groups = as_matrix(weight.detach()).reshape(len(weight), -1, GROUPS[pattern][1]).abs()
        keep = torch.ones_like(groups, dtype=torch.bool).scatter_(-1, groups.argsort(-1)[..., :lost], False)
        return as_weight(keep.flatten(1), weight)
    sizes = measured(weight.detach(), pattern)
    keep = torch.ones(sizes.numel(), dtype=torch.bool, device=weight.device)
    keep[sizes.flatten().argsort(stable=True)[:lost]] = False
    return as_weight(keep.view_as(sizes).expand_as(as_matrix(weight)), weight)


@contextmanager
def masked(
    weights: Mapping[str, nn.Parameter], lost: Mapping[str, int], pattern: Pattern, share: float
) -> Iterator[None]:
    """Inside, every weight is m(w) w; afterwards it is w again, and its gradient has gone through the mask."""
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    products = {name: mask(leaf, lost[name], pattern, share) * leaf for name, leaf in leaves.items()}
    for name, weight in weights.items():
        weight.data = products[name].detach()
    try:
        yield
    finally:
        for name, weight in weights.items():
            weight.data = leaves[name].detach()
            if weight.grad is not None:
                (weight.grad,) = torch.autograd.grad(products[name], leaves[name], weight.grad)


def zero(network: Network, lost: Mapping[str, int], pattern: Pattern) -> None:
    """Set the smallest to zero."""
    with torch.no_grad():
        for name, weight in weights_of(network, pattern).items():
            weight.mul_(kept(weight, lost[name], pattern))


def hold(network: Network, optimizer: torch.optim.Optimizer | None = None) -> None:
    """From here on no step moves a weight that is zero; `optimizer` forgets what it has of them."""
    for weight in network.matrices().values():
        alive = weight.detach() != 0
        weight.register_hook(partial(torch.mul, alive))  # type: ignore[no-untyped-call]
        for moment in (optimizer.state[weight] if optimizer else {}).values():
            if moment.shape == weight.shape:
                moment.mul_(alive)


class Weights:
    """A `Course` that zeroes single weights."""

    def __init__(self, network: Network, sparsity: float, pattern: Pattern) -> None:
        self.network, self.goal, self.pattern, self.hard = network, sparsity, pattern, False
        self.weights = weights_of(network, pattern)
        self.lost = targets(self.weights, sparsity, pattern)

    def backward(self, streams: Sequence[Stream], index: Sequence[Sequence[int]], share: float) -> None:
        """The gradient runs through the masks."""
        with self.under_masks(share):
            batch_loss(self.network, streams, index).backward()  # type: ignore[no-untyped-call]

    def under_masks(self, share: float) -> AbstractContextManager[None]:
        """Nothing is masked at the start, nor at the end, where zeros are zeros."""
        on = share and not self.hard
        return masked(self.weights, self.lost, self.pattern, share) if on else nullcontext()

    def thin(self, share: float, optimizer: torch.optim.AdamW) -> None:
        """Shapes stay."""

    def borrow(self, streams: Sequence[Stream]) -> None:
        """The weights that sources leave are where the target starts."""

    def harden(self, optimizer: torch.optim.AdamW) -> None:
        """Zero the smallest, and hold them there."""
        zero(self.network, self.lost, self.pattern)
        hold(self.network, optimizer)
        self.hard = True

    def state(self) -> State:
        """What `resume` needs beside the weights."""
        return {"hard": self.hard}

    def resume(self, state: State, weights: Mapping[str, Tensor]) -> None:
        """Be as far as when this was the `state`."""
        restore(self.network, weights)
        if state["hard"]:
            hold(self.network)
            self.hard = True


def pdp(
    network: Network, sparsity: float, pattern: Pattern, plan: Sequence[Phase], dev: Rows, training: Training
) -> History:
    """Train under soft masks, then with zeros held."""
    return follow(Weights(network.to(device()), sparsity, pattern), plan, dev, training)


def magnitude(network: Network, sparsity: float, pattern: Pattern, *_training: Any) -> History:
    """The smallest at once."""
    zero(network, targets(weights_of(network, pattern), sparsity, pattern), pattern)
    return History()


SAYS = (
    "Zeros alone make no dense kernel faster, and the file is as large as the dense one until it is compressed (by "
    "gzip: `gzip_bytes` in `report.json`)."
)
SAYS_2_4 = (
    " GPUs with sparse tensor cores (NVIDIA, from Ampere on) multiply 2:4 weights at up to twice the rate, in half "
    "precision, once torch.sparse.to_sparse_semi_structured has converted them; no other hardware gains by them."
)


def describe(network: Network, pattern: Pattern, file: Path, blank: Blank) -> Zeros:
    """For the report: how many zeros, what the weights' file takes compressed, and what zeros are good for."""
    weights = weights_of(network, pattern).values()
    with file.open("rb") as data:
        packer = zlib.compressobj(wbits=31)  # gzip
        size = sum(len(packer.compress(part)) for part in iter(partial(data.read, 2**20), b"")) + len(packer.flush())
    says, speed = (SAYS, None) if pattern != "2:4" else on_sparse_cores(network, blank)
    return Zeros(
        pattern=pattern,
        zeros=sum(int((weight == 0).sum()) for weight in weights),
        weights=sum(weight.numel() for weight in weights),
        gzip_bytes=size,
        says=says,
        gpu_latency_ms=speed,
    )


def on_sparse_cores(network: Network, blank: Blank) -> tuple[str, dict[str, dict[str, float]] | None]:
    """What zeros are good for; latency in half precision of dense and of 2:4 kernels where a GPU can run the latter."""
    says = SAYS + SAYS_2_4
    if any(weight.ndim > 2 for weight in network.matrices().values()):
        return says + " Not measured: PyTorch has no such kernels for convolutions.", None
    if not (torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)):
        return says, None
    dense = copy.deepcopy(network).assembled().half().cuda().eval()
    try:
        models = {"dense": dense, "2:4": semi_structured(copy.deepcopy(dense), list(network.matrices()))}
        length = network.longest(SEQUENCE_LENGTH)
        return says, latencies_ms(models, blank, length)
    except RuntimeError:  # the kernels want multiples of 16 or more
        return says + " Not measured: this GPU's kernels do not take these shapes.", None


def semi_structured(model: Any, names: Sequence[str]) -> Any:
    """`model`, in half precision on a GPU, with these 2:4 weights in the format of sparse tensor cores."""
    for name in names:
        module = model.get_submodule(name.removesuffix(".weight"))
        module.weight = nn.Parameter(to_sparse_semi_structured(module.weight.detach()), requires_grad=False)
    return model
