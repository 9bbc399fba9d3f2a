"""Which storage it is: a folder, or S3."""

from __future__ import annotations

from core.ledger.files.storage import LocalStorage, Storage
from core.ledger.settings import Settings


def open_storage(settings: Settings) -> Storage:
    """The storage that the settings name."""
    if settings.storage_url is None:
        return LocalStorage(settings.blobs_dir)
    try:
        from core.ledger.files.s3 import S3Storage
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("TOPWORK_STORAGE_URL names S3: in the checkout, pip install -e '.[s3]'") from error
    return S3Storage(settings.storage_url)
