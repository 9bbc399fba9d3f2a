"""Data sets: what comes of a file is stored with what was understood of it. What each file is told: tests/rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from core.ledger import datasets
from core.ledger.database import Database
from core.ledger.files.storage import Storage
from core.ledger.settings import Settings
from core.ledger.tables import DEFAULT_TENANT, Dataset
from core.rows.files.asked import Asked
from core.rows.table import read_columns
from core.spec.errors import SpecError
from tests.conftest import every_storage

CSV = "Text;Label\nCafé;a\n\nthé;b\n".encode("latin-1")


@pytest.fixture
def limits(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_rows=1000, max_columns=5, max_cell_chars=1000, max_upload_bytes=100_000)


Upload = Callable[..., Dataset]


@pytest.fixture
def upload(storage: Storage, limits: Settings, tmp_path: Path) -> Upload:
    def ingest(content: bytes, name: str, **given: object) -> Dataset:
        path = tmp_path / "upload"
        path.write_bytes(content)
        return datasets.ingest([path], name, storage, limits, DEFAULT_TENANT, **given)  # type: ignore[arg-type]

    return ingest


@every_storage
def test_a_file_is_kept_with_what_was_understood(
    upload: Upload, storage: Storage, limits: Settings, database: Database, tmp_path: Path
) -> None:
    dataset = upload(CSV, "a.csv")
    with database.begin() as session:
        session.add(dataset)
    with database.read() as session:
        stored = datasets.find(session, DEFAULT_TENANT, dataset.id)
    assert stored is not None and (stored.rows, stored.columns, stored.format) == (2, ["Text", "Label"], "csv")
    assert stored.upload_sha256 == hashlib.sha256(CSV).hexdigest()
    known = datasets.understood(stored)
    assert known is not None and (known.delimiter, known.header, known.columns[1].values) == (
        ";",
        True,
        {"a": 1, "b": 1},
    )
    assert datasets.preview(stored, storage, limits, 1) == [{"Text": "Café", "Label": "a"}]
    table = read_columns(storage.local(stored.sha256, tmp_path), ["Text"])
    assert {name: [*column.values] for name, column in table.items()} == {"Text": ["Café", "thé"]}


def test_what_the_user_says_goes_before_what_is_found_out(upload: Upload) -> None:
    dataset = upload(b"a;b\n1;2\n", "a.csv", asked=Asked(delimiter=",", header=False))
    known = datasets.understood(dataset)
    assert known is not None and (known.rows, known.header, len(known.columns)) == (2, False, 1)


def test_classes_can_be_given_names(upload: Upload, storage: Storage, limits: Settings) -> None:
    content = b"".join(b'{"text": "t%d", "label": %d}\n' % (i, i % 2) for i in range(4))
    dataset = upload(content, "a.jsonl", class_names={"label": ["bad", "good"]})
    assert [row["label"] for row in datasets.preview(dataset, storage, limits, 2)] == ["bad", "good"]


def test_what_is_refused_leaves_nothing(upload: Upload, limits: Settings) -> None:
    def full(size_bytes: int) -> None:
        raise PermissionError(size_bytes)

    with pytest.raises(SpecError, match="has no rows") as refused:
        upload(b"text,label\n", "a.csv")
    assert refused.value.field == "/file"
    with pytest.raises(PermissionError):
        upload(CSV, "a.csv", check_size=full)
    assert not [path for path in limits.blobs_dir.rglob("*") if path.is_file()]
    assert not list(limits.scratch_dir.iterdir())


def test_a_file_of_any_name_can_be_kept(upload: Upload, database: Database) -> None:
    dataset = upload(CSV, "ü\0\ud800" + "x" * 300 + ".csv")
    with database.begin() as session:
        session.add(dataset)
    with database.read() as session:
        stored = datasets.find(session, DEFAULT_TENANT, dataset.id)
        assert stored is not None and stored.name.startswith("üx") and len(stored.name) == 200
        assert datasets.find(session, "tenant_other", dataset.id) is None
        assert [d.id for d in datasets.page(session, DEFAULT_TENANT, 10)] == [dataset.id]
        assert not datasets.page(session, DEFAULT_TENANT, 10, before=dataset.id)
