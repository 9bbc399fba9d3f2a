"""Stored files that a disk has cut short."""

from __future__ import annotations

import hashlib
import io
import os
from typing import BinaryIO, cast

import httpx
import pytest
from fastapi.testclient import TestClient

from core.ledger.files.storage import LocalStorage
from core.ledger.settings import Settings
from tests.api.conftest import OUTPUTS, WEIGHTS, one_database


def cut(settings: Settings, path: str, content: bytes) -> None:
    """Let the stored file be another under the same name."""
    LocalStorage(settings.blobs_dir).path(hashlib.sha256(OUTPUTS[path]).hexdigest()).write_bytes(content)


@one_database
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=-5"}])
@pytest.mark.field("3. Under attack", "a stored file cut short", "an error before the answer begins")
def test_a_stored_file_that_was_cut_short_is_an_error_at_once(
    client: TestClient, files: str, settings: Settings, headers: dict[str, str]
) -> None:
    cut(settings, "model.safetensors", WEIGHTS[:-1])
    for address in (f"{files}/model.safetensors", f"{files.removesuffix('/files')}/archive"):
        answer = client.get(address, headers=headers)
        assert answer.status_code == 500 and "put it back from a backup" in answer.json()["detail"]


@one_database
def test_a_file_that_ends_while_it_is_sent_ends_the_connection(
    live: str, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = LocalStorage.open

    def ending(self: LocalStorage, sha256: str) -> BinaryIO:
        data = whole(self, sha256)
        size = data.seek(0, os.SEEK_END)
        data.seek(0)
        return cast(BinaryIO, Ending(data, size))

    monkeypatch.setattr(LocalStorage, "open", ending)
    with httpx.Client(timeout=20) as http, pytest.raises(httpx.RemoteProtocolError):
        http.get(f"{live}{files}/model.safetensors")


class Ending(io.BytesIO):
    """Has half of the bytes that it says it has."""

    def __init__(self, data: BinaryIO, size: int) -> None:
        super().__init__(data.read(size // 2))
        self._size = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._size if whence == os.SEEK_END else super().seek(offset, whence)
