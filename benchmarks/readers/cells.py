"""What is run: every cut of a network."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.images.groups import of_groups
from benchmarks.readers.data import Pictures
from benchmarks.readers.nets import Course, fisher, learn, quality
from core.domains.channels.costs import ImageCosts
from core.domains.channels.cut import cut, reads
from core.domains.channels.fit import fit_channels
from core.domains.channels.graph import Graph
from core.domains.channels.norms import match, statistics
from core.domains.channels.own_readers.cover import covered
from core.domains.channels.own_readers.fit import fit_own, worths
from core.domains.channels.own_readers.order import ordered
from core.domains.channels.own_readers.readers import own_readers
from core.domains.channels.tracing.trace import trace
from core.domains.fit import Scores
from core.domains.structure import ChannelStructure, Structure
from core.pruning.latency.onnx import write_onnx
from core.pruning.latency.runtimes import Conditions, session
from core.pruning.latency.stopwatch import compare

READERS, PEER, PLAIN = ("shared", "own"), "torch-pruning", "own, plain order"


Key = tuple[float, str, str]  # the part that is removed, by what, and by which readers


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
    if readers != "own":  # as they come, or shared
        return found
    return covered(graph, costs.macs, limit, ordered(graph, found))


def keys(removed: Sequence[float], seed: int) -> list[Key]:
    """Of every cut; the plain order differs by its latency alone, which is of seed 0."""
    kinds = [("macs", PEER), *((by, one) for by in ("macs", "ratio") for one in (*READERS, *[PLAIN] * (not seed)))]
    return [(part, by, readers) for part in removed for by, readers in kinds]


def cells(
    model: nn.Module, data: Pictures, course: Course, seed: int, asked: Sequence[Key]
) -> Iterator[dict[str, Any]]:
    """Those cuts of a network, which has learned; seed 0 is timed."""
    x = data.x[:1]
    graph = own_readers(model, trace(model, {"pixel_values": x}), {"pixel_values": x})
    costs = ImageCosts.at(graph, x.shape[-1], 1)
    scores, peer = fisher(model, graph, costs, data), Scores(of_groups(model, graph, x.shape[-1]))
    batches: list[Mapping[str, Tensor]] = [{"pixel_values": data.x[:256]}]
    before = statistics(model, batches)
    dense = {} if seed else {runtime: ready(model, x, runtime) for runtime in runtimes()}
    for removed, by, readers in asked:
        how = (peer, "shared") if readers == PEER else (scores, readers)
        structure, small = structure_of(graph, costs, how[0], removed, by, how[1]), copy.deepcopy(model)
        cut(small, graph, structure)
        match(small, batches, before, graph, structure)
        runs = [*reads(graph, structure).values()]
        cell: dict[str, Any] = {"removed": removed, "by": by, "readers": readers}
        cell |= {"macs": costs.macs.model(structure) / costs.macs.before, "own": len(runs)}
        cell |= {"gathered": sum(len(one) > 1 for one in runs)}
        cell["latency"] = {name: compare(run, ready(small, x, name)).ratio for name, run in dense.items()}
        if readers != PLAIN:  # which answers as `own`: only its time is another
            cell["at once"] = quality(small, model, data)
            learn(small, data, course, seed, model)
            cell["recovered"] = quality(small, model, data)
        yield cell


def runtimes() -> list[str]:
    """What can be timed here."""
    return ["torch", "onnx", *["openvino"] * (find_spec("openvino") is not None)]


def ready(model: nn.Module, x: Tensor, runtime: str) -> Callable[[], object]:
    """A call that runs it once."""

    def once() -> object:
        with torch.inference_mode():
            return model(pixel_values=x)

    if runtime == "torch":
        return once
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(model, {"pixel_values": torch.cat([x, x])}, file, ("batch",))
        if runtime == "openvino":
            import openvino

            compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": 1})
            pixels = x.numpy()
            return lambda: compiled(pixels)
        return session(file, {"pixel_values": x}, Conditions("onnx", "cpu", "", 1, 1, x.shape[-1]))
