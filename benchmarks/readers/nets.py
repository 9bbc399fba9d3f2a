"""What is cut: a network, how it learns, and how its units are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.readers.data import Pictures
from core.domains.channels.costs import ImageCosts
from core.domains.channels.gates import gated
from core.domains.channels.graph import Graph
from core.domains.channels.tracing.trial import answers
from core.domains.fit import Scores
from core.domains.structure import Structure

BATCH, SCORED, AT_ONCE = 32, 8, 250  # rows a step, batches that are scored, rows that are asked at once


@dataclass(frozen=True)
class Course:
    """How a network learns: steps, and of its recovery; the learning rate, and how many times that of its head."""

    steps: int
    recover: int
    rate: float
    head: str
    head_rate: float


COURSES = {
    "densenet": Course(600, 150, 1e-3, "head", 1.0),
    "mobilenet_v2": Course(200, 100, 1e-4, "classifier", 10.0),
}


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


def learn(model: nn.Module, data: Pictures, course: Course, seed: int, teacher: nn.Module | None = None) -> None:
    """From labels; or, in recovery, from a teacher's answers, with running statistics as they are."""
    named = {**dict(model.named_parameters())}
    body = [one for name, one in named.items() if not name.startswith(course.head)]
    head = [one for name, one in named.items() if name.startswith(course.head)]
    groups: list[dict[str, Any]] = [{"params": body}, {"params": head, "lr": course.rate * course.head_rate}]
    optimizer = torch.optim.AdamW(groups, lr=course.rate)
    generator = torch.Generator().manual_seed(seed)
    model.train(teacher is None and course.head_rate == 1)  # what came trained keeps its statistics
    for _ in range(course.recover if teacher else course.steps):
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


@torch.no_grad()
def quality(model: nn.Module, dense: nn.Module, data: Pictures) -> dict[str, float]:
    """Accuracy, and how often it says what the dense network does."""
    parts = torch.split(data.test_x, AT_ONCE)
    said, wanted = (torch.cat([logits(one, x).argmax(1) for x in parts]) for one in (model, dense))
    return {"accuracy": float((said == data.test_y).float().mean()), "agrees": float((said == wanted).float().mean())}


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
