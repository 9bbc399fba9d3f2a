"""Model families as data: where an architecture keeps its heads and neurons, and the numbers of one model.

Adding a family is adding a row. Paths are module paths as transformers names them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from core.domains.anatomy import Anatomy
from core.domains.channels.families import FAMILIES as IMAGES
from core.domains.channels.families import require_fit
from core.domains.structure import ATTENTION, FFN, Structure, transformer
from core.spec.errors import SpecError
from core.spec.job import Pooling
from core.spec.task import VECTORS, ProblemType


@dataclass(frozen=True)
class Family:
    """Where the prunable parts of one architecture live, relative to each layer of `layers`. Defaults are BERT's."""

    model_type: str
    task_class: str  # transformers class for classification; for_words() turns it into that for words
    base: str  # attribute of the task model that holds the pre-trained body
    head: str = "classifier"  # attribute of the task model that maps features to logits
    # Linears between the body's last layer and the logits, hidden x hidden each, the last one to the logits.
    head_layers: tuple[str, ...] = ("classifier.dense", "classifier.out_proj")
    biasless: tuple[str, ...] = ()  # of those
    head_norms: tuple[str, ...] = ()  # LayerNorms without bias between them
    word_head: tuple[str, ...] = ()  # those of the class for token classification; () where there is none
    embeddings: str = "embeddings"  # inside `base`
    per_token: tuple[str, ...] = ()  # Linears outside the layers that every token passes
    layers: str = "encoder.layer"  # list of layers, inside `base`
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"  # one Linear for all three where their paths are the same
    relative: tuple[str, ...] = ()  # Linears like them for relative positions; a layer may have none
    attention_norms: tuple[str, ...] = ()  # norms that all heads of a layer share
    attention: str = "attention.self"  # module that computes attention, up to the projection or with it
    attention_out: str = "attention.output.dense"  # projection back to the hidden size
    attention_bias: bool = False  # layers add a bias that they share, of each head, to what is attended
    ffn_in: str = "intermediate.dense"
    ffn: str = "intermediate"  # module before the down-projection, or with it
    ffn_out: str = "output.dense"
    gated: bool = False  # `ffn_in` holds all inputs, then all gates
    gate: str = ""  # the Linear of the gates, where it is one of its own
    first_layer_stays: bool = False  # it is built unlike the others, so that a plain config needs it
    says_head_size: bool = False  # config.json may have a head_dim, so that there can be fewer heads
    heads_divide: bool = False  # transformers wants their number to divide the hidden size, whatever the head_dim
    extra_positions: int = 0  # position embeddings that no token uses
    counts_from_padding: bool = False  # positions begin after the padding's id: as many are unused
    reads_one: bool = True  # the answer is read at one position, which sees the text through attention alone
    says_pooling: bool = False  # config.json may say that it is read from the mean of the tokens
    means: bool = False  # `read_mean` puts the mean there
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
            head_layers=self.word_head,
            reads_one=False,
            biasless=tuple(path for path in self.biasless if path != self.word_head[-1]),
        )

    def for_vectors(self) -> Family:
        """The plain body, and behind it what pools its hidden states: `modules.json` says what that is."""
        return replace(
            self,
            task_class=f"{self.task_class.partition('For')[0]}Model",
            head="head",
            head_layers=(),
            biasless=(),
            head_norms=(),
            per_token=tuple(path for path in self.per_token if path.startswith(f"{self.base}.")),
        )

    def reading(self, pooling: Pooling) -> Family:
        """With the answer read from the mean of the tokens, or at the first."""
        mean = pooling == "mean"
        return replace(self, reads_one=not mean, means=mean and not self.says_pooling)

    @property
    def pooling(self) -> Pooling | None:
        """Where the answer of a whole text is read; None: elsewhere."""
        if self.of_vectors or self.of_words or self.reads_last:
            return None
        return "first" if self.reads_one else "mean"

    @property
    def of_vectors(self) -> bool:
        """Whether the plain body is what is loaded."""
        return "For" not in self.task_class

    @property
    def reads_last(self) -> bool:
        """Whether the class of a text is read from its last token, that before the padding."""
        return self.head_layers[-1:] != () and self.head_layers[-1] in self.per_token

    @property
    def auto_class(self) -> str:
        """The class of transformers that finds `task_class` by the config."""
        return "AutoModel" if self.of_vectors else f"AutoModelFor{self.task_class.split('For')[1]}"

    @property
    def of_words(self) -> bool:
        """Whether every token passes the head."""
        return self.task_class.endswith("ForTokenClassification")


CLASSIFIER = ("classifier",)


def _roberta(model_type: str, name: str) -> Family:
    return Family(
        model_type, f"{name}ForSequenceClassification", "roberta", word_head=CLASSIFIER, counts_from_padding=True
    )


