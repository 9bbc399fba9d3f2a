"""The one training loop: losses, schedule, selection on dev. Teaching, pruning and recovery all run it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.pruning.batches import Rows, draw
from core.pruning.coupling import Phase, Stream
from core.pruning.metrics import confusion, scores
from core.pruning.network import Network, autocast, device, predict

TEMPERATURE = 2.0  # of distillation (Hinton et al. 2015; CoFi uses the same)
WARM_UP = 0.1
EVALUATIONS = 12  # looks at dev in a stage
HEAD_RATE = 10.0  # a fresh head learns this much faster than the body

Report = Callable[[dict[str, Any]], None]


@dataclass
class History:
    """Learning curve of a stage: one point per look at dev, and which point was kept."""

    points: list[dict[str, float]] = field(default_factory=list)
    kept_step: int = 0


def batch_loss(network: Network, streams: Sequence[Stream], drawn: Sequence[Sequence[int]]) -> Tensor:
    """Loss of one mixed batch: one forward pass for all streams, then each stream's own head and losses."""
    where = next(network.parameters()).device
    columns = [stream.rows.collate(index) for stream, index in zip(streams, drawn, strict=True)]
    inputs = {name: _concat([c[name] for c in columns], streams[0].rows, name).to(where) for name in columns[0]}
    with autocast():
        features = network(**inputs)
    total = torch.zeros((), device=where)
    rows = sum(map(len, drawn))
    start = 0
    for stream, index in zip(streams, drawn, strict=True):
        with autocast():
            logits = network.heads[stream.head](features[start : start + len(index)])
        start += len(index)
        total = total + stream_loss(logits.float(), stream, torch.tensor(index)) * (len(index) / rows)
    return total


def stream_loss(logits: Tensor, stream: Stream, index: Tensor) -> Tensor:
    """Label loss and distillation of rows of one stream, by its weights; the label loss never vanishes unasked."""
    loss = torch.zeros((), device=logits.device)
    if stream.label_weight:
        labels = stream.rows.labels[index].to(logits.device)
        loss = loss + stream.label_weight * F.cross_entropy(logits, labels, ignore_index=-1)
    if stream.distil_weight:
        assert stream.rows.logits is not None
        teacher = stream.rows.logits[index].to(logits.device)
        loss = loss + stream.distil_weight * distillation(logits, teacher)
    return loss


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """T^2 KL(teacher || student) at temperature T, mean over rows; logits (B, C)."""
    return TEMPERATURE**2 * F.kl_div(
        F.log_softmax(student / TEMPERATURE, -1),
        F.log_softmax(teacher / TEMPERATURE, -1),
        reduction="batchmean",
        log_target=True,
    )


def _concat(parts: Sequence[Tensor], rows: Rows, name: str) -> Tensor:
    width = max(part.shape[1] for part in parts)
    pad = rows.pad_id if name == "input_ids" else 0
    return torch.cat([F.pad(part, (0, width - part.shape[1]), value=pad) for part in parts])


def optimizer_for(network: Network, rate: float) -> torch.optim.AdamW:
    """AdamW without decay on biases and LayerNorms; heads learn faster."""
    body: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, parameter in network.body.named_parameters():
        if not parameter.requires_grad:
            continue
        (plain if parameter.ndim < 2 or "norm" in name.lower() else body).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": body, "weight_decay": 0.01},
            {"params": plain, "weight_decay": 0.0},
            {"params": list(network.heads.parameters()), "lr": rate * HEAD_RATE, "weight_decay": 0.0},
        ],
        lr=rate,
    )


def rate_at(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    return (step + 1) / warm_up if step < warm_up else (steps - step) / max(1, steps - warm_up)


def dev_scores(network: Network, dev: Rows) -> dict[str, float]:
    """Metrics and loss on the dev rows."""
    logits = predict(network, dev, fast=True)
    counts = confusion(logits.argmax(1), dev.labels, logits.shape[1])
    quality = {name: float(value) for name, value in scores(counts).items()}
    return quality | {"loss": float(F.cross_entropy(logits, dev.labels))}


class Pace:
    """Reports progress about once a second, with the time that is left at the present pace."""

    def __init__(self, report: Report, stage: str, steps: int) -> None:
        self.report, self.stage, self.steps = report, stage, steps
        self.start = self.last = time.monotonic()
        self.dev: dict[str, float] | None = None

    def step(self, done: int, sparsity: float | None = None) -> None:
        """`done` steps are finished."""
        now = time.monotonic()
        if now - self.last < 1.0 and done < self.steps:
            return
        self.last = now
        left = (now - self.start) / done * (self.steps - done)
        self.report(
            {
                "event": "progress",
                "stage": self.stage,
                "step": done,
                "steps": self.steps,
                "eta_s": round(left, 1),
                "sparsity": None if sparsity is None else round(sparsity, 4),
                "dev": self.dev and {name: round(value, 4) for name, value in self.dev.items()},
            }
        )


def train(
    network: Network,
    plan: Sequence[Phase],
    dev: Rows,
    *,
    stage: str,
    steps: int,
    rate: float,
    metric: str,
    seed: int,
    report: Report,
) -> History:
    """Run the phases one after the other and leave the network as it was best on dev in the last one.

    The last phase is always on the target; earlier ones only prepare it, so nothing is selected there.
    """
    network.to(device()).train()
    torch.manual_seed(seed)
    history, pace, done = History(), Pace(report, stage, steps), 0
    best: tuple[float, float] | None = None
    state: dict[str, Tensor] = {}
    for number, phase in enumerate(plan):
        last = number == len(plan) - 1
        count = steps - done if last else round(phase.part * steps)
        optimizer = optimizer_for(network, rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_at, steps=count))
        every = max(1, count // EVALUATIONS)
        drawn = draw([(stream.rows, stream.share) for stream in phase.streams], count, seed + number)
        for step, index in enumerate(drawn, 1):
            loss = batch_loss(network, phase.streams, index)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            if step % every == 0 or step == count:
                pace.dev = dev_scores(network, dev)
                history.points.append({"step": done, "phase": number, **pace.dev})
                rank = (pace.dev[metric], -pace.dev["loss"])
                if last and (best is None or rank > best):
                    best, history.kept_step = rank, done
                    state = copy.deepcopy(network.state_dict())
            pace.step(done)
    network.load_state_dict(state)
    return history
