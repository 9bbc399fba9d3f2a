"""Geometry of the report's pictures: numbers in, coordinates out. The markup is in the page's template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import log10

from core.domains.anatomy import Anatomy
from core.domains.structure import Structure
from core.ticks import ticks

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 340, 42, 12, 10, 22  # of a chart, in its own units: a phone shows it about 1:1
TICK = 52  # between ticks that are costs of points
BINS = 64  # of a strip of neurons, or channels

Points = Sequence[tuple[float, float]]  # (step, value)
Format = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """One series: its name, its points as (x, y, text), and where the point lies that was kept, if one was."""

    name: str
    points: list[tuple[float, float, str]]
    kept: list[tuple[float, float]]

    @property
    def path(self) -> str:
        """For `<polyline points>`."""
        return " ".join(f"{x},{y}" for x, y, _ in self.points)


@dataclass(frozen=True)
class Chart:
    """Lines over optimiser steps; `turns` are where a next phase began."""

    title: str
    height: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    turns: list[float]


def chart(
    title: str,
    series: Mapping[str, Points],
    *,
    show: Format,
    turns: Sequence[float] = (),
    kept: float | None = None,
    low: float | None = None,
    high: float | None = None,
    height: int = 170,
) -> Chart:
    """Place series of (step, value); the axis reaches from `low` to `high`, or as far as the values do."""
    values = [y for points in series.values() for _, y in points]
    end = max([x for points in series.values() for x, _ in points] + [1])
    y_ticks = ticks(min(values) if low is None else low, max(values) if high is None else high)

    y_of = partial(upright, y_ticks, height)

    def x_of(step: float) -> float:
        return round(LEFT + step / end * (WIDTH - LEFT - RIGHT), 1)

    return Chart(
        title,
        height,
        [(x_of(t), f"{t:,.0f}") for t in ticks(0, end) if t <= end and t == int(t)],
        [(y_of(t), show(t)) for t in y_ticks],
        [
            Line(
                name,
                [(x_of(x), y_of(y), f"step {x:,.0f}: {show(y)}") for x, y in points],
                [(x_of(x), y_of(y)) for x, y in points if x == kept],
            )
            for name, points in series.items()
        ],
        [x_of(step) for step in turns],
    )


@dataclass(frozen=True)
class Dot:
    """A point of a curve, with its interval; `ringed` where it is the one to look at."""

    x: float
    y: float
    low: float
    high: float
    says: str
    ringed: bool


@dataclass(frozen=True)
class Curve:
    """Quality against what it costs."""

    title: str
    height: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    points: list[Dot]

    @property
    def path(self) -> str:
        """For `<polyline points>`."""
        return " ".join(f"{dot.x},{dot.y}" for dot in self.points)


def curve(
    title: str,
    points: Mapping[str, tuple[float, float, float, float]],
    *,
    show: Format,
    cost: Format,
    ringed: str | None = None,
    height: int = 200,
) -> Curve:
    """Place named points (cost, value, low, high), costs on a logarithmic axis."""
    costs = [log10(x) for x, *_ in points.values()]
    y_ticks = ticks(min(low for *_, low, _ in points.values()), max(high for *_, high in points.values()))
    first, last = min(costs), max(costs)
    if last - first < 0.1:  # hardly apart: in the middle
        first, last = first - 0.1, last + 0.1

    y_of = partial(upright, y_ticks, height)

    def x_of(value: float) -> float:
        return round(LEFT + 8 + (log10(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT - 16), 1)

    return Curve(
        title,
        height,
        apart([(x_of(x), cost(x)) for x, *_ in points.values()], TICK),
        [(y_of(t), show(t)) for t in y_ticks],
        [
            Dot(x_of(x), y_of(y), y_of(low), y_of(high), f"{name}: {show(y)}, {cost(x)}", name == ringed)
            for name, (x, y, low, high) in sorted(points.items(), key=lambda point: point[1][0])
        ],
    )


def upright(ticks: Sequence[float], height: int, value: float) -> float:
    """Where a value lies in a picture so high, whose axis reaches from the first tick to the last."""
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return round(height - BOTTOM - share * (height - BOTTOM - TOP), 1)


def apart(positions: Sequence[tuple[float, str]], least: float) -> list[tuple[float, str]]:
    """Those of the ticks that lie at least so far from the one before, from the last on."""
    kept: list[tuple[float, str]] = []
    for x, text in sorted(positions, reverse=True):
        if not kept or kept[-1][0] - x >= least:
            kept.append((x, text))
    return kept


@dataclass(frozen=True)
class Layer:
    """What one layer has kept: each head, and the share of neurons in each of up to `BINS` equal stretches."""

    heads: list[bool]
    neurons: list[float]
    heads_kept: int
    neurons_kept: int
    width: int  # neurons that it had


@dataclass(frozen=True)
class Strip:
    """What one block of channels has kept, in each of up to `BINS` equal stretches."""

    name: str
    shares: list[float]
    kept: int
    size: int


def layers(structure: Structure, dense: Structure) -> list[Layer]:
    """The picture of a structure, first layer first."""
    result = []
    for heads, neurons, every, wide in zip(
        structure.heads, structure.neurons, dense.heads, map(len, dense.neurons), strict=True
    ):
        shares = stretches(neurons, wide)
        result.append(Layer([h in heads for h in every], shares, len(heads), len(neurons), wide))
    return result


def strips(structure: Structure, anatomy: Anatomy) -> list[Strip]:
    """The picture of a structure of channels."""
    pairs = zip(anatomy.blocks, structure.kept, strict=True)
    return [Strip(block.name, stretches(kept, block.size), len(kept), block.size) for block, kept in pairs]


def stretches(units: Sequence[int], wide: int) -> list[float]:
    """The part that is kept in each of up to `BINS` equal stretches of so many."""
    kept, bins = set(units), max(1, min(BINS, wide))
    edges = [i * wide // bins for i in range(bins + 1)]
    return [len(kept.intersection(range(a, b))) / max(1, b - a) for a, b in pairwise(edges)]