def _llama(model_type: str, name: str, norms: tuple[str, ...] = ()) -> Family:
    """Query heads that share a key and a value are one unit."""
    return Family(
        model_type,
        f"{name}ForSequenceClassification",
        "model",
        head="score",
        head_layers=("score",),
        biasless=("score",),
        word_head=("score",),
        embeddings="embed_tokens",
        per_token=("score",),
        layers="layers",
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        attention_norms=norms,
        attention="self_attn",
        attention_out="self_attn.o_proj",
        ffn_in="mlp.up_proj",
        gate="mlp.gate_proj",
        ffn="mlp",
        ffn_out="mlp.down_proj",
        says_head_size=True,
        heads_divide=model_type == "llama",
    )


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
            per_token=("electra.embeddings_project",),
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
            biasless=("head.dense",),
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
            first_layer_stays=True,
            says_pooling=True,
            unknown=("classifier_bias", "norm_bias"),
        ),
        Family(
            "deberta-v2",
            "DebertaV2ForSequenceClassification",
            "deberta",
            head_layers=("pooler.dense", "classifier"),
            word_head=CLASSIFIER,
            per_token=("deberta.embeddings.embed_proj",),
            query="attention.self.query_proj",
            key="attention.self.key_proj",
            value="attention.self.value_proj",
            relative=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
            unknown=("conv_kernel_size", "attention_head_size"),
        ),
        _llama("llama", "Llama"),
        _llama("qwen2", "Qwen2"),
        _llama("qwen3", "Qwen3", ("self_attn.q_norm", "self_attn.k_norm")),
    )
}

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "sentencepiece.bpe.model", "tokenizer.model")


def require_tokenizer(folder: Path) -> None:
    """Raises SpecError('/model') if a model's folder holds no vocabulary.

    transformers would make an empty tokenizer of it without a word, and every text would be unknown tokens.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise SpecError("/model", f"it has no tokenizer; put one of {', '.join(VOCABULARIES)} beside its config.json")


MAX_LAYERS = 1000
IT_LOOKS = "architecture '{}' looks at pictures: give \"type\": \"image-classification\" in 'task'"
MAX_SIZE = 2**20  # hidden dimensions, heads, neurons
MAX_LABELS = 50_000


def require_fitted(known: Iterable[str], labels: Iterable[str], problem: ProblemType) -> None:
    """Raises SpecError('/train/steps/teach') unless a model's head knows the task's labels, and no other.

    A head for one number ranks, whatever its output is called.
    """
    ranks = problem == "text_ranking" and len({*known}) == 1
    if {*known} != {*labels} and not ranks:
        raise SpecError(
            "/train/steps/teach",
            f"0 is for a model that is fine-tuned to the labels {', '.join(sorted(labels))[:200]} already; this one "
            + (f"knows {', '.join(sorted(known))[:200]}" if {*known} else "has no head"),
        )


def head_labels(said: Mapping[Any, Any] | None, outputs: int) -> tuple[str, ...]:
    """The label of each output of a head, by the `id2label` of its config; () where that does not name each once.

    Where it says nothing, they are those that transformers makes up.
    """
    if outputs > MAX_LABELS:  # of a file with holes, there may be billions
        return ()
    if said is None:
        return tuple(f"LABEL_{i}" for i in range(outputs))
    try:
        found = {int(i): str(label) for i, label in said.items()}
    except (AttributeError, TypeError, ValueError):
        return ()
    named_once = {*found} == {*range(outputs)} and len({*found.values()}) == outputs
    return tuple(found[i] for i in range(outputs)) if named_once else ()


@dataclass(frozen=True)
class Relative:
    """What DeBERTa's attention computes of relative positions, for each head."""

    positions: int
    projections: int  # of the positions, to the size of a head
    products: int  # of every token with every position


