"""Pictures as a job's inputs: the model that looks at them, and what makes pixels of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.domains.channels.load import load_images
from core.domains.channels.model import read_image_model
from core.domains.head import choose_head
from core.domains.network import Network
from core.pruning.reading.inputs import AsGiven, Hear, Inputs, encoded, require_each
from core.rows.example import labels_of
from core.rows.image.processor import Images
from core.rows.splitting.splits import Splits
from core.spec.job import JobSpec
from core.tasks import task_of


def read_pictures(spec: JobSpec, model: Path, splits: Splits, hear: Hear) -> tuple[Inputs, Network]:
    """Load the model, and make pixels; SpecError where rows and model do not suit each other."""
    kind, fitted = spec.task.problem, spec.train.steps.teach == 0
    local = read_image_model(model)
    require_each(spec, local.require)
    local.side_of(spec)
    head = choose_head(local.labels, splits.labels, kind)
    splits = replace(splits, labels=[*head.labels])  # in the order that the model's own head has them
    task = task_of(kind, splits.labels, labels_of(splits.train))
    modality = Images.of(model, spec.train.image_size, bool(spec.task.augment))
    how = {"side": modality.side, "multiple": spec.multiple}
    network = load_images(model, splits.labels, spec.train.seed, kind, **how, own=spec.own_readers, fitted=fitted)
    rows = encoded(spec, splits, task, modality)
    given = AsGiven(hear(network, rows[2], "given")) if head.own else None
    network.cpu()
    return Inputs(splits, head, task, modality, *rows, given), network
