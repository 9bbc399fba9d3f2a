"""Names and shapes of the weights in a safetensors file, from its header alone: no tensor is read, no torch needed.

Format: 8 bytes length of the header (little endian), the header as JSON, then the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from core.spec.problems import SpecError

MAX_HEADER_BYTES = 16 * 2**20
BUFFERS = ("rotary_emb.inv_freq", "position_ids")  # of older checkpoints
FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def require_weights(folder: Path) -> Path:
    """The weights of a model's folder; raises SpecError('/model') where there are none in one safetensors file."""
    if not (folder / "model.safetensors").is_file():
        joined = ", max_shard_size='100GB'" * (folder / "model.safetensors.index.json").is_file()
        raise SpecError(
            "/model",
            "it has no model.safetensors; Topwork reads models as config.json + model.safetensors (one file, no pickle)"
            f": convert it with `model.save_pretrained(folder{joined})`, or choose another revision",
        )
    return folder / "model.safetensors"


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every floating-point parameter; other tensors are buffers.

    Raises SpecError('/model') for a file that is no safetensors file or is cut short.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise SpecError("/model", f"its {path.name} is not a safetensors file: the header has no sane length")
            header = json.loads(file.read(length))
        return {
            name: _shape(tensor, size - 8 - length)
            for name, tensor in header.items()
            if name != "__metadata__" and tensor["dtype"] in FLOAT_BYTES and not name.endswith(BUFFERS)
        }
    except OSError as error:
        raise SpecError("/model", f"its {path.name} cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError("/model", f"its {path.name} is not a safetensors file, or it is cut short") from error


def file_bytes(shapes: Mapping[str, tuple[int, ...]], width: int) -> int:
    """Size of the safetensors file that holds these tensors, `width` bytes a number, as transformers labels it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + width * prod(shape)
        header[name] = {"dtype": f"F{8 * width}", "shape": list(shape), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + end  # the header is padded to whole words


def _shape(tensor: Any, data_bytes: int) -> tuple[int, ...]:
    shape, (start, end) = tuple(tensor["shape"]), tensor["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise TypeError("sizes are whole numbers")
    if end - start != prod(shape) * FLOAT_BYTES[tensor["dtype"]] or end > data_bytes:
        raise ValueError("a tensor lies outside the file")
    return shape
