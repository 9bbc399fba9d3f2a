"""Texts as a job's inputs: the model that reads them, its tokenizer, and what is left of its vocabulary."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.domains.network import Network
from core.domains.transformer.load import load_network
from core.domains.transformer.model import read_model
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import configs
from core.pruning.reading.inputs import AsGiven, Encoded, Hear, Inputs, Trimmed, encoded, require_each
from core.pruning.reading.rotation import turn
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.batches import Rows
from core.rows.example import labels_of
from core.rows.splitting.splits import Splits
from core.rows.text.processor import Text
from core.rows.text.vocabulary import trim
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.tasks import task_of
from core.tasks.task import IGNORED

STRANGE = 0.1  # of the tokens
MISSING = 0.02  # of the tokens: where 1.6 % were missing a search lost half a point, at 2.7 % two and a half


def read_texts(spec: JobSpec, model: Path, splits: Splits, hear: Hear) -> tuple[Inputs, Network]:
    """Load the model, and tokenise; SpecError where rows and model do not suit each other.

    The model as it was given is heard, by `hear`, before anything of it changes.
    """
    kind, fitted = spec.task.problem, spec.train.steps.teach == 0
    local = read_model(model, kind)
    require_each(spec, local.require)
    local, head = local.answering(spec, splits.labels)
    splits = replace(splits, labels=[*head.labels])  # in the order that the model's own head has them
    task = task_of(kind, splits.labels, labels_of(splits.train), len(spec.task.text), spec.task.dimensions)
    network = load_network(
        model,
        splits.labels,
        spec.train.seed,
        kind,
        fitted=fitted,
        mapped=spec.maps_vectors,
        pooling=local.architecture.family.pooling,
    )
    length = network.longest(spec.train.max_length)
    tokenizer = tokenizer_of(model, network, task.of_words, length)
    modality = Text(tokenizer, length, task.of_words, task.apart_texts)
    rows = encoded(spec, splits, task, modality)
    if spec.task.dimensions and not spec.probe:  # which changes no latency
        turn(network, rows, hear)
    rows = self_taught(network, hear, rows)
    splits.warnings += strange_to(tokenizer, rows[0])
    if not (task.of_words or task.apart_texts) and any(row.text[1:] for row in splits.train):
        splits.warnings += nothing_between(tokenizer, spec.task.text[0])
    heard, vocabulary = head.own and not task.self_taught, None
    given = AsGiven(hear(network, rows[2], "given"), rows[2].labels if task.of_words else None) if heard else None
    network.cpu()
    if spec.vocabulary == "trim":
        modality, vocabulary = trim_vocabulary(rows, modality, network)
        splits.warnings += missing_from(vocabulary)
        rows = same_labels(encoded(spec, splits, task, modality), rows)
    pairs = local.by_pairs(spec, head)
    inputs = Inputs(splits, head, task, modality, *rows, given, vocabulary, pairs)
    unread = sum(len(row.text) for row in splits.test) - int((inputs.test.labels != IGNORED).sum())
    if task.of_words and unread:
        splits.dropped["words of the test rows that the model does not read"] = unread
    return inputs, network


def strange_to(tokenizer: Any, rows: Rows) -> list[str]:
    """A sentence where much of the texts is unknown to a tokenizer; SpecError('/model') where all of it is."""
    tokens = tokens_of(rows)
    unknown = tokens[tokenizer.unk_token_id] if tokenizer.unk_token_id is not None else 0
    known = tokens.total() - sum(tokens[token] for token in {*tokenizer.all_special_ids})
    if not known:
        raise SpecError(
            "/model",
            "its tokenizer knows no token of the training texts; put the vocabulary of these weights beside them",
        )
    if (share := unknown / (known + unknown)) < STRANGE:
        return []
    return [
        f"{share:.0%} of the tokens of the training texts are unknown to the model's tokenizer: is it made for their "
        "language?"
    ]


def nothing_between(tokenizer: Any, first: str) -> list[str]:
    """A sentence where a tokenizer puts the second text of a pair right behind the `first`, as a column is called."""
    if tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False):
        return []
    return [
        "the model's tokenizer puts nothing between two texts, so that they read as one: end those of "
        f"'{first}' with a separator, as a line end or a word of its own"
    ]


def same_labels(rows: Encoded, before: Encoded) -> Encoded:
    """Rows that were encoded anew: what the model as given had said of them stays."""

    def told(part: Rows, earlier: Rows) -> Rows:
        return replace(part, labels=earlier.labels) if part.task.self_taught else part

    train, dev, test = (told(*parts) for parts in zip(rows[:3], before[:3], strict=True))
    sources = [replace(s, rows=told(s.rows, e.rows)) for s, e in zip(rows[3], before[3], strict=True)]
    return train, dev, test, sources


def tokenizer_of(model: Path, network: TransformerNetwork, of_words: bool, length: int) -> Any:
    """The model's tokenizer, as far as the model can read; SpecError('/model') if it is another's."""
    tokenizer, known = load_tokenizer(model, of_words), network.body.config.vocab_size
    tokenizer.model_max_length = length
    if getattr(network.body.config, "type_vocab_size", None) == 1:  # a pair's second text has no type of its own
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names  # the latter is saved
    for config in configs(network.body):
        # A causal model reads the last token before the padding. Others may count positions from their own.
        if config.pad_token_id is None or network.architecture.family.reads_last:
            config.pad_token_id = tokenizer.pad_token_id
    if len(tokenizer) > known:
        raise SpecError(
            "/model",
            f"its tokenizer knows {len(tokenizer)} tokens, but it has {known} embeddings; put the tokenizer that "
            "belongs to these weights beside them",
        )
    return tokenizer


def trim_vocabulary(rows: Encoded, modality: Text, network: TransformerNetwork) -> tuple[Text, Trimmed]:
    """Cut tokenizer and embeddings to what the train, dev and source rows use; ids of the rows are stale then."""
    train, dev, test, sources = rows
    used = {*tokens_of(train, dev, *(source.rows for source in sources))}
    if network.architecture.family.extra_positions:  # counts positions from the padding's id on: that stays
        used |= set(range(modality.pad_id + 1))
    before = network.body.get_input_embeddings().weight.numel()
    smaller, kept = trim(modality.tokenizer, used)
    network.keep_tokens(kept)
    spared = before - network.body.get_input_embeddings().weight.numel()
    asked, there = tokens_of(test), {*kept}
    missing = sum(count for token, count in asked.items() if token not in there) / max(1, asked.total())
    return replace(modality, tokenizer=smaller), Trimmed(len(modality.tokenizer), len(kept), spared, missing)


def tokens_of(*parts: Rows) -> Counter[int]:
    """How often each token is in these rows, but for the padding of those of several texts."""
    columns = [zip(part.inputs["input_ids"], part.inputs["attention_mask"], strict=True) for part in parts]
    return Counter(token for rows in columns for ids, mask in rows for token in ids[mask == 1].tolist())


def missing_from(vocabulary: Trimmed) -> list[str]:
    """A sentence where the texts that a vocabulary was trimmed to do not hold enough of the words of others."""
    if vocabulary.missing < MISSING:
        return []
    return [
        f"{vocabulary.missing:.1%} of the tokens of the test texts are in no other text: the trimmed vocabulary lacks "
        "them, their words fall to pieces, and answers suffer. Give more texts of this kind, or leave "
        "'vocabulary' out"
    ]


def self_taught(network: Network, hear: Hear, rows: Encoded) -> Encoded:
    """With the answers of the model as given as labels, where a task has no others."""
    train, dev, test, sources = rows

    def told(part: Rows, name: str) -> Rows:
        return replace(part, labels=hear(network, part, f"given-{name}")) if part.task.self_taught else part

    taught = [replace(source, rows=told(source.rows, str(i))) for i, source in enumerate(sources)]
    return told(train, "train"), told(dev, "dev"), told(test, "test"), taught
