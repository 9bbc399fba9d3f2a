"""From tables and a model's folder to encoded rows and the dense network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from core.domains.network import Network
from core.pruning.reading.inputs import Hear, Inputs
from core.pruning.reading.pictures import read_pictures
from core.pruning.reading.texts import read_texts
from core.pruning.system.device import device
from core.pruning.training.batches import Rows
from core.pruning.training.predict import predict
from core.rows.splitting.splits import prepare
from core.rows.table import read_tables
from core.spec.job import JobSpec


def hear(network: Network, rows: Rows, name: str) -> Tensor:
    """What a network says of rows, which are called `name`."""
    return predict(network.to(device()), rows)


def read_inputs(spec: JobSpec, model: Path, datasets: Mapping[str, Path], hear: Hear = hear) -> tuple[Inputs, Network]:
    """Read, check and split the tables, load the model, encode; SpecError where one does not suit the other.

    The model as it was given is heard, by `hear`, before anything of it changes.
    """
    splits = prepare(spec, read_tables(spec, datasets))
    read = read_texts if spec.task.image is None else read_pictures
    return read(spec, model, splits, hear)
