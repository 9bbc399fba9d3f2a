"""Model families as data: where an architecture keeps its heads and neurons, and the numbers of one model.

Adding a family is adding a row. Paths are module paths as transformers names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.spec.problems import SpecError


@dataclass(frozen=True)
class Family:
    """Where the prunable parts of one architecture live, relative to each layer of `layers`."""

    model_type: str
    base: str  # attribute of the task model that holds the pre-trained body
    embeddings: str  # inside `base`
    layers: str  # list of layers, inside `base`
    query: str
    key: str
    value: str
    attention: str  # module that computes attention, up to the projection
    attention_out: str  # projection back to the hidden size
    ffn_in: str
    ffn: str  # module before the down-projection
    ffn_out: str
    head: str  # attribute of the task model that maps features to logits
    task_class: str  # transformers class for text classification


FAMILIES: Mapping[str, Family] = {
    "bert": Family(
        model_type="bert",
        base="bert",
        embeddings="embeddings",
        layers="encoder.layer",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention="attention.self",
        attention_out="attention.output.dense",
        ffn_in="intermediate.dense",
        ffn="intermediate",
        ffn_out="output.dense",
        head="classifier",
        task_class="BertForSequenceClassification",
    ),
}

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def require_tokenizer(folder: Path) -> None:
    """Raises SpecError('/model') if a model's folder holds no vocabulary.

    transformers would make an empty tokenizer of it without a word, and every text would be unknown tokens.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise SpecError("/model", f"it has no tokenizer; put one of {', '.join(VOCABULARIES)} beside its config.json")


@dataclass(frozen=True)
class Architecture:
    """The numbers of one model that a structure and its cost depend on."""

    family: Family
    layers: int
    heads: int  # attention heads in each layer
    head_size: int
    hidden: int
    neurons: int  # FFN neurons in each layer

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """Read `config.json`; raises SpecError('/model') for an unknown or odd architecture."""
        family = FAMILIES.get(str(config.get("model_type")))
        if family is None:
            raise SpecError(
                "/model",
                f"architecture '{config.get('model_type')}' is not supported; supported: {', '.join(FAMILIES)}",
            )
        try:
            hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
            layers, neurons = int(config["num_hidden_layers"]), int(config["intermediate_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError("/model", f"its config.json lacks a whole number for {error}") from error
        if min(hidden, heads, layers, neurons) < 1 or hidden % heads:
            raise SpecError("/model", "its config.json has sizes that do not fit together")
        return cls(family, layers, heads, hidden // heads, hidden, neurons)
