"""What a `Structure` costs, by exact arithmetic on the shapes of the dense model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Self

from core.domains.anatomy import Block
from core.domains.cost import FLOAT32, Additive
from core.domains.structure import ATTENTION, FFN, Structure
from core.domains.transformer.families import Architecture, Family
from core.domains.transformer.residual import residual_side
from core.domains.weights import FLOAT_BYTES, TYPES, file_bytes
from core.spec.budget import GROUPS, Budget
from core.spec.errors import SpecError
from core.spec.job import HiddenSize, Layout, Precision


def least(cost: Additive, layout: Layout, architecture: Architecture) -> int:
    """Additive of the smallest encoder in a layout."""
    return cost.smallest if layout == "free" else cost.of(smallest_regular(architecture))


def smallest_regular(architecture: Architecture) -> Structure:
    """A layer with a neuron, and as few heads as a plain config.json can say."""
    rest = range(1, architecture.layers)
    heads = range(architecture.head_counts[0])
    return Structure.of([heads, *[()] * len(rest)], [(0,), *[()] * len(rest)], rest)


@dataclass(frozen=True)
class Costs:
    """Every cost of one model."""

    architecture: Architecture
    params: Additive
    macs: Additive  # multiply-accumulates of matrix products, for one text of `length` tokens
    bytes: Additive  # of the weights' file; `before`: of the dense one, in float32
    length: int
    matrices: int = 0  # weights in the encoder layers' matrices: what 'sparsity' is of
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)  # of the whole model
    precision: Precision = "float32"  # of the weights in the file that is written

    @classmethod
    def from_shapes(
        cls,
        architecture: Architecture,
        shapes: Mapping[str, tuple[int, ...]],
        length: int,
        spared: int = 0,
        precision: Precision = "float32",
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
        if family.means and family.head_layers[0].startswith(f"{family.base}."):  # a pooler that runs again
            once += prod(shapes.get(f"{family.head_layers[0]}.weight", (0,)))
        always = sum(prod(shapes.get(f"{path}.weight", (0,))) for path in family.per_token)
        inputs = 2 if family.gated or family.gate else 1  # of an FFN neuron
        head = 2 * (a.queries + 1) * a.hidden * a.head_size * length + 2 * length**2 * a.head_width
        if r := a.relative:
            head += r.positions * a.head_size * (r.projections * a.hidden + r.products * length)
        macs = Additive.alike(
            a.anatomy,
            {ATTENTION: (head, 0), FFN: ((inputs + 1) * a.hidden * length, 0)},
            outside=once * (length if family.of_words else 1) + always * length,
        )
        width = FLOAT_BYTES[TYPES[precision]]
        unit, block, fixed = (
            tuple(width * price for price in prices) for prices in (params.unit, params.block, params.fixed)
        )
        whole = files_bytes(shapes, family, precision)  # with the dense model's header, the longest
        size = Additive(
            a.anatomy,
            unit,
            block,
            fixed,
            outside=whole - width * params.dense,
            spared=FLOAT32 * spared + files_bytes(shapes, family) - whole,
        )
        layers = f"{family.base}.{family.layers}."
        matrices = sum(prod(shape) for name, shape in shapes.items() if name.startswith(layers) and len(shape) == 2)
        return cls(a, params, macs, size, length, matrices, dict(shapes), precision)

    def at(self, hidden: int) -> Self:
        """Of the model with so many dimensions of its residual stream; `before` stays that of the whole."""
        a = self.architecture
        if hidden == a.hidden:
            return self
        paths, shapes = asdict(a.family), dict(self.shapes)
        for name, shape in self.shapes.items():
            side = residual_side(name, shape, paths, a.hidden)
            if side is not None:
                shapes[name] = (*shape[:side], hidden, *shape[side + 1 :])
        small = self.from_shapes(replace(a, hidden=hidden), shapes, self.length, precision=self.precision)

        def beside(one: Additive, whole: Additive) -> Additive:
            return replace(one, spared=whole.before - one.dense - one.outside)

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
        """At the smallest hidden size that is tried."""
        return self if hidden_size == "keep" else self.at(hidden_sizes(self.architecture.hidden)[0])

    def limit(self, budget: Budget, layout: Layout = "free", hidden_size: HiddenSize = "keep") -> tuple[Additive, int]:
        """The cost that `budget` limits, and the most that the encoder layers may cost; SpecError if out of reach.

        With `hidden_size` "trim", of all hidden dimensions: what they leave for the encoder may be less than nothing.
        """
        if budget.kind == "sparsity":
            a, (_, size) = self.architecture, GROUPS.get(budget.pattern or "", (1, 1))
            columns = {ATTENTION: a.head_width, FFN: 1}  # of a unit
            widths = [a.hidden, *(columns[block.kind] * block.size for block in a.anatomy.blocks)]
            if odd := [width for width in widths if width % size]:
                raise SpecError(
                    "/budget/pattern",
                    f"this model has matrices with rows of {odd[0]}, which groups of {size} do not fill",
                )
            return self.params, self.params.dense  # nothing is cut
        cost: Additive = getattr(self, budget.kind)
        whole = budget.counted == "model"
        outside = cost.outside if whole else 0
        high, dense = cost.dense + outside, cost.before if whole else cost.dense
        limit = budget.limit(dense)

        def lowest(hidden_size: HiddenSize) -> int:
            small: Additive = getattr(self.smallest(hidden_size), budget.kind)
            return least(small, layout, self.architecture) + (small.outside if whole else 0)

        if limit < (low := lowest(hidden_size)):
            unit = UNITS[budget.kind].format(length=self.length)
            advice = '; with "layout": "free" it can be smaller' * (layout == "regular")
            advice += '; most of the rest is embeddings: "vocabulary": "trim" keeps those that the texts use' * (
                outside > cost.dense / 2 and not self.params.spared
            )
            if hidden_size == "keep" and layout == "free":
                advice += f'; with "hidden_size": "trim" (and no "l0" or "pdp") it can have {lowest("trim"):,}'
            raise SpecError(
                f"/budget/{budget.kind}",
                f"out of reach: {'the encoder of ' * (budget.counted == 'encoder')}this model can have "
                f"{low:,} to {high:,} {unit} ({low / dense:.4f} to {high / dense:.4g} of the dense count), "
                f"asked were {limit:,}" + advice,
            )
        return cost, min(limit, high) - outside


def files_bytes(shapes: Mapping[str, tuple[int, ...]], family: Family, precision: Precision = "float32") -> int:
    """Bytes of the files of weights: one, but that each Dense layer behind a pooled vector has its own."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {"": {}}
    for name, shape in shapes.items():
        own = name.rpartition(".")[0] if family.of_vectors and name.startswith(family.head) else ""
        named = f"linear.{name.rpartition('.')[2]}" if own else name.removeprefix(f"{family.base}." * family.of_vectors)
        parts.setdefault(own, {})[named] = shape
    return sum(file_bytes(part, precision) for part in parts.values())


