"""The network that is trained and pruned, whatever it is: a pre-trained body, and a head for each task.

A domain's own class says what of it are units, how they are gated, and how they are cut.
"""

from __future__ import annotations

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from core.domains.anatomy import Anatomy
from core.domains.cost import Costs
from core.domains.gates import Gates
from core.domains.structure import Structure
from core.spec.errors import SpecError
from core.spec.job import Precision

TARGET = "target"


class Network(nn.Module, ABC):
    """A body that gives features where the plain model gives logits, and the heads `target` and of other sources."""

    gives_vectors = False  # whose heads are the model's own, and never fresh

    def __init__(self, body: Any, head: str, anatomy: Anatomy) -> None:
        """`head`: the attribute of `body` that is its head; `anatomy`: of the model as it was given."""
        super().__init__()
        self.head_name, self.anatomy = head, anatomy
        heads = nn.ModuleDict({TARGET: getattr(body, head)})
        setattr(body, head, nn.Identity())
        self.body, self.heads = body, heads

    def forward(self, **inputs: Tensor) -> Tensor:
        """Give the features that a head reads, for example (B, hidden), of words (B, T, hidden)."""
        features: Tensor = self.body(**inputs).logits
        return features

    def in_one(self) -> AbstractContextManager[None]:
        """Inside, all rows of a batch go through at once."""
        return nullcontext()

    def logits(self, inputs: Mapping[str, Tensor], head: str = TARGET) -> Tensor:
        """Give the logits of one task, (B, outputs), of words (B, T, outputs)."""
        result: Tensor = self.heads[head](self(**inputs))
        return result

    def add_head(self, name: str, classes: int) -> None:
        """Add a fresh head with `classes` outputs, built like the target's; the same, whatever was drawn before."""
        head = copy.deepcopy(self.heads[TARGET])
        _, last = last_linear(head)
        fresh = nn.Linear(last.in_features, classes, bias=last.bias is not None, device=last.weight.device)
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        with torch.no_grad():
            fresh.weight.copy_(torch.randn(fresh.weight.shape, generator=generator) * 0.02)
        if fresh.bias is not None:
            nn.init.zeros_(fresh.bias)
        self.heads[name] = ending_in(fresh, head)

    @contextmanager
    def reading(self, name: str) -> Iterator[str]:
        """Inside, have another head beside `name`, which answers with what its last Linear reads; give its name."""
        beside = f"{name}-reads"
        self.heads[beside] = ending_in(nn.Identity(), copy.deepcopy(self.heads[name]))
        try:
            yield beside
        finally:
            del self.heads[beside]

    def rescale(self, deviation: float, mean: float) -> None:
        """Multiply the target's answers by `deviation`, and move them by `mean`, from here on."""
        _, last = last_linear(self.heads[TARGET])
        with torch.no_grad():
            last.weight.mul_(deviation)
            last.bias.mul_(deviation).add_(mean)

    def drop_nothing(self) -> None:
        """Train without dropout from here on: a small student of a teacher fits too little, not too much."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(getattr(module, "drop_prob", None), float):  # whole branches: transformers' DropPath
                module.drop_prob = 0.0  # type: ignore[assignment]

    def assembled(self) -> Any:
        """Give the plain transformers model with the target's head in its place. Shares the weights."""
        body = copy.copy(self.body)
        body._modules = dict(self.body._modules)
        setattr(body, self.head_name, self.heads[TARGET])
        return body

    @property
    @abstractmethod
    def rate(self) -> float:
        """The learning rate that suits it."""

    @property
    def probe(self) -> int:
        """Rows that teach it a source's labels as far as to see whether they are related to others."""
        return 960

    @property
    def scatter(self) -> float:
        """How many times as far what transfer gives scatters over pairs of data sets as over pairs of texts."""
        return 1.0

    @property
    @abstractmethod
    def wide(self) -> bool:
        """Whether so much of it is left that bfloat16 is faster on a CPU."""

    @property
    @abstractmethod
    def here(self) -> Anatomy:
        """The blocks that the network has now."""

    def remember(self, batches: Iterable[Mapping[str, Tensor]]) -> Callable[[Structure], None]:
        """Look at the network before a cut; what is given is called once it is cut to a structure, and makes up for it.

        `batches` are what it is looked at by, if at all.
        """
        return lambda _structure: None

    @abstractmethod
    def units(self) -> Structure:
        """Give the units that the network has now, counted from 0 in each block."""

    @abstractmethod
    def norms(self) -> list[Tensor]:
        """Give the root mean square of each unit's own weights, of the units that each block has. Differentiable."""

    @property
    def stream(self) -> int:
        """How many dimensions its residual stream has; 0 where none can go."""
        return 0

    def stream_norms(self) -> Tensor:
        """Give the root mean square of all weights that read or write each of these."""
        return torch.zeros(0)

    @property
    def columns(self) -> int:
        """How many columns may go by themselves, of those that readers have of units; 0 where none may."""
        return 0

    def column_norms(self) -> Tensor:
        """Give the root mean square of the weights of each of these."""
        return torch.zeros(0)

    @abstractmethod
    def matrices(self) -> dict[str, nn.Parameter]:
        """Give every weight that single zeros may be in, by its name in the body."""

    def projections(self, dropped: Collection[int] = ()) -> dict[str, nn.Linear]:
        """Give what least squares after a cut can solve for, by name, in the order in which a row meets them."""
        return {}

    @abstractmethod
    def costs(self, length: int, spared: int = 0, precision: Precision = "float32") -> Costs:
        """Count what its units cost, for a row of that size; `spared`: parameters of embeddings that are gone.

        `precision`: of the weights in the file that will be written.
        """

    @abstractmethod
    def file_bytes(self, precision: Precision = "float32") -> int:
        """Count the bytes of the files that its weights are written to."""

    @abstractmethod
    def longest(self, wanted: int) -> int:
        """Give how large a row can be, at most `wanted`: tokens of a text, pixels of a picture's side."""

    @abstractmethod
    def gated(self, gates: Gates, present: Structure) -> AbstractContextManager[None]:
        """Run, inside, under `gates` (dense numbering); the network has the units of `present`.

        With gates of 0 and 1 it says exactly what it says once it is cut.
        """

    @abstractmethod
    def cut(self, structure: Structure, optimizer: torch.optim.AdamW | None = None) -> None:
        """Cut in place to `structure`, which counts in the network's own numbering, and the optimizer's moments."""

    @abstractmethod
    def reshape(self, structure: Structure) -> None:
        """Give it the shapes of `structure`; its weights have to be loaded afterwards."""


