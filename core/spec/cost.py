"""What a `Structure` costs, by exact arithmetic on the shapes of the dense model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Self

from core.spec.budget import GROUPS, Budget
from core.spec.families import Architecture, require_narrow
from core.spec.job import HiddenSize, Layout
from core.spec.problems import SpecError
from core.spec.residual import residual_side
from core.spec.structure import Structure
from core.spec.weights import file_bytes

FLOAT32 = 4  # bytes: what checkpoints are written in


@dataclass(frozen=True)
class CostModel:
    """One kind of cost: of each unit, of each block apart from its units, and of what pruning cannot touch."""

    architecture: Architecture
    head: int  # q, k, v rows with their biases, and columns of the output projection
    attention_block: int  # bias of the output projection, norms that the heads share
    neuron: int
    ffn_block: int
    encoder_fixed: int  # LayerNorms
    layer_fixed: int  # of those, what goes with a whole layer
    outside: int  # embeddings, pooler, classifier
    spared: int = 0  # what a smaller vocabulary has taken from the dense model already
    measured: bool = False  # prices fitted to a clock: most of a block's may be its own, next to none its units'

    def encoder(self, structure: Structure) -> int:
        """Cost of the encoder layers."""
        return (
            self.encoder_fixed
            - self.layer_fixed * len(structure.dropped)
            + sum(self.head * len(row) + self.attention_block * bool(row) for row in structure.heads)
            + sum(self.neuron * len(row) + self.ffn_block * bool(row) for row in structure.neurons)
        )

    def model(self, structure: Structure) -> int:
        """Cost of the whole model, embeddings and head counted."""
        return self.encoder(structure) + self.outside

    @property
    def shared(self) -> tuple[float, float]:
        """Of a head and of a neuron, to weigh against their worth; where measured, with their part of the block's."""
        if not self.measured:
            return self.head, self.neuron
        a = self.architecture
        return self.head + self.attention_block / a.heads, self.neuron + self.ffn_block / a.neurons

    @property
    def dense(self) -> int:
        """Cost of the dense encoder layers."""
        return self.encoder(Structure.dense(self.architecture.anatomy))

    @property
    def before(self) -> int:
        """Cost of the whole dense model as it was given."""
        return self.dense + self.outside + self.spared

    @property
    def smallest(self) -> int:
        """Cost of the encoder layers with a single unit left."""
        return self.encoder_fixed + min(self.attention_block + self.head, self.ffn_block + self.neuron)

    def least(self, layout: Layout) -> int:
        """Cost of the smallest encoder; a regular one has a layer with a neuron and heads that config.json can say."""
        if layout == "free":
            return self.smallest
        spare = self.layer_fixed * (self.architecture.layers - 1)
        heads = self.head * self.architecture.head_counts[0]
        return self.encoder_fixed - spare + self.attention_block + heads + self.ffn_block + self.neuron


