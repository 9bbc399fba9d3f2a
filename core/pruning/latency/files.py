"""Files for ONNX Runtime of the dense model and of what was cut from it: written, and timed in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch

from core.domains.network import Network
from core.machine import cpu_name
from core.pruning.latency.onnx import write_onnx_files
from core.pruning.latency.passes import in_turn_ms
from core.pruning.latency.runtimes import Conditions, session
from core.pruning.latency.stopwatch import timed
from core.rows.modality import Batch, Blank
from core.spec.job import ONNX_FILES

Times = dict[str, dict[str, float]]  # by file, by batch size
Passes = Callable[[int], Callable[[], float]]  # size of a batch -> a pass, which gives seconds


def write_and_time(
    dense: Network,
    cut: Mapping[Path, Network],
    formats: Collection[str],
    blank: Blank,
    length: int,
    alive: Callable[[], None] = lambda: None,
) -> tuple[Times, dict[Path, Times]]:
    """Write the files of each network into its folder; milliseconds of a pass of each on the CPU, dense ones first.

    The dense model's files are gone afterwards. The networks are on the CPU from here on.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folders = {Path(scratch): dense, **cut}
        found: dict[Path, Times] = {folder: {} for folder in folders}
        for folder, network in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            write_onnx_files(network.cpu().assembled(), blank, folder, formats)
            alive()
        for runtime in formats:
            name = ONNX_FILES[runtime]
            ready = {str(folder): passes(folder / name, runtime, blank, length) for folder in folders}
            times = in_turn_ms(ready, alive)
            for folder in folders:
                found[folder][name] = times[str(folder)]
    return found.pop(Path(scratch)), found


def passes(file: Path, runtime: str, blank: Callable[[int, int], Batch], length: int) -> Passes:
    """Give what, of the size of a batch, makes a pass that says its seconds, waiting for a core not counted."""

    def ready(batch_size: int) -> Callable[[], float]:
        under = Conditions(runtime, "cpu", cpu_name(), torch.get_num_threads(), batch_size, length)
        once = session(file, blank(batch_size, length), under)

        def one_pass() -> float:
            took, waited = timed(once)
            return took - waited

        return one_pass

    return ready
