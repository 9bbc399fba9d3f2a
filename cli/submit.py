"""A specification file whose data sets are files of this machine: upload them, and put their ids in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class SubmitError(Exception):
    """The command line or the specification file cannot be used; the message says how to mend it."""


def named_files(options: Sequence[str]) -> dict[str, Path]:
    """`name=file` options as name -> path."""
    files = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not (name and equals and file):
            raise SubmitError(f"--data {option}: give it as name=file.csv")
        if not Path(file).is_file():
            raise SubmitError(f"--data {option}: there is no file {file}")
        files[name] = Path(file)
    return files


def read_spec(path: Path, files: Mapping[str, Path], upload: Callable[[Path], Mapping[str, Any]]) -> Any:
    """The specification, each `"dataset": "@name"` replaced by the id of the uploaded file of that name."""
    try:
        spec = json.loads(path.read_bytes())
        json.dumps(spec, ensure_ascii=False, allow_nan=False).encode()  # as it will be sent
    except (ValueError, RecursionError) as error:
        raise SubmitError(f"{path}: is not JSON: {error}") from error
    used = _references(spec)
    if unknown := sorted(used - set(files)):
        raise SubmitError(f"{path}: '@{unknown[0]}' is not given; add --data {unknown[0]}=file.csv")
    if unused := sorted(set(files) - used):
        raise SubmitError(f'--data {unused[0]}=...: {path} does not refer to it; write "dataset": "@{unused[0]}" there')
    ids = {name: str(upload(files[name])["id"]) for name in sorted(used)}
    return _filled(spec, ids)


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = node.get("dataset")
        found = {own[1:]} if isinstance(own, str) and own.startswith("@") else set()
        return found.union(*map(_references, node.values()))
    return set().union(*map(_references, node)) if isinstance(node, list) else set()


def _filled(node: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_filled(child, ids) for child in node]
    if not isinstance(node, dict):
        return node
    return {
        key: ids[value[1:]]
        if key == "dataset" and isinstance(value, str) and value.startswith("@")
        else _filled(value, ids)
        for key, value in node.items()
    }
