"""One job: the stages, the control beside them where it is asked for, and the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from core.domains.model_ref import ModelRef
from core.pruning.job.decide import decide
from core.pruning.job.measure import measure
from core.pruning.job.passes import Pass, without_transfer
from core.pruning.job.prepare import prepare
from core.pruning.job.publish import Finished, publish
from core.pruning.job.stages import prune, recover, teach
from core.pruning.system import parallel
from core.spec.job import JobSpec
from core.spec.messages import Listener
from core.spec.report import Report

__all__ = ["ModelRef", "run"]


def run(
    spec: JobSpec,
    model: ModelRef,
    datasets: Mapping[str, Path],
    workdir: Path,
    listener: Listener,
    cache: Path | None = None,
) -> Report | None:
    """Run the whole job; the checkpoint is left in `workdir/output`.

    Stages that `workdir/state` holds already are not run again; what other jobs may use, too, is kept in `cache`.
    Raises SpecError for a request that cannot be met. Of several processes (`parallel`), the first reports and exports.
    """
    parallel.join()
    if not parallel.first():
        workdir, listener, cache = parallel.folder_beside(workdir), lambda _message: None, None
    parallel.meet()  # before the first changes what the others start from
    begin = partial(Pass.begin, model=model, datasets=datasets, workdir=workdir, listener=listener, cache=cache)
    own = begin(spec)
    done = control = trained_and_measured(own)
    if spec.control:
        beside = begin(without_transfer(spec), control=True)
        # `auto` may have chosen to be its own control, but for the tokens of texts that it did not use.
        if done.decided.transfer.coupling != "none" or spec.vocabulary != "keep":
            control = trained_and_measured(beside)
        own.teller.took("control", sum(beside.teller.timings.values()))
    with own.teller.stage("export"):
        report = publish(own, done, control if spec.control else None) if parallel.first() else None
    parallel.leave()
    return report


def trained_and_measured(one: Pass) -> Finished:
    """Every stage but the export."""
    with one.teller.stage("data"):
        prepared, network = prepare(one)
    decided = decide(one, prepared, network)
    with one.teller.stage("teach"):
        taught = teach(one, prepared, decided, network)
    with one.teller.stage("prune"):
        pruned = prune(one, prepared, decided, taught)
    with one.teller.stage("recover"):
        recovered = recover(one, prepared, decided, taught, pruned)
    with one.teller.stage("measure"):  # the first process does that, and has the machine for itself
        measured = measure(one, prepared, taught, pruned, recovered) if parallel.first() else None
        parallel.meet()
    curves = {"teach": taught.curve, "prune": pruned.curve, "recover": recovered.curve}
    return Finished(prepared, decided, pruned, recovered, curves, measured)
