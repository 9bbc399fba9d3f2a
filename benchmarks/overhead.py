"""What a training step costs, as a ratio to plain float32 fine-tuning of the dense model at the same batch.

    python -m benchmarks.overhead MODEL_DIR

All arms take turns in one process on one thread, timed in CPU time, so that a noisy machine hits all alike. The last
lines run the product's own prune and recover stages, cached teacher and cutting on the way included, against as many
plain steps. Writes benchmarks/results/overhead.{json,md}.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from core.domains.cost import Additive
from core.domains.fit import Scores, fit
from core.domains.gates import Masks
from core.domains.network import TARGET
from core.domains.structure import Structure
from core.domains.transformer.costs import Costs
from core.domains.transformer.cut import cut
from core.domains.transformer.gates import gated
from core.domains.transformer.load import load_network
from core.domains.transformer.network import TransformerNetwork
from core.pruning.export.files import environment
from core.pruning.masking.l0 import prune
from core.pruning.scoring.fitter import Fitter
from core.pruning.system.device import low_precision
from core.pruning.training import losses as losses_module
from core.pruning.training import train as train_module
from core.pruning.training.batches import Rows, draw
from core.pruning.training.coupling import Stream, TaskRows, phases
from core.pruning.training.losses import batch_loss
from core.pruning.training.predict import predict
from core.pruning.training.train import Training, optimizer_for, train
from core.rows.text.processor import Text
from core.tasks.classes import SingleLabel

RESULTS = Path(__file__).parent / "results"
BATCH, LENGTH, ROUNDS = 32, 32, 7
PARTS = (0.5, 0.2, 0.1)  # of the encoder
IDS = Text(SimpleNamespace(pad_token_id=0), 128)  # rows are token ids already
STEPS = {"prune": 60, "recover": 60}  # of the whole-stage arms; a job's stages are this shape, only longer


def make_rows(count: int, vocabulary: int, seed: int) -> Rows:
    """Random token ids, 8 to 56 tokens long: a mean of 32, as review sentences have."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(LENGTH - 24, LENGTH + 25, (count,), generator=generator).tolist()
    ids = [torch.randint(1000, vocabulary, (n,), generator=generator) for n in lengths]
    ones = [torch.ones(n, dtype=torch.long) for n in lengths]
    return Rows({"input_ids": ids, "attention_mask": ones}, torch.arange(count) % 2, SingleLabel(), IDS)


class Arm:
    """A way to take one step; `times` are CPU seconds."""

    def __init__(self, network: TransformerNetwork, fast: bool, **options: Any) -> None:
        self.network, self.fast, self.options = network.train(), fast, options
        self.optimizer = optimizer_for(network, 1e-4)
        self.times: list[float] = []

    def step(self, streams: Sequence[Stream], index: list[list[int]]) -> None:
        """One optimiser step, timed."""
        masks, teacher = self.options.get("masks"), self.options.get("teacher")
        with precision(self.fast):
            start = time.process_time()
            if teacher is not None:
                rows = streams[0].rows
                logits = torch.zeros(len(rows), 2)
                with torch.no_grad():
                    logits[index[0]] = predict(teacher, rows.take(index[0]), fast=self.fast)
                streams = [replace(streams[0], rows=replace(rows, logits=logits), distil_weight=1.0)]
            gate = gated(self.network, masks.draw(), masks.present) if masks else contextlib.nullcontext()
            with gate:
                loss = batch_loss(self.network, streams, index)
            if masks:
                loss = loss + masks.expected() * 0
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.times.append(time.process_time() - start)


def precision(fast: bool) -> Any:
    """Hold everything to bfloat16, or to float32."""
    return patch.object(losses_module, "autocast", lambda _network: torch.autocast("cpu", torch.bfloat16, enabled=fast))


def whole(network: TransformerNetwork) -> TransformerNetwork:
    """A copy that trains everything, embeddings too: what plain fine-tuning does."""
    return copy.deepcopy(network).requires_grad_(True)


def shrunk(network: TransformerNetwork, cost: Additive, share: float) -> TransformerNetwork:
    """A copy cut to a share of its encoder, at random."""
    scores = Scores(np.random.default_rng(0).random(cost.anatomy.size))
    small = copy.deepcopy(network)
    cut(small, fit(scores, cost, int(share * cost.dense)))
    return small


def main(model_dir: Path) -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    network = load_network(model_dir, ["a", "b"], seed=0)
    shapes = {name: tuple(p.shape) for name, p in network.assembled().named_parameters()}
    cost = Costs.from_shapes(network.architecture, shapes, 1).params
    rows = make_rows(2000, network.body.config.vocab_size, seed=0)
    cached = replace(rows, logits=torch.zeros(len(rows), 2))
    masks = Masks(cost)
    masks.present = Structure.dense(cost.anatomy)  # type: ignore[assignment]
    small = {f"encoder cut to {100 * part:.0f} %": shrunk(network, cost, part) for part in PARTS}
    arms: dict[str, Arm] = {
        "plain float32 fine-tuning": Arm(whole(network), False),
        "embeddings left as they are": Arm(copy.deepcopy(network), False),
        "masks": Arm(copy.deepcopy(network), False, masks=masks),
        "live teacher": Arm(copy.deepcopy(network), False, teacher=copy.deepcopy(network)),
        "cached teacher logits": Arm(copy.deepcopy(network), False, cached=True),
        **{name: Arm(copy.deepcopy(cut_model), False) for name, cut_model in small.items()},
    }
    if low_precision():
        arms["bfloat16 autocast"] = Arm(copy.deepcopy(network), True)
        arms["bfloat16, masks, cached teacher"] = Arm(copy.deepcopy(network), True, masks=masks, cached=True)
        arms |= {f"bfloat16, {name}": Arm(copy.deepcopy(cut_model), True) for name, cut_model in small.items()}
    for index in draw([(rows, BATCH)], ROUNDS + 1, seed=0):
        for arm in arms.values():
            used = cached if arm.options.get("cached") else rows
            arm.step([Stream(used, BATCH, TARGET, 1.0, float(bool(arm.options.get("cached"))))], index)
    base = arms["plain float32 fine-tuning"].times
    table = {
        name: round(median(a / b for a, b in zip(arm.times[1:], base[1:], strict=True)), 3)
        for name, arm in arms.items()
    }
    table |= whole_stages(network, cost, rows)
    write(table, mixed_batches(network, small), model_dir.name)


