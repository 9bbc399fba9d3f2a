"""`fit_own`: the structure in which readers read their own channels, never worth less than the shared one.

After UPSCALE's unconstrained mode (Wan et al., ICML 2023, arXiv 2307.08771), held to a budget: a column (what one
reader reads of one unit) is kept where it is worth more than it costs at one price of cost for all, and a unit where
its columns are worth more than that and its own rows. As in `fit_channels`, what is weighed against worth is the cost
in the dense network: by the cost in the cut one, a tensor of two channels would pay for all others.
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
ROUNDS = 5  # of exchanges, each with the best choice so far
HALVINGS = 40
PARTS = 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1  # of the price that all could be kept at


def fit_own(scores: Scores, cost: Bilinear, limit: int, multiple: int = 1) -> Structure:
    """Keep the columns of most worth, in sum, whose cost is at most `limit`; deterministic.

    Begins with what `fit_channels` gives for the same limit, and gives that where nothing else is worth more. Of each
    reader, at least one step of columns stays. `multiple` is of channels, of tensors and of what is read of them.
    """
    shared = fit_channels(scores, cost, limit, multiple)
    if scores.columns is None or cost.own is None:
        return shared
    trade = Exchange(cost, cost.own, worths(scores, cost, cost.own), multiple)
    kept = np.zeros(cost.anatomy.size, np.bool_)
    for span, units in zip(cost.anatomy.spans, shared.kept, strict=True):
        kept[span][list(units)] = True
    begun = Choice(kept, kept[cost.own.columns.unit])
    best = trade.best(begun, limit)
    if trade.worth(best) <= trade.worth(begun):
        return shared
    rows = tuple(tuple(np.flatnonzero(best.kept[span]).tolist()) for span in cost.anatomy.spans)
    return ChannelStructure(rows, left_out=cost.own.columns.said(best.kept[cost.own.columns.unit] & ~best.read))


def worths(scores: Scores, cost: Bilinear, own: Own) -> Floats:
    """What each column is worth: that of its unit, score times cost, in the parts that `scores.columns` says."""
    assert scores.columns is not None
    unit, each = own.columns.unit, own.each(cost.sizes)
    whole = scores.units * np.repeat(cost.shared, cost.sizes)
    parts = np.bincount(unit, scores.columns, len(whole))[unit]
    spent = np.bincount(unit, each, len(whole))[unit]
    share = np.where(parts > 0, scores.columns / np.where(parts > 0, parts, 1), each / np.maximum(1, spent))
    return np.asarray(np.where(np.isfinite(whole[unit]), whole[unit], 0) * share)


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

    @cached_property
    def density(self) -> Floats:
        """Worth of each column for what it costs in the dense network."""
        return np.asarray(self.worths / np.maximum(1, self.own.each(self.cost.sizes)))

    @cached_property
    def rows(self) -> Floats:
        """What a unit costs in the dense network, apart from its columns, (units,)."""
        spent = np.bincount(self.own.columns.unit, self.own.each(self.cost.sizes), len(self.owner))
        return np.asarray(np.maximum(np.array(self.cost.shared)[self.owner] - spent, 0))

    def best(self, begun: Choice, limit: int) -> Choice:
        """The choice of most worth within the limit that is found: at one price for all, and by exchange."""
        best, worth = begun, self.worth(begun)
        once, price = self.at_one_price(begun, limit)
        for round_ in range(ROUNDS):
            around = best
            for found in [*([] if round_ else [once]), *(self.traded(around, part * price, limit) for part in PARTS)]:
                full = self.filled(found, limit)
                if self.worth(full) > worth and self.price(full) <= limit:
                    best, worth = full, self.worth(full)
            if best is around:
                break
        return best

    def at_one_price(self, begun: Choice, limit: int) -> tuple[Choice, float]:
        """What the least price leaves that the limit allows, by halving, and that price; else `begun`."""
        every, low, high = np.ones(len(self.owner), np.bool_), 0.0, float(self.density.max(initial=0.0))
        within, beyond = begun, self.at(low, every)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = self.at(middle, every)
            if self.price(found) > limit:
                low, beyond = middle, found
            else:
                high, within = middle, found
        return self.longest(within, beyond, limit), high

    def traded(self, around: Choice, price: float, limit: int) -> Choice:
        """Columns that are worth less than so much a unit of cost are given up for units that are worth more."""
        every = np.ones(len(self.owner), np.bool_)
        beyond = Choice(every, (self.density > price) | ~self.free)
        return self.longest(self.at(price, around.kept), beyond, limit, price)

    def longest(self, within: Choice, beyond: Choice, limit: int, price: float = 0.0) -> Choice:
        """`within`, and as many units of `beyond`, with their columns, as the limit holds, the best first.

        Units that are alike are worth more than they cost together, or not at all: this keeps some of them. Those that
        are worth less than so much a unit of cost are left.
        """
        unit, gone = self.own.columns.unit, beyond.kept & ~within.kept
        if not gone.any():
            return within
        worth = np.bincount(unit[beyond.read], self.worths[beyond.read], len(gone))
        spent = np.bincount(unit[beyond.read], self.own.each(self.cost.sizes)[beyond.read], len(gone))
        density = worth / np.maximum(1, spent + self.rows)
        order, begins = _steps(np.flatnonzero(gone), self.owner, density, self.cost.steps(self.multiple))
        steps = np.split(order, begins[1:])
        ranked = sorted(steps, key=lambda step: -float(density[step].mean()))
        ranked = [step for step in ranked if density[step].mean() > price]

        def grown(count: int) -> Choice:
            kept = within.kept.copy()
            kept[np.concatenate([order[:0], *ranked[:count]])] = True
            return self.whole(Choice(kept, within.read | (beyond.read & kept[unit] & gone[unit])))

        low, high = 0, len(ranked)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.price(grown(middle)) <= limit else (low, middle - 1)
        return grown(low)

    def at(self, price: float, among: Flags) -> Choice:
        """What of these units is worth more than it costs at so much a unit of cost."""
        gain = self.worths - price * self.own.each(self.cost.sizes)
        worth = np.where(self.free, np.maximum(gain, 0), gain)
        nets = np.bincount(self.own.columns.unit, worth, len(self.owner)) - price * self.rows
        nets = np.where(among, nets, -np.inf)
        steps, most = self.cost.steps(self.multiple), np.bincount(self.owner[among], minlength=len(self.cost.sizes))
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

    def whole(self, choice: Choice) -> Choice:
        """With as many further columns as make whole steps."""
        if self.multiple == 1:
            return choice
        there = choice.kept[self.own.columns.unit]
        most = np.bincount(self.group[there], minlength=len(self.step))
        taken = np.bincount(self.group[choice.read], minlength=len(self.step))
        wanted = np.minimum(-(-taken // self.step) * self.step, most)
        first = self.density + choice.read * (1 + self.density.max(initial=0.0))
        return Choice(choice.kept, there & _top(self.group, np.where(there, first, -np.inf), wanted))

    def filled(self, choice: Choice, limit: int) -> Choice:
        """With further columns of the units that are kept, in whole steps, the most worth for their cost first."""
        each, left = self.own.each(self.counts(choice)), limit - self.price(choice)
        out = np.flatnonzero(choice.kept[self.own.columns.unit] & ~choice.read & (each <= left))
        if not len(out):
            return choice
        order, begins = _steps(out, self.group, self.worths, self.step)
        dense = self.own.each(self.cost.sizes)
        worth, spent, price = (np.add.reduceat(values[order], begins) for values in (self.worths, dense, each))
        density = worth / np.maximum(1, spent)
        ends, read = [*begins[1:].tolist(), len(order)], choice.read.copy()
        for i in np.lexsort((np.arange(len(begins)), -density)).tolist():  # of a group the best come first
            if price[i] <= left:
                read[order[begins[i] : ends[i]]] = True
                left -= int(price[i])
        return Choice(choice.kept, read)


def _rounded(counts: Array, steps: Array, most: Array) -> Array:
    """To the nearest whole steps, or to all."""
    return np.where(counts == most, most, np.minimum((counts + steps // 2) // steps * steps, most))


def _top(group: Array, value: Floats, wanted: Array) -> Flags:
    """Whether each is among the so many best of its group; ties go to the first."""
    order = np.lexsort((np.arange(len(group)), -value, group))
    found = np.zeros(len(group), np.bool_)
    found[order] = _rank(group[order]) < wanted[group[order]]
    return found


def _steps(items: Array, group: Array, value: Floats, step: Array) -> tuple[Array, Array]:
    """Items by group, the best of each first, and where in this order each whole step of a group begins."""
    order = items[np.lexsort((items, -value[items], group[items]))]
    return order, np.flatnonzero(_rank(group[order]) % step[group[order]] == 0)


def _rank(group: Array) -> Array:
    """The place of each in its group, where groups ascend."""
    return np.arange(len(group)) - np.searchsorted(group, group)
