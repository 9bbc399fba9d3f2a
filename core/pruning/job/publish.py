"""The stage `export`: the files, seen in a fresh process to be the model that was measured, and the report."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import torch

from core.domains.channels.families import AUTO_CLASS
from core.domains.channels.model import read_image_model
from core.domains.channels.network import ChannelNetwork
from core.domains.cost import Cost
from core.domains.folder import PRUNED
from core.domains.network import Network
from core.domains.transformer.model import read_model
from core.domains.transformer.network import TransformerNetwork
from core.domains.weights import WHOLE
from core.pruning.export.card import snippet, write_card
from core.pruning.export.files import environment, write_manifest, write_model, write_test_rows
from core.pruning.export.html_report import write_page
from core.pruning.export.images import write_image_model, write_test_pictures
from core.pruning.export.sides import Sides, changed_sides
from core.pruning.export.verify import ONNX_TOLERANCE, TOLERANCE
from core.pruning.job.decide import NOTHING
from core.pruning.job.measure import Measured
from core.pruning.job.passes import Pass
from core.pruning.job.stages import Shrunk
from core.pruning.job.verdict import busy, losses, verdict
from core.pruning.masking import sparsity
from core.pruning.system.files import sha256, write_json
from core.rows.data_warnings import doubts
from core.spec.metrics import OF_ORDER
from core.spec.report import (
    BudgetMet,
    FileMeasured,
    Memory,
    Report,
    Result,
    Results,
    RowCounts,
    Seen,
    Sizes,
    TaskSaid,
    Trained,
    TransferSaid,
    Vocabulary,
    WorkMacs,
    Zeros,
)

PYTHON: Iterable[str] = (sys.executable,)  # of the fresh process


@dataclass(frozen=True)
class Finished:
    """One size, and what was measured of it."""

    size: Shrunk
    measured: Measured

    @property
    def name(self) -> str | None:
        """Which, of several."""
        return self.size.prepared.one.teller.size


def publish(done: Finished, control: Finished | None) -> Report:
    """Write the files of one size. `control`: that of the job without transfer, which may be `done` itself."""
    size, measured, one = done.size, done.measured, done.size.prepared.one
    zeros = write_files(size, measured)
    weights = [file for file in one.output.rglob("*.safetensors") if file.is_file()]
    pruned = measured.results.pruned.model_copy(update={"bytes": sum(file.stat().st_size for file in weights)})
    found = manifest(size)
    write_manifest(found, one.output)  # verify reads the specification from it
    report = reported(done, pruned, control, zeros)
    if report.budget.met > report.budget.limit:
        raise RuntimeError(f"the pruned model is over its budget, please report this: {report.budget}")
    seen = verify(one.output, pruned, one.teller.alive, pictures_file(one))
    files = files_measured(seen, measured, report.results, one.output)
    said = [*losses(files, report.task.metric), *report.warnings]
    report = report.model_copy(update={"verified": seen.verified, "files": files, "warnings": said})
    student, largest = size.student, size.prepared.inputs.modality.largest
    loads = auto_class(student)
    write_card(report, one.spec, one.model, largest, loads, one.output / "README.md")
    write_json(one.output / "report.json", report.to_json())
    hidden = student.architecture.hidden if isinstance(student, TransformerNetwork) else 0
    page = one.output / "report.html"
    write_page(
        report,
        one.spec,
        one.model,
        size.pruned.structure,
        student.anatomy,
        page,
        hidden,
        sides(size, measured),
        snippet(report, one.spec, loads),
    )
    write_manifest(found, one.output)
    return report


def write_files(size: Shrunk, measured: Measured) -> Zeros | None:
    """The model, and the rows that it was measured on; of a model with zeros, what is said of them."""
    one, inputs, student = size.prepared.one, size.prepared.inputs, size.student.cpu()
    spec, out, precision = one.spec, one.output, one.spec.export.precision
    whole, structure = spec.budget.sparsity is not None, size.pruned.structure
    rows, test, logits = inputs.splits.test, measured.test, measured.logits
    if isinstance(student, ChannelNetwork):
        write_image_model(student, structure, inputs.modality, out, whole=whole, precision=precision)
        write_test_pictures(rows, test, logits, out / "test.jsonl", pictures_file(one))
    else:
        assert isinstance(student, TransformerNetwork)
        write_model(
            student,
            structure,
            inputs.modality,
            out,
            texts=len(spec.task.text),
            plain=whole or spec.export.layout == "regular",
            precision=precision,
        )
        write_test_rows(rows, test, logits, out / "test.jsonl")
    if spec.budget.sparsity is None:
        return None
    pattern = spec.budget.pattern or "unstructured"
    return sparsity.describe(student, pattern, weights_file(one), test.blank)


def sides(size: Shrunk, measured: Measured) -> Sides | None:
    """The test rows that report.html shows, where they have labels of a list."""
    if not measured.results.recall:
        return None
    return changed_sides(size.prepared.inputs.splits.test, measured.test, measured.dense, measured.logits)


def pictures_file(one: Pass) -> Path:
    """The test pictures, for the fresh process: no part of the checkpoint."""
    return one.scratch / "test_pictures.parquet"


def weights_file(one: Pass) -> Path:
    """Of the checkpoint."""
    return one.output / WHOLE


def auto_class(network: Network) -> str:
    """The class of transformers that loads the checkpoint."""
    return network.architecture.family.auto_class if isinstance(network, TransformerNetwork) else AUTO_CLASS


def manifest(size: Shrunk) -> dict[str, Any]:
    """What the checkpoint was made of."""
    one, inputs = size.prepared.one, size.prepared.inputs
    weights = {path.name: sha256(path) for path in sorted(one.model.path.glob("*.safetensors"))}
    return {
        "model": {"name": one.model.name, "revision": one.model.revision, "weights_sha256": weights},
        "data": {name: sha256(path) for name, path in one.datasets.items()},
        "spec": one.spec.model_dump(mode="json", exclude={"webhook"}),  # whose URL may be a secret
        "max_length": inputs.modality.largest,
        "scale": inputs.task.scale,
        "seed": one.spec.train.seed,
        "versions": environment().versions,
    }


def reported(done: Finished, pruned: Result, control: Finished | None, zeros: Zeros | None) -> Report:
    """All that was found, but what a fresh process finds."""
    size, measured = done.size, done.measured
    prepared, one, inputs = size.prepared, size.prepared.one, size.prepared.inputs
    spec, splits, path = one.spec, inputs.splits, one.model.path
    given = read_image_model(path) if spec.task.image is not None else read_model(path, spec.task.problem)
    earlier = [PRUNED] if given.pruned else []
    task, labels, gained = measured.test.task, measured.test.labels, None
    if control:
        gained = task.apart(measured.logits, control.measured.logits, labels, control.measured.test.labels)
    results = Results(**{**dict(measured.results), "pruned": pruned, "gained": gained})
    transfer = transferred(size)
    none = [NOTHING] if spec.coupling not in ("none", "auto") and transfer.coupling == "none" else []
    return Report(
        budget=measured.latency or counted(size, pruned, zeros),
        task=TaskSaid(
            type=spec.task.type,
            problem=spec.task.problem,
            metric=spec.task.metric,
            labels=splits.labels,
            head=inputs.head.says,
        ),
        results=results,
        control=pruned if control is done else control.measured.results.pruned if control else None,
        structure=Sizes(**size.pruned.structure.sizes()),
        layout=size.pruned.layout,
        sparsity=zeros,
        vocabulary=inputs.vocabulary and Vocabulary.model_validate(inputs.vocabulary, from_attributes=True),
        transfer=transfer,
        warnings=[
            *earlier,
            *none,
            *verdict(results, spec.task, splits),
            *doubts(spec.task, splits),
            *busy(results.waited),
        ],
        data=RowCounts(
            train=len(splits.train),
            dev=len(splits.dev),
            test=len(splits.test),
            sources=[len(rows) for rows in splits.sources],
            unlabelled=len(splits.unlabelled),
            dropped=dict(splits.dropped),
            names={name: one.names[name] for name in one.datasets if name in one.names},
        ),
        train=Trained(
            steps=dict(prepared.plan.steps),
            rates={**prepared.plan.rates, "recover": size.recovered.rate},
            seed=spec.train.seed,
        ),
        curves=size.curves,
        timings_s={name: round(seconds, 1) for name, seconds in one.teller.timings.items()},
        work_macs=WorkMacs(train=prepared.work.train, measure=prepared.work.measure),
        peak_memory_bytes=peak_memory_bytes(),
        environment=environment(),
    )


def transferred(size: Shrunk) -> TransferSaid:
    """How it was borrowed."""
    decided, transfer = size.decided, size.decided.transfer
    spec = size.prepared.one.spec
    own = len(spec.sources)  # the number of the target's own text
    names = ["target", *("unlabelled" if i == own else f"source {i}" for i in decided.used)]
    weights: dict[str, list[tuple[int, float]]] = {}
    before = 0
    for stage, steps in size.prepared.plan.steps.items():  # steps count from the first stage on
        for step, *values in size.curves[stage].weights:
            for name, value in zip(names, values, strict=True):
                weights.setdefault(name, []).append((int(before + step), value))
        before += steps
    entered = decided.entered(size.prepared)
    return TransferSaid(
        asked=spec.coupling,
        coupling=transfer.coupling if entered else "none",
        share=transfer.share,
        stages=entered,
        weighting="learned" if weights else "fixed",
        sources=[i for i in decided.used if i < own and entered],
        unlabelled=bool(entered) and own in decided.used,
        auto=decided.auto,
        weights=weights,
    )


def counted(size: Shrunk, pruned: Result, zeros: Zeros | None) -> BudgetMet:
    """A budget that is counted, and how it was met."""
    spec, goal, structure = size.prepared.one.spec, size.prepared.goal, size.pruned.structure
    budget = spec.budget
    cost, kind, whole = goal.fitter.cost, budget.kind, budget.counted == "model" or spec.task.image is not None
    limit, dense = goal.fitter.limit + cost.outside * whole, cost.before if whole else cost.dense
    if zeros is not None:
        dense, met = zeros.weights, zeros.weights - zeros.zeros
        limit = dense - round((budget.sparsity or 0) * dense)
    elif kind == "bytes":
        met = pruned.bytes
    else:
        small: Cost = getattr(goal.costs.of(structure), kind)
        met = small.of(structure) + small.outside * whole
    return BudgetMet(
        cost=kind,
        of="model" if whole else "encoder",
        asked=budget.value,
        limit=limit,
        met=met,
        dense=dense,
        fraction=met / dense,
        sequence_length=goal.costs.length if kind == "macs" else None,
    )


def peak_memory_bytes() -> Memory:
    """The most that this process has held so far, and of the GPU's memory."""
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Memory(process=process, gpu=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None)