def whole_stages(network: TransformerNetwork, cost: Additive, rows: Rows) -> dict[str, float]:
    """The product's prune and recover stages against as many plain float32 steps, dev looks left out of both."""
    target = TaskRows(rows.take(range(100)), TARGET, 2)
    rest = rows.take(range(100, len(rows)))
    limit = int(0.1 * cost.dense)

    def seconds(work: Callable[[], Any]) -> float:
        start = time.process_time()
        with patch.object(train_module, "dev_scores", _no_look), patch("core.pruning.masking.l0.dev_scores", _no_look):
            work()
        return time.process_time() - start

    def training(stage: str) -> Training:
        return Training(STEPS[stage], rate=1e-4, seed=0)

    def plain(stage: str) -> float:
        plan = phases("none", "teach", False, target, [], BATCH)
        with precision(fast=False):
            return seconds(lambda: train(whole(network), plan, rest, training(stage), stage="teach", metric="accuracy"))

    student = copy.deepcopy(network)
    start = time.process_time()
    with torch.no_grad():
        steps = sum(STEPS.values()) * BATCH // 2  # rows of the source that the two stages draw
        part = rest.take(range(min(steps, len(rest))))
        taught = TaskRows(replace(part, logits=predict(student, part, fast=True)), TARGET, 2)
        own = replace(target, rows=replace(target.rows, logits=predict(student, target.rows, fast=True)))
    cache = time.process_time() - start
    plan = phases("teacher", "prune", True, own, [taught], BATCH)
    pruned = seconds(lambda: prune(student, Fitter(cost, limit), plan, rest, training("prune")))
    recovered = seconds(lambda: train(student, plan, rest, training("recover"), stage="recover", metric="accuracy"))
    dense_prune, dense_recover = plain("prune"), plain("recover")
    return {
        "whole l0 prune stage to 10 %": round(pruned / dense_prune, 3),
        "whole recover stage at 10 %": round(recovered / dense_recover, 3),
        "l0 prune + recover + caching the teacher": round(
            (pruned + recovered + cache) / (dense_prune + dense_recover), 3
        ),
    }


def mixed_batches(network: TransformerNetwork, small: Mapping[str, TransformerNetwork]) -> dict[str, float]:
    """A step on target and source rows of different lengths: one pass for each, against one for both."""
    table = {}
    for lengths in ((25, 128), (16, 32)):
        streams = [Stream(same_length(n), BATCH // 2, TARGET, 1.0, 0.0) for n in lengths]
        index = [list(range(BATCH // 2)) for _ in lengths]
        for name, model in {"dense": network, **small}.items():
            arms = {passes: Arm(copy.deepcopy(model), low_precision() and model is network) for passes in (1, 2)}
            for _ in range(ROUNDS + 1):
                for passes, arm in arms.items():
                    with patch.object(losses_module, "PASS", float("inf") if passes == 1 else float("-inf")):
                        arm.step(streams, index)
            one, two = (arm.times[1:] for arm in arms.values())
            ratio = median(a / b for a, b in zip(two, one, strict=True))
            table[f"{lengths[0]} and {lengths[1]} tokens, {name}"] = round(ratio, 3)
    return table


def same_length(length: int) -> Rows:
    """Half a batch of rows."""
    ids = list(torch.randint(1000, 20000, (BATCH // 2, length)))
    return Rows(
        {"input_ids": ids, "attention_mask": [torch.ones_like(row) for row in ids]},
        torch.zeros(len(ids)).long(),
        SingleLabel(),
        IDS,
    )


def _no_look(*_args: Any) -> dict[str, float]:
    return {"accuracy": 0.0, "loss": 0.0}


def write(table: dict[str, float], mixed: dict[str, float], model: str) -> None:
    """JSON, and the same as Markdown."""
    facts = {"model": model, "batch": BATCH, "mean_length": LENGTH, "environment": environment().model_dump()}
    facts |= {"ratios": table, "mixed": mixed}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overhead.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = [
        f"CPU time of a training step on {model}, batch {BATCH}, mean length {LENGTH}, one thread, as a ratio to plain",
        "float32 fine-tuning in the same run (`make bench-overhead`).",
        "",
        "| step | ratio |",
        "|---|---|",
        *(f"| {name} | {ratio:.2f} |" for name, ratio in table.items()),
        "",
        f"A step on {BATCH // 2} target rows and {BATCH // 2} source rows of other lengths, in one pass each, as",
        "a ratio to one pass for both:",
        "",
        "| lengths, network | ratio |",
        "|---|---|",
        *(f"| {name} | {ratio:.2f} |" for name, ratio in mixed.items()),
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "overhead.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
