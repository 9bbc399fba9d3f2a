"""Local models: the folders of `models_dir` with a config.json of a known family, safetensors, a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.spec.cost import Costs
from core.spec.families import Architecture, head_labels, read_config, require_text, require_tokenizer
from core.spec.problems import SpecError
from core.spec.structure import Structure
from core.spec.task import ProblemType
from core.spec.weights import read_shapes, require_weights

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class LocalModel:
    """A model that can be pruned without a download."""

    name: str
    architecture: Architecture
    shapes: Mapping[str, tuple[int, ...]]
    size_bytes: int
    labels: tuple[str, ...] = ()  # that its head knows, where it has one
    reads: int | None = None  # tokens of a text, at most; None where config.json does not say

    def costs(self, labels: int = 0, length: int = 1) -> Costs:
        """With a classifier for so many labels on top, for texts of `length` tokens, or as long as it reads.

        Raises SpecError('/model').
        """
        length = min(length, self.reads or length)
        family, hidden = self.architecture.family, self.architecture.hidden
        head: dict[str, tuple[int, ...]] = {}
        for path in family.head_layers:
            last = path == family.head_layers[-1]
            rows = labels if last else hidden
            head |= {f"{path}.weight": (rows, hidden)}
            head |= {f"{path}.bias": (rows,)} if path not in family.biasless else {}
        head |= {f"{path}.weight": (hidden,) for path in family.head_norms}
        return Costs.from_shapes(self.architecture, {**self.shapes, **head} if labels else self.shapes, length)

    @property
    def encoder_params(self) -> int:
        """Parameters of the dense encoder."""
        return self.costs().params.dense

    @property
    def model_params(self) -> int:
        """Parameters of the dense model without a task head."""
        return self.costs().params.model(Structure.dense(self.architecture))


def local_models(models_dir: Path) -> Iterator[LocalModel]:
    """Every usable local model, by name; folders that are not one are passed over."""
    for _, folder in sorted(_folders(models_dir).items()):
        try:
            model = _read(folder)
            model.costs()
        except SpecError:
            continue
        yield model


def find(models_dir: Path, name: str, problem: ProblemType = "single_label_classification") -> LocalModel:
    """The local model of that name; raises SpecError('/model') that says which names there are."""
    # Compared with what is there, never joined to a path: a name cannot lead out of the folder.
    folders = _folders(models_dir)
    if name not in folders:
        known = ", ".join(model.name for model in local_models(models_dir)) or "none yet"
        raise SpecError(
            "/model",
            f"there is no local model '{name[:200]}'; local models (GET /v1/models): {known}. "
            "A model of the hub is named 'owner/name@revision'",
        )
    return _read(folders[name], problem)


def _folders(models_dir: Path) -> dict[str, Path]:
    folders = models_dir.iterdir() if models_dir.is_dir() else ()
    return {f.name: f for f in folders if NAME.fullmatch(f.name) and (f / "config.json").is_file()}


def _read(folder: Path, problem: ProblemType = "single_label_classification") -> LocalModel:
    values = read_config(folder / "config.json")
    architecture = Architecture.from_config(values, problem)
    require_text(architecture.family)
    require_tokenizer(folder)
    weights = require_weights(folder)
    shapes = {name: shape for file in weights for name, shape in read_shapes(file).items()}
    prefix = f"{architecture.family.base}."
    # A checkpoint of another task brings that task's head: it is left behind when the body is loaded.
    inside = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    body = inside or {prefix + name: shape for name, shape in shapes.items()}
    pooler = f"{prefix}pooler."  # where the task model has none, it is left behind, too
    used = any(path.startswith(pooler) for path in architecture.family.head_layers)
    kept = {name: shape for name, shape in body.items() if used or not name.startswith(pooler)}
    head = shapes.get(f"{architecture.family.head_layers[-1]}.weight")
    labels = head_labels(values.get("id2label"), head[0]) if head else ()
    positions = values.get("max_position_embeddings")
    reads = positions - architecture.family.extra_positions if isinstance(positions, int) else None
    return LocalModel(folder.name, architecture, kept, sum(file.stat().st_size for file in weights), labels, reads)
