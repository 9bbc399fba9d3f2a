"""Names and shapes of the weights in safetensors files, from their headers alone: no tensor is read, no torch needed.

Format: 8 bytes length of the header (little endian), the header as JSON, then the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from core.spec.errors import SpecError
from core.spec.job import Precision

MAX_HEADER_BYTES = 4 * 2**20  # of all parts together
MAX_TENSORS = 5_000  # of all parts together; a BERT of 300 layers has as many
MAX_RANK, MAX_NAME, MAX_SIDE = 8, 300, 2**62
BUFFERS = ("rotary_emb.inv_freq", "position_ids")  # of older checkpoints
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PARTS = "model-*-of-*.safetensors"
PART = re.compile(r"model-\d+-of-\d+\.safetensors")
FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
TYPES: Mapping[Precision, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
PLAIN = ("BOOL", "I64")  # of buffers; other types, and tensors of these names, are quantised weights
PACKED = ("qweight", "qzeros", "weight_packed", "absmax", "quant_map", "SCB", "weight_scale", "weight_format")


def require_weights(folder: Path) -> list[Path]:
    """The files with the weights of a model's folder: one, or the parts that an index names.

    Raises SpecError('/model') where there are none, or a part is missing.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        raise SpecError(
            "/model",
            f"it has no {WHOLE}; Topwork reads models as config.json + {WHOLE}, or its parts with their index, and no "
            "pickle: convert it with `model.save_pretrained(folder)`, or choose another revision",
        )
    try:
        with (folder / INDEX).open("rb") as file:
            text = file.read(MAX_HEADER_BYTES + 1)
        named = sorted({*(json.loads(text) if len(text) <= MAX_HEADER_BYTES else {})["weight_map"].values()})
        odd = not named or not all(map(PART.fullmatch, named))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        odd = True
    if odd:
        raise SpecError("/model", f"its {INDEX} is no index of files that are named model-00001-of-00002.safetensors")
    if lacking := [name for name in named if not (folder / name).is_file()]:
        raise SpecError("/model", f"its weights lack {', '.join(lacking[:3])}; put the file beside {INDEX}")
    return [folder / name for name in named]


def read_all_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """As `read_shapes`, of a model's parts: what is bounded is bounded for all of them together."""
    shapes: dict[str, tuple[int, ...]] = {}
    left = MAX_HEADER_BYTES
    for path in files:
        found, length = _read(path, left)
        left -= length
        shapes |= found
        if len(shapes) > MAX_TENSORS:
            raise SpecError("/model", f"its weights are more than {MAX_TENSORS:,} tensors; no model of text has")
    return shapes


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every floating-point parameter; other tensors are buffers.

    Raises SpecError('/model') for a file that is no safetensors file, is cut short, or holds quantised weights.
    """
    return read_all_shapes([path])


def _read(path: Path, most: int) -> tuple[dict[str, tuple[int, ...]], int]:
    """The shapes in a file whose header has at most so many bytes, and how many it has."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(most, size - 8):
                raise SpecError("/model", f"its {path.name} is not a safetensors file: the header has no sane length")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        if len(header) > MAX_TENSORS:
            raise SpecError("/model", f"its {path.name} has more than {MAX_TENSORS:,} tensors; no model of text has")
        shapes, left = {}, size - 8 - length  # bytes that no tensor has claimed
        for name, tensor in header.items():
            if name.endswith(BUFFERS):
                continue
            kind = tensor["dtype"]
            if kind not in (*FLOAT_BYTES, *PLAIN) or name.endswith(PACKED):
                raise SpecError(
                    "/model",
                    f"its weights are quantised ('{name[:80]}' is {str(kind)[:20]}), which cannot be trained; give the "
                    "model of floats that it was made of",
                )
            if kind in FLOAT_BYTES:
                if len(name) > MAX_NAME:
                    raise ValueError("no module has such a path")
                shapes[name] = _shape(tensor, size - 8 - length)
                left -= FLOAT_BYTES[kind] * prod(shapes[name])
        if left < 0:
            raise ValueError("tensors lie over each other")
        return shapes, length
    except OSError as error:
        raise SpecError("/model", f"its {path.name} cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError("/model", f"its {path.name} is not a safetensors file, or it is cut short") from error


def file_bytes(
    shapes: Mapping[str, tuple[int, ...]],
    precision: Precision = "float32",
    integers: Mapping[str, tuple[int, ...]] | None = None,
) -> int:
    """Size of the safetensors file that holds these tensors, as transformers labels it.

    `integers`: those of 64 bits, such as BatchNorm's count of batches; wider numbers lie before the others.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    floats = TYPES[precision]
    kinds = (("I64", 8, integers or {}), (floats, FLOAT_BYTES[floats], shapes))
    for kind, each, name, shape in ((kind, each, *one) for kind, each, of in kinds for one in sorted(of.items())):
        start, end = end, end + each * prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + end  # the header is padded to whole words


def _shape(tensor: Any, data_bytes: int) -> tuple[int, ...]:
    """A tensor's shape, whose product is worked out only once it is sure to be small."""
    shape, (start, end) = tensor["shape"], tensor["data_offsets"]
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise TypeError("no tensor has so many sides")
    if not all(type(n) is int and 0 <= n <= MAX_SIDE for n in (*shape, start, end)):
        raise TypeError("sizes are whole numbers")
    if end - start != prod(shape) * FLOAT_BYTES[tensor["dtype"]] or end > data_bytes:
        raise ValueError("a tensor lies outside the file")
    return tuple(shape)
