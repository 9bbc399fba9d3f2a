"""A job on several GPUs: one process each, with the same network, which share every batch of the training loops.

In each process the body runs on a part of the rows; what it says of all of them is gathered, so that heads and losses
see the whole batch, whatever they average over. The gradients are averaged before each step, and so the networks stay
the same. What decides (dev scores, latencies, the structure) is the first process's: it alone reports, measures, saves
and exports. What `l0` and `pdp` cut on the way each finds for itself: bit by bit the same on devices of one kind.
`accelerate launch` starts the processes; in one alone all of this does nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.spec.errors import SpecError

T = TypeVar("T")

PATIENCE = timedelta(days=8)  # the first process may measure or predict for long: the supervisor watches the time


def join() -> None:
    """Meet the processes that were started together with this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)


def leave() -> None:
    """Part once all are done."""
    if processes() > 1:
        meet()
        dist.destroy_process_group()


def processes() -> int:
    """How many share this job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this process speaks for all."""
    return processes() == 1 or dist.get_rank() == 0


def meet() -> None:
    """Wait for the others."""
    if processes() > 1:
        dist.all_reduce(torch.zeros(1))


def folder_beside(workdir: Path) -> Path:
    """A folder for another process than the first: what a resumed job starts from, as it is now, and room to write."""
    own = workdir / f"process-{dist.get_rank()}"
    if (workdir / "state").exists():
        shutil.copytree(workdir / "state", own / "state", copy_function=os.link)
    return own


def agree(work: Callable[[], T]) -> T:
    """What the first process finds; it alone does the work. Raises SpecError in all if it does."""
    if processes() == 1:
        return work()
    said: list[Any] = [None, None]
    if first():
        try:
            said[0] = work()
        except SpecError as error:
            said[1] = error.field, error.message
    dist.broadcast_object_list(said, 0, device=torch.device("cpu"))
    if said[1] is not None:
        raise SpecError(*said[1])
    found: T = said[0]
    return found


def features(network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What `network` says of a batch, (B, ...), each process having run it on its part of the rows.

    Gradients of it must be averaged (`average`), since each process has those of its own rows, times their number.
    """
    if processes() == 1:
        found: Tensor = network(**inputs)
        return found
    rows = len(next(iter(inputs.values())))
    part = -(-rows // processes())
    mine = torch.arange(dist.get_rank() * part, (dist.get_rank() + 1) * part).clamp(max=rows - 1)
    own: Tensor = network(**{name: column[mine.to(column.device)] for name, column in inputs.items()})
    every: Tensor = _Gather.apply(own.float())  # type: ignore[no-untyped-call]
    return every[:rows]  # without what filled up the last part


class _Gather(torch.autograd.Function):
    """(b, ...) of each process -> (processes * b, ...)."""

    @staticmethod
    def forward(_ctx: Any, mine: Tensor) -> Tensor:
        every = [torch.empty_like(mine) for _ in range(processes())]
        dist.all_gather(every, mine.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.chunk(processes())[dist.get_rank()] * processes()


def average(gradients: Iterable[Tensor | None]) -> None:
    """Replace each by its mean over the processes; all of one kind of device."""
    found = [gradient for gradient in gradients if gradient is not None]
    if processes() == 1 or not found:
        return
    flat = torch.cat([gradient.flatten() for gradient in found])
    dist.all_reduce(flat)
    flat, start = flat / processes(), 0
    for gradient in found:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
