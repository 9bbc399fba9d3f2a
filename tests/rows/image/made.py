"""Pictures, and files of them, that tests make up."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.rows.helpers import parquet


def drawn(seed: int = 0, width: int = 24, height: int = 16) -> Image.Image:
    """A picture of its own for each seed, smooth enough to be scaled."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BILINEAR)


def saved(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """As the bytes of a file."""
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def zipped(files: Mapping[str, bytes | str], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of files by their names; one that ends in a slash is a folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def folders(classes: Mapping[str, int], first: int = 0) -> dict[str, bytes]:
    """So many pictures in a folder of each name."""
    found: dict[str, bytes] = {}
    for name, count in classes.items():
        for number in range(count):
            found[f"{name}/{number}.png"] = saved(drawn(first + len(found)))
    return found


def hub_table(
    pictures: Mapping[str, bytes | None], labels: list[Any] | None = None, names: Any = (), column: str = "image"
) -> bytes:
    """Parquet as `datasets` writes it: a struct of bytes and path, and what its metadata says of both columns."""
    import json

    columns: dict[str, Any] = {column: [{"bytes": data, "path": path} for path, data in pictures.items()]}
    features: dict[str, Any] = {column: {"_type": "Image"}}
    if labels is not None:
        columns["label"] = labels
        features["label"] = {"names": list(names), "_type": "ClassLabel"} if names else {"_type": "Value"}
    table = pa.table(columns)
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return parquet(table.replace_schema_metadata(metadata))
