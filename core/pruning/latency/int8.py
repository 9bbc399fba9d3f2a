"""`model.int8.onnx`: `model.onnx` with products and tables of 8 bits; verify.py measures what it answers.

Weights of matrix products are rounded once, a scale a column; what they are multiplied with, at each call, a scale a
batch (`quantize_dynamic`). Seven bits of eight: kernels of processors without VNNI add two products of u8 * s8 in 16
bits, which eight bits overflow, so that the file would answer otherwise there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

LEAST = 1024  # numbers of a table; of fewer, such as biases by position, all bits are kept
MOST = 127


def write_int8(exact: Path, target: Path) -> None:
    """Write what `exact` says, an ONNX file, in 8 bits where most of its numbers are."""
    model = onnx.load(exact)
    round_tables(model.graph)
    add_pre_process_metadata(model)  # without which the next line warns, and makes a handler of the root logger
    quantize_dynamic(model, target, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True)


def round_tables(graph: onnx.GraphProto) -> None:
    """Make int8 of the tables that rows are looked up in, a scale a row: of embeddings no two rows are alike in size.

    `quantize_dynamic` has one scale for a whole table.
    """
    tables = {one.name: one for one in graph.initializer if one.data_type == TensorProto.FLOAT and len(one.dims) == 2}
    made: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        table = tables.get(node.input[0]) if node.op_type == "Gather" and axis == 0 else None
        if table is None or np.prod(table.dims) < LEAST:
            nodes.append(node)
            continue
        rows, scales = f"{table.name}_int8", f"{table.name}_scale"
        if rows not in made:
            values = numpy_helper.to_array(table)
            scale = np.maximum(np.abs(values).max(1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(MOST)
            made[rows] = numpy_helper.from_array(np.rint(values / scale).astype(np.int8), rows)
            made[scales] = numpy_helper.from_array(scale, scales)
        index, (found,) = node.input[1], node.output
        nodes += [
            helper.make_node("Gather", [rows, index], [f"{found}_int8"]),
            helper.make_node("Cast", [f"{found}_int8"], [f"{found}_float"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [scales, index], [f"{found}_scale"]),
            helper.make_node("Mul", [f"{found}_float", f"{found}_scale"], [found]),
        ]
    used = {name for node in nodes for name in node.input}
    left = [one for one in graph.initializer if one.name in used] + [*made.values()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(left)
