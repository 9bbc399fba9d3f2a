"""`CostModel`: what a `Structure` costs, by exact arithmetic on the shapes of the dense model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from core.spec.families import Architecture
from core.spec.job import Budget
from core.spec.problems import SpecError
from core.spec.structure import Structure


@dataclass(frozen=True)
class CostModel:
    """Parameters of each unit, of each block apart from its units, and of what pruning cannot touch."""

    architecture: Architecture
    head: int  # q, k, v rows with their biases, and columns of the output projection
    attention_block: int  # bias of the output projection
    neuron: int
    ffn_block: int
    encoder_fixed: int  # LayerNorms
    outside: int  # embeddings, pooler, classifier

    @classmethod
    def from_shapes(cls, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> CostModel:
        """From parameter name -> shape, of a torch model or of a safetensors header; raises SpecError('/model')."""
        family = architecture.family
        prefix = f"{family.base}."
        sizes = {name.removeprefix(prefix): prod(shape) for name, shape in shapes.items()}

        def size(path: str, part: str) -> int:
            return sizes.get(f"{family.layers}.0.{path}.{part}", 0)

        inner = [family.query, family.key, family.value]
        encoder = sum(n for name, n in sizes.items() if name.startswith(f"{family.layers}."))
        if not size(family.query, "weight") or encoder % architecture.layers:
            raise SpecError("/model", f"its weights do not look like a {family.model_type} of this config.json")
        head = (
            sum(size(path, part) for path in inner for part in ("weight", "bias"))
            + size(family.attention_out, "weight")
        ) // architecture.heads
        neuron = (
            size(family.ffn_in, "weight") + size(family.ffn_in, "bias") + size(family.ffn_out, "weight")
        ) // architecture.neurons
        attention_block, ffn_block = size(family.attention_out, "bias"), size(family.ffn_out, "bias")
        prunable = head * architecture.heads + attention_block + neuron * architecture.neurons + ffn_block
        return cls(
            architecture,
            head,
            attention_block,
            neuron,
            ffn_block,
            encoder_fixed=encoder - architecture.layers * prunable,
            outside=sum(sizes.values()) - encoder,
        )

    def encoder_params(self, structure: Structure) -> int:
        """Parameters of the encoder layers."""
        return (
            self.encoder_fixed
            + sum(self.head * len(row) + self.attention_block * bool(row) for row in structure.heads)
            + sum(self.neuron * len(row) + self.ffn_block * bool(row) for row in structure.neurons)
        )

    def model_params(self, structure: Structure) -> int:
        """Parameters of the whole model, embeddings and head counted."""
        return self.encoder_params(structure) + self.outside

    def encoder_limit(self, budget: Budget) -> int:
        """The most encoder parameters that `budget` allows; raises SpecError('/budget/params') if out of reach."""
        dense = self.encoder_params(Structure.dense(self.architecture))
        outside = self.outside if budget.of == "model" else 0
        limit = budget.limit(dense + outside) - outside
        smallest = self.encoder_fixed + min(self.attention_block + self.head, self.ffn_block + self.neuron)
        if not smallest <= limit:
            low, high = smallest + outside, dense + outside
            what = "this model" if budget.of == "model" else "the encoder of this model"
            raise SpecError(
                "/budget/params",
                f"out of reach: {what} can have {low:,} to {high:,} parameters "
                f"({low / high:.4f} to 1 of the dense count), asked were {budget.limit(high):,}"
                + ("; most of the rest is embeddings, which are not pruned" if outside else ""),
            )
        return min(limit, dense)
