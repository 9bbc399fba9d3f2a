"""One job: the stages, the control beside them where it is asked for, and the checkpoint."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import isclose
from pathlib import Path
from typing import Any

import torch

from core.pruning import parallel, sparsity
from core.pruning.export import (
    environment,
    sha256,
    write_card,
    write_json,
    write_manifest,
    write_model,
    write_test_rows,
)
from core.pruning.metrics import CORRELATIONS
from core.pruning.page import write_page
from core.pruning.runtimes import to_onnx
from core.pruning.stages import ModelRef, Outcome, Report, Stages
from core.pruning.verdict import verdict
from core.pruning.verify import ONNX_TOLERANCE, TOLERANCE
from core.spec.budget import Budget
from core.spec.cost import Cost, Costs
from core.spec.doubts import doubts
from core.spec.job import JobSpec, Transfer
from core.spec.model import PRUNED, read_model

__all__ = ["ModelRef", "run"]


def run(
    spec: JobSpec,
    model: ModelRef,
    datasets: Mapping[str, Path],
    workdir: Path,
    report: Report,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Run the whole job; the checkpoint is left in `workdir/output`. Returns what `report.json` holds.

    Stages that `workdir/state` holds already are not run again; what other jobs may use, too, is kept in `cache`.
    Raises SpecError for a request that cannot be met. Of several processes (`parallel`), the first reports and exports.
    """
    parallel.join()
    if not parallel.first():
        workdir, report, cache = parallel.folder_beside(workdir), lambda _message: None, None
    parallel.meet()  # before the first changes what the others start from
    main = Stages(spec, model, datasets, workdir, report, cache=cache, width=0.5 if spec.control else 1.0)
    outcome = main.prune_and_measure()
    control = None
    if spec.control:
        alone = spec.model_copy(update={"sources": [], "transfer": Transfer(coupling="none"), "control": False})
        beside = Stages(alone, model, datasets, workdir, report, cache=cache, prefix="control-", start=0.5, width=0.5)
        # `auto` may have chosen to be its own control, but for the tokens of texts that it did not use.
        same = main.transfer.coupling == "none" and spec.vocabulary == "keep"
        control = (outcome if same else beside.prune_and_measure()).results["pruned"]
        main.timings["control"] = sum(beside.timings.values())
    with main.stage("export"):
        found = export(main, outcome, control) if parallel.first() else {}
    parallel.leave()
    return found


