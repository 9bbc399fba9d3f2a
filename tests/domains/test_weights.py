"""Shapes from a safetensors header: right for a real file, a named fault for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.domains.weights import INDEX, MAX_HEADER_BYTES, MAX_TENSORS, read_all_shapes, read_shapes, require_weights
from core.spec.errors import SpecError


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
        header({"a": TENSOR | {"shape": [2**62] * 8}}, bytes(8)),
        header({"a": TENSOR | {"shape": [1] * 100_000 + [2]}}, bytes(8)),
        header({"a": TENSOR | {"shape": {"0": 2}}}, bytes(8)),
        header({"a": TENSOR, "b": TENSOR}, bytes(8)),
        header({"a" * 100_000: TENSOR}, bytes(8)),
    ],
)
@pytest.mark.field("3. Under attack", "crafted headers of safetensors", "refused within bounds")
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.weight", "I8"), ("a.weight", "F8_E4M3"), ("a.weight", []), ("a.qweight", "F16"), ("a.weight.absmax", "F32")],
)
def test_quantised_weights_are_named(tmp_path: Path, name: str, kind: object) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({name: TENSOR | {"dtype": kind}}, bytes(8)))
    with pytest.raises(SpecError, match=f"quantised .'{name}'"):
        read_shapes(path)


@pytest.mark.field("3. Under attack", "200,000 tensors", "refused; looked at once")
def test_tensors_are_counted_over_all_parts(tmp_path: Path) -> None:
    """A header of many small tensors costs seconds in whatever adds them up."""
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for part, file in enumerate(files):
        tensors = {f"{part}.{i}": TENSOR | {"data_offsets": [8 * i, 8 * i + 8]} for i in range(MAX_TENSORS // 2 + 1)}
        file.write_bytes(header(tensors, bytes(8 * len(tensors))))
        assert len(read_shapes(file)) == len(tensors)
    with pytest.raises(SpecError, match="more than 5,000 tensors"):
        read_all_shapes(files)
    many = {str(i): TENSOR | {"data_offsets": [8 * i, 8 * i + 8]} for i in range(MAX_TENSORS + 1)}
    files[0].write_bytes(header(many, bytes(8 * len(many))))
    with pytest.raises(SpecError, match="more than 5,000 tensors"):
        read_shapes(files[0])


def test_an_index_is_read_only_so_far(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}' + " " * MAX_HEADER_BYTES)
    with pytest.raises(SpecError, match="is no index"):
        require_weights(tmp_path)
