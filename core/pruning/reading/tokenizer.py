"""The tokenizer of a model that was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from core.domains.transformer.families import require_tokenizer
from core.domains.transformer.load import readable
from core.spec.errors import SpecError

PADDING = ("[PAD]", "<pad>", "<unk>", "[UNK]")  # tokens to pad with where a tokenizer does not say


def load_tokenizer(model_dir: Path, of_words: bool = False) -> Any:
    """The model's own tokenizer; raises SpecError('/model') if it has none. `of_words`: for texts split into words.

    It pads on the right, where a causal model does not look; one that names no padding token pads with its end of text.
    """
    require_tokenizer(model_dir)
    spaced = {"add_prefix_space": True} if of_words else {}
    with readable(model_dir, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False, **spaced)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        known = tokenizer.get_vocab()
        tokenizer.pad_token = tokenizer.eos_token or next((name for name in PADDING if name in known), None)
        if tokenizer.pad_token is None:
            raise SpecError(
                "/model", "its tokenizer has no padding token; name one as pad_token in tokenizer_config.json"
            )
    if of_words and tokenizer.is_fast:  # byte-level BPE knows a word by the space before it; not every class heeds that
        steps: Any = tokenizer.backend_tokenizer.pre_tokenizer
        for step in list(steps) if hasattr(steps, "__getitem__") else [steps]:
            if isinstance(step, pre_tokenizers.ByteLevel):
                step.add_prefix_space = True
    return tokenizer
