"""What a job is given, and what one pass through its stages works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from core.domains.model_ref import ModelRef
from core.pruning.job.progress import Teller
from core.pruning.job.state import CONTROL, State
from core.spec.job import JobSpec, Layout, Transfer
from core.spec.messages import Listener


@dataclass(frozen=True)
class Pass:
    """One pass through the stages: the job's own, or its control's beside it; or what of it is of one size."""

    spec: JobSpec
    model: ModelRef
    datasets: Mapping[str, Path]
    names: Mapping[str, str]  # of these
    output: Path
    cache: Path | None  # what other jobs may use, too
    teller: Teller
    state: State
    scratch: Path
    control: bool

    @classmethod
    def begin(
        cls,
        spec: JobSpec,
        model: ModelRef,
        datasets: Mapping[str, Path],
        workdir: Path,
        listener: Listener,
        cache: Path | None = None,
        *,
        names: Mapping[str, str] | None = None,
        control: bool = False,
    ) -> Pass:
        """In the folders of `workdir`; the control's half of the progress comes after the job's own."""
        start, width = (0.5, 0.5) if control else (0.0, 0.5 if spec.control else 1.0)
        teller = Teller(listener, control=control, start=start, width=width)
        state = State(workdir / "state", workdir / "tmp", teller, CONTROL if control else "")
        (workdir / "output").mkdir(parents=True, exist_ok=True)
        return cls(
            spec, model, datasets, names or {}, workdir / "output", cache, teller, state, workdir / "tmp", control
        )

    def laid(self, layout: Layout) -> Pass:
        """The pass in one of two layouts, with a state of its own."""
        export = self.spec.export.model_copy(update={"layout": layout})
        spec, state = self.spec.model_copy(update={"export": export}), self.state
        return replace(self, spec=spec, state=state.beside("regular-", self.teller) if layout == "regular" else state)

    def sizes(self) -> list[Pass]:
        """One for each size, with files of its own; of one budget, the pass itself."""
        if not self.spec.budgets:
            return [self]
        found = []
        for spec in self.spec.sizes:
            name, teller = spec.budget.name, self.teller.of(spec.budget.name)
            state = self.state.beside(f"{name}-", teller)
            found.append(replace(self, spec=spec, output=self.output / name, teller=teller, state=state))
        return found


def without_transfer(spec: JobSpec) -> JobSpec:
    """What the control is asked for."""
    task = spec.task.model_copy(update={"unlabelled": None})
    alone = {"task": task, "sources": [], "transfer": Transfer(coupling="none"), "control": False}
    return spec.model_copy(update=alone)
