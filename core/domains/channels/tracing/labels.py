"""Classes of integer labels, and tensors of labels that are kept small: of one position, where all are alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PIN = 0  # the label of what stays


class Classes:
    """Union-find over labels, whole tensors at once. A class goes by its least label, so PIN's is PIN."""

    def __init__(self) -> None:
        self._root = torch.zeros(1, dtype=torch.int64)  # always the least label itself

    @property
    def roots(self) -> Tensor:
        """The class of every label."""
        return self._root

    def fresh(self, count: int) -> Tensor:
        """New labels, (count,), each its own class."""
        first = len(self._root)
        new = torch.arange(first, first + count)
        self._root = torch.cat([self._root, new])
        return new

    def find(self, labels: Tensor) -> Tensor:
        """The class of each label, in the same shape; dimensions along which all are alike have a stride of 0."""
        small = self._root[narrow(labels)]
        for dim, size in enumerate(small.shape):
            if size > 1 and bool((small == (first := small.narrow(dim, 0, 1))).all()):
                small = first
        return small.expand(labels.shape)

    def unite(self, one: Tensor, other: Tensor) -> None:
        """Make one class of each pair; shapes broadcast."""
        a, b = (self._root[part.flatten()] for part in (one + 0 * other, other + 0 * one))
        while bool((differ := a != b).any()):
            a, b = a[differ], b[differ]
            self._root.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
            while not torch.equal(shorter := self._root[self._root], self._root):
                self._root = shorter
            a, b = self._root[a], self._root[b]

    def pin(self, labels: Tensor) -> None:
        """Make these stay."""
        self.unite(narrow(labels), torch.tensor(PIN))


def narrow(labels: Tensor) -> Tensor:
    """One index of each dimension along which all are alike (its stride is 0)."""
    for dim, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if size > 1 and stride == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def varying(labels: Tensor) -> list[int]:
    """The dimensions along which labels, as `find` gives them, differ."""
    return [dim for dim, size in enumerate(narrow(labels).shape) if size > 1]


def pinned(shape: Sequence[int]) -> Tensor:
    """Labels of what stays."""
    return torch.tensor(PIN).expand(tuple(shape))


def along(labels: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """Labels (n,) of one dimension of a tensor of this shape."""
    sides = [1] * len(shape)
    sides[dim] = len(labels)
    return labels.reshape(sides).expand(tuple(shape))
