"""What a model brings is read, never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.spec.families import MAX_CONFIG_BYTES, Architecture, read_config
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


@pytest.mark.parametrize(
    "odd",
    [
        {"hidden_size": float("inf")},
        {"hidden_size": "many"},
        {"num_hidden_layers": 3_000_000},
        {"intermediate_size": 2**40},
        {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": [1]},
    ],
)
def test_odd_sizes_are_refused(odd: dict[str, Any]) -> None:
    plain = {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    plain |= {"intermediate_size": 128, "max_position_embeddings": 128}
    assert Architecture.from_config(plain).layers == 3
    with pytest.raises(SpecError) as error:
        Architecture.from_config(plain | odd)
    assert error.value.field == "/model"


def test_an_ordinary_configuration_is_read(tmp_path: Path) -> None:
    values = {"model_type": "bert", "_attn_implementation": "sdpa", "_attn_implementation_internal": None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path / "config.json") == values
