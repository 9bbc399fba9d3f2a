"""The one training loop: schedule, source weights, selection on dev. Teaching and recovery run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from math import isfinite, sqrt

import torch
from torch import Tensor

from core.domains.network import Network
from core.pruning.system import parallel
from core.pruning.system.device import device
from core.pruning.training.batches import Rows, draw
from core.pruning.training.checkpoint import NOWHERE, Checkpoint, random_state, restore, set_random_state, trained
from core.pruning.training.contrast import fit_head, pair_loss
from core.pruning.training.coupling import Phase
from core.pruning.training.losses import batch_loss
from core.pruning.training.predict import predict
from core.pruning.training.weighting import LearnedWeights
from core.schedule import SMALL
from core.spec.errors import SpecError
from core.spec.messages import Alive, Listener, StageName, StageProgress

WARM_UP = 0.1
EVALUATIONS = 12  # looks at dev in a stage
# Of a metric that counts rows, which one answer for all may win, the one that counts classes: dev is looked at by both.
BESIDE = {"accuracy": "balanced_accuracy", "subset_accuracy": "macro_f1", "token_accuracy": "entity_f1"}
HEAD_RATE = 10.0  # a fresh head learns this much faster than the body
FULL_RATE_ROWS = 2000  # by pairs, and behind a head that is fitted: fewer rows move what the vectors know less


@dataclass(frozen=True)
class Training:
    """How a stage trains: optimiser steps, learning rate, seed, and who hears of it.

    `learned_weights` lets a mixed phase set the weights of its streams. What `checkpoint` holds is gone on from.
    """

    steps: int
    rate: float
    seed: int
    report: Listener = lambda _message: None
    learned_weights: bool = False
    checkpoint: Checkpoint = NOWHERE


@dataclass
class History:
    """Learning curve of a stage: one point per look at dev, which point was kept, and learned weights.

    `weights` holds [step, weight of the target, weight of each source] where they are learned.
    """

    points: list[dict[str, float]] = field(default_factory=list)
    kept_step: int = 0
    weights: list[list[float]] = field(default_factory=list)


def optimizer_for(network: Network, rate: float, head_rate: float = HEAD_RATE) -> torch.optim.AdamW:
    """AdamW without decay on biases and LayerNorms; heads learn faster, but what makes vectors, which is not fresh."""
    body: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for parameter in network.body.parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim < 2 else body).append(parameter)
    head_rate = 1.0 if network.gives_vectors else head_rate
    return torch.optim.AdamW(
        [
            {"params": body, "weight_decay": 0.01},
            {"params": plain, "weight_decay": 0.0},
            {"params": list(network.heads.parameters()), "lr": rate * head_rate, "weight_decay": 0.0},
        ],
        lr=rate,
    )


def optimizer_of(phase: Phase, network: Network, rate: float) -> torch.optim.AdamW:
    """As `optimizer_for`; by pairs, and behind a head that is fitted, at a rate that grows as the root of the rows."""
    if phase.pairs or phase.fitted:
        part = min(1.0, sqrt(len(phase.streams[0].rows) / FULL_RATE_ROWS))
        return optimizer_for(network, part * rate, head_rate=1.0)
    return optimizer_for(network, rate)


def rate_at(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then linear decay to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    return (step + 1) / warm_up if step < warm_up else (steps - step) / max(1, steps - warm_up)


def recovery_rate(rate: float, student: Network, teacher: Network) -> float:
    """The learning rate of recovery: 3 times `rate`, but `rate` itself where much of the teacher is left.

    Of vectors always 3 times: each says so much of its text that little is learned by heart.
    """
    left, dense = (sum(int(p.count_nonzero()) for p in network.matrices().values()) for network in (student, teacher))
    return 3 * rate if left <= SMALL * dense or teacher.gives_vectors else rate


def dev_scores(network: Network, dev: Rows, alive: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Metrics and loss on the dev rows; `alive` is called after each batch."""

    def scores() -> dict[str, float]:
        logits = predict(network, dev, fast=True, alive=alive)
        return dev.task.quality(logits, dev.labels) | {"loss": float(dev.task.loss(logits, dev.labels))}

    return parallel.agree(scores)


def require_number(loss: float, step: int, stage: StageName) -> None:
    """Raises SpecError('/train/learning_rate') for a training that diverged."""
    if not isfinite(loss):
        raise SpecError(
            "/train/learning_rate",
            f"training went astray: at step {step} of '{stage}' the loss is no number. Give a lower learning rate, or "
            "leave it out",
        )


