"""A transformer, as it is trained and pruned: a transformers model with one head a task."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.domains.anatomy import Anatomy
from core.domains.gates import Gates
from core.domains.structure import Structure
from core.domains.transformer.costs import Costs, files_bytes
from core.domains.transformer.cut import cut, reshape
from core.domains.transformer.embedder import in_two
from core.domains.transformer.families import Architecture
from core.domains.transformer.gates import gated
from core.domains.transformer.magnitude import norms, stream_norms
from core.domains.transformer.parts import Transformer, hidden_size, longest_text, matrices, projections, units
from core.spec.job import Precision


class TransformerNetwork(Transformer):
    """Units are heads and neurons.

    The embeddings stay as they were pre-trained: a few hundred rows teach them little, and updating them costs more
    than all else once the encoder is small (as CoFi's recipe, too, leaves them).
    """

    def __init__(self, body: Any, architecture: Architecture) -> None:
        super().__init__(body, architecture)
        family = architecture.family
        self.gives_vectors = self._in_two = family.of_vectors
        body.get_submodule(f"{family.base}.{family.embeddings}").requires_grad_(False)

    def forward(self, **inputs: Tensor) -> Tensor:
        apart = self._in_two and inputs["attention_mask"].device.type == "cpu"
        return in_two(super().forward, inputs) if apart else super().forward(**inputs)

    @contextmanager
    def in_one(self) -> Iterator[None]:
        """Inside, all rows of a batch go through at once."""
        before, self._in_two = self._in_two, False
        try:
            yield
        finally:
            self._in_two = before

    def keep_tokens(self, kept: Sequence[int]) -> None:
        """Keep the embeddings of some tokens, which are numbered anew: the place in `kept` is a token's id."""
        old = self.body.get_input_embeddings()
        config = self.body.config
        new = {before: i for i, before in enumerate(kept)}
        for name, value in config.to_dict().items():
            if name.endswith("_token_id") and isinstance(value, int):
                setattr(config, name, new.get(value))
        smaller = nn.Embedding(len(kept), old.embedding_dim, new.get(old.padding_idx), device=old.weight.device)
        smaller.weight = nn.Parameter(old.weight.detach()[list(kept)], requires_grad=old.weight.requires_grad)
        self.body.set_input_embeddings(smaller)
        config.vocab_size = len(kept)

    def drop_nothing(self) -> None:
        super().drop_nothing()
        for module in self.modules():
            if isinstance(getattr(module, "attention_dropout", None), float):  # ModernBERT's attention
                module.attention_dropout = 0.0  # type: ignore[assignment]

    @property
    def rate(self) -> float:
        """Higher for smaller hidden sizes."""
        return 0.04 / self.architecture.hidden

    @property
    def wide(self) -> bool:
        """Once most neurons are cut out, narrow and odd products gain nothing by bfloat16, and casts cost.

        Measured: benchmarks/results/overhead.md.
        """
        return 2 * sum(map(len, self.units().neurons)) > self.architecture.layers * self.architecture.neurons

    @property
    def here(self) -> Anatomy:
        return units(self).anatomy

    def units(self) -> Structure:
        return units(self)

    def norms(self) -> list[Tensor]:
        return norms(self)

    @property
    def stream(self) -> int:
        return hidden_size(self)

    def stream_norms(self) -> Tensor:
        return stream_norms(self)

    def matrices(self) -> dict[str, nn.Parameter]:
        return matrices(self)

    def projections(self, dropped: Collection[int] = ()) -> dict[str, nn.Linear]:
        return projections(self, dropped)

    def costs(self, length: int, spared: int = 0, precision: Precision = "float32") -> Costs:
        shapes = {name: tuple(p.shape) for name, p in self.assembled().named_parameters()}
        return Costs.from_shapes(self.architecture, shapes, length, spared, precision)

    def file_bytes(self, precision: Precision = "float32") -> int:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.assembled().state_dict().items()}
        return files_bytes(shapes, self.architecture.family, precision)

    def longest(self, wanted: int) -> int:
        return longest_text(self, wanted)

    def gated(self, gates: Gates, present: Structure) -> AbstractContextManager[None]:
        return gated(self, gates, present)

    def cut(self, structure: Structure, optimizer: torch.optim.AdamW | None = None) -> None:
        cut(self, structure, optimizer)

    def reshape(self, structure: Structure) -> None:
        reshape(self, structure)
