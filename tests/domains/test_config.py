"""What a model brings is read, never run; and what no model says is refused by the field's name."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from core.domains.config import (
    BOTH_WAYS,
    FIELDS,
    MAX_ADDED_BYTES,
    MAX_CONFIG_BYTES,
    NEEDS_5,
    NEVER_NULL,
    read_config,
    read_object,
)
from core.domains.transformer.families import FAMILIES
from core.spec.errors import SpecError

PLAIN: dict[str, Any] = {"model_type": "bert", "hidden_size": 64, "vocab_size": 100, "pad_token_id": 0}


def read(folder: Path, values: Any) -> dict[str, Any]:
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return read_config(folder / "config.json")


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoConfig": "configuration.Config"}},
        {"custom_pipelines": {}},
        {"use_kernels": True},
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": {"": "sdpa", "text_config": "someone/kernel"}},
        {"_attn_implementation_internal": {"": "someone/kernel"}},
        {"_experts_implementation": "someone/kernel"},
        {"text_config": {"auto_map": {"AutoConfig": "configuration.Config"}}},
        {"parts": [{"attn_implementation": "someone/kernel"}]},
        {"sentence_transformers": {"activation_fn": "os.abort"}},
        {"sbert_ce_default_activation_function": "someone.Scorer"},
        {"x": "a" * MAX_CONFIG_BYTES},
        [],
        "[" * 100_000,
    ],
)
@pytest.mark.field("3. Under attack", "`auto_map` and the like in any config of a model", "refused, by file")
def test_a_configuration_that_names_code_or_is_none_is_refused(tmp_path: Path, values: Any) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, values)
    assert error.value.field == "/model" and len(error.value.message) < 300


def test_a_tokenizer_may_have_many_tokens_added(tmp_path: Path) -> None:
    """Which transformers 4 writes with 180 bytes each."""
    for name in ("tokenizer_config.json", "added_tokens.json"):
        (tmp_path / name).write_text(json.dumps({"x": "a" * MAX_CONFIG_BYTES}))
        assert read_object(tmp_path / name)
        (tmp_path / name).write_text(json.dumps({"x": "a" * MAX_ADDED_BYTES}))
        with pytest.raises(SpecError, match=f"its {name} has more than 16,777,216 bytes"):
            read_object(tmp_path / name)


def test_a_pruned_checkpoint_describes_the_model_that_it_was_made_of(tmp_path: Path) -> None:
    """Its own code is not asked for; what else names code is refused as of any."""
    said = {"model_type": "topwork-bert", "topwork": {"heads": [[0]], "neurons": [3]}}
    assert read(tmp_path, PLAIN | said | {"auto_map": {"AutoConfig": "x.Config"}}) == PLAIN | said | {
        "model_type": "bert"
    }
    with pytest.raises(SpecError, match="'auto_map'"):
        read(tmp_path, PLAIN | said | {"text_config": {"auto_map": {"AutoConfig": "x.Config"}}})
    with pytest.raises(SpecError, match="'topwork'"):
        read(tmp_path, PLAIN | said | {"topwork": [1]})


@pytest.mark.parametrize("way", ["eager", "sdpa", "flash_attention_2", "flex_attention", None, {"": "eager"}])
@pytest.mark.field("2. Models in, checkpoints out", "attention implementations in a config", "taken; ours is used")
def test_ways_to_compute_that_transformers_has_itself_are_no_code(tmp_path: Path, way: Any) -> None:
    own = "torch.nn.modules.linear.Identity"
    values = PLAIN | {"sentence_transformers": {"activation_fn": own}, "activation_fn": "gelu"}
    assert read(tmp_path, values) == values
    values = PLAIN | {"_attn_implementation": way, "attn_implementation": way, "_attn_implementation_internal": way}
    assert read(tmp_path, values) == values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer_norm_eps", math.nan),
        ("initializer_range", math.inf),
        ("hidden_dropout_prob", 2),
        ("hidden_dropout_prob", "0.1"),
        ("max_position_embeddings", 10**12),
        ("max_position_embeddings", None),
        ("max_position_embeddings", 512.5),
        ("vocab_size", -1),
        ("vocab_size", 2**40),
        ("num_hidden_layers", True),
        ("num_attention_heads", "12"),
        ("type_vocab_size", 1e300),
        ("pad_token_id", 100),
        ("eos_token_id", [1, None]),
        ("use_cache", "no"),
        ("hidden_act", 5),
        ("id2label", ["a", "b"]),
        ("rope_scaling", 4.0),
        ("layer_types", "full_attention"),
        ("num_labels", -2),
    ],
)
@pytest.mark.field("3. Under attack", "absurd positions, sizes and types in a config", "refused by field")
def test_a_field_that_is_not_of_its_kind_is_named(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"'{name}'") as error:
        read(tmp_path, PLAIN | {name: value})
    assert error.value.field == "/model" and len(error.value.message) < 300


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": {"y": [1, -Infinity]}}', '{"x": 1e999}'])
@pytest.mark.field("3. Under attack", "NaN in a config", "refused by field")
def test_numbers_that_are_none_are_refused_wherever_they_stand(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match="is no number to go by"):
        read(tmp_path, text)
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(SpecError, match=r"its tokenizer_config\.json says"):
        read_object(tmp_path / "tokenizer_config.json")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"quantization": {"bits": 4}}, "quantised"),
        ({"pruned_heads": {"0": [1]}}, "'pruned_heads'"),
        ({"add_cross_attention": True}, "cross-attention"),
    ],
)
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "`pruned_heads`, quantisation, cross-attention in a config",
    "refused at the POST, with the mend",
)
def test_what_cannot_be_pruned_says_what_to_give_instead(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        read(tmp_path, PLAIN | values)


def test_every_field_that_transformers_reads_of_these_families_has_a_kind() -> None:
    from transformers import CONFIG_MAPPING

    ours = {"transformers_version", "image_size", "patch_size", "num_channels", "qkv_bias", "encoder_stride"}
    ours |= {"pooler_output_size", "pooler_act", "summary_type", "summary_use_proj", "sparse_prediction"}
    ours |= {"sparse_pred_ignore_index"}  # of images, and of heads that are not used here
    for family in FAMILIES:
        kind: Any = CONFIG_MAPPING[family]
        known = dataclasses.fields(kind)
        assert {field.name for field in known} - ours <= {*FIELDS}, family
        for field in known:
            if field.name in FIELDS and field.default is None:
                assert field.name not in NEVER_NULL


def test_every_default_of_transformers_is_of_its_kind(tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING

    for family in FAMILIES:
        values = CONFIG_MAPPING[family]().to_dict()
        assert read(tmp_path, values)["model_type"] == family


def test_what_a_checkpoint_of_ours_says_to_older_libraries_is_no_fault(tmp_path: Path) -> None:
    values = {"model_type": "modernbert", "global_attn_every_n_layers": NEEDS_5, "layer_types": ["full_attention"]}
    assert "global_attn_every_n_layers" not in read(tmp_path, values)
    assert "pruned_heads" not in read(tmp_path, {"model_type": "qwen2", "is_causal": False, "pruned_heads": BOTH_WAYS})