def verify(
    checkpoint: Path, measured: Result, alive: Callable[[], None] = lambda: None, pictures: Path | None = None
) -> Seen:
    """Load the files in a fresh process; RuntimeError unless they are the model that was measured.

    `alive` is called whenever that process has done a batch. `pictures`: the file of the test pictures, if any.
    """
    command = [*PYTHON, "-P", "-m", "core.pruning.export.verify", str(checkpoint)]
    command += [str(pictures)] if pictures and pictures.exists() else []
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
    seen = Seen.model_validate_json(said[-1])
    found = seen.verified
    same = (
        found.max_difference_to_measured <= TOLERANCE
        and found.parameters == measured.model_params
        and (found.max_difference_between_loaders or 0) <= TOLERANCE
        and (found.max_difference_onnx or 0) <= ONNX_TOLERANCE
    )
    if not found.changed_predictions:  # a tie that falls the other way within the tolerance
        same &= all(
            isclose(found.test[name], interval.value, rel_tol=0.01, abs_tol=0.01)
            for name, interval in measured.test.items()
            if name not in OF_ORDER  # of answers that hardly differ, the tolerance alone can turn them
        )
    if not same:
        raise RuntimeError(f"the checkpoint is not the model that was measured: {found} against {measured}")
    return seen


def files_measured(seen: Seen, measured: Measured, results: Results, folder: Path) -> dict[str, FileMeasured]:
    """Each file that holds the model: what it answers, its size, and what it takes beside dense in such a file."""
    torchs, (dense, pruned) = results.pruned, measured.files
    found = {
        WHOLE: FileMeasured(test=torchs.test, bytes=torchs.bytes, latency_ms=torchs.latency_ms, speedup=torchs.speedup)
    }
    for name, quality in seen.files.items():
        found[name] = FileMeasured(
            **dict(quality),
            bytes=(folder / name).stat().st_size,
            latency_ms=pruned[name],
            speedup={b: round(dense[name][b] / took, 2) for b, took in pruned[name].items()},
        )
    return found