def rank(dev: Mapping[str, float], metric: str) -> tuple[float, float]:
    """What a look at dev is kept by, the largest: the metric, twice as much as one `BESIDE` it; of equals the loss.

    Where all classes have as many rows, accuracy and balanced accuracy are one, and only the metric counts.
    """
    return round((2 * dev[metric] + dev.get(BESIDE.get(metric, metric), dev[metric])) / 3, 9), -dev["loss"]


class Pace:
    """Reports progress, or that there is life between two steps, about once a second."""

    def __init__(self, report: Listener, stage: StageName, steps: int) -> None:
        self.report, self.stage, self.steps = report, stage, steps
        self.last = time.monotonic()
        self.dev: dict[str, float] | None = None

    def step(self, done: int, sparsity: float | None = None) -> None:
        """`done` steps are finished."""
        if not self._due() and done < self.steps:
            return
        self.last = time.monotonic()
        self.report(
            StageProgress(
                stage=self.stage,
                step=done,
                steps=self.steps,
                sparsity=None if sparsity is None else round(sparsity, 4),
                dev=self.dev and {name: round(value, 4) for name, value in self.dev.items()},
            )
        )

    def alive(self) -> None:
        """Call it while a step takes long."""
        if self._due():
            self.last = time.monotonic()
            self.report(Alive())

    def _due(self) -> bool:
        return time.monotonic() - self.last >= 1.0


def learn(phase: Phase, dev: Rows, steps: int, seed: int) -> LearnedWeights | None:
    """Learned weights, where a phase has anything to weigh."""
    return LearnedWeights(phase.streams, dev, steps, seed) if len(phase.streams) > 1 else None


def train(
    network: Network,
    plan: Sequence[Phase],
    dev: Rows | None,
    training: Training,
    *,
    stage: StageName,
    metric: str,
) -> History:
    """Run the phases one after the other and leave the network as it was best on dev in the last one.

    The last phase is always on the target; earlier ones only prepare it, so nothing is selected there.
    Without `dev` nothing is selected: the network stays as it was after the last step.
    """
    steps, seed, checkpoint = training.steps, training.seed, training.checkpoint
    network.to(device()).train()
    torch.manual_seed(seed)
    history, pace, before = History(), Pace(training.report, stage, steps), 0
    best: tuple[float, float] | None = None
    loss: Tensor | None = None
    kept: dict[str, Tensor] = {}
    saved = checkpoint.load()

    def look(dev: Rows, done: int) -> None:
        nonlocal best, kept
        pace.dev = dev_scores(network, dev, pace.alive)
        require_number(pace.dev["loss"], done, stage)
        history.points.append({"step": done, "phase": number, **pace.dev})
        found = rank(pace.dev, metric)
        if last and (best is None or found > best):
            best, history.kept_step = found, done
            kept = {name: tensor.clone() for name, tensor in trained(network).items()}

    for number, phase in enumerate(plan):
        last = number == len(plan) - 1
        count, first = steps - before if last else round(phase.part * steps), 0
        if saved and number < saved["phase"]:
            before += count
            continue
        optimizer = optimizer_of(phase, network, training.rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_at, steps=count))
        every = max(1, count // (EVALUATIONS if last else 4))  # nothing is selected before the last phase
        drawn = draw([(stream.rows, stream.share) for stream in phase.streams], count, seed + number)
        weights = learn(phase, dev, count, seed) if training.learned_weights and last and dev is not None else None
        if phase.fitted and not saved:
            fit_head(network, phase.streams[0], pace.alive)
            if dev is not None:
                look(dev, before)
        if saved:
            first, history, pace.dev = saved["step"], History(**saved["history"]), saved["dev"]
            best, kept = saved["best"] and tuple(saved["best"]), saved["kept"]
            restore(network, saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            if weights:
                weights.resume(saved["weights"])
            set_random_state(saved["random"])
            saved = None
        loss_of = pair_loss if phase.pairs else batch_loss
        for step, index in enumerate(islice(drawn, first, None), first + 1):
            loss = loss_of(network, weights.streams if weights else phase.streams, index)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            parallel.average(parameter.grad for parameter in network.parameters())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if weights:
                weights.update(network, step, index)
            if dev is not None and not phase.pairs and (step % every == 0 or step == count):
                look(dev, before + step)
            pace.step(before + step)
            if step < count and checkpoint.due():
                checkpoint.save(
                    {
                        "phase": number,
                        "step": step,
                        "history": asdict(history),
                        "dev": pace.dev,
                        "best": best,
                        "kept": kept,
                        "network": trained(network),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "weights": weights and weights.state(),
                        "random": random_state(),
                    }
                )
        before += count
        history.weights += weights.curve if weights else []
    if dev is not None:
        restore(network, kept)
    elif loss is not None:
        require_number(parallel.agree(loss.item), before, stage)
    return history
