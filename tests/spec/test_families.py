"""What a model brings is read, never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.spec.families import MAX_CONFIG_BYTES, read_config
from core.spec.problems import SpecError


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoConfig": "configuration.Config"}},
        {"custom_pipelines": {}},
        {"use_kernels": True},
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation_internal": {"": "someone/kernel"}},
        {"_experts_implementation": "someone/kernel"},
        {"x": "a" * MAX_CONFIG_BYTES},
        [],
        "[" * 100_000,
    ],
)
def test_a_configuration_that_names_code_or_is_none_is_refused(tmp_path: Path, values: Any) -> None:
    (tmp_path / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    with pytest.raises(SpecError) as error:
        read_config(tmp_path / "config.json")
    assert error.value.field == "/model" and len(error.value.message) < 300


def test_an_ordinary_configuration_is_read(tmp_path: Path) -> None:
    values = {"model_type": "bert", "_attn_implementation": "sdpa", "_attn_implementation_internal": None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path / "config.json") == values
