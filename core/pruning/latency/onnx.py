"""Files for ONNX Runtime, for batches of any size: `model.onnx`, which verify.py compares with torch, and int8."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.pruning.latency.int8 import write_int8
from core.rows.modality import Blank
from core.spec.job import ONNX_FILES


def write_onnx_files(model: Any, blank: Blank, folder: Path, formats: Collection[str]) -> None:
    """Write those of `formats` that are of ONNX Runtime; a batch of `blank` is what the model is traced by."""
    exact = folder / ONNX_FILES["onnx"]
    write_onnx(model, blank.traced, exact, blank.free)
    if "onnx-int8" in formats:
        write_int8(exact, folder / ONNX_FILES["onnx-int8"])
    if "onnx" not in formats:
        exact.unlink()


def write_onnx(
    model: Any, inputs: Mapping[str, Tensor], target: Path, free: Sequence[str] = ("batch", "length")
) -> None:
    """Inputs as the modality names them, those that the model reads; `logits`, or what the model calls its output.

    `free`: the dimensions of `inputs`, from the first, whose size stays open.
    """
    read = signature(model.forward).parameters  # some tokenizers give columns that their model does not know
    inputs = {name: column for name, column in inputs.items() if name in read}
    open_sizes = {i: Dim(name) for i, name in enumerate(free)}
    export = partial(
        torch.onnx.export,
        model.eval(),
        (),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=[getattr(model, "output", "logits")],
        dynamic_shapes=dict.fromkeys(inputs, open_sizes),
        dynamo=True,
        verbose=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own insides
        try:
            program = export()
        except torch.onnx.OnnxExporterError:  # of Swin: kernels of attention order memory as their formula does not
            with sdpa_kernel(SDPBackend.MATH):
                program = export()
        assert program is not None
        program.save(target)
    # Of what lies between, the exporter's optimiser leaves shapes that are no longer true. ONNX Runtime infers its own,
    # but its quantize_dynamic holds them against what it infers, and refuses.
    written = onnx.load(target, load_external_data=False)
    del written.graph.value_info[:]
    for node in written.graph.node:  # where in our code it comes from, and in which folder that lay
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.save(written, target)
