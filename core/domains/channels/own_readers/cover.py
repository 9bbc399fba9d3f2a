"""`covered`: where a layer reads some more channels rather than gathering those that it reads."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from core.domains.channels.cost import Bilinear
from core.domains.channels.graph import Graph
from core.domains.structure import ChannelStructure, Structure

# Multiply-accumulates that take as long as to gather a number: 4.2 to 6.3, float32, one thread of a CPU, convolutions
# of 1 and 3 pixels on 32 to 512 channels, torch 2.13 (index_select, the lower quartile of 200).
GATHERED = 5


def covered(graph: Graph, cost: Bilinear, limit: int, structure: Structure, multiple: int = 1) -> Structure:
    """Let readers whose channels are not one slice read all between the first and the last, as far as `limit` goes.

    Where that is faster than to gather, and what is read stays a multiple. Nothing that was read is lost.
    """
    if cost.own is None or not isinstance(structure, ChannelStructure) or not structure.left_out:
        return structure
    own, columns, keeping = cost.own, cost.own.columns, graph.keeping(structure)
    counts = [len(units) for units in structure.kept]
    out, each, left = columns.left_out(structure), own.each(counts), limit - cost.of(structure)
    rows = own.rows @ np.append(1, counts)
    for reader, (path, name) in enumerate(zip(columns.paths, columns.names, strict=True)):
        runs, weight = keeping.reads(graph.weights[name]), graph.weights[name]
        if len(runs) < 2:
            continue
        units = keeping.now[np.array(weight.sides[1], np.int64)]
        between = units[keeping.has[units]][runs[0][0] : sum(runs[-1])]
        mine = columns.where(path, np.unique(between[between < len(graph.owner)]))
        gap = mine[out[mine]]
        more, read = int(columns.count[gap].sum()), sum(count for _, count in runs)
        faster = more * rows[reader] * prod(weight.shape[2:]) <= GATHERED * read
        if faster and not (read + more) % multiple and each[gap].sum() <= left:
            out[gap] = False
            left -= int(each[gap].sum())
    return replace(structure, left_out=columns.said(out))
