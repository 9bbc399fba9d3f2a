"""Round numbers along an axis, of pictures on the page and in reports."""

from __future__ import annotations

from math import ceil, floor, log10


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, about four steps of them, from at most `low` to at least `high`."""
    if high - low < 1e-9 * max(abs(low), abs(high)):  # apart by rounding alone
        high = low
    span = high - low or abs(high) or 1.0
    base = 10.0 ** floor(log10(span / 4))
    step = next(m * base for m in (1, 2, 5, 10) if m * base >= span / 4 * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