def export(done: Stages, outcome: Outcome, control: dict[str, Any] | None) -> dict[str, Any]:
    """Write the files, and see in a fresh process that they are the model that was measured."""
    spec, out, inputs = done.spec, done.output, done.inputs
    splits = inputs.splits
    transfer = done.transfer
    student, structure, results = outcome.student, outcome.structure, outcome.results
    plain = spec.export.layout == "regular" or spec.budget.sparsity is not None
    write_model(student.cpu(), structure, inputs.tokenizer, out, plain=plain)
    if "onnx" in spec.export.formats:
        to_onnx(student.assembled(), inputs.test.inputs, out / "model.onnx")
    results["pruned"]["bytes"] = (out / "model.safetensors").stat().st_size
    write_test_rows(splits.test, inputs.test, outcome.logits, inputs.tokenizer, out / "test.jsonl")
    zeros = None
    if spec.budget.sparsity is not None:
        pattern, file = spec.budget.pattern or "unstructured", out / "model.safetensors"
        zeros = sparsity.describe(student, pattern, file, list(inputs.test.inputs))
    budget = outcome.latency or counted(spec.budget, done.costs, outcome, zeros)
    if budget["met"] > budget["limit"]:
        raise RuntimeError(f"the pruned model is over its budget, please report this: {budget}")
    earlier = [PRUNED] if read_model(done.model.path, spec.task.problem).pruned else []
    sizes = {"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)}
    report: dict[str, Any] = {
        "budget": budget,
        "task": {
            "type": spec.task.type,
            "problem": spec.task.problem,
            "metric": spec.task.metric,
            "labels": splits.labels,
            "head": inputs.head.says,
        },
        "results": results,
        "control": control,
        "structure": structure.sizes(),
        "layout": done.layout,
        "sparsity": zeros,
        "vocabulary": inputs.vocabulary,
        "transfer": {
            "asked": spec.coupling,
            "coupling": transfer.coupling,
            "share": transfer.share,
            "stages": transfer.active if transfer.coupling != "none" else [],
            "weighting": transfer.weighting,
            "sources": done.used if transfer.coupling != "none" else [],
            "auto": done.auto,
            "weights": done.source_weights(),
        },
        "warnings": [*earlier, *verdict(results, spec.task, splits), *doubts(spec.task, splits)],
        "data": sizes | {"sources": [len(rows) for rows in splits.sources], "dropped": dict(splits.dropped)},
        "train": {"steps": dict(done.plan.steps), "rates": dict(done.plan.rates), "seed": spec.train.seed},
        "curves": done.curves,
        "timings_s": {name: round(seconds, 1) for name, seconds in done.timings.items()},
        "work_macs": asdict(done.work) if done.work else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "environment": environment(),
    }
    manifest = {
        "model": {"name": done.model.name, "revision": done.model.revision, "weights_sha256": _weights(done.model)},
        "data": {name: sha256(path) for name, path in done.datasets.items()},
        "spec": spec.model_dump(mode="json", exclude={"webhook"}),  # whose URL may be a secret
        "max_length": inputs.max_length,
        "scale": inputs.problem.scale,
        "seed": spec.train.seed,
        "versions": report["environment"]["versions"],
    }
    write_manifest(manifest, out)  # verify reads the specification from it
    report["verified"] = verify(out, results["pruned"], done.alive)
    write_card(report, manifest, student.architecture.family.auto_class, out / "README.md")
    write_json(out / "report.json", report)
    page = report | {"model": manifest["model"], "spec": manifest["spec"]}
    write_page(page, structure, student.architecture, out / "report.html")
    write_manifest(manifest, out)
    return report


def counted(budget: Budget, costs: Costs, outcome: Outcome, zeros: Mapping[str, Any] | None) -> dict[str, Any]:
    """A budget that is counted, and how it was met."""
    cost, kind, whole = outcome.cost, budget.kind, budget.counted == "model"
    limit, dense = outcome.limit + cost.outside * whole, cost.before if whole else cost.dense
    if kind == "bytes":
        met = outcome.results["pruned"]["bytes"]
    elif zeros is None:
        small: Cost = getattr(costs.of(outcome.structure), kind)
        met = small.of(outcome.structure) + small.outside * whole
    if zeros is not None:
        dense, met = zeros["weights"], zeros["weights"] - zeros["zeros"]
        limit = dense - round(budget.sparsity * dense)
    return {
        "cost": kind,
        "of": budget.counted,
        "asked": budget.value,
        "limit": limit,
        "met": met,
        "dense": dense,
        "fraction": met / dense,
        "sequence_length": costs.length if kind == "macs" else None,
    }


def peak_memory_bytes() -> dict[str, int | None]:
    """The most that this process has held so far, and of the GPU's memory."""
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"process": process, "gpu": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None}


def verify(checkpoint: Path, measured: Mapping[str, Any], alive: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Load the files in a fresh process; RuntimeError unless they are the model that was measured.

    `alive` is called whenever that process has done a batch.
    """
    command = [sys.executable, "-P", "-m", "core.pruning.verify", str(checkpoint)]
    said = []
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            alive()
        if process.wait():
            errors.seek(0)
            raise RuntimeError(f"the checkpoint does not load in a fresh process: {errors.read().strip()[-2000:]}")
    found: dict[str, Any] = json.loads(said[-1])
    same = (
        found["max_difference_to_measured"] <= TOLERANCE
        and found["parameters"] == measured["model_params"]
        and (found["max_difference_between_loaders"] or 0) <= TOLERANCE
        and (found["max_difference_onnx"] or 0) <= ONNX_TOLERANCE
    )
    quality = {name: interval["value"] for name, interval in measured["test"].items()}
    if not found["changed_predictions"]:  # a tie that falls the other way within the tolerance
        same &= all(
            isclose(found["test"][name], value, rel_tol=0.01, abs_tol=0.01)
            for name, value in quality.items()
            if name not in CORRELATIONS  # of answers that hardly differ, the tolerance alone can turn them
        )
    if not same:
        raise RuntimeError(f"the checkpoint is not the model that was measured: {found} against {measured}")
    return found


def _weights(model: ModelRef) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(model.path.glob("*.safetensors"))}