def hidden_sizes(hidden: int) -> list[int]:
    """Those that are tried where the hidden size may shrink: multiples of what kernels like, and the whole."""
    step = min(32, max(1, hidden // 8))
    return [*range(step, hidden, step), hidden]


UNITS = {"params": "parameters", "macs": "multiply-accumulates at {length} tokens", "bytes": "bytes of weights"}


def _params(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> Additive:
    a, family = architecture, architecture.family
    start = f"{family.base}.{family.layers}."
    found: dict[str, dict[str, int]] = {}
    for name, shape in shapes.items():
        if name.startswith(start):
            number, _, path = name.removeprefix(start).partition(".")
            found.setdefault(number, {})[path] = prod(shape)
    layers = [found.pop(str(i), {}) for i in range(a.layers)]
    inner = {family.query, family.key, family.value, *family.relative}
    whole = {family.query} == inner - set(family.relative)  # one Linear for all three
    blocks = a.anatomy.blocks
    pairs = [*zip(layers, blocks[: a.layers], blocks[a.layers :], strict=True)]
    layer, heads = next(((layer, attention.size) for layer, attention, _ in pairs if attention.size), ({}, 0))
    rows = heads * a.head_width * (3 if whole else 1)
    if layer.get(f"{family.query}.weight", 0) != rows * a.hidden or not all(layers) or found:
        raise SpecError("/model", f"its weights do not look like a {family.model_type} of this config.json")

    def price(layer: Mapping[str, int], attention: Block, ffn: Block) -> tuple[int, int, int, int, int]:
        """Of a head and of its block apart from heads, of a neuron and of its block, and of what else there is."""

        def size(path: str, *parts: str) -> int:
            return sum(layer.get(f"{path}.{part}", 0) for part in parts)

        head = sum(size(path, "weight", "bias") for path in inner) + size(family.attention_out, "weight")
        neuron = sum(size(path, "weight", "bias") for path in {family.ffn_in, family.gate})
        neuron = (neuron + size(family.ffn_out, "weight")) // max(1, ffn.size)
        head //= max(1, attention.size)
        beside = size(family.attention_out, "bias") + sum(size(path, "weight") for path in family.attention_norms)
        below = size(family.ffn_out, "bias")
        prunable = head * attention.size + beside + neuron * ffn.size + below
        return head, beside, neuron, below, sum(layer.values()) - prunable

    head, attention, neuron, ffn, fixed = zip(*(price(*pair) for pair in pairs), strict=True)
    outside = sum(map(prod, shapes.values())) - sum(sum(layer.values()) for layer in layers)
    return Additive(a.anatomy, head + neuron, attention + ffn, fixed, outside)
