"""What the dev rows say of models, before anybody looks at the test rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from core.domains.network import Network
from core.pruning.job.stages import Shrunk
from core.pruning.training.batches import Rows
from core.pruning.training.predict import predict
from core.spec.messages import SizeTrained
from core.spec.report import Interval


def on_dev(
    dev: Rows, dense: Network, students: Sequence[Network], metric: str, alive: Callable[[], None]
) -> list[Interval]:
    """By how much each leads the dense model on the rows that sizes are chosen by. `alive` is called on the way."""
    of_dense, *others = (predict(network, dev, alive=alive) for network in (dense, *students))
    found = []
    for said in others:
        found.append(apart(dev, said, of_dense, metric))
        alive()
    return found


def apart(dev: Rows, said: Tensor, others: Tensor, metric: str) -> Interval:
    """By how much some answers lead others, paired."""
    return Interval(**dev.task.apart(said, others, dev.labels)[metric])


def tell(size: Shrunk, dense: Network, of_dense: Tensor) -> None:
    """Say how good a size is that has been trained; `of_dense`: what the dense model answers to the dev rows."""
    one, dev = size.prepared.one, size.prepared.inputs.dev
    metric = one.spec.task.metric
    said = predict(size.student, dev, alive=one.teller.alive)
    quality, before = (Interval(**dev.task.intervals(answers, dev.labels)[metric]) for answers in (said, of_dense))
    one.teller.trained(
        SizeTrained(
            size=one.spec.budget.name,
            metric=metric,
            quality=quality,
            dense=before,
            change=apart(dev, said, of_dense, metric),
            bytes=size.student.file_bytes(one.spec.export.precision),
            dense_bytes=dense.file_bytes("float32"),
        )
    )
