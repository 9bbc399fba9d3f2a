"""From the model name of a job to a folder with its weights: a local model, or one fetched from a hub.

Only safetensors weights, the configuration and tokenizer files are ever fetched: nothing that is executed or
unpickled.
"""

from __future__ import annotations

import errno
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from core.ledger.settings import Settings
from core.spec.families import Architecture, read_config
from core.spec.problems import SpecError
from core.spec.weights import require_weights

log = logging.getLogger(__name__)

FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
LOCAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Resolved:
    """Where a model lies. `revision` is the commit of a hub model."""

    path: Path
    name: str
    revision: str | None


def resolve(name: str, settings: Settings) -> Resolved:
    """Find or fetch the model; raises SpecError('/model') that says how to mend."""
    found = _from_hub(name, settings) if "/" in name else _local(name, settings)
    Architecture.from_config(read_config(found.path / "config.json"))  # before transformers reads it
    require_weights(found.path)
    return found


def _local(name: str, settings: Settings) -> Resolved:
    if not LOCAL_NAME.fullmatch(name) or not (settings.models_dir / name).is_dir():
        raise SpecError(
            "/model",
            f"there is no local model '{name}'; choose one from GET /v1/models, put a folder of that name into "
            "the models folder, or give a hub id 'owner/name@revision'",
        )
    return Resolved(settings.models_dir / name, name, None)


def _from_hub(name: str, settings: Settings) -> Resolved:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    size_bytes = None
    try:
        try:
            info = HfApi().model_info(repository, revision=revision or "main", files_metadata=True)
            size_bytes = sum(file.size or 0 for file in info.siblings or () if file.rfilename in FILES)
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            raise
        except Exception as error:  # the hub is away, or shall not be asked: what is cached will do
            log.warning("the hub does not tell of the model: %s", type(error).__name__)  # which may quote an address
        if size_bytes is not None and size_bytes > settings.max_model_bytes:
            detail = f"'{name}' has {size_bytes:,} bytes; choose one of at most {settings.max_model_bytes:,}"
            raise SpecError("/model", detail + ", or have the operator raise TOPWORK_MAX_MODEL_BYTES")
        folder = snapshot_download(
            repository,
            revision=revision or None,
            cache_dir=settings.data_dir / "hub",
            allow_patterns=list(FILES),
            local_files_only=size_bytes is None,
        )
    except SpecError:
        raise
    except GatedRepoError as error:
        raise SpecError(
            "/model", f"'{repository}' is gated; accept its terms on the hub and give the worker an HF_TOKEN that may"
        ) from error
    except RepositoryNotFoundError as error:
        raise SpecError(
            "/model", f"the hub has no public model '{repository}'; check its name, or give the worker an HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise SpecError(
            "/model", f"'{repository}' has no revision '{revision}'; give a branch, tag or commit, or leave it out"
        ) from error
    except HFValidationError as error:
        raise SpecError("/model", f"'{repository}' is no hub id 'owner/name'") from error
    except Exception as error:  # its HTTP library, and so the errors of it, differ between versions
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise SpecError(
            "/model",
            f"'{name}' is not cached and could not be fetched from the hub ({type(error).__name__}); check the "
            "worker's network and HF_ENDPOINT and send the job again, or put the model's folder into the models folder",
        ) from error
    # The cache names a snapshot's folder after the commit that the revision resolved to.
    return Resolved(Path(folder), repository, Path(folder).name)
