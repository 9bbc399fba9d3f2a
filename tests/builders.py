"""Architectures, costs and scores that tests are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.domains.cost import Additive, Cost
from core.domains.fit import Scores
from core.domains.structure import ATTENTION, FFN
from core.domains.transformer.costs import Costs
from core.domains.transformer.families import FAMILIES, Architecture

MINILM = Architecture(FAMILIES["bert"], layers=6, heads=12, head_size=32, hidden=384, neurons=1536)
BERT_BASE = Architecture(FAMILIES["bert"], layers=12, heads=12, head_size=64, hidden=768, neurons=3072)


def bert_costs(a: Architecture) -> Costs:
    """From the shapes of such a BERT."""
    h = a.hidden
    shapes: dict[str, tuple[int, ...]] = {"bert.embeddings.word_embeddings.weight": (30000, h)}
    blocks = a.anatomy.blocks
    for i, (attention, ffn) in enumerate(zip(blocks[: a.layers], blocks[a.layers :], strict=True)):
        root, inner = f"bert.encoder.layer.{i}", attention.size * a.head_size
        layer = {f"attention.self.{name}": (inner, h) for name in ("query", "key", "value") if inner}
        layer |= {"attention.output.dense": (h, inner)} if inner else {}
        layer |= {"intermediate.dense": (ffn.size, h), "output.dense": (h, ffn.size)} if ffn.size else {}
        for path, shape in layer.items():
            shapes |= {f"{root}.{path}.weight": shape, f"{root}.{path}.bias": shape[:1]}
        for path in ("attention.output", "output"):
            shapes |= {f"{root}.{path}.LayerNorm.{part}": (h,) for part in ("weight", "bias")}
    shapes |= {"classifier.weight": (2, h), "classifier.bias": (2,)}
    return Costs.from_shapes(a, shapes, length=128)


def cost_of(
    a: Architecture, head: int, attention: int, neuron: int, ffn: int, layer: int = 0, outside: int = 0
) -> Cost:
    """By the prices of a head, a neuron, their blocks apart from them, and a layer."""
    prices = {ATTENTION: (head, attention), FFN: (neuron, ffn)}
    return Additive.alike(a.anatomy, prices, fixed=[layer] * a.layers, outside=outside)


def scores_of(heads: ArrayLike, neurons: ArrayLike, hidden: NDArray[np.float64] | None = None) -> Scores:
    """Of heads (layers, heads) and neurons (layers, neurons)."""
    return Scores(np.concatenate([np.ravel(heads), np.ravel(neurons)]).astype(float), hidden)


def by_layer(a: Architecture, units: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is of units: of heads (layers, heads), and of neurons (layers, neurons)."""
    heads, neurons = np.split(units, [a.layers * a.heads])
    return heads.reshape(a.layers, -1), neurons.reshape(a.layers, -1)
