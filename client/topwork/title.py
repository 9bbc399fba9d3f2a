"""What a job is called: the title that it was given, or one of its model, task and budget; as on the server's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS = {"params": "parameters", "macs": "MACs", "bytes": "bytes"}


def title(spec: Mapping[str, Any]) -> str:
    """Of a specification as it is stored."""
    model, task = str(spec.get("model", "")), spec.get("task") or {}
    kind = str(task.get("type") or "text-classification").replace("-", " ")
    return str(spec.get("title") or f"{model.partition('@')[0]}, {kind}, {budgets(spec)}")


def budgets(spec: Mapping[str, Any]) -> str:
    """What a job asks to be met, in words; several sizes in one list."""
    several = [budget(one) for one in spec.get("budgets") or []]
    return f"{len(several)} sizes: {'; '.join(several)}" if several else budget(spec.get("budget") or {})


def budget(asked: Mapping[str, Any]) -> str:
    """One budget in words: "10% of encoder parameters", "3 ms", "4x as fast"."""
    for name, value in asked.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if name in COUNTS:
            return _count(name, value, asked.get("of") or ("encoder" if name == "params" else "model"))
        if name == "latency_ms":
            return f"{value:g} ms"
        if name == "speedup":
            return f"{value:g}x as fast"
        if name == "sparsity":
            return f"{100 * value:g}% zeros"
    return "no budget"


def _count(name: str, value: float, of: str) -> str:
    if value <= 1:
        return f"{100 * value:.4g}% of {of} {COUNTS[name]}"
    if name == "bytes":
        return f"{value / 1e6:.4g} MB"
    return f"{value:,.0f} {of} {COUNTS[name]}"
