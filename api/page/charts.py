"""Geometry of pictures: numbers in, coordinates out. The markup is in `templates/parts.html`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log10

from core.ticks import ticks

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 360, 46, 12, 10, 24  # of a chart, in its own units: a phone shows it about 1:1
HEIGHT = 180
SPARK_WIDTH, SPARK_HEIGHT = 80, 20
SPARK_POINTS = 60
COLOURS = 8
APART = 50  # between ticks that are values of points

Format = Callable[[float], str]
Point = tuple[float, float]  # (x, value)
Ranged = tuple[float, float, float, float]  # (x, value, low, high)


@dataclass(frozen=True)
class Spark:
    """A line without axes, and what it says in words."""

    path: str
    says: str
    width: int = SPARK_WIDTH
    height: int = SPARK_HEIGHT


@dataclass(frozen=True)
class Dot:
    """A point, with its interval where there is one."""

    x: float
    y: float
    says: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One series; `colour` is the number of a class."""

    name: str
    dots: list[Dot]
    colour: int
    joined: bool = True

    @property
    def path(self) -> str:
        """For `<polyline points>`."""
        return " ".join(f"{dot.x},{dot.y}" for dot in self.dots)


@dataclass(frozen=True)
class Chart:
    """Lines, or dots, between two axes."""

    title: str
    x_title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def spark(values: Sequence[float]) -> Spark | None:
    """How values went; None of fewer than two."""
    if len(values) < 2:
        return None
    step = max(1, len(values) // SPARK_POINTS)
    values = [*values[:-1:step], values[-1]]
    low, span = min(values), (max(values) - min(values)) or 1.0
    across, up = SPARK_WIDTH - 4, SPARK_HEIGHT - 4
    points = [
        f"{2 + i * across / (len(values) - 1):.1f},{2 + up - (value - low) / span * up:.1f}"
        for i, value in enumerate(values)
    ]
    return Spark(" ".join(points), f"from {values[0]:.3g} to {values[-1]:.3g}")


def lines(title: str, series: Mapping[str, Sequence[Point]], show: Format, x_title: str = "step") -> Chart:
    """Series of (step, value) over one axis."""
    points = [point for one in series.values() for point in one]
    x_ticks, y_ticks = ticks(0, max(x for x, _ in points)), ticks(min(y for _, y in points), max(y for _, y in points))

    def placed(x: float, y: float) -> Dot:
        return Dot(_across(x_ticks, x), _up(y_ticks, y), f"{x_title} {x:,.0f}: {show(y)}")

    drawn = [Line(name, [placed(*point) for point in one], i % COLOURS) for i, (name, one) in enumerate(series.items())]
    whole = [(_across(x_ticks, tick), f"{tick:,.0f}") for tick in x_ticks if tick == int(tick)]
    return Chart(title, x_title, whole, [(_up(y_ticks, tick), show(tick)) for tick in y_ticks], drawn)


def against(
    title: str, series: Mapping[str, Sequence[Ranged]], show: Format, cost: Format, x_title: str, joined: bool = False
) -> Chart:
    """Values with intervals against what they cost, which is on a logarithmic axis."""
    points = [point for one in series.values() for point in one]
    y_ticks = ticks(min(low for *_, low, _ in points), max(high for *_, high in points))
    first, last = log10(min(x for x, *_ in points)), log10(max(x for x, *_ in points))
    first, last = (first - 0.1, last + 0.1) if last - first < 0.1 else (first, last)

    def across(x: float) -> float:
        inner = WIDTH - LEFT - RIGHT - 24
        return round(LEFT + 12 + (log10(x) - first) / (last - first) * inner, 1)

    def placed(name: str, x: float, y: float, low: float, high: float) -> Dot:
        says = f"{name}: {show(y)} ({show(low)} to {show(high)}), {cost(x)}"
        return Dot(across(x), _up(y_ticks, y), says, _up(y_ticks, low), _up(y_ticks, high))

    drawn = [
        Line(name, [placed(name, *point) for point in sorted(one)], i % COLOURS, joined)
        for i, (name, one) in enumerate(series.items())
    ]
    x_ticks = _apart([(across(x), cost(x)) for x, *_ in points])
    return Chart(title, x_title, x_ticks, [(_up(y_ticks, tick), show(tick)) for tick in y_ticks], drawn)


def _across(x_ticks: Sequence[float], x: float) -> float:
    return round(LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT), 1)


def _up(y_ticks: Sequence[float], y: float) -> float:
    share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def _apart(positions: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those that lie far enough from the one before, from the last on."""
    kept: list[tuple[float, str]] = []
    for x, said in sorted(positions, reverse=True):
        if not kept or kept[-1][0] - x >= APART:
            kept.append((x, said))
    return kept