@dataclass(frozen=True)
class Costs:
    """Every cost of one model."""

    params: CostModel
    macs: CostModel  # multiply-accumulates of matrix products, for one text of `length` tokens
    bytes: CostModel  # of the weights' file
    length: int
    matrices: int = 0  # weights in the encoder layers' matrices: what 'sparsity' is of
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)  # of the whole model

    @classmethod
    def from_shapes(
        cls, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]], length: int, spared: int = 0
    ) -> Self:
        """From parameter name, as the task model has it, -> shape; raises SpecError('/model').

        `spared`: parameters of embeddings that have been cut.

        MACs are half of what torch's `FlopCounterMode` counts under eager attention: a head projects each token to
        query, key and value and back, and meets every other token twice.
        """
        params = replace(_params(architecture, shapes), spared=spared)
        a, family = architecture, architecture.family
        once = sum(
            prod(shapes.get(f"{path}.weight", (0,))) for path in family.head_layers if path not in family.per_token
        )
        always = sum(prod(shapes.get(f"{path}.weight", (0,))) for path in family.per_token)
        inputs = 2 if family.gated or family.gate else 1  # of an FFN neuron
        head = 2 * (a.queries + 1) * a.hidden * a.head_size * length + 2 * length**2 * a.head_width
        if r := a.relative:
            head += r.positions * a.head_size * (r.projections * a.hidden + r.products * length)
        macs = CostModel(
            a,
            head=head,
            attention_block=0,
            neuron=(inputs + 1) * a.hidden * length,
            ffn_block=0,
            encoder_fixed=0,
            layer_fixed=0,
            outside=once * (length if family.of_words else 1)
            + always * length
            + prod(shapes.get(f"{family.patches}.weight", (0,))) * (length - 1),
        )
        size = CostModel(
            a,
            FLOAT32 * params.head,
            FLOAT32 * params.attention_block,
            FLOAT32 * params.neuron,
            FLOAT32 * params.ffn_block,
            FLOAT32 * params.encoder_fixed,
            FLOAT32 * params.layer_fixed,
            outside=file_bytes(shapes, FLOAT32) - FLOAT32 * params.dense,  # with the dense model's header, the longest
            spared=FLOAT32 * spared,
        )
        layers = f"{family.base}.{family.layers}."
        matrices = sum(prod(shape) for name, shape in shapes.items() if name.startswith(layers) and len(shape) == 2)
        return cls(params, macs, size, length, matrices, dict(shapes))

    def at(self, hidden: int) -> Self:
        """Of the model with so many dimensions of its residual stream; `before` stays that of the whole."""
        a = self.params.architecture
        if hidden == a.hidden:
            return self
        paths, shapes = asdict(a.family), dict(self.shapes)
        for name, shape in self.shapes.items():
            side = residual_side(name, shape, paths, a.hidden)
            if side is not None:
                shapes[name] = (*shape[:side], hidden, *shape[side + 1 :])
        small = self.from_shapes(replace(a, hidden=hidden), shapes, self.length)

        def beside(one: CostModel, whole: CostModel) -> CostModel:
            return replace(one, spared=whole.before - one.before)

        return replace(
            small,
            params=beside(small.params, self.params),
            macs=beside(small.macs, self.macs),
            bytes=beside(small.bytes, self.bytes),
        )

    def of(self, structure: Structure) -> Self:
        """At the hidden size of `structure`."""
        return self if structure.hidden is None else self.at(len(structure.hidden))

    def smallest(self, hidden_size: HiddenSize) -> Self:
        """At the smallest hidden size that is tried; SpecError('/hidden_size') if this family's cannot shrink."""
        if hidden_size == "keep":
            return self
        require_narrow(self.params.architecture.family)
        return self.at(hidden_sizes(self.params.architecture.hidden)[0])

    def limit(self, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> tuple[CostModel, int]:
        """The cost that `budget` limits, and the most that the encoder layers may cost; SpecError if out of reach.

        With `hidden_size` "trim", of all hidden dimensions: what they leave for the encoder may be less than nothing.
        """
        if budget.kind == "sparsity":
            a, (_, size) = self.params.architecture, GROUPS.get(budget.pattern or "", (1, 1))
            if odd := [width for width in (a.hidden, a.heads * a.head_width, a.neurons) if width % size]:
                raise SpecError(
                    "/budget/pattern",
                    f"this model has matrices with rows of {odd[0]}, which groups of {size} do not fill",
                )
            return self.params, self.params.dense  # nothing is cut
        cost: CostModel = getattr(self, budget.kind)
        whole = budget.counted == "model"
        outside = cost.outside if whole else 0
        high, dense = cost.dense + outside, cost.before if whole else cost.dense
        limit = budget.limit(dense)

        def lowest(hidden_size: HiddenSize) -> int:
            small: CostModel = getattr(self.smallest(hidden_size), budget.kind)
            return small.least(layout) + (small.outside if whole else 0)

        if limit < (low := lowest(hidden_size)):
            unit = UNITS[budget.kind].format(length=self.length)
            advice = '; with "layout": "free" it can be smaller' * (layout == "regular")
            advice += '; most of the rest is embeddings: "vocabulary": "trim" keeps those that the texts use' * (
                outside > cost.dense / 2 and not cost.spared
            )
            if hidden_size == "keep" and layout == "free" and cost.architecture.family.narrows:
                advice += f'; with "hidden_size": "trim" (and no "l0" or "pdp") it can have {lowest("trim"):,}'
            raise SpecError(
                f"/budget/{budget.kind}",
                f"out of reach: {'the encoder of ' * (budget.counted == 'encoder')}this model can have "
                f"{low:,} to {high:,} {unit} ({low / dense:.4f} to {high / dense:.4g} of the dense count), "
                f"asked were {limit:,}" + advice,
            )
        return cost, min(limit, high) - outside


def hidden_sizes(hidden: int) -> list[int]:
    """Those that are tried where the hidden size may shrink: multiples of what kernels like, and the whole."""
    step = min(32, max(1, hidden // 8))
    return [*range(step, hidden, step), hidden]


UNITS = {"params": "parameters", "macs": "multiply-accumulates at {length} tokens", "bytes": "bytes of weights"}


def _params(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> CostModel:
    family = architecture.family
    prefix = f"{family.base}."
    sizes = {name.removeprefix(prefix): prod(shape) for name, shape in shapes.items()}

    def size(path: str, part: str) -> int:
        return sizes.get(f"{family.layers}.0.{path}.{part}", 0)

    inner = {family.query, family.key, family.value, *family.relative}
    whole = {family.query} == inner - set(family.relative)  # one Linear for all three
    encoder = sum(n for name, n in sizes.items() if name.startswith(f"{family.layers}."))
    last = sum(n for name, n in sizes.items() if name.startswith(f"{family.layers}.{architecture.layers - 1}."))
    numbers = {name.split(f"{family.layers}.", 1)[1].split(".")[0] for name in sizes if f"{family.layers}." in name}
    rows = architecture.heads * architecture.head_width * (3 if whole else 1)
    if size(family.query, "weight") != rows * architecture.hidden or numbers != {
        str(i) for i in range(architecture.layers)
    }:
        raise SpecError("/model", f"its weights do not look like a {family.model_type} of this config.json")
    head = (
        sum(size(path, part) for path in inner for part in ("weight", "bias")) + size(family.attention_out, "weight")
    ) // architecture.heads
    neuron = (
        sum(size(path, part) for path in {family.ffn_in, family.gate} for part in ("weight", "bias"))
        + size(family.ffn_out, "weight")
    ) // architecture.neurons
    norms = sum(size(path, "weight") for path in family.attention_norms)
    attention_block, ffn_block = size(family.attention_out, "bias") + norms, size(family.ffn_out, "bias")
    prunable = head * architecture.heads + attention_block + neuron * architecture.neurons + ffn_block
    return CostModel(
        architecture,
        head,
        attention_block,
        neuron,
        ffn_block,
        encoder_fixed=encoder - architecture.layers * prunable,
        layer_fixed=last - prunable,
        outside=sum(sizes.values()) - encoder,
    )
