"""What a model's folder says in JSON of itself: read within bounds, no code named, every field of its kind.

transformers would find most of this out, but in the worker, or by an allocation of a terabyte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.spec.errors import SpecError

MAX_CONFIG_BYTES = 2**20
MAX_ADDED_BYTES = 16 * 2**20  # of a tokenizer's files, where transformers 4 writes 180 bytes a token that was added
OF_TOKENS = ("tokenizer_config.json", "added_tokens.json")
CODE = ("auto_map", "custom_pipelines", "custom_generate", "use_kernels")
# What sentence-transformers makes a score by: it imports whatever is named, where it is told to trust code.
IMPORTED = ("activation_fn", "sbert_ce_default_activation_function")
# Ways to compute that transformers has itself; others it would load from a hub. Which of them is used is chosen here.
OWN_WAYS = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4", None)


class Kind(NamedTuple):
    """What a field may hold."""

    types: tuple[type, ...]
    says: str
    low: float = -math.inf
    high: float = math.inf


def _whole(low: int, high: int) -> Kind:
    return Kind((int,), f"a whole number from {low:,} to {high:,}", low, high)


SIZE, COUNT = _whole(1, 2**24), _whole(0, 2**24)
REACH = _whole(-1, 2**24)  # -1: none, or whatever another field says
SHARE = Kind((int, float), "a number from 0 to 1", 0, 1)
NUMBER = Kind((int, float), "a number above 0", math.ulp(0), 1e12)
FLAG, TEXT = Kind((bool,), "true or false"), Kind((str,), "a text")
MAP, LIST = Kind((dict,), "an object"), Kind((list,), "a list")

FIELDS = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers"), SIZE),
    # Of image models with stages, a list; what reads one number of it says so.
    "num_attention_heads": Kind((int, list), SIZE.says, SIZE.low, SIZE.high),
    **dict.fromkeys(("intermediate_size", "dim", "n_heads", "n_layers", "hidden_dim", "embedding_size"), SIZE),
    **dict.fromkeys(("num_key_value_heads", "head_dim", "num_labels", "local_attention", "pretraining_tp"), SIZE),
    **dict.fromkeys(("relative_attention_num_buckets", "global_attn_every_n_layers"), SIZE),
    **dict.fromkeys(("type_vocab_size", "chunk_size_feed_forward", "max_window_layers", "sliding_window"), COUNT),
    **dict.fromkeys(("bos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "pad_token_id"), REACH),
    "eos_token_id": Kind((int, list), "the id of a token, or a list of them", -1, 2**24),
    **dict.fromkeys(("max_relative_positions", "position_buckets"), REACH),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "dropout"), SHARE),
    **dict.fromkeys(("attention_dropout", "mlp_dropout", "embedding_dropout", "pooler_dropout"), SHARE),
    **dict.fromkeys(("seq_classif_dropout", "qa_dropout", "cls_dropout", "summary_last_dropout"), SHARE),
    **dict.fromkeys(("layer_norm_eps", "rms_norm_eps", "norm_eps", "initializer_range"), SHARE),
    **dict.fromkeys(("initializer_cutoff_factor", "rope_theta", "global_rope_theta", "local_rope_theta"), NUMBER),
    **dict.fromkeys(("hidden_act", "hidden_activation", "activation", "pooler_hidden_act"), TEXT),
    **dict.fromkeys(("classifier_activation", "classifier_pooling", "position_embedding_type", "model_type"), TEXT),
    **dict.fromkeys(("dtype", "torch_dtype", "problem_type", "embedding_layer", "summary_activation"), TEXT),
    "pos_att_type": Kind((str, list), "a text, or a list of texts"),
    **dict.fromkeys(("use_cache", "tie_word_embeddings", "is_decoder", "is_encoder_decoder"), FLAG),
    **dict.fromkeys(("add_cross_attention", "attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), FLAG),
    **dict.fromkeys(("decoder_bias", "relative_attention", "position_biased_input", "share_att_key"), FLAG),
    **dict.fromkeys(("use_sliding_window", "sinusoidal_pos_embds", "legacy", "return_dict"), FLAG),
    **dict.fromkeys(("output_attentions", "output_hidden_states", "deterministic_flash_attn"), FLAG),
    **dict.fromkeys(("id2label", "label2id", "rope_parameters", "rope_scaling", "pruned_heads", "topwork"), MAP),
    **dict.fromkeys(("layer_types", "architectures"), LIST),
}
# What a checkpoint of ours has as `global_attn_every_n_layers`, where that has no words for its layers.
NEEDS_5 = "layer_types and rope_parameters, which need transformers 5.3 or newer"
# And as `pruned_heads`, where attention looks both ways: 4.57, which would look back alone, fails to read the number.
BOTH_WAYS: dict[str, list[int]] = {"is_causal, which needs transformers 5.3 or newer": []}
NEVER_NULL: tuple[str, ...] = (
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
)
NEVER_NULL += ("intermediate_size", "dim", "n_heads", "n_layers", "hidden_dim")


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object of a model's folder; SpecError('/model') if it is none, or names code to run or kernels to load."""
    try:
        limit = MAX_ADDED_BYTES if file.name in OF_TOKENS else MAX_CONFIG_BYTES
        if file.stat().st_size > limit:
            raise SpecError("/model", f"its {file.name} has more than {limit:,} bytes, and is none")
        values = json.loads(file.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        raise SpecError("/model", f"it has no {file.name}; write it with `model.save_pretrained(folder)`") from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError("/model", f"its {file.name} cannot be read as JSON") from error
    if file.name == "config.json" and "topwork" in values:  # the code that the file names is not needed here
        values.pop("auto_map", None)
    for name, value in named(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise SpecError("/model", f"its {file.name} says {value} for '{name[:100]}', which is no number to go by")
        chosen = name.endswith(("_implementation", "_implementation_internal"))
        ways = value.values() if isinstance(value, dict) else [value]
        foreign = name in IMPORTED and "." in str(value) and not str(value).startswith("torch.")
        if name in CODE or foreign or (chosen and any(way not in OWN_WAYS for way in ways)):
            raise SpecError(
                "/model",
                f"its {file.name} sets '{name[:100]}': no code of a model is run here; take that out, if the model is "
                "one of transformers' own without it",
            )
    return values


def read_config(file: Path) -> dict[str, Any]:
    """A model's config.json, each field of its kind; raises SpecError('/model') as `read_object` does.

    That of a pruned checkpoint describes the model that it was made of, and under 'topwork' says what is left of it.
    """
    values = read_object(file)
    if "topwork" in values and isinstance(values.get("model_type"), str):
        values["model_type"] = values["model_type"].removeprefix("topwork-")
    if values.get("global_attn_every_n_layers") == NEEDS_5:
        del values["global_attn_every_n_layers"]
    if values.get("pruned_heads") == BOTH_WAYS:
        del values["pruned_heads"]
    if values.get("quantization_config") or values.get("quantization"):
        raise SpecError(
            "/model", "its weights are quantised, which cannot be trained; give the model of floats that it was made of"
        )
    if values.get("pruned_heads"):
        raise SpecError(
            "/model",
            "its config.json has 'pruned_heads', which transformers reads no more; give the whole model that it was "
            "made of: heads are what is pruned here",
        )
    if values.get("add_cross_attention") or values.get("is_encoder_decoder"):
        raise SpecError("/model", "it reads the output of another model (cross-attention), which is not supported")
    for name, kind in FIELDS.items():
        value = values.get(name)
        if value is None and (name not in NEVER_NULL or name not in values):
            continue
        if not _is(value, kind):
            said = json.dumps(value)
            said = said if len(said) < 60 else f"{said[:60]}..."
            raise SpecError("/model", f"its config.json says {said} for '{name}'; it has to be {kind.says}")
    padding, words = values.get("pad_token_id"), values.get("vocab_size")
    if padding is not None and words is not None and padding >= words:
        raise SpecError(
            "/model", f"its config.json says {padding} for 'pad_token_id', but has a 'vocab_size' of {words}"
        )
    return values


def _is(value: Any, kind: Kind) -> bool:
    if isinstance(value, bool):
        return bool in kind.types
    if isinstance(value, list) and int in kind.types and list in kind.types:
        return len(value) < 100 and all(_is(one, kind) and not isinstance(one, list) for one in value)
    return isinstance(value, kind.types) and (not isinstance(value, int | float) or kind.low <= value <= kind.high)


def named(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value with the name that it is under, however deep; items of a list are under the list's."""
    todo: list[tuple[str, Any]] = list(values.items())
    while todo:
        name, value = todo.pop()
        yield name, value
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, list):
            todo += ((name, item) for item in value)
