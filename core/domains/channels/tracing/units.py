"""`build`: classes of labels become units, and units that lie alike become blocks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from core.domains.anatomy import Anatomy, Block
from core.domains.channels.graph import Graph
from core.domains.channels.tracing.labels import PIN, varying
from core.domains.channels.tracing.state import State
from core.domains.channels.weight import PINNED, Weight, WeightKind
from core.domains.structure import CHANNELS, GROUPS

Array = NDArray[np.int64]


def build(model: nn.Module, state: State, macs: int) -> Graph:
    """Give the graph of a network that has been read; units are numbered block by block."""
    sides = _sides(state)
    every = [side for one in sides.values() for side in one.values()]
    classes = np.unique(np.concatenate([np.array([PIN]), *every]))
    numbered = {name: {dim: np.searchsorted(classes, side) for dim, side in one.items()} for name, one in sides.items()}
    seen = [np.searchsorted(classes, part[np.isin(part, classes)]) for part in _seen(state)]
    block = _blocks([side for one in numbered.values() for side in one.values()] + seen, len(classes))
    units, blocks = _number(block, numbered, state)
    weights = {}
    for name, tensor, kind, saved in _tensors(model, [*numbered]):
        found = {dim: tuple(units[side].tolist()) for dim, side in numbered.get(name, {}).items()}
        found = {dim: side for dim, side in found.items() if max(side) > PINNED}
        used = state.positions.get(name, 0), state.groups.get(name, 1)
        weights[name] = Weight(tuple(tensor.shape), found, kind, *used, saved)
    return Graph(Anatomy(tuple(blocks)), weights, macs, _products(state, classes, units))


def _products(state: State, classes: Array, units: Array) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Of each product of two tensors the units of its parts, and what each is multiplied; those where any can go."""
    found = []
    for labels, price in state.products:
        part = state.classes.find(labels).numpy()
        part = np.where(np.isin(part, classes), part, PIN)
        found.append((tuple(units[np.searchsorted(classes, part)].tolist()), price))
    return tuple(one for one in found if max(one[0]) > PINNED)


def _sides(state: State) -> dict[str, dict[int, Array]]:
    """Weight -> dimension -> the class of every index."""
    found = {
        name: {dim: state.classes.find(side).numpy() for dim, side in sides.items()}
        for name, sides in state.sides.items()
    }
    for name, labels in state.elements.items():
        labels = state.classes.find(labels)
        for dim in varying(labels):  # one at most: see `State.finish`
            index = tuple(slice(None) if i == dim else 0 for i in range(labels.ndim))
            found[name] = {dim: labels[index].numpy()}
    order = {name: i for i, name in enumerate([*state.sides, *state.elements])}
    return {name: found[name] for name in sorted(found, key=order.__getitem__)}


def _seen(state: State) -> list[Array]:
    """What operators gave, each like one once."""
    parts = (state.classes.find(part).flatten() for part in state.seen)
    return [np.frombuffer(text, np.int64) for text in dict.fromkeys(part.numpy().tobytes() for part in parts)]


def _blocks(parts: list[Array], size: int) -> Array:
    """A number for each class, (size,): the same for those that lie in each part equally often."""
    block = np.ones(size, np.int64)
    block[PIN] = 0
    for part in {part.tobytes(): part for part in parts}.values():
        counts = np.bincount(part, minlength=size)
        block = np.unique(block * (counts.max() + 1) + counts, return_inverse=True)[1]
    return block


def _number(block: Array, sides: Mapping[str, Mapping[int, Array]], state: State) -> tuple[Array, list[Block]]:
    """The unit of each class, and the blocks: channels first, then groups, in the order of their first producers."""
    order: dict[int, tuple[str, list[int]]] = {}  # block -> its first producer, its classes as they lie there
    whole = set[int]()
    sizes = np.bincount(block)
    for name, one in sides.items():
        if name not in state.positions:
            continue
        if state.groups[name] > 1:
            labels, counts = np.unique(one[0], return_counts=True)
            whole |= {int(block[label]) for label in labels[counts > 1]}
            continue
        for label in dict.fromkeys(one[0].tolist()):
            number = int(block[label])
            if label != PIN and sizes[number] > 1:  # a unit alone could never go
                order.setdefault(number, (name.rpartition(".")[0], []))[1].append(label)
    units, blocks, start = np.full(len(block), PINNED), [], 0
    names = dict[str, int]()
    for number, (path, classes) in sorted(order.items(), key=lambda item: item[0] in whole):
        classes = list(dict.fromkeys(classes))
        units[classes] = np.arange(start, start + len(classes))
        start += len(classes)
        names[path] = names.get(path, 0) + 1
        name = path if names[path] == 1 else f"{path}#{names[path]}"
        blocks.append(Block(name, GROUPS if number in whole else CHANNELS, len(classes)))
    return units, blocks


def _tensors(model: nn.Module, first: list[str]) -> list[tuple[str, Tensor, WeightKind, bool]]:
    """Name, tensor, kind and whether it is saved, of every parameter and buffer once; `first` go before the others."""
    saved = model.state_dict(keep_vars=True)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    tensors = parameters | buffers
    found: list[tuple[str, Tensor, WeightKind, bool]] = []
    for name in dict.fromkeys([*first, *tensors]):
        tensor = tensors[name]
        kind: WeightKind = "parameter" if name in parameters else "buffer" if tensor.is_floating_point() else "integers"
        found.append((name, tensor, kind, name in saved))
    return found
