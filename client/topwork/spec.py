"""A job's specification, and the files of this machine that it names: `{"dataset": "@reviews.csv"}`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from topwork.calls import upload
from topwork.errors import TopworkError
from topwork.inventory import Dataset
from topwork.steps import Steps

Data = str | Path | Mapping[str, Any] | Iterable[str | Path]
Spec = dict[str, Any]


def build(
    spec: Mapping[str, Any] | None,
    *,
    model: str | None,
    task: str | Mapping[str, Any] | None,
    data: Data | None,
    unlabelled: Data | None,
    sources: Iterable[Data | Mapping[str, Any]],
    budget: str | Mapping[str, Any] | None,
    title: str | None,
    fields: Mapping[str, Any],
) -> Spec:
    """The specification that these words ask for; what `spec` has is kept where no word says otherwise."""
    made: Spec = {**(spec or {}), **{name: value for name, value in fields.items() if value is not None}}
    told: Spec = {"type": task} if isinstance(task, str) else dict(task or {})
    if data is not None:
        told["data"] = _data(data)
    if unlabelled is not None:
        told["unlabelled"] = {"data": _data(unlabelled)}
    if told:
        made["task"] = {**made.get("task", {}), **told}
    if given := [_source(source) for source in sources]:
        made["sources"] = given
    words = {"model": model, "budget": budget, "title": title}
    return made | {name: value for name, value in words.items() if value is not None}


def _source(source: Any) -> Any:
    return source if isinstance(source, Mapping) and "data" in source else {"data": _data(source), "label": "label"}


def _data(data: Any) -> Any:
    """A reference: of a file, of a name or id, of one for each split, or as it is given."""
    if isinstance(data, Path):
        return {"dataset": f"@{data}"}
    if isinstance(data, str):
        return {"dataset": f"@{data}" if Path(data).is_file() else data}
    if isinstance(data, Mapping):
        whole = {"dataset", "hub"} & {*data}
        return dict(data) if whole else {split: _data(one) for split, one in data.items()}
    files = [*data]
    if len(files) != 1:
        raise TopworkError('data: give one file, or a file for each split: {"train": "a.csv", "test": "b.csv"}')
    return _data(files[0])


def filled(
    spec: Any, files: Mapping[str, Path], beside: Path, say: Callable[[Dataset], None] = lambda _dataset: None
) -> Steps[Any]:
    """The specification with ids for names of files: those of `files`, else in the folder `beside`.

    Nothing is uploaded for one that cannot be sent. `say` is told each data set.
    """
    require_json(spec)
    used = references(spec)
    found = {name: files.get(name) or beside / name for name in used}
    if missing := sorted(name for name, path in found.items() if not path.is_file()):
        raise TopworkError(f"'@{missing[0]}' is no file here; give --data {missing[0]}=file.csv")
    if unused := sorted(set(files) - used):
        raise TopworkError(f'--data {unused[0]}=...: nothing refers to it; write "dataset": "@{unused[0]}"')
    ids = {}
    for name in sorted(used):
        dataset = yield from upload(found[name])
        say(dataset)
        ids[name] = dataset.id
    return _filled(spec, ids)


def require_json(spec: Any) -> None:
    """Raise TopworkError for what cannot be sent."""
    try:
        json.dumps(spec, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TopworkError(f"the specification is not JSON: {error}") from error


def read(path: Path) -> Any:
    """A specification file."""
    try:
        spec = json.loads(path.read_bytes())
        require_json(spec)
    except (ValueError, RecursionError, TopworkError) as error:
        raise TopworkError(f"{path}: is not JSON: {error}") from error
    return spec


def named_files(options: Iterable[str]) -> dict[str, Path]:
    """`name=file` options as name -> path."""
    files = {}
    for option in options:
        given = re.fullmatch("([^=]+)=(.+)", option)
        if given is None:
            raise TopworkError(f"--data {option}: give it as name=file.csv")
        if not Path(given[2]).is_file():
            raise TopworkError(f"--data {option}: there is no file {given[2]}")
        files[given[1]] = Path(given[2])
    return files


def references(node: Any) -> set[str]:
    """Names of files in a specification."""
    if isinstance(node, dict):
        own = node.get("dataset")
        found = {own[1:]} if isinstance(own, str) and own.startswith("@") else set()
        return found.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


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
