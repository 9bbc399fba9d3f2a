"""Readers with their own channels against shared ones, at equal multiply-accumulates and at equal ratio.

    python -m benchmarks.readers [--model DIR] [--removed 0.5 ...] [--seconds S] [--steps N]

A DenseNet-like network and MobileNetV2 (DIR, or random weights) learn to tell the pictures of tests/tiny_images.py
apart, briefly, and are scored by `fisher`. Each is cut to shared channels, to own ones in the order that serves most
readers, and to the same in the order that they come in: of the same multiply-accumulates, or so that each reader keeps
the same part of what it reads. Of each cut: accuracy and agreement with the dense network, before and after a short
recovery, and latency beside the dense network, eager and in ONNX Runtime, one thread. Writes
benchmarks/results/readers.{json,md}. `measure` takes any pictures and labels.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.domains.channels.costs import ImageCosts
from core.domains.channels.cover import covered
from core.domains.channels.cut import cut, reads
from core.domains.channels.fit import fit_channels
from core.domains.channels.fit_own import fit_own, worths
from core.domains.channels.gates import gated
from core.domains.channels.graph import Graph
from core.domains.channels.norms import match, sane_momentum, statistics
from core.domains.channels.order import ordered
from core.domains.channels.own import own_readers
from core.domains.channels.trace import trace
from core.domains.channels.trial import answers
from core.domains.fit import Scores
from core.domains.structure import ChannelStructure, Structure
from core.pruning.export.files import environment
from core.pruning.latency import stopwatch
from core.pruning.latency.onnx import write_onnx
from core.pruning.latency.runtimes import Conditions, session
from core.pruning.latency.stopwatch import compare
from tests.tiny_images import KINDS, pictures

RESULTS = Path(__file__).parent / "results"
REMOVED = 0.3, 0.5, 0.7, 0.9
READERS = "shared", "own", "own, plain order"
BATCH, SCORED, RATE, SHOWN = 32, 8, 1e-3, 6  # rows a step, batches that are scored, of learning, digits


@dataclass(frozen=True)
class Pictures:
    """Pixels (N, 3, side, side) and classes (N,), to learn from and to measure on."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


