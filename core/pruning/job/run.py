"""One job: the stages, the control beside them where it is asked for, and the checkpoint of each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from core.domains.model_ref import ModelRef
from core.pruning.job.decide import Decided, decide
from core.pruning.job.family import publish_family
from core.pruning.job.layouts import choose
from core.pruning.job.measure import measure
from core.pruning.job.on_dev import tell
from core.pruning.job.passes import Pass, without_transfer
from core.pruning.job.precision import require_range
from core.pruning.job.prepare import Prepared, prepare, together
from core.pruning.job.probe import probe
from core.pruning.job.publish import Finished, publish
from core.pruning.job.stages import Shrunk, Taught, prune, recover, teach
from core.pruning.system import parallel
from core.pruning.training.predict import predict
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.messages import Listener
from core.spec.report import FamilyReport, ProbeReport, Report

__all__ = ["ModelRef", "run"]


def run(
    spec: JobSpec,
    model: ModelRef,
    datasets: Mapping[str, Path],
    workdir: Path,
    listener: Listener,
    cache: Path | None = None,
    names: Mapping[str, str] | None = None,
) -> Report | FamilyReport | ProbeReport | None:
    """Run the whole job; the checkpoint is left in `workdir/output`, those of several sizes in folders of it.

    Stages that `workdir/state` holds already are not run again; what other jobs may use, too, is kept in `cache`.
    `names`: what the data sets are called.
    Raises SpecError for a request that cannot be met. Of several processes (`parallel`), the first reports and exports.
    """
    parallel.join()
    if not parallel.first():
        workdir, listener, cache = parallel.folder_beside(workdir), lambda _message: None, None
    parallel.meet()  # before the first changes what the others start from
    begin = partial(Pass.begin, model=model, datasets=datasets, workdir=workdir, listener=listener, cache=cache)
    own = begin(spec, names=names)
    if spec.probe:
        return probe(own)
    done, control, alone = trained_and_measured(own), Outcome(), False
    if spec.control:
        beside = begin(without_transfer(spec), control=True)
        # `auto` may have chosen to be its own control, but for the tokens of texts that it did not use.
        alone = done.coupling == "none" and spec.vocabulary == "keep"
        control = control if alone else without_transfer_measured(own, beside)
        own.teller.took("control", beside.teller.seconds)
    with own.teller.stage("export"):
        without = {size.name: size for size in (done if alone else control).sizes}
        reports = {size.name: publish(size, without.get(size.name)) for size in done.sizes}
        several = publish_family(own, done.sizes, done.failed, reports) if spec.budgets and reports else None
    parallel.leave()
    return several or reports.get(None)


def without_transfer_measured(own: Pass, beside: Pass) -> Outcome:
    """The control; of one that cannot be made, nothing but a note: what was made with transfer is not lost."""
    try:
        return trained_and_measured(beside)
    except SpecError as error:
        own.teller.note(f"without transfer nothing was made: {error.message}")
        return Outcome()


@dataclass(frozen=True)
class Outcome:
    """Every size that was measured, by the first of several processes; why others were not."""

    coupling: str | None = None  # as it was decided
    sizes: Sequence[Finished] = ()
    failed: Mapping[str, SpecError] = field(default_factory=dict)


def trained_and_measured(one: Pass) -> Outcome:
    """Every stage but the export. Raises SpecError where no size can be met."""
    with one.teller.stage("data"):
        family, network = prepare(one)
    decided = decide(family.shared, network)
    with one.teller.stage("teach"):
        taught = teach(family.shared, decided, network)
    shrunk, failed = list[Shrunk](), dict(family.failed)
    told = parallel.first() and bool(one.spec.budgets)  # of each size, as soon as it is trained
    of_dense = predict(taught.teacher, family.shared.inputs.dev, alive=one.teller.alive) if told else None
    for prepared in family.sizes:
        try:
            made = shrink(prepared, decided, taught, shrunk[-1] if shrunk else None)
            require_range(made.student, one.spec.export.precision)
        except SpecError as error:  # a budget in time, which its structures do not meet; a weight too large for a file
            failed[prepared.one.spec.budget.name] = error
        else:
            shrunk.append(made)
            if of_dense is not None:
                tell(shrunk[-1], taught.teacher, of_dense)
    if not shrunk:
        raise together(one.spec, failed)
    with one.teller.stage("measure"):  # the first process does that, and has the machine for itself
        measured = measure(family.shared, taught, shrunk) if parallel.first() else []
        parallel.meet()
    found = [Finished(*pair) for pair in zip(shrunk, measured, strict=False)]
    return Outcome(decided.transfer.coupling, found, failed)


def shrink(prepared: Prepared, decided: Decided, taught: Taught, larger: Shrunk | None) -> Shrunk:
    """One size, cut out of the next `larger` one where that can be; of two layouts, the one to take."""
    made = shrink_laid(prepared, decided, taught, larger)
    if prepared.regular is None:
        return made
    try:
        return choose(made, shrink_laid(prepared.regular, decided, taught, None))
    except SpecError as error:  # a budget in time, which no regular structure meets
        prepared.one.teller.note(f"the free layout alone is made: {error.message}")
        return made


def shrink_laid(prepared: Prepared, decided: Decided, taught: Taught, larger: Shrunk | None) -> Shrunk:
    """In its layout."""
    teller = prepared.one.teller
    with teller.stage("prune"):
        pruned = prune(prepared, decided, taught, larger)
    if prepared.nested and not pruned.nested:
        prepared = prepared.alone
    with teller.stage("recover"):
        recovered = recover(prepared, decided, taught, pruned)
    return Shrunk(prepared, decided, pruned, recovered, taught.curve)
