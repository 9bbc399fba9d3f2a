"""`layout: auto`: the regular layout is taken where the dev rows do not tell it to be worse than the free one."""

from __future__ import annotations

from dataclasses import replace

from core.pruning.job.on_dev import on_dev
from core.pruning.job.stages import Shrunk
from core.pruning.system import parallel
from core.spec.report import Interval

LOST = 0.02  # of the task's metric: few rows tell little


def choose(free: Shrunk, regular: Shrunk) -> Shrunk:
    """The one to take, with what the dev rows say of the two; the first process decides for all."""
    one, dev = free.prepared.one, free.prepared.inputs.dev
    metric = one.spec.task.metric
    both = free.student.eval(), [regular.student.eval()]
    apart = parallel.agree(lambda: on_dev(dev, *both, metric, one.teller.alive)[0])
    taken = regular if not_worse(apart) else free
    said = f"{apart.value:+.3f} {metric} on the dev rows ({apart.low:+.3f} to {apart.high:+.3f})"
    one.teller.note(f"layout {taken.prepared.one.spec.export.layout}: regular less free is {said}")
    layout = taken.pruned.layout and taken.pruned.layout.model_copy(update={"on_dev": apart})
    return replace(taken, pruned=replace(taken.pruned, layout=layout))


def not_worse(apart: Interval) -> bool:
    """Whether what is less by so much, paired, is not told to be worse."""
    return apart.high >= 0 and apart.value >= -LOST
