"""Random networks of convolutions, sums, concatenations, slices, groups and more: masked == cut, costs are exact."""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.domains.channels.cost import ChannelCosts
from core.domains.channels.cut import cut
from core.domains.channels.gates import gated
from core.domains.channels.tracing.trace import trace
from core.domains.channels.tracing.trial import draw
from core.domains.structure import Structure
from tests.domains.channels.nets import Plain, answer, pictures, scattered
from tests.draws import draws

SIDE = 8
Step = tuple[str, int, int, int]  # what is done, to which of the tensors so far, and a width
KINDS = [
    "conv",
    "depthwise",
    "grouped",
    "add",
    "cat",
    "slice",
    "chunk",
    "gate",
    "scale",
    "pool",
    "norm",
    "shuffle",
    "attend",
    "flip",
    "pad",
]


class Drawn(Plain):
    """Each step reads tensors that earlier steps gave; the last few are read by the head, flattened or pooled."""

    def __init__(self, steps: list[Step], flat: bool) -> None:
        super().__init__()
        self.steps, self.flat = steps, flat
        self.parts = nn.ModuleList()
        self.widths = [3]
        for step in steps:
            part, width = self.made(step)
            self.parts.append(part)
            self.widths.append(width)
        last = sum(self.widths[-2:])
        self.head = nn.Sequential(nn.Linear(last * (SIDE * SIDE if flat else 1), 6), nn.ReLU(), nn.Linear(6, 5))

    def made(self, step: Step) -> tuple[nn.Module, int]:
        """The module of a step, and how many channels it gives."""
        kind, i, j, width = step
        c, other = self.widths[i % len(self.widths)], self.widths[j % len(self.widths)]
        if kind == "depthwise":
            return nn.Conv2d(c, 2 * c, 3, 1, 1, groups=c), 2 * c
        if kind == "grouped" and c % 2 == 0:
            return nn.Conv2d(c, 2 * width, 3, 1, 1, groups=2), 2 * width
        if kind == "add":
            return nn.ModuleList([nn.Conv2d(c, other, 1, bias=False)]), other
        if kind == "cat":
            return nn.Identity(), c + other
        if kind == "slice":
            return nn.Identity(), max(1, c - width)
        if kind == "chunk" and c % 2 == 0:
            return nn.Identity(), c // 2
        if kind == "gate":
            return nn.Sequential(nn.Conv2d(c, 3, 1), nn.Hardswish(), nn.Conv2d(3, c, 1), nn.Sigmoid()), c
        if kind == "scale":
            return nn.ParameterList([nn.Parameter(torch.rand(c, 1, 1))]), c
        if kind == "norm":
            return nn.Sequential(nn.BatchNorm2d(c), nn.GELU()), c
        if kind == "pad":
            return nn.Identity(), c + width
        if kind in ("pool", "shuffle", "attend", "flip"):
            return nn.Identity(), c
        return nn.Conv2d(c, width, 3, 1, 1), width

    def done(self, step: Step, part: nn.Module, seen: list[Tensor]) -> Tensor:
        """Run a step."""
        kind, i, j, width = step
        x, other, size = seen[i % len(seen)], seen[j % len(seen)], self.widths[i % len(seen)]  # size: written down
        c = x.shape[1]
        if kind == "add":
            return part[0](x) + other
        if kind == "cat":
            return torch.cat([x.relu(), other], 1)
        if kind == "slice":
            kept = max(1, size - width)
            return x[:, c - kept :] if width % 2 else x[:, :kept]
        if kind == "chunk" and size % 2 == 0:
            one, two = x.chunk(2, 1)
            return one * two.sigmoid()
        if kind == "gate":
            return x * part(x.mean((2, 3), keepdim=True))
        if kind == "scale":
            return x * part[0]
        if kind == "pool":
            return nn.functional.max_pool2d(x, 3, 1, 1) - nn.functional.avg_pool2d(x, 3, 1, 1)
        if kind == "shuffle":
            return x.view(x.shape[0], 2, c // 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2) if size % 2 == 0 else x
        if kind == "attend":
            return x.flatten(2).softmax(-1).view(x.shape) + x.amax(1, keepdim=True)
        if kind == "flip":
            return x.permute(0, 2, 3, 1).flip(1).roll(1, 2).permute(0, 3, 1, 2)
        if kind == "pad":
            return nn.functional.pad(x, (0, 0, 0, 0, width, 0))
        return part(x)

    def run(self, x: Tensor) -> Tensor:
        seen = [x]
        for step, part in zip(self.steps, self.parts, strict=True):
            seen.append(self.done(step, part, seen))
        last = torch.cat(seen[-2:], 1)
        return self.head(last.flatten(1) if self.flat else last.mean((2, 3)))


STEPS = st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(0, 9), st.integers(1, 6))


@draws(60)
@given(steps=st.lists(STEPS, min_size=2, max_size=8), flat=st.booleans())
def test_masked_equals_cut(steps: list[Step], flat: bool) -> None:
    torch.manual_seed(0)
    model = Drawn([("conv", 0, 0, 8), *steps], flat).double().eval()
    inputs = pictures(2, SIDE)
    scattered(model)
    graph = trace(model, inputs)
    structure = draw(graph, torch.Generator().manual_seed(len(steps)))
    gates = torch.from_numpy(graph.has(structure)[:-1]).double()
    with torch.inference_mode(), gated(model, graph, gates, Structure.dense(graph.anatomy)):
        masked = answer(model, inputs)
    small = copy.deepcopy(model)
    cut(small, graph, structure)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        given = answer(small, inputs)
    assert float((given - masked).abs().max() / masked.abs().max()) < 1e-11
    costs = ChannelCosts.of(graph)
    assert 2 * 2 * costs.macs.model(structure) == counter.get_total_flops()
    assert costs.params.model(structure) == sum(p.numel() for p in small.parameters())
