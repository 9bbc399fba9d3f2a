"""Files: JSON and tensors as they are written, and what a file's content is known by."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_json(path: Path, value: Any) -> None:
    """Indented, with a final newline; non-finite numbers are an error."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> None:
    """As safetensors, with `facts` in the header. Raises OSError where there is no room, which safetensors does not."""
    try:
        save_file(dict(tensors), path, metadata=dict(facts) if facts else None)
    except SafetensorError as error:  # of tensors that are whole, the file's fault alone
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, f"cannot write {path.name}: {error}") from error


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
