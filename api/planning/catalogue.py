"""Local models: the folders of `models_dir` that can be pruned, and what the others are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.domains.channels.model import LocalImageModel, read_image_model
from core.domains.folder import of_images
from core.domains.transformer.model import LocalModel, read_model
from core.spec.errors import SpecError, meant
from core.spec.task import ProblemType

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Unusable:
    """Something in the models folder that cannot be pruned: what it is, and the mend."""

    name: str
    reason: str


def local_models(models_dir: Path) -> tuple[list[LocalModel | LocalImageModel], list[Unusable]]:
    """Every usable local model, by name, and everything else that is there, but for what is hidden."""
    models: list[LocalModel | LocalImageModel] = []
    others = []
    for name, path in sorted(_listed(models_dir).items()):
        try:
            models.append(_read_any(path))
        except SpecError as error:
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            others.append(Unusable(shown, error.message))
    return models, others


def find(models_dir: Path, name: str, problem: ProblemType = "single_label_classification") -> LocalModel:
    """The local model of texts of that name; SpecError('/model') says why it is none, or which names there are."""
    return _found(models_dir, name, lambda path: _read(path, problem))


def find_images(models_dir: Path, name: str) -> LocalImageModel:
    """The local image classifier of that name; SpecError('/model') as of `find`."""
    return _found(models_dir, name, _read_images)


def _found(models_dir: Path, name: str, read: Callable[[Path], T]) -> T:
    # Compared with what is there, never joined to a path: a name cannot lead out of the folder.
    listed = _listed(models_dir)
    if name not in listed:
        models, _ = local_models(models_dir)
        known = ", ".join(model.name for model in models) or "none yet"
        raise SpecError(
            "/model",
            f"there is no local model '{name[:200]}'{meant(name, [model.name for model in models]) or ';'} "
            f"local models (GET /v1/models): {known}. "
            "A model of the hub is named 'owner/name@revision'",
        )
    try:
        return read(listed[name])
    except SpecError as error:
        raise SpecError(error.field, f"'{name}' cannot be pruned: {error.message}") from error


def misnamed(models_dir: Path, name: str) -> str | None:
    """What to say of a name for the hub, 'owner/name', that is meant for a local model; None of any other."""
    owner, _, rest = name.partition("@")[0].partition("/")
    listed = _listed(models_dir)
    if owner in ("models", models_dir.name) and rest in listed:
        return f"a name with a slash is one of the hub; the local model is named '{rest}': leave '{owner}/' out"
    if owner in listed and rest in _listed(listed[owner]):
        return (
            f"a name with a slash is one of the hub, but the models folder has it, too: move the folder {rest} out of "
            f"{owner}, into the models folder itself, and name it '{rest}'"
        )
    return None


def _listed(models_dir: Path) -> dict[str, Path]:
    if not models_dir.is_dir():
        return {}
    return {path.name: path for path in models_dir.iterdir() if not path.name.startswith(".")}


def _read_any(path: Path) -> LocalModel | LocalImageModel:
    return _read_images(path) if of_images(path) else _read(path)


def _read(path: Path, problem: ProblemType = "single_label_classification") -> LocalModel:
    _require_folder(path)
    return read_model(path, problem)


def _read_images(path: Path) -> LocalImageModel:
    _require_folder(path)
    return read_image_model(path)


def _require_folder(path: Path) -> None:
    if not path.is_dir() and not path.is_symlink():
        raise SpecError("/model", "it is a file; a model is a folder of its own in the models folder")
    if not NAME.fullmatch(path.name):
        raise SpecError("/model", "its name has other characters than letters, digits, '_', '-' and '.': rename it")