def require_whole(body: nn.Module, wrong: Collection[str]) -> None:
    """Raise SpecError('/model') where weights were `wrong`, missing or of another shape, or are not finite."""
    if wrong:
        raise SpecError(
            "/model", f"its weights lack, or have in another shape, what config.json asks for: {sorted(wrong)[:3]}"
        )
    if odd := [name for name, parameter in body.named_parameters() if not parameter.isfinite().all()]:
        raise SpecError("/model", f"its weights hold numbers that are not finite: {odd[:3]}")


def last_linears(head: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Find the Linear that gives the answers, and its path inside the head; of one that only pools, none."""
    return [(path, module) for path, module in head.named_modules() if isinstance(module, nn.Linear)][-1:]


def last_linear(head: nn.Module) -> tuple[str, nn.Linear]:
    """Find the Linear that gives the logits, and its path inside the head."""
    [found] = last_linears(head)
    return found


def ending_in(module: nn.Module, head: nn.Module) -> nn.Module:
    """Give the head with `module` in the place of its last Linear."""
    path, last = last_linear(head)
    for hook in last._forward_pre_hooks.values():  # which may choose what it reads
        module.register_forward_pre_hook(hook)
    if not path:
        return module
    head.set_submodule(path, module)
    return head


def root_mean_square(rows: Tensor) -> Tensor:
    """Give the root mean square of each row, (rows, columns) -> (rows,); one of zeros has a gradient of zero."""
    return rows.square().mean(1).clamp(min=1e-16).sqrt()
