"""Models of a hub: the files of one at a commit. Import it when the first one is asked for: it sets up the client."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token, set_client_factory, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, filter_repo_objects  # type: ignore[attr-defined]
from huggingface_hub.utils._http import default_client_factory

from core.domains.weights import INDEX, PARTS, WHOLE
from core.ledger import logs
from core.ledger.files.storage import StorageAwayError
from core.ledger.settings import Settings
from core.spec.errors import SpecError

log = logging.getLogger(__name__)

ANSWER_S = 10.0  # for each answer of the hub, and for each part of one
PASSING = (408, 429)  # and every 5xx


def _client() -> Any:
    client = default_client_factory()
    client.event_hooks = {"request": [*client.event_hooks["request"], _bound]}
    return client


def _bound(request: Any) -> None:
    """The library asks for most of its answers with no timeout at all."""
    given = request.extensions.get("timeout", {})
    waits = {name: given.get(name) or ANSWER_S for name in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": waits}


set_client_factory(_client)
disable_progress_bars()
logs.hush("huggingface_hub")


def fetch(repository: str, revision: str, files: Sequence[str], settings: Settings) -> Path:
    """The folder of the snapshot, named after its commit: from the hub or, where that does not tell, from the cache.

    Raises StorageAwayError for what may pass, SpecError('/model') for what will not.
    """
    cache = settings.data_dir / "hub"
    os.environ.setdefault("HF_XET_CACHE", str(cache.resolve() / "xet"))  # else below HOME, whatever `cache_dir` says
    whole = [name for name in files if name not in (INDEX, PARTS)]  # which are the same weights once more
    try:
        try:
            info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_S)
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            raise
        except Exception as error:  # the hub is away, or shall not be asked: what is cached will do
            for patterns in (whole, list(files)):
                with suppress(LocalEntryNotFoundError):
                    cached = snapshot_download(
                        repository, revision=revision, cache_dir=cache, allow_patterns=patterns, local_files_only=True
                    )
                    if patterns is whole and not (Path(cached) / WHOLE).exists():
                        continue
                    log.warning("%s: the model is taken as it is cached", _told(error))
                    return Path(cached)
            raise
        if any(file.rfilename == WHOLE for file in info.siblings or ()):
            files = whole
        wanted = filter_repo_objects(info.siblings or (), allow_patterns=list(files), key=lambda file: file.rfilename)
        size_bytes = sum(file.size or 0 for file in wanted)
        if size_bytes > settings.max_model_bytes:
            told = f"'{repository}' has {size_bytes:,} bytes; choose one of at most {settings.max_model_bytes:,}"
            raise SpecError("/model", told + ", or have the operator raise TOPWORK_MAX_MODEL_BYTES")
        folder = Path(snapshot_download(repository, revision=info.sha, cache_dir=cache, allow_patterns=list(files)))
    except SpecError:
        raise
    except Exception as error:  # its HTTP library, and so the errors of it, differ between versions
        if getattr(error, "errno", None) is not None:  # the worker's own disk
            raise
        raise _fault(error, repository, revision) from error
    _remember(folder, revision)
    return folder


def _remember(folder: Path, revision: str) -> None:
    """Note in the cache which commit a branch or tag is, for when the hub is away."""
    ref = folder.parents[1] / "refs" / revision
    with suppress(OSError):  # a branch of that name may be a folder of branches by now
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(folder.name)


def _fault(error: Exception, repository: str, revision: str) -> Exception:
    """What the job is told; none of it quotes the error, which may name an address, and a signed one."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why it looked into the cache
    status = _status(error)
    match error:
        case GatedRepoError():
            told = f"'{repository}' is gated; accept its terms on the hub and give the worker an HF_TOKEN that may"
        case HfHubHTTPError() if status == 401 and get_token():
            told = (
                "the hub refuses the worker's HF_TOKEN; have the operator renew it, or leave it out for public models"
            )
        case RepositoryNotFoundError():
            told = f"the hub has no public model '{repository}'; check its name, or give the worker an HF_TOKEN"
        case RevisionNotFoundError():
            told = f"'{repository}' has no revision '{revision}'; give a branch, tag or commit, or leave it out"
        case HFValidationError():
            told = f"'{repository}' is no hub id 'owner/name'"
        case OfflineModeIsEnabled():
            told = f"'{repository}' is not cached, and the worker may not ask the hub (HF_HUB_OFFLINE)"
            told += "; have the operator put its folder into the models folder"
        case HfHubHTTPError() if status is not None and status < 500 and status not in PASSING:
            told = f"{_told(error)} for '{repository}'; have the operator check the worker's HF_ENDPOINT and HF_TOKEN, "
            told += "or put the model's folder into the models folder"
        case _:
            return StorageAwayError(_told(error))
    return SpecError("/model", told)


def _told(error: Exception) -> str:
    status = _status(error)
    return f"the hub answers {status}" if status else f"the hub cannot be reached ({type(error).__name__})"


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None
