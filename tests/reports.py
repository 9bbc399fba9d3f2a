"""A report as a job stores it."""

from __future__ import annotations

from typing import Any


def quality(value: float, *metrics: str) -> dict[str, Any]:
    """The same for each metric, with intervals."""
    return {metric: {"value": value, "low": value - 0.02, "high": value + 0.02} for metric in metrics}


def result(value: float, speedup: float = 1.0, metrics: tuple[str, ...] = ("accuracy",)) -> dict[str, Any]:
    """A measured model."""
    return {
        "test": quality(value, *metrics),
        "encoder_params": 12345,
        "macs": 5_000_000,
        "model_params": 67890,
        "bytes": 2**21,
        "latency_ms": {"1": 8.7, "32": 73.4},
        "speedup": {"1": speedup, "32": speedup},
    }


def report(**changes: Any) -> dict[str, Any]:
    """With nothing that may be missing, as the earliest version wrote it, but for `changes`."""
    return {
        "budget": {
            "cost": "params",
            "of": "encoder",
            "asked": 0.1,
            "limit": 13000,
            "met": 12345,
            "dense": 130000,
            "fraction": 0.095,
            "sequence_length": None,
        },
        "task": {"type": "text-classification", "metric": "accuracy", "labels": ["neg", "pos"]},
        "results": {"dense": result(0.876), "pruned": result(0.819, 3.4)},
        "structure": {"heads": [2, 0, 1], "neurons": [0, 10, 2]},
        "transfer": {"coupling": "none", "stages": ["teach"], "sources": []},
        "data": {"train": 100, "dev": 50, "test": 2247, "sources": [], "dropped": {}},
        "train": {"steps": {"teach": 50}, "rates": {"teach": 0.0001}, "seed": 3},
        "timings_s": {"data": 1.0, "teach": 20.5},
        "environment": {"device": "CPU, 2 threads", "machine": "x86_64", "versions": {"torch": "2.13.0"}},
        **changes,
    }


def family(**changes: Any) -> dict[str, Any]:
    """That of several sizes, one of which was not made."""
    alone = report()
    shared = {name: alone[name] for name in ("task", "transfer", "data", "timings_s", "environment")}
    change = {"value": -0.02, "low": -0.04, "high": 0.0}
    sizes = [
        {"name": name, "budget": alone["budget"], "result": result(value, 3.4), "change": change, "on_dev": change}
        for name, value in (("params-0.4", 0.87), ("params-0.1", 0.82))
    ]
    lost = {"name": "latency_ms-1", "error": "out of reach"}
    return {**shared, "dense": result(0.876), "sizes": [*sizes, lost], "recommended": "params-0.4", **changes}
