"""Started twice by `accelerate launch`: every training loop alone, then shared by both processes.

    python -m tests.pruning.shared_program MODEL RESULT

The first process leaves in RESULT, as JSON, for each loop: the largest difference of a number between the two ways, and
whether both processes ended with the very same numbers.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from core.domains.network import TARGET
from core.domains.transformer.costs import Costs
from core.domains.transformer.load import load_network
from core.pruning.masking import pdp, sparsity
from core.pruning.masking.l0 import prune
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.scoring.fitter import Fitter
from core.pruning.scoring.importance import importance
from core.pruning.system import parallel
from core.pruning.training import predict as module
from core.pruning.training.batches import encode
from core.pruning.training.checkpoint import Checkpoints
from core.pruning.training.coupling import TaskRows, add_heads, phases
from core.pruning.training.losses import batch_loss, labelled_by
from core.pruning.training.train import Pace, Training, train
from core.rows.example import Example
from core.rows.text.processor import Text
from core.tasks import Task
from core.tasks.classes import SingleLabel
from core.tasks.tags import Tags
from tests.tiny import rows as made_rows

Loop = Callable[[], Mapping[str, Tensor]]
BATCH = 7  # the parts of a batch are not even


def task(model: Path, problem: Task, count: int, seed: int, head: str = TARGET) -> TaskRows:
    table = made_rows(count, seed)
    examples = []
    for text, label in zip(table["text"], table["label"], strict=True):
        words = str(text).split()[: 2 + len(str(text)) % 5]  # of several lengths
        tags = tuple("B-x" if word.startswith("w1") else "O" for word in words)
        examples.append(Example(tuple(words), tags) if problem.of_words else Example((" ".join(words),), label))
    rows = encode(examples, problem, Text(load_tokenizer(model, problem.of_words), 32, problem.of_words))
    return TaskRows(rows, head, len(problem.labels))


def loops(model: Path) -> dict[str, Loop]:
    """Each gives the numbers that it ends with; the same ones each time that it is called."""
    single, words = SingleLabel(("neg", "pos")), Tags(("B-x", "O"))
    network = load_network(model, single.labels, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    network.drop_nothing()  # which no two ways of splitting a batch would draw alike
    shapes = {name: tuple(p.shape) for name, p in network.assembled().named_parameters()}
    cost = Costs.from_shapes(network.architecture, shapes, 16).params
    fitter = Fitter(cost, sum(cost.fixed) + (cost.dense - sum(cost.fixed)) // 4)
    target, dev = labelled_by(network, task(model, single, 40, 0), TARGET), task(model, single, 24, 2).rows
    source = task(model, single, 60, 1, "source0")
    plans = {name: phases(name, "prune", True, target, [source], BATCH) for name in ("joint", "tied", "sequential")}
    add_heads(network, plans["joint"], [source])
    tagger = load_network(model, words.labels, seed=0, problem="token_classification")
    tagger.drop_nothing()
    tags = task(model, words, 40, 0)
    training = Training(16, 1e-3, seed=5)

    def taught(dense: Any, plan: Any, rows: Any = dev, **changes: Any) -> Mapping[str, Tensor]:
        student = copy.deepcopy(dense)
        train(student, plan, rows, replace(training, **changes), stage="teach", metric="accuracy")
        return dict(student.named_parameters())

    def resumed() -> Mapping[str, Tensor]:
        """Killed at step 8, and gone on with from what the first process saved at step 7."""

        def step(_pace: Pace, done: int, sparsity: float | None = None) -> None:
            if done == 8:
                raise KeyboardInterrupt

        with TemporaryDirectory() as folder:
            checkpoint = Checkpoints(Path(folder), "", lambda: None).at("loop")
            save = patch.object(Checkpoints, "due", lambda _: parallel.first())
            with save, patch.object(Pace, "step", step), suppress(KeyboardInterrupt):
                taught(network, plans["joint"], checkpoint=checkpoint)
            saved = parallel.agree(lambda: {path.name: path.read_bytes() for path in Path(folder).iterdir()})
            assert saved
            for name, content in saved.items():
                (Path(folder) / name).write_bytes(content)
            return taught(network, plans["joint"], checkpoint=checkpoint)

    def cut(method: Callable[..., Any], *arguments: Any) -> Mapping[str, Tensor]:
        student = copy.deepcopy(network)
        method(student, *arguments, dev, training)
        return dict(student.named_parameters())

    def scores() -> Mapping[str, Tensor]:
        found = importance(copy.deepcopy(network), replace(fitter, hidden=True), plans["joint"], 5, 6)
        return {name: torch.from_numpy(values).log() for name, values in vars(found).items() if values is not None}

    def gradients() -> Mapping[str, Tensor]:
        student = copy.deepcopy(network)
        batch_loss(student, plans["joint"][0].streams, [[0, 1, 2, 3], [7, 8, 9]]).backward()  # type: ignore[no-untyped-call]
        found = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
        parallel.average(found.values())
        return found

    alone = phases("none", "teach", False, tags, [], BATCH)
    return {
        "gradients": gradients,
        "train": partial(taught, network, plans["joint"], learned_weights=True),
        "resumed": resumed,
        "tags": partial(taught, tagger, alone, None),
        "l0": partial(cut, prune, fitter, plans["tied"]),
        "pdp": partial(cut, pdp.prune, fitter, plans["sequential"]),
        "zeros": partial(cut, sparsity.pdp, 0.8, "unstructured", plans["joint"]),
        "fisher": scores,
    }


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference; infinite where shapes differ."""
    if any(one[name].shape != other[name].shape for name in one):
        return float("inf")
    return max(float((one[name].detach() - other[name].detach()).abs().max()) for name in one)


def main(model: Path, result: Path) -> None:
    module.low_precision = lambda: False  # or rounding would hide a fault
    torch.set_num_threads(1)
    every = loops(model)
    alone = {name: loop() for name, loop in every.items()}
    parallel.join()
    found = {}
    for name, loop in every.items():
        shared = dict(loop())
        equal = torch.tensor(float(apart(parallel.agree(lambda mine=shared: mine), shared) == 0))
        dist.all_reduce(equal)
        found[name] = [apart(shared, alone[name]), equal == parallel.processes()]
    if parallel.first():
        result.write_text(json.dumps({name: [far, bool(same)] for name, (far, same) in found.items()}))
    parallel.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
