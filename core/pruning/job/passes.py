"""What a job is given, and what one pass through its stages works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.domains.model_ref import ModelRef
from core.pruning.job.progress import Teller
from core.pruning.job.state import State
from core.spec.job import JobSpec, Transfer
from core.spec.messages import Listener


@dataclass(frozen=True)
class Pass:
    """One pass through the stages: the job's own, or its control's beside it."""

    spec: JobSpec
    model: ModelRef
    datasets: Mapping[str, Path]
    output: Path
    cache: Path | None  # what other jobs may use, too
    teller: Teller
    state: State
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
        control: bool = False,
    ) -> Pass:
        """In the folders of `workdir`; the control's half of the progress comes after the job's own."""
        start, width = (0.5, 0.5) if control else (0.0, 0.5 if spec.control else 1.0)
        teller = Teller(listener, control=control, start=start, width=width)
        state = State(workdir / "state", workdir / "tmp", teller, "control-" if control else "")
        (workdir / "output").mkdir(parents=True, exist_ok=True)
        return cls(spec, model, datasets, workdir / "output", cache, teller, state, control)


def without_transfer(spec: JobSpec) -> JobSpec:
    """What the control is asked for."""
    return spec.model_copy(update={"sources": [], "transfer": Transfer(coupling="none"), "control": False})
