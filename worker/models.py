"""From the model name of a job to a folder with its weights: a local model, or one fetched from a hub.

Only safetensors weights, the configuration and tokenizer files are ever fetched: nothing that is executed or
unpickled.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from core.domains.channels.families import FAMILIES as IMAGES
from core.domains.folder import require_model
from core.domains.transformer.families import Architecture
from core.domains.weights import INDEX, PARTS, WHOLE
from core.ledger.settings import Settings
from core.spec.errors import SpecError

FILES = (  # patterns
    "config.json",
    WHOLE,
    INDEX,
    PARTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "preprocessor_config.json",
    "modules.json",  # of sentence-transformers, and what it names: how a vector is made of a text
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Dense/model.safetensors",
)
LOCAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Resolved:
    """Where a model lies. `revision` is the commit of a hub model."""

    path: Path
    name: str
    revision: str | None


def resolve(name: str, settings: Settings) -> Resolved:
    """Find or fetch the model; raises SpecError('/model') that says how to mend, StorageAwayError if waiting does."""
    found = _from_hub(name, settings) if "/" in name.partition("@")[0] else _local(name, settings)
    try:
        config = require_model(found.path)  # before transformers reads it
        if config.get("model_type") not in IMAGES:
            Architecture.from_config(config)
    except SpecError as error:
        if found.revision:
            raise
        raise SpecError(error.field, f"'{name}' cannot be pruned: {error.message}") from error
    return found


def content(folder: Path) -> str:
    """A sha256 that tells the model of a local folder from another: of its weights and what configures it."""
    digest = hashlib.sha256()
    parts = {
        *folder.glob("preprocessor_config.json"),
        *folder.glob("modules.json"),
        *folder.glob("*/config.json"),
        *folder.glob("*/model.safetensors"),
    }
    for path in sorted({folder / "config.json", *folder.glob("*.safetensors"), *parts}):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()


def _local(name: str, settings: Settings) -> Resolved:
    if not LOCAL_NAME.fullmatch(name) or not (settings.models_dir / name).is_dir():
        raise SpecError(
            "/model",
            f"there is no local model '{name}'; choose one from GET /v1/models, put a folder of that name into "
            "the models folder, or give a hub id 'owner/name@revision'",
        )
    return Resolved(settings.models_dir / name, name, None)


def _from_hub(name: str, settings: Settings) -> Resolved:
    from worker import hub

    repository, _, revision = name.partition("@")
    folder = hub.fetch(repository, revision or "main", FILES, settings)
    return Resolved(folder, repository, folder.name)
