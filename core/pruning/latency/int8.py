"""`model.int8.onnx`: `model.onnx` with products and tables of 8 bits; verify.py measures what it answers.

Weights of matrix products are rounded once, a scale a column; what they are multiplied with, at each call, a scale a
batch. Seven bits of eight: kernels of processors without VNNI add two products of u8 * s8 in 16 bits, which eight bits
overflow, so that the file would answer otherwise there.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata


def write_int8(exact: Path, target: Path) -> None:
    """Write what `exact` says, an ONNX file, in 8 bits where most of its numbers are."""
    model = onnx.load(exact)
    add_pre_process_metadata(model)  # without which the next line warns, and makes a handler of the root logger
    kinds = ["MatMul", "Gather"]  # Gemm is one, too, by then
    quantize_dynamic(model, target, op_types_to_quantize=kinds, per_channel=True, reduce_range=True)
