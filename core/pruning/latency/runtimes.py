"""A model made ready to run under a runtime: eager PyTorch, torch.compile or ONNX Runtime, in float32 or int8."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.machine import cpu_name
from core.pruning.latency.onnx import write_onnx_files
from core.pruning.system.device import device
from core.rows.modality import Blank
from core.spec.budget import Budget
from core.spec.errors import SpecError
from core.spec.job import ONNX_FILES

ONNX_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Conditions:
    """What a latency is measured under: nothing else about it may differ between two that are compared."""

    runtime: str
    device: str  # cpu or cuda
    device_name: str
    threads: int  # of the CPU
    batch_size: int
    length: int  # tokens of each text


def conditions(budget: Budget, length: int) -> Conditions:
    """Those that `budget` asks for, on this machine; SpecError for what it has not."""
    runtime = budget.runtime or "torch"
    where = "cpu" if runtime == "onnx-int8" else budget.device or device().type
    if where == "cuda" and not torch.cuda.is_available():
        raise SpecError("/budget/device", "this worker has no GPU: leave 'device' out, or give 'cpu'")
    if runtime == "onnx" and ONNX_PROVIDERS[where] not in _providers():
        if budget.device:
            raise SpecError("/budget/device", "this worker's ONNX Runtime is built for CPUs only: give device 'cpu'")
        where = "cpu"
    if runtime == "torch.compile":
        _require_compiler(where)
    name = torch.cuda.get_device_name() if where == "cuda" else cpu_name()
    return Conditions(runtime, where, name, torch.get_num_threads(), budget.batch_size or 1, length)


def _providers() -> list[str]:
    import onnxruntime

    found: list[str] = onnxruntime.get_available_providers()
    return found


def _require_compiler(where: str) -> None:
    """torch.compile fails only when a model first runs: try it on next to nothing."""
    try:
        torch.compile(torch.sin)(torch.ones(8, device=where))
    except Exception as error:
        raise SpecError(
            "/budget/runtime",
            f"torch.compile does not work on this worker ({type(error).__name__}; it needs a C++ compiler such as g++, "
            "and Python's headers): choose 'torch' or 'onnx', or install them",
        ) from error


def ready(model: Any, blank: Blank, under: Conditions) -> Callable[[], object]:
    """A call that runs `model` on a batch of `blank` once, and returns when the answer is there."""
    columns = blank(under.batch_size, under.length)
    if under.runtime in ONNX_FILES:
        with tempfile.TemporaryDirectory() as folder:
            write_onnx_files(model.cpu(), blank, Path(folder), [under.runtime])
            return session(Path(folder) / ONNX_FILES[under.runtime], columns, under)
    module = model.eval().to(under.device)
    batch = {name: column.to(under.device) for name, column in columns.items()}
    run: Any = torch.compile(module) if under.runtime == "torch.compile" else module

    def once() -> object:
        with torch.inference_mode():
            logits = run(**batch).logits
        if under.device == "cuda":
            torch.cuda.synchronize()
        return logits

    return once


def session(file: Path, columns: Mapping[str, Tensor], under: Conditions) -> Callable[[], object]:
    """A call that runs the file on a batch of the columns once.

    ONNX Runtime's threads spin for a while after a call, each session's own: two models that take turns would slow each
    other down. So they stop with the call.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = under.threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    runtime = onnxruntime.InferenceSession(file, options, providers=[ONNX_PROVIDERS[under.device]])
    batch = {one.name: columns[one.name].numpy() for one in runtime.get_inputs()}
    return lambda: runtime.run(None, batch)
