"""Model families as data: where an architecture keeps its heads and neurons, and the numbers of one model.

Adding a family is adding a row. Paths are module paths as transformers names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.spec.job import ProblemType
from core.spec.problems import SpecError


@dataclass(frozen=True)
class Family:
    """Where the prunable parts of one architecture live, relative to each layer of `layers`. Defaults are BERT's."""

    model_type: str
    task_class: str  # transformers class for text classification; for_words() turns it into that for words
    base: str  # attribute of the task model that holds the pre-trained body
    head: str = "classifier"  # attribute of the task model that maps features to logits
    # Linears between the body's last layer and the logits, hidden x hidden each, the last one to the logits.
    head_layers: tuple[str, ...] = ("classifier.dense", "classifier.out_proj")
    head_bias: bool = True  # of those but the last
    head_norms: tuple[str, ...] = ()  # LayerNorms without bias between them
    word_head: tuple[str, ...] = ()  # those of the class for token classification; () where there is none
    auto_class: str = "AutoModelForSequenceClassification"
    embeddings: str = "embeddings"  # inside `base`
    per_token: tuple[str, ...] = ()  # Linears inside `base` and outside the layers that every token passes
    layers: str = "encoder.layer"  # list of layers, inside `base`
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"  # one Linear for all three where their paths are the same
    attention: str = "attention.self"  # module that computes attention, up to the projection or with it
    attention_out: str = "attention.output.dense"  # projection back to the hidden size
    attention_bias: bool = False  # layers add a bias that they share, of each head, to what is attended
    ffn_in: str = "intermediate.dense"
    ffn: str = "intermediate"  # module before the down-projection, or with it
    ffn_out: str = "output.dense"
    gated: bool = False  # `ffn_in` holds all inputs, then all gates
    extra_positions: int = 0  # position embeddings that no token uses: positions count from the padding's id on
    unknown: tuple[str, ...] = ()  # options in config.json that are not provided for
    # Names in config.json of: hidden size, attention heads, layers, FFN neurons.
    sizes: tuple[str, str, str, str] = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")

    def for_words(self) -> Family:
        """With a head on every token; SpecError('/model') where transformers has none, or it is unknown here."""
        if not self.word_head:
            known = ", ".join(name for name, family in FAMILIES.items() if family.word_head)
            raise SpecError("/model", f"family '{self.model_type}' has no token classification here; these do: {known}")
        return replace(
            self,
            task_class=self.task_class.replace("ForSequence", "ForToken"),
            auto_class="AutoModelForTokenClassification",
            head_layers=self.word_head,
        )

    @property
    def of_words(self) -> bool:
        """Whether every token passes the head."""
        return self.auto_class == "AutoModelForTokenClassification"


CLASSIFIER = ("classifier",)


def _roberta(model_type: str, name: str) -> Family:
    return Family(model_type, f"{name}ForSequenceClassification", "roberta", word_head=CLASSIFIER, extra_positions=2)


FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "bert",
            "BertForSequenceClassification",
            "bert",
            head_layers=("bert.pooler.dense", "classifier"),
            word_head=CLASSIFIER,
        ),
        _roberta("roberta", "Roberta"),
        _roberta("xlm-roberta", "XLMRoberta"),
        _roberta("camembert", "Camembert"),
        Family(
            "electra",
            "ElectraForSequenceClassification",
            "electra",
            word_head=CLASSIFIER,
            per_token=("embeddings_project",),
        ),
        Family(
            "distilbert",
            "DistilBertForSequenceClassification",
            "distilbert",
            head_layers=("pre_classifier", "classifier"),
            word_head=CLASSIFIER,
            layers="transformer.layer",
            query="attention.q_lin",
            key="attention.k_lin",
            value="attention.v_lin",
            attention="attention",
            attention_out="attention.out_lin",
            ffn_in="ffn.lin1",
            ffn="ffn",
            ffn_out="ffn.lin2",
            sizes=("dim", "n_heads", "n_layers", "hidden_dim"),
        ),
        Family(
            "mpnet",
            "MPNetForSequenceClassification",
            "mpnet",
            word_head=CLASSIFIER,
            query="attention.attn.q",
            key="attention.attn.k",
            value="attention.attn.v",
            attention="attention.attn",
            attention_out="attention.attn.o",
            attention_bias=True,
            extra_positions=2,
        ),
        Family(
            "modernbert",
            "ModernBertForSequenceClassification",
            "model",
            head_layers=("head.dense", "classifier"),
            head_bias=False,
            head_norms=("head.norm",),
            word_head=("head.dense", "classifier"),
            layers="layers",
            query="attn.Wqkv",
            key="attn.Wqkv",
            value="attn.Wqkv",
            attention="attn",
            attention_out="attn.Wo",
            ffn_in="mlp.Wi",
            ffn="mlp",
            ffn_out="mlp.Wo",
            gated=True,
            unknown=("classifier_bias", "norm_bias"),
        ),
    )
}

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def require_tokenizer(folder: Path) -> None:
    """Raises SpecError('/model') if a model's folder holds no vocabulary.

    transformers would make an empty tokenizer of it without a word, and every text would be unknown tokens.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise SpecError("/model", f"it has no tokenizer; put one of {', '.join(VOCABULARIES)} beside its config.json")


def require_fitted(known: Iterable[str], labels: Iterable[str]) -> None:
    """Raises SpecError('/train/steps/teach') unless a model's head knows the task's labels, and no other."""
    if {*known} != {*labels}:
        raise SpecError(
            "/train/steps/teach",
            f"0 is for a model that is fine-tuned to the labels {', '.join(sorted(labels))[:200]} already; this one "
            + (f"knows {', '.join(sorted(known))[:200]}" if {*known} else "has no head"),
        )


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
    def from_config(
        cls, config: Mapping[str, Any], problem: ProblemType = "single_label_classification"
    ) -> Architecture:
        """Read `config.json`; raises SpecError('/model') for an unknown or odd architecture."""
        family = FAMILIES.get(str(config.get("model_type")))
        if family is None:
            raise SpecError(
                "/model",
                f"architecture '{config.get('model_type')}' is not supported; supported: {', '.join(FAMILIES)}",
            )
        if unknown := [name for name in family.unknown if config.get(name)]:
            raise SpecError("/model", f"its config.json sets {' and '.join(unknown)}, which is not supported")
        try:
            hidden, heads, layers, neurons = (int(config[name]) for name in family.sizes)
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError("/model", f"its config.json lacks a whole number for {error}") from error
        if min(hidden, heads, layers, neurons) < 1 or hidden % heads:
            raise SpecError("/model", "its config.json has sizes that do not fit together")
        family = family.for_words() if problem == "token_classification" else family
        return cls(family, layers, heads, hidden // heads, hidden, neurons)
