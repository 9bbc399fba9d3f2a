"""What a network says of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from core.domains.network import TARGET, Network
from core.pruning.system.device import device, low_precision
from core.pruning.training.batches import Rows, in_order
from core.pruning.training.checkpoint import NOWHERE, Checkpoint
from core.rows.text.processor import stack


def autocast(network: Network) -> AbstractContextManager[Any]:
    """The network's matrix products in bfloat16 where that is faster; weights and sums stay in float32."""
    fast = low_precision() and (device().type == "cuda" or network.wide)
    return torch.autocast(device().type, torch.bfloat16) if fast else contextlib.nullcontext()


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Convolutions of a GPU in float32, as a CPU computes them: by default they round to TF32."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def predict(
    network: Network,
    rows: Rows,
    head: str = TARGET,
    *,
    fast: bool = False,
    batch_size: int = 64,
    alive: Callable[[], None] = lambda: None,
    checkpoint: Checkpoint = NOWHERE,
) -> Tensor:
    """Logits of every row, (N, outputs), of words (N, T, outputs), on the CPU, dropout off; `fast` allows bfloat16.

    `alive` is called after each batch: many rows take minutes. What `checkpoint` holds is not computed again.
    """
    was_training = network.training
    network.eval()
    where = next(network.parameters()).device
    parts: list[tuple[list[int], Tensor]] = (checkpoint.load() or {"parts": []})["parts"]
    with autocast(network) if fast else exact():
        for index, inputs in islice(in_order(rows, batch_size), len(parts), None):
            inputs = {name: column.to(where) for name, column in inputs.items()}
            logits = rows.task.answers(network.heads[head], network(**inputs), inputs)
            parts.append((index, logits.float().cpu()))
            alive()
            if checkpoint.due():
                checkpoint.save({"parts": parts})
    checkpoint.keep({"parts": parts})
    network.train(was_training)
    found = stack([logits for _, logits in parts], 0)
    result = torch.empty_like(found)
    result[[row for index, _ in parts for row in index]] = found
    return result
