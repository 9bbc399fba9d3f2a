"""Names of classes, in the shapes that `datasets` and data cards have; what is neither gives none."""

from __future__ import annotations

import pytest

from core.rows.files.hub_features import class_names

LABEL = {"_type": "ClassLabel", "names": ["neg", "pos"]}


@pytest.mark.parametrize(
    "features",
    [
        {"label": LABEL, "text": {"dtype": "string", "_type": "Value"}},
        {"label": {"_type": "Sequence", "feature": LABEL, "length": -1}},
        {"label": {"_type": "List", "feature": LABEL}},
        {"label": [LABEL]},
        [{"name": "label", "dtype": {"class_label": {"names": {"0": "neg", "1": "pos"}}}}],
        [
            {"name": "label", "dtype": {"class_label": {"names": {1: "pos", 0: "neg"}}}},
            {"name": "t", "dtype": "string"},
        ],
        [{"name": "label", "sequence": {"class_label": {"names": {"0": "neg", "1": "pos"}}}}],
        [{"name": "label", "list": {"class_label": {"names": {"0": "neg", "1": "pos"}}}}],
    ],
)
def test_names_are_found(features):
    assert class_names(features) == {"label": ["neg", "pos"]}


@pytest.mark.parametrize(
    "features",
    [
        None,
        "text",
        [1, None, {"dtype": {"class_label": {"names": {"0": "a"}}}}],
        {"label": {"_type": "ClassLabel"}},
        {"label": {"_type": "ClassLabel", "names": ["a", "a"]}},
        {"label": {"_type": "ClassLabel", "names": "abc"}},
        {"label": {"_type": "ClassLabel", "names": [["a"], {}]}},
        [{"name": "label", "dtype": {"class_label": {"names": {"0": "a", "7": "b"}}}}],
        {"label": {"feature": {"feature": {"feature": {"feature": {"feature": {"feature": LABEL}}}}}}},
    ],
)
def test_what_names_none_gives_none(features):
    assert class_names(features) == {}
