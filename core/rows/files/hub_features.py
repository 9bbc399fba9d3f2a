"""The names of classes in what Hugging Face's `datasets` writes of a table's features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MAX_FEATURES = 4096
MAX_CLASSES = 100_000
MAX_DEPTH = 5


def class_names(features: Any) -> dict[str, list[str]]:
    """Column -> names of its classes, of cells or of items of their lists.

    `features` is what a file's metadata or a dataset_info.json has (a mapping: `{"label": {"_type": "ClassLabel",
    "names": [...]}}`), or a data card (a list: `[{"name": "label", "dtype": {"class_label": {"names": {"0": ...}}}}]`).
    What is neither gives nothing.
    """
    named: list[tuple[Any, Any]] = []
    if isinstance(features, Mapping):
        named = list(features.items())[:MAX_FEATURES]
    elif isinstance(features, list):
        named = [(one.get("name"), one) for one in features[:MAX_FEATURES] if isinstance(one, Mapping)]
    return {
        name: names
        for name, feature in named
        if isinstance(name, str) and (names := _names(feature, MAX_DEPTH)) is not None
    }


def of_schema(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of its classes, as the metadata of an Arrow schema has them."""
    try:
        return class_names(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}


def _names(feature: Any, depth: int) -> list[str] | None:
    if depth == 0:
        return None
    if isinstance(feature, list):  # [feature]: a list, as datasets 1 and 2 write it
        return _names(feature[0], depth - 1) if len(feature) == 1 else None
    if not isinstance(feature, Mapping):
        return None
    if feature.get("_type") == "ClassLabel":
        return _texts(feature.get("names"))
    for key in ("class_label", "dtype", "feature", "sequence", "list"):
        if key == "class_label" and isinstance(feature.get(key), Mapping):
            return _texts(feature[key].get("names"))
        if isinstance(feature.get(key), Mapping | list) and (found := _names(feature[key], depth - 1)) is not None:
            return found
    return None


def _texts(names: Any) -> list[str] | None:
    """Names in their order: a list, or a mapping of places (which YAML may give as texts)."""
    if isinstance(names, Mapping) and 0 < len(names) <= MAX_CLASSES:
        places = {str(place): name for place, name in names.items()}
        names = [places.get(str(place)) for place in range(len(places))]
    if not isinstance(names, Sequence) or isinstance(names, str) or not 0 < len(names) <= MAX_CLASSES:
        return None
    texts = [str(name) if isinstance(name, str | int | float) else None for name in names]
    return None if None in texts or len(set(texts)) != len(texts) else [text for text in texts if text is not None]