@dataclass(frozen=True)
class Architecture:
    """The numbers of one model that a structure and its cost depend on."""

    family: Family
    layers: int
    heads: int  # attention heads in each layer: those with a key and a value of their own
    head_size: int
    hidden: int
    neurons: int  # FFN neurons in each layer
    queries: int = 1  # of each head
    relative: Relative | None = None
    earlier: Structure | None = None  # what a job has left already of the model that config.json describes
    features: int = 0  # hidden dimensions of that model: the head's inner ones, where an earlier job took some of them

    @cached_property
    def anatomy(self) -> Anatomy:
        """What can be cut of it."""
        stays = ATTENTION if self.family.reads_one else None
        if self.earlier:
            return replace(self.earlier.anatomy, stays=stays)
        return transformer([self.heads] * self.layers, [self.neurons] * self.layers, stays)

    @property
    def timed_by(self) -> dict[str, Any]:
        """The sizes that its latency depends on, weights aside."""
        sizes = asdict(replace(self, earlier=None)) | {"family": self.family.model_type}
        del sizes["earlier"], sizes["features"]
        return sizes | ({"earlier": self.earlier.sizes()} if self.earlier else {})

    @property
    def fingerprint(self) -> str:
        """Of these sizes."""
        return sha256(json.dumps(self.timed_by, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def widest(self) -> dict[str, int]:
        """Heads and neurons of the layer that has the most."""
        return {
            name: max(block.size for block in self.anatomy.blocks if block.kind == kind)
            for name, kind in (("heads", ATTENTION), ("neurons", FFN))
        }

    @property
    def paths(self) -> dict[str, Any]:
        """The family's module paths as plain data, with the sizes that `shrink` needs to build it from config.json."""
        sizes = {"head_size": self.head_size, "queries": self.queries, "hidden": self.features or self.hidden}
        return asdict(self.family) | sizes

    @property
    def head_width(self) -> int:
        """Columns of the output projection that a head has."""
        return self.queries * self.head_size

    @property
    def head_counts(self) -> Sequence[int]:
        """How many heads the layers may have where config.json has to say it."""
        counts = range(1 if self.family.says_head_size else self.heads, self.heads + 1)
        return [n for n in counts if not self.family.heads_divide or self.hidden % (n * self.queries) == 0]

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], problem: ProblemType = "single_label_classification"
    ) -> Architecture:
        """Read `config.json`; raises SpecError('/model') for an unknown or odd architecture."""
        family = FAMILIES.get(str(config.get("model_type")))
        if family is None:
            if config.get("model_type") in IMAGES:
                raise SpecError("/model", IT_LOOKS.format(config.get("model_type")))
            require_fit(str(config.get("model_type")))
            known = ", ".join(FAMILIES)
            raise SpecError("/model", f"architecture '{config.get('model_type')}' is not supported; supported: {known}")
        if str(config.get("position_embedding_type")).startswith("relative"):
            raise SpecError(
                "/model", "its positions are relative, which transformers reads no more, and so it would be another"
            )
        if unknown := [name for name in family.unknown if config.get(name)]:
            raise SpecError("/model", f"its config.json sets {' and '.join(unknown)}, which is not supported")
        try:
            hidden, heads, layers, neurons = (int(config[name]) for name in family.sizes)
            said = config if family.says_head_size else {}
            groups = int(said.get("num_key_value_heads") or heads)
            size = int(said.get("head_dim") or hidden // max(1, heads))
            relative = _relative(config) if family.relative else None
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise SpecError("/model", f"its config.json lacks a whole number for {error}") from error
        if max(layers, groups, hidden, neurons) > MAX_SIZE or layers > MAX_LAYERS:
            raise SpecError("/model", f"its config.json has more than {MAX_LAYERS} layers, or {MAX_SIZE} of a unit")
        if min(hidden, heads, groups, size, layers, neurons) < 1 or heads % groups:
            raise SpecError("/model", "its config.json has sizes that do not fit together")
        if hidden % heads and not said.get("head_dim"):
            raise SpecError("/model", "its config.json has sizes that do not fit together")
        if family.says_pooling and config.get("classifier_pooling") == "mean":
            family = family.reading("mean")
        if problem == "token_classification":
            family = family.for_words()
        if problem in VECTORS:
            family = family.for_vectors()
        if family.counts_from_padding:
            padding = config.get("pad_token_id", 1)
            family = replace(family, extra_positions=1 + (padding if isinstance(padding, int) else 1))
        if problem == "regression" and family.head_layers[-1] in family.biasless:
            raise SpecError("/model", f"family '{family.model_type}' has no bias in its head, which a number needs")
        found = cls(family, layers, groups, size, hidden, neurons, heads // groups, relative)
        return found if config.get("topwork") is None else found.left(config["topwork"])

    def left(self, shape: Any) -> Architecture:
        """This model as an earlier job left it, by what its config.json says; SpecError('/model') if it cannot be."""
        said: dict[str, Any] = shape if isinstance(shape, dict) else {}
        heads: Any
        neurons: Any
        heads, neurons, hidden = said.get("heads"), said.get("neurons"), said.get("hidden", self.hidden)

        def counts(values: Any, low: int, high: int) -> bool:
            return isinstance(values, list) and all(type(value) is int and low <= value <= high for value in values)

        if not (
            isinstance(heads, list)
            and len(heads) == self.layers
            and all(counts(row, 0, self.heads - 1) and row == sorted(set(row)) for row in heads)
            and counts(neurons, 0, self.neurons)
            and len(neurons) == self.layers
            and counts([hidden], 1, self.hidden)
            and any([*heads, *neurons])
        ):
            raise SpecError("/model", "its config.json has a 'topwork' that is no part of the model that it describes")
        narrow = range(hidden) if "hidden" in said else None
        earlier = Structure.of(heads, map(range, neurons), hidden=narrow)
        family = self.family.reading("mean") if said.get("pooling") == "mean" else self.family
        return replace(self, family=family, hidden=hidden, earlier=earlier, features=self.hidden)


def _relative(config: Mapping[str, Any]) -> Relative | None:
    """As DeBERTa reads its options; `pos_att_type` is a list, or one text."""
    if not config.get("relative_attention"):
        return None
    kinds = config.get("pos_att_type") or []
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    products = len({kind.strip() for kind in kinds} & {"c2p", "p2c"})
    reach = int(config.get("max_relative_positions") or -1)
    span = reach if reach > 0 else int(config["max_position_embeddings"])
    buckets = int(config.get("position_buckets") or -1)
    return Relative(2 * (buckets if buckets > 0 else span), 2 if config.get("share_att_key") else products, products)
