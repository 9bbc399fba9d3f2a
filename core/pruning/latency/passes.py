"""Milliseconds of a pass of several models in turn, by the statistic of all milliseconds (`stopwatch.usual`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from core.pruning.latency.stopwatch import timed, usual
from core.rows.modality import Batch, Blank

SEQUENCE_LENGTH = 128
REPEATS = {1: 30, 32: 8}  # by batch size


@torch.inference_mode()
def latencies_ms(
    models: Mapping[str, nn.Module],
    blank: Blank,
    length: int = SEQUENCE_LENGTH,
    alive: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, float]]:
    """Milliseconds of one eager float32 pass of `length` tokens a row: model name -> batch size -> lower quartile.

    The models take turns, so that a noisy moment hits all alike; ratios of one call are what to compare. Time spent
    waiting for a core is not counted. `alive` is called after each pass.
    """

    def ready(model: nn.Module, batch_size: int) -> Callable[[], float]:
        return lambda: _one_pass(model, blank(batch_size, length))

    return in_turn_ms({name: partial(ready, model) for name, model in models.items()}, alive)


def in_turn_ms(
    models: Mapping[str, Callable[[int], Callable[[], float]]], alive: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """As `latencies_ms`, of whatever takes, once it knows the size of a batch, a pass and says its seconds."""
    result: dict[str, dict[str, float]] = {name: {} for name in models}
    for batch_size, repeats in REPEATS.items():
        passes = {name: ready(batch_size) for name, ready in models.items()}
        times: dict[str, list[float]] = {name: [] for name in models}
        for i in range(2 + repeats):
            for name, one_pass in passes.items():
                elapsed = one_pass()
                alive()
                if i >= 2:  # the first passes warm caches up
                    times[name].append(elapsed)
        for name, values in times.items():
            result[name][str(batch_size)] = round(usual(values) * 1000, 3)
    return result


def _one_pass(model: nn.Module, batch: Batch) -> float:
    where = next(model.parameters()).device
    batch = {name: column.to(where) for name, column in batch.items()}
    run: Any = model

    def once() -> None:
        run(**batch)
        _wait(where)

    _wait(where)
    took, waited = timed(once)
    return took - waited


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize()
