"""Shapes from a safetensors header: right for a real file, a named fault for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.spec.problems import SpecError
from core.spec.weights import INDEX, MAX_HEADER_BYTES, read_shapes, require_weights


def test_shapes_of_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {
        "a.weight": np.zeros((3, 4), np.float32),
        "b": np.zeros((2,), np.float16),
        "scalar": np.array(1.0),
        "position_ids": np.zeros((1, 512), np.int64),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    assert read_shapes(path) == {"a.weight": (3, 4), "b": (2,), "scalar": ()}


def header(value: object, data: bytes = b"") -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(raw).to_bytes(8, "little") + raw + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        (2**63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        header(b"nonsense"),
        header(b"[" * 100_000),
        header(b"9" * 5000),
        header([]),
        header({"a": 1}),
        header({"a": TENSOR}),
        header({"a": TENSOR | {"shape": [-2]}}, bytes(8)),
        header({"a": TENSOR | {"shape": [2.0]}}, bytes(8)),
        header({"a": TENSOR | {"shape": [10**9] * 3}}, bytes(8)),
        header({"a": TENSOR | {"data_offsets": [0]}}, bytes(8)),
        header({"a": {"dtype": "F32"}}, bytes(8)),
        header({"a": TENSOR | {"dtype": []}}, bytes(8)),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SpecError, match="its model") as caught:
        read_shapes(path)
    assert caught.value.field == "/model"
    assert str(tmp_path) not in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_shapes(tmp_path / "model.safetensors")


def test_a_header_is_read_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    padded = json.dumps({"a": TENSOR}).encode() + b" " * MAX_HEADER_BYTES
    path.write_bytes(header(padded, bytes(8)))
    with pytest.raises(SpecError, match="no sane length"):
        read_shapes(path)


def test_weights_may_lie_in_parts(tmp_path: Path) -> None:
    first, second = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": second, "b": first, "c": first}}))
    (tmp_path / first).touch()
    with pytest.raises(SpecError, match=f"lack {second};"):
        require_weights(tmp_path)
    (tmp_path / second).touch()
    assert require_weights(tmp_path) == [tmp_path / first, tmp_path / second]
    (tmp_path / "model.safetensors").touch()
    assert require_weights(tmp_path) == [tmp_path / "model.safetensors"]


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../model-00001-of-00001.safetensors"}}',
        '{"weight_map": {"a": "pytorch_model.bin"}}',
    ],
)
def test_no_other_index_is_read(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(SpecError, match="is no index") as caught:
        require_weights(tmp_path)
    assert caught.value.field == "/model"
