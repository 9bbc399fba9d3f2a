"""How values are written for people."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from api.amounts import duration, size
from core.spec.metrics import METRICS, NUMBERS, shown

GLYPHS = {"queued": "○", "running": "◐", "cancelling": "◌", "succeeded": "✓", "failed": "✗", "cancelled": "⊘"}
STAGES = {
    "data": ("Data", "reads the rows, leaves out duplicates, splits them"),
    "auto": ("Trials", "finds out by short trials whether and how to borrow from the sources"),
    "teach": ("Teach", "trains the dense model on the task"),
    "prune": ("Prune", "finds out what each part is worth, and cuts down to the budget"),
    "recover": ("Recover", "trains what is left"),
    "measure": ("Measure", "measures quality on the test rows, size and speed"),
    "export": ("Export", "writes the files, and has a fresh process load and check them"),
}


def stage(name: str) -> str:
    """A stage's heading."""
    return STAGES.get(name, (name.capitalize(), ""))[0]


def doing(name: str) -> str:
    """What a stage is doing."""
    return STAGES.get(name, ("", ""))[1]


def instant(ms: int) -> str:
    """Milliseconds since the epoch, for programs."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def clock(ms: int) -> str:
    """Milliseconds since the epoch: 29 Nov 22:05 UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%-d %b %H:%M UTC")


def milliseconds(value: float) -> str:
    """Three digits: 4.07 ms."""
    return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"


def value(of: str) -> Callable[[float], str]:
    """How values of a metric are written on an axis: 82% when that is all there is."""
    return lambda found: shown(found, of).replace(".0%", "%")


def metric(name: str) -> str:
    """What people call it."""
    return METRICS.get(name, name)


def change(value: float, of: str) -> str:
    """A difference of a metric: +1.2 points, or +0.0123."""
    return f"{value:+.4g}" if of in NUMBERS else f"{100 * value:+.1f}"


def cell(value: Any) -> str:
    """A value of a table, cut where it is long."""
    if isinstance(value, Mapping | list):
        value = json.dumps(value, ensure_ascii=False)
    said = "" if value is None else str(value)
    return said if len(said) <= 300 else said[:299] + "…"


FILTERS: dict[str, Callable[..., str]] = {
    "glyph": lambda status: GLYPHS.get(status, "?"),
    "stage": stage,
    "doing": doing,
    "size": size,
    "duration": duration,
    "instant": instant,
    "clock": clock,
    "milliseconds": milliseconds,
    "count": "{:,}".format,
    "shown": shown,
    "change": change,
    "metric": metric,
    "cell": cell,
    "quoted": lambda value: shlex.quote(str(value)),
}