class DenseNet(nn.Module):
    """Each layer reads all before it, norm first (Huang et al., CVPR 2017), with a transition between two blocks."""

    def __init__(self, classes: int, layers: int = 6, growth: int = 12) -> None:
        super().__init__()
        width, self.stem, self.blocks = 2 * growth, nn.Conv2d(3, 2 * growth, 3, 1, 1), nn.ModuleList()
        for block in range(2):
            made = []
            for _ in range(layers):
                made.append(self.layer(width, growth, 3))
                width += growth
            after = self.layer(width, width // 2, 1)
            self.blocks.append(nn.ModuleList([*made, nn.Sequential(after, nn.AvgPool2d(2)) if not block else after]))
            width //= 2
        self.head = nn.Linear(width, classes)

    @staticmethod
    def layer(width: int, outputs: int, kernel: int) -> nn.Sequential:
        """Norm, activation, convolution."""
        return nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, outputs, kernel, 1, kernel // 2, bias=False)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        x = self.stem(pixel_values)
        for block in self.blocks:
            assert isinstance(block, nn.ModuleList)
            for layer in block[:-1]:
                x = torch.cat([x, layer(x)], 1)
            x = block[-1](x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """Of any model: what it gives first, (B, classes)."""
    return answers(model(pixel_values=x))[0]


def learn(model: nn.Module, data: Pictures, steps: int, teacher: nn.Module | None = None) -> None:
    """From labels, or from a teacher's answers; running statistics of a network that has them are kept."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(0)
    model.train(teacher is None)
    for _ in range(steps):
        rows = torch.randint(len(data.x), (BATCH,), generator=generator)
        said = logits(model, data.x[rows])
        if teacher is None:
            loss = cross_entropy(said, data.y[rows])
        else:
            with torch.no_grad():
                wanted = logits(teacher, data.x[rows])
            loss = cross_entropy(said, wanted.softmax(1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()


def fisher(model: nn.Module, graph: Graph, costs: ImageCosts, data: Pictures) -> Scores:
    """As core/pruning/scoring/importance.py, on a plain network."""
    units, columns = (torch.ones(n, requires_grad=True) for n in (graph.anatomy.size, len(graph.columns.unit)))
    sums, generator = [torch.zeros_like(units), torch.zeros_like(columns)], torch.Generator().manual_seed(0)
    for _ in range(SCORED):
        rows = torch.randint(len(data.x), (BATCH,), generator=generator)
        with gated(model, graph, units, Structure.dense(graph.anatomy), columns):
            said = logits(model, data.x[rows])
        signs = torch.randint(0, 2, said.shape, generator=generator) * 2 - 1
        found = torch.autograd.grad((said * signs).sum(), [units, columns])
        sums = [part + gradient.square() for part, gradient in zip(sums, found, strict=True)]
    each, parts = (part.double().numpy() for part in sums)
    return Scores(each / np.repeat(costs.macs.shared, costs.macs.sizes), columns=parts)


def at_ratio(graph: Graph, costs: ImageCosts, scores: Scores, kept: float, own: bool) -> Structure:
    """Of each block this part of the units; or of each reader this part of what it reads of each block."""
    columns, cost = graph.columns, costs.macs
    assert cost.own is not None
    wanted = np.maximum(1, np.round(kept * cost.sizes)).astype(int)
    if not own:
        best = (np.argsort(-scores.units[span], kind="stable") for span in cost.anatomy.spans)
        return ChannelStructure(tuple(tuple(sorted(units[:n].tolist())) for units, n in zip(best, wanted, strict=True)))
    worth, read = worths(scores, cost, cost.own), np.zeros(len(columns.unit), np.bool_)
    for reader in range(len(columns.paths)):
        for block, n in enumerate(wanted):
            mine = np.flatnonzero((columns.reader == reader) & (graph.owner[columns.unit] == block))
            read[mine[np.argsort(-worth[mine], kind="stable")][:n]] = True
    has = np.bincount(columns.unit, read, cost.anatomy.size) > 0
    rows = tuple(tuple(np.flatnonzero(has[span]).tolist() or [0]) for span in cost.anatomy.spans)
    return ChannelStructure(rows, left_out=columns.said(has[columns.unit] & ~read))


def structure_of(graph: Graph, costs: ImageCosts, scores: Scores, removed: float, by: str, readers: str) -> Structure:
    """What a cell is cut to."""
    limit = max(round((1 - removed) * costs.macs.before) - costs.macs.outside, costs.macs.smallest)
    if by == "ratio":
        found = at_ratio(graph, costs, scores, 1 - removed, readers != "shared")
    else:
        found = (fit_channels if readers == "shared" else fit_own)(scores, costs.macs, limit)
    if readers != "own":
        return found
    return covered(graph, costs.macs, limit, ordered(graph, found))


@torch.no_grad()
def quality(model: nn.Module, dense: nn.Module, data: Pictures) -> dict[str, float]:
    """Accuracy, and how often it says what the dense network does."""
    said, wanted = (logits(one, data.test_x).argmax(1) for one in (model, dense))
    return {"accuracy": float((said == data.test_y).float().mean()), "agrees": float((said == wanted).float().mean())}


def latency(model: nn.Module, dense: nn.Module, x: Tensor, runtime: str) -> float:
    """Of the dense network's, for one picture."""
    return compare(ready(dense, x, runtime), ready(model, x, runtime)).ratio


def ready(model: nn.Module, x: Tensor, runtime: str) -> Callable[[], object]:
    """A call that runs it once."""
    if runtime == "onnx":
        with tempfile.TemporaryDirectory() as folder:
            write_onnx(model, {"pixel_values": torch.cat([x, x])}, Path(folder) / "model.onnx", ("batch",))
            under = Conditions("onnx", "cpu", "", 1, 1, x.shape[-1])
            return session(Path(folder) / "model.onnx", {"pixel_values": x}, under)

    def once() -> object:
        with torch.inference_mode():
            return model(pixel_values=x)

    return once


def measure(model: nn.Module, data: Pictures, removed: tuple[float, ...], steps: int) -> list[dict[str, Any]]:
    """Every cell of a network, which has been trained."""
    x = data.x[:1]
    graph = own_readers(model, trace(model, {"pixel_values": x}), {"pixel_values": x})
    costs = ImageCosts.at(graph, x.shape[-1], 1)
    scores, found = fisher(model, graph, costs, data), []
    batches: list[Mapping[str, Tensor]] = [{"pixel_values": data.x[:256]}]
    before = statistics(model, batches)
    for part in removed:
        for by in ("macs", "ratio"):
            for readers in READERS:
                structure, small = structure_of(graph, costs, scores, part, by, readers), copy.deepcopy(model)
                cut(small, graph, structure)
                match(small, batches, before, graph, structure)
                runs = [*reads(graph, structure).values()]
                cell: dict[str, Any] = {"removed": part, "by": by, "readers": readers}
                cell |= {"macs": costs.macs.model(structure) / costs.macs.before, "own": len(runs)}
                cell |= {"gathered": sum(len(one) > 1 for one in runs), "at once": quality(small, model, data)}
                times = {runtime: latency(small, model, x, runtime) for runtime in ("torch", "onnx")}
                learn(small, data, steps, model)
                found.append(cell | {"recovered": quality(small, model, data), "latency": times})
                print(json.dumps(found[-1]), flush=True)
    return found


def drawn(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """The pictures of the tests, in [-1, 1], and their classes."""
    made = pictures(rows, seed)
    pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in made.values()]
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x, torch.tensor([KINDS[name.partition("/")[0]] for name in made])


def networks(folder: Path | None, classes: int) -> dict[str, nn.Module]:
    """The two that are measured; of MobileNetV2 the body of `folder`, if there is one."""
    torch.manual_seed(0)
    kind: Any = transformers.MobileNetV2ForImageClassification
    if folder is None:
        mobile = kind(kind.config_class(num_labels=classes, depth_multiplier=0.5))
    else:
        mobile = kind.from_pretrained(folder, num_labels=classes, ignore_mismatched_sizes=True)
    return {"densenet": DenseNet(classes), "mobilenet_v2": mobile}


def table(results: Mapping[str, list[dict[str, Any]]], steps: int) -> str:
    """The page."""
    lines = ["# Readers with their own channels\n", f"`python -m benchmarks.readers` printed this; {steps} steps."]
    head = "| removed | by | readers | of the MACs | read apart | gathered | accuracy | agrees | recovered | agrees "
    head += "| eager | ONNX |"
    for name, cells in results.items():
        lines += [f"\n## {name}\n", head, "|" + " --- |" * 12]
        for cell in cells:
            said = [f"{cell[key][one]:.1%}" for key in ("at once", "recovered") for one in ("accuracy", "agrees")]
            times = [f"{cell['latency'][one]:.2f}" for one in ("torch", "onnx")]
            first = [f"{cell['removed']:.0%}", cell["by"], cell["readers"], f"{cell['macs']:.1%}"]
            lines.append(f"| {' | '.join([*first, str(cell['own']), str(cell['gathered']), *said, *times])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all cells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--nets", nargs="*", default=["densenet", "mobilenet_v2"])
    parser.add_argument("--removed", type=float, nargs="*", default=REMOVED)
    parser.add_argument("--seconds", type=float, default=stopwatch.SECONDS)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    stopwatch.SECONDS = asked.seconds
    torch.set_num_threads(1)
    data, found = Pictures(*drawn(600, 0), *drawn(600, 1)), dict[str, list[dict[str, Any]]]()
    for name, model in networks(asked.model, len(KINDS)).items():
        if name in asked.nets:
            sane_momentum(model)
            learn(model, data, 3 * asked.steps)
            found[name] = measure(model, data, tuple(asked.removed), asked.steps)
    said = {"cells": found, "environment": environment().model_dump(mode="json")}
    (asked.out / "readers.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    (asked.out / "readers.md").write_text(table(found, asked.steps), encoding="utf-8")


if __name__ == "__main__":
    main()
