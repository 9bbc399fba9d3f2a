"""`fit_own`: the structure in which readers read their own channels, never worth less than the shared one.

After UPSCALE's unconstrained mode (Wan et al., ICML 2023, arXiv 2307.08771), held to a budget: a column (what one
reader reads of one unit) is kept where it is worth more than it costs at one price of cost for all, and a unit where
its columns are worth more than that and its own rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.domains.channels.cost import Bilinear, Own
from core.domains.channels.fit import fit_channels
from core.domains.fit import Scores
from core.domains.structure import ChannelStructure, Structure

Array = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
ROUNDS = 5  # of prices anew: rows cost by the columns that are kept, and columns by the rows
HALVINGS = 40


def fit_own(scores: Scores, cost: Bilinear, limit: int, multiple: int = 1) -> Structure:
    """Keep the columns of most worth, in sum, whose cost is at most `limit`; deterministic.

    Begins with what `fit_channels` gives for the same limit, and gives that where nothing else is worth more. Of each
    reader, at least one step of columns stays. `multiple` is of channels, of tensors and of what is read of them.
    """
    shared = fit_channels(scores, cost, limit, multiple)
    if scores.columns is None or cost.own is None:
        return shared
    trade = Exchange(cost, cost.own, scores.columns, multiple)
    kept = np.zeros(cost.anatomy.size, np.bool_)
    for span, units in zip(cost.anatomy.spans, shared.kept, strict=True):
        kept[span][list(units)] = True
    begun = Choice(kept, kept[cost.own.columns.unit])
    best = trade.best(begun, limit)
    if trade.worth(best) <= trade.worth(begun):
        return shared
    rows = tuple(tuple(np.flatnonzero(best.kept[span]).tolist()) for span in cost.anatomy.spans)
    return ChannelStructure(rows, left_out=cost.own.columns.said(best.kept[cost.own.columns.unit] & ~best.read))


@dataclass(frozen=True, eq=False)
class Choice:
    """Units that are kept, (units,), and columns that are read, (columns,): of kept units alone."""

    kept: Flags
    read: Flags


@dataclass(frozen=True, eq=False)
class Exchange:
    """What columns and units are worth and cost, and what is kept at a price."""

    cost: Bilinear
    own: Own
    worths: Floats  # (columns,)
    multiple: int

    @cached_property
    def owner(self) -> Array:
        """The block of each unit."""
        return np.repeat(np.arange(len(self.cost.sizes)), self.cost.sizes)

    @cached_property
    def group(self) -> Array:
        """Reader and block of each column, as one number."""
        return np.asarray(self.own.columns.reader * len(self.cost.sizes) + self.owner[self.own.columns.unit])

    @cached_property
    def step(self) -> Array:
        """Of each group how many columns go together."""
        steps = np.ones(len(self.own.columns.paths) * len(self.cost.sizes), np.int64)
        steps[self.group] = self.multiple // np.gcd(self.multiple, self.own.columns.count)
        return steps

    @cached_property
    def free(self) -> Flags:
        """Whether each column may go by itself."""
        return np.asarray(self.own.columns.free[self.own.columns.reader])

    def counts(self, choice: Choice) -> Array:
        """Units that each block keeps."""
        return np.bincount(self.owner[choice.kept], minlength=len(self.cost.sizes))

    def worth(self, choice: Choice) -> float:
        """Of all columns that are read."""
        return float(self.worths[choice.read].sum())

    def price(self, choice: Choice) -> int:
        """What a choice costs."""
        out = choice.kept[self.own.columns.unit] & ~choice.read
        counts = self.counts(choice)
        return self.cost.at(counts) - self.own.spared(counts, out)

    def best(self, begun: Choice, limit: int) -> Choice:
        """The choice of most worth within the limit that halving the price finds, around the best so far."""
        best, worth = begun, self.worth(begun)
        for _ in range(ROUNDS):
            around, low, high = best, 0.0, float((self.worths / np.maximum(1, self._each(best))).max(initial=0.0))
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                found = self.at(middle, around)
                if self.price(found) > limit:
                    low = middle
                    continue
                high = middle
                found = self.filled(found, limit)
                if self.worth(found) > worth:
                    best, worth = found, self.worth(found)
            if best is around:
                break
        return best

    def at(self, price: float, around: Choice) -> Choice:
        """What is worth more than it costs at so much a unit of cost, as costs are around another choice."""
        gain = self.worths - price * self._each(around)
        nets = (
            np.bincount(
                self.own.columns.unit, np.where(self.free, np.maximum(gain, 0), gain), minlength=len(self.owner)
            )
            - price * (self._rows(around)[self.owner])
        )
        steps = self.cost.steps(self.multiple)
        most = self.cost.sizes
        wanted = _rounded(np.bincount(self.owner[nets > 0], minlength=len(most)), steps, most)
        kept = _top(self.owner, nets, np.maximum(wanted, np.minimum(steps, most)))
        return Choice(kept, self._read(kept, gain))

    def _read(self, kept: Flags, gain: Floats) -> Flags:
        """Columns of kept units that gain, in whole steps, and a step of each reader at least."""
        columns, there = self.own.columns, kept[self.own.columns.unit]
        most = np.bincount(self.group[there], minlength=len(self.step))
        wanted = _rounded(np.bincount(self.group[there & (gain > 0)], minlength=len(self.step)), self.step, most)
        each = wanted.reshape(len(columns.paths), -1)
        for reader in np.flatnonzero((each.sum(1) == 0) & (columns.pinned == 0)):
            own = np.flatnonzero(there & (columns.reader == reader))
            group = self.group[own[gain[own].argmax()]]
            wanted[group] = min(self.step[group], most[group])
        chosen = _top(self.group, np.where(there, gain, -np.inf), wanted)
        return np.asarray(there & (chosen | ~self.free))

    def filled(self, choice: Choice, limit: int) -> Choice:
        """With further columns of the units that are kept, in whole steps, the most worth for their cost first."""
        each, left = self._each(choice), limit - self.price(choice)
        out = np.flatnonzero(choice.kept[self.own.columns.unit] & ~choice.read & (each <= left))
        if not len(out):
            return choice
        order = out[np.lexsort((out, -self.worths[out], self.group[out]))]
        rank = _rank(self.group[order])
        begins = np.flatnonzero(rank % self.step[self.group[order]] == 0)
        worth, price = (np.add.reduceat(values[order], begins) for values in (self.worths, each))
        density = worth / np.maximum(1, price)
        ends, read = [*begins[1:].tolist(), len(order)], choice.read.copy()
        for i in np.lexsort((np.arange(len(begins)), -density)).tolist():  # of a group the best come first
            if price[i] <= left:
                read[order[begins[i] : ends[i]]] = True
                left -= int(price[i])
        return Choice(choice.kept, read)

    def _each(self, choice: Choice) -> Array:
        return self.own.each(self.counts(choice))

    def _rows(self, choice: Choice) -> Floats:
        """What one unit more costs in each block, apart from its columns."""
        counts, own = self.counts(choice), self.own
        out = choice.kept[own.columns.unit] & ~choice.read
        missing = np.bincount(own.columns.reader[out], own.columns.count[out], len(own.price))
        columns = np.bincount(self.owner[own.columns.unit], own.each(counts), len(counts)) / self.cost.sizes
        rows = (own.price * missing) @ own.rows[:, 1:]
        return np.asarray(np.maximum(self.cost.marginal(counts) - columns - rows, 0))


def _rounded(counts: Array, steps: Array, most: Array) -> Array:
    """To the nearest whole steps, or to all."""
    return np.where(counts == most, most, np.minimum((counts + steps // 2) // steps * steps, most))


def _top(group: Array, value: Floats, wanted: Array) -> Flags:
    """Whether each is among the so many best of its group; ties go to the first."""
    order = np.lexsort((np.arange(len(group)), -value, group))
    found = np.zeros(len(group), np.bool_)
    found[order] = _rank(group[order]) < wanted[group[order]]
    return found


def _rank(group: Array) -> Array:
    """The place of each in its group, where groups ascend."""
    return np.arange(len(group)) - np.searchsorted(group, group)
