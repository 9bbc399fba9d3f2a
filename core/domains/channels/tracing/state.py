"""`State`: what is known of labels while operators are read one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from core.domains.channels.tracing.labels import Classes, narrow, pinned, varying

MOST = 2**16  # numbers of a parameter that have a label each; a larger one is pinned where it is read as a whole


@dataclass(frozen=True)
class Held:
    """A parameter or buffer that an operator is given."""

    name: str
    shape: tuple[int, ...]


@dataclass
class State:
    """Labels of weights and of what operators gave.

    A weight has labels by dimension, (n,) each, where convolutions, linear layers and norms read it, and labels by
    element where it is moved, added or multiplied. A tensor of one class alone could vanish: it is pinned.
    """

    careful: bool = False  # pin where channels are split or sliced
    heads: bool = True  # where tokens' channels are split, whole heads of attention may go
    classes: Classes = field(default_factory=Classes)
    sides: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    elements: dict[str, Tensor] = field(default_factory=dict)
    seen: list[Tensor] = field(default_factory=list)  # what operators gave, without the dimensions of stride 0
    positions: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    products: list[tuple[Tensor, int]] = field(default_factory=list)  # of two tensors: labels, and their price each
    operator: Any = None  # the one that is read

    def side(self, weight: Held, dim: int) -> Tensor:
        """Labels of one dimension of a weight."""
        if weight.name in self.elements:
            self.hold(weight)
            return pinned(weight.shape[dim : dim + 1])
        sides = self.sides.setdefault(weight.name, {})
        if dim not in sides:
            sides[dim] = self.classes.fresh(weight.shape[dim])
        return sides[dim]

    def labels(self, value: Tensor | Held) -> Tensor:
        """Labels of each element, as `Classes.find` gives them."""
        if isinstance(value, Tensor):
            return self.classes.find(value)
        size = torch.Size(value.shape).numel()
        if len(value.shape) == 1 and size > 1 and value.name not in self.elements:
            return self.classes.find(self.side(value, 0))
        if size == 1 or size > MOST or value.name in self.sides:
            self.hold(value)
        if value.name not in self.elements:
            self.elements[value.name] = self.classes.fresh(size).view(value.shape)
        return self.classes.find(self.elements[value.name])

    def hold(self, weight: Held) -> None:
        """Pin all of a weight."""
        for labels in [*self.sides.pop(weight.name, {}).values(), self.elements.get(weight.name)]:
            if labels is not None:
                self.classes.pin(labels)
        self.elements[weight.name] = pinned(weight.shape)

    def tensors(self, values: Iterable[Any]) -> list[Tensor]:
        """Labels of all tensors among an operator's arguments."""
        leaves = tree_leaves(list(values))
        return [self.labels(leaf) for leaf in leaves if isinstance(leaf, Tensor | Held)]

    def columns(self, value: Tensor | Held, dim: int) -> Tensor:
        """Labels along one dimension, (n,); what lies at one index of it becomes one class."""
        labels = self.labels(value)
        rows = narrow(labels).movedim(dim, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        if len(rows) > 1:
            self.classes.unite(rows[:1], rows)
        return self.classes.find(rows[0]).expand(labels.shape[dim])

    def multiply(self, weight: Held, positions: int, groups: int) -> None:
        """Note that a convolution or linear layer used a weight."""
        self.positions[weight.name] = self.positions.get(weight.name, 0) + positions
        self.groups[weight.name] = groups

    def run(self, args: Mapping[str, Any]) -> Any:
        """Run the operator itself on labels."""
        given = tree_map(lambda leaf: self.labels(leaf) if isinstance(leaf, Tensor | Held) else leaf, dict(args))
        return self.operator(**given)

    def settle(self, value: Any) -> Any:
        """Take note of what an operator gave."""

        def one(labels: Any) -> Any:
            if not isinstance(labels, Tensor):
                return labels
            labels = self.classes.find(labels)
            if not varying(labels) and labels.numel():
                self.classes.pin(labels)
            else:
                self.seen.append(narrow(labels))
            return self.classes.find(labels)

        return tree_map(one, value)

    def finish(self) -> None:
        """Pin what cannot shrink: tensors of one class, and weights whose channels lie along several dimensions."""
        weights = [*self.elements.values(), *(side for sides in self.sides.values() for side in sides.values())]
        before: Tensor | None = None
        while before is None or not torch.equal(before, self.classes.roots):
            before = self.classes.roots.clone()
            for labels in [*self.seen, *weights]:
                found = self.classes.find(labels)
                if len(varying(found)) != 1:
                    self.classes.pin(found)
