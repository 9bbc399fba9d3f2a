"""Architectures by the numbers of their config.json."""

from __future__ import annotations

from typing import Any

import pytest

from core.domains.structure import ATTENTION
from core.domains.transformer.families import Architecture, head_labels
from core.spec.errors import SpecError
from tests.tiny import CONFIG


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


def test_labels_of_a_head_are_those_that_its_config_names_once() -> None:
    assert head_labels({"1": "pos", "0": "neg"}, 2) == ("neg", "pos")
    assert head_labels(None, 2) == ("LABEL_0", "LABEL_1")
    for odd in ({"0": "a", "1": "a"}, {"1": "a", "2": "b"}, {"0": "a"}, {"zero": "a", "1": "b"}, ["a", "b"]):
        assert head_labels(odd, 2) == ()  # type: ignore[arg-type]
    assert head_labels(None, 2**40) == ()  # of a file with holes


def test_positions_that_count_from_the_padding_begin_after_it() -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 64}
    for padding, unused in ((1, 2), (5, 6), (None, 2)):
        config = {"model_type": "roberta", "pad_token_id": padding, **sizes}
        assert Architecture.from_config(config).family.extra_positions == unused
    assert Architecture.from_config({"model_type": "mpnet", "pad_token_id": 5, **sizes}).family.extra_positions == 2


def test_the_families_that_read_one_position_are_told_by_config_and_task() -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 8}
    modern = {"model_type": "modernbert", **sizes}
    for config in (CONFIG, modern, modern | {"classifier_pooling": "cls"}, {"model_type": "llama", **sizes}):
        assert Architecture.from_config(config).anatomy.stays == ATTENTION
    mean = Architecture.from_config(modern | {"classifier_pooling": "mean"})
    assert mean.anatomy.stays is Architecture.from_config(CONFIG, "token_classification").anatomy.stays is None


def test_relative_positions_are_refused() -> None:
    with pytest.raises(SpecError, match="positions are relative"):
        Architecture.from_config({"model_type": "bert", "position_embedding_type": "relative_key"})


def test_heads_of_llama_divide_its_hidden_size() -> None:
    """As transformers asks of its config.json, which has a head_dim nevertheless; not of Qwen's."""
    config = {"num_hidden_layers": 2, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8}
    config |= {"intermediate_size": 64, "vocab_size": 100, "head_dim": 64}
    counts = {
        name: [*Architecture.from_config(config | {"model_type": name}).head_counts] for name in ("llama", "qwen3")
    }
    assert counts == {"llama": [1, 2, 4, 8], "qwen3": [1, 2, 3, 4, 5, 6, 7, 8]}
